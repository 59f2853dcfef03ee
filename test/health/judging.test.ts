/** When checks take servers out and let them in again: thresholds, first state, panic. The seed stands in each test's name. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { Check, type HealthState, type Outcome, type Step } from "../../src/health/check.ts";
import type { CheckPlan } from "../../src/health/plan.ts";
import { judgeRule, Rotation } from "../../src/health/rotation.ts";
import type { Judging } from "../../src/model/config.ts";
import { propertySeed } from "../support/random.ts";
import { bad, GOOD, planOf, runEvent } from "./script.ts";

const seed = propertySeed();
const HALF = (): number => 0.5;

const planned = (judging: Judging | undefined, count = 3, plan: Partial<CheckPlan> = {}): CheckPlan =>
  planOf({ count, ...(judging && { judging }) }, plan);
const event = (check: Check, outcome: (step: Step) => Outcome): string[] => runEvent(check, outcome, HALF);
const testFails = ({ kind }: Step): Outcome => (kind === "ping" ? GOOD : bad());
const pingFails = (): Outcome => bad();
const allGood = (): Outcome => GOOD;

/**
 * The original's rules once more, from specification F.1 and F.5 alone: what an event does to STATUS and FAIL when the
 * outcomes of its probes are given.
 */
function original(count: number) {
  let status: HealthState = "un-init";
  let fail = 0;
  return (outcomes: Iterator<boolean>): { status: HealthState; fail: number } => {
    const isDown = status === "dead" || status === "unreach";
    for (let stage: "ping" | "test" = "ping"; ; ) {
      if (outcomes.next().value) {
        if (stage === "ping") {
          stage = "test";
          continue;
        }
        [status, fail] = ["alive", 0];
        break;
      }
      fail++;
      if (!isDown && fail < count) continue;
      status = stage === "ping" ? "unreach" : "dead";
      break;
    }
    return { status, fail };
  };
}

/** true and false for ever, as a list of numbers says. */
function* chances(list: readonly boolean[]): Generator<boolean> {
  for (let index = 0; ; index++) yield list[index % list.length]!;
}

describe("without additions", () => {
  const nothingSaid: (Judging | undefined)[] = [undefined, {}, { rise: 1, fall: 1, initial: "up", panicPercent: 0 }];

  test(`a check does what the original does, whatever probes find (seed ${seed})`, () => {
    fc.assert(
      fc.property(
        fc.constantFrom(...nothingSaid),
        fc.integer({ min: 1, max: 5 }),
        fc.array(fc.boolean(), { minLength: 1, maxLength: 40 }).filter((list) => list.includes(true)),
        (judging, count, list) => {
          const check = new Check(planned(judging, count), 0);
          const oracle = original(count);
          const [mine, theirs] = [chances(list), chances(list)];
          for (let n = 0; n < 25; n++) {
            event(check, () => (mine.next().value ? GOOD : bad()));
            const { status, fail } = check.result();
            expect({ status, fail }).toEqual(oracle(theirs));
            expect(check.isDown).toBe(status === "dead" || status === "unreach");
          }
        },
      ),
      { seed, numRuns: 300 },
    );
  });
});

describe("hc-rise and hc-fall", () => {
  test("hc-fall=3: the third failed check in a row takes a server out, each with hc-count attempts", () => {
    const check = new Check(planned({ fall: 3 }), 0);
    event(check, allGood);
    for (const fail of [3, 6]) {
      expect(event(check, testFails)).toEqual(["ping", "test 80", "test 80", "test 80"]);
      expect(check.result()).toMatchObject({ status: "alive", fail, reason: "connection refused" });
      expect(check.isDown).toBe(false);
    }
    event(check, testFails);
    expect(check.result()).toMatchObject({ status: "dead", fail: 9 });
    expect(check.isDown).toBe(true);
  });

  test("hc-fall=2: a success in between begins the count anew", () => {
    const check = new Check(planned({ fall: 2 }), 0);
    for (const step of [testFails, allGood, testFails, allGood]) event(check, step);
    expect(check.result()).toMatchObject({ status: "alive", fail: 0, reason: null });
  });

  test("hc-rise=2: the second success in a row brings a server back; till then it keeps STATUS, FAIL and reason", () => {
    const check = new Check(planned({ rise: 2 }), 0);
    event(check, testFails);
    event(check, allGood);
    expect(check.result()).toMatchObject({ status: "dead", fail: 3, reason: "connection refused" });
    event(check, pingFails);
    expect(check.result()).toMatchObject({ status: "unreach", fail: 4 });
    event(check, allGood);
    expect(check.isDown).toBe(true);
    event(check, allGood);
    expect(check.result()).toMatchObject({ status: "alive", fail: 0, reason: null });
  });

  test("hc-rise says nothing about a server that is in: its first success makes it alive", () => {
    const check = new Check(planned({ rise: 5 }), 0);
    event(check, allGood);
    expect(check.state).toBe("alive");
  });

  test("a probe that cannot be made is no check: it neither counts nor breaks a row", () => {
    const check = new Check(planned({ fall: 2 }), 0);
    event(check, testFails);
    event(check, () => ({ kind: "not-started", reason: "no descriptors" }));
    event(check, testFails);
    expect(check.state).toBe("dead");
  });

  test("enabling anew forgets what was counted", () => {
    const check = new Check(planned({ fall: 2 }), 0);
    event(check, testFails);
    check.follow(planned({ fall: 2 }, 3, { isEnabled: false }), 1);
    check.follow(planned({ fall: 2 }), 2);
    event(check, testFails);
    expect(check.result()).toMatchObject({ status: "un-init", fail: 3 });
  });

  test(`a server is out exactly from hc-fall failures in a row until hc-rise successes in a row (seed ${seed})`, () => {
    fc.assert(
      fc.property(
        fc.integer({ min: 1, max: 4 }),
        fc.integer({ min: 1, max: 4 }),
        fc.constantFrom("up" as const, "down" as const),
        fc.array(fc.boolean(), { maxLength: 60 }),
        (rise, fall, initial, results) => {
          const check = new Check(planned({ rise, fall, initial }), 0);
          let isOut = initial === "down";
          results.forEach((isGood, index) => {
            event(check, isGood ? allGood : testFails);
            const last = (count: number) => results.slice(0, index + 1).slice(-count);
            const row = (count: number, wanted: boolean) =>
              last(count).length === count && last(count).every((result) => result === wanted);
            if (isOut ? row(rise, true) : row(fall, false)) isOut = !isOut;
            expect(check.isDown).toBe(isOut);
            if (!isOut && isGood) expect(check.result().fail).toBe(0);
          });
        },
      ),
      { seed, numRuns: 300 },
    );
  });
});

