/** What drains: against its definition pair by pair, and that rules share what happens to all of them alike. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { collect, type Drains, NO_DRAINS, nextDrains, type Situation, withFlows } from "../../src/control/drain.ts";
import { EMPTY_RUNTIME, EVERYONE_HEALTHY, type HealthView, nextRuntime } from "../../src/control/runtime.ts";
import type { Config, Server } from "../../src/model/config.ts";
import { propertySeed } from "../support/random.ts";
import { changed, KINDS, someRules } from "./config-steps.ts";

const seed = propertySeed();

interface Pair {
  readonly ruleId: number;
  readonly server: Server;
  readonly isMember: boolean;
  readonly deadlineMs: number | null;
}
type Pairs = ReadonlyMap<string, Pair>;

const keyOf = (ruleId: number, serverId: number): string => `${ruleId} ${serverId}`;

/** All pairs, by rule and server. */
const pairsOf = (drains: Drains): Pairs =>
  new Map(
    [...drains].flatMap(([ruleId, { servers }]) =>
      [...servers].map(([serverId, draining]) => [keyOf(ruleId, serverId), { ruleId, ...draining }] as const),
    ),
  );

/** The server of a rule that may have flows of it, if it is one. */
function memberOf({ config: of }: Situation, ruleId: number, serverId: number): Server | undefined {
  const found = of.rules.find(({ id, type }) => id === ruleId && type !== "DSR");
  return of.groups.find(({ id }) => id === found?.groupId)?.servers.find(({ id }) => id === serverId);
}

const isEffective = ({ runtime }: Situation, ruleId: number, serverId: number): boolean =>
  (runtime.get(ruleId)?.members.get(serverId)?.enabledSequence ?? null) !== null;

/** What is to be kept of one pair: the definition, slow and obvious. */
function plainPair(
  known: Pair | undefined,
  before: Situation,
  after: Situation,
  [ruleId, serverId]: readonly [number, number],
  nowMs: number,
): Pair | undefined {
  const [was, is] = [memberOf(before, ruleId, serverId), memberOf(after, ruleId, serverId)];
  if (was === undefined) return is === undefined ? known : undefined;
  if (is !== undefined && isEffective(after, ruleId, serverId)) return undefined;
  const seconds = before.config.rules.find(({ id }) => id === ruleId)!.connDrainSeconds;
  const starts = seconds > 0 && (is === undefined || isEffective(before, ruleId, serverId));
  const deadlineMs = known?.deadlineMs ?? (starts ? nowMs + seconds * 1000 : null);
  if (is !== undefined && deadlineMs === null) return undefined;
  return { ruleId, server: is ?? was, isMember: is !== undefined, deadlineMs };
}

function plainDrains(previous: Pairs, before: Situation, after: Situation, nowMs: number): Pairs {
  const places = new Map([...previous].map(([key, pair]) => [key, [pair.ruleId, pair.server.id] as const]));
  for (const { id, groupId } of before.config.rules)
    for (const one of before.config.groups.find((candidate) => candidate.id === groupId)?.servers ?? [])
      places.set(keyOf(id, one.id), [id, one.id]);
  const next = new Map<string, Pair>();
  for (const [key, place] of places) {
    const pair = plainPair(previous.get(key), before, after, place, nowMs);
    if (pair !== undefined) next.set(key, pair);
  }
  return next;
}

/** Servers that checks keep out of rules. */
const healthOf = (downs: readonly (readonly [number, number])[]): HealthView =>
  new Map([...Map.groupBy(downs, ([ruleId]) => ruleId)].map(([id, list]) => [id, new Set(list.map(([, s]) => s))]));

test(`whatever happens to rules, servers and health, every pair drains as defined (seed ${seed})`, () => {
  const down = fc.tuple(fc.integer({ min: 30, max: 34 }), fc.integer({ min: 10, max: 23 }));
  const step = fc.record({
    kind: fc.nat(KINDS),
    pick: fc.nat(40),
    downs: fc.oneof(
      { weight: 3, arbitrary: fc.constant([]) },
      { weight: 1, arbitrary: fc.array(down, { maxLength: 3 }) },
    ),
    afterMs: fc.nat(9000),
  });
  const property = fc.property(fc.array(step, { minLength: 1, maxLength: 14 }), (steps) => {
    const all = [someRules()];
    let before: Situation = { config: all[0]!, runtime: nextRuntime(EMPTY_RUNTIME, all[0]!, EVERYONE_HEALTHY) };
    let drains = NO_DRAINS;
    let plain: Pairs = new Map();
    let nowMs = 1000;
    for (const { kind, pick, downs, afterMs } of steps) {
      nowMs += afterMs;
      const next = changed(before.config, kind, pick, all[pick % all.length]!);
      all.push(next);
      const after = { config: next, runtime: nextRuntime(before.runtime, next, healthOf(downs)) };
      drains = nextDrains(drains, before, after, nowMs);
      plain = plainDrains(plain, before, after, nowMs);
      before = after;
      expect(pairsOf(drains)).toEqual(new Map(plain));
      expect(drains.values().every(({ servers }) => servers.size > 0)).toBe(true);
      expect(nextDrains(drains, after, after, nowMs)).toBe(drains);
    }
  });
  fc.assert(property, { seed, numRuns: 300 });
});

const situation = (of: Config, health = EVERYONE_HEALTHY): Situation => ({
  config: of,
  runtime: nextRuntime(EMPTY_RUNTIME, of, health),
});

test("a server that goes from a group of hundreds of rules is kept once, not once for every rule", () => {
  const before = situation(someRules());
  const [a, b] = before.config.groups;
  const without = { ...before.config, groups: [{ ...a!, servers: a!.servers.slice(1) }, b!] };
  const after = { config: without, runtime: nextRuntime(before.runtime, without, EVERYONE_HEALTHY) };
  const drains = nextDrains(NO_DRAINS, before, after, 1000);
  expect([...drains.keys()]).toEqual([30, 31, 32]);
  expect(drains.get(31)!.servers).toBe(drains.get(30)!.servers);
  // Without conn-drain something else happens to it.
  expect(drains.get(32)!.servers).not.toBe(drains.get(30)!.servers);

  const idle = collect(drains, (ruleId) => new Set(ruleId === 31 ? [10] : []));
  expect([...idle.keys()]).toEqual([31]);
});

test("pairs without flows go, those of members only when nothing is left for their deadlines to cut", () => {
  const before = situation(someRules());
  const after = situation(before.config, healthOf([[30, 11]]));
  const down = nextDrains(NO_DRAINS, before, after, 1000);
  expect([...pairsOf(down).values()]).toMatchObject([{ ruleId: 30, isMember: true, deadlineMs: 6000 }]);
  expect(collect(down, () => new Set())).toBe(down);
  expect(withFlows(down, () => new Set([11]))).toBe(down);
  expect(withFlows(down, () => new Set([12])).size).toBe(0);
});
