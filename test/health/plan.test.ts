/** What a change of the configuration touches of its checks: never more than the definition asks for, and never less. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { type CheckedRule, type CheckPlan, checkOf, planOf, touchedRules } from "../../src/health/plan.ts";
import type { Config } from "../../src/model/config.ts";
import { changed, KINDS, someRules } from "../control/config-steps.ts";
import { propertySeed } from "../support/random.ts";

const seed = propertySeed();

/** The checks of a rule by server id. */
interface Followed extends CheckedRule {
  readonly plans: Map<number, CheckPlan>;
}

/** Takes over what a configuration changes, as the monitor does. @returns the (rule, server) pairs that were looked at */
function follow(known: Map<number, Followed>, config: Config): string[] {
  const looked: string[] = [];
  for (const { changed: others, gone, ...checked } of touchedRules(known, config)) {
    const { rule, check } = checked;
    const plans = known.get(rule.id)?.plans ?? new Map<number, CheckPlan>();
    for (const { id } of gone) expect(plans.delete(id)).toBe(true);
    for (const server of others) {
      plans.set(server.id, planOf(rule, server, check));
      looked.push(`${rule.id} ${server.id}`);
    }
    known.set(rule.id, { ...checked, plans });
  }
  for (const ruleId of known.keys()) if (checkOf(config, ruleId) === undefined) known.delete(ruleId);
  return looked;
}

/** All checks that a configuration asks for: the definition. */
const plainPlans = ({ rules, groups, healthChecks }: Config): CheckPlan[] =>
  rules.flatMap((rule) => {
    const check = healthChecks.find(({ id }) => id === rule.healthCheckId);
    const group = groups.find(({ id }) => id === rule.groupId);
    return check === undefined ? [] : group!.servers.map((server) => planOf(rule, server, check));
  });

const inOrder = (plans: Iterable<CheckPlan>): CheckPlan[] =>
  [...plans].sort((a, b) => a.ruleId - b.ruleId || a.serverId - b.serverId);

test(`whatever changes, exactly the checks that the configuration asks for are followed (seed ${seed})`, () => {
  const steps = fc.array(fc.record({ kind: fc.nat(KINDS), pick: fc.nat(40) }), { minLength: 1, maxLength: 14 });
  const property = fc.property(steps, (list) => {
    const all = [someRules()];
    const known = new Map<number, Followed>();
    follow(known, all[0]!);
    for (const { kind, pick } of list) {
      all.push(changed(all.at(-1)!, kind, pick, all[pick % all.length]!));
      follow(known, all.at(-1)!);
      const followed = [...known.values()].flatMap(({ plans }) => [...plans.values()]);
      expect(inOrder(followed)).toEqual(inOrder(plainPlans(all.at(-1)!)));
      expect(follow(known, all.at(-1)!)).toEqual([]);
    }
  });
  fc.assert(property, { seed, numRuns: 300 });
});

test("switching one server or one rule among many looks at its own checks alone", () => {
  const config = someRules();
  const known = new Map<number, Followed>();
  follow(known, config);
  const [a, b] = config.groups;
  const off = { ...a!.servers[2]!, enabled: false };
  const servers = { ...config, groups: [{ ...a!, servers: a!.servers.with(2, off) }, b!] };
  expect(follow(known, servers)).toEqual([`30 ${off.id}`, `31 ${off.id}`]);
  const rules = { ...servers, rules: servers.rules.with(1, { ...servers.rules[1]!, enabled: false }) };
  expect(follow(known, rules)).toEqual(a!.servers.map(({ id }) => `31 ${id}`));
});
