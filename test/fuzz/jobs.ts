/**
 * The kinds of random run that `npm run fuzz` alternates between. A job is a kind and a seed and always does the same;
 * what it gives back can be added up and sent to another process.
 */
import { Reason } from "../../src/gen/layout.ts";
import { run } from "../differential/run.ts";
import { wasmSubject } from "../differential/subject.ts";

/** `agreement`: both engines side by side (test/differential). */
export const JOB_KINDS = ["agreement"] as const;
export type JobKind = (typeof JOB_KINDS)[number];

export interface Job {
  readonly kind: JobKind;
  readonly seed: number;
  /** About how many; a run ends with the batch that reaches it. */
  readonly packets: number;
}

export interface JobResult {
  /** Packets that were compared between the two engines. */
  readonly compared: number;
  /** Packets that the WebAssembly engine decided about, compared or not. */
  readonly executions: number;
  /** How often each reason was given, by Reason. */
  readonly reasons: readonly number[];
  /** Null when nothing was found. */
  readonly failure: string | null;
}

/** Even seeds run in mode `ilb`, odd ones in `modern`. */
const compatOf = (seed: number): "ilb" | "modern" => (seed % 2 === 0 ? "ilb" : "modern");

function agreement({ seed, packets }: Job): JobResult {
  const { packets: compared, reasons, failure } = run(wasmSubject(seed, compatOf(seed)), seed, packets);
  return { compared, executions: compared, reasons: reasons.map(Number), failure };
}

const RUNNERS: Readonly<Record<JobKind, (job: Job) => JobResult>> = { agreement };

/** Does a job. An exception (a trap of the engine, for one) is a failure like any other. */
export function runJob(job: Job): JobResult {
  try {
    return RUNNERS[job.kind](job);
  } catch (error) {
    const failure = `seed ${job.seed}: ${error instanceof Error ? error.stack : error}`;
    return { compared: 0, executions: 0, reasons: Object.values(Reason).map(() => 0), failure };
  }
}
