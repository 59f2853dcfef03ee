/**
 * Which checks a configuration asks for: one for every server of every rule with a health check (specification F.1), and
 * what a change of the configuration touches of them. Pure; knows nothing of results.
 */
import type { Address } from "../model/address.ts";
import { upsert } from "../model/collections.ts";
import type { Config, HealthCheck, PortRange, Protocol, Rule, RuleType, Server } from "../model/config.ts";
import { findById, healthCheckOf } from "../model/lookup.ts";

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

/** A rule with a health check, and the servers that are checked for it. */
export interface CheckedRule {
  readonly rule: Rule;
  readonly check: HealthCheck;
  readonly servers: readonly Server[];
}

/** A rule whose checks may not be what they were. */
export interface TouchedRule extends CheckedRule {
  /** Servers whose checks may be others, new ones among them. */
  readonly changed: readonly Server[];
  /** Servers that are checked no more. */
  readonly gone: readonly Server[];
}

/** The rule's health check, undefined when it has none. */
export const checkOf = (config: Config, ruleId: number): HealthCheck | undefined => {
  const rule = findById(config.rules, ruleId);
  return rule && healthCheckOf(config, rule);
};

/**
 * The rules with a health check in which anything is otherwise than it was, in their order. Objects of a Config are
 * values, so a change costs what it touches; what happens to the servers of a group is found once for all its rules.
 * @param known by rule id, as it was
 */
export function* touchedRules(known: ReadonlyMap<number, CheckedRule>, config: Config): Generator<TouchedRule> {
  const groups = new Map(config.groups.map((group) => [group.id, group]));
  const differences = new Map<readonly Server[], Map<readonly Server[], Pick<TouchedRule, "changed" | "gone">>>();
  for (const rule of config.rules) {
    const check = healthCheckOf(config, rule);
    if (check === undefined) continue;
    const servers = groups.get(rule.groupId)?.servers ?? NO_SERVERS;
    const was = known.get(rule.id);
    const isSameCheck = was?.rule === rule && was.check === check;
    if (isSameCheck && was.servers === servers) continue;
    const before = was?.servers ?? NO_SERVERS;
    const sinceThen = upsert(differences, before, () => new Map());
    const difference = upsert(sinceThen, servers, () => differenceOf(before, servers));
    yield { rule, check, servers, gone: difference.gone, changed: isSameCheck ? difference.changed : servers };
  }
}

const NO_SERVERS: readonly Server[] = [];

const differenceOf = (before: readonly Server[], now: readonly Server[]): Pick<TouchedRule, "changed" | "gone"> => ({
  changed: now.filter((server) => findById(before, server.id) !== server),
  gone: before.filter((server) => findById(now, server.id) === undefined),
});

/** The check of one server in one rule. */
export const planOf = (rule: Rule, server: Server, check: HealthCheck): CheckPlan => ({
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
