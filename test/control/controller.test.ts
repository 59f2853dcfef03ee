import { describe, expect, test } from "bun:test";
import type { Caller } from "../../src/control/caller.ts";
import { type Config, EMPTY_CONFIG } from "../../src/model/config.ts";
import { fail, ok } from "../../src/model/result.ts";
import { config, group, rule, server, threeServers, v4 } from "./configs.ts";
import { FakeWorld, type Step, settled } from "./fakes.ts";

const alice: Caller = { name: "uid 1000 (alice)", rights: new Set(["config"]) };
const WHOLE_CHANGE = (generation: number, hops: string): string[] => [
  "check",
  `stage ${generation}`,
  "widen",
  `watch ${hops}`,
  "save",
  `publish ${generation}`,
  `adopted ${generation}`,
  `watch ${hops}`,
  "narrow",
];

async function running(saved: Config = threeServers()) {
  const world = new FakeWorld();
  const controller = world.controller(saved);
  expect(await controller.start()).toEqual(ok(undefined));
  world.taken();
  return { world, controller, host: controller.hostFor(alice) };
}

/** threeServers() without the server of this id. */
function without(config: Config, serverId: number): Config {
  const groups = config.groups.map((g) => ({ ...g, servers: g.servers.filter((s) => s.id !== serverId) }));
  return { ...config, groups };
}
function withServer(config: Config, serverId: number, extra: { enabled: boolean }): Config {
  const groups = config.groups.map((g) => ({
    ...g,
    servers: g.servers.map((s) => (s.id === serverId ? { ...s, ...extra } : s)),
  }));
  return { ...config, groups };
}

describe("a change goes through its steps in order", () => {
  test("check, stage, widen, save, publish, adopt, narrow", async () => {
    const { world, host } = await running(EMPTY_CONFIG);
    expect(await host.transact("import-config -", () => ok(threeServers()))).toEqual(ok(undefined));
    expect(world.taken()).toEqual(WHOLE_CHANGE(2, "0,1,2"));
    expect(world.saved).toEqual(threeServers());
    expect(world.changes).toEqual([{ atMs: world.clock.wallMs(), who: alice.name, command: "import-config -" }]);
  });

  test("start publishes the saved configuration and saves nothing", async () => {
    const world = new FakeWorld();
    await world.controller(threeServers()).start();
    expect(world.taken()).toEqual(WHOLE_CHANGE(1, "0,1,2").filter((call) => call !== "save"));
    expect(world.image!.rules.map((r) => r.id)).toEqual([5]);
  });

  test("a change that changes nothing is audited and publishes nothing", async () => {
    const { world, host } = await running();
    expect(await host.transact("enable-rule r1", (current) => ok(current))).toEqual(ok(undefined));
    expect(world.taken()).toEqual([]);
    expect(world.audits.at(-1)).toMatchObject({ command: "enable-rule r1", result: "ok", who: alice.name });
  });

  test("ILB-226 changes never overlap: each sees the result of the one before", async () => {
    const { host, controller } = await running();
    const seen: number[] = [];
    await Promise.all(
      Array.from({ length: 20 }, () =>
        host.transact("x", (current) => {
          seen.push(current.nextId);
          return ok({ ...current, nextId: current.nextId + 1 });
        }),
      ),
    );
    expect(seen).toEqual(Array.from({ length: 20 }, (_, i) => 1000 + i));
    expect(controller.config().nextId).toBe(1020);
  });
});

