/**
 * The interest set inside one nft table: sets of (address, protocol, ports) and of addresses, kept equal to what was asked
 * for by the smallest changes. The chains that use the sets are the caller's (guard.ts, tun-routing.ts).
 *
 * Form of the sets: `addr . proto . port` in a hash table, for most rules and servers have one port, and beside it the same
 * with `flags interval` (the kernel's pipapo sets) for ranges, which takes any number of disjoint ones per address. To ask that one
 * costs the sender of a packet its vector registers, saved and restored, even while it is empty, so the rule that asks stands in a
 * chain that is filled only while there are ranges. Overlapping elements are refused by the kernel, so an added range is cut to
 * what the sets do not have yet, and one that shrinks is deleted and its rest added in the same transaction.
 */
import type { Interest, InterestEntry } from "../engine/engine.ts";
import { PROBE_FIRST_PORT, PROBE_LAST_PORT } from "../gen/layout.ts";
import { type Address, formatAddress } from "../model/address.ts";
import { upsert } from "../model/collections.ts";
import type { PortRange } from "../model/config.ts";
import { intersectRanges, mergeRanges, subtractRanges } from "../model/port-ranges.ts";
import { NftError } from "../native/nftables.ts";

/**
 * Above these numbers of elements changed, or ranges removed, the table is made anew. Removing a range costs the kernel a walk
 * over its whole set (1.2 microseconds times its size), so beyond some dozens a new table is quicker whatever the size.
 */
const MOST_CHANGED = 4000;
const MOST_RANGES_REMOVED = 48;

export const EMPTY_INTEREST: Interest = Object.freeze({ entries: [], vips: [], servers: [], proxies: [], own: [] });

/** What runs transactions: src/native/nftables.ts, or a twin in tests. */
export interface NftRunner {
  run(text: string, action: string): Promise<void>;
}

/** Where the sets live and what stands around them. */
export interface TableFrame {
  /** `netdev ilb`: family and name. */
  readonly table: string;
  /** Chains and their rules, nft syntax inside the table's braces; one of them has interestRules(). */
  readonly chains: string;
  /** Of the packets of the interest set. */
  readonly verdict: string;
  /** For errors: `the guard`. */
  readonly what: string;
}

const PROBE_PORTS = `${PROBE_FIRST_PORT}-${PROBE_LAST_PORT}`;

/** Offset and length in bits. */
const QUOTED_DESTINATION = { 4: "@th,192,32", 6: "@th,256,128" } as const;

/** Behind the name of a set of single ports: its sister of ranges, and the chain that asks it. */
const RANGES = "r";

/** Of the sets of ports: what of a packet they are asked for. */
const PORT_KEYS = {
  dst4: "ip daddr . ip protocol . th dport",
  src4: "ip saddr . ip protocol . th sport",
  dst6: "ip6 daddr . meta l4proto . th dport",
  src6: "ip6 saddr . meta l4proto . th sport",
} as const;
type PortSet = keyof typeof PORT_KEYS;
const PORT_SETS = Object.keys(PORT_KEYS) as PortSet[];

/** What becomes of a packet that a set of ports holds. */
const outcome = (set: PortSet, verdict: string): string =>
  set.startsWith("dst") ? verdict : `goto server${set.at(-1)}`;
const askFor = (set: PortSet, verdict: string): string =>
  `${PORT_KEYS[set]} @${set} ${outcome(set, verdict)}\n  jump ${set}${RANGES}`;

/**
 * The rules that match exactly the interest set, each ending in `verdict`, which is the table's (TableFrame). The transport header
 * of a later fragment does not exist for `th`, so such a packet meets the address-only rules at the end, whatever its protocol. ICMP
 * to proxy addresses: 3, 11 and 12, the errors that quote packets (ICMPv6: 1 to 4). ICMPv6 to VIPs: all but 130 to 137 and 143,
 * neighbour discovery and multicast listeners, which belong to the kernel alone. Protocols stand as numbers: a minimal
 * system has no /etc/protocols, and nftables would not know their names.
 *
 * Answers of servers to the box's own health probes never belong to the set: they are let go where all that comes from a server
 * meets its verdict (interestChains), so behind the rules, whose VIP may be the box's only address.
 *
 * Errors about packets to servers, to whatever address (HALF-NAT: the client's, decision record 0019): nftables knows no
 * quoted header, so its destination is raw payload, 8 + 16 or 8 + 24 bytes behind the beginning of the ICMP header,
 * whatever options either header has. Raw payload is of no address type, hence sets of their own with numbers in them.
 */
