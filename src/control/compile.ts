/**
 * (Config, run-time order, draining pairs, places, local addresses) -> TableImage, purely. What the engine is told is
 * decided here and only here: defaults filled in, timers in milliseconds, members in their order.
 */
import type { ImageDrain, ImageMember, ImageRule, ImageServer, Interest, TableImage } from "../engine/engine.ts";
import { type Address, addressKey } from "../model/address.ts";
import { upsert } from "../model/collections.ts";
import type { Config, Rule, Server } from "../model/config.ts";
import { type DrainingServers, type Drains, departed, type HoldersOf, withFlows } from "./drain.ts";
import type { InterestRule } from "./interest.ts";
import type { Places } from "./places.ts";
import { policyTablesOf } from "./policy.ts";
import type { RuleOrder, Runtime } from "./runtime.ts";

export interface CompileInput {
  readonly generation: number;
  readonly config: Config;
  readonly runtime: Runtime;
  readonly drains: Drains;
  /** Given: the image has no room for the deadlines of all pairs, only for those of pairs that hold flows. */
  readonly holdersOf?: HoldersOf;
  /** Counter slots by String(rule id). */
  readonly ruleSlots: Places;
  /** Next-hop indexes by addressKey(server address). */
  readonly hopIndexes: Places;
  readonly isLocal: (address: Address) => boolean;
  readonly interest: Interest;
  /** Engine clock. */
  readonly nowMs: number;
}

/** The engine counts in 32-bit milliseconds: nothing may lie further away than half of that (24.8 days). */
export const MAX_TIMEOUT_MS = 0x7fff_ffff;
const DEFAULT_NAT_TIMEOUT_SECONDS = { tcp: 120, udp: 60 } as const;
const DEFAULT_PERSIST_TIMEOUT_SECONDS = 60;

/** Servers that the image has to name: members of rules, and those that still hold flows. Each id once. */
export function serversInUse(config: Config, drains: Drains): Server[] {
  const servers = new Map<number, Server>();
  const groupsInUse = new Set(config.rules.map((rule) => rule.groupId));
  for (const group of config.groups) {
    if (groupsInUse.has(group.id)) for (const server of group.servers) servers.set(server.id, server);
  }
  for (const gone of new Set(departed(drains).map((one) => one.servers)))
    for (const server of gone) if (!servers.has(server.id)) servers.set(server.id, server);
  return [...servers.values()];
}

/** What the interest set is made of: all rules with all servers, and what still drains, be it of deleted rules. */
export function rulesOfInterest(config: Config, drains: Drains): InterestRule[] {
  const groups = new Map(config.groups.map((group) => [group.id, group]));
  const leaving = new Map(departed(drains).map((gone) => [gone.rule.id, gone]));
  const joined = new Map<readonly Server[], Map<readonly Server[], readonly Server[]>>();
  const rules = config.rules.map((rule) => {
    const servers = groups.get(rule.groupId)?.servers ?? NO_SERVERS;
    const left = leaving.get(rule.id)?.servers;
    leaving.delete(rule.id);
    return { ...rule, servers: left === undefined ? servers : joinedOnce(joined, servers, left) };
  });
  return [...rules, ...Array.from(leaving.values(), ({ rule, servers }) => ({ ...rule, servers }))];
}

const NO_SERVERS: readonly Server[] = [];

/** Both lists in one, which rules with the same two share: hundreds of them may have a thousand servers each. */
function joinedOnce(
  joined: Map<readonly Server[], Map<readonly Server[], readonly Server[]>>,
  servers: readonly Server[],
  left: readonly Server[],
): readonly Server[] {
  const ofServers = upsert(joined, servers, () => new Map());
  return upsert(ofServers, left, () => [...servers, ...left]);
}

/** True when a drain deadline is near enough for the engine to hold it; farther ones are compiled in later. */
export const deadlineFits = (deadlineMs: number, nowMs: number): boolean => deadlineMs - nowMs <= MAX_TIMEOUT_MS;

