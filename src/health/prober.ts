/** What the monitor asks for when it wants to know something of a server. Tests answer from a script, the daemon probes. */
import type { Outcome, Step } from "./check.ts";
import type { CheckPlan } from "./plan.ts";

export interface Prober {
  /**
   * Begins one step of a check.
   * @param done called once, later, never from within this call, unless cancelled
   * @returns ends the step without an outcome; what runs for it is killed
   */
  start(plan: CheckPlan, step: Step, done: (outcome: Outcome) => void): () => void;
  /** Ends everything that runs. */
  close(): void;
}
