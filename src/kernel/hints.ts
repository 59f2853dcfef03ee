/**
 * Hints about a rule that is valid but will hardly do what its author wants, given where the box stands in its networks.
 * Pure: what is local and on which prefixes the box lies comes in. Printed on standard error, never a refusal.
 */
import { type Address, addressAt, applyMask, formatAddress, sameAddress } from "../model/address.ts";
import type { PortRange, Protocol } from "../model/config.ts";

export interface BoxAddresses {
  /** Addresses of the owned devices with their prefix lengths. */
  readonly own: readonly { readonly address: Address; readonly prefixLength: number }[];
  isLocal(address: Address): boolean;
  /** Does the box answer neighbour requests for it (proxy ARP or NDP entry)? */
  isProxied(address: Address): boolean;
  /** Can the device serve a VIP or proxy address that is an address of the box? */
  readonly servesLocal: boolean;
}

export interface HintedRule {
  readonly vip: Address;
  readonly protocol: Protocol;
  readonly ports: PortRange;
  readonly proxySource: { readonly first: Address; readonly last: Address } | null;
}

/** @returns texts without a trailing newline, empty when there is nothing to say */
export function hintsFor(rule: HintedRule, box: BoxAddresses): string[] {
  return [unansweredVip(rule, box), unansweredProxy(rule, box), swallowedUdp(rule, box)].filter(
    (hint) => hint !== null,
  );
}

/** Clients on the VIP's own network ask for its link-layer address, and ilbd adds no addresses. */
function unansweredVip({ vip }: HintedRule, box: BoxAddresses): string | null {
  const network = unansweredOn(vip, box);
  return network && `nobody answers for ${formatAddress(vip)} on its own network ${network}: ${remedy(vip, box)}`;
}

/** The same of servers and proxy addresses, to which they answer. One hint for all of a range. */
function unansweredProxy({ proxySource }: HintedRule, box: BoxAddresses): string | null {
  if (proxySource === null) return null;
  const { first, last } = proxySource;
  const count = Number(last.value - first.value) + 1;
  const found = Array.from({ length: count }, (_, offset) => addressAt(first, offset)).flatMap((address) => {
    const network = unansweredOn(address, box);
    return network === null ? [] : [{ address, network }];
  });
  if (found[0] === undefined) return null;
  const { address, network } = found[0];
  const others = found.length > 1 ? ` and ${found.length - 1} more` : "";
  return `nobody answers for proxy-src ${formatAddress(address)}${others} on its own network ${network}, so answers of servers there are lost: ${remedy(address, box)}`;
}

/** The network of the box that holds the address, when nobody there answers for it, as `ADDRESS/LENGTH`. */
function unansweredOn(address: Address, box: BoxAddresses): string | null {
  if (box.isLocal(address) || box.isProxied(address)) return null;
  const onLink = box.own.find(
    ({ address: own, prefixLength }) =>
      own.family === address.family && sameAddress(applyMask(own, prefixLength), applyMask(address, prefixLength)),
  );
  return onLink ? `${formatAddress(applyMask(onLink.address, onLink.prefixLength))}/${onLink.prefixLength}` : null;
}

function remedy({ family }: Address, { servesLocal }: BoxAddresses): string {
  const own = servesLocal ? "give the address to this box (ip address add) or " : "";
  // Linux answers ARP for others only when its route to them leads out of another interface.
  const route = family === 4 ? ", and a route to it by another interface" : "";
  return `${own}let this box answer for it (ip neighbour add proxy${route})`;
}

/** Answers to the box's own UDP queries (name servers, time) would be balanced. */
function swallowedUdp({ vip, protocol, ports }: HintedRule, box: BoxAddresses): string | null {
  const isWildcard = ports.min <= 1 && ports.max >= 65535;
  if (protocol !== "udp" || !isWildcard || !box.isLocal(vip)) return null;
  const family = box.own.filter(({ address }) => address.family === vip.family && !sameAddress(address, vip));
  if (family.length > 0) return null;
  return `${formatAddress(vip)} is the only address of this box: a UDP rule for all ports also takes the answers to its own queries (DNS, NTP)`;
}
