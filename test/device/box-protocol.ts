/** What test/device/box-main.ts is told and what it answers. */
import type { PacketPortOptions } from "../../src/device/afpacket.ts";

export type PortSpec =
  | { readonly kind: "packet"; readonly name: string; readonly options?: PacketPortOptions }
  | { readonly kind: "shared"; readonly name: string; readonly sockets: number; readonly dealSecret: number }
  | { readonly kind: "tun"; readonly name: string; readonly queues: number };

/**
 * `forward`: out of the port in `to`, MAC addresses replaced. `reflect`: out of its own port with IP addresses and
 * transport ports exchanged, which leaves every checksum right. `pass`: back to the kernel. `record`: kept and ignored.
 */
export type Work = "forward" | "reflect" | "pass" | "record";

export interface BoxSpec {
  readonly ports: readonly PortSpec[];
  readonly work: Work;
  /** By receiving port: the port that it leaves by and both MAC addresses. */
  readonly to?: readonly { readonly port: number; readonly source: string; readonly destination: string }[];
  /** Make a TAP of this name for what port 0 gives back. */
  readonly passTap?: string;
  readonly spinUs?: number;
  readonly timeoutUs?: number;
  /** Do not start the loop before the word `go`. */
  readonly hold?: boolean;
}

export interface RecordedFrame {
  readonly port: number;
  readonly hex: string;
  readonly flags: number;
  readonly vnet: {
    flags: number;
    gsoType: number;
    hdrLen: number;
    gsoSize: number;
    csumStart: number;
    csumOffset: number;
  };
  /** Bytes in the head block. */
  readonly headLength: number;
}

/** One frame of the `send` command: into slot i, or into the made pool. */
export interface SendFrame {
  readonly hex: string;
  readonly port: number;
  readonly vnet?: RecordedFrame["vnet"];
  /** The frame is number `made` of the made pool, not a received one. */
  readonly made?: number;
  /** The made frames that leave in its place. */
  readonly replacedBy?: { readonly first: number; readonly count: number };
  /** Overrides the descriptor's length, to contradict the rest. */
  readonly length?: number;
}

export type BoxAnswer<T> = { readonly ok: T } | { readonly error: string };
