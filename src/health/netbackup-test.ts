/**
 * The test NBU of one server: connections to PBX, VNETD and the daemon, one after the other, within one attempt's time.
 * Which step comes next and for how long is the plan's (src/netbackup/reach.ts), how a connection is tried the prober's.
 */
import { NO_WAY, Reach, waysToPort } from "../netbackup/reach.ts";
import type { Outcome } from "./check.ts";
import type { CheckPlan } from "./plan.ts";

/** Begins a TCP probe of a port. @returns how to cancel it */
export type TryPort = (port: number, timeoutMs: number, done: (outcome: Outcome) => void) => () => void;

/**
 * Begins the test.
 * @param port what the check asks for: with ANY the daemon's, else the one that must answer
 * @param nowMs milliseconds of a clock that does not go back
 * @param done called once, unless cancelled
 * @returns ends it without an outcome
 */
export function startNetBackupTest(
  plan: CheckPlan,
  port: number,
  tryPort: TryPort,
  nowMs: () => number,
  done: (outcome: Outcome) => void,
): () => void {
  const required = plan.port === "ANY" ? null : port;
  const options = { totalMs: plan.check.timeoutSeconds * 1000, all: false, required };
  const reach = new Reach(waysToPort(port), options, 0);
  const met: string[] = [];
  let success: Extract<Outcome, { kind: "success" }> | null = null;
  /** What the steps have taken of their time. Pauses of the daemon are not the server's. */
  let ageMs = 0;
  let cancel: () => void = () => {};

  const goOn = (): void => {
    const due = reach.next(ageMs);
    if (due === null) {
      done(judged());
      return;
    }
    const { step, timeoutMs } = due;
    const startedAtMs = nowMs();
    cancel = tryPort(step.port, timeoutMs, (outcome) => {
      if (outcome.kind === "not-started") {
        done(outcome);
        return;
      }
      ageMs += Math.min(timeoutMs, nowMs() - startedAtMs);
      const isWanted = required === null || step.port === required;
      if (outcome.kind === "success") success = isWanted ? outcome : success;
      else if (isWanted)
        met.push(required === null ? `${step.name} ${outcome.reason}` : `port ${required}: ${outcome.reason}`);
      reach.finish(outcome.kind === "success");
      goOn();
    });
  };
  const judged = (): Outcome => {
    const via = reach.via ?? NO_WAY;
    return success === null ? { kind: "failure", reason: met.join(", "), via } : { ...success, via };
  };
  goOn();
  return () => cancel();
}
