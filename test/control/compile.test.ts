import { describe, expect, test } from "bun:test";
import { compile, MAX_TIMEOUT_MS, rulesOfInterest, serversInUse } from "../../src/control/compile.ts";
import { NO_DRAINS } from "../../src/control/drain.ts";
import { assignPlaces, NO_PLACES } from "../../src/control/places.ts";
import { EMPTY_RUNTIME, EVERYONE_HEALTHY, nextRuntime } from "../../src/control/runtime.ts";
import type { TableImage } from "../../src/engine/engine.ts";
import { addressKey } from "../../src/model/address.ts";
import type { Config, Rule, Server } from "../../src/model/config.ts";
import { config, group, rule, server, threeServers, v4 } from "./configs.ts";

const NO_INTEREST = { entries: [], vips: [], servers: [], proxies: [], own: [] };

function image(of: Config): TableImage {
  const keys = serversInUse(of, NO_DRAINS).map((s) => addressKey(s.address));
  return compile({
    generation: 7,
    config: of,
    runtime: nextRuntime(EMPTY_RUNTIME, of, EVERYONE_HEALTHY),
    drains: NO_DRAINS,
    ruleSlots: assignPlaces(
      NO_PLACES,
      of.rules.map((r) => String(r.id)),
      7,
    ),
    hopIndexes: assignPlaces(NO_PLACES, keys, 7),
    isLocal: () => false,
    interest: NO_INTEREST,
    nowMs: 0,
  });
}
const oneRule = (extra: Partial<Rule>): Config => ({ ...threeServers(), rules: [rule(5, "r1", 1, extra)] });

describe("defaults are filled in", () => {
  test.each([
    ["tcp", 0, 120_000],
    ["udp", 0, 60_000],
    ["udp", 7, 7000],
    ["tcp", 4_294_967_295, MAX_TIMEOUT_MS],
  ] as const)("nat-timeout of a %s rule given %i is %i ms", (protocol, natTimeoutSeconds, expected) => {
    expect(image(oneRule({ protocol, natTimeoutSeconds })).rules[0]!.natTimeoutMs).toBe(expected);
  });

  test("persist-timeout is 60 s unless given", () => {
    expect(image(oneRule({ stickyMask: 24 })).rules[0]!.persistTimeoutMs).toBe(60_000);
    expect(image(oneRule({ stickyMask: 24, persistTimeoutSeconds: 5 })).rules[0]!.persistTimeoutMs).toBe(5000);
  });
});

test("members point at their servers, in insertion order", () => {
  const made = image(threeServers());
  const [only] = made.rules;
  expect(only!.members.map((m) => made.servers[m.server]!.id)).toEqual([2, 3, 4]);
  expect(only!.members.map((m) => m.insertSequence)).toEqual([0, 1, 2]);
});

test("servers of groups without a rule are not in the image", () => {
  const made = image(config({ groups: [group(1, "g", [server(2, 0, "192.0.2.10")])] }));
  expect(made.servers).toEqual([]);
});

test("interest covers disabled rules, disabled servers and what drains of deleted rules", () => {
  const gone = rule(9, "gone", 8, { vip: v4("198.51.100.99") });
  const old = server(10, 0, "192.0.2.200");
  const servers = new Map([[10, { server: old, isMember: false, deadlineMs: null }]]);
  const drains = new Map([[9, { rule: gone, servers }]]);
  const base = config({
    groups: [group(1, "g", [server(2, 0, "192.0.2.10", { enabled: false })])],
    rules: [rule(5, "r1", 1, { enabled: false })],
  });
  const rules = rulesOfInterest(base, drains);
  expect(rules.map((r) => [r.vip, r.servers.map((s) => s.address)])).toEqual([
    [v4("198.51.100.10"), [v4("192.0.2.10")]],
    [v4("198.51.100.99"), [v4("192.0.2.200")]],
  ]);
});

test("deleted rules that drained the same servers of a group share their list, others do not", () => {
  const [a, b] = [server(10, 0, "192.0.2.1"), server(11, 1, "192.0.2.2")];
  const entry = (of: Server, isMember = false) => [of.id, { server: of, isMember, deadlineMs: null }] as const;
  const ofRule = (id: number, ...entries: ReturnType<typeof entry>[]) =>
    [id, { rule: rule(id, `r${id}`, 8), servers: new Map(entries) }] as const;
  const drains = new Map([
    ofRule(1, entry(a), entry(b)),
    ofRule(2, entry(a), entry(b)),
    ofRule(3, entry(b)),
    ofRule(4, entry(a, true)),
  ]);
  const gone = rulesOfInterest(config({}), drains);
  expect(gone.map(({ servers }) => servers)).toEqual([[a, b], [a, b], [b]]);
  expect(gone[1]!.servers).toBe(gone[0]!.servers);
  expect(serversInUse(config({}), drains)).toEqual([a, b]);
});
