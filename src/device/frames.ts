/**
 * Frames as byte arrays in and out of head and tail blocks, for the devices that are not the kernel. Slow and plain;
 * the packet path never comes here.
 */
import type { FrameIn, VnetHeader } from "../engine/engine.ts";
import {
  Descriptor,
  ETHERNET_HEADER,
  FRAME_TRUNCATED,
  FRAME_VLAN,
  HEAD_L3_CAPACITY,
  HEAD_L3_OFFSET,
  HEAD_STRIDE,
  PORT_NONE,
  TAIL_STRIDE,
  Verdict,
} from "../gen/layout.ts";
import type { DevicePort, FrameGeometry } from "./device.ts";

const NO_OFFLOAD: VnetHeader = { flags: 0, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 };

export class FrameTable {
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #geometry: FrameGeometry;

  constructor(memory: ArrayBufferLike, geometry: FrameGeometry) {
    this.#bytes = new Uint8Array(memory);
    this.#view = new DataView(memory);
    this.#geometry = geometry;
  }

  #at(index: number): number {
    return this.#geometry.descriptors + index * Descriptor.size;
  }

  u8(index: number, field: number): number {
    return this.#view.getUint8(this.#at(index) + field);
  }

  u32(index: number, field: number): number {
    return this.#view.getUint32(this.#at(index) + field, true);
  }

  setU8(index: number, field: number, value: number): void {
    this.#view.setUint8(this.#at(index) + field, value);
  }

  setU32(index: number, field: number, value: number): void {
    this.#view.setUint32(this.#at(index) + field, value, true);
  }

  /** Puts the descriptor of `from` at place `to`; the blocks that it names stay where they are. */
  copyDescriptor(to: number, from: number): void {
    this.#bytes.copyWithin(this.#at(to), this.#at(from), this.#at(from) + Descriptor.size);
  }

  swapDescriptors(a: number, b: number): void {
    const kept = this.#bytes.slice(this.#at(a), this.#at(a) + Descriptor.size);
    this.copyDescriptor(a, b);
    this.#bytes.set(kept, this.#at(b));
  }

  /** Writes a received frame into slot and descriptor `slot`, as the native library does. Returns its length, cut to fit. */
  put(slot: number, port: DevicePort, frame: FrameIn): number {
    const beforeL3 = port.kind === "ethernet" ? ETHERNET_HEADER : 0;
    const start = this.#geometry.heads + slot * HEAD_STRIDE + HEAD_L3_OFFSET - beforeL3;
    const tail = this.#geometry.tails + slot * TAIL_STRIDE;
    const headCapacity = HEAD_L3_CAPACITY + beforeL3;
    const kept = frame.bytes.subarray(0, headCapacity + TAIL_STRIDE);
    this.#bytes.set(kept.subarray(0, headCapacity), start);
    if (kept.length > headCapacity) this.#bytes.set(kept.subarray(headCapacity), tail);
    this.#bytes.fill(0, this.#at(slot), this.#at(slot) + Descriptor.size);
    this.setU32(slot, Descriptor.frame, start);
    this.setU32(slot, Descriptor.length, kept.length);
    this.setU32(slot, Descriptor.headLength, Math.min(kept.length, headCapacity));
    this.setU32(slot, Descriptor.tail, tail);
    this.setU8(slot, Descriptor.inPort, frame.port);
    this.setU8(slot, Descriptor.outPort, PORT_NONE);
    this.setU8(slot, Descriptor.verdict, Verdict.Ignore);
    const truncated = kept.length < frame.bytes.length ? FRAME_TRUNCATED : 0;
    this.#view.setUint16(this.#at(slot) + Descriptor.flags, truncated | (frame.vlan ? FRAME_VLAN : 0), true);
    this.#view.setUint16(this.#at(slot) + Descriptor.slot, slot, true);
    this.#putVnet(slot, frame.vnet ?? NO_OFFLOAD);
    return kept.length;
  }

  #putVnet(index: number, vnet: VnetHeader): void {
    const at = this.#at(index);
    this.#view.setUint8(at + Descriptor.vnetFlags, vnet.flags);
    this.#view.setUint8(at + Descriptor.vnetGsoType, vnet.gsoType);
    this.#view.setUint16(at + Descriptor.vnetHdrLen, vnet.hdrLen, true);
    this.#view.setUint16(at + Descriptor.vnetGsoSize, vnet.gsoSize, true);
    this.#view.setUint16(at + Descriptor.vnetCsumStart, vnet.csumStart, true);
    this.#view.setUint16(at + Descriptor.vnetCsumOffset, vnet.csumOffset, true);
  }

  vnet(index: number): VnetHeader {
    const at = this.#at(index);
    return {
      flags: this.#view.getUint8(at + Descriptor.vnetFlags),
      gsoType: this.#view.getUint8(at + Descriptor.vnetGsoType),
      hdrLen: this.#view.getUint16(at + Descriptor.vnetHdrLen, true),
      gsoSize: this.#view.getUint16(at + Descriptor.vnetGsoSize, true),
      csumStart: this.#view.getUint16(at + Descriptor.vnetCsumStart, true),
      csumOffset: this.#view.getUint16(at + Descriptor.vnetCsumOffset, true),
    };
  }

  /** A copy of the whole frame, or null when the descriptor contradicts itself or points outside the memory. */
  take(index: number): Uint8Array | null {
    const length = this.u32(index, Descriptor.length);
    const headLength = this.u32(index, Descriptor.headLength);
    const frame = this.u32(index, Descriptor.frame);
    const tail = this.u32(index, Descriptor.tail);
    const rest = length - headLength;
    if (headLength === 0 || rest < 0 || frame + headLength > this.#bytes.length) return null;
    if (rest > 0 && tail + rest > this.#bytes.length) return null;
    const whole = new Uint8Array(length);
    whole.set(this.#bytes.subarray(frame, frame + headLength));
    whole.set(this.#bytes.subarray(tail, tail + rest), headLength);
    return whole;
  }
}
