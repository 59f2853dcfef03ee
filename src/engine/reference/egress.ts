/**
 * The way out: which port and MAC addresses, whether the packet may leave (offload requests, TTL, MTU), its new link
 * header, fragments, and the ICMP errors that the box itself sends. Decides nothing about flows or servers.
 */
import { Reason } from "../../gen/layout.ts";
import type { Address } from "../../model/address.ts";
import type { FrameIn, FrameOut, NextHop, Port, VnetHeader } from "../engine.ts";
import { checksumOffset, completePartial, freshSum, preserveHeaderSum, setAddresses } from "./checksum.ts";
import type { ClientHop } from "./flows.ts";
import { ICMP, ICMP6, type Ip, isMartian, joined, type LinkView, put16, TCP, type Transport } from "./packet.ts";

export const PLAIN: VnetHeader = { flags: 0, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 };
const NEEDS_CSUM = 1;
const GSO_TCPV4 = 1;
const GSO_TCPV6 = 4;
const GSO_UDP_L4 = 5;
const GSO_ECN = 0x80;

/** A received frame whose link and IP headers are sound. */
export interface Arrival {
  readonly frame: FrameIn;
  readonly port: Port;
  readonly link: LinkView;
  readonly ip: Ip;
  readonly vnet: VnetHeader;
  readonly nowMs: number;
}

export const isPartial = (arrival: Arrival): boolean => (arrival.vnet.flags & NEEDS_CSUM) !== 0;
const isSuperPacket = (arrival: Arrival): boolean => arrival.vnet.gsoType !== 0;
/** A fragment without transport header has nothing that a device could sum up or cut. */
export const hasOffloadWish = (arrival: Arrival): boolean => isPartial(arrival) || isSuperPacket(arrival);

/** One way out. MAC addresses are null on IP ports. */
export interface Way {
  readonly portIndex: number;
  readonly port: Port;
  readonly mtu: number;
  readonly destinationMac: Uint8Array | null;
  readonly sourceMac: Uint8Array | null;
}

/** Why the virtio header of a TCP or UDP packet cannot be honoured; null when it can. */
export function offloadFault({ vnet, link, ip }: Arrival): Reason | null {
  const kind = vnet.gsoType & ~GSO_ECN;
  const fitting = ip.protocol !== TCP ? GSO_UDP_L4 : ip.family === 4 ? GSO_TCPV4 : GSO_TCPV6;
  if (vnet.gsoType !== 0 && kind !== fitting) return Reason.GsoUnknown;
  const partial = (vnet.flags & NEEDS_CSUM) !== 0;
  const startsRight = vnet.csumStart === link.linkBytes + ip.headerBytes;
  if (partial && !(startsRight && vnet.csumOffset === checksumOffset(ip.protocol))) return Reason.MalformedOffload;
  if (vnet.gsoType !== 0 && (!partial || vnet.gsoSize === 0)) return Reason.MalformedOffload;
  return null;
}

/**
 * The way to a server, or why there is none. What came in by an IP port goes back there, because the kernel routes it;
 * only DSR has to name the server itself.
 */
export function wayToServer(
  arrival: Arrival,
  isDirect: boolean,
  hop: NextHop | undefined,
  ports: ReadonlyMap<number, Port>,
): Way | Reason {
  if (arrival.port.kind === "ip" && !isDirect) {
    const { port, frame } = arrival;
    return { portIndex: frame.port, port, mtu: port.mtu, destinationMac: null, sourceMac: null };
  }
  if (hop === undefined || hop.state === "none") return Reason.NoRoute;
  if (hop.state === "unresolved") return Reason.NextHopUnresolved;
  const port = ports.get(hop.port);
  return port === undefined ? Reason.NoEgressPort : wayOut(hop.port, port, hop);
}

/** IP ports have no link header. */
const wayOut = (
  portIndex: number,
  port: Port,
  { mtu, destinationMac, sourceMac }: Pick<Way, "mtu" | "destinationMac" | "sourceMac">,
): Way => {
  const macs = port.kind === "ip" ? { destinationMac: null, sourceMac: null } : { destinationMac, sourceMac };
  return { portIndex, port, mtu, ...macs };
};

/** The way back to where a client's packets come from. */
export function wayToClient(client: ClientHop, ports: ReadonlyMap<number, Port>): Way | Reason {
  const port = ports.get(client.port);
  if (port === undefined) return Reason.NoEgressPort;
  return wayOut(client.port, port, { mtu: port.mtu, destinationMac: client.mac, sourceMac: port.mac });
}

/** Layer-3 bytes of the largest packet that will be on the wire: of a super-packet that of one segment. */
function wireBytes(arrival: Arrival, transport: Transport): number {
  const { ip, vnet } = arrival;
  return isSuperPacket(arrival) ? ip.headerBytes + transport.headerBytes + vnet.gsoSize : ip.totalLength;
}

