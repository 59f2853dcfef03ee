/**
 * Frames as plain values in and out of a worker's descriptors and blocks, as the native side would put and find them. For
 * engines behind the PacketEngine interface; a packet worker copies nothing.
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
import type { Direction, FlowState, FrameIn, FrameOut, Outcome, Port, VnetHeader } from "./engine.ts";
import type { WorkerRegions } from "./memory.ts";

const DIRECTIONS: readonly Direction[] = ["none", "client-to-server", "server-to-client"];
const FLOW_STATES: readonly FlowState[] = ["none", "new", "found"];

export class FrameMemory {
  readonly #bytes: Uint8Array;
  readonly #data: DataView;
  readonly #regions: WorkerRegions;
  readonly #headBytes: number;
  readonly #linkBytes = new Map<number, number>();

  /** @param headBytes layer-3 bytes that go into the head block, the rest into the tail */
  constructor(memory: WebAssembly.Memory, regions: WorkerRegions, headBytes = HEAD_L3_CAPACITY) {
    this.#bytes = new Uint8Array(memory.buffer);
    this.#data = new DataView(memory.buffer);
    this.#regions = regions;
    this.#headBytes = headBytes;
  }

  /** Says what frames of the port begin with. */
  setPort(index: number, port: Port): void {
    this.#linkBytes.set(index, port.kind === "ethernet" ? 14 : 0);
  }

  /** Puts a frame where the native side would: layer 3 at a fixed place of the head block, what is too long in the tail. */
  place(frame: FrameIn, index: number): void {
    const link = this.#linkBytes.get(frame.port) ?? 14;
    const start = this.#regions.heads + index * HEAD_STRIDE + HEAD_L3_OFFSET - link;
    const tail = this.#regions.tails + index * TAIL_STRIDE;
    const inHead = Math.min(frame.bytes.length, link + this.#headBytes);
    if (frame.bytes.length - inHead > TAIL_STRIDE)
      throw new RangeError(`a frame of ${frame.bytes.length} bytes is too long`);
    this.#bytes.set(frame.bytes.subarray(0, inHead), start);
    this.#bytes.set(frame.bytes.subarray(inHead), tail);
    const at = this.#regions.descriptors + index * Descriptor.size;
    // Whatever the batch before left behind must not matter.
    this.#bytes.fill(0xa5, at, at + Descriptor.size);
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
    data.setUint32(at + Descriptor.handOver, 0, true);
  }

  /** What the engine has written about descriptor `index`, and what leaves because of it. */
  outcome(index: number, made: number): Outcome {
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
      passed: this.#passed(index, made),
    };
  }

  /** The frame of a received descriptor as it is now. */
  frame(index: number): FrameOut {
    const at = this.#regions.descriptors + index * Descriptor.size;
    return { ...this.#frame(at), port: this.#data.getUint8(at + Descriptor.inPort) };
  }

  /** The made frames that the kernel gets because of a received one. */
  #passed(index: number, made: number): FrameOut[] {
    return Array.from({ length: made }, (_, i) => BATCH_SIZE + i)
      .map((place) => ({ place, at: this.#regions.descriptors + place * Descriptor.size }))
      .filter(({ at }) => this.#data.getUint8(at + Descriptor.verdict) === Verdict.Pass)
      .filter(({ at }) => this.#data.getUint32(at + Descriptor.madeFirst, true) === index)
      .map(({ place }) => this.frame(place));
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
    bytes.set(this.#bytes.subarray(start, start + inHead));
    bytes.set(this.#bytes.subarray(tail, tail + length - inHead), inHead);
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
}
