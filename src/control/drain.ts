/**
 * Draining: (rule, server) pairs that get no new flows but may still have old ones (specification A.4, E.4). Keeps what
 * guard and engine must go on knowing about removed servers and deleted rules, and the conn-drain deadlines. Pure; the
 * controller asks the engine for flow counts and calls collect(). DSR has no flows, so it never drains.
 */
import type { Config, Rule, Server } from "../model/config.ts";
import { findById } from "../model/lookup.ts";
import type { Runtime } from "./runtime.ts";

export interface DrainEntry {
  /** The rule as it was when the pair was last part of the configuration. */
  readonly rule: Rule;
  /** The server likewise. */
  readonly server: Server;
  readonly groupId: number;
  /** The server is still a member of the rule (it is disabled or down): nothing but the deadline is kept here. */
  readonly isMember: boolean;
  /** Engine clock, milliseconds, when the last flows are cut; null: they end by themselves. */
  readonly deadlineMs: number | null;
}

/** By rule id, then by server id: a whole configuration that goes is a million pairs. No rule without any. */
export type Drains = ReadonlyMap<number, ReadonlyMap<number, DrainEntry>>;
export const NO_DRAINS: Drains = new Map();

/** All draining pairs, rule by rule. */
export function* drainEntries(drains: Drains): Generator<DrainEntry, void, undefined> {
  for (const ofRule of drains.values()) yield* ofRule.values();
}

function put(drains: Map<number, Map<number, DrainEntry>>, entry: DrainEntry): void {
  const ofRule = drains.get(entry.rule.id);
  if (ofRule === undefined) drains.set(entry.rule.id, new Map([[entry.server.id, entry]]));
  else ofRule.set(entry.server.id, entry);
}

/** The pairs that are wanted; `drains` itself if all are. */
function kept(drains: Drains, isWanted: (entry: DrainEntry) => boolean): Drains {
  const rest = new Map<number, Map<number, DrainEntry>>();
  let isLess = false;
  for (const entry of drainEntries(drains)) {
    if (isWanted(entry)) put(rest, entry);
    else isLess = true;
  }
  return isLess ? rest : drains;
}

/** A pair as one text, for tables of pairs. */
export const pairKey = (ruleId: number, serverId: number): string => `${ruleId}/${serverId}`;

/** Connections that a pair holds now. */
export type FlowCount = (ruleId: number, serverId: number) => number;

export interface Situation {
  readonly config: Config;
  readonly runtime: Runtime;
}

/**
 * The draining pairs after a change. A pair that stops being effective (disabled, down, removed, rule deleted) gets the
 * deadline now + conn-drain if the rule has one; a deadline that already runs is kept; a pair that is effective again
 * has none. Disabling a rule starts nothing.
 * @param nowMs engine clock
 */
export function nextDrains(previous: Drains, before: Situation, after: Situation, nowMs: number): Drains {
  const { was: oldRules, is: newRules } = touchedRules(previous, before, after);
  if (oldRules.length === 0 && newRules.length === 0) return previous;
  const touched = new Set(oldRules.map((rule) => rule.id));
  const next = new Map<number, Map<number, DrainEntry>>();
  const now = new Map(newRules.map((rule) => [rule.id, rule]));
  // A pair that has left and comes back (rollback) is a member like any other.
  for (const entry of drainEntries(previous)) {
    const { rule, server } = entry;
    const stays = entry.isMember ? !touched.has(rule.id) : pairOf(after, now.get(rule.id), server.id) === null;
    if (stays) put(next, entry);
  }
  for (const rule of oldRules) {
    const is = now.get(rule.id);
    for (const server of serversOf(before, rule)) {
      const entry = nextEntry(
        previous,
        isEffective(before, rule, server),
        { rule, server },
        pairOf(after, is, server.id),
        nowMs,
      );
      if (entry !== null) put(next, entry);
    }
  }
  return next;
}

interface Pair {
  readonly rule: Rule;
  readonly server: Server;
}

/** What is to be kept of a pair of a rule that has changed. @param is the pair now, null when it is none any more */
function nextEntry(
  previous: Drains,
  wasEffective: boolean,
  was: Pair,
  is: (Pair & { readonly isEffective: boolean }) | null,
  nowMs: number,
): DrainEntry | null {
  if (is?.isEffective) return null;
  const running = previous.get(was.rule.id)?.get(was.server.id)?.deadlineMs ?? null;
  // A member that has been out for longer keeps what it has: only the step from effective to not starts the clock.
  const startsNow = wasEffective || is === null;
  const deadlineMs = running ?? (startsNow ? deadline(was.rule, nowMs) : null);
  if (is !== null && deadlineMs === null) return null;
  const { rule, server } = is ?? was;
  return { rule, server, groupId: rule.groupId, isMember: is !== null, deadlineMs };
}

