/**
 * The WebAssembly engine behind the PacketEngine interface: frames are copied into its memory and out again. For replay,
 * explain and tests; the packet worker calls the module on shared memory directly (worker-engine.ts).
 */
import { BATCH_SIZE, HEAD_L3_CAPACITY } from "../gen/layout.ts";
import { compileModule, type EngineExports, instantiate } from "./abi.ts";
import type { Compat, EngineLimits, FrameIn, Outcome, Port, TableImage } from "./engine.ts";
import { FrameMemory } from "./frame-memory.ts";
import { EngineHost, fixedHashKey } from "./host.ts";
import { HostedEngine } from "./hosted-engine.ts";

export interface WasmEngineOptions {
  readonly limits: EngineLimits;
  /** From abi.ts readModule(). */
  readonly moduleBytes: Uint8Array<ArrayBuffer>;
  /** Default: fixedHashKey(), so that the same input gives the same output everywhere. */
  readonly hashKey?: Uint8Array;
  /** Default `modern`. */
  readonly compat?: Compat;
  /** Layer-3 bytes that go into the head block, the rest into the tail. Default: as many as it holds. */
  readonly headBytes?: number;
  /** As in EngineHostOptions. */
  readonly firstProxyPlace?: number;
}

export class WasmEngine extends HostedEngine {
  readonly name = "wasm";
  readonly #exports: EngineExports;
  readonly #frames: FrameMemory;

  constructor(options: WasmEngineOptions) {
    const { moduleBytes, headBytes = HEAD_L3_CAPACITY } = options;
    super(EngineHost.create({ hashKey: fixedHashKey(), ...options, workers: 1 }));
    const regions = this.host.map.workers[0]!;
    this.#exports = instantiate(compileModule(moduleBytes), this.host.memory, regions.map);
    this.#exports.leaveQuiescent();
    this.#frames = new FrameMemory(this.host.memory, regions, headBytes);
  }

  publish(image: TableImage): void {
    this.stage(image)();
  }

  /** The two halves of publish(), as EngineHost.stage() has them. */
  stage(image: TableImage): () => void {
    const publish = this.host.stage(image);
    return () => {
      publish();
      this.#exports.adoptIfPublished();
    };
  }

  setPort(index: number, port: Port): void {
    this.#frames.setPort(index, port);
    this.host.setPort(index, port);
  }

  process(frames: readonly FrameIn[], nowMs: number): Outcome[] {
    if (frames.length > BATCH_SIZE)
      throw new RangeError(`at most ${BATCH_SIZE} frames in a batch, not ${frames.length}`);
    frames.forEach((frame, index) => {
      this.#frames.place(frame, index);
    });
    const made = this.#exports.processBatch(frames.length, nowMs >>> 0);
    return frames.map((_, index) => this.#frames.outcome(index, made));
  }

  sweep(nowMs: number): void {
    this.#exports.sweepAll(nowMs >>> 0);
  }

  /** One bounded slice of the sweep, as a worker does between batches. */
  sweepSlice(nowMs: number): void {
    this.#exports.sweepSlice(nowMs >>> 0);
  }
}