export type Passage = "whole" | "fragments" | "ttl over" | "too big" | "uncuttable";

/** The kernel steps the TTL of whatever it routes, so on IP ports, either way, the engine does not. */
const stepsTtl = (arrival: Arrival, way: Way): boolean =>
  arrival.port.kind === "ethernet" && way.port.kind === "ethernet";

/** Whether and how a packet passes an egress port: TTL first, then size. */
export function passage(arrival: Arrival, transport: Transport, way: Way): Passage {
  const { ip } = arrival;
  if (stepsTtl(arrival, way) && ip.ttl <= 1) return "ttl over";
  if (wireBytes(arrival, transport) <= way.mtu) return "whole";
  if (ip.dontFragment || isSuperPacket(arrival)) return "too big";
  return way.mtu >= ip.headerBytes + 8 ? "fragments" : "uncuttable";
}

/** A copy of the packet with the TTL stepped if the way out asks for it; checksums are the caller's to mend. */
export function steppedCopy(arrival: Arrival, way: Way): Uint8Array {
  const copy = arrival.ip.bytes.slice();
  const { ttl, ttlAt } = arrival.ip;
  if (stepsTtl(arrival, way)) copy[ttlAt] = ttl - 1;
  return copy;
}

/** Puts the link header of the way out before a packet. */
export function seal(packet: Uint8Array, way: Way): Uint8Array {
  if (way.destinationMac === null || way.sourceMac === null) return packet;
  const etherType = packet[0]! >> 4 === 6 ? [0x86, 0xdd] : [0x08, 0x00];
  return joined(way.destinationMac, way.sourceMac, etherType, packet);
}

/** The virtio header of a packet that leaves as it came, but for the length of its link header. */
function vnetOut(arrival: Arrival, way: Way): VnetHeader {
  const shift = (way.destinationMac === null ? 0 : 14) - arrival.link.linkBytes;
  const moved = (offset: number): number => (offset === 0 ? 0 : (offset + shift) & 0xffff);
  const { flags, hdrLen, csumStart } = arrival.vnet;
  return { ...arrival.vnet, flags: flags & NEEDS_CSUM, hdrLen: moved(hdrLen), csumStart: moved(csumStart) };
}

/** The frame that carries a rewritten packet out whole. */
export function leaveWhole(arrival: Arrival, packet: Uint8Array, way: Way): FrameOut[] {
  return [{ bytes: seal(packet, way), port: way.portIndex, vnet: vnetOut(arrival, way) }];
}

/** IPv4 options that go into every fragment: those with the copied bit (RFC 791 3.1), padded to whole words. */
function copiedOptions(options: Uint8Array): Uint8Array {
  const kept: number[] = [];
  for (let at = 0; at < options.length; ) {
    const kind = options[at]!;
    if (kind === 0) break;
    const length = kind === 1 ? 1 : (options[at + 1] ?? 0);
    if (length < 1 || (kind !== 1 && length < 2) || at + length > options.length) break;
    if (kind & 0x80) kept.push(...options.subarray(at, at + length));
    at += length;
  }
  while (kept.length % 4 !== 0) kept.push(0);
  return Uint8Array.from(kept);
}

/** No fragment is larger, whatever the MTU: frames that the engine makes have a block of this size. */
const LARGEST_FRAGMENT_BYTES = 2048;

/** The data ranges of the fragments of a packet, in bytes of its data. */
function cuts(ip: Ip, egressMtu: number): { from: number; to: number; header: Uint8Array }[] {
  const mtu = Math.min(egressMtu, LARGEST_FRAGMENT_BYTES);
  const first = ip.bytes.slice(0, ip.headerBytes);
  const later = joined(first.subarray(0, 20), copiedOptions(first.subarray(20)));
  const dataBytes = ip.totalLength - ip.headerBytes;
  const found: { from: number; to: number; header: Uint8Array }[] = [];
  for (let from = 0; from < dataBytes; ) {
    const header = from === 0 ? first : later;
    const to = Math.min(dataBytes, from + Math.floor((mtu - header.length) / 8) * 8);
    found.push({ from, to, header });
    from = to;
  }
  return found;
}

export const fragmentCount = (ip: Ip, mtu: number): number => cuts(ip, mtu).length;

/**
 * The frames that carry a rewritten packet, or a fragment of one, out in fragments (RFC 791 3.2). A partial checksum is completed first, since
 * no device can complete it later. Padding of the received frame is left behind.
 */
