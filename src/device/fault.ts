/**
 * A packet device with bad luck: loses, cuts and reorders frames of the device that it wraps, by a seed, so that a run
 * can be repeated. Works on descriptors only, so it stands before any device.
 */
import { Descriptor, Verdict } from "../gen/layout.ts";
import type { DevicePort, FrameGeometry, PacketIo, PortCounters } from "./device.ts";
import { FrameTable } from "./frames.ts";

/** Probabilities, 0..1, each per frame. Absent: never. */
export interface Faults {
  /** A received frame is lost. */
  readonly loseReceived?: number;
  /** A received frame is cut to a random shorter length of at least one byte; its offload header stays, and so lies. */
  readonly truncate?: number;
  /** A received frame changes places with a random one of its batch. */
  readonly reorder?: number;
  /** A frame that should leave is lost. */
  readonly loseSent?: number;
}

/** What was done so far. */
export interface FaultCounts {
  readonly lostReceived: number;
  readonly truncated: number;
  readonly reordered: number;
  readonly lostSent: number;
}

/** Random numbers in [0, 1) from 32 bits of state (xorshift, Marsaglia 2003). */
function randomFrom(seed: number): () => number {
  let state = (seed ^ 0x9e3779b9) >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state / 2 ** 32;
  };
}

export class FaultyPacketIo implements PacketIo {
  readonly #inner: PacketIo;
  readonly #frames: FrameTable;
  readonly #faults: Faults;
  readonly #random: () => number;
  readonly #counts = { lostReceived: 0, truncated: 0, reordered: 0, lostSent: 0 };

  /** @param memory, geometry those of `inner`. @param seed 32 bits. */
  constructor(inner: PacketIo, memory: ArrayBufferLike, geometry: FrameGeometry, faults: Faults, seed: number) {
    this.#inner = inner;
    this.#frames = new FrameTable(memory, geometry);
    this.#faults = faults;
    this.#random = randomFrom(seed);
  }

  get ports(): readonly DevicePort[] {
    return this.#inner.ports;
  }

  get faultCounts(): FaultCounts {
    return { ...this.#counts };
  }

  #happens(probability: number | undefined): boolean {
    return probability !== undefined && this.#random() < probability;
  }

  /** As of the wrapped device; 0 also when every frame of a batch was lost. */
  receive(timeoutUs: number): number {
    const received = this.#inner.receive(timeoutUs);
    let kept = 0;
    for (let i = 0; i < received; i++) {
      if (this.#happens(this.#faults.loseReceived)) {
        this.#counts.lostReceived++;
        continue;
      }
      if (kept !== i) this.#frames.copyDescriptor(kept, i);
      if (this.#happens(this.#faults.truncate)) this.#truncate(kept);
      kept++;
    }
    for (let i = 0; i < kept; i++) {
      const other = Math.floor(this.#random() * kept);
      if (other === i || !this.#happens(this.#faults.reorder)) continue;
      this.#frames.swapDescriptors(i, other);
      this.#counts.reordered++;
    }
    return kept;
  }

  #truncate(index: number): void {
    const length = this.#frames.u32(index, Descriptor.length);
    if (length < 2) return;
    const shorter = 1 + Math.floor(this.#random() * (length - 1));
    this.#frames.setU32(index, Descriptor.length, shorter);
    const headLength = this.#frames.u32(index, Descriptor.headLength);
    this.#frames.setU32(index, Descriptor.headLength, Math.min(headLength, shorter));
    this.#counts.truncated++;
  }

  transmit(count: number, made: number): number {
    for (let i = 0; i < count; i++) {
      const verdict = this.#frames.u8(i, Descriptor.verdict);
      const leaves = verdict === Verdict.Forward || verdict === Verdict.Reply || verdict === Verdict.Pass;
      // Frames made in place of a received one would still leave as made frames, so those are left alone.
      if (!leaves || this.#frames.u32(i, Descriptor.madeCount) > 0 || !this.#happens(this.#faults.loseSent)) continue;
      this.#frames.setU8(i, Descriptor.verdict, Verdict.Drop);
      this.#counts.lostSent++;
    }
    return this.#inner.transmit(count, made);
  }

  nowMs(): number {
    return this.#inner.nowMs();
  }

  waitedUs(): number {
    return this.#inner.waitedUs();
  }

  wake(): void {
    this.#inner.wake();
  }

  counters(index: number): PortCounters {
    return this.#inner.counters(index);
  }

  close(): void {
    this.#inner.close();
  }
}
