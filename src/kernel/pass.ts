/**
 * The way of PASSed frames back to the kernel as if they had arrived on their own interface (design record 0006): one
 * way per owned device, a descriptor that takes a virtio-net header and a frame per write. The user's `iifname` rules,
 * rp_filter and sockets bound to the device then see the frame as they would without us.
 *
 * Two forms, tried in this order:
 *   tap   a TAP of ours; a classifier (bpf) on its ingress marks and redirects to the device. Needs CAP_BPF. The TAP
 *         vanishes with this process.
 *   veth  a pair of veth interfaces; the frame is sent, marked, into one and redirected by u32 and mirred at the other.
 *         Needs CAP_NET_ADMIN and CAP_NET_RAW only, so it works in a container and in a user namespace. The pair outlives
 *         a crash; the caller's journal removes it.
 */
import { writeFileSync } from "node:fs";
import {
  closeDescriptor,
  markedSocketOpen,
  type RedirectFailure,
  redirectByBpf,
  redirectByU32,
  tapOpen,
} from "../native/pass.ts";
import type { HostChanges } from "./host-changes.ts";
import type { KernelLog } from "./log.ts";
import type { NetworkWatch } from "./network-watch.ts";
import { changeLink, createVethPair, type Link, type LinkChange } from "./rtnetlink.ts";

/** Begins the name of every interface that the way back needs: 12 characters and the device's index fit a name. */
export const PASS_PREFIX = "ilbp";

const FORM_NAMES: Readonly<Record<PassPath["form"], string>> = { tap: "a TAP", veth: "a veth pair" };

/** Of the veth pair: the frame leaves through one end, so the MTU counts there. */
const VETH_MTU_BYTES = 65535;

export interface PassPath {
  readonly form: "tap" | "veth";
  /** For ilb_port_set_pass. Non-blocking. */
  readonly fd: number;
  /** Interfaces that exist for it. */
  readonly interfaces: readonly string[];
  close(): void;
}

export interface PassOptions {
  readonly network: NetworkWatch;
  readonly changes: HostChanges;
  readonly log: KernelLog;
  readonly mark: number;
  /** Forms to try, best first. */
  readonly forms?: readonly PassPath["form"][];
}

/** Opens the way back for one device. Throws an error of one line that names what the kernel lacks. */
export function openPassPath(device: Link, options: PassOptions): PassPath {
  const reasons: string[] = [];
  for (const form of options.forms ?? (["tap", "veth"] as const)) {
    try {
      const path = form === "tap" ? openTap(device, options) : openVeth(device, options);
      if (reasons.length > 0)
        options.log.info(`packets go back to ${device.name} by ${FORM_NAMES[form]}: ${reasons.join("; ")}`);
      return path;
    } catch (error) {
      if (!(error instanceof Error)) throw error;
      reasons.push(error.message);
    }
  }
  throw new Error(`no way to give packets back to the kernel on ${device.name}: ${reasons.join("; ")}`);
}

function openTap(device: Link, { network, mark }: PassOptions): PassPath {
  const { fd, name } = tapOpen(`${PASS_PREFIX}${device.index}`);
  try {
    const tap = quietInterface(network, name, device.mac ? { mac: device.mac } : {});
    demand(redirectByBpf(tap.index, device.index, mark));
  } catch (error) {
    closeDescriptor(fd);
    throw error;
  }
  return { form: "tap", fd, interfaces: [name], close: () => closeDescriptor(fd) };
}

function openVeth(device: Link, { network, changes, mark }: PassOptions): PassPath {
  const outer = `${PASS_PREFIX}${device.index}`;
  const inner = `${outer}i`;
  const mac = device.mac ?? new Uint8Array(6);
  const undo = changes.createInterface(outer, createVethPair(outer, OUTER_MAC, inner, mac));
  let fd = -1;
  try {
    quietInterface(network, inner, { mtu: VETH_MTU_BYTES });
    const sender = quietInterface(network, outer, { mtu: VETH_MTU_BYTES });
    const receiver = network.linkNamed(inner);
    if (!receiver) throw new Error(`the interface ${inner} has vanished`);
    demand(redirectByU32(receiver.index, device.index));
    fd = markedSocketOpen(sender.index, mark);
  } catch (error) {
    if (fd >= 0) closeDescriptor(fd);
    undo();
    throw error;
  }
  return {
    form: "veth",
    fd,
    interfaces: [outer, inner],
    close() {
      closeDescriptor(fd);
      undo();
    },
  };
}

/** Of the sending end; nothing is ever addressed to it. */
const OUTER_MAC = Uint8Array.of(0x02, 0x69, 0x6c, 0x62, 0, 1);

/**
 * Brings an interface of ours up so that the kernel itself never sends on it: no ARP, no IPv6, no address.
 * The frames that arrive there are redirected before the stack looks at their destination.
 */
function quietInterface(network: NetworkWatch, name: string, settings: LinkChange): Link {
  network.poll();
  const link = network.linkNamed(name);
  if (!link) throw new Error(`the interface ${name} has vanished`);
  try {
    writeFileSync(`/proc/sys/net/ipv6/conf/${name}/disable_ipv6`, "1");
  } catch {
    // No IPv6 at all, or /proc/sys is read-only: without a link-local address it is quiet too.
  }
  network.request(changeLink(link.index, { ...settings, noArp: true, noLinkLocal: true }), `set up ${name}`);
  network.request(changeLink(link.index, { up: true }), `switch ${name} on`);
  network.poll();
  return link;
}

/** Kernel features behind each step, for the error. */
const FEATURES: Readonly<Record<RedirectFailure["stage"], string>> = {
  bpf: "bpf(2) is not allowed (it needs CAP_BPF in the first user namespace) or not there",
  qdisc: "the kernel has no clsact qdisc (CONFIG_NET_SCH_INGRESS)",
  filter: "the kernel lacks a traffic classifier (CONFIG_NET_CLS_BPF, or CONFIG_NET_CLS_U32 and CONFIG_NET_ACT_MIRRED)",
};

function demand(failure: RedirectFailure | null): void {
  if (failure) throw new Error(`${FEATURES[failure.stage]}: ${failure.code}`);
}