describe("a step that fails leaves everything as before", () => {
  const cases: { step: Step; code: string; calls: string[] }[] = [
    { step: "check", code: "E-EINVAL", calls: ["check"] },
    { step: "stage", code: "E-NOMEM", calls: ["check", "stage 2"] },
    { step: "widen", code: "E-INTERNAL", calls: ["check", "stage 2", "widen", "discard 2", "watch 0,1,2", "narrow"] },
    {
      step: "save",
      code: "E-CFG",
      calls: ["check", "stage 2", "widen", "watch 0,1,2,3", "save", "discard 2", "watch 0,1,2", "narrow"],
    },
  ];
  const bigger = (): Config => {
    const base = threeServers();
    const added = server(50, 3, "192.0.2.99");
    return { ...base, groups: [{ ...base.groups[0]!, servers: [...base.groups[0]!.servers, added] }] };
  };
  test.each(cases)("ILB-109 $step fails with $code", async ({ step, code, calls }) => {
    const { world, controller, host } = await running();
    const { image, interest } = { image: world.image, interest: world.interest };
    world.failAt.add(step);
    const result = await host.transact("add-server", () => ok(bigger()));
    expect(result.ok ? "ok" : result.failure.code).toBe(code);
    expect(world.taken()).toEqual(calls);
    expect(controller.config()).toEqual(threeServers());
    expect(world.saved).toEqual(threeServers());
    expect(world.image).toBe(image);
    expect(world.interest).toEqual(interest);
    expect(world.audits.at(-1)).toMatchObject({ result: code, command: "add-server" });

    world.failAt.clear();
    expect(await host.transact("add-server", () => ok(bigger()))).toEqual(ok(undefined));
    expect(world.taken()).toEqual(WHOLE_CHANGE(2, "0,1,2,3"));
  });

  test("a change that refuses itself touches nothing", async () => {
    const { world, host } = await running();
    expect(await host.transact("delete-rule x", () => fail("E-ENORULE", "no"))).toEqual(fail("E-ENORULE", "no"));
    expect(world.taken()).toEqual([]);
    expect(world.audits.at(-1)).toMatchObject({ result: "E-ENORULE" });
  });

  test("a bug in a change rejects, and the next change works", async () => {
    const { host } = await running();
    const broken = host.transact("x", () => {
      throw new TypeError("bug");
    });
    await expect(broken).rejects.toThrow("bug");
    expect(await host.transact("x", (current) => ok({ ...current, nextId: 2000 }))).toEqual(ok(undefined));
  });

  test("a worker that does not move on leaves the guard wide and places unused", async () => {
    const { world, host } = await running();
    world.failAt.add("adopt");
    expect(await host.transact("remove-server", (current) => ok(without(current, 2)))).toEqual(ok(undefined));
    expect(world.taken()).not.toContain("narrow");
    world.failAt.clear();
    await host.transact("add", (current) => ok({ ...current, nextId: 3000 }));
    expect(world.taken()).toContain("narrow");
  });
});

