/**
 * The WebAssembly engine behind the PacketEngine interface: frames are copied into its memory and out again. For replay,
 * explain and tests; the packet worker calls the module on shared memory directly (worker-engine.ts).
 */
import {
  BATCH_SIZE,
  Descriptor,
  FRAME_VLAN,
  HEAD_L3_CAPACITY,
  HEAD_L3_OFFSET,
  HEAD_STRIDE,
  type Reason,
  TAIL_STRIDE,
  Verdict,
} from "../gen/layout.ts";
import { compileModule, type EngineExports, instantiate, type MemoryViews, viewsOf } from "./abi.ts";
import type {
  Compat,
  Direction,
  EngineCounters,
  EngineLimits,
  FlowSnapshot,
  FlowState,
  FrameIn,
  FrameOut,
  NextHop,
  Outcome,
  PacketEngine,
  Port,
  StickySnapshot,
  TableImage,
  VnetHeader,
} from "./engine.ts";
import { EngineHost, fixedHashKey } from "./host.ts";
import type { WorkerRegions } from "./memory.ts";
import type { EngineHealth } from "./stats.ts";

const DIRECTIONS: readonly Direction[] = ["none", "client-to-server", "server-to-client"];
const FLOW_STATES: readonly FlowState[] = ["none", "new", "found"];

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
}

export class WasmEngine implements PacketEngine {
  readonly name = "wasm";
  readonly host: EngineHost;
  readonly #exports: EngineExports;
  readonly #views: MemoryViews;
  readonly #data: DataView;
  readonly #regions: WorkerRegions;
  readonly #headBytes: number;
  readonly #linkBytes = new Map<number, number>();

  constructor(options: WasmEngineOptions) {
    const { limits, moduleBytes, hashKey = fixedHashKey(), headBytes = HEAD_L3_CAPACITY, compat = "modern" } = options;
    this.host = EngineHost.create({ limits, workers: 1, hashKey, moduleBytes, compat });
    this.#regions = this.host.map.workers[0]!;
    this.#exports = instantiate(compileModule(moduleBytes), this.host.memory, this.#regions.map);
    this.#exports.leaveQuiescent();
    this.#views = viewsOf(this.host.memory);
    this.#data = new DataView(this.host.memory.buffer);
    this.#headBytes = headBytes;
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
    this.#linkBytes.set(index, port.kind === "ethernet" ? 14 : 0);
    this.host.setPort(index, port);
  }

  setNextHop(index: number, hop: NextHop): void {
    this.host.setNextHop(index, hop);
  }

