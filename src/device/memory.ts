/**
 * The in-memory twin of the packet devices: frames are put in by `inject` (or come back over a link) and taken out by
 * `takeSent` and `takePassed`. Never waits; time is whatever the test says. For tests, and under the fault injector.
 */
import type { FrameIn, FrameOut } from "../engine/engine.ts";
import { BATCH_SIZE, Descriptor, MADE_SIZE, Verdict } from "../gen/layout.ts";
import { COUNTER_NAMES, type CounterName } from "../native/packet-io.ts";
import type { DevicePort, FrameGeometry, PacketIo, PortCounters } from "./device.ts";
import { FrameTable } from "./frames.ts";

export interface MemoryIoOptions {
  /** Engine clock, milliseconds; default: stands at 0. */
  readonly clock?: () => number;
  /** Pairs of ports joined by a cable: what leaves one arrives at the other, and is in `takeSent` no more. */
  readonly links?: readonly (readonly [number, number])[];
}

/** virtio_net_hdr.flags NEEDS_CSUM, the only flag that leaves. */
const NEEDS_CSUM = 1;

export class MemoryPacketIo implements PacketIo {
  readonly ports: readonly DevicePort[];
  readonly #frames: FrameTable;
  readonly #clock: () => number;
  readonly #peers = new Map<number, number>();
  readonly #waiting: FrameIn[] = [];
  readonly #sent: FrameOut[] = [];
  readonly #passed: FrameOut[] = [];
  readonly #counters: Record<CounterName, bigint>[];
  #nowMs = 0;
  #waitedUs = 0;
  #wakeUps = 0;

  constructor(
    memory: ArrayBufferLike,
    geometry: FrameGeometry,
    ports: readonly DevicePort[],
    options: MemoryIoOptions = {},
  ) {
    this.ports = ports;
    this.#frames = new FrameTable(memory, geometry);
    this.#clock = options.clock ?? (() => 0);
    this.#counters = ports.map(
      () => Object.fromEntries(COUNTER_NAMES.map((name) => [name, 0n])) as Record<CounterName, bigint>,
    );
    for (const [a, b] of options.links ?? []) this.#peers.set(a, b).set(b, a);
  }

  /** Frames arrive in this order. */
  inject(...frames: readonly FrameIn[]): void {
    this.#waiting.push(...frames);
  }

  /** What has left and not been taken, in order. */
  takeSent(): FrameOut[] {
    return this.#sent.splice(0);
  }

  /** What was given back to the kernel, `port` being the port that it came from. */
  takePassed(): FrameOut[] {
    return this.#passed.splice(0);
  }

  /** How often `wake` was called. */
  get wakeUps(): number {
    return this.#wakeUps;
  }

  receive(timeoutUs: number): number {
    const batch = this.#waiting.splice(0, BATCH_SIZE);
    if (batch.length === 0) this.#waitedUs += timeoutUs;
    batch.forEach((frame, slot) => {
      const port = this.ports[frame.port];
      if (!port) throw new RangeError(`no port ${frame.port}`);
      const length = this.#frames.put(slot, port, frame);
      this.#count(frame.port, "rxFrames", 1n);
      this.#count(frame.port, "rxBytes", BigInt(length));
      if (length < frame.bytes.length) this.#count(frame.port, "rxTruncated", 1n);
    });
    this.#nowMs = this.#clock();
    return batch.length;
  }

  transmit(count: number, made: number): number {
    if (count > BATCH_SIZE || made > MADE_SIZE) throw new RangeError(`batch of ${count} and ${made} frames`);
    const left = new Set<number>();
    let sent = 0;
    const send = (index: number) => {
      if (index >= BATCH_SIZE && left.has(index)) return;
      left.add(index);
      if (this.#send(index)) sent++;
    };
    const end = BATCH_SIZE + made;
    for (let i = 0; i < count; i++) {
      const verdict = this.#frames.u8(i, Descriptor.verdict);
      if (verdict === Verdict.Pass && this.#pass(i)) sent++;
      if (verdict !== Verdict.Forward && verdict !== Verdict.Reply) continue;
      const madeCount = this.#frames.u32(i, Descriptor.madeCount);
      const first = this.#frames.u32(i, Descriptor.madeFirst);
      if (madeCount === 0) send(i);
      else if (first >= BATCH_SIZE) for (let m = first; m < Math.min(first + madeCount, end); m++) send(m);
    }
    for (let m = BATCH_SIZE; m < end; m++) {
      if (this.#frames.u8(m, Descriptor.verdict) !== Verdict.Pass) send(m);
      else if (this.#pass(m)) sent++;
    }
    return sent;
  }

  #frameOut(index: number, port: number): FrameOut | null {
    const bytes = this.#frames.take(index);
    const vnet = this.#frames.vnet(index);
    return bytes && { bytes, port, vnet: { ...vnet, flags: vnet.flags & NEEDS_CSUM } };
  }

  #send(index: number): boolean {
    const port = this.#frames.u8(index, Descriptor.outPort);
    const inPort = this.#frames.u8(index, Descriptor.inPort);
    const frame = this.ports[port] ? this.#frameOut(index, port) : null;
    if (!frame) {
      this.#count(this.ports[port] ? port : inPort, "txInvalid", 1n);
      return false;
    }
    this.#count(port, "txFrames", 1n);
    this.#count(port, "txBytes", BigInt(frame.bytes.length));
    const peer = this.#peers.get(port);
    if (peer === undefined) this.#sent.push(frame);
    else this.#waiting.push({ ...frame, port: peer });
    return true;
  }

  #pass(index: number): boolean {
    const port = this.#frames.u8(index, Descriptor.inPort);
    const frame = this.#frameOut(index, port);
    this.#count(port, frame ? "passFrames" : "passErrors", 1n);
    if (!frame) return false;
    this.#count(port, "passBytes", BigInt(frame.bytes.length));
    this.#passed.push(frame);
    return true;
  }

  #count(port: number, name: CounterName, amount: bigint): void {
    const counters = this.#counters[port];
    if (counters) counters[name] += amount;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  /** As if it had waited whenever it had nothing. */
  waitedUs(): number {
    return this.#waitedUs;
  }

  wake(): void {
    this.#wakeUps++;
  }

  counters(index: number): PortCounters {
    const counters = this.#counters[index];
    if (!counters) throw new RangeError(`no port ${index}`);
    return { ...counters };
  }

  close(): void {
    this.#waiting.length = 0;
  }
}
