/**
 * Draining: (rule, server) pairs that get no new flows but may still have old ones (specification A.4, E.4). Keeps what
 * guard and engine must go on knowing about removed servers and deleted rules, and the conn-drain deadlines. Pure; the
 * controller asks the engine for flow counts and calls collect(). DSR has no flows, so it never drains.
 *
 * Hundreds of rules may share a group of a thousand servers. What happens to servers is worked out once for all rules to
 * which the same happens, and kept once: a change costs rules plus servers, not their product.
 */
import { upsert } from "../model/collections.ts";
import type { Config, Rule, Server } from "../model/config.ts";
import { findById } from "../model/lookup.ts";
import type { RuleOrder, Runtime } from "./runtime.ts";

/** A server of a rule that gets no new flows of it. */
export interface DrainingServer {
  /** As it was when it was last part of the configuration. */
  readonly server: Server;
  /** It is still a member of the rule (it is disabled or down): nothing but the deadline is kept here. */
  readonly isMember: boolean;
  /** Engine clock, milliseconds, when the last flows are cut; null: they end by themselves. */
  readonly deadlineMs: number | null;
}
/** By server id. */
export type DrainingServers = ReadonlyMap<number, DrainingServer>;

export interface DrainsOfRule {
  /** As it was when it was last part of the configuration. */
  readonly rule: Rule;
  /** At least one. Rules whose servers have come and gone alike share the very map. */
  readonly servers: DrainingServers;
}

/** By rule id. No rule without any. */
export type Drains = ReadonlyMap<number, DrainsOfRule>;
export const NO_DRAINS: Drains = new Map();

/** Whether any pair is like that. What rules share is looked at once. */
export function someDrains(drains: Drains, isSuch: (draining: DrainingServer) => boolean): boolean {
  const lists = new Set(Array.from(drains.values(), ({ servers }) => servers));
  return lists.values().some((servers) => servers.values().some(isSuch));
}

/** A pair as one text, for tables of pairs. */
export const pairKey = (ruleId: number, serverId: number): string => `${ruleId}/${serverId}`;

/** Ids of the servers that hold connections of a rule now. */
export type HoldersOf = (ruleId: number) => ReadonlySet<number>;

export interface Situation {
  readonly config: Config;
  readonly runtime: Runtime;
}

/**
 * The draining pairs after a change. A pair that stops being effective (disabled, down, removed, rule deleted) gets the
 * deadline now + conn-drain if the rule has one; a deadline that already runs is kept; a pair that is effective again
 * has none. Disabling a rule starts nothing.
 * @param nowMs engine clock
 * @returns `previous` itself when nothing drains otherwise than before
 */
export function nextDrains(previous: Drains, before: Situation, after: Situation, nowMs: number): Drains {
  const [sidesBefore, sidesAfter] = [sidesOf(before), sidesOf(after)];
  const shared = new SharedSteps(nowMs);
  const next = new Map<number, DrainsOfRule>();
  let isSame = true;
  const follow = (ruleId: number): void => {
    const known = previous.get(ruleId);
    const drains = nextOfRule(known, sidesBefore(ruleId), sidesAfter(ruleId), shared);
    if (drains !== undefined) next.set(ruleId, drains);
    isSame &&= drains === known;
  };
  for (const ruleId of previous.keys()) follow(ruleId);
  for (const { id } of before.config.rules) if (!previous.has(id)) follow(id);
  return isSame ? previous : next;
}

/** A rule in a situation, with what decides about its servers. */
interface Side {
  readonly rule: Rule;
  /** The servers that it may have flows of. DSR has none. */
  readonly servers: readonly Server[];
  readonly order: RuleOrder | undefined;
}

const NO_SERVERS: readonly Server[] = [];

/** Rules of a situation by id; undefined: it has none of that id. */
function sidesOf({ config, runtime }: Situation): (ruleId: number) => Side | undefined {
  const groups = new Map(config.groups.map((group) => [group.id, group]));
  return (ruleId) => {
    const rule = findById(config.rules, ruleId);
    if (rule === undefined) return undefined;
    const servers = rule.type === "DSR" ? NO_SERVERS : (groups.get(rule.groupId)?.servers ?? NO_SERVERS);
    return { rule, servers, order: runtime.get(ruleId) };
  };
}

/** What drains of one rule. @returns `known` itself when that stays as it is, undefined when nothing drains */
function nextOfRule(
  known: DrainsOfRule | undefined,
  was: Side | undefined,
  is: Side | undefined,
  shared: SharedSteps,
): DrainsOfRule | undefined {
  const isUntouched = was?.servers === is?.servers && was?.order === is?.order;
  if (isUntouched && known === undefined) return undefined;
  const servers = isUntouched ? known!.servers : shared.next({ known: known?.servers, was, is });
  if (servers.size === 0) return undefined;
  const rule = (is ?? was ?? known!).rule;
  return known?.rule === rule && known.servers === servers ? known : { rule, servers };
}

/** What happens to the servers of a rule. */
interface ServerStep {
  readonly known: DrainingServers | undefined;
  readonly was: Side | undefined;
  readonly is: Side | undefined;
}

/** The steps of one change, each worked out once. */
class SharedSteps {
  readonly #nowMs: number;
  readonly #done = new Map<string, DrainingServers>();
  readonly #numbers = new Map<object | undefined, number>();

  /** @param nowMs engine clock */
  constructor(nowMs: number) {
    this.#nowMs = nowMs;
  }

