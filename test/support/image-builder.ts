/**
 * Makes TableImages for engine tests from short descriptions. Independent of src/control, which makes them in the
 * product: here the interest is worked out anew, from specification E.1.
 */
import type {
  ImageDrain,
  ImageMember,
  ImageRule,
  ImageServer,
  Interest,
  InterestEntry,
  TableImage,
} from "../../src/engine/engine.ts";
import type { Address } from "../../src/model/address.ts";
import type { Algorithm, PortRange, Protocol, RuleType } from "../../src/model/config.ts";
import { addressText } from "./addresses.ts";

export interface ServerSpec {
  readonly id: number;
  readonly address: Address;
  readonly ports: PortRange | null;
  /** Index for setNextHop; give servers of one address the same. */
  readonly nextHop: number;
}

export interface MemberSpec {
  readonly server: ServerSpec;
  readonly insertSequence: number;
  readonly enabledSequence: number | null;
}

export interface RuleSpec {
  readonly id: number;
  readonly slot: number;
  readonly vip: Address;
  readonly vipIsLocal?: boolean;
  readonly protocol: Protocol;
  readonly ports: PortRange;
  readonly type: RuleType;
  readonly algorithm?: Algorithm;
  readonly proxySource?: { readonly first: Address; readonly last: Address } | null;
  readonly stickyMask?: number | null;
  readonly natTimeoutMs?: number;
  readonly persistTimeoutMs?: number;
  readonly enabled?: boolean;
  readonly sequence?: number;
  readonly members: readonly MemberSpec[];
}

/** Members in the given order, all enabled in that order: a rule as it is created. */
export function membersOf(servers: readonly ServerSpec[]): MemberSpec[] {
  return servers.map((server, i) => ({ server, insertSequence: i + 1, enabledSequence: i + 1 }));
}

export const onePort = (port: number): PortRange => ({ min: port, max: port });

/** Every address of a proxy range. */
export function proxiesOf(rule: RuleSpec): Address[] {
  if (rule.proxySource === undefined || rule.proxySource === null) return [];
  const { first, last } = rule.proxySource;
  const count = Number(last.value - first.value) + 1;
  return Array.from({ length: count }, (_, i) => ({ family: first.family, value: first.value + BigInt(i) }));
}

/** Union of port intervals, sorted, none touching another. */
function merged(ranges: readonly PortRange[]): PortRange[] {
  const union: { min: number; max: number }[] = [];
  for (const range of [...ranges].sort((a, b) => a.min - b.min)) {
    const last = union.at(-1);
    if (last !== undefined && range.min <= last.max + 1) last.max = Math.max(last.max, range.max);
    else union.push({ ...range });
  }
  return union;
}

function distinct(addresses: readonly Address[]): Address[] {
  return [...new Map(addresses.map((address) => [addressText(address), address])).values()];
}

/** What has to reach the engine because of these rules, disabled ones included (specification E.1). */
export function interestOf(rules: readonly RuleSpec[], own: readonly Address[] = []): Interest {
  const raw: InterestEntry[] = [];
  const translated = rules.filter((rule) => rule.type !== "DSR");
  for (const rule of rules) {
    raw.push({ match: "destination", address: rule.vip, protocol: rule.protocol, ports: rule.ports });
    for (const address of proxiesOf(rule)) {
      raw.push({ match: "destination", address, protocol: rule.protocol, ports: { min: 4096, max: 65534 } });
    }
  }
  for (const rule of translated) {
    for (const { server } of rule.members) {
      const ports = server.ports ?? rule.ports;
      raw.push({ match: "source", address: server.address, protocol: rule.protocol, ports });
    }
  }
  const groups = new Map<string, InterestEntry[]>();
  for (const entry of raw) {
    const key = `${entry.match} ${addressText(entry.address)} ${entry.protocol}`;
    groups.set(key, [...(groups.get(key) ?? []), entry]);
  }
  const entries = [...groups.values()].flatMap((group) =>
    merged(group.map((entry) => entry.ports)).map((ports) => ({ ...group[0]!, ports })),
  );
  return {
    entries,
    vips: distinct(rules.map((rule) => rule.vip)),
    servers: distinct(translated.flatMap((rule) => rule.members.map((member) => member.server.address))),
    proxies: distinct(rules.flatMap(proxiesOf)),
    own,
  };
}

const DEFAULT_IDLE_MS: Readonly<Record<Protocol, number>> = { tcp: 120_000, udp: 60_000 };

/** @param past rules whose flows may still live: they stay in the interest. */
export function imageOf(
  generation: number,
  rules: readonly RuleSpec[],
  drains: readonly ImageDrain[] = [],
  past: readonly RuleSpec[] = [],
  own: readonly Address[] = [],
): TableImage {
  const servers: ImageServer[] = [];
  const indexOf = (server: ServerSpec): number => {
    const known = servers.findIndex((one) => one.id === server.id);
    if (known >= 0) return known;
    return servers.push(server) - 1;
  };
  const imageRules = rules.map((rule, i): ImageRule => {
    const members: ImageMember[] = rule.members
      .map(({ server, insertSequence, enabledSequence }) => ({
        server: indexOf(server),
        insertSequence,
        enabledSequence,
      }))
      .sort((a, b) => a.insertSequence - b.insertSequence);
    return {
      id: rule.id,
      slot: rule.slot,
      vip: rule.vip,
      vipIsLocal: rule.vipIsLocal ?? false,
      protocol: rule.protocol,
      ports: rule.ports,
      type: rule.type,
      algorithm: rule.algorithm ?? "roundrobin",
      proxySource: rule.proxySource ?? null,
      stickyMask: rule.stickyMask ?? null,
      natTimeoutMs: rule.natTimeoutMs ?? DEFAULT_IDLE_MS[rule.protocol],
      persistTimeoutMs: rule.persistTimeoutMs ?? 60_000,
      enabled: rule.enabled ?? true,
      sequence: rule.sequence ?? i + 1,
      members,
    };
  });
  return { generation, servers, rules: imageRules, drains, interest: interestOf([...rules, ...past], own) };
}
