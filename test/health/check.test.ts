import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Check, nextDelayMs, type Outcome, type Step, smoothed } from "../../src/health/check.ts";
import { type CheckPlan, portsOf } from "../../src/health/plan.ts";
import { outcomeOfOutput } from "../../src/health/words.ts";
import type { HealthCheck } from "../../src/model/config.ts";
import { propertySeed } from "../support/random.ts";
import { bad, GOOD, planOf, runEvent, took } from "./script.ts";

const seed = propertySeed();
const HALF = (): number => 0.5;

interface Wish {
  readonly test?: HealthCheck["test"]["kind"];
  readonly count?: number;
  readonly ping?: boolean;
  readonly plan?: Partial<CheckPlan>;
}

function planned({ test: kind = "tcp", count = 3, ping = true, plan = {} }: Wish = {}): CheckPlan {
  const text = kind === "external" ? "/opt/probe" : kind;
  return planOf({ test: { kind, text }, count, defaultPing: ping }, plan);
}

const event = (check: Check, outcomes: (step: Step, index: number) => Outcome, random = HALF): string[] =>
  runEvent(check, outcomes, random);
const pingOnly = ({ kind }: Step): Outcome => (kind === "ping" ? GOOD : bad());

describe("an event", () => {
  test("ILB-206 a server that has not been checked is un-init and not down", () => {
    const check = new Check(planned(), 0);
    expect([check.state, check.isDown, check.result().fail]).toEqual(["un-init", false, 0]);
  });

  test("ILB-207 a server that answers ping and refuses TCP is pinged once and tried hc-count times, then dead", () => {
    const check = new Check(planned(), 0);
    expect(event(check, pingOnly)).toEqual(["ping", "test 80", "test 80", "test 80"]);
    expect(check.result()).toMatchObject({ status: "dead", fail: 3, reason: "connection refused" });
    expect(check.isDown).toBe(true);
  });

  test("ILB-208 a server that does not answer ping is pinged hc-count times, then unreach; the test is not run", () => {
    const check = new Check(planned(), 0);
    expect(event(check, () => bad("timeout after 2 s"))).toEqual(["ping", "ping", "ping"]);
    expect(check.result()).toMatchObject({ status: "unreach", fail: 3, reason: "ping: timeout after 2 s" });
  });

  test("ILB-209 success makes a dead server alive with FAIL 0", () => {
    const check = new Check(planned(), 0);
    event(check, pingOnly);
    event(check, () => GOOD);
    expect(check.result()).toMatchObject({ status: "alive", fail: 0, reason: null });
  });

  test("ILB-210 while a server is down an event ends at its first failure and FAIL grows by one", () => {
    const check = new Check(planned(), 0);
    event(check, pingOnly);
    expect(event(check, pingOnly)).toEqual(["ping", "test 80"]);
    expect(check.result()).toMatchObject({ status: "dead", fail: 4 });
    expect(event(check, () => bad())).toEqual(["ping"]);
    expect(check.result()).toMatchObject({ status: "unreach", fail: 5 });
  });

  test("ILB-284 failures of ping and test are one count, and a ping that has succeeded is not repeated", () => {
    const check = new Check(planned({ count: 4 }), 0);
    const steps = event(check, (_, index) => (index === 2 ? GOOD : bad()));
    expect(steps).toEqual(["ping", "ping", "ping", "test 80", "test 80"]);
    expect(check.result()).toMatchObject({ status: "dead", fail: 4 });
  });

  test("ILB-283 with -n nothing is pinged", () => {
    const check = new Check(planned({ ping: false }), 0);
    expect(event(check, ({ kind }) => (kind === "ping" ? bad() : GOOD))).toEqual(["test 80"]);
    expect(check.state).toBe("alive");
  });

  test("F.5 a ping test that fails makes the server unreach", () => {
    const check = new Check(planned({ test: "ping", count: 2 }), 0);
    expect(event(check, () => bad())).toEqual(["test 0", "test 0"]);
    expect(check.state).toBe("unreach");
  });

  test("F.1 success before hc-count failures leaves no trace but the round-trip time", () => {
    const check = new Check(planned(), 0);
    event(check, ({ kind }, index) => (kind === "test" && index < 3 ? bad() : took(100)));
    expect(check.result()).toMatchObject({ status: "alive", fail: 0 });
  });

  test("F.1 a probe that cannot be made counts as nothing", () => {
    const check = new Check(planned(), 0);
    expect(event(check, () => ({ kind: "not-started", reason: "no descriptors" }))).toEqual(["ping"]);
    expect(check.result()).toMatchObject({ status: "un-init", fail: 0, reason: "no descriptors" });
  });

  test("an outcome after the check was disabled changes nothing", () => {
    const check = new Check(planned({ count: 1, ping: false }), 0);
    check.begin(HALF);
    check.follow(planned({ count: 1, ping: false, plan: { isEnabled: false } }), 5);
    expect(check.finish(bad(), HALF)).toBeNull();
    expect(check.state).toBe("disabled");
  });
});

