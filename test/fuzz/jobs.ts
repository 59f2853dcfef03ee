/**
 * The kinds of random run that `npm run fuzz` alternates between. A job is a kind and a seed and always does the same;
 * what it gives back can be added up and sent to another process.
 */
import { Reason } from "../../src/gen/layout.ts";
import { run } from "../differential/run.ts";
import { FEW_PORTS, tightStage } from "../differential/stage.ts";
import { choiceOf, wasmSubject, workersSubject } from "../differential/subject.ts";
import { MODULE_BYTES } from "../support/wasm-engine.ts";
import { runAlone } from "./alone.ts";
import { Corpus } from "./corpus.ts";
import { runCrowdedRings } from "./crowded-rings.ts";
import { MARKER_BASE } from "./guarded-engine.ts";
import { engineWithPorts, type Instrumented, instrumentedEngine } from "./instrument.ts";

/**
 * `agreement`: both engines side by side (test/differential). `tight`: the same with tables and proxy ports that run out.
 * `workers`: two or three workers beside the reference that is one, and at their own pace. `alone`: the WebAssembly engine
 * alone, guarded (alone.ts).
 */
export const JOB_KINDS = ["agreement", "tight", "workers", "alone"] as const;
export type JobKind = (typeof JOB_KINDS)[number];

export interface Job {
  readonly kind: JobKind;
  readonly seed: number;
  /** About how many; a run ends with the batch that reaches it. */
  readonly packets: number;
}

/** What the jobs of a process share. */
export interface Workshop {
  readonly engine: Instrumented;
  readonly corpus: Corpus;
  /** The build that has FEW_PORTS. */
  readonly fewPorts: Uint8Array<ArrayBuffer>;
}

/** Compiles the builds that mark their blocks or have few ports, which takes seconds, if the kinds need them. */
export async function openWorkshop(kinds: readonly JobKind[]): Promise<Workshop> {
  const isNeeded = kinds.includes("alone");
  const engine = isNeeded ? await instrumentedEngine(MARKER_BASE) : { moduleBytes: MODULE_BYTES, blocks: [] };
  const fewPorts = kinds.includes("tight") ? await engineWithPorts(FEW_PORTS) : MODULE_BYTES;
  return { engine, corpus: new Corpus(engine.blocks.length), fewPorts };
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
  /** Blocks of the engine that this process has reached so far, and all that there are. */
  readonly blocks: { readonly reached: number; readonly all: number };
}

/** Half of the seeds run in mode `ilb`, half in `modern`. */
const compatOf = (seed: number): "ilb" | "modern" => (choiceOf(seed, 2) === 0 ? "ilb" : "modern");

type Outline = Omit<JobResult, "blocks">;

function agreement({ seed, packets }: Job): Outline {
  const { packets: compared, reasons, failure } = run(wasmSubject(seed, compatOf(seed)), seed, packets);
  return { compared, executions: compared, reasons: reasons.map(Number), failure };
}

function tight({ seed, packets }: Job, { fewPorts }: Workshop): Outline {
  const subject = wasmSubject(seed, compatOf(seed), tightStage(choiceOf(seed, 3, 16)), fewPorts);
  const { packets: compared, reasons, failure } = run(subject, seed, packets);
  return { compared, executions: compared, reasons: reasons.map(Number), failure };
}

/** Half of the packets are compared; as many come faster than they are taken, or more that nobody takes before the end. */
function workers({ seed, packets }: Job): Outline {
  const count = 2 + choiceOf(seed, 4);
  const half = Math.ceil(packets / 2);
  const isFlooded = choiceOf(seed, 5) === 1;
  const agreed = run(workersSubject(seed, compatOf(seed), count), seed, half);
  const crowded = runCrowdedRings(seed, compatOf(seed), count, isFlooded ? 2 * packets : half, isFlooded);
  return {
    compared: agreed.packets,
    executions: agreed.packets + crowded.packets,
    reasons: agreed.reasons.map((times, reason) => Number(times + crowded.reasons[reason]!)),
    failure: agreed.failure ?? crowded.failure,
  };
}

function alone({ seed, packets }: Job, { engine, corpus }: Workshop): Outline {
  const modules = { release: MODULE_BYTES, instrumented: engine.moduleBytes };
  const { packets: done, reasons, failure } = runAlone(modules, corpus, seed, compatOf(seed), packets);
  // Two engines decide about each.
  return { compared: 0, executions: 2 * done, reasons, failure };
}

const RUNNERS: Readonly<Record<JobKind, (job: Job, workshop: Workshop) => Outline>> = {
  agreement,
  tight,
  workers,
  alone,
};

/** Does a job. An exception (a trap of the engine, for one) is a failure like any other. */
export function runJob(job: Job, workshop: Workshop): JobResult {
  const blocks = { reached: workshop.corpus.reachedCount, all: workshop.engine.blocks.length };
  try {
    const outline = RUNNERS[job.kind](job, workshop);
    return { ...outline, blocks: { ...blocks, reached: workshop.corpus.reachedCount } };
  } catch (error) {
    const failure = `seed ${job.seed}: ${error instanceof Error ? error.stack : error}`;
    return { compared: 0, executions: 0, reasons: Object.values(Reason).map(() => 0), failure, blocks };
  }
}