/** @param before the image before this one: what has not changed is taken from it. Makes no difference but to time. */
export function compile(input: CompileInput, before: TableImage | null = null): TableImage {
  const { config, drains, hopIndexes, holdersOf } = input;
  const servers = sameOrNew(
    before?.servers ?? [],
    serversInUse(config, drains).map((server) => ({
      id: server.id,
      address: server.address,
      ports: server.ports,
      nextHop: hopIndexes.byKey.get(addressKey(server.address))!,
    })),
  );
  const serverIndexes = new Map(servers.map((server, index) => [server.id, index]));
  const policy = policyTablesOf(config.netbackup);
  return {
    generation: input.generation,
    servers,
    rules: config.rules.map((rule) => compileRule(input, rule, servers, serverIndexes)),
    drains: compileDrains(holdersOf === undefined ? drains : withFlows(drains, holdersOf), input.nowMs),
    interest: input.interest,
    ...(policy && { policy }),
  };
}

/** The list from before if it says the same. */
function sameOrNew(before: readonly ImageServer[], now: readonly ImageServer[]): readonly ImageServer[] {
  const isSame = before.length === now.length && now.every((server, index) => isSameServer(server, before[index]!));
  return isSame ? before : now;
}

const isSameServer = (a: ImageServer, b: ImageServer): boolean =>
  a.id === b.id && a.nextHop === b.nextHop && a.address === b.address && a.ports === b.ports;

/** What a rule was compiled to last. */
const compiledRules = new WeakMap<Rule, ImageRule>();

function compileRule(
  input: CompileInput,
  rule: Rule,
  servers: readonly ImageServer[],
  serverIndexes: ReadonlyMap<number, number>,
): ImageRule {
  const slot = input.ruleSlots.byKey.get(String(rule.id))!;
  const vipIsLocal = input.isLocal(rule.vip);
  const members = membersOf(input.runtime.get(rule.id), servers, serverIndexes);
  const known = compiledRules.get(rule);
  if (known?.slot === slot && known.vipIsLocal === vipIsLocal && known.members === members) return known;
  const image: ImageRule = {
    id: rule.id,
    slot,
    vip: rule.vip,
    vipIsLocal,
    protocol: rule.protocol,
    ports: rule.ports,
    type: rule.type,
    algorithm: rule.algorithm,
    proxySource: rule.proxySource,
    stickyMask: rule.stickyMask,
    natTimeoutMs: milliseconds(rule.natTimeoutSeconds || DEFAULT_NAT_TIMEOUT_SECONDS[rule.protocol]),
    persistTimeoutMs: milliseconds(rule.persistTimeoutSeconds || DEFAULT_PERSIST_TIMEOUT_SECONDS),
    enabled: rule.enabled,
    sequence: rule.id, // ids rise with creation
    members,
  };
  compiledRules.set(rule, image);
  return image;
}

const NO_MEMBERS: readonly ImageMember[] = [];
const compiledMembers = new WeakMap<
  RuleOrder,
  { readonly servers: readonly ImageServer[]; readonly list: readonly ImageMember[] }
>();

/** Rules that share an order share the list too, and it stays the same as long as order and servers do. */
function membersOf(
  order: RuleOrder | undefined,
  servers: readonly ImageServer[],
  serverIndexes: ReadonlyMap<number, number>,
): readonly ImageMember[] {
  if (order === undefined) return NO_MEMBERS;
  const known = compiledMembers.get(order);
  if (known?.servers === servers) return known.list;
  const list = Array.from(order.members, ([serverId, { insertSequence, enabledSequence }]) => ({
    server: serverIndexes.get(serverId)!,
    insertSequence,
    enabledSequence,
  })).sort((a, b) => a.insertSequence - b.insertSequence);
  compiledMembers.set(order, { servers, list });
  return list;
}

function compileDrains(drains: Drains, nowMs: number): ImageDrain[] {
  const image: ImageDrain[] = [];
  const deadlines = new Map<DrainingServers, readonly Omit<ImageDrain, "ruleId">[]>();
  for (const [ruleId, { servers }] of drains) {
    const list = upsert(deadlines, servers, () =>
      [...servers].flatMap(([serverId, { deadlineMs }]) =>
        deadlineMs !== null && deadlineFits(deadlineMs, nowMs) ? [{ serverId, deadlineMs }] : [],
      ),
    );
    for (const { serverId, deadlineMs } of list) image.push({ ruleId, serverId, deadlineMs });
  }
  return image;
}

const milliseconds = (seconds: number): number => Math.min(seconds * 1000, MAX_TIMEOUT_MS);
