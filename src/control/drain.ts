/**
 * Draining: (rule, server) pairs that get no new flows but may still have old ones (specification A.4, E.4). Keeps what
 * guard and engine must go on knowing about removed servers and deleted rules, and the conn-drain deadlines. Pure; the
 * controller asks the engine for flow counts and calls collect(). DSR has no flows, so it never drains.
 */
import type { Config, Rule, Server } from "../model/config.ts";
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

/** By pairKey(rule id, server id). */
export type Drains = ReadonlyMap<string, DrainEntry>;
export const NO_DRAINS: Drains = new Map();

export const pairKey = (ruleId: number, serverId: number): string => `${ruleId}/${serverId}`;

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
  const next = new Map<string, DrainEntry>();
  const newPairs = pairsOf(after, newRules);
  // A pair that has left and comes back (rollback) is a member like any other.
  for (const [key, entry] of previous)
    if (entry.isMember ? !touched.has(entry.rule.id) : !newPairs.has(key)) next.set(key, entry);
  for (const [key, was] of pairsOf(before, oldRules)) {
    const is = newPairs.get(key);
    if (is?.isEffective) continue;
    const running = previous.get(key)?.deadlineMs ?? null;
    // A member that has been out for longer keeps what it has: only the step from effective to not starts the clock.
    const startsNow = was.isEffective || is === undefined;
    const deadlineMs = running ?? (startsNow ? deadline(was.rule, nowMs) : null);
    if (is !== undefined && deadlineMs === null) continue;
    const { rule, server, groupId } = is ?? was;
    next.set(key, { rule, server, groupId, isMember: is !== undefined, deadlineMs });
  }
  return next;
}

/** Without the pairs that have left the configuration and hold no flow any more. Gives `drains` itself if all stay. */
export function collect(drains: Drains, flowCount: (ruleId: number, serverId: number) => number): Drains {
  const kept = [...drains].filter(([, { isMember, rule, server }]) => isMember || flowCount(rule.id, server.id) > 0);
  return kept.length === drains.size ? drains : new Map(kept);
}

/**
 * Without all pairs that hold no flow, also those of members: they get no new ones, so nothing is left for a deadline to
 * cut. Gives `drains` itself if all stay.
 * @param drains of an image that every worker uses
 */
export function withFlows(drains: Drains, flowCount: (ruleId: number, serverId: number) => number): Drains {
  const kept = [...drains].filter(([, { rule, server }]) => flowCount(rule.id, server.id) > 0);
  return kept.length === drains.size ? drains : new Map(kept);
}

/** Pairs that are no longer part of the configuration. */
export const departed = (drains: Drains): DrainEntry[] => [...drains.values()].filter((entry) => !entry.isMember);

/** By group id: numbers that removed servers with live flows still hold. */
export type DrainingNumbers = ReadonlyMap<number, ReadonlySet<number>>;

/** Numbers that removed servers with live flows still hold (specification A.2). */
export function drainingNumbers(
  drains: Drains,
  flowCount: (ruleId: number, serverId: number) => number,
): DrainingNumbers {
  const numbers = new Map<number, Set<number>>();
  for (const { isMember, groupId, rule, server } of drains.values()) {
    if (isMember || flowCount(rule.id, server.id) === 0) continue;
    const taken = numbers.get(groupId);
    if (taken === undefined) numbers.set(groupId, new Set([server.number]));
    else taken.add(server.number);
  }
  return numbers;
}

interface Pair {
  readonly rule: Rule;
  readonly server: Server;
  readonly groupId: number;
  readonly isEffective: boolean;
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
  const left = new Set(departed(previous).map((entry) => entry.rule.id));
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

function pairsOf({ config, runtime }: Situation, rules: readonly Rule[]): Map<string, Pair> {
  const groups = new Map(config.groups.map((group) => [group.id, group]));
  const pairs = new Map<string, Pair>();
  for (const rule of rules) {
    if (rule.type === "DSR") continue;
    const members = runtime.get(rule.id)?.members;
    for (const server of groups.get(rule.groupId)?.servers ?? []) {
      const isEffective = (members?.get(server.id)?.enabledSequence ?? null) !== null;
      pairs.set(pairKey(rule.id, server.id), { rule, server, groupId: rule.groupId, isEffective });
    }
  }
  return pairs;
}

const deadline = (rule: Rule, nowMs: number): number | null =>
  rule.connDrainSeconds === 0 ? null : nowMs + rule.connDrainSeconds * 1000;