describe("ports", () => {
  const range = { ports: { min: 80, max: 89 } };

  test("ILB-218 ANY takes a random port of the range for every attempt", () => {
    const check = new Check(planned({ ping: false, plan: range }), 0);
    const random = [0, 0.999, 0.5].values();
    expect(
      event(
        check,
        () => bad(),
        () => random.next().value!,
      ),
    ).toEqual(["test 80", "test 89", "test 85"]);
  });

  test("ILB-218 a number is the only port that is tried", () => {
    const check = new Check(planned({ ping: false, plan: { ...range, port: 83 } }), 0);
    expect(event(check, () => bad())).toEqual(["test 83", "test 83", "test 83"]);
  });

  test("ILB-218 ALL wants every port to succeed, one after another", () => {
    const check = new Check(planned({ plan: { ports: { min: 80, max: 82 }, port: "ALL" } }), 0);
    expect(event(check, () => GOOD)).toEqual(["ping", "test 80", "test 81", "test 82"]);
    expect(check.state).toBe("alive");
  });

  test("F.4 with ALL the first failure ends the attempt, and the next begins at the first port", () => {
    const check = new Check(planned({ count: 2, ping: false, plan: { ports: { min: 80, max: 82 }, port: "ALL" } }), 0);
    const closed = (step: Step): Outcome => (step.kind === "test" && step.port === 81 ? bad() : GOOD);
    expect(event(check, closed)).toEqual(["test 80", "test 81", "test 80", "test 81"]);
    expect(check.result()).toMatchObject({ status: "dead", fail: 2 });
  });

  test(`ILB-218 ANY stays inside the range, whatever chance says (seed ${seed})`, () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 65535 }),
        fc.nat(500),
        fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true }),
        (min, more, chance) => {
          const ports = { min, max: Math.min(65535, min + more) };
          const [port] = portsOf(planned({ plan: { ports } }), () => chance);
          expect(port! >= ports.min && port! <= ports.max && Number.isInteger(port)).toBe(true);
        },
      ),
      { seed },
    );
  });
});

describe("round-trip time", () => {
  test("ILB-215 an old 400 and a sample of 800 give 500", () => {
    expect(smoothed(400, 800)).toBe(500);
  });

  test("F.2 the first sample stands as it is, ping and test both count, and 0 changes nothing", () => {
    const check = new Check(planned(), 0);
    event(check, ({ kind }) => took(kind === "ping" ? 400 : 800));
    expect(check.result().rttMicroseconds).toBe(500);
    event(check, () => took(0));
    expect(check.result().rttMicroseconds).toBe(500);
  });
});

describe("an external test with -n", () => {
  test("ILB-212 -1 is a failure; 250 gives RTT 250, which a 0 behind it leaves as it is", () => {
    const check = new Check(planned({ test: "external", ping: false, count: 1 }), 0);
    const prints = (output: string): string[] => event(check, () => outcomeOfOutput(output)!);
    expect(prints("-1\n")).toEqual(["test 80"]);
    expect(check.result()).toMatchObject({ status: "dead", fail: 1, rttMicroseconds: 0 });
    prints("250\n");
    expect(check.result()).toMatchObject({ status: "alive", fail: 0, rttMicroseconds: 250 });
    prints("0\n");
    expect(check.result()).toMatchObject({ status: "alive", fail: 0, rttMicroseconds: 250 });
  });
});

describe("switching", () => {
  const off = planned({ plan: { isEnabled: false } });

  test("F.5 disabling keeps FAIL and RTT and takes NEXT; enabling starts anew as un-init", () => {
    const check = new Check(planned(), 1000);
    check.nextAtMs = 9000;
    event(check, (step) => (step.kind === "ping" ? took(70) : bad()));
    expect(check.follow(off, 5000)).toBe(true);
    expect(check.result()).toMatchObject({
      status: "disabled",
      fail: 3,
      rttMicroseconds: 70,
      nextAtMs: null,
      lastAtMs: 1000,
    });
    expect(check.isDown).toBe(false);
    expect(check.follow(planned(), 8000)).toBe(true);
    expect(check.result()).toMatchObject({ status: "un-init", fail: 0, rttMicroseconds: 0, lastAtMs: 8000 });
  });

  test("F.5 enabling the enabled changes nothing", () => {
    const check = new Check(planned(), 0);
    event(check, pingOnly);
    expect(check.follow(planned(), 50)).toBe(false);
    expect(check.state).toBe("dead");
  });
});

describe("the period", () => {
  test(`ILB-206 the time until an event lies in F.1's bounds, whatever chance says (seed ${seed})`, () => {
    const chance = fc.double({ min: 0, max: 1, maxExcluded: true, noNaN: true });
    fc.assert(
      fc.property(fc.integer({ min: 1, max: 2_147_483_647 }), chance, (interval, random) => {
        const half = Math.floor(interval / 2);
        const delayMs = nextDelayMs(interval, () => random);
        expect(delayMs).toBeGreaterThanOrEqual(Math.max(1, half) * 1000);
        expect(delayMs).toBeLessThanOrEqual(Math.max(1, half + interval) * 1000);
      }),
      { seed },
    );
  });

  test("F.1 an interval of 3 s gives 1 to 4 s, and never less than 1 s", () => {
    expect(nextDelayMs(3, () => 0)).toBe(1000);
    expect(nextDelayMs(3, () => 1 - Number.EPSILON)).toBeLessThanOrEqual(4000);
    expect(nextDelayMs(10, () => 0)).toBe(5000);
    expect(nextDelayMs(10, HALF)).toBe(10_000);
    expect(nextDelayMs(1, () => 0)).toBe(1000);
  });
});
