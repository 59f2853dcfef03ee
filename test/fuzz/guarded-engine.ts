/**
 * The WebAssembly engine with a guard around every frame. Frames are put where a device puts them, or, one of a batch, so
 * that the last byte of the memory is the frame's last byte: a read behind it traps. Everything beside the frames is
 * filled with one byte (canary) and looked at again after every batch. What leaves is read back as a device reads it.
 *
 * Two such engines with different canaries that are given the same frames must say the same, or one has looked at what is
 * not its frame.
 *
 * The memory is laid out for two workers, of which only the first runs: what belongs to the second has to stay as it is,
 * and its last bytes are the end of the memory, where that one frame is put.
 */
import { compileModule, type EngineExports, instantiate } from "../../src/engine/abi.ts";
import type { Compat, EngineLimits, FrameIn, Outcome, Port, TableImage } from "../../src/engine/engine.ts";
import { FrameMemory } from "../../src/engine/frame-memory.ts";
import { EngineHost } from "../../src/engine/host.ts";
import { HostedEngine } from "../../src/engine/hosted-engine.ts";
import type { WorkerRegions } from "../../src/engine/memory.ts";
import {
  BATCH_SIZE,
  Descriptor,
  FRAME_TRUNCATED,
  HEAD_L3_CAPACITY,
  HEAD_STRIDE,
  MADE_SIZE,
  PORT_NONE,
  REASON_VERDICT,
  type Reason,
  TAIL_STRIDE,
  Verdict,
  WorkerMap,
} from "../../src/gen/layout.ts";

/** Bytes behind the rest of a long frame that are watched. */
const TAIL_WATCH = 64;
/** Bytes before the frame at the end of the memory that are watched. */
const EDGE_WATCH = 64;
const BLOCK_BYTES = BATCH_SIZE * HEAD_STRIDE;

/** Something that no engine may do, whatever it was given. */
export class GuardFault extends Error {
  override readonly name = "GuardFault";
}

export interface GuardedOptions {
  readonly limits: EngineLimits;
  readonly moduleBytes: Uint8Array<ArrayBuffer>;
  readonly hashKey: Uint8Array;
  readonly compat: Compat;
  /** What fills everything beside the frames. */
  readonly canary: number;
  /** Layer-3 bytes that go into the head block, at most; the rest goes to the tail. */
  readonly headBytes?: number;
}

/** What a receiver may say about a frame beside what FrameIn says. */
export interface GuardedFrame extends FrameIn {
  /** The frame did not fit the receive buffer. */
  readonly truncated?: boolean;
}

interface Placed {
  readonly start: number;
  readonly inHead: number;
  readonly tail: number;
}

/** Where the markers of an instrumented module go: the beginning of the memory, which every layout leaves empty. */
export const MARKER_BASE = 64;

export class GuardedEngine extends HostedEngine {
  readonly name = "guarded";
  readonly #exports: EngineExports;
  readonly #bytes: Uint8Array;
  readonly #data: DataView;
  readonly #regions: WorkerRegions;
  readonly #canary: number;
  readonly #canaries: Uint8Array;
  readonly #frames: FrameMemory;
  /** Index of the frame that goes to the end of the memory; null: none. */
  edge: number | null = null;
  #packets = 0n;

