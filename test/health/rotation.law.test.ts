/**
 * Who is offered, whatever happens: after every step it follows from STATUS and configuration alone, worked out here once
 * more. And under hc-initial=down no image that was ever in force offers a server without a result. The seed stands in
 * the tests' names.
 */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { judgingOf } from "../../src/model/health-judging.ts";
import { propertySeed } from "../support/random.ts";
import { GROUP, HC, rule, start } from "./monitor-bench.ts";
import { bad, GOOD } from "./script.ts";

const seed = propertySeed();
type Box = Awaited<ReturnType<typeof start>>;

/** Rules, with the options of their checks; all of one group. */
const judgings = fc.array(
  fc.record({
    rise: fc.integer({ min: 1, max: 2 }),
    fall: fc.integer({ min: 1, max: 2 }),
    initial: fc.constantFrom("up", "down"),
    panic: fc.constantFrom(0, 34, 50, 100),
  }),
  { minLength: 1, maxLength: 2 },
);
const step = fc.oneof(
  { weight: 5, arbitrary: fc.record({ kind: fc.constant("probe" as const), failing: fc.subarray([10, 11, 12, 13]) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("signal" as const), pick: fc.nat(99) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("wait" as const), ms: fc.integer({ min: 1, max: 3000 }) }) },
  { weight: 3, arbitrary: fc.record({ kind: fc.constant("server" as const), pick: fc.nat(99) }) },
  { weight: 2, arbitrary: fc.record({ kind: fc.constant("rule" as const), pick: fc.nat(99) }) },
  { weight: 1, arbitrary: fc.constant({ kind: "extra" as const }) },
);
type Step = typeof step extends fc.Arbitrary<infer T> ? T : never;

async function take(box: Box, one: Step): Promise<void> {
  const { rules, groups } = box.controller.config();
  const { servers } = groups[0]!;
  if (one.kind === "probe") {
    await box.event(({ plan }) => (one.failing.includes(Number(plan.server.value & 0xffn)) ? bad() : GOOD));
  } else if (one.kind === "signal") {
    box.signals.add(rules[one.pick % rules.length]!.id, servers[one.pick % servers.length]!.id);
    await box.world.clock.advance(600);
    box.prober.answerAll(() => (one.pick % 2 === 0 ? bad() : GOOD));
  } else if (one.kind === "wait") {
    await box.world.clock.advance(one.ms);
  } else if (one.kind === "server") {
    const { enabled, number } = servers[one.pick % servers.length]!;
    await box.run(`${enabled ? "disable" : "enable"}-server _sg1.${number}`);
  } else if (one.kind === "rule") {
    const { enabled, name } = rules[one.pick % rules.length]!;
    await box.run(`${enabled ? "disable" : "enable"}-rule ${name}`);
  } else {
    const extra = servers.find(({ address }) => (address.value & 0xffn) === 13n);
    await box.run(extra ? `remove-server -s server=_sg1.${extra.number} sg1` : "add-server -s server=192.0.2.13 sg1");
  }
  await box.world.clock.advance(100);
}

/** Last parts of the addresses that have to get new flows of a rule. */
function wanted(box: Box, index: number): number[] {
  const { rules, groups, healthChecks } = box.controller.config();
  const { id, healthCheckId } = rules[index]!;
  const { initial, panicPercent } = judgingOf(healthChecks.find((check) => check.id === healthCheckId)!);
  const status = new Map(
    box.monitor.results().flatMap((result) => (result.ruleId === id ? [[result.serverId, result.status]] : [])),
  );
  const enabled = groups[0]!.servers.filter((server) => server.enabled);
  const fails = (server: { id: number }) => ["dead", "unreach"].includes(status.get(server.id)!);
  const good = enabled.filter((server) => !fails(server));
  const panics = good.length < enabled.length && 100 * good.length < panicPercent * enabled.length;
  const kept = enabled.filter((server) => panics || !fails(server));
  const offered = kept.filter((server) => initial === "up" || status.get(server.id) !== "un-init");
  return offered.map(({ address }) => Number(address.value & 0xffn)).toSorted();
}

/** Sees every image that comes in force. */
function watchImages(box: Box, startsDown: readonly boolean[]): void {
  const { engine } = box.world;
  const { stage } = engine;
  engine.stage = (image) => {
    const staged = stage(image);
    const publish = (): void => {
      image.rules.forEach((imageRule, index) => {
        if (!startsDown[index] || !imageRule.enabled) return;
        for (const { server, enabledSequence } of imageRule.members) {
          const { id } = image.servers[server]!;
          const found = box.monitor.results().find((one) => one.ruleId === imageRule.id && one.serverId === id);
          if (enabledSequence !== null) expect(["alive", "dead", "unreach"]).toContain(found?.status ?? "no result");
        }
      });
      staged.publish();
    };
    return { ...staged, publish };
  };
}

test(`what images offer follows from STATUS and configuration (seed ${seed})`, async () => {
  await fc.assert(
    fc.asyncProperty(judgings, fc.array(step, { maxLength: 25 }), async (rules, steps) => {
      const box = await start(GROUP);
      watchImages(
        box,
        rules.map(({ initial }) => initial === "down"),
      );
      for (const [index, { rise, fall, initial, panic }] of rules.entries()) {
        const keys = `hc-rise=${rise},hc-fall=${fall},hc-initial=${initial},hc-panic=${panic}`;
        await box.run(`${HC},${keys} h${index}`, rule(`r${index}`, 80 + index, `-h hc-name=h${index}`));
      }
      for (const one of steps) {
        await take(box, one);
        box.controller.config().rules.forEach(({ enabled }, index) => {
          if (enabled) expect(box.offered(index).toSorted()).toEqual(wanted(box, index));
        });
      }
      box.monitor.close();
    }),
    { seed, numRuns: 60 },
  );
}, 60_000);
