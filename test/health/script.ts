/** A prober that answers from a script, plans to check by, and single events. */
import type { Check, Outcome, Random, Step } from "../../src/health/check.ts";
import type { CheckPlan } from "../../src/health/plan.ts";
import type { Prober } from "../../src/health/prober.ts";
import type { ProbeWays } from "../../src/health/system-prober.ts";
import type { HealthCheck } from "../../src/model/config.ts";
import { ip } from "../support/addresses.ts";

export const GOOD: Outcome = { kind: "success", rttMicroseconds: 0 };
export const took = (rttMicroseconds: number): Outcome => ({ kind: "success", rttMicroseconds });
export const bad = (reason = "connection refused"): Outcome => ({ kind: "failure", reason });

/** The plan of a TCP test of a NAT server, with the default ping and three attempts. */
export const planOf = (check: Partial<HealthCheck> = {}, plan: Partial<CheckPlan> = {}): CheckPlan => ({
  ruleId: 1,
  serverId: 2,
  check: {
    id: 7,
    name: "h1",
    test: { kind: "tcp", text: "tcp" },
    timeoutSeconds: 2,
    count: 3,
    intervalSeconds: 10,
    defaultPing: true,
    ...check,
  },
  type: "NAT",
  protocol: "tcp",
  vip: ip("198.51.100.10"),
  server: ip("192.0.2.10"),
  ports: { min: 80, max: 80 },
  port: "ANY",
  isEnabled: true,
  ...plan,
});

/** Runs one event. @returns the steps that were taken: `ping`, `test PORT` */
export function runEvent(check: Check, outcomes: (step: Step, index: number) => Outcome, random: Random): string[] {
  const steps: string[] = [];
  for (let step: Step | null = check.begin(random); step !== null; ) {
    steps.push(step.kind === "ping" ? "ping" : `test ${step.port}`);
    step = check.finish(outcomes(step, steps.length - 1), random);
  }
  return steps;
}

/** A step that waits for its outcome. */
export interface Asked {
  readonly plan: CheckPlan;
  readonly step: Step;
  readonly answer: (outcome: Outcome) => void;
}

export class ScriptedProber implements Prober {
  readonly asked: Asked[] = [];
  /** Everything that was ever asked: `ping`, or the port of a test, behind the server's last number. */
  readonly log: string[] = [];
  cancelled = 0;

  start(plan: CheckPlan, step: Step, done: (outcome: Outcome) => void): () => void {
    const answer = (outcome: Outcome): void => {
      this.#forget(asked);
      done(outcome);
    };
    const asked: Asked = { plan, step, answer };
    this.asked.push(asked);
    this.log.push(`${plan.serverId} ${step.kind === "ping" ? "ping" : step.port}`);
    return () => {
      this.cancelled++;
      this.#forget(asked);
    };
  }

  /** Answers everything that waits, and what that leads to, until nothing waits. */
  answerAll(outcome: (asked: Asked) => Outcome): void {
    for (let asked = this.asked[0]; asked !== undefined; asked = this.asked[0]) asked.answer(outcome(asked));
  }

  close(): void {
    this.asked.length = 0;
  }

  #forget(asked: Asked): void {
    const at = this.asked.indexOf(asked);
    if (at >= 0) this.asked.splice(at, 1);
  }
}

/** Servers are reached by the kernel's sockets alone. */
export const NO_WAYS: ProbeWays = {
  wayTo: () => ({ kind: "failure", reason: "no way" }),
  detourTo: async () => ({ kind: "failure", reason: "no way" }),
  sourceTo: () => null,
};
