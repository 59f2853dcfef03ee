/**
 * Opens packet sockets on Ethernet interfaces: all IPv4 and IPv6 frames that arrive there, whole super-packets with their
 * offload header, none of our own. The kernel still sees every frame; keeping it from answering is the guard's work.
 */
import {
  PACKET_RECEIVE,
  PACKET_TRANSMIT,
  PACKET_VLAN,
  packetOpen,
  packetSettle,
  packetShare,
} from "../native/packet-io.ts";
import { closePort, describePort, type KernelPort } from "./kernel-io.ts";

export interface PacketPortOptions {
  /** `transmit`: only a way out (DSR beside a TUN device). Default `both`. */
  readonly direction?: "both" | "receive" | "transmit";
  /** Take frames with a VLAN tag too, flagged FRAME_VLAN; default: the socket's filter drops them. */
  readonly vlan?: boolean;
  /** Frames with this packet mark are left alone (they are those that we gave back); 0: none. */
  readonly passMark?: number;
  /** Socket buffer wished for, each way. Without CAP_NET_ADMIN in the first user namespace the system's limit holds. */
  readonly bufferBytes?: number;
}

/** Room for some 250 super-packets, or 20,000 small frames, as the kernel accounts them. */
const DEFAULT_BUFFER_BYTES = 16 * 1024 * 1024;

const DIRECTIONS = {
  both: PACKET_RECEIVE | PACKET_TRANSMIT,
  receive: PACKET_RECEIVE,
  transmit: PACKET_TRANSMIT,
} as const;

const HINTS = {
  EPERM: "packet sockets need CAP_NET_RAW; run as root, or start the container with --cap-add NET_RAW,NET_ADMIN",
  ENODEV: "there is no such interface; 'ip link' lists those that there are",
  EMEDIUMTYPE: "it is not an Ethernet interface, which '--io packet' needs; name others with --dev, or use '--io tun'",
  EAFNOSUPPORT: "this kernel has no packet sockets (CONFIG_PACKET)",
  EINVAL: "an interface name has 1 to 15 characters",
};

const SHARE_HINTS = {
  EINVAL: "this kernel wants the interface to be up; 'ip link set NAME up', or start with one worker",
};

/** Packet sockets that the kernel is still busy with. */
export interface OpeningPorts {
  /** One per worker. Until finish() has returned they can be described, given a way back and closed, no more. */
  readonly ports: readonly KernelPort[];
  /**
   * Waits until frames arrive, and has those that share an interface share its frames.
   * @param dealSecret what the engine deals by (EngineHost.dealSecret), 32 bits; for several workers
   * Throws NativeError with cause and way out; the ports are still the caller's to close.
   */
  finish(dealSecret?: number): void;
}

/**
 * Begins to open packet sockets for `count` workers on one interface. What arrives is dealt out by the kernel as src/engine/owner.ts
 * says (`flowNumber`), mostly both directions of a connection to one socket; each may send.
 * @param name of an Ethernet interface in our network namespace
 * Throws NativeError with cause and way out; then nothing is left open.
 */
export function beginPacketPorts(name: string, count: number, options: PacketPortOptions = {}): OpeningPorts {
  const { direction = "both", vlan = false, passMark = 0, bufferBytes = DEFAULT_BUFFER_BYTES } = options;
  const flags = DIRECTIONS[direction] | (vlan ? PACKET_VLAN : 0);
  const ports: KernelPort[] = [];
  try {
    for (let worker = 0; worker < count; worker++)
      ports.push(describePort(packetOpen(name, flags, bufferBytes, passMark, HINTS)));
  } catch (error) {
    for (const port of ports) closePort(port);
    throw error;
  }
  return {
    ports,
    finish(dealSecret = 0) {
      let group: number | null = null;
      for (const { handle } of ports) {
        packetSettle(handle, name, HINTS);
        if (count > 1 && direction !== "transmit") group = packetShare(handle, name, group, dealSecret, SHARE_HINTS);
      }
    },
  };
}

/** One socket, ready for use. Throws as beginPacketPorts does. */
export function openPacketPort(name: string, options: PacketPortOptions = {}): KernelPort {
  return openPacketPorts(name, 1, options)[0]!;
}

/** Sockets that share an interface, ready for use. Throws as beginPacketPorts does. */
export function openPacketPorts(
  name: string,
  count: number,
  options: PacketPortOptions & { readonly dealSecret?: number } = {},
): readonly KernelPort[] {
  const { ports, finish } = beginPacketPorts(name, count, options);
  try {
    finish(options.dealSecret);
    return ports;
  } catch (error) {
    for (const port of ports) closePort(port);
    throw error;
  }
}
