/**
 * A flow policy as an nftables table: rules for what the kernel forwards, with the verdicts that docs/packet-path.md
 * ("Policy") has for the engine. Text only; who loads it is the kernel room, or the administrator of another firewall.
 *
 * Addresses lead to a chain per source group, from there to a chain per pair of groups, so that a packet meets the rules
 * of its own pair and no others. A group is one host in an export, where every pair of addresses has counters of its own,
 * and one kind of hosts in the table of this box.
 */
import { formatAddress } from "../model/address.ts";
import { type AddressSpan, spansOf } from "../model/prefix-runs.ts";
import type { FlowPolicy, PolicyFlow } from "./policy.ts";

export const REFUSALS = ["no-flow", "reserved-source", "reply-is-syn", "outside"] as const;
export type Refusal = (typeof REFUSALS)[number];

/** How counters are made. `named`: one per flow and reason, to be read; `each`: one per rule, to be looked at. */
export type Counting = "named" | "each";

/** Elements of a set of refused tuples; the kernel gives up the rest. */
const MOST_REFUSED = 256;
/** A refused tuple is remembered for so long, seconds. */
export const REFUSED_SECONDS = 86_400;

export interface NftOptions {
  readonly counting: Counting;
  /** Conditions of packets that somebody else has judged: they go on at once. */
  readonly exempt?: readonly string[];
  /** Flags of the table, e.g. `owner`. */
  readonly flags?: string;
}

/** The table's family and name. */
export const POLICY_TABLE = "inet netbackup";

/** Hosts that the rules treat alike. */
interface Group {
  readonly label: string;
  readonly kind: number;
}

interface Plan {
  readonly policy: FlowPolicy;
  readonly options: NftOptions;
  readonly groups: readonly Group[];
  /** Addresses by group, `kind` being the group's number from 1 on. */
  readonly spans: readonly AddressSpan[];
  /** By source kind, then by destination kind; of kinds without flows none. */
  readonly flows: ReadonlyMap<number, ReadonlyMap<number, readonly PolicyFlow[]>>;
  /** By kind: those with flows to or from it. */
  readonly partners: ReadonlyMap<number, ReadonlySet<number>>;
}

const FAMILIES = [4, 6] as const;
const TYPE = { 4: "ipv4_addr", 6: "ipv6_addr" } as const;
const KEYWORD = { 4: "ip", 6: "ip6" } as const;
const NUMBER = { tcp: 6, udp: 17 } as const;

function planOf(policy: FlowPolicy, options: NftOptions): Plan {
  const isEach = options.counting === "each";
  const groups = isEach
    ? policy.hosts.map(({ host, kind }) => ({ label: host.name, kind }))
    : policy.kinds.map((_, index) => ({ label: String(index + 1), kind: index + 1 }));
  const prefixes = policy.hosts.map(({ host, kind }, index) => ({
    prefix: host.address,
    bits: host.prefixLength,
    kind: isEach ? index + 1 : kind,
  }));
  return { policy, options, groups, spans: spansOf(prefixes), ...relationsOf(policy) };
}

function relationsOf({ pairs }: FlowPolicy): Pick<Plan, "flows" | "partners"> {
  const flows = new Map<number, Map<number, readonly PolicyFlow[]>>();
  const partners = new Map<number, Set<number>>();
  const entryOf = <V>(map: Map<number, V>, kind: number, make: () => V): V => {
    const known = map.get(kind) ?? make();
    map.set(kind, known);
    return known;
  };
  for (const pair of pairs) {
    entryOf(flows, pair.from, () => new Map()).set(pair.to, pair.flows);
    entryOf(partners, pair.from, () => new Set()).add(pair.to);
    entryOf(partners, pair.to, () => new Set()).add(pair.from);
  }
  return { flows, partners };
}

const spanText = ({ first, last }: AddressSpan): string =>
  first.value === last.value ? formatAddress(first) : `${formatAddress(first)}-${formatAddress(last)}`;

const elements = (list: readonly string[]): string => (list.length === 0 ? "" : ` elements = { ${list.join(", ")} };`);

const reasonName = (refusal: Refusal): string => refusal.replaceAll("-", "_");
const flowCounter = (flow: number): string => `flow_${flow}`;

/** A counter in a rule. @param name of the one that is shared @param comment what the rule is for */
function counter({ counting }: NftOptions, name: string): string {
  return counting === "named" ? `counter name "${name}"` : "counter";
}

