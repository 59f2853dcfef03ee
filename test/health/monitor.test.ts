/** The monitor with the real controller: what commands, probes and time do to the servers that an image offers. */
import { describe, expect, test } from "bun:test";
import { DAEMON_CALLER } from "../../src/control/caller.ts";
import { ilbadm } from "../support/fake-host.ts";
import { fails, GROUP, HC, ONE_RULE, PERIOD_MS, rule, start } from "./monitor-bench.ts";
import { bad, GOOD } from "./script.ts";

describe("rotation", () => {
  test("ILB-206 servers of a new rule are un-init and offered; the first event comes after the random time", async () => {
    const it = await start(...ONE_RULE);
    expect(it.states()).toEqual(["un-init 0", "un-init 0", "un-init 0"]);
    expect(it.offered()).toEqual([10, 11, 12]);
    await it.world.clock.advance(7400);
    expect(it.prober.log).toEqual([]);
    await it.world.clock.advance(200);
    expect(it.prober.asked).toHaveLength(3);
  });

  test("ILB-207 ILB-209 a dead server gets no new flows until an event succeeds; then it is last in order", async () => {
    const it = await start(...ONE_RULE);
    await it.event(fails(11));
    expect(it.states()).toEqual(["alive 0", "dead 3", "alive 0"]);
    expect(it.offered()).toEqual([10, 12]);
    await it.event(fails());
    expect(it.states()).toEqual(["alive 0", "alive 0", "alive 0"]);
    expect(it.offered()).toEqual([10, 12, 11]);
    expect(it.transitions.map(({ from, to, reason }) => [from, to, reason])).toEqual([
      ["un-init", "alive", null],
      ["un-init", "alive", null],
      ["un-init", "dead", "connection refused"],
      ["dead", "alive", null],
    ]);
  });

  test("ILB-287 one health check and one group in two rules are checked for each rule on its own", async () => {
    const it = await start(`${HC} h1`, `${HC} h2`, GROUP, rule("r1", 80), rule("r2", 81, "-h hc-name=h2"));
    await it.event(({ plan, step }) => (step.kind === "test" && plan.check.name === "h1" ? bad() : GOOD));
    expect(it.offered(0)).toEqual([]);
    expect(it.offered(1)).toEqual([10, 11, 12]);
  });

  test("ILB-219 a rule with a dead server, disabled and enabled: un-init, offered at once, out again if it fails", async () => {
    const it = await start(...ONE_RULE);
    await it.event(fails(11));
    await it.run("disable-rule r1");
    expect(it.states()).toEqual(["disabled 0", "disabled 3", "disabled 0"]);
    await it.run("enable-rule r1");
    expect(it.states()).toEqual(["un-init 0", "un-init 0", "un-init 0"]);
    expect(it.offered().toSorted()).toEqual([10, 11, 12]);
    await it.event(fails(11));
    expect(it.offered()).not.toContain(11);
    await it.event(fails());
    expect(it.offered()).toContain(11);
  });

  test("ILB-219 disabled and enabled with nothing in between, it is offered at once as well", async () => {
    const it = await start(...ONE_RULE);
    await it.event(fails(11));
    await Promise.all([it.run("disable-rule r1"), it.run("enable-rule r1")]);
    expect(it.offered().toSorted()).toEqual([10, 11, 12]);
  });

  test("ILB-220 ILB-254 enabling a dead server that is enabled changes nothing; disabled and enabled it is offered", async () => {
    const it = await start(...ONE_RULE);
    await it.event(fails(11));
    await it.run("enable-server _sg1.1");
    expect(it.states()[1]).toBe("dead 3");
    expect(it.offered()).toEqual([10, 12]);
    await it.run("disable-server _sg1.1");
    expect(it.states()[1]).toBe("disabled 3");
    await it.run("enable-server _sg1.1");
    expect(it.states()[1]).toBe("un-init 0");
    expect(it.offered()).toEqual([10, 12, 11]);
  });

  test("a server that is dead and disabled is not offered, whatever its last check said", async () => {
    const it = await start(...ONE_RULE);
    await it.event(fails(11));
    await it.run("disable-server _sg1.1");
    await it.world.clock.advance(PERIOD_MS);
    expect(it.offered()).toEqual([10, 12]);
    expect(it.prober.asked.map(({ plan }) => Number(plan.server.value & 0xffn))).toEqual([10, 12]);
  });

  test("A.4 a server without a check is offered, and taking the check from a disabled rule forgets what it found", async () => {
    const it = await start(...ONE_RULE);
    await it.event(fails(10, 11, 12));
    expect(it.offered()).toEqual([]);
    await it.run("disable-rule r1", "delete-healthcheck h1", "enable-rule r1");
    expect(it.monitor.results()).toEqual([]);
    expect(it.offered()).toHaveLength(3);
  });
});