export function leaveInFragments(arrival: Arrival, packet: Uint8Array, way: Way): FrameOut[] {
  const { ip } = arrival;
  const whole = packet.slice(0, ip.totalLength);
  if (isPartial(arrival)) completePartial(whole, ip.headerBytes, ip.protocol);
  return cuts({ ...ip, bytes: whole }, way.mtu).map(({ from, to, header }, i, all) => {
    const fragment = joined(header, whole.subarray(ip.headerBytes + from, ip.headerBytes + to));
    fragment[0] = 0x40 | (header.length / 4);
    put16(fragment, 2, fragment.length);
    const more = i + 1 < all.length || ip.moreFragments;
    put16(fragment, 6, (more ? 0x2000 : 0) | ((ip.fragmentOffset + from) / 8));
    preserveHeaderSum(whole, fragment);
    return { bytes: seal(fragment, way), port: way.portIndex, vnet: PLAIN };
  });
}

/** The way back to whoever sent a frame: its port, its MAC addresses turned round. */
export function wayBack(arrival: Arrival): Way {
  const { port, frame, link } = arrival;
  const sourceMac = link.sourceMac === null ? null : port.mac;
  return { portIndex: frame.port, port, mtu: port.mtu, destinationMac: link.sourceMac, sourceMac };
}

/** Bounds how many ICMP errors the box sends (RFC 1812 4.3.2.8): 64 at once, then one per 10 ms. */
export class ErrorBudget {
  #tokens = 64;
  /** Tokens come at whole multiples of 10 ms of the engine clock. */
  #filledMs = 0;

  /** Takes one token; false when there is none. */
  take(nowMs: number): boolean {
    const earned = Math.floor((nowMs - this.#filledMs) / 10);
    this.#filledMs += earned * 10;
    this.#tokens = Math.min(64, this.#tokens + earned);
    if (this.#tokens === 0) return false;
    this.#tokens--;
    return true;
  }
}

/** The address of the box on the port that a packet came in by; null when it has none of the packet's family. */
const ownAddress = ({ port, ip }: Arrival): Address | null => (ip.family === 4 ? port.address4 : port.address6);

/** Whether an ICMP error about this packet may be sent at all (RFC 1122 3.2.2, RFC 4443 2.4). */
export function mayComplainAbout(arrival: Arrival): boolean {
  const { ip } = arrival;
  // Of the fragments of an IPv4 packet only the first may be complained about.
  if (ip.family === 4 && ip.fragmentOffset > 0) return false;
  return ownAddress(arrival) !== null && ip.protocol !== ICMP && ip.protocol !== ICMP6 && !isMartian(ip.source);
}

/** What the box has to say about a packet. */
export type Complaint = "time exceeded" | "too big";

/** An ICMP error of the box about a received packet, quoting what 576 or 1280 bytes hold (RFC 1812 4.3.2.3, RFC 4443 3). */
export function boxError(arrival: Arrival, complaint: Complaint, nextHopMtu: number): FrameOut {
  const { ip } = arrival;
  const address = ownAddress(arrival);
  if (address === null) throw new Error("port without address");
  const isTooBig = complaint === "too big";
  const mtu = isTooBig ? nextHopMtu : 0;
  const packet = ip.family === 4 ? error4(ip, address, isTooBig, mtu) : error6(ip, address, isTooBig, mtu);
  const way = wayBack(arrival);
  return { bytes: seal(packet, way), port: way.portIndex, vnet: PLAIN };
}

function error4(ip: Ip, source: Address, isTooBig: boolean, mtu: number): Uint8Array {
  const quote = ip.bytes.subarray(0, Math.min(ip.totalLength, 576 - 28));
  const packet = joined(new Uint8Array(28), quote);
  packet.set([0x45, 0xc0], 0);
  put16(packet, 2, packet.length);
  put16(packet, 6, 0x4000);
  packet.set([64, ICMP], 8);
  setAddresses(packet, source, ip.source);
  put16(packet, 10, freshSum(packet.subarray(0, 20)));
  packet.set(isTooBig ? [3, 4] : [11, 0], 20);
  put16(packet, 26, mtu);
  put16(packet, 22, freshSum(packet.subarray(20)));
  return packet;
}

function error6(ip: Ip, source: Address, isTooBig: boolean, mtu: number): Uint8Array {
  const quote = ip.bytes.subarray(0, Math.min(ip.totalLength, 1280 - 48));
  const packet = joined(new Uint8Array(48), quote);
  const messageBytes = packet.length - 40;
  packet[0] = 0x60;
  put16(packet, 4, messageBytes);
  packet.set([ICMP6, 64], 6);
  setAddresses(packet, source, ip.source);
  packet.set(isTooBig ? [2, 0] : [3, 0], 40);
  put16(packet, 44, mtu >>> 16);
  put16(packet, 46, mtu & 0xffff);
  const pseudoTail = [0, 0, messageBytes >> 8, messageBytes & 255, 0, 0, 0, ICMP6];
  put16(packet, 42, freshSum(joined(packet.subarray(8, 40), pseudoTail, packet.subarray(40))));
  return packet;
}
