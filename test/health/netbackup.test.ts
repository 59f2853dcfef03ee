/** The health test NBU: which ports it asks for, in whose time, and what it makes of the answers, from a script. */
import { describe, expect, test } from "bun:test";
import { Check, type Outcome } from "../../src/health/check.ts";
import { startNetBackupTest } from "../../src/health/netbackup-test.ts";
import type { CheckPlan } from "../../src/health/plan.ts";
import { bad, GOOD, planOf, runEvent, took } from "./script.ts";

const NBU = { kind: "nbu", text: "NBU" } as const;
const PBX = 1556;
const VNETD = 13724;
const BPCD = 13782;
const single = (port: number) => ({ min: port, max: port });

interface Ended {
  readonly tried: [port: number, timeoutMs: number][];
  readonly outcome: Outcome | null;
}

/** Runs one test; ports without an answer are silent. @param pauseMs what the daemon sleeps beside it at each step */
function run(plan: Partial<CheckPlan>, port: number, answers: Readonly<Record<number, Outcome>>, pauseMs = 0): Ended {
  let nowMs = 500;
  const tried: [number, number][] = [];
  const waiting: (() => void)[] = [];
  let outcome: Outcome | null = null;
  startNetBackupTest(
    planOf({ test: NBU, timeoutSeconds: 3 }, plan),
    port,
    (asked, timeoutMs, done) => {
      tried.push([asked, timeoutMs]);
      waiting.push(() => {
        const answer = answers[asked];
        nowMs += (answer === undefined ? timeoutMs : 0) + pauseMs;
        done(answer ?? bad("timeout"));
      });
      return () => {};
    },
    () => nowMs,
    (ended) => {
      expect(outcome).toBeNull();
      outcome = ended;
    },
  );
  for (let next = waiting.shift(); next !== undefined; next = waiting.shift()) next();
  return { tried, outcome };
}
const portsOf = ({ tried }: Ended) => tried.map(([port]) => port);

describe("hc-port=ANY", () => {
  test("NBU-032 any step that answers is success; the daemon is the rule's port", () => {
    const found = run({}, 8000, { [PBX]: bad(), [VNETD]: bad(), 8000: took(700) });
    expect(portsOf(found)).toEqual([PBX, VNETD, 8000]);
    expect(found.outcome).toEqual({ kind: "success", rttMicroseconds: 700, via: "DAEMON" });
    const first = run({}, 8000, { [PBX]: took(300) });
    expect([portsOf(first), first.outcome]).toEqual([[PBX], { kind: "success", rttMicroseconds: 300, via: "PBX" }]);
  });

  test.each([PBX, VNETD])("NBU-032 of a rule on %d the daemon is BPCD", (port) => {
    expect(portsOf(run({}, port, { [PBX]: bad(), [VNETD]: bad(), [BPCD]: bad() }))).toEqual([PBX, VNETD, BPCD]);
  });

  test("NBU-032 when none answers it says how each failed", () => {
    const { outcome } = run({}, PBX, { [VNETD]: bad(), [BPCD]: bad("host unreachable") });
    const reason = "PBX timeout, VNETD connection refused, DAEMON host unreachable";
    expect(outcome).toEqual({ kind: "failure", reason, via: "none" });
  });
});

describe("a port that must answer", () => {
  test("NBU-032 on 1556 a server that answers on 13724 alone is dead for the rule, by way of VNETD", () => {
    const found = run({ port: PBX }, PBX, { [PBX]: bad(), [VNETD]: took(300) });
    expect(found.outcome).toEqual({ kind: "failure", reason: "port 1556: connection refused", via: "VNETD" });
    expect(portsOf(found)).toEqual([PBX, VNETD]);
  });

  test("NBU-032 when it answers the server is alive, whatever answers first", () => {
    const found = run({ port: 8000 }, 8000, { [PBX]: took(100), 8000: took(900) });
    expect(portsOf(found)).toEqual([PBX, 8000]);
    expect(found.outcome).toEqual({ kind: "success", rttMicroseconds: 900, via: "PBX" });
  });

  test("NBU-032 with ALL every port of the rule must answer, each asked for in turn", () => {
    const check = new Check(
      planOf({ test: NBU, defaultPing: false, count: 1 }, { port: "ALL", ports: { min: 8000, max: 8002 } }),
      0,
    );
    const via = { via: "PBX" };
    const outcomes = [
      { ...GOOD, ...via },
      { ...GOOD, ...via },
      { ...bad("port 8002: connection refused"), ...via },
    ];
    expect(runEvent(check, (_step, index) => outcomes[index]!, Math.random)).toEqual([
      "test 8000",
      "test 8001",
      "test 8002",
    ]);
    expect(check.result()).toMatchObject({ status: "dead", reason: "port 8002: connection refused", via: "PBX" });
    expect(run({ port: "ALL" }, 8002, { [PBX]: GOOD, 8002: bad() }).outcome).toMatchObject({
      kind: "failure",
      via: "PBX",
    });
  });
});

test("NBU-029 silent ports share hc-timeout; what is left of it goes to those after a refusal", () => {
  expect(run({}, 8000, {}).tried).toEqual([
    [PBX, 1000],
    [VNETD, 1000],
    [8000, 1000],
  ]);
  expect(run({}, 8000, { [PBX]: bad(), [VNETD]: bad() }).tried.at(-1)).toEqual([8000, 3000]);
});

test("a pause of the daemon is not taken from the steps that come after it", () => {
  const { tried, outcome } = run({}, 8000, { 8000: GOOD }, 60_000);
  expect(tried.map(([, timeoutMs]) => timeoutMs)).toEqual([1000, 1000, 1000]);
  expect(outcome).toMatchObject({ kind: "success", via: "DAEMON" });
});

test("a step that could not be made leaves the server as it was, and a cancelled test tells nothing", () => {
  const reason = "too many probes are under way";
  expect(run({}, 8000, { [PBX]: { kind: "not-started", reason } })).toEqual({
    tried: [[PBX, 1000]],
    outcome: { kind: "not-started", reason },
  });
  const cancelled: number[] = [];
  const pending: ((outcome: Outcome) => void)[] = [];
  const cancel = startNetBackupTest(
    planOf({ test: NBU }, { ports: single(8000) }),
    8000,
    (port, _timeoutMs, done) => {
      pending.push(done);
      return () => cancelled.push(port);
    },
    () => 0,
    () => expect.unreachable(),
  );
  pending[0]!(bad());
  cancel();
  expect(cancelled).toEqual([VNETD]);
});

test("NBU-032 what a server answered on is forgotten when it does not answer ping, and before it is asked", () => {
  const check = new Check(planOf({ test: NBU, count: 1 }), 0);
  expect(check.result().via).toBeNull();
  runEvent(check, ({ kind }) => (kind === "ping" ? GOOD : { ...GOOD, via: "VNETD" }), Math.random);
  expect(check.result()).toMatchObject({ status: "alive", via: "VNETD" });
  runEvent(check, () => bad(), Math.random);
  expect(check.result()).toMatchObject({ status: "unreach", via: null });
});