describe("publishing", () => {
  test("many servers that fail at once are one published change", async () => {
    const it = await start(...ONE_RULE, rule("r2", 81), rule("r3", 82));
    it.world.taken();
    await it.event(fails(10, 11, 12));
    expect([it.offered(0), it.offered(1), it.offered(2)]).toEqual([[], [], []]);
    expect(it.world.taken().filter((call) => call.startsWith("publish"))).toHaveLength(1);
  });

  test("checks that find what was known publish nothing", async () => {
    const it = await start(...ONE_RULE);
    await it.event(fails(11));
    it.world.taken();
    await it.event(fails(11));
    await it.event(fails(11));
    expect(it.world.taken()).toEqual([]);
  });

  test("a change that could not be put in force is tried again", async () => {
    const it = await start(...ONE_RULE);
    it.world.failAt.add("stage");
    await it.event(fails(11));
    expect(it.offered()).toEqual([10, 11, 12]);
    it.world.failAt.clear();
    await it.world.clock.advance(1100);
    expect(it.offered()).toEqual([10, 12]);
  });

  test("E.4 a server that fails gets its conn-drain deadline, in its rule only; recovery takes it away", async () => {
    const it = await start(`${HC} h1`, GROUP, rule("r1", 80, "-h hc-name=h1 -t conn-drain=30"), rule("r2", 81, ""));
    await it.event(fails(11));
    expect(it.world.image!.drains).toHaveLength(1);
    await it.event(fails());
    expect(it.world.image!.drains).toEqual([]);
  });
});

describe("what is under way", () => {
  test("G a running probe ends with its rule, its server, or when they are disabled", async () => {
    const it = await start(...ONE_RULE);
    await it.world.clock.advance(PERIOD_MS);
    expect(it.prober.asked).toHaveLength(3);
    await it.run("disable-server _sg1.1");
    expect(it.prober.cancelled).toBe(1);
    await it.run("remove-server -s server=_sg1.2 sg1");
    expect(it.prober.cancelled).toBe(2);
    await it.run("delete-rule r1");
    expect(it.prober.cancelled).toBe(3);
    expect(it.monitor.results()).toEqual([]);
    await it.world.clock.advance(PERIOD_MS);
    expect(it.prober.asked).toEqual([]);
  });

  test("checks that hang hold up no other check", async () => {
    const it = await start(
      `${HC} h1`,
      GROUP,
      ...Array.from({ length: 40 }, (_, index) => rule(`r${index}`, 100 + index)),
    );
    await it.world.clock.advance(PERIOD_MS);
    expect(it.prober.asked).toHaveLength(120);
    const mine = it.prober.asked.find(({ plan }) => plan.ruleId === it.world.image!.rules[39]!.id)!;
    mine.answer(GOOD);
    it.prober.asked.find(({ plan, step }) => plan === mine.plan && step.kind === "test")!.answer(GOOD);
    expect(it.states().filter((state) => state === "alive 0")).toHaveLength(1);
  });

  test("other commands leave checks alone: no new period, no second event", async () => {
    const it = await start(...ONE_RULE);
    const before = it.monitor.results().map(({ nextAtMs }) => nextAtMs);
    await it.run("create-servergroup other", `${HC} h9`, "enable-rule r1");
    expect(it.monitor.results().map(({ nextAtMs }) => nextAtMs)).toEqual(before);
    await it.world.clock.advance(PERIOD_MS);
    expect(it.prober.log).toHaveLength(3);
  });

  test("nothing runs after close()", async () => {
    const it = await start(...ONE_RULE);
    it.monitor.close();
    await it.world.clock.advance(60_000);
    expect(it.prober.log).toEqual([]);
  });
});

