/**
 * The interest set of the rules: which packets the kernel must leave to the engine (design record 0005). A pure function
 * of the rules and of the servers that they have or still drain; guard, tun routing and engine all take it from here.
 *
 * Disabled rules and disabled servers count like enabled ones: what is theirs goes through the engine, which gives back
 * what it does not want.
 */
import type { Interest, InterestEntry } from "../engine/engine.ts";
import { type Address, addressAt, compareAddresses, formatAddress, rangeSize } from "../model/address.ts";
import type { PortRange, Protocol, RuleType } from "../model/config.ts";
import { mergeRanges } from "../model/port-ranges.ts";

/** Proxy source ports of full NAT (specification E.7). The built-in probes bind 2048..4095, outside of them. */
export const PROXY_PORTS: PortRange = Object.freeze({ min: 4096, max: 65534 });

/** What the interest set depends on in a rule. */
export interface InterestRule {
  readonly vip: Address;
  readonly protocol: Protocol;
  readonly ports: PortRange;
  readonly type: RuleType;
  readonly proxySource: { readonly first: Address; readonly last: Address } | null;
  /** All servers of the rule, also disabled ones, and those removed ones that still have flows. */
  readonly servers: readonly { readonly address: Address; readonly ports: PortRange | null }[];
}

/**
 * @param rules of the configuration, and deleted ones that still have flows
 * @returns entries in order of match, address, protocol and port; ports of one (match, address, protocol) neither
 * overlap nor touch. Addresses in ascending order, each once.
 */
export function interestOf(rules: Iterable<InterestRule>): Interest {
  const entries = new EntryCollector();
  const vips = new AddressSet();
  const servers = new AddressSet();
  const proxies = new AddressSet();
  for (const rule of rules) {
    vips.add(rule.vip);
    entries.add("destination", rule.vip, rule.protocol, rule.ports);
    for (const proxy of proxyAddresses(rule)) {
      proxies.add(proxy);
      entries.add("destination", proxy, rule.protocol, PROXY_PORTS);
    }
    // A DSR server answers its clients itself: nothing that it sends is ours.
    if (rule.type === "DSR") continue;
    for (const server of rule.servers) {
      servers.add(server.address);
      entries.add("source", server.address, rule.protocol, server.ports ?? rule.ports);
    }
  }
  return { entries: entries.list(), vips: vips.list(), servers: servers.list(), proxies: proxies.list() };
}

/** The ports of one address and protocol that belong to the engine as destination, sorted. */
export function destinationPorts(interest: Interest, address: Address, protocol: Protocol): PortRange[] {
  return interest.entries
    .filter((entry) => entry.match === "destination" && entry.protocol === protocol)
    .filter((entry) => compareAddresses(entry.address, address) === 0)
    .map((entry) => entry.ports);
}

function* proxyAddresses(rule: InterestRule): Generator<Address> {
  if (rule.proxySource === null) return;
  const count = Number(rangeSize(rule.proxySource));
  for (let i = 0; i < count; i++) yield addressAt(rule.proxySource.first, i);
}

class AddressSet {
  readonly #byText = new Map<string, Address>();
  add(address: Address): void {
    this.#byText.set(formatAddress(address), address);
  }
  list(): Address[] {
    return [...this.#byText.values()].sort(compareAddresses);
  }
}

class EntryCollector {
  readonly #groups = new Map<string, Omit<InterestEntry, "ports"> & { ranges: PortRange[] }>();

  add(match: InterestEntry["match"], address: Address, protocol: Protocol, ports: PortRange): void {
    const key = `${match} ${formatAddress(address)} ${protocol}`;
    const group = this.#groups.get(key);
    if (group) group.ranges.push(ports);
    else this.#groups.set(key, { match, address, protocol, ranges: [ports] });
  }

  list(): InterestEntry[] {
    const order = (a: Omit<InterestEntry, "ports">, b: Omit<InterestEntry, "ports">): number =>
      a.match.localeCompare(b.match) || compareAddresses(a.address, b.address) || a.protocol.localeCompare(b.protocol);
    return [...this.#groups.values()]
      .sort(order)
      .flatMap(({ match, address, protocol, ranges }) =>
        mergeRanges(ranges).map((ports) => ({ match, address, protocol, ports })),
      );
  }
}
