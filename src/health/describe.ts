/** Changes of health in names and words, as logs, audit log and streams have them. Pure. */
import type { HealthEvent } from "../control/health-events.ts";
import type { Config } from "../model/config.ts";
import { judgingOf } from "../model/health-judging.ts";
import { findById, groupOf, serverId } from "../model/lookup.ts";
import type { PanicChange, Transition } from "./monitor.ts";

/** @param config for names @returns `text`: `health of _sg1.0 in r1: alive -> dead (timeout after 2 s)` */
export function transitionEvent({ plan, from, to, reason }: Transition, config: Config, atMs: number): HealthEvent {
  const rule = findById(config.rules, plan.ruleId);
  const group = rule && groupOf(config, rule);
  const member = group && findById(group.servers, plan.serverId);
  // Gone from the configuration in this very moment: its numbers have to do.
  const ruleName = rule?.name ?? String(plan.ruleId);
  const server = group && member ? serverId(group, member) : String(plan.serverId);
  const why = reason === null ? "" : ` (${reason})`;
  const text = `health of ${server} in ${ruleName}: ${from} -> ${to}${why}`;
  return { atMs, kind: "status", rule: ruleName, server, from, to, reason, text };
}

/** @returns `text`: `health in r1: 2 of 3 servers fail, all are kept (hc-panic=50)` */
export function panicEvent({ ruleId, panic }: PanicChange, config: Config, atMs: number): HealthEvent {
  const rule = findById(config.rules, ruleId)?.name ?? String(ruleId);
  const ofRule = { atMs, rule, server: null, from: null, to: null };
  if (panic === null) {
    const text = `health in ${rule}: failing servers are no longer kept`;
    return { ...ofRule, kind: "calm", reason: null, text };
  }
  const { failing, servers, percent } = panic;
  const reason = `${failing} of ${servers} servers fail`;
  return { ...ofRule, kind: "panic", reason, text: `health in ${rule}: ${reason}, all are kept (hc-panic=${percent})` };
}

/** Whether others should hear of it: a server that is found as it was taken for is no event. */
export const isEvent = ({ plan, from, to }: Transition): boolean =>
  from !== "un-init" || to !== "alive" || judgingOf(plan.check).initial === "down";
