/** A change of health in words and names, for logs. Pure. */
import type { Config } from "../model/config.ts";
import { serverId } from "../model/lookup.ts";
import type { PanicChange, Transition } from "./monitor.ts";

/** @returns names as the configuration has them, and one line: `health of _sg1.0 in r1: alive -> dead (timeout after 2 s)` */
export function describeTransition(
  { plan, from, to, reason }: Transition,
  config: Config,
): { rule: string; server: string; text: string } {
  const rule = config.rules.find((one) => one.id === plan.ruleId);
  const group = config.groups.find((one) => one.id === rule?.groupId);
  const member = group?.servers.find((one) => one.id === plan.serverId);
  // Gone from the configuration in this very moment: its numbers have to do.
  const ruleName = rule?.name ?? String(plan.ruleId);
  const server = group && member ? serverId(group, member) : String(plan.serverId);
  const why = reason === null ? "" : ` (${reason})`;
  return { rule: ruleName, server, text: `health of ${server} in ${ruleName}: ${from} -> ${to}${why}` };
}

/** @returns the rule's name, and one line: `health in r1: 2 of 3 servers fail, all are kept (hc-panic=50)` */
export function describePanic({ ruleId, panic }: PanicChange, config: Config): { rule: string; text: string } {
  const rule = config.rules.find((one) => one.id === ruleId)?.name ?? String(ruleId);
  if (panic === null) return { rule, text: `health in ${rule}: failing servers are no longer kept` };
  const { failing, servers, percent } = panic;
  return { rule, text: `health in ${rule}: ${failing} of ${servers} servers fail, all are kept (hc-panic=${percent})` };
}
