/**
 * Hints about a rule that is valid but will hardly do what its author wants, given where the box stands in its networks.
 * Pure: what is local and on which prefixes the box lies comes in. Printed on standard error, never a refusal.
 */
import { type Address, applyMask, formatAddress, sameAddress } from "../model/address.ts";
import type { PortRange, Protocol } from "../model/config.ts";

export interface BoxAddresses {
  /** Addresses of the owned devices with their prefix lengths. */
  readonly own: readonly { readonly address: Address; readonly prefixLength: number }[];
  isLocal(address: Address): boolean;
  /** Does the box answer neighbour requests for it (proxy ARP or NDP entry)? */
  isProxied(address: Address): boolean;
  /** Can the device serve a VIP that is an address of the box? */
  readonly servesLocal: boolean;
}

export interface HintedRule {
  readonly vip: Address;
  readonly protocol: Protocol;
  readonly ports: PortRange;
}

/** @returns texts without a trailing newline, empty when there is nothing to say */
export function hintsFor(rule: HintedRule, box: BoxAddresses): string[] {
  return [unansweredVip(rule, box), swallowedUdp(rule, box)].filter((hint) => hint !== null);
}

/** Clients on the VIP's own network ask for its link-layer address, and ilbd adds no addresses. */
function unansweredVip({ vip }: HintedRule, box: BoxAddresses): string | null {
  if (box.isLocal(vip) || box.isProxied(vip)) return null;
  const onLink = box.own.find(
    ({ address, prefixLength }) =>
      address.family === vip.family && sameAddress(applyMask(address, prefixLength), applyMask(vip, prefixLength)),
  );
  if (!onLink) return null;
  const prefix = `${formatAddress(applyMask(onLink.address, onLink.prefixLength))}/${onLink.prefixLength}`;
  const own = box.servesLocal ? "give the address to this box (ip address add) or " : "";
  // Linux answers ARP for others only when its route to them leads out of another interface.
  const proxy =
    vip.family === 4 ? "ip neighbour add proxy, and a route to it by another interface" : "ip neighbour add proxy";
  return `nobody answers for ${formatAddress(vip)} on its own network ${prefix}: ${own}let this box answer for it (${proxy})`;
}

/** Answers to the box's own UDP queries (name servers, time) would be balanced. */
function swallowedUdp({ vip, protocol, ports }: HintedRule, box: BoxAddresses): string | null {
  const isWildcard = ports.min <= 1 && ports.max >= 65535;
  if (protocol !== "udp" || !isWildcard || !box.isLocal(vip)) return null;
  const family = box.own.filter(({ address }) => address.family === vip.family && !sameAddress(address, vip));
  if (family.length > 0) return null;
  return `${formatAddress(vip)} is the only address of this box: a UDP rule for all ports also takes the answers to its own queries (DNS, NTP)`;
}
