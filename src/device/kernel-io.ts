/**
 * Batches over real ports of the kernel (packet sockets, TUN queues) by the native library. The main thread opens ports
 * and creates the io; a worker attaches by the plain numbers of `handOver` and runs it. Opens no port itself.
 */

import { checked } from "../native/library.ts";
import {
  type BatchCalls,
  batchCalls,
  ioCreate,
  ioFree,
  ioNowMs,
  ioSetPort,
  ioWaitedUs,
  ioWake,
  ioWatch,
  type PortHandle,
  portClose,
  portCounters,
  portInfo,
  portSetPass,
} from "../native/packet-io.ts";
import type { DevicePort, FrameGeometry, PacketIo, PortCounters } from "./device.ts";

/** An open port of the kernel. Plain data, good in every thread of the process until closePort. */
export interface KernelPort extends DevicePort {
  readonly handle: PortHandle;
  /** What the kernel granted, in its own accounting; 0 for TUN. */
  readonly receiveBufferBytes: number;
}

/** What another thread needs to run the io. Structured-clone safe. */
export interface IoHandOver {
  readonly io: number;
  readonly ports: readonly KernelPort[];
  readonly spinUs: number;
}

/** @param handle from packetOpen or tunOpen. */
export function describePort(handle: PortHandle): KernelPort {
  const { name, kind, interfaceIndex, mac, mtu, receiveBufferBytes } = portInfo(handle);
  return { handle, name, kind, interfaceIndex, mac, mtu, receiveBufferBytes };
}

/**
 * Where frames with verdict Pass from this port go. Call before the io runs.
 * @param fd takes a virtio-net header of 10 bytes and a frame per write, without blocking; stays the caller's
 */
export function setPassDescriptor(port: KernelPort, fd: number): void {
  portSetPass(port.handle, fd);
}

/** Closes the port; every io that has it must be closed before. */
export function closePort(port: KernelPort): void {
  portClose(port.handle);
}

export class KernelPacketIo implements PacketIo {
  readonly ports: readonly KernelPort[];
  readonly #io: number;
  readonly #spinUs: number;
  readonly #calls: BatchCalls = batchCalls();
  /** Kept alive and in place while the library knows its address; undefined in attached instances. */
  #memory: ArrayBufferLike | undefined;

  private constructor(handOver: IoHandOver, memory?: ArrayBufferLike) {
    this.ports = handOver.ports;
    this.#io = handOver.io;
    this.#spinUs = handOver.spinUs;
    this.#memory = memory;
  }

  /**
   * @param memory must not grow while the io is open
   * @param ports in the order of their indices; a port belongs to one io
   * @param spinUs how long a receive may look again before it blocks, when that pays (see ilb_io_receive); 0: never
   */
  static create(
    memory: ArrayBufferLike,
    geometry: FrameGeometry,
    ports: readonly KernelPort[],
    spinUs: number,
  ): KernelPacketIo {
    const io = ioCreate(memory, geometry.descriptors, geometry.heads, geometry.tails);
    try {
      if (geometry.sleeping !== undefined) ioWatch(io, geometry.sleeping);
      ports.forEach((port, index) => {
        ioSetPort(io, index, port.handle);
      });
    } catch (error) {
      ioFree(io);
      throw error;
    }
    return new KernelPacketIo({ io, ports, spinUs }, memory);
  }

  /** The same io in another thread. Its close() frees nothing; that is the creator's. */
  static attach(handOver: IoHandOver): KernelPacketIo {
    return new KernelPacketIo(handOver);
  }

  get handOver(): IoHandOver {
    return { io: this.#io, ports: this.ports, spinUs: this.#spinUs };
  }

  receive(timeoutUs: number): number {
    const count = this.#calls.receive(this.#io, timeoutUs, this.#spinUs);
    return count >= 0 ? count : checked(count, "receive packets");
  }

  transmit(count: number, made: number): number {
    const sent = this.#calls.transmit(this.#io, count, made);
    return sent >= 0 ? sent : checked(sent, "send packets");
  }

  nowMs(): number {
    return ioNowMs(this.#io);
  }

  waitedUs(): number {
    return ioWaitedUs(this.#io);
  }

  wake(): void {
    ioWake(this.#io);
  }

  counters(index: number): PortCounters {
    const port = this.ports[index];
    if (!port) throw new RangeError(`no port ${index}`);
    return portCounters(port.handle);
  }

  close(): void {
    if (this.#memory === undefined) return;
    this.#memory = undefined;
    ioFree(this.#io);
  }
}
