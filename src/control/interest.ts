/**
 * The interest set of the rules: which packets the kernel must leave to the engine (design record 0005). A pure function
 * of the rules and of the servers that they have or still drain; guard, tun routing and engine all take it from here.
 *
 * Disabled rules and disabled servers count like enabled ones: what is theirs goes through the engine, which gives back
 * what it does not want.
 */
import type { Interest, InterestEntry } from "../engine/engine.ts";
import { type Address, addressAt, addressKey, compareAddresses, rangeSize } from "../model/address.ts";
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
 * @param own addresses of the box; they count where there are servers that health probes may ask
 * @returns entries in order of match, address, protocol and port; ports of one (match, address, protocol) neither
 * overlap nor touch. Addresses in ascending order, each once.
 */
export function interestOf(rules: Iterable<InterestRule>, own: readonly Address[] = []): Interest {
  const entries = new EntryCollector();
  const vips = new AddressSet();
  const servers = new AddressSet();
  const proxies = new AddressSet();
  const ofServers = new ServerPorts();
  for (const rule of rules) {
    vips.add(rule.vip);
    entries.add("destination", rule.vip, rule.protocol, [rule.ports]);
    for (const proxy of proxyAddresses(rule)) {
      proxies.add(proxy);
      entries.add("destination", proxy, rule.protocol, [PROXY_PORTS]);
    }
    // A DSR server answers its clients itself: nothing that it sends is ours.
    if (rule.type !== "DSR") ofServers.add(rule);
  }
  ofServers.collect(servers, entries);
  const guarded = servers.list();
  return {
    entries: entries.list(),
    vips: vips.list(),
    servers: guarded,
    proxies: proxies.list(),
    own: guarded.length > 0 ? own : [],
  };
}

/** Whether two lists of rules, of successive configurations, have the same interest set for certain: they share what counts. */
export function isSameInterest(before: readonly InterestRule[], now: readonly InterestRule[]): boolean {
  if (before.length !== now.length) return false;
  // Lists that many rules share are looked at once.
  const known = new Map<InterestRule["servers"], InterestRule["servers"]>();
  const isSameList = (a: InterestRule["servers"], b: InterestRule["servers"]): boolean => {
    if (a === b || known.get(a) === b) return true;
    if (!areSameServers(a, b)) return false;
    known.set(a, b);
    return true;
  };
  return now.every((rule, index) => {
    const was = before[index]!;
    return isSameRule(was, rule) && isSameList(was.servers, rule.servers);
  });
}

const isSameRule = (a: InterestRule, b: InterestRule): boolean =>
  a.vip === b.vip &&
  a.protocol === b.protocol &&
  a.ports === b.ports &&
  a.type === b.type &&
  a.proxySource === b.proxySource;

/** Also when servers were switched on or off. */
const areSameServers = (a: InterestRule["servers"], b: InterestRule["servers"]): boolean =>
  a.length === b.length &&
  b.every((server, index) => server.address === a[index]!.address && server.ports === a[index]!.ports);

function* proxyAddresses(rule: InterestRule): Generator<Address> {
  if (rule.proxySource === null) return;
  const count = Number(rangeSize(rule.proxySource));
  for (let i = 0; i < count; i++) yield addressAt(rule.proxySource.first, i);
}

/** Ports that servers answer from, list of servers by list: rules that share a group are looked at together. */
class ServerPorts {
  readonly #byList = new Map<InterestRule["servers"], Record<Protocol, PortRange[]>>();

  add({ servers, protocol, ports }: InterestRule): void {
    let ranges = this.#byList.get(servers);
    if (ranges === undefined) {
      ranges = { tcp: [], udp: [] };
      this.#byList.set(servers, ranges);
    }
    ranges[protocol].push(ports);
  }

  collect(addresses: AddressSet, entries: EntryCollector): void {
    for (const [servers, ranges] of this.#byList) {
      for (const protocol of ["tcp", "udp"] as const) {
        if (ranges[protocol].length === 0) continue;
        const ofRules = mergeRanges(ranges[protocol]);
        for (const { address, ports } of servers) {
          addresses.add(address);
          entries.add("source", address, protocol, ports === null ? ofRules : [ports]);
        }
      }
    }
  }
}

class AddressSet {
  readonly #byKey = new Map<string, Address>();
  add(address: Address): void {
    this.#byKey.set(addressKey(address), address);
  }
  list(): Address[] {
    return [...this.#byKey.values()].sort(compareAddresses);
  }
}

const MATCHES = ["destination", "source"] as const;
const PROTOCOLS = ["tcp", "udp"] as const;

class EntryCollector {
  /** In the order of the list: match, then protocol inside of an address. */
  readonly #groups = MATCHES.map(
    () => new Map<string, { readonly address: Address; readonly ranges: PortRange[][] }>(),
  );

  /** @param ports in any order */
  add(match: InterestEntry["match"], address: Address, protocol: Protocol, ports: readonly PortRange[]): void {
    const groups = this.#groups[MATCHES.indexOf(match)]!;
    const key = addressKey(address);
    let group = groups.get(key);
    if (group === undefined) {
      group = { address, ranges: PROTOCOLS.map(() => []) };
      groups.set(key, group);
    }
    group.ranges[PROTOCOLS.indexOf(protocol)]!.push(...ports);
  }

  list(): InterestEntry[] {
    return MATCHES.flatMap((match, place) =>
      [...this.#groups[place]!.values()]
        .sort((a, b) => compareAddresses(a.address, b.address))
        .flatMap(({ address, ranges }) =>
          PROTOCOLS.flatMap((protocol, index) =>
            mergeRanges(ranges[index]!).map((ports) => ({ match, address, protocol, ports })),
          ),
        ),
    );
  }
}