export const interestRules = (verdict: string): string => `
  ${PORT_SETS.map((set) => askFor(set, verdict)).join("\n  ")}
  ip protocol 1 ip daddr @vip4 ${verdict}
  ip protocol 1 ip daddr @prx4 icmp type { 3, 11, 12 } ${verdict}
  meta l4proto 58 ip6 daddr @vip6 icmpv6 type != { 130-137, 143 } ${verdict}
  meta l4proto 58 ip6 daddr @prx6 icmpv6 type { 1-4 } ${verdict}
  ip protocol 1 icmp type { 3, 11, 12 } ${QUOTED_DESTINATION[4]} @quo4 ${verdict}
  meta l4proto 58 icmpv6 type { 1-4 } ${QUOTED_DESTINATION[6]} @quo6 ${verdict}
  ip frag-off & 0x1fff != 0 ip daddr @vip4 ${verdict}
  ip frag-off & 0x1fff != 0 ip daddr @prx4 ${verdict}
  ip frag-off & 0x1fff != 0 ip saddr @srv4 ${verdict}
  exthdr frag exists frag frag-off != 0 ip6 daddr @vip6 ${verdict}
  exthdr frag exists frag frag-off != 0 ip6 daddr @prx6 ${verdict}
  exthdr frag exists frag frag-off != 0 ip6 saddr @srv6 ${verdict}`;

/** Where interestRules() sends what comes from a server, and the chains that ask for ranges, empty. */
const interestChains = (verdict: string): string => `chain server4 {
  th dport ${PROBE_PORTS} ip daddr @own4 accept
  ${verdict}
}
chain server6 {
  th dport ${PROBE_PORTS} ip6 daddr @own6 accept
  ${verdict}
}
${PORT_SETS.map((set) => `chain ${set}${RANGES} { }`).join("\n")}`;

/** Names of the address sets and of the lists of Interest that they hold. */
const ADDRESS_SETS = { vip: "vips", prx: "proxies", srv: "servers", own: "own" } as const;

/** Declarations of all sets, per family: dst4 dst4r src4 src4r vip4 prx4 srv4 own4 quo4, and the same with 6. `quo`: `srv` as numbers. */
const SETS = ([4, 6] as const)
  .map((family) => {
    const address = family === 4 ? "ipv4_addr" : "ipv6_addr";
    const key = `type ${address} . inet_proto . inet_service;`;
    const ports = ([`dst${family}`, `src${family}`] satisfies PortSet[]).flatMap((name) => [
      `set ${name} { ${key} }`,
      `set ${name}${RANGES} { ${key} flags interval; }`,
    ]);
    const addresses = Object.keys(ADDRESS_SETS).map((name) => `set ${name}${family} { type ${address}; }`);
    const quoted = `set quo${family} { typeof ${QUOTED_DESTINATION[family]}; }`;
    return [...ports, ...addresses, quoted].join("\n");
  })
  .join("\n");

/** Elements by set. Port sets: `addr . proto` to disjoint sorted ranges as they are in the kernel; address sets: text. */
interface Contents {
  readonly ports: Map<string, Map<string, PortRange[]>>;
  readonly addresses: Map<string, Set<string>>;
}

/** What a change leaves: `wider`: all of what was asked for, `narrower`: nothing but that. */
type Way = "wider" | "narrower" | "exact";

interface Change {
  readonly add: Map<string, string[]>;
  readonly remove: Map<string, string[]>;
  readonly after: Contents;
}

export class InterestTable {
  readonly #nft: NftRunner;
  readonly #frame: TableFrame;
  #installed: Contents = contentsOf(EMPTY_INTEREST);
  /** What the table was widened to last: it holds that and perhaps more. */
  #atLeast: Interest = EMPTY_INTEREST;
  /** What the table holds exactly, null while it holds more. */
  #exactly: Interest | null = EMPTY_INTEREST;
  /** One change at a time: each is computed from what the one before has left. */
  #last: Promise<void> = Promise.resolve();