  constructor({ limits, moduleBytes, hashKey, compat, canary, headBytes = HEAD_L3_CAPACITY }: GuardedOptions) {
    super(EngineHost.create({ limits, workers: 2, hashKey, moduleBytes, compat }));
    this.#regions = this.host.map.workers[0]!;
    // The one that runs is alone and hands nothing over.
    new DataView(this.host.memory.buffer).setUint32(this.#regions.map + WorkerMap.workerCount, 1, true);
    this.#exports = instantiate(compileModule(moduleBytes), this.host.memory, this.#regions.map);
    this.#exports.leaveQuiescent();
    this.#bytes = new Uint8Array(this.host.memory.buffer);
    this.#data = new DataView(this.host.memory.buffer);
    this.#frames = new FrameMemory(this.host.memory, this.#regions, headBytes);
    this.#canary = canary;
    this.#canaries = new Uint8Array(BLOCK_BYTES).fill(canary);
    this.#bytes.set(this.#canaries, this.#regions.heads);
  }

  publish(image: TableImage): void {
    this.host.stage(image)();
    this.#exports.adoptIfPublished();
  }

  setPort(index: number, port: Port): void {
    this.#frames.setPort(index, port);
    this.host.setPort(index, port);
  }

  /** Throws a GuardFault, or whatever a trap throws. */
  process(frames: readonly GuardedFrame[], nowMs: number): Outcome[] {
    const placed = frames.map((frame, index) => this.#place(frame, index));
    const made = this.#exports.processBatch(frames.length, nowMs >>> 0);
    this.#packets += BigInt(frames.length);
    const outcomes = frames.map((_, index) => this.#outcome(index, made));
    for (const [index, frame] of frames.entries()) this.#check(frame, index, placed[index]!, outcomes[index]!);
    for (const [index] of frames.entries()) this.#clear(placed[index]!);
    if (
      Buffer.compare(this.#bytes.subarray(this.#regions.heads, this.#regions.heads + BLOCK_BYTES), this.#canaries) !== 0
    )
      throw new GuardFault("a byte beside the frames has changed");
    return outcomes;
  }

  #place(frame: GuardedFrame, index: number): Placed {
    this.#frames.place(frame, index);
    const at = this.#regions.descriptors + index * Descriptor.size;
    const data = this.#data;
    const inHead = data.getUint32(at + Descriptor.headLength, true);
    const tail = data.getUint32(at + Descriptor.tail, true);
    const rest = frame.bytes.length - inHead;
    if (rest > TAIL_STRIDE - TAIL_WATCH) throw new RangeError(`a frame of ${frame.bytes.length} bytes is too long`);
    this.#bytes.fill(this.#canary, tail + rest, tail + rest + TAIL_WATCH);
    if (frame.truncated) {
      data.setUint16(at + Descriptor.flags, data.getUint16(at + Descriptor.flags, true) | FRAME_TRUNCATED, true);
    }
    const usual = data.getUint32(at + Descriptor.frame, true);
    if (index !== this.edge) return { start: usual, inHead, tail };
    const start = this.#bytes.length - inHead;
    this.#bytes.fill(this.#canary, start - EDGE_WATCH, start);
    this.#bytes.copyWithin(start, usual, usual + inHead);
    this.#bytes.fill(this.#canary, usual, usual + inHead);
    data.setUint32(at + Descriptor.frame, start, true);
    return { start, inHead, tail };
  }

  #outcome(index: number, made: number): Outcome {
    const at = this.#regions.descriptors + index * Descriptor.size;
    const data = this.#data;
    const verdict = data.getUint8(at + Descriptor.verdict) as Verdict;
    const reason = data.getUint8(at + Descriptor.reason) as Reason;
    if (REASON_VERDICT[reason] !== verdict)
      throw new GuardFault(`frame ${index} has verdict ${verdict} with reason ${reason}`);
    const leaves = verdict === Verdict.Forward || verdict === Verdict.Reply;
    if (!leaves && data.getUint8(at + Descriptor.outPort) !== PORT_NONE)
      throw new GuardFault(`frame ${index} stays and has a port to leave by`);
    const first = data.getUint32(at + Descriptor.madeFirst, true);
    const count = data.getUint32(at + Descriptor.madeCount, true);
    if (leaves && count > 0 && (first < BATCH_SIZE || first + count > BATCH_SIZE + MADE_SIZE))
      throw new GuardFault(`frame ${index} names made frames ${first} to ${first + count - 1}`);
    const length = data.getUint32(at + Descriptor.length, true);
    if (data.getUint32(at + Descriptor.headLength, true) > length || length > HEAD_STRIDE + TAIL_STRIDE)
      throw new GuardFault(`frame ${index} has become one of ${length} bytes`);
    const outcome = this.#frames.outcome(index, made);
    if (outcome.direction === undefined || outcome.flow === undefined)
      throw new GuardFault(`frame ${index} has no direction or flow state`);
    return outcome;
  }

  /** What holds of a frame beside the bytes around it: what stays is as it came, what goes has grown by a link header at most. */
  #check(frame: GuardedFrame, index: number, { start, inHead, tail }: Placed, { verdict }: Outcome): void {
    const at = this.#regions.descriptors + index * Descriptor.size;
    const now = {
      start: this.#data.getUint32(at + Descriptor.frame, true),
      inHead: this.#data.getUint32(at + Descriptor.headLength, true),
    };
    const bytes = this.#bytes;
    const rest = frame.bytes.length - inHead;
    if (rest > 0 && Buffer.compare(bytes.subarray(tail, tail + rest), frame.bytes.subarray(inHead)) !== 0)
      throw new GuardFault(`the tail of frame ${index} has changed`);
    if (bytes.subarray(tail + rest, tail + rest + TAIL_WATCH).some((byte) => byte !== this.#canary))
      throw new GuardFault(`a byte behind the tail of frame ${index} has changed`);
    if (verdict !== Verdict.Forward && verdict !== Verdict.Reply) {
      const isSame =
        now.start === start &&
        Buffer.compare(bytes.subarray(start, start + inHead), frame.bytes.subarray(0, inHead)) === 0;
      if (!isSame) throw new GuardFault(`frame ${index} stays and has changed`);
    } else {
      const grown = start - now.start;
      if (now.start + now.inHead !== start + inHead || ![0, 14, -14].includes(grown))
        throw new GuardFault(`frame ${index} was at ${start}, ${inHead} bytes, and is at ${now.start}, ${now.inHead}`);
      if (grown > 0) bytes.fill(this.#canary, now.start, start);
    }
    if (index === this.edge && bytes.subarray(start - EDGE_WATCH, start).some((byte) => byte !== this.#canary))
      throw new GuardFault("a byte before the frame at the end of the memory has changed");
  }

  #clear({ start, inHead }: Placed): void {
    const isInBlocks = start < this.#regions.heads + BLOCK_BYTES;
    this.#bytes.fill(isInBlocks ? this.#canary : 0, start - (isInBlocks ? 0 : EDGE_WATCH), start + inHead);
  }

  /** Whether the first worker has kept to itself and has counted every packet. Slow; once in a while. */
  checkAll(): void {
    const counters = this.counters();
    const sum = counters.reasons.reduce((total, count) => total + count, 0n);
    if (counters.packetsIn !== this.#packets || sum !== this.#packets)
      throw new GuardFault(`${this.#packets} packets in, ${counters.packetsIn} counted, reasons add up to ${sum}`);
    const other = this.host.map.workers[1]!;
    for (const [name, from, to] of [
      ["descriptors", other.descriptors, other.heads],
      ["frames", other.heads, other.scratch],
      ["counters", other.counters, other.ruleStates],
      ["tables", other.buckets, other.chunks],
    ] as const) {
      if (this.#bytes.subarray(from, to).some((byte) => byte !== 0))
        throw new GuardFault(`${name} of the worker that does not run have changed`);
    }
  }

  /** Markers of an instrumented module that are set. @param count of blocks */
  markers(count: number): Uint8Array {
    if (MARKER_BASE + count > this.host.map.sharedHeader) throw new RangeError(`no room for ${count} markers`);
    return this.#bytes.subarray(MARKER_BASE, MARKER_BASE + count);
  }

  sweep(nowMs: number): void {
    this.#exports.sweepAll(nowMs >>> 0);
  }
  sweepSlice(nowMs: number): void {
    this.#exports.sweepSlice(nowMs >>> 0);
  }
}
