/**
 * The engine inside a packet worker: raw calls into the module on shared memory, nothing per packet. Made from a
 * WorkerSeat, which crosses a postMessage unharmed. The loop around it belongs to src/worker/.
 */
import {
  BATCH_SIZE,
  DESCRIPTOR_COUNT,
  Descriptor,
  HEAD_L3_OFFSET,
  HEAD_STRIDE,
  MADE_SIZE,
  TAIL_STRIDE,
} from "../gen/layout.ts";
import { compileModule, type EngineExports, instantiate } from "./abi.ts";
import type { WorkerSeat } from "./host.ts";
import { runWarmUp } from "./warm-up.ts";

/** Where the native side finds descriptors and frames. Linear offsets and bytes. */
export interface FrameGeometry {
  readonly descriptorBase: number;
  readonly descriptorBytes: number;
  readonly descriptorCount: number;
  /** Head block i of received frames at headBase + i * headStride; those of made frames follow as blocks 64... */
  readonly headBase: number;
  readonly headStride: number;
  readonly headLayer3Offset: number;
  readonly tailBase: number;
  readonly tailStride: number;
  readonly receiveCount: number;
  readonly madeCount: number;
}

export class WorkerEngine {
  readonly memory: WebAssembly.Memory;
  readonly geometry: FrameGeometry;
  readonly #module: WebAssembly.Module;
  readonly #exports: EngineExports;
  readonly #isAlone: boolean;

  /**
   * Attaches. Throws when module, memory and program do not fit together.
   * @param module of which other instances may have run warm (warm-up.ts); by default the seat's bytes are compiled here, and are cold
   */
  constructor(seat: WorkerSeat, module: WebAssembly.Module = compileModule(seat.moduleBytes)) {
    const regions = seat.map.workers[seat.workerIndex];
    if (regions === undefined)
      throw new RangeError(
        `the memory was laid out for ${seat.map.workers.length} workers; there is no number ${seat.workerIndex}`,
      );
    this.memory = seat.memory;
    this.#isAlone = seat.map.workers.length === 1;
    this.#module = module;
    this.#exports = instantiate(this.#module, seat.memory, regions.map);
    this.geometry = {
      descriptorBase: regions.descriptors,
      descriptorBytes: Descriptor.size,
      descriptorCount: DESCRIPTOR_COUNT,
      headBase: regions.heads,
      headStride: HEAD_STRIDE,
      headLayer3Offset: HEAD_L3_OFFSET,
      tailBase: regions.tails,
      tailStride: TAIL_STRIDE,
      receiveCount: BATCH_SIZE,
      madeCount: MADE_SIZE,
    };
  }

  /**
   * Decides about descriptors 0..count-1 and rewrites their frames. Verdicts, egress ports and made frames stand in the
   * descriptors afterwards. @param count 0..64 @param nowMs engine clock, milliseconds @returns number of made frames
   */
  process(count: number, nowMs: number): number {
    return this.#exports.processBatch(count, nowMs);
  }

  /**
   * Fills descriptors 0.. with frames that another worker has handed over; process() and send them like received ones, then
   * releaseHandedOver(). @returns number of frames, 0: none waits
   */
  takeHandedOver(): number {
    return this.#exports.takeHandedOver();
  }

  /** The frames taken last are done with; their room goes back to the giver. */
  releaseHandedOver(): void {
    this.#exports.releaseHandedOver();
  }

  /** Whether other workers have handed frames over that are not taken yet. */
  hasHandedOver(): boolean {
    return this.#exports.hasHandedOver() !== 0;
  }

  /** Bit per worker that got frames from the last batches and sleeps: the caller wakes it. Told once. */
  takeWakes(): number {
    return this.#exports.takeWakes();
  }

  /** Before a wait that sees no frames of other workers. @returns false: do not wait, there are some. Ends by endSleep(). */
  announceSleep(): boolean {
    return this.#exports.announceSleep() !== 0;
  }

  /** After that wait. */
  endSleep(): void {
    this.#exports.endSleep();
  }

  /** One atomic load when nothing changed. Before every batch. @returns generation in use, 0: none */
  adoptIfPublished(): number {
    return this.#exports.adoptIfPublished() >>> 0;
  }

  /** A bounded slice of expiry; between batches, at least once a second. @returns whether more is due already */
  sweepSlice(nowMs: number): boolean {
    return this.#exports.sweepSlice(nowMs) !== 0;
  }

  /** Expires everything that is due, however long it takes. Not for a worker under traffic. */
  sweepAll(nowMs: number): void {
    this.#exports.sweepAll(nowMs);
  }

  /** Before waiting for packets: the worker promises not to touch tables until leaveQuiescent(). */
  enterQuiescent(): void {
    this.#exports.enterQuiescent();
  }

  /** After waiting, before anything else; adopts what was published meanwhile. @returns generation in use */
  leaveQuiescent(): number {
    return this.#exports.leaveQuiescent() >>> 0;
  }

  stopRequested(): boolean {
    return this.#exports.stopRequested() !== 0;
  }

  /** Tells the main thread that the worker is alive. */
  heartbeat(nowMs: number): void {
    this.#exports.heartbeat(nowMs);
  }

  /** Runs the module warm, all of it. Leaves no trace in the worker's tables. */
  async warmUp(): Promise<void> {
    await runWarmUp(this.#module, this.#isAlone);
  }
}
