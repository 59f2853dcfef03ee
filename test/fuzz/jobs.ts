/**
 * The kinds of random run that `npm run fuzz` alternates between. A job is a kind and a seed and always does the same;
 * what it gives back can be added up and sent to another process.
 */
import { Reason } from "../../src/gen/layout.ts";
import { run } from "../differential/run.ts";
import { wasmSubject } from "../differential/subject.ts";
import { MODULE_BYTES } from "../support/wasm-engine.ts";
import { runAlone } from "./alone.ts";
import { Corpus } from "./corpus.ts";
import { MARKER_BASE } from "./guarded-engine.ts";
import { type Instrumented, instrumentedEngine } from "./instrument.ts";

/** `agreement`: both engines side by side (test/differential). `alone`: the WebAssembly engine alone, guarded (alone.ts). */
export const JOB_KINDS = ["agreement", "alone"] as const;
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
}

/** Compiles the build that marks its blocks, which takes seconds, if the kinds need one. */
export async function openWorkshop(kinds: readonly JobKind[]): Promise<Workshop> {
  const isNeeded = kinds.includes("alone");
  const engine = isNeeded ? await instrumentedEngine(MARKER_BASE) : { moduleBytes: MODULE_BYTES, blocks: [] };
  return { engine, corpus: new Corpus(engine.blocks.length) };
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

/** Even seeds run in mode `ilb`, odd ones in `modern`. */
const compatOf = (seed: number): "ilb" | "modern" => (seed % 2 === 0 ? "ilb" : "modern");

type Outline = Omit<JobResult, "blocks">;

function agreement({ seed, packets }: Job): Outline {
  const { packets: compared, reasons, failure } = run(wasmSubject(seed, compatOf(seed)), seed, packets);
  return { compared, executions: compared, reasons: reasons.map(Number), failure };
}

function alone({ seed, packets }: Job, { engine, corpus }: Workshop): Outline {
  const modules = { release: MODULE_BYTES, instrumented: engine.moduleBytes };
  const { packets: done, reasons, failure } = runAlone(modules, corpus, seed, compatOf(seed), packets);
  // Two engines decide about each.
  return { compared: 0, executions: 2 * done, reasons, failure };
}

const RUNNERS: Readonly<Record<JobKind, (job: Job, workshop: Workshop) => Outline>> = { agreement, alone };

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