describe("draining", () => {
  const key = "5/2";
  const withDrain = (seconds: number): Config => {
    const base = threeServers();
    return { ...base, rules: [rule(5, "r1", 1, { connDrainSeconds: seconds })] };
  };

  test("a removed server with flows stays known to guard and engine until the last flow has gone", async () => {
    const { world, host } = await running();
    world.flowCounts.set(key, 3);
    await host.transact("remove-server", (current) => ok(without(current, 2)));
    expect(world.image!.servers.map((s) => s.id)).toContain(2);
    expect(world.image!.rules[0]!.members).toHaveLength(2);
    expect(world.interest!.servers).toContainEqual(v4("192.0.2.10"));
    await world.clock.advance(5000);
    expect(world.image!.servers.map((s) => s.id)).toContain(2);
    world.flowCounts.delete(key);
    await world.clock.advance(1000);
    expect(world.image!.servers.map((s) => s.id)).not.toContain(2);
    expect(world.interest!.servers).not.toContainEqual(v4("192.0.2.10"));
    expect(world.clock.pending).toBe(0);
  });

  test("a deleted rule with flows leaves the tables, its interest stays until they have gone", async () => {
    const { world, host } = await running();
    world.flowCounts.set(key, 1);
    await host.transact("delete-rule", (current) => ok({ ...current, rules: [], groups: [] }));
    expect(world.image!.rules).toEqual([]);
    expect(world.interest!.vips).toEqual([v4("198.51.100.10")]);
    await world.clock.advance(20);
    expect(world.interest!.servers).toEqual([v4("192.0.2.10")]);
    world.flowCounts.clear();
    await world.clock.advance(1000);
    expect(world.interest).toEqual({ entries: [], vips: [], servers: [], proxies: [], own: [] });
  });

  test("ILB-041 ILB-044 a number is free at once without connection entries and kept while there are some", async () => {
    const { world, host } = await running();
    await host.transact("remove-server", (current) => ok(without(current, 4)));
    expect(host.changeContext().drainingNumbers(1)).toEqual(new Set());
    world.flowCounts.set(key, 1);
    await host.transact("remove-server", (current) => ok(without(current, 2)));
    expect(host.changeContext().drainingNumbers(1)).toEqual(new Set([0]));
    expect(host.changeContext().drainingNumbers(77)).toEqual(new Set());
  });

  test("conn-drain sets the deadline at the step to disabled, keeps it through removal, and enabling cancels it", async () => {
    const { world, host } = await running(withDrain(30));
    world.flowCounts.set(key, 1);
    const start = world.clock.nowMs();
    await host.transact("disable-server", (current) => ok(withServer(current, 2, { enabled: false })));
    const expected = [{ ruleId: 5, serverId: 2, deadlineMs: start + 30_000 }];
    expect(world.image!.drains).toEqual(expected);
    await world.clock.advance(10_000);
    await host.transact("enable-server", (current) => ok(withServer(current, 2, { enabled: true })));
    expect(world.image!.drains).toEqual([]);
    const again = world.clock.nowMs();
    await host.transact("disable-server", (current) => ok(withServer(current, 2, { enabled: false })));
    await world.clock.advance(5000);
    await host.transact("remove-server", (current) => ok(without(current, 2)));
    expect(world.image!.drains).toEqual([{ ruleId: 5, serverId: 2, deadlineMs: again + 30_000 }]);
  });

  test("deleting a rule starts all its deadlines at once; disabling it starts none", async () => {
    const { world, host } = await running(withDrain(30));
    for (const id of [2, 3, 4]) world.flowCounts.set(`5/${id}`, 1);
    await host.transact("disable-rule", (current) =>
      ok({ ...current, rules: [{ ...current.rules[0]!, enabled: false }] }),
    );
    expect(world.image!.drains).toEqual([]);
    const start = world.clock.nowMs();
    await host.transact("delete-rule", (current) => ok({ ...current, rules: [] }));
    expect(world.image!.drains.map((d) => d.deadlineMs)).toEqual([start + 30_000, start + 30_000, start + 30_000]);
  });

  test("a deadline beyond the engine's 32-bit clock is compiled in when it has come near", async () => {
    const days = 30;
    const { world, host } = await running(withDrain(days * 86_400));
    world.flowCounts.set(key, 1);
    await host.transact("disable-server", (current) => ok(withServer(current, 2, { enabled: false })));
    expect(world.image!.drains).toEqual([]);
    expect(world.clock.pending).toBe(1);
    const target = world.clock.nowMs() + days * 86_400_000;
    // Not by polling a month: one far jump, then the poll that is due.
    world.clock["timeMs" as never] = (target - 0x7fff_0000) as never;
    await world.clock.advance(2000);
    expect(world.image!.drains).toEqual([{ ruleId: 5, serverId: 2, deadlineMs: target }]);
  });

  test("servers that have drained make room: removing and adding any number of them in a row never ends for want of memory", async () => {
    const { world, host } = await running(withDrain(30));
    world.mostDrains = 3;
    // One of those that go keeps its flows throughout; no timer fires, so nobody else lets go of the others.
    world.flowCounts.set(key, 1);
    for (let round = 0; round < 20; round++) {
      const id = round === 0 ? 2 : 99 + round;
      expect(await host.transact("remove-server", (current) => ok(without(current, id)))).toEqual(ok(undefined));
      const add = (current: Config): Config => {
        const [first] = current.groups;
        return {
          ...current,
          groups: [{ ...first!, servers: [...first!.servers, server(100 + round, 9, "192.0.2.50")] }],
        };
      };
      expect(await host.transact("add-server", (current) => ok(add(current)))).toEqual(ok(undefined));
    }
    expect(world.image!.drains.map(({ serverId }) => serverId)).toContain(2);
  });

  test("disabled servers without flows make room for those that are drained after them", async () => {
    const { world, host } = await running(withDrain(30));
    world.mostDrains = 1;
    const disable = (id: number) =>
      host.transact("disable-server", (current) => ok(withServer(current, id, { enabled: false })));
    for (const id of [2, 3, 4]) expect(await disable(id)).toEqual(ok(undefined));
    expect(world.image!.drains.map(({ serverId }) => serverId)).toEqual([4]);
  });

  test("draining servers with flows that leave no room refuse a change with E-NOMEM, and nothing of it is done", async () => {
    const { world, controller, host } = await running(withDrain(30));
    world.mostDrains = 1;
    for (const id of [2, 3]) world.flowCounts.set(`5/${id}`, 1);
    await host.transact("disable-server", (current) => ok(withServer(current, 2, { enabled: false })));
    const { image } = world;
    const before = controller.config();
    const result = await host.transact("remove-server", (current) => ok(without(current, 3)));
    expect(result.ok ? "ok" : result.failure.code).toBe("E-NOMEM");
    expect([controller.config(), world.saved, world.image]).toEqual([before, before, image]);
    world.flowCounts.delete(key);
    expect(await host.transact("remove-server", (current) => ok(without(current, 3)))).toEqual(ok(undefined));
  });

  test("deleting more pairs with conn-drain than there is room for does not end for want of memory", async () => {
    const { world, host } = await running(withDrain(30));
    world.mostDrains = 2;
    world.flowCounts.set("5/3", 1);
    const deadlineMs = world.clock.nowMs() + 30_000;
    expect(await host.transact("delete-rule", (current) => ok({ ...current, rules: [] }))).toEqual(ok(undefined));
    expect(world.image!.drains).toEqual([{ ruleId: 5, serverId: 3, deadlineMs }]);
    // Whoever got a flow before the workers had taken over has its deadline with the first look.
    world.flowCounts.set(key, 1);
    await world.clock.advance(20);
    expect(world.image!.drains.map((drain) => drain.serverId).sort()).toEqual([2, 3]);
    expect(new Set(world.image!.drains.map((drain) => drain.deadlineMs))).toEqual(new Set([deadlineMs]));
  });

  test("disabling more servers with conn-drain at once than there is room for cuts those that hold flows", async () => {
    const { world, host } = await running(withDrain(30));
    world.mostDrains = 1;
    const all = (current: Config): Config =>
      [2, 3, 4].reduce((next, id) => withServer(next, id, { enabled: false }), current);
    expect(await host.transact("disable-server", (current) => ok(all(current)))).toEqual(ok(undefined));
    expect(world.image!.drains).toEqual([]);
    world.flowCounts.set(key, 1);
    await world.clock.advance(20);
    expect(world.image!.drains.map(({ serverId }) => serverId)).toEqual([2]);
    expect(world.clock.pending).toBe(0);
  });

  test("a look at draining servers asks who holds flows, not for the counters of every rule and server", async () => {
    const { world, host } = await running();
    Object.assign(world.engine, {
      counters: () => {
        throw new Error("all counters");
      },
      heldPairs: () => [{ ruleId: 5, serverId: 3 }],
    });
    await host.transact("remove-server", (current) => ok(without(without(current, 2), 3)));
    await world.clock.advance(20);
    expect(world.image!.servers.map((s) => s.id)).toEqual([4, 3]);
  });

  test("a poll of draining servers that the engine refuses comes again", async () => {
    const { world, host } = await running();
    await host.transact("remove-server", (current) => ok(without(current, 2)));
    world.failAt.add("stage");
    await world.clock.advance(20);
    world.failAt.clear();
    expect(world.image!.servers.map((s) => s.id)).toContain(2);
    await world.clock.advance(1000);
    expect(world.image!.servers.map((s) => s.id)).not.toContain(2);
  });

  test("a DSR rule drains nothing", async () => {
    const { world, host } = await running({
      ...threeServers(),
      rules: [rule(5, "r1", 1, { type: "DSR", connDrainSeconds: 30 })],
    });
    await host.transact("remove-server", (current) => ok(without(current, 2)));
    expect(world.image!.drains).toEqual([]);
    expect(world.image!.servers.map((s) => s.id)).toEqual([3, 4]);
    expect(world.clock.pending).toBe(0);
  });
});