describe("show-hc-result", () => {
  test("ILB-139 shows LAST and NEXT of the period, and -- for a disabled server", async () => {
    const it = await start(...ONE_RULE);
    await it.run("disable-server _sg1.2");
    const [first] = it.monitor.results();
    expect(first!.nextAtMs! - first!.lastAtMs).toBe(7500);
    const lines = (await it.listing()).trimEnd().split("\n");
    expect(lines).toHaveLength(4);
    expect(lines[3]).toMatch(/^r1 +h1 +_sg1\.2 +disabled 0 +\d\d:\d\d:\d\d -- +0$/);
  });

  test("F.1 LAST is the end of the last event and NEXT the beginning of the next", async () => {
    const it = await start(...ONE_RULE);
    await it.world.clock.advance(PERIOD_MS);
    const endMs = it.world.clock.wallMs();
    it.prober.answerAll(() => GOOD);
    for (const { lastAtMs, nextAtMs } of it.monitor.results())
      expect([lastAtMs, nextAtMs]).toEqual([endMs, endMs + 7500]);
  });
});

describe("additions to rotation", () => {
  const HC_WITH = (more: string) => `${HC},${more} h1`;

  test("hc-initial=down: not a single image offers a server before its first success", async () => {
    const it = await start(HC_WITH("hc-initial=down"), GROUP, rule("r1", 80));
    expect(it.offered()).toEqual([]);
    const { generation } = it.world.image!;
    await it.world.clock.advance(200);
    // What was foreseen is in force already: nothing is published a second time.
    expect(it.world.image!.generation).toBe(generation);
    await it.event(fails(11));
    expect(it.offered()).toEqual([10, 12]);
    await it.run("add-server -s server=192.0.2.13 sg1");
    expect(it.offered()).toEqual([10, 12]);
    await it.run("disable-rule r1", "enable-rule r1");
    expect(it.offered()).toEqual([]);
    await it.event(fails());
    expect(it.offered().toSorted()).toEqual([10, 11, 12, 13]);
    await it.run("disable-server _sg1.0");
    await it.run("enable-server _sg1.0");
    expect(it.offered().toSorted()).toEqual([11, 12, 13]);
  });

  test("hc-initial=down of one check says nothing about rules with another", async () => {
    const other = `${HC} h2`;
    const it = await start(HC_WITH("hc-initial=down"), other, GROUP, rule("r1", 80), rule("r2", 81, "-h hc-name=h2"));
    expect([it.offered(0), it.offered(1)]).toEqual([[], [10, 11, 12]]);
    await it.run("disable-rule r2", "enable-rule r2");
    expect(it.offered(1)).toEqual([10, 11, 12]);
  });

  test("a change that fails leaves nothing foreseen behind", async () => {
    const it = await start(HC_WITH("hc-initial=down"), GROUP, rule("r1", 80));
    await it.event(fails());
    it.world.failAt.add("save");
    expect((await ilbadm(it.controller.hostFor(DAEMON_CALLER), "disable-rule r1")).exit).toBe(1);
    it.world.failAt.delete("save");
    expect(it.offered()).toEqual([10, 11, 12]);
    await it.event(fails(10));
    expect(it.offered()).toEqual([11, 12]);
  });

  test("hc-panic: when too few would remain all are kept, said once, and out again when enough have recovered", async () => {
    const it = await start(HC_WITH("hc-panic=50"), GROUP, rule("r1", 80));
    await it.event(fails(11));
    expect(it.offered()).toEqual([10, 12]);
    expect(it.panics).toEqual([]);
    await it.event(fails(11, 12));
    expect(it.states()).toEqual(["alive 0", "dead 4", "dead 3"]);
    expect(it.offered().toSorted()).toEqual([10, 11, 12]);
    expect(it.monitor.results().map(({ isKept }) => isKept)).toEqual([false, true, true]);
    const ruleId = it.controller.config().rules[0]!.id;
    expect(it.panics).toEqual([{ ruleId, panic: { ruleId, failing: 2, servers: 3, percent: 50 } }]);
    await it.event(fails(10, 11, 12));
    expect(it.panics).toHaveLength(1);
    await it.event(fails(12));
    expect(it.offered().toSorted()).toEqual([10, 11]);
    expect(it.panics.slice(1)).toEqual([{ ruleId, panic: null }]);
    expect(it.monitor.results().map(({ isKept }) => isKept)).toEqual([false, false, false]);
  });

  test("disabling healthy servers can make a rule panic, enabling them ends it", async () => {
    const it = await start(HC_WITH("hc-panic=60"), GROUP, rule("r1", 80));
    await it.event(fails(12));
    expect(it.offered()).toEqual([10, 11]);
    await it.run("disable-server _sg1.0");
    await it.world.clock.advance(100);
    expect(it.offered()).toEqual([11, 12]);
    await it.run("enable-server _sg1.0");
    await it.world.clock.advance(100);
    expect(it.offered().toSorted()).toEqual([10, 11]);
    expect(it.panics.map(({ panic }) => panic !== null)).toEqual([true, false]);
  });
});

