/** Lines that make rules, on a host with groups: what tests about rules and about what uses them begin with. */
import { expect } from "bun:test";
import type { Rule } from "../../src/model/config.ts";
import { errorOf, FakeHost, setUp } from "../support/fake-host.ts";

/** What is said about arguments that cannot be. */
export const EINVAL = "ilbadm: invalid argument(s) - see man page\n";

/** A host on which these lines have succeeded. */
export async function hostWith(...lines: string[]): Promise<FakeHost> {
  const host = new FakeHost();
  await setUp(host, ...lines);
  return host;
}

/** A host with group sg1 of IPv4 servers without ports, and v6 of an IPv6 one. */
export const base = () =>
  hostWith("create-sg -s server=192.0.2.10,192.0.2.11 sg1", "create-sg -s server=[2001:db8::10] v6", "create-sg empty");

/** Parts of a create-rule line, as words. */
export interface Parts {
  flags?: string;
  vip?: string;
  port?: string;
  more?: string;
  method?: string;
  health?: string;
  timers?: string;
  group?: string;
  name?: string;
}

/** A create-rule line; only what is given differs from a plain DSR rule. */
export function createRule(parts: Parts = {}): string {
  const { flags = "", vip = "198.51.100.10", port = "80", more = "", method = "type=DSR" } = parts;
  const { health = "", timers = "", group = "sg1", name = "r1" } = parts;
  return `create-rule ${flags} -i vip=${vip},port=${port}${more} -m ${method} ${health} ${timers} -o servergroup=${group} ${name}`;
}

/** The rule that these parts make on the base configuration. */
export async function created(parts: Parts = {}): Promise<Rule> {
  const host = await base();
  await setUp(host, createRule(parts));
  return host.config().rules[0] as Rule;
}

/** What creating it says; nothing must have changed. */
export async function refused(parts: Parts = {}, ...before: string[]): Promise<string> {
  const host = await base();
  await setUp(host, ...before);
  const config = host.config();
  const text = await errorOf(host, createRule(parts));
  expect(host.config()).toBe(config);
  return text;
}