const comment = (text: string): string => `comment "${text.replaceAll('"', "'").slice(0, 120)}"`;

const portsText = ({ min, max }: PolicyFlow["ports"]): string => (min === max ? String(min) : `${min}-${max}`);
const RESERVED = "th sport 0-1023";
const OPENS = "tcp flags & (syn | ack) == syn";
const IS_LATER = { 4: "ip frag-off & 0x1fff != 0", 6: "exthdr frag exists frag frag-off != 0" } as const;

/** Rules of what may pass from one group to another, forward first, then as replies, then by refusal. */
function pairRules(plan: Plan, from: number, to: number): string[] {
  const { policy, options, groups } = plan;
  const flowsOf = (a: number, b: number): readonly PolicyFlow[] =>
    plan.flows.get(groups[a - 1]!.kind)?.get(groups[b - 1]!.kind) ?? [];
  const [forward, reply] = [flowsOf(from, to), flowsOf(to, from)];
  const names = `${groups[from - 1]!.label} -> ${groups[to - 1]!.label}`;
  const nonReserved = policy.sourcePorts === "non-reserved";
  const spared = nonReserved ? "th sport 1024-65535 " : "";
  const passes = (flow: PolicyFlow, match: string, what: string): string =>
    `meta l4proto ${NUMBER[flow.protocol]} ${match} ${counter(options, flowCounter(flow.flow))} accept ${comment(`${flow.id} ${flow.service} ${names}${what}`)}`;
  const answers = (flow: PolicyFlow): string => (flow.protocol === "tcp" ? " tcp flags & (syn | ack) != syn" : "");
  const protocols = new Set([...forward, ...reply].map(({ protocol }) => protocol));
  return [
    ...forward.map((flow) => passes(flow, `${spared}th dport ${portsText(flow.ports)}`, "")),
    ...reply.map((flow) => passes(flow, `th sport ${portsText(flow.ports)}${answers(flow)}`, " (reply)")),
    ...[...protocols].flatMap((protocol) =>
      FAMILIES.map(
        (family) => `meta l4proto ${NUMBER[protocol]} ${IS_LATER[family]} ${counter(options, "no_ports")} accept`,
      ),
    ),
    ...(nonReserved
      ? forward.map(
          ({ protocol, ports }) =>
            `meta l4proto ${NUMBER[protocol]} ${RESERVED} th dport ${portsText(ports)} goto refuse_reserved_source`,
        )
      : []),
    ...reply
      .filter(({ protocol }) => protocol === "tcp")
      .map(({ ports }) => `meta l4proto 6 th sport ${portsText(ports)} ${OPENS} goto refuse_reply_is_syn`),
    "goto refuse_no_flow",
  ];
}

const chain = (name: string, rules: readonly string[]): string =>
  `  chain ${name} {\n${rules.map((rule) => `    ${rule}`).join("\n")}\n  }`;

/** Messages that pass whatever the flows are (docs/packet-path.md, "Policy" 4 and 6). */
const signals = (options: NftOptions): string[] => [
  `meta l4proto 1 icmp type { 3, 4, 5, 11, 12 } ${counter(options, "message")} accept`,
  `meta l4proto 58 icmpv6 type { 0-127, 133-137 } ${counter(options, "message")} accept`,
];
const echo = (options: NftOptions): string[] => [
  `meta l4proto 1 icmp type { 0, 8 } ${counter(options, "message")} accept`,
  `meta l4proto 58 icmpv6 type { 128, 129 } ${counter(options, "message")} accept`,
];

/** What happens to what a reason refuses. */
function refuseRules({ policy, options }: Plan, refusal: Refusal): string[] {
  const name = reasonName(refusal);
  const port = refusal === "reply-is-syn" ? "sport" : "dport";
  const remember =
    options.counting === "each"
      ? []
      : FAMILIES.flatMap((family) => [
          `meta l4proto { 6, 17 } update @${name}_${family} { ${KEYWORD[family]} saddr . ${KEYWORD[family]} daddr . meta l4proto . th ${port} counter }`,
          `meta l4proto != { 6, 17 } update @${name}_bare_${family} { ${KEYWORD[family]} saddr . ${KEYWORD[family]} daddr . meta l4proto counter }`,
        ]);
  const end = policy.mode === "monitor" ? "accept" : "drop";
  return [...remember, `${counter(options, name)} ${end} ${comment(refusal)}`];
}

