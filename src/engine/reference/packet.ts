/**
 * Frames and packets as the reference engine sees them: plain byte access by named field, link header on and off, and
 * the checks that a header must pass before anyone reads on. IPv4 only so far. Decides nothing about load balancing.
 */
import type { Address } from "../../model/address.ts";
import type { FrameIn, Port } from "../engine.ts";

export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;

export const FIN = 0x01;
export const SYN = 0x02;
export const RST = 0x04;
export const ACK = 0x10;

export const get16 = (bytes: Uint8Array, at: number): number => bytes[at]! * 256 + bytes[at + 1]!;
export const get32 = (bytes: Uint8Array, at: number): number => get16(bytes, at) * 65536 + get16(bytes, at + 2);
export function put16(bytes: Uint8Array, at: number, value: number): void {
  bytes[at] = value >> 8;
  bytes[at + 1] = value & 0xff;
}
/** Writes an IPv4 address in network order. */
export function putAddress(bytes: Uint8Array, at: number, address: Address): void {
  const value = Number(address.value);
  put16(bytes, at, Math.floor(value / 65536));
  put16(bytes, at + 2, value % 65536);
}
const getAddress = (bytes: Uint8Array, at: number): Address => ({ family: 4, value: BigInt(get32(bytes, at)) });

/** Family and value as one text, for keys of maps. */
export const addressKey = (address: Address): string => `${address.family}/${address.value.toString(16)}`;
export const sameAddress = (a: Address, b: Address): boolean => a.family === b.family && a.value === b.value;

/** What a frame carries once its link header is off. */
export interface LinkView {
  /** MAC address that the frame came from; null on IP ports. */
  readonly sourceMac: Uint8Array | null;
  /** Bytes before the packet: 14 or 0. */
  readonly linkBytes: number;
  /** Packet and whatever padding follows it; a view into the frame. */
  readonly packet: Uint8Array;
}

export type LinkFault = "short" | "vlan" | "not ip";

/** Takes the link header off; what is not plain IPv4 comes back as the reason why not. */
export function openLink(frame: FrameIn, port: Port | undefined): LinkView | LinkFault {
  if (frame.vlan) return "vlan";
  if (port === undefined) return "not ip";
  const { bytes } = frame;
  if (port.kind === "ip") {
    if (bytes.length === 0) return "short";
    return bytes[0]! >> 4 === 4 ? { sourceMac: null, linkBytes: 0, packet: bytes } : "not ip";
  }
  if (bytes.length < 14) return "short";
  const etherType = get16(bytes, 12);
  if (etherType === 0x8100 || etherType === 0x88a8) return "vlan";
  if (etherType !== 0x0800) return "not ip";
  return { sourceMac: Uint8Array.from(bytes.subarray(6, 12)), linkBytes: 14, packet: bytes.subarray(14) };
}

/** Fields of an IPv4 header whose lengths agree with each other and with the frame (RFC 791 3.1). */
export interface Ipv4 {
  /** Header, data, and padding of the frame behind them. */
  readonly bytes: Uint8Array;
  readonly headerBytes: number;
  readonly totalLength: number;
  readonly protocol: number;
  readonly ttl: number;
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  /** In bytes. */
  readonly fragmentOffset: number;
  readonly source: Address;
  readonly destination: Address;
}

/** Null when the header is cut short or contradicts itself or the frame. The checksum is not looked at. */
export function parseIpv4(bytes: Uint8Array): Ipv4 | null {
  if (bytes.length < 20 || bytes[0]! >> 4 !== 4) return null;
  const headerBytes = (bytes[0]! & 15) * 4;
  const totalLength = get16(bytes, 2);
  if (headerBytes < 20 || headerBytes > totalLength || totalLength > bytes.length) return null;
  const flags = get16(bytes, 6);
  return {
    bytes,
    headerBytes,
    totalLength,
    protocol: bytes[9]!,
    ttl: bytes[8]!,
    dontFragment: (flags & 0x4000) !== 0,
    moreFragments: (flags & 0x2000) !== 0,
    fragmentOffset: (flags & 0x1fff) * 8,
    source: getAddress(bytes, 12),
    destination: getAddress(bytes, 16),
  };
}

/** What TCP and UDP share, and what tracking needs of TCP. */
export interface Transport {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly headerBytes: number;
  /** 0 for UDP. */
  readonly tcpFlags: number;
  readonly sequence: number;
  readonly acknowledgement: number;
  readonly payloadBytes: number;
}

/** Null when the TCP or UDP header is cut short or contradicts the packet (RFC 9293 3.1, RFC 768). */
export function parseTransport(ip: Ipv4): Transport | null {
  const segment = ip.bytes.subarray(ip.headerBytes, ip.totalLength);
  const isTcp = ip.protocol === TCP;
  if (segment.length < (isTcp ? 20 : 8)) return null;
  const headerBytes = isTcp ? (segment[12]! >> 4) * 4 : 8;
  if (isTcp && (headerBytes < 20 || headerBytes > segment.length)) return null;
  if (!isTcp && (get16(segment, 4) < 8 || get16(segment, 4) > segment.length)) return null;
  return {
    sourcePort: get16(segment, 0),
    destinationPort: get16(segment, 2),
    headerBytes,
    tcpFlags: isTcp ? segment[13]! : 0,
    sequence: isTcp ? get32(segment, 4) : 0,
    acknowledgement: isTcp ? get32(segment, 8) : 0,
    payloadBytes: segment.length - headerBytes,
  };
}

/** Source addresses that no host may send from: this network, loopback, multicast, reserved (RFC 1122 3.2.1.3, RFC 1112). */
export function isMartian(address: Address): boolean {
  const first = Number(address.value >> 24n);
  return first === 0 || first === 127 || first >= 224;
}