describe("hc-initial", () => {
  test("hc-initial=down: un-init and out until the first success", () => {
    const check = new Check(planned({ initial: "down" }), 0);
    expect([check.state, check.isDown]).toEqual(["un-init", true]);
    event(check, allGood);
    expect([check.state, check.isDown]).toEqual(["alive", false]);
  });

  test("hc-initial=down: a failed check makes it dead at once, hc-fall or not, after hc-count attempts", () => {
    const check = new Check(planned({ initial: "down", fall: 3 }), 0);
    expect(event(check, testFails)).toEqual(["ping", "test 80", "test 80", "test 80"]);
    expect(check.result()).toMatchObject({ status: "dead", fail: 3 });
  });
});

describe("hc-panic", () => {
  /** A rule with one check per letter: a alive, d dead, u un-init, x disabled. */
  const rule = (letters: string, judging?: Judging): Check[] =>
    [...letters].map((letter, index) => {
      const more = { serverId: index + 1, isEnabled: letter !== "x" };
      const check = new Check(planned(judging, 1, more), 0);
      if (letter === "a") event(check, allGood);
      if (letter === "d") event(check, testFails);
      return check;
    });
  const judged = (letters: string, judging?: Judging): [out: string, panics: boolean] => {
    const { down, panic } = judgeRule(rule(letters, judging));
    return [[...down].join(), panic !== null];
  };

  test.each([
    ["adda", undefined, "2,3", false],
    ["adda", { panicPercent: 50 }, "2,3", false],
    ["adda", { panicPercent: 51 }, "", true],
    ["dddd", { panicPercent: 1 }, "", true],
    ["dddd", {}, "1,2,3,4", false],
    ["aaau", { panicPercent: 100 }, "", false],
    ["aadx", { panicPercent: 66 }, "3", false],
    ["aadx", { panicPercent: 67 }, "", true],
    ["xxxx", { panicPercent: 100 }, "", false],
  ] as const)("of a rule %s with %j servers %p are out, panic %p", (letters, judging, out, panics) => {
    expect(judged(letters, judging)).toEqual([out, panics]);
  });

  test("with hc-initial=down panic keeps who was found failing, not who has yet to show itself", () => {
    const all = { panicPercent: 60, initial: "down" as const };
    expect(judged("dduua", all)).toEqual(["1,2,3,4", false]);
    expect(judged("dddua", all)).toEqual(["4", true]);
  });

  test(`at least the threshold is offered unless less is enabled, and nobody is out who has not failed (seed ${seed})`, () => {
    fc.assert(
      fc.property(
        fc.array(fc.constantFrom(..."adux"), { minLength: 1, maxLength: 12 }),
        fc.integer({ min: 0, max: 100 }),
        (letters, panicPercent) => {
          const { down } = judgeRule(rule(letters.join(""), { panicPercent }));
          const enabled = letters.filter((letter) => letter !== "x").length;
          if (enabled > 0) expect((enabled - down.size) * 100).toBeGreaterThanOrEqual(panicPercent * enabled);
          for (const id of down) expect(letters[id - 1]).toBe("d");
        },
      ),
      { seed, numRuns: 500 },
    );
  });

  test("a view stays the same object while it says the same, rule by rule", () => {
    const rotation = new Rotation();
    const first = rule("ad");
    rotation.judge(1, first);
    rotation.judge(2, rule("dd"));
    const { view } = rotation;
    rotation.judge(1, first);
    expect(rotation.view).toBe(view);
    rotation.judge(2, rule("ad"));
    expect(rotation.view).not.toBe(view);
    expect(rotation.view.get(1)).toBe(view.get(1)!);
    const before = rotation.view;
    rotation.judgeAll(
      new Map([
        [1, first],
        [2, rule("ad")],
      ]),
      null,
    );
    expect(rotation.view).toBe(before);
    rotation.judgeAll(new Map([[1, []]]), null);
    expect([...rotation.view.keys()]).toEqual([2]);
    rotation.judgeAll(new Map([[2, []]]), null);
    expect(rotation.view.size).toBe(0);
  });
});
