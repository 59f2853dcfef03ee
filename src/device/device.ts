/**
 * What a packet device is to the rest of the service: batches of frames in and out of one memory, described by the
 * records of gen/layout.ts. Kernel interfaces (kernel-io.ts), the in-memory twin (memory.ts) and the fault injector
 * (fault.ts) have this face. Decides nothing: where a frame goes is written in its descriptor by the engine.
 */
import type { CounterName } from "../native/packet-io.ts";

/** One attached port; its place in `PacketIo.ports` is the port index of the descriptors. Plain data. */
export interface DevicePort {
  readonly name: string;
  /** `ethernet`: frames begin with a MAC header. `ip`: frames begin with the IP header. */
  readonly kind: "ethernet" | "ip";
  readonly interfaceIndex: number;
  /** 6 bytes; zero for `ip`. */
  readonly mac: Uint8Array;
  /** Layer-3 MTU in bytes when the port was opened; later changes are told by the kernel's notifications. */
  readonly mtu: number;
}

/** 64-bit, never reset, per port; meanings stand at enum ilb_counter in native/ilb.h. */
export type PortCounters = Readonly<Record<CounterName, bigint>>;

/** Where frames and descriptors lie: linear offsets in the memory, bytes. */
export interface FrameGeometry {
  /** DESCRIPTOR_COUNT records of Descriptor.size; multiple of 64. */
  readonly descriptors: number;
  /** BATCH_SIZE head blocks at HEAD_STRIDE; multiple of 8. */
  readonly heads: number;
  /** BATCH_SIZE tail blocks at TAIL_STRIDE; multiple of 8. */
  readonly tails: number;
  /** A word that is not 0 while receive may wait though other workers may have work for this one; absent: no such work. */
  readonly sleeping?: number;
}

export interface PacketIo {
  readonly ports: readonly DevicePort[];

  /**
   * Receives at most BATCH_SIZE frames into descriptors 0..n-1, all fields set (verdict Ignore, outPort PORT_NONE).
   * Their slots are the caller's until the next call. Returns n; 0 after `timeoutUs` without a frame or after `wake`.
   */
  receive(timeoutUs: number): number;

  /**
   * Sends descriptors 0..count-1 by verdict and the made frames BATCH_SIZE..+made-1, in order per port. A frame that
   * cannot be sent is counted and skipped. Returns the number of frames handed over.
   */
  transmit(count: number, made: number): number;

  /** Engine clock (CLOCK_MONOTONIC), milliseconds, at the return of the last receive. */
  nowMs(): number;

  /** For how long `receive` has waited for frames so far, microseconds: the time that its caller has to spare. */
  waitedUs(): number;

  /** Ends a waiting `receive`, or else the next one that would wait. Any thread. */
  wake(): void;

  /** @param index port index. Any thread, until the port is closed. */
  counters(index: number): PortCounters;

  /** Frees what the batches need; ports that were handed in stay open. No call may be under way. */
  close(): void;
}

/** The counters of one interface to which several workers have a port each: sums, but for what is no count. */
export function sumCounters(ports: readonly PortCounters[]): PortCounters {
  const [first, ...others] = ports as [PortCounters, ...PortCounters[]];
  const added = Object.entries(first).map(([name, value]) => {
    const values = [value, ...others.map((other) => other[name as CounterName])];
    const isCount = name !== "lastErrno" && name !== "portDead";
    return [name, isCount ? values.reduce((sum, n) => sum + n, 0n) : (values.find((n) => n !== 0n) ?? 0n)];
  });
  return Object.fromEntries(added) as PortCounters;
}
