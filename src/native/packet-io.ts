/**
 * Ports and batches of native/ilb.h, typed. One function per C function, handles as numbers, errors as NativeError;
 * what they mean to users is said in src/device/.
 */
import { addressOf, bind, checked } from "./library.ts";

const native = bind({
  ilb_packet_open: { args: ["text", "u32", "u32", "u32"], returns: "i64" },
  ilb_packet_settle: { args: ["address"], returns: "i32" },
  ilb_packet_share: { args: ["address", "i32", "u32"], returns: "i32" },
  ilb_tun_open: { args: ["text", "u32", "buffer"], returns: "i32" },
  ilb_port_info: { args: ["address", "buffer"], returns: "i32" },
  ilb_port_counters: { args: ["address", "buffer"], returns: "i32" },
  ilb_port_set_pass: { args: ["address", "i32"], returns: "i32" },
  ilb_port_close: { args: ["address"], returns: "i32" },
  ilb_io_create: { args: ["address", "u64", "u64", "u64", "u64"], returns: "i64" },
  ilb_io_watch: { args: ["address", "u64"], returns: "i32" },
  ilb_io_set_port: { args: ["address", "u32", "address"], returns: "i32" },
  ilb_io_receive: { args: ["address", "u32", "u32"], returns: "i32" },
  ilb_io_transmit: { args: ["address", "u32", "u32"], returns: "i32" },
  ilb_io_now_ms: { args: ["address"], returns: "i64" },
  ilb_io_waited_us: { args: ["address"], returns: "i64" },
  ilb_io_wake: { args: ["address"], returns: "i32" },
  ilb_io_free: { args: ["address"], returns: "i32" },
});

/** Address of a struct ilb_port. Good in every thread of the process until portClose. */
export type PortHandle = number;
/** Address of a struct ilb_io. Good in every thread of the process until ioFree. */
export type IoHandle = number;

/** ILB_PACKET_RECEIVE, _TRANSMIT, _VLAN. */
export const PACKET_RECEIVE = 1;
export const PACKET_TRANSMIT = 2;
export const PACKET_VLAN = 4;

/** enum ilb_counter, in order. */
export const COUNTER_NAMES = [
  "rxFrames",
  "rxBytes",
  "rxTruncated",
  "rxErrors",
  "rxKernelDrops",
  "txFrames",
  "txBytes",
  "txRefused",
  "txTooBig",
  "txBusy",
  "txFull",
  "txDown",
  "txInvalid",
  "passFrames",
  "passBytes",
  "passErrors",
  "lastErrno",
  "portDead",
] as const;
export type CounterName = (typeof COUNTER_NAMES)[number];

/** struct ilb_port_info. */
export interface PortInfo {
  readonly kind: "ethernet" | "ip";
  readonly interfaceIndex: number;
  /** Layer-3 MTU in bytes at the time of opening. */
  readonly mtu: number;
  /** As the kernel accounts it; 0 for TUN. */
  readonly receiveBufferBytes: number;
  readonly sendBufferBytes: number;
  /** TUN_F_… in force; 0 for packet sockets. */
  readonly offloads: number;
  /** 6 bytes, zero for TUN. */
  readonly mac: Uint8Array;
  readonly name: string;
}

/** Causes that every way of opening shares. */
type Hints = Readonly<Record<string, string>>;

/** To be settled before it is used. @param hints cause and way out by errno name. See ilb_packet_open. */
export function packetOpen(
  name: string,
  flags: number,
  bufferBytes: number,
  passMark: number,
  hints: Hints,
): PortHandle {
  return checked(native().ilb_packet_open(name, flags, bufferBytes, passMark), `open interface ${name}`, hints);
}

/** Waits until frames arrive. Throws NativeError; then the port can only be closed. See ilb_packet_settle. */
export function packetSettle(port: PortHandle, name: string, hints: Hints): void {
  checked(native().ilb_packet_settle(port), `open interface ${name}`, hints);
}