  constructor(nft: NftRunner, frame: TableFrame) {
    this.#nft = nft;
    this.#frame = frame;
  }

  /** Creates the table with empty sets. Rejects when it exists already, or with NftError. */
  create(): Promise<void> {
    return this.#serialised(async () => {
      try {
        await this.#nft.run(this.#whole(this.#installed), `create ${this.#frame.what}`);
      } catch (error) {
        throw explained(error, this.#frame.table);
      }
    });
  }

  /** Adds what `next` has and the table has not. Rejects with NftError; then nothing has changed. */
  widen(next: Interest): Promise<void> {
    return this.#change(next, (installed) => widened(installed, contentsOf(next)), "wider");
  }

  /** Removes what `next` has not. Rejects with NftError; then nothing has changed. */
  narrow(next: Interest): Promise<void> {
    return this.#change(next, (installed) => narrowed(installed, contentsOf(next)), "narrower");
  }

  /** Makes the table hold exactly `next`, in one transaction. Rejects with NftError; then nothing has changed. */
  apply(next: Interest): Promise<void> {
    const target = contentsOf(next);
    return this.#change(next, (installed) => narrowed(widened(installed, target), target), "exact");
  }

  /** Removes the table. */
  remove(): Promise<void> {
    return this.#serialised(async () => {
      await this.#nft.run(`delete table ${this.#frame.table}`, `remove ${this.#frame.what}`);
      this.#installed = contentsOf(EMPTY_INTEREST);
      this.#remember(EMPTY_INTEREST, "exact");
    });
  }

  #change(next: Interest, plan: (installed: Contents) => Contents, how: Way): Promise<void> {
    return this.#serialised(async () => {
      if (next === this.#exactly) return;
      const change = difference(this.#installed, plan(this.#installed));
      const changed = countOf(change.add) + countOf(change.remove);
      if (changed === 0) return this.#remember(next, how);
      const anew = changed > MOST_CHANGED || countOf(change.remove, isOfRanges) > MOST_RANGES_REMOVED;
      const after = anew ? compacted(change.after) : change.after;
      await this.#nft.run(anew ? this.#recreation(after) : this.#delta(change), `change ${this.#frame.what}`);
      this.#installed = after;
      this.#remember(next, how);
    });
  }

  #remember(next: Interest, how: Way): void {
    const isExact = how === "exact" || (how === "narrower" && this.#atLeast === next);
    this.#exactly = isExact ? next : null;
    if (how !== "narrower") this.#atLeast = next;
  }

  #serialised(task: () => Promise<void>): Promise<void> {
    const turn = this.#last.then(task);
    this.#last = turn.catch(() => undefined);
    return turn;
  }

  #delta(change: Change): string {
    const command = (verb: string, elements: Map<string, string[]>) =>
      [...elements].map(([set, list]) => `${verb} element ${this.#frame.table} ${set} { ${list.join(", ")} }`);
    const rules = this.#rangeRules(this.#installed, change.after);
    return [...command("delete", change.remove), ...command("add", change.add), ...rules].join("\n");
  }

  /** Commands that let the sets of ranges be asked when they hold any, and only then. */
  #rangeRules(before: Contents, after: Contents): string[] {
    const { table, verdict } = this.#frame;
    return PORT_SETS.filter((set) => hasRanges(before, set) !== hasRanges(after, set)).map((set) => {
      const chain = `${table} ${set}${RANGES}`;
      if (!hasRanges(after, set)) return `flush chain ${chain}`;
      return `add rule ${chain} ${PORT_KEYS[set]} @${set}${RANGES} ${outcome(set, verdict)}`;
    });
  }

  /** Old table away and new one there in one transaction: no packet sees the moment between. */
  #recreation(contents: Contents): string {
    return `delete table ${this.#frame.table}\n${this.#whole(contents)}`;
  }

  #whole(contents: Contents): string {
    const { table, chains, verdict } = this.#frame;
    const parts = [SETS, interestChains(verdict), chains].join("\n");
    const skeleton = `create table ${table} { flags owner; }\ntable ${table} {\nflags owner;\n${parts}\n}`;
    const nothing = contentsOf(EMPTY_INTEREST);
    const elements = [...difference(nothing, contents).add].map(
      ([set, list]) => `add element ${table} ${set} { ${list.join(", ")} }`,
    );
    return [skeleton, ...elements, ...this.#rangeRules(nothing, contents)].join("\n");
  }
}