describe("places", () => {
  test("rules keep their counter slot, and a freed slot comes back only after the workers have moved on", async () => {
    const two = config({
      groups: [group(1, "sg1", [server(2, 0, "192.0.2.10")])],
      rules: [rule(5, "r1", 1), rule(6, "r2", 1, { ports: { min: 81, max: 81 } })],
    });
    const { world, host } = await running(two);
    const slots = () => Object.fromEntries(world.image!.rules.map((r) => [r.id, r.slot]));
    expect(slots()).toEqual({ 5: 0, 6: 1 });
    world.failAt.add("adopt");
    await host.transact("x", (current) => ok({ ...current, rules: [current.rules[1]!] }));
    await host.transact("x", (current) => ok({ ...current, rules: [...current.rules, rule(7, "r3", 1)] }));
    expect(slots()).toEqual({ 6: 1, 7: 2 });
    world.failAt.clear();
    await host.transact("x", (current) => ok({ ...current, nextId: 5000 }));
    await host.transact("x", (current) => ok({ ...current, rules: [...current.rules, rule(8, "r4", 1)] }));
    expect(slots()).toEqual({ 6: 1, 7: 2, 8: 0 });
  });

  test("servers of one address share a next hop, and a local VIP is told to the engine", async () => {
    const shared = config({
      groups: [group(1, "a", [server(2, 0, "192.0.2.10")]), group(3, "b", [server(4, 0, "192.0.2.10")])],
      rules: [rule(5, "r1", 1), rule(6, "r2", 3, { vip: v4("198.51.100.11") })],
    });
    const { world, controller } = await running(shared);
    expect(world.image!.servers.map((s) => s.nextHop)).toEqual([0, 0]);
    expect(world.image!.rules.map((r) => r.vipIsLocal)).toEqual([false, false]);
    world.local.add(v4("198.51.100.11").value);
    await controller.refresh();
    expect(world.image!.rules.map((r) => r.vipIsLocal)).toEqual([false, true]);
  });
});

describe("sleep", () => {
  test("ends by the clock, or rejects when the caller goes", async () => {
    const { world, controller } = await running();
    const gone = new AbortController();
    const host = controller.hostFor(alice, gone.signal);
    let ended = "";
    void host.sleep(1000).then(() => {
      ended = "slept";
    });
    await world.clock.advance(999);
    expect(ended).toBe("");
    await world.clock.advance(1);
    expect(ended).toBe("slept");
    const cut = host.sleep(1000);
    gone.abort();
    await expect(cut).rejects.toThrow("the caller has gone");
    await settled();
    expect(world.clock.pending).toBe(0);
  });
});
