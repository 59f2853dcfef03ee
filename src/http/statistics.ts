/**
 * Everything that is counted, as one value: the answer of `statistics`, each event of `statistics/stream`, the source of
 * the dashboard. The counters of show-statistics under their column names, with flows and the engine's reasons beside
 * them. 64-bit counters are bigint.
 */
import { z } from "zod";
import type { StatisticsSample } from "../command/host.ts";
import { VIEW_SCHEMAS } from "../command/view-schemas.ts";
import { statisticsView } from "../command/views.ts";
import { pairKey } from "../control/drain.ts";
import type { HealthEvent } from "../control/health-events.ts";
import type { EngineCounters } from "../engine/engine.ts";
import { REASON_MEANING, REASON_NAMES, REASON_VERDICT, VERDICT_NAMES } from "../gen/layout.ts";

const counter = z.string().describe("64-bit counter; decimal string in JSON, integer in MessagePack");

/** The shape of statisticsOf. */
export const STATISTICS_SCHEMA = VIEW_SCHEMAS.statistics.extend({
  packets_in: counter,
  flows: z.int().describe("connection entries alive"),
  pairs: z
    .array(z.object({ rule: z.string(), server: z.string(), flows: z.int() }))
    .describe("flows of existing rules"),
  fragments_in: counter,
  fragments_dropped: counter,
  reasons: z
    .array(z.object({ reason: z.string(), verdict: z.string(), meaning: z.string(), packets: counter }))
    .describe("where packets ended; reasons that have occurred; sums to packets_in"),
});

/** One event of type `health` on the stream. */
export const HEALTH_EVENT_SCHEMA = z.object({
  time: z.string().describe("RFC 3339 time"),
  kind: z
    .enum(["status", "panic", "calm"])
    .describe("a server's status has changed; the rule begins, or ends, to keep servers that fail (hc-panic)"),
  rule: z.string(),
  server: z.string().nullable().describe("server ID; null for what concerns the rule"),
  from: z.string().nullable().describe("status before"),
  to: z.string().nullable().describe("status after"),
  reason: z.string().nullable().describe("the last failure in words; null: all is well"),
  text: z.string().describe("the same as one line, as the audit log has it"),
});

export const healthEventView = ({ atMs, ...event }: HealthEvent): z.infer<typeof HEALTH_EVENT_SCHEMA> => ({
  time: new Date(atMs).toISOString(),
  kind: event.kind,
  rule: event.rule,
  server: event.server,
  from: event.from,
  to: event.to,
  reason: event.reason,
  text: event.text,
});

/** @param sample the counters of existing rules @param counters those of the whole engine, of the same moment */
export function statisticsOf(sample: StatisticsSample, counters: EngineCounters): Record<string, unknown> {
  return {
    ...statisticsView(sample),
    packets_in: counters.packetsIn,
    flows: totalFlows(counters),
    pairs: flowsOfPairs(sample, counters),
    fragments_in: counters.fragmentsIn,
    fragments_dropped: counters.fragmentsDropped,
    reasons: counters.reasons.flatMap((packets, index) => (packets === 0n ? [] : [{ ...reasonAt(index), packets }])),
  };
}

/** Connection entries alive, those of deleted rules included. */
export const totalFlows = (counters: EngineCounters): number =>
  counters.pairs.reduce((sum, pair) => sum + pair.flows, 0);

/** Flows of every rule and server that exist. */
export function flowsOfPairs(
  sample: StatisticsSample,
  counters: EngineCounters,
): { rule: string; server: string; flows: number }[] {
  const flows = new Map(counters.pairs.map((pair) => [pairKey(pair.ruleId, pair.serverId), pair.flows]));
  return sample.rules.flatMap((rule) =>
    rule.servers.map((server) => ({
      rule: rule.name,
      server: server.name,
      flows: flows.get(pairKey(rule.ruleId, server.serverId)) ?? 0,
    })),
  );
}

/** Name, verdict and meaning of a Reason. */
export function reasonAt(index: number): { reason: string; verdict: string; meaning: string } {
  return {
    reason: REASON_NAMES[index] ?? String(index),
    verdict: VERDICT_NAMES[REASON_VERDICT[index] ?? 0] ?? "",
    meaning: REASON_MEANING[index] ?? "",
  };
}