/** A table of that name is there already, with another owner or without one: say so in words that help. */
function explained(error: unknown, table: string): unknown {
  if (!(error instanceof NftError)) return error;
  const way = error.details.includes("File exists")
    ? `it exists already; if no other ilbd runs in this network namespace, remove it: nft delete table ${table}`
    : error.details.includes("not permitted")
      ? "another ilbd in this network namespace owns it (one is allowed), or CAP_NET_ADMIN is missing"
      : error.details.includes("not supported")
        ? "tables with an owner need Linux 5.12, ingress chains CONFIG_NF_TABLES_NETDEV and CONFIG_NETFILTER_INGRESS"
        : error.details.includes("syntax error")
          ? "this libnftables is too old; install nftables 1.0.3 or later"
          : null;
  return way === null ? error : new NftError(`${error.message}: ${way}`, error.details);
}

const NO_PORTS: Contents["ports"] extends Map<string, infer V> ? V : never = new Map();
const NO_RANGES: PortRange[] = [];
const NO_ADDRESSES = new Set<string>();

// ---- Contents and their differences, pure -------------------------------------------------------------------------------

const PROTOCOL_NUMBERS = { tcp: 6, udp: 17 } as const;

const known = new WeakMap<Interest, Contents>();

/** What the sets hold when made anew: ranges merged. Worked out once for every interest set: it is asked for twice. */
function contentsOf(interest: Interest): Contents {
  let contents = known.get(interest);
  if (contents === undefined) {
    contents = spellOut(interest);
    known.set(interest, contents);
  }
  return contents;
}

function spellOut(interest: Interest): Contents {
  const ports: Contents["ports"] = new Map();
  for (const entry of interest.entries) {
    const set = upsert(ports, setOf(entry), () => new Map<string, PortRange[]>());
    upsert(set, `${textOf(entry.address)} . ${PROTOCOL_NUMBERS[entry.protocol]}`, () => []).push(entry.ports);
  }
  const addresses: Contents["addresses"] = new Map();
  for (const [name, list] of Object.entries(ADDRESS_SETS))
    for (const address of interest[list])
      upsert(addresses, `${name}${address.family}`, () => new Set<string>()).add(textOf(address));
  for (const address of interest.servers)
    upsert(addresses, `quo${address.family}`, () => new Set<string>()).add(`0x${address.value.toString(16)}`);
  return compacted({ ports, addresses });
}

/** Address objects are shared by successive configurations, so most are spelled only once. */
const texts = new WeakMap<Address, string>();
function textOf(address: Address): string {
  let text = texts.get(address);
  if (text === undefined) {
    text = formatAddress(address);
    texts.set(address, text);
  }
  return text;
}

const setOf = (entry: InterestEntry): string =>
  `${entry.match === "destination" ? "dst" : "src"}${(entry.address satisfies Address).family}`;

function compacted(contents: Contents): Contents {
  const ports: Contents["ports"] = new Map();
  for (const [name, set] of contents.ports)
    ports.set(name, new Map([...set].map(([key, ranges]) => [key, mergeRanges(ranges)])));
  return { ports, addresses: contents.addresses };
}

/** All of `installed` as it is, and beside it what only `target` has. */
function widened(installed: Contents, target: Contents): Contents {
  const cut = (had: PortRange[], wanted: PortRange[]) => {
    const missing = subtractRanges(wanted, had);
    return missing.length === 0 ? had : [...had, ...missing].sort((a, b) => a.min - b.min);
  };
  return combine(installed, target, cut, (had, wanted) => had.union(wanted));
}

/** Of `installed` what `target` has too: ranges that lie inside of it as they are, others cut. */
function narrowed(installed: Contents, target: Contents): Contents {
  const cut = (had: PortRange[], wanted: PortRange[]) =>
    subtractRanges(had, wanted).length === 0 ? had : had.flatMap((range) => intersectRanges([range], wanted));
  return combine(installed, target, cut, (had, wanted) => had.intersection(wanted));
}