  process(frames: readonly FrameIn[], nowMs: number): Outcome[] {
    if (frames.length > BATCH_SIZE)
      throw new RangeError(`at most ${BATCH_SIZE} frames in a batch, not ${frames.length}`);
    frames.forEach((frame, index) => {
      this.#place(frame, index);
    });
    this.#exports.processBatch(frames.length, nowMs >>> 0);
    return frames.map((_, index) => this.#outcome(index));
  }

  /** Puts a frame where the native side would: layer 3 at a fixed place of the head block, what is too long in the tail. */
  #place(frame: FrameIn, index: number): void {
    const link = this.#linkBytes.get(frame.port) ?? 14;
    const start = this.#regions.heads + index * HEAD_STRIDE + HEAD_L3_OFFSET - link;
    const tail = this.#regions.tails + index * TAIL_STRIDE;
    const inHead = Math.min(frame.bytes.length, link + this.#headBytes);
    if (frame.bytes.length - inHead > TAIL_STRIDE)
      throw new RangeError(`a frame of ${frame.bytes.length} bytes is too long`);
    this.#views.u8.set(frame.bytes.subarray(0, inHead), start);
    this.#views.u8.set(frame.bytes.subarray(inHead), tail);
    const at = this.#regions.descriptors + index * Descriptor.size;
    // Whatever the batch before left behind must not matter.
    this.#views.u8.fill(0xa5, at, at + Descriptor.size);
    const { flags = 0, gsoType = 0, hdrLen = 0, gsoSize = 0, csumStart = 0, csumOffset = 0 } = frame.vnet ?? {};
    const data = this.#data;
    data.setUint32(at + Descriptor.frame, start, true);
    data.setUint32(at + Descriptor.length, frame.bytes.length, true);
    data.setUint32(at + Descriptor.headLength, inHead, true);
    data.setUint32(at + Descriptor.tail, tail, true);
    data.setUint8(at + Descriptor.vnetFlags, flags);
    data.setUint8(at + Descriptor.vnetGsoType, gsoType);
    data.setUint16(at + Descriptor.vnetHdrLen, hdrLen, true);
    data.setUint16(at + Descriptor.vnetGsoSize, gsoSize, true);
    data.setUint16(at + Descriptor.vnetCsumStart, csumStart, true);
    data.setUint16(at + Descriptor.vnetCsumOffset, csumOffset, true);
    data.setUint8(at + Descriptor.inPort, frame.port);
    data.setUint16(at + Descriptor.flags, frame.vlan ? FRAME_VLAN : 0, true);
    data.setUint16(at + Descriptor.slot, index, true);
  }

  #outcome(index: number): Outcome {
    const at = this.#regions.descriptors + index * Descriptor.size;
    const verdict = this.#data.getUint8(at + Descriptor.verdict) as Verdict;
    return {
      verdict,
      reason: this.#data.getUint8(at + Descriptor.reason) as Reason,
      ruleId: this.#data.getUint32(at + Descriptor.ruleId, true),
      serverId: this.#data.getUint32(at + Descriptor.serverId, true),
      direction: DIRECTIONS[this.#data.getUint8(at + Descriptor.direction)]!,
      flow: FLOW_STATES[this.#data.getUint8(at + Descriptor.flowState)]!,
      out: this.#leaving(at, verdict),
    };
  }

  /** The frame itself, or what was made in its place. */
  #leaving(at: number, verdict: Verdict): FrameOut[] {
    if (verdict !== Verdict.Forward && verdict !== Verdict.Reply) return [];
    const count = this.#data.getUint32(at + Descriptor.madeCount, true);
    if (count === 0) return [this.#frame(at)];
    const first = this.#data.getUint32(at + Descriptor.madeFirst, true);
    return Array.from({ length: count }, (_, made) =>
      this.#frame(this.#regions.descriptors + (first + made) * Descriptor.size),
    );
  }

  #frame(at: number): FrameOut {
    const data = this.#data;
    const start = data.getUint32(at + Descriptor.frame, true);
    const length = data.getUint32(at + Descriptor.length, true);
    const inHead = data.getUint32(at + Descriptor.headLength, true);
    const tail = data.getUint32(at + Descriptor.tail, true);
    const bytes = new Uint8Array(length);
    bytes.set(this.#views.u8.subarray(start, start + inHead));
    bytes.set(this.#views.u8.subarray(tail, tail + length - inHead), inHead);
    const vnet: VnetHeader = {
      flags: data.getUint8(at + Descriptor.vnetFlags),
      gsoType: data.getUint8(at + Descriptor.vnetGsoType),
      hdrLen: data.getUint16(at + Descriptor.vnetHdrLen, true),
      gsoSize: data.getUint16(at + Descriptor.vnetGsoSize, true),
      csumStart: data.getUint16(at + Descriptor.vnetCsumStart, true),
      csumOffset: data.getUint16(at + Descriptor.vnetCsumOffset, true),
    };
    return { bytes, port: data.getUint8(at + Descriptor.outPort), vnet };
  }

  sweep(nowMs: number): void {
    this.#exports.sweepAll(nowMs >>> 0);
  }

  /** One bounded slice of the sweep, as a worker does between batches. */
  sweepSlice(nowMs: number): void {
    this.#exports.sweepSlice(nowMs >>> 0);
  }

  counters(): EngineCounters {
    return this.host.counters();
  }

  health(): EngineHealth {
    return this.host.health();
  }

  flows(): FlowSnapshot[] {
    return [...this.host.flows()];
  }

  sticky(): StickySnapshot[] {
    return [...this.host.sticky()];
  }

  /** Nothing to give back: the memory goes with the object. */
  close(): void {}
}
