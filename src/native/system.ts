/** Single system calls that the runtime does not offer (native/peer.c, native/system.c). */
import { addressOf, bind, checked, NativeError } from "./library.ts";

const native = bind({
  ilb_peer_identity: { args: ["i32", "buffer", "u32"], returns: "i32" },
  ilb_clock_ms: { args: [], returns: "i64" },
  ilb_use_huge_pages: { args: ["address", "u64"], returns: "i32" },
  ilb_populate: { args: ["buffer", "u32", "i32"], returns: "i32" },
  ilb_lock_name: { args: ["text", "buffer"], returns: "i32" },
  ilb_close: { args: ["i32"], returns: "i32" },
  ilb_listen_unix: { args: ["text"], returns: "i32" },
});

/** The process at the other end of a Unix socket, as it was when it connected. */
export interface PeerIdentity {
  readonly pid: number;
  readonly uid: number;
  readonly gid: number;
  /** Supplementary groups; `gid` need not be among them. */
  readonly groups: readonly number[];
}

/** NGROUPS_MAX of Linux. */
const MAX_GROUPS = 65536;

/** Who is at the other end of a connected Unix socket. @param fd its descriptor. Throws NativeError. */
export function peerIdentity(fd: number): PeerIdentity {
  for (const capacity of [3 + 64, 3 + MAX_GROUPS]) {
    const out = new Uint32Array(capacity);
    const length = native().ilb_peer_identity(fd, out, capacity);
    if (length < 0 && capacity < MAX_GROUPS && new NativeError(-length, "").code === "ERANGE") continue;
    checked(length, "read the identity of the peer of a Unix socket");
    return { pid: out[0]!, uid: out[1]!, gid: out[2]!, groups: Array.from(out.subarray(3, length)) };
  }
  throw new Error("unreachable: the second capacity is the kernel's limit");
}

/** CLOCK_MONOTONIC in milliseconds: the engine clock, the same in all threads and processes since boot. */
export function monotonicMs(): number {
  return native().ilb_clock_ms();
}

/** A part of a memory: first byte and length. */
export interface MemoryRange {
  readonly offset: number;
  readonly bytes: number;
}

/**
 * Asks the kernel to back parts of a memory with huge pages; call before their first use. An optimisation only.
 * @returns whether the kernel took the advice
 */
export function useHugePages(memory: ArrayBufferLike, ranges: readonly MemoryRange[]): boolean {
  const base = addressOf(memory);
  return ranges.every(({ offset, bytes }) => native().ilb_use_huge_pages(base + offset, bytes) === 0);
}

/**
 * Has a thread give parts of a memory their pages before they are used, in this order. An optimisation only; returns at
 * once. The memory must live as long as the process.
 * @param nice of the thread, as nice(1) counts it, from 0. Throws a RangeError for a part that is not in the memory.
 */
export function populate(memory: ArrayBufferLike, ranges: readonly MemoryRange[], nice: number): void {
  if (ranges.some(({ offset, bytes }) => offset < 0 || offset + bytes > memory.byteLength))
    throw new RangeError("a part to be populated is not in the memory");
  const base = addressOf(memory);
  const list = ranges.flatMap(({ offset, bytes }) => [BigInt(base + offset), BigInt(bytes)]);
  native().ilb_populate(new BigUint64Array(list), ranges.length, nice);
}

/** A lock, held until `release` or the end of the process, however it ends. */
export interface Lock {
  release(): void;
}

const UNKNOWN_USER = 0xffffffff;

/** Who has a name that lockName could not take. */
export interface NameHolder {
  /** null: it cannot be told, or the process is in another process namespace (container). */
  readonly pid: number | null;
  /** null: it cannot be told. */
  readonly uid: number | null;
}

/**
 * Takes a name that can be had once in a network namespace, whatever file systems its processes see.
 * @param name at most 107 bytes; any user can take one
 * @returns the lock, or who has it. Throws NativeError for anything else.
 */
export function lockName(name: string): Lock | NameHolder {
  const holder = new Uint32Array(2);
  const fd = native().ilb_lock_name(name, holder);
  if (fd < 0 && new NativeError(-fd, "").code === "EADDRINUSE") {
    const [pid = 0, uid = UNKNOWN_USER] = holder;
    return { pid: pid === 0 ? null : pid, uid: uid === UNKNOWN_USER ? null : uid };
  }
  checked(fd, `take the name ${name} in this network namespace`);
  let held = true;
  return {
    release() {
      if (held) native().ilb_close(fd);
      held = false;
    },
  };
}

/**
 * A Unix stream socket that listens: who connects waits in its queue until somebody accepts.
 * @param path at most 107 bytes @returns its descriptor. Throws NativeError.
 */
export function listenAtPath(path: string): number {
  return checked(native().ilb_listen_unix(path), `listen at ${path}`);
}

/** Closes a descriptor of listenAtPath that nobody else has taken over. */
export function closeListener(fd: number): void {
  native().ilb_close(fd);
}