/** Keeps the very arrays of `installed` where nothing changes, so that `difference` is quick over large tables. */
function combine(
  installed: Contents,
  target: Contents,
  ranges: (had: PortRange[], wanted: PortRange[]) => PortRange[],
  addresses: (had: Set<string>, wanted: Set<string>) => Set<string>,
): Contents {
  const result: Contents = { ports: new Map(), addresses: new Map() };
  for (const name of keysOf(installed.ports, target.ports)) {
    const had = installed.ports.get(name) ?? NO_PORTS;
    const wanted = target.ports.get(name) ?? NO_PORTS;
    const set = new Map<string, PortRange[]>();
    const put = (key: string, kept: PortRange[]) => kept.length > 0 && set.set(key, kept);
    for (const [key, list] of had) put(key, ranges(list, wanted.get(key) ?? NO_RANGES));
    for (const [key, list] of wanted) if (!had.has(key)) put(key, ranges(NO_RANGES, list));
    result.ports.set(name, set);
  }
  for (const name of keysOf(installed.addresses, target.addresses)) {
    const had = installed.addresses.get(name) ?? NO_ADDRESSES;
    result.addresses.set(name, addresses(had, target.addresses.get(name) ?? NO_ADDRESSES));
  }
  return result;
}

/** Elements to add and to remove, exactly as they are spelled in the kernel. */
function difference(before: Contents, after: Contents): Change {
  const change: Change = { add: new Map(), remove: new Map(), after };
  const note = (list: Map<string, string[]>, set: string, had: Iterable<string>, other: ReadonlySet<string>) => {
    for (const element of had) if (!other.has(element)) upsert(list, set, () => []).push(element);
  };
  const compare = (set: string, had: ReadonlySet<string>, wanted: ReadonlySet<string>) => {
    note(change.remove, set, had, wanted);
    note(change.add, set, wanted, had);
  };
  const noteRange = (list: Map<string, string[]>, name: string, key: string, range: PortRange) =>
    upsert(list, isSingle(range) ? name : `${name}${RANGES}`, () => []).push(spelled(key, range));
  /** Both sorted and disjoint. */
  const compareRanges = (name: string, key: string, had: readonly PortRange[], wanted: readonly PortRange[]) => {
    for (let [i, j] = [0, 0]; i < had.length || j < wanted.length; ) {
      const [old, next] = [had[i], wanted[j]];
      const order = old === undefined ? 1 : next === undefined ? -1 : old.min - next.min || old.max - next.max;
      if (order < 0) noteRange(change.remove, name, key, old!);
      if (order > 0) noteRange(change.add, name, key, next!);
      if (order <= 0) i++;
      if (order >= 0) j++;
    }
  };
  for (const name of keysOf(before.ports, after.ports)) {
    const had = before.ports.get(name) ?? NO_PORTS;
    const wanted = after.ports.get(name) ?? NO_PORTS;
    for (const [key, list] of had) {
      const next = wanted.get(key) ?? NO_RANGES;
      if (next !== list) compareRanges(name, key, list, next);
    }
    for (const [key, list] of wanted) if (!had.has(key)) compareRanges(name, key, NO_RANGES, list);
  }
  for (const name of keysOf(before.addresses, after.addresses))
    compare(name, before.addresses.get(name) ?? NO_ADDRESSES, after.addresses.get(name) ?? NO_ADDRESSES);
  return change;
}

const isSingle = ({ min, max }: PortRange): boolean => min === max;
const isWide = (range: PortRange): boolean => !isSingle(range);
const spelled = (key: string, { min, max }: PortRange): string => `${key} . ${min === max ? min : `${min}-${max}`}`;

const hasRanges = ({ ports }: Contents, set: PortSet): boolean =>
  ports
    .get(set)
    ?.values()
    .some((list) => list.some(isWide)) ?? false;
const isOfRanges = (set: string): boolean => set.endsWith(RANGES);
/** @param counts which sets; default all */
const countOf = (elements: Map<string, string[]>, counts: (set: string) => boolean = () => true): number =>
  [...elements].reduce((sum, [set, list]) => (counts(set) ? sum + list.length : sum), 0);
const keysOf = (a: ReadonlyMap<string, unknown>, b: ReadonlyMap<string, unknown>): Set<string> =>
  new Set([...a.keys(), ...b.keys()]);
