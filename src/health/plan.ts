/**
 * Which checks a configuration asks for: one for every server of every rule with a health check (specification F.1).
 * Pure; knows nothing of results.
 */
import { pairKey } from "../control/drain.ts";
import type { Address } from "../model/address.ts";
import type { Config, HealthCheck, PortRange, Protocol, Rule, RuleType, Server } from "../model/config.ts";

/** One check: all that a probe and its schedule depend on. */
export interface CheckPlan {
  readonly ruleId: number;
  readonly serverId: number;
  readonly check: HealthCheck;
  readonly type: RuleType;
  readonly protocol: Protocol;
  readonly vip: Address;
  readonly server: Address;
  /** The server's own ports, or else the rule's. */
  readonly ports: PortRange;
  readonly port: "ANY" | "ALL" | number;
  /** Rule and server are both enabled by the administrator. */
  readonly isEnabled: boolean;
}

/** @returns the checks by pairKey(rule id, server id), in the order of rules and of servers in their groups */
export function planChecks(config: Config): Map<string, CheckPlan> {
  const checks = new Map(config.healthChecks.map((check) => [check.id, check]));
  const groups = new Map(config.groups.map((group) => [group.id, group]));
  const plans = new Map<string, CheckPlan>();
  for (const rule of config.rules) {
    const check = rule.healthCheckId === null ? undefined : checks.get(rule.healthCheckId);
    if (check === undefined) continue;
    for (const server of groups.get(rule.groupId)?.servers ?? [])
      plans.set(pairKey(rule.id, server.id), planOf(rule, server, check));
  }
  return plans;
}

const planOf = (rule: Rule, server: Server, check: HealthCheck): CheckPlan => ({
  ruleId: rule.id,
  serverId: server.id,
  check,
  type: rule.type,
  protocol: rule.protocol,
  vip: rule.vip,
  server: server.address,
  ports: server.ports ?? rule.ports,
  port: rule.healthCheckPort ?? "ANY",
  isEnabled: rule.enabled && server.enabled,
});

/** Whether a check goes on under the new plan; else it is another check, which starts anew. */
export const isSameCheck = (a: CheckPlan, b: CheckPlan): boolean =>
  a.check.id === b.check.id &&
  a.port === b.port &&
  a.ports.min === b.ports.min &&
  a.ports.max === b.ports.max &&
  a.server.value === b.server.value &&
  a.vip.value === b.vip.value;

/** Ports of one attempt, in ascending order (specification F.4). @param random uniform in [0, 1) */
export function portsOf({ ports, port }: CheckPlan, random: () => number): number[] {
  const size = ports.max - ports.min + 1;
  if (typeof port === "number") return [port];
  if (port === "ALL") return Array.from({ length: size }, (_, index) => ports.min + index);
  return [ports.min + Math.floor(random() * size)];
}