/** Without the pairs that have left the configuration and hold no flow any more. Gives `drains` itself if all stay. */
export const collect = (drains: Drains, flowCount: FlowCount): Drains =>
  kept(drains, ({ isMember, rule, server }) => isMember || flowCount(rule.id, server.id) > 0);

/**
 * Without all pairs that hold no flow, also those of members: they get no new ones, so nothing is left for a deadline to
 * cut. Gives `drains` itself if all stay.
 * @param drains of an image that every worker uses
 */
export const withFlows = (drains: Drains, flowCount: FlowCount): Drains =>
  kept(drains, ({ rule, server }) => flowCount(rule.id, server.id) > 0);

/** Servers that are no longer part of the configuration in a rule, or with their rule. */
export interface Departed {
  readonly rule: Rule;
  /** At least one. Rules of a group that the same servers have left share the list. */
  readonly servers: readonly Server[];
}

const known = new WeakMap<Drains, readonly Departed[]>();

/** What has left, rule by rule; gathered once for the same `drains`. */
export function departed(drains: Drains): readonly Departed[] {
  let all = known.get(drains);
  if (all === undefined) {
    all = [...findDeparted(drains)];
    known.set(drains, all);
  }
  return all;
}

function* findDeparted(drains: Drains): Generator<Departed> {
  const lastOfGroup = new Map<number, readonly Server[]>();
  for (const ofRule of drains.values()) {
    const gone = [...ofRule.values()].filter((entry) => !entry.isMember);
    const first = gone[0];
    if (first === undefined) continue;
    const last = lastOfGroup.get(first.groupId);
    const isSame = last?.length === gone.length && gone.every(({ server }, index) => server === last[index]);
    const servers = isSame ? last : gone.map(({ server }) => server);
    lastOfGroup.set(first.groupId, servers);
    yield { rule: first.rule, servers };
  }
}

/** By group id: numbers that removed servers with live flows still hold. */
export type DrainingNumbers = ReadonlyMap<number, ReadonlySet<number>>;

/** Numbers that removed servers with live flows still hold (specification A.2). */
export function drainingNumbers(drains: Drains, flowCount: FlowCount): DrainingNumbers {
  const numbers = new Map<number, Set<number>>();
  for (const { isMember, groupId, rule, server } of drainEntries(drains)) {
    if (isMember || flowCount(rule.id, server.id) === 0) continue;
    const taken = numbers.get(groupId);
    if (taken === undefined) numbers.set(groupId, new Set([server.number]));
    else taken.add(server.number);
  }
  return numbers;
}

/**
 * Rules whose pairs may have changed, as they were and as they are, and new ones that held pairs before (rollback); the
 * others need no look.
 */
function touchedRules(
  previous: Drains,
  before: Situation,
  after: Situation,
): { readonly was: readonly Rule[]; readonly is: readonly Rule[] } {
  const groupsBefore = new Map(before.config.groups.map((group) => [group.id, group]));
  const groupsAfter = new Map(after.config.groups.map((group) => [group.id, group]));
  const rulesBefore = new Map(before.config.rules.map((rule) => [rule.id, rule]));
  const rulesAfter = new Map(after.config.rules.map((rule) => [rule.id, rule]));
  const isTouched = (was: Rule, is: Rule): boolean =>
    was !== is ||
    groupsBefore.get(was.groupId)?.servers !== groupsAfter.get(is.groupId)?.servers ||
    before.runtime.get(was.id) !== after.runtime.get(is.id);
  const left = new Set(departed(previous).map(({ rule }) => rule.id));
  return {
    was: before.config.rules.filter((rule) => {
      const now = rulesAfter.get(rule.id);
      return now === undefined || isTouched(rule, now);
    }),
    is: after.config.rules.filter((rule) => {
      const was = rulesBefore.get(rule.id);
      return was === undefined ? left.has(rule.id) : isTouched(was, rule);
    }),
  };
}

/** The servers that a rule may have flows of. DSR has none. */
const serversOf = ({ config }: Situation, rule: Rule): readonly Server[] =>
  rule.type === "DSR" ? [] : (findById(config.groups, rule.groupId)?.servers ?? []);

const isEffective = ({ runtime }: Situation, rule: Rule, server: Server): boolean =>
  (runtime.get(rule.id)?.members.get(server.id)?.enabledSequence ?? null) !== null;

/** The pair of a rule, null when it has no such server. */
function pairOf(
  situation: Situation,
  rule: Rule | undefined,
  serverId: number,
): (Pair & { readonly isEffective: boolean }) | null {
  const server = rule && findById(serversOf(situation, rule), serverId);
  return rule && server ? { rule, server, isEffective: isEffective(situation, rule, server) } : null;
}

const deadline = (rule: Rule, nowMs: number): number | null =>
  rule.connDrainSeconds === 0 ? null : nowMs + rule.connDrainSeconds * 1000;
