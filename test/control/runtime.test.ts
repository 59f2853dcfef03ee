import { describe, expect, test } from "bun:test";
import {
  EMPTY_RUNTIME,
  EVERYONE_HEALTHY,
  nextRuntime,
  type RuleOrder,
  type Runtime,
} from "../../src/control/runtime.ts";
import type { Config, Server } from "../../src/model/config.ts";
import { config, group, rule, server } from "./configs.ts";

const withServers = (...servers: Server[]): Config =>
  config({ groups: [group(1, "g", servers)], rules: [rule(5, "r", 1)] });
const a = server(2, 0, "192.0.2.10");
const b = server(3, 1, "192.0.2.11");
const c = server(4, 2, "192.0.2.12");
const off = (s: Server): Server => ({ ...s, enabled: false });

const inserted = (order: RuleOrder): number[] =>
  [...order.members].sort(([, x], [, y]) => x.insertSequence - y.insertSequence).map(([id]) => id);
const enabled = (order: RuleOrder): number[] =>
  [...order.members]
    .filter(([, m]) => m.enabledSequence !== null)
    .sort(([, x], [, y]) => x.enabledSequence! - y.enabledSequence!)
    .map(([id]) => id);
/** The order after a row of configurations. */
const after = (...configs: Config[]): RuleOrder =>
  configs.reduce<Runtime>((runtime, next) => nextRuntime(runtime, next, EVERYONE_HEALTHY), EMPTY_RUNTIME).get(5)!;

describe("insertion order", () => {
  test("a new rule takes its servers by ascending address, whatever order they were added in", () => {
    expect(inserted(after(withServers(c, a, b)))).toEqual([2, 3, 4]);
  });

  test("servers added later go to the end, in the order of adding", () => {
    const early = server(9, 3, "192.0.2.1");
    const late = server(10, 4, "192.0.2.2");
    expect(inserted(after(withServers(b, c), withServers(b, c, late, early)))).toEqual([3, 4, 10, 9]);
  });

  test("removal closes the gap, and a server that comes back comes last", () => {
    const again = server(11, 0, "192.0.2.10");
    expect(inserted(after(withServers(a, b, c), withServers(b, c)))).toEqual([3, 4]);
    expect(inserted(after(withServers(a, b, c), withServers(b, c), withServers(b, c, again)))).toEqual([3, 4, 11]);
  });

  test("rules that are made one after the other over the same servers share one order", () => {
    const one = withServers(a, b, c);
    const two = { ...one, rules: [...one.rules, rule(6, "s", 1, { ports: { min: 81, max: 81 } })] };
    const first = nextRuntime(EMPTY_RUNTIME, one, EVERYONE_HEALTHY);
    const second = nextRuntime(first, two, EVERYONE_HEALTHY);
    expect(second.get(6)).toBe(first.get(5)!);
  });

  test("a restart makes it ascending again", () => {
    expect(inserted(after(withServers(b, c), withServers(b, c, a)))).toEqual([3, 4, 2]);
    expect(inserted(after(withServers(b, c, a)))).toEqual([2, 3, 4]);
  });
});

describe("enabled order", () => {
  test("ILB-295 a server that is enabled again goes to the end of the enabled order and keeps its insertion place", () => {
    const order = after(withServers(a, b, c), withServers(a, off(b), c), withServers(a, b, c));
    expect(enabled(order)).toEqual([2, 4, 3]);
    expect(inserted(order)).toEqual([2, 3, 4]);
  });

  test("ILB-254 enabling the enabled changes no place", () => {
    expect(enabled(after(withServers(a, b), withServers({ ...a }, b)))).toEqual([2, 3]);
  });

  test("ILB-256 a rule created on a disabled server gives it no place in the enabled order", () => {
    expect(enabled(after(withServers(a, off(b), c)))).toEqual([2, 4]);
  });

  test("health takes a server out in its rule only, and back at the end", () => {
    const two = config({
      groups: [group(1, "g", [a, b])],
      rules: [rule(5, "r", 1), rule(6, "s", 1, { ports: { min: 81, max: 81 } })],
    });
    const sick = new Map([[5, new Set([2])]]);
    const first = nextRuntime(EMPTY_RUNTIME, two, EVERYONE_HEALTHY);
    const second = nextRuntime(first, two, sick);
    expect(enabled(second.get(5)!)).toEqual([3]);
    expect(enabled(second.get(6)!)).toEqual([2, 3]);
    expect(enabled(nextRuntime(second, two, EVERYONE_HEALTHY).get(5)!)).toEqual([3, 2]);
  });

  test("a rule of the same name created anew starts anew", () => {
    const order = after(withServers(b, c), withServers(b, c, a), config({ groups: [group(1, "g", [b, c, a])] }));
    expect(order).toBeUndefined();
    expect(inserted(after(withServers(b, c), config({}), withServers(b, c, a)))).toEqual([2, 3, 4]);
  });
});