/** Sets that remember refused tuples. */
function refusedSets({ options }: Plan): string[] {
  if (options.counting === "each") return [];
  return REFUSALS.flatMap((refusal) =>
    FAMILIES.flatMap((family) => {
      const ends = `${TYPE[family]} . ${TYPE[family]} . inet_proto`;
      const how = `size ${MOST_REFUSED}; flags dynamic, timeout; timeout ${REFUSED_SECONDS}s;`;
      const name = reasonName(refusal);
      return [
        `  set ${name}_${family} { type ${ends} . inet_service; ${how} }`,
        `  set ${name}_bare_${family} { type ${ends}; ${how} }`,
      ];
    }),
  );
}

function counters({ policy, options }: Plan): string[] {
  if (options.counting === "each") return [];
  const flows = new Set(policy.pairs.flatMap((pair) => pair.flows.map(({ flow }) => flow)));
  const names = [
    ...[...flows].sort((a, b) => a - b).map(flowCounter),
    "message",
    "no_ports",
    ...REFUSALS.map(reasonName),
  ];
  return names.map((name) => `  counter ${name} { }`);
}

/** Which groups have flows between them, either way. */
function partnersOf({ partners, groups }: Plan, from: number): Set<number> {
  const kinds = partners.get(groups[from - 1]!.kind);
  return new Set(groups.flatMap((group, index) => (kinds?.has(group.kind) ? [index + 1] : [])));
}

/** One line per map and chain of a source group. */
function sourceParts(plan: Plan, from: number): { readonly maps: string[]; readonly chains: string[] } {
  const partners = partnersOf(plan, from);
  const maps = FAMILIES.map((family) => {
    const list = plan.spans
      .filter(({ first, kind }) => first.family === family && partners.has(kind))
      .map((span) => `${spanText(span)} : goto pair_${from}_${span.kind}`);
    return `  map to_${from}_${family} { type ${TYPE[family]} : verdict; flags interval;${elements(list)} }`;
  });
  const rules = [
    ...FAMILIES.map((family) => `${KEYWORD[family]} daddr vmap @to_${from}_${family}`),
    ...FAMILIES.map((family) => `${KEYWORD[family]} daddr @bound_${family} goto bare`),
    "goto one_end",
  ];
  const pairs = [...partners].map((to) => chain(`pair_${from}_${to}`, ["jump messages", ...pairRules(plan, from, to)]));
  return { maps, chains: [...pairs, chain(`from_${from}`, rules)] };
}

/** The whole table, without the command that removes an earlier one. */
export function policyTable(policy: FlowPolicy, options: NftOptions): string {
  const plan = planOf(policy, options);
  const sources = plan.groups.map((_, index) => sourceParts(plan, index + 1));
  const bound = FAMILIES.map((family) => {
    const list = plan.spans.filter(({ first }) => first.family === family).map(spanText);
    return `  set bound_${family} { type ${TYPE[family]}; flags interval;${elements(list)} }`;
  });
  const from = FAMILIES.map((family) => {
    const list = plan.spans
      .filter(({ first }) => first.family === family)
      .map((span) => `${spanText(span)} : goto from_${span.kind}`);
    return `  map from_${family} { type ${TYPE[family]} : verdict; flags interval;${elements(list)} }`;
  });
  const outside = policy.outside === "drop" ? ["goto refuse_outside"] : [];
  const forward = [
    "type filter hook forward priority filter; policy accept;",
    ...(options.exempt ?? []).map((condition) => `${condition} accept`),
    ...FAMILIES.map((family) => `${KEYWORD[family]} saddr vmap @from_${family}`),
    ...FAMILIES.map((family) => `${KEYWORD[family]} daddr @bound_${family} goto one_end`),
  ];
  return [
    `table ${POLICY_TABLE} {`,
    ...(options.flags === undefined ? [] : [`  flags ${options.flags};`]),
    ...counters(plan),
    ...refusedSets(plan),
    ...bound,
    ...REFUSALS.map((refusal) => chain(`refuse_${reasonName(refusal)}`, refuseRules(plan, refusal))),
    chain("messages", [...signals(options), ...echo(options)]),
    chain("one_end", [...signals(options), ...outside]),
    chain("bare", ["jump messages", "goto refuse_no_flow"]),
    ...sources.flatMap(({ chains, maps }) => [...chains.slice(0, -1), ...maps, ...chains.slice(-1)]),
    ...from,
    chain("forward", forward),
    "}",
    "",
  ].join("\n");
}
