/** Interfaces and sockets of the way back to the kernel (native/pass.h), typed. */
import { bind, checked, errnoName } from "./library.ts";

const native = bind({
  ilb_tap_open: { args: ["buffer"], returns: "i32" },
  ilb_redirect_by_bpf: { args: ["u32", "u32", "u32", "buffer"], returns: "i32" },
  ilb_redirect_by_u32: { args: ["u32", "u32", "buffer"], returns: "i32" },
  ilb_marked_socket_open: { args: ["u32", "u32"], returns: "i32" },
  ilb_close: { args: ["i32"], returns: "i32" },
});

const NAME_BYTES = 16;

/** @param template interface name, may hold a %d. @returns descriptor and real name. Throws NativeError. */
export function tapOpen(template: string): { fd: number; name: string } {
  const name = new Uint8Array(NAME_BYTES);
  new TextEncoder().encodeInto(template, name.subarray(0, NAME_BYTES - 1));
  const fd = checked(native().ilb_tap_open(name), `create the TAP interface ${template}`, {
    ENOENT: "/dev/net/tun is missing; create it (mknod /dev/net/tun c 10 200) or give the container the device",
    EACCES: "/dev/net/tun may not be opened",
    ENODEV: "the kernel has no TUN/TAP support (module tun)",
    ENXIO: "the kernel has no TUN/TAP support (module tun)",
    EPERM: "CAP_NET_ADMIN is missing, or the container may not use /dev/net/tun",
    EBUSY: "the name is taken",
  });
  return { fd, name: new TextDecoder().decode(name.subarray(0, name.indexOf(0))) };
}

/** Why a redirection could not be set up: which step, and the errno's name. */
export interface RedirectFailure {
  readonly stage: "bpf" | "qdisc" | "filter";
  readonly code: string;
}

const failure = (result: number, stage: Int32Array): RedirectFailure | null =>
  result >= 0
    ? null
    : { stage: stage[0] === 1 ? "bpf" : stage[0] === 2 ? "qdisc" : "filter", code: errnoName(-result) };

/** Marks what arrives at one interface and gives it to the ingress of another. @returns null when done. */
export function redirectByBpf(fromIndex: number, toIndex: number, mark: number): RedirectFailure | null {
  const stage = new Int32Array(1);
  return failure(native().ilb_redirect_by_bpf(fromIndex, toIndex, mark, stage), stage);
}

/** Gives what arrives at one interface to the ingress of another, with the mark that it has. @returns null when done. */
export function redirectByU32(fromIndex: number, toIndex: number): RedirectFailure | null {
  const stage = new Int32Array(1);
  return failure(native().ilb_redirect_by_u32(fromIndex, toIndex, stage), stage);
}

/** A socket that sends frames with virtio-net headers, all marked. @returns its descriptor. Throws NativeError. */
export function markedSocketOpen(index: number, mark: number): number {
  return checked(native().ilb_marked_socket_open(index, mark), "open a marked packet socket", {
    EPERM: "CAP_NET_RAW or CAP_NET_ADMIN is missing",
  });
}

export function closeDescriptor(fd: number): void {
  native().ilb_close(fd);
}