  next(step: ServerStep): DrainingServers {
    const { known, was, is } = step;
    const parts = [known, was?.servers, was?.order, is?.servers, is?.order].map((part) => this.#numberOf(part));
    const key = `${parts.join()} ${was?.rule.connDrainSeconds ?? 0}`;
    return upsert(this.#done, key, () => nextServers(step, this.#nowMs));
  }

  #numberOf(part: object | undefined): number {
    return upsert(this.#numbers, part, () => this.#numbers.size);
  }
}

/** What drains of a rule's servers after a step. */
function nextServers({ known, was, is }: ServerStep, nowMs: number): DrainingServers {
  const next = new Map<number, DrainingServer>();
  // A server that has left and comes back (rollback) is a member like any other.
  for (const [id, draining] of known ?? [])
    if (!draining.isMember && memberOf(is, id) === undefined) next.set(id, draining);
  if (was === undefined) return next;
  for (const server of was.servers) {
    const member = memberOf(is, server.id);
    if (member !== undefined && isEffective(is, server.id)) continue;
    // A member that has been out for longer keeps what it has: only the step from effective to not starts the clock.
    const startsNow = member === undefined || isEffective(was, server.id);
    const deadlineMs = known?.get(server.id)?.deadlineMs ?? (startsNow ? deadline(was.rule, nowMs) : null);
    if (member !== undefined && deadlineMs === null) continue;
    next.set(server.id, { server: member ?? server, isMember: member !== undefined, deadlineMs });
  }
  return next;
}

const memberOf = (side: Side | undefined, serverId: number): Server | undefined =>
  side && findById(side.servers, serverId);

const isEffective = (side: Side | undefined, serverId: number): boolean =>
  (side?.order?.members.get(serverId)?.enabledSequence ?? null) !== null;

const deadline = (rule: Rule, nowMs: number): number | null =>
  rule.connDrainSeconds === 0 ? null : nowMs + rule.connDrainSeconds * 1000;

/** Without the pairs that have left the configuration and hold no flow any more. Gives `drains` itself if all stay. */
export const collect = (drains: Drains, holdersOf: HoldersOf): Drains =>
  kept(drains, holdersOf, ({ isMember }) => isMember);

/**
 * Without all pairs that hold no flow, also those of members: they get no new ones, so nothing is left for a deadline to
 * cut. Gives `drains` itself if all stay.
 * @param drains of an image that every worker uses
 */
export const withFlows = (drains: Drains, holdersOf: HoldersOf): Drains => kept(drains, holdersOf, () => false);

/** The pairs that hold flows, and those that stay without. */
function kept(drains: Drains, holdersOf: HoldersOf, staysEmpty: (draining: DrainingServer) => boolean): Drains {
  const rest = new Map<number, DrainsOfRule>();
  const empty = new Map<DrainingServers, DrainingServers>();
  let isSame = true;
  for (const [ruleId, ofRule] of drains) {
    const holders = holdersOf(ruleId);
    let servers = holders.size === 0 ? empty.get(ofRule.servers) : undefined;
    servers ??= filtered(ofRule.servers, (draining, id) => holders.has(id) || staysEmpty(draining));
    if (holders.size === 0) empty.set(ofRule.servers, servers);
    isSame &&= servers === ofRule.servers;
    if (servers.size > 0) rest.set(ruleId, servers === ofRule.servers ? ofRule : { ...ofRule, servers });
  }
  return isSame ? drains : rest;
}

/** The servers that are wanted; the very map if all are. */
function filtered(servers: DrainingServers, isWanted: (draining: DrainingServer, id: number) => boolean) {
  const wanted = new Map([...servers].filter(([id, draining]) => isWanted(draining, id)));
  return wanted.size === servers.size ? servers : wanted;
}

/** Servers that are no longer part of the configuration in a rule, or with their rule. */
export interface Departed {
  readonly rule: Rule;
  /** At least one. Rules that the same servers have left share the list. */
  readonly servers: readonly Server[];
}

const knownDeparted = new WeakMap<Drains, readonly Departed[]>();

/** What has left, rule by rule; gathered once for the same `drains`. */
export function departed(drains: Drains): readonly Departed[] {
  let all = knownDeparted.get(drains);
  if (all === undefined) {
    all = [...findDeparted(drains)];
    knownDeparted.set(drains, all);
  }
  return all;
}

function* findDeparted(drains: Drains): Generator<Departed> {
  const gathered = new Map<DrainingServers, readonly Server[]>();
  const lastOfGroup = new Map<number, readonly Server[]>();
  for (const { rule, servers } of drains.values()) {
    let gone = gathered.get(servers);
    if (gone === undefined) {
      const list = [...servers.values()].flatMap(({ isMember, server }) => (isMember ? [] : [server]));
      // Rules with histories of their own, which the same servers have left nevertheless.
      const last = lastOfGroup.get(rule.groupId);
      gone = last?.length === list.length && list.every((server, index) => server === last[index]) ? last : list;
      gathered.set(servers, gone);
    }
    if (gone.length === 0) continue;
    lastOfGroup.set(rule.groupId, gone);
    yield { rule, servers: gone };
  }
}

/** By group id: numbers that removed servers with live flows still hold. */
export type DrainingNumbers = ReadonlyMap<number, ReadonlySet<number>>;

/** Numbers that removed servers with live flows still hold (specification A.2). */
export function drainingNumbers(drains: Drains, holdersOf: HoldersOf): DrainingNumbers {
  const numbers = new Map<number, Set<number>>();
  for (const [ruleId, { rule, servers }] of drains) {
    for (const serverId of holdersOf(ruleId)) {
      const draining = servers.get(serverId);
      if (draining === undefined || draining.isMember) continue;
      upsert(numbers, rule.groupId, () => new Set<number>()).add(draining.server.number);
    }
  }
  return numbers;
}