/** @param group null begins one, dealt by `secret` @returns the group, for the next socket. See ilb_packet_share. */
export function packetShare(
  port: PortHandle,
  name: string,
  group: number | null,
  secret: number,
  hints: Hints,
): number {
  const shared = native().ilb_packet_share(port, group ?? -1, secret);
  return checked(shared, `share the packets of interface ${name} between workers`, hints);
}

/** @returns one handle per queue. See ilb_tun_open. */
export function tunOpen(name: string, queues: number, hints: Hints): PortHandle[] {
  const handles = new BigInt64Array(Math.max(queues, 1));
  checked(native().ilb_tun_open(name, queues, handles), `create TUN interface ${name}`, hints);
  return Array.from(handles, Number);
}

export function portInfo(port: PortHandle): PortInfo {
  const bytes = new Uint8Array(48);
  native().ilb_port_info(port, bytes);
  const words = new Uint32Array(bytes.buffer, 0, 6);
  const name = bytes.subarray(32, 48);
  return {
    kind: words[0] === 1 ? "ethernet" : "ip",
    interfaceIndex: words[1]!,
    mtu: words[2]!,
    receiveBufferBytes: words[3]!,
    sendBufferBytes: words[4]!,
    offloads: words[5]!,
    mac: bytes.slice(24, 30),
    name: new TextDecoder().decode(name.subarray(0, name.indexOf(0))),
  };
}

export function portCounters(port: PortHandle): Record<CounterName, bigint> {
  const values = new BigUint64Array(COUNTER_NAMES.length);
  native().ilb_port_counters(port, values);
  return Object.fromEntries(COUNTER_NAMES.map((name, i) => [name, values[i]!])) as Record<CounterName, bigint>;
}

/** @param fd takes frames of verdict PASS; stays the caller's, outlives the io. -1: nowhere. */
export function portSetPass(port: PortHandle, fd: number): void {
  native().ilb_port_set_pass(port, fd);
}

export function portClose(port: PortHandle): void {
  native().ilb_port_close(port);
}

/**
 * @param memory must neither move nor be freed before ioFree
 * @param descriptors, heads, tails linear offsets in it, see ilb_io_create
 */
export function ioCreate(memory: ArrayBufferLike, descriptors: number, heads: number, tails: number): IoHandle {
  const io = native().ilb_io_create(addressOf(memory), memory.byteLength, descriptors, heads, tails);
  return checked(io, "prepare packet batches", { EINVAL: "a frame region lies outside the memory or is misaligned" });
}

/** @param word linear offset of the word. See ilb_io_watch. */
export function ioWatch(io: IoHandle, word: number): void {
  checked(native().ilb_io_watch(io, word), "watch for work of other packet workers");
}

export function ioSetPort(io: IoHandle, index: number, port: PortHandle): void {
  checked(native().ilb_io_set_port(io, index, port), `attach port ${index}`);
}

export function ioNowMs(io: IoHandle): number {
  return native().ilb_io_now_ms(io);
}

export function ioWaitedUs(io: IoHandle): number {
  return native().ilb_io_waited_us(io);
}

export function ioWake(io: IoHandle): void {
  checked(native().ilb_io_wake(io), "wake the packet worker");
}

export function ioFree(io: IoHandle): void {
  native().ilb_io_free(io);
}

/** The two calls of the packet loop, bound once so that a batch costs no look-up. */
export interface BatchCalls {
  /** @returns frames received, or a negative errno. See ilb_io_receive. */
  receive(io: IoHandle, timeoutUs: number, spinUs: number): number;
  /** @returns frames handed over, or a negative errno. See ilb_io_transmit. */
  transmit(io: IoHandle, count: number, made: number): number;
}

export function batchCalls(): BatchCalls {
  const calls = native();
  return { receive: calls.ilb_io_receive, transmit: calls.ilb_io_transmit };
}
