/** What end to end tests of health checks share: rules with quick checks, their results, and who serves. */
import { expect } from "bun:test";
import { type Lab, SERVER_PORT } from "../../src/lab/lab.ts";
import { withPort } from "../../src/lab/topology.ts";
import { type Protocol, type RuleType, targetOf, VIP_PORT, vipOf } from "./e2e.ts";

/** The quickest there is: an event every 1 to 3 seconds. */
export const QUICK = "hc-timeout=1,hc-count=1,hc-interval=2";

export interface CheckedRule {
  readonly type: RuleType;
  /** Of hc-test, and what goes with it: `HTTP,hc-path=/health`. */
  readonly test: string;
  /** Of create-healthcheck. */
  readonly options?: readonly string[];
  readonly protocol?: Protocol;
  /** Of the VIP. */
  readonly port?: number;
  readonly serverPort?: number;
  readonly algorithm?: string;
  readonly name?: string;
  /** The words of -t. */
  readonly timers?: string;
  /** Makes the group, else it is there already. */
  readonly makesGroup?: boolean;
}

/** A rule `www` with a quick check of the same name over all servers, in the group `web`. */
export async function createCheckedRule(lab: Lab, rule: CheckedRule): Promise<void> {
  const { addresses, names } = lab;
  const { type, test, name = "www", port = VIP_PORT, protocol = "tcp", serverPort = SERVER_PORT } = rule;
  const members = names.servers.map((_, index) => withPort(addresses.server(index), serverPort)).join(",");
  const source = lab.topology === "one-armed" ? addresses.localVip : addresses.proxySources;
  const proxy = type === "NAT" ? `,proxy-src=${source}` : "";
  if (rule.makesGroup !== false) await lab.configure("create-servergroup", "-s", `server=${members}`, "web");
  await lab.configure("create-healthcheck", ...(rule.options ?? []), "-h", `hc-test=${test},${QUICK}`, name);
  await lab.configure(
    ...["create-rule", "-e", "-i", `vip=${vipOf(lab)},port=${port},protocol=${protocol}`],
    ...["-m", `lbalg=${rule.algorithm ?? "rr"},type=${type}${proxy}`, "-h", `hc-name=${name}`],
    ...(rule.timers === undefined ? [] : ["-t", rule.timers]),
    ...["-o", "servergroup=web", name],
  );
}

/** STATUS of each server of a rule in the order of addresses. */
export async function statesOf(lab: Lab, rule = "www"): Promise<string[]> {
  const lines = (await lab.configure("show-hc-result", rule)).trimEnd().split("\n").slice(1);
  return lines.map((line) => line.trim().split(/ +/)[3]!);
}

/** Waits until the checks of a rule say so. The test's own time limit ends it. */
export async function reachStates(lab: Lab, wanted: readonly string[], rule = "www"): Promise<void> {
  while ((await statesOf(lab, rule)).join() !== wanted.join()) await Bun.sleep(50);
}

/** Which servers answer `count` requests, none of which may fail. */
export async function serving(lab: Lab, count = 30): Promise<string[]> {
  const result = await lab.client({ kind: "requests", ...targetOf(lab), count, concurrency: 6 });
  expect(result.failures).toEqual([]);
  return Object.keys(result.answered).sort();
}
