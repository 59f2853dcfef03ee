/**
 * A packet worker without a device: takes recorded batches of mixed traffic with all that the loop does between two, and
 * writes down how long each took: by the wall clock, in processor time of the thread, and whether the kernel gave the
 * processor to somebody else meanwhile. The main thread publishes beside it (stall-process.ts).
 */
import { dlopen, FFIType } from "bun:ffi";
import type { Port } from "../../src/engine/engine.ts";
import { FrameMemory } from "../../src/engine/frame-memory.ts";
import type { WorkerSeat } from "../../src/engine/host.ts";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import { BATCH_SIZE } from "../../src/gen/layout.ts";
import type { MixedEvent } from "./mixed-traffic.ts";
import { threadNanoseconds } from "./thread-clock.ts";

/** A batch that took long. */
export interface LongBatch {
  /** Counted from the first after the warm-up. */
  readonly batch: number;
  readonly wallMs: number;
  readonly processorMs: number;
  /** How often the thread was made to give the processor away, and how often it waited for something. */
  readonly preempted: number;
  readonly waited: number;
  /** Pages that the kernel gave the thread at their first touch. */
  readonly faults: number;
}

export interface StallReport {
  /** The longest, the longest first. */
  readonly byProcessor: readonly LongBatch[];
  readonly byWall: readonly LongBatch[];
}

export interface StallOrder {
  readonly seat: WorkerSeat;
  readonly ports: readonly (readonly [number, Port])[];
  /** Over and over. */
  readonly events: readonly MixedEvent[];
  readonly batches: number;
  /** One word: how many events the worker has passed. */
  readonly shared: Int32Array;
}

const RUSAGE_THREAD = 1;
/** Places of ru_minflt, ru_nvcsw and ru_nivcsw, the lower halves. */
const FAULTS = 16;
const WAITED = 32;
const PREEMPTED = 34;
const libc = dlopen("libc.so.6", { getrusage: { args: [FFIType.i32, FFIType.ptr], returns: FFIType.i32 } });
const usage = new Int32Array(36);
const KEPT = 20;
/** How far the engine clock goes on from one round of the recording to the next. */
const ROUND_MS = 1_000_000;

async function work({ seat, ports, events, batches, shared }: StallOrder): Promise<StallReport> {
  const engine = new WorkerEngine(seat);
  await engine.warmUp();
  const frames = new FrameMemory(seat.memory, seat.map.workers[0]!);
  for (const [index, port] of ports) frames.setPort(index, port);
  const [wall, processor] = [new Float64Array(batches), new Float64Array(batches)];
  const [waited, preempted, faults] = [new Int32Array(batches), new Int32Array(batches), new Int32Array(batches)];
  engine.leaveQuiescent();
  for (let done = 0, passed = 0; done < batches; passed++) {
    const event = events[passed % events.length]!;
    Atomics.store(shared, 0, passed);
    if (event.kind !== "batch") continue;
    for (let slot = 0; slot < BATCH_SIZE; slot++) frames.place(event.frames[slot]!, slot);
    const nowMs = event.nowMs + Math.floor(passed / events.length) * ROUND_MS;
    libc.symbols.getrusage(RUSAGE_THREAD, usage);
    const waitedBefore = usage[WAITED]!;
    const preemptedBefore = usage[PREEMPTED]!;
    const faultsBefore = usage[FAULTS]!;
    const wallStart = Bun.nanoseconds();
    const processorStart = threadNanoseconds();
    engine.enterQuiescent();
    engine.leaveQuiescent();
    engine.process(BATCH_SIZE, nowMs);
    engine.sweepSlice(nowMs);
    engine.heartbeat(nowMs);
    processor[done] = threadNanoseconds() - processorStart;
    wall[done] = Bun.nanoseconds() - wallStart;
    libc.symbols.getrusage(RUSAGE_THREAD, usage);
    waited[done] = usage[WAITED]! - waitedBefore;
    preempted[done] = usage[PREEMPTED]! - preemptedBefore;
    faults[done] = usage[FAULTS]! - faultsBefore;
    done++;
  }
  engine.enterQuiescent();
  const longest = (by: Float64Array): LongBatch[] =>
    [...by.keys()]
      .sort((a, b) => by[b]! - by[a]!)
      .slice(0, KEPT)
      .map((batch) => ({
        batch,
        wallMs: wall[batch]! / 1e6,
        processorMs: processor[batch]! / 1e6,
        waited: waited[batch]!,
        preempted: preempted[batch]!,
        faults: faults[batch]!,
      }));
  return { byProcessor: longest(processor), byWall: longest(wall) };
}

declare const self: { onmessage: (event: MessageEvent<StallOrder>) => void };

/** Inside of the worker; others import the types only. */
if (!Bun.isMainThread)
  self.onmessage = async ({ data }) => {
    postMessage(await work(data));
  };
