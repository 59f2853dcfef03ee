/**
 * Engine counters -> the sample that show-statistics, HTTP and metrics read: only rules and servers that exist, with
 * their names, in the order of listings (rules by creation, servers by address). Pure.
 */
import type { RuleSample, StatisticsSample } from "../command/host.ts";
import { type EngineCounters, RULE_COUNTER_NAMES, type RuleCounterName, type RuleCounters } from "../engine/engine.ts";
import type { Config } from "../model/config.ts";
import { groupOf, serverId, sortedServers } from "../model/lookup.ts";
import { pairKey } from "./drain.ts";

/** @param takenAtMs wall clock, milliseconds since the epoch */
export function statisticsSample(config: Config, counters: EngineCounters, takenAtMs: number): StatisticsSample {
  const byRule = new Map(counters.rules.map((rule) => [rule.ruleId, rule]));
  const byPair = new Map(counters.pairs.map((pair) => [pairKey(pair.ruleId, pair.serverId), pair]));
  const rules = config.rules.map((rule): RuleSample => {
    const group = groupOf(config, rule);
    const servers = sortedServers(group).map((server) => {
      const pair = byPair.get(pairKey(rule.id, server.id));
      return {
        serverId: server.id,
        name: serverId(group, server),
        packets: pair?.packets ?? 0n,
        bytes: pair?.bytes ?? 0n,
      };
    });
    return { ruleId: rule.id, name: rule.name, servers, ...ruleCounters(byRule.get(rule.id)) };
  });
  return { takenAtMs, rules };
}

function ruleCounters(counters: RuleCounters | undefined): Record<RuleCounterName, bigint> {
  const entries = RULE_COUNTER_NAMES.map((name) => [name, counters?.[name] ?? 0n]);
  return Object.fromEntries(entries) as Record<RuleCounterName, bigint>;
}