describe("passive signals", () => {
  const idsOf = ({ controller }: Awaited<ReturnType<typeof start>>) => {
    const { rules, groups } = controller.config();
    return { rules: rules.map(({ id }) => id), servers: groups[0]!.servers.map(({ id }) => id) };
  };

  test("a refused client has that server checked at once, and nobody else", async () => {
    const it = await start(...ONE_RULE);
    await it.event(fails());
    const ids = idsOf(it);
    const nextBefore = it.monitor.results().map(({ nextAtMs }) => nextAtMs);
    it.prober.log.length = 0;
    it.signals.add(ids.rules[0]!, ids.servers[1]!);
    await it.world.clock.advance(100);
    expect(it.prober.log).toEqual([`${ids.servers[1]} ping`]);
    expect(it.offered()).toEqual([10, 11, 12]); // a signal alone changes nothing
    it.prober.answerAll(fails(11));
    await it.world.clock.advance(100);
    expect(it.offered()).toEqual([10, 12]);
    const results = it.monitor.results();
    expect(results.map(({ prompted }) => prompted)).toEqual([0, 1, 0]);
    expect(results[0]!.nextAtMs).toBe(nextBefore[0]!);
    // The period begins anew behind the check.
    expect(results[1]!.nextAtMs).toBe(results[1]!.lastAtMs + 7500);
  });

  test("signals in a row cost one check a second and server, whatever the rule", async () => {
    const it = await start(...ONE_RULE, rule("r2", 81));
    await it.event(fails());
    const ids = idsOf(it);
    it.prober.log.length = 0;
    let ends = 0;
    for (let passed = 0; passed < 5000; passed += 100) {
      for (const ruleId of ids.rules) it.signals.add(ruleId, ids.servers[0]!);
      await it.world.clock.advance(100);
      ends += it.prober.asked.length > 0 ? 1 : 0;
      it.prober.answerAll(fails());
    }
    const checks = it.monitor.results().reduce((sum, { prompted }) => sum + prompted!, 0);
    expect(checks).toBeGreaterThanOrEqual(4);
    expect(checks).toBeLessThanOrEqual(6);
    expect(ends).toBeGreaterThanOrEqual(checks);
    // Both rules have had their turn.
    expect(it.monitor.results().filter(({ prompted }) => prompted! > 0)).toHaveLength(2);
    expect(it.signals.scans).toBeLessThanOrEqual(11);
  });

  test("a signal while a check runs has another one follow, for the first may have begun too early", async () => {
    const it = await start(...ONE_RULE);
    await it.event(fails());
    const ids = idsOf(it);
    await it.world.clock.advance(PERIOD_MS);
    expect(it.prober.asked).toHaveLength(3);
    it.signals.add(ids.rules[0]!, ids.servers[0]!);
    await it.world.clock.advance(600);
    expect(it.prober.asked).toHaveLength(3);
    it.prober.answerAll(fails());
    await it.world.clock.advance(600);
    expect(it.prober.asked.map(({ plan }) => plan.serverId)).toEqual([ids.servers[0]!]);
  });

  test("a server that is out, disabled, without check or with hc-passive=no is not checked for it", async () => {
    const it = await start(`${HC},hc-passive=no h2`, ...ONE_RULE, rule("r2", 81, "-h hc-name=h2"), rule("r3", 82, ""));
    await it.event(fails(10));
    await it.run("disable-server _sg1.1");
    const ids = idsOf(it);
    it.prober.log.length = 0;
    it.signals.add(ids.rules[0]!, ids.servers[0]!);
    it.signals.add(ids.rules[0]!, ids.servers[1]!);
    for (const serverId of ids.servers) {
      it.signals.add(ids.rules[1]!, serverId);
      it.signals.add(ids.rules[2]!, serverId);
    }
    it.signals.add(999, 999);
    await it.world.clock.advance(2000);
    expect(it.prober.log).toEqual([]);
    const { scans } = it.signals;
    await it.world.clock.advance(2000);
    expect(it.signals.scans).toBe(scans);
  });
});
