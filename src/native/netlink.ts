/** rtnetlink sockets of native/netlink.h: whole answers to requests, notifications. The bytes are made elsewhere. */
import { bind, checked, errnoName, NativeError } from "./library.ts";

const native = bind({
  ilb_netlink_open: { args: ["buffer", "i32"], returns: "i32" },
  ilb_netlink_close: { args: ["i32"], returns: "i32" },
  ilb_netlink_request: { args: ["i32", "buffer", "u32", "buffer", "u32", "u32", "i32"], returns: "i64" },
  ilb_netlink_receive: { args: ["i32", "buffer", "u32"], returns: "i64" },
  ilb_netns_cookie: { args: ["buffer"], returns: "i32" },
});

const REQUEST_TIMEOUT_MS = 2000;
/** A dump is repeated when a change disturbed it. */
const DUMP_ATTEMPTS = 8;
const FIRST_ANSWER_BYTES = 64 * 1024;
const LARGEST_ANSWER_BYTES = 256 * 1024 * 1024;
/** The kernel fills no larger datagram for notifications. */
const NOTIFICATION_BYTES = 64 * 1024;

/** One NETLINK_ROUTE socket in the network namespace in which it was opened. */
export class NetlinkSocket {
  readonly #fd: number;
  #answer = new Uint8Array(FIRST_ANSWER_BYTES);
  #sequence = 0;
  #open = true;

  /** @param groups RTNLGRP_* numbers whose notifications it receives. Throws NativeError. */
  constructor(groups: readonly number[] = []) {
    // The address of an empty view would be null.
    const list = Uint32Array.from([...groups, 0]);
    this.#fd = checked(native().ilb_netlink_open(list, groups.length), "open a netlink socket");
  }

  /**
   * Sends one request and waits for its whole answer, which takes microseconds to milliseconds and never longer than 2 s.
   * @param action what the request does, for the error: `add the policy rule of table 2822`
   * @param hints cause and way out by errno name
   * @returns the messages of the answer, good until the next request. Throws NativeError with the kernel's errno.
   */
  request(request: Uint8Array, action: string, hints: Readonly<Record<string, string>> = {}): Uint8Array {
    for (let attempt = 1; ; attempt++) {
      const length = native().ilb_netlink_request(
        this.#fd,
        request,
        request.length,
        this.#answer,
        this.#answer.length,
        this.#nextSequence(),
        REQUEST_TIMEOUT_MS,
      );
      if (length >= 0) return this.#answer.subarray(0, length);
      const code = errnoName(-length);
      if (code === "EMSGSIZE" && this.#answer.length < LARGEST_ANSWER_BYTES)
        this.#answer = new Uint8Array(this.#answer.length * 4);
      else if (code !== "EINTR" || attempt >= DUMP_ATTEMPTS) checked(length, action, hints);
    }
  }

  /** One waiting datagram of notifications; null: none; `lost`: the kernel had to drop some. Throws NativeError. */
  receive(buffer: Uint8Array): Uint8Array | "lost" | null {
    const length = native().ilb_netlink_receive(this.#fd, buffer, buffer.length);
    if (length >= 0) return buffer.subarray(0, length);
    const code = errnoName(-length);
    if (code === "EAGAIN") return null;
    if (code === "ENOBUFS" || code === "EMSGSIZE") return "lost";
    throw new NativeError(-length, `cannot read network notifications: ${code}`);
  }

  close(): void {
    if (this.#open) native().ilb_netlink_close(this.#fd);
    this.#open = false;
  }

  /** Never 0, which the kernel uses for notifications. */
  #nextSequence(): number {
    this.#sequence = (this.#sequence % 0x7fffffff) + 1;
    return this.#sequence;
  }
}

/** A buffer for NetlinkSocket.receive. */
export const notificationBuffer = (): Uint8Array => new Uint8Array(NOTIFICATION_BYTES);

/**
 * The network namespace of this process, as a number that is never used twice between two boots; null on kernels that
 * do not tell (before Linux 5.14).
 */
export function networkNamespaceCookie(): bigint | null {
  const cookie = new BigUint64Array(1);
  return native().ilb_netns_cookie(cookie) === 0 ? cookie[0]! : null;
}
