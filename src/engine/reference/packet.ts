/**
 * Frames and packets as the reference engine sees them: plain byte access by named field, link header on and off, and
 * the checks that a header must pass before anyone reads on. Decides nothing about load balancing.
 */
import type { Address, Family } from "../../model/address.ts";
import type { Compat, FrameIn, Port } from "../engine.ts";

export const ICMP = 1;
export const TCP = 6;
export const UDP = 17;
export const ICMP6 = 58;

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
/** All parts in a row, as a copy. */
export function joined(...parts: readonly ArrayLike<number>[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}
/** Writes an address in network order, 4 or 16 bytes. */
export function putAddress(bytes: Uint8Array, at: number, { family, value }: Address): void {
  const view = new DataView(bytes.buffer, bytes.byteOffset + at);
  if (family === 4) {
    view.setUint32(0, Number(value));
    return;
  }
  view.setBigUint64(0, value >> 64n);
  view.setBigUint64(8, value & 0xffff_ffff_ffff_ffffn);
}
export function getAddress(bytes: Uint8Array, at: number, family: Family): Address {
  if (family === 4) return { family, value: BigInt(get32(bytes, at)) };
  const view = new DataView(bytes.buffer, bytes.byteOffset + at, 16);
  const value = (view.getBigUint64(0) << 64n) | view.getBigUint64(8);
  return { family, value };
}

/** Family and value as one text, for keys of maps. */
export const addressKey = (address: Address): string => `${address.family}/${address.value.toString(16)}`;
export const sameAddress = (a: Address, b: Address): boolean => a.family === b.family && a.value === b.value;

/** What a frame carries once its link header is off. */
export interface LinkView {
  /** MAC address that the frame came from; null on IP ports. */
  readonly sourceMac: Uint8Array | null;
  /** Bytes before the packet: 14 or 0. */
  readonly linkBytes: number;
  readonly family: Family;
  /** Packet and whatever padding follows it; a view into the frame. */
  readonly packet: Uint8Array;
}

export type LinkFault = "short" | "vlan" | "not ip";

const ETHER_TYPES: Readonly<Record<number, Family>> = { 2048: 4, 34525: 6 };
const VERSIONS: Readonly<Record<number, Family>> = { 4: 4, 6: 6 };

/** Takes the link header off; what is not plain IP comes back as the reason why not. */
export function openLink(frame: FrameIn, port: Port | undefined): LinkView | LinkFault {
  if (frame.vlan) return "vlan";
  if (port === undefined) return "not ip";
  const { bytes } = frame;
  if (port.kind === "ip") {
    if (bytes.length === 0) return "short";
    const family = VERSIONS[bytes[0]! >> 4];
    return family === undefined ? "not ip" : { sourceMac: null, linkBytes: 0, family, packet: bytes };
  }
  if (bytes.length < 14) return "short";
  const etherType = get16(bytes, 12);
  if (etherType === 0x8100 || etherType === 0x88a8) return "vlan";
  const family = ETHER_TYPES[etherType];
  if (family === undefined) return "not ip";
  return { sourceMac: bytes.slice(6, 12), linkBytes: 14, family, packet: bytes.subarray(14) };
}

/** An IP packet whose header agrees with itself and with the frame (RFC 791 3.1, RFC 8200 3 and 4). */
export interface Ip {
  readonly family: Family;
  /** Header, data, and padding of the frame behind them. */
  readonly bytes: Uint8Array;
  /** Everything before the transport header: with IPv4 options, or with IPv6 extension headers. */
  readonly headerBytes: number;
  /** With all headers; in IPv6 the payload length and 40. */
  readonly totalLength: number;
  /** What follows the headers. */
  readonly protocol: number;
  /** TTL or hop limit, and where it stands. */
  readonly ttl: number;
  readonly ttlAt: number;
  /** No router may cut it. Always so in IPv6. */
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  /** In bytes. */
  readonly fragmentOffset: number;
  readonly identification: number;
  readonly source: Address;
  readonly destination: Address;
  /** How the walk along the IPv6 extension headers ended. */
  readonly chain: "walked" | "malformed" | "too long";
  /** Modes in which an extension header keeps the packet from being balanced. */
  readonly unbalancedIn: readonly Compat[];
}

export const isFragment = (ip: Ip): boolean => ip.moreFragments || ip.fragmentOffset > 0;

/** Null when a header is cut short or lengths disagree. Checksums are nobody's business here. */
export const parseIp = (packet: Uint8Array, family: Family): Ip | null =>
  family === 4 ? parseIpv4(packet) : parseIpv6(packet);

function parseIpv4(bytes: Uint8Array): Ip | null {
  if (bytes.length < 20 || bytes[0]! >> 4 !== 4) return null;
  const headerBytes = (bytes[0]! & 15) * 4;
  const totalLength = get16(bytes, 2);
  if (headerBytes < 20 || headerBytes > totalLength || totalLength > bytes.length) return null;
  const flags = get16(bytes, 6);
  return {
    family: 4,
    bytes,
    headerBytes,
    totalLength,
    protocol: bytes[9]!,
    ttl: bytes[8]!,
    ttlAt: 8,
    dontFragment: (flags & 0x4000) !== 0,
    moreFragments: (flags & 0x2000) !== 0,
    fragmentOffset: (flags & 0x1fff) * 8,
    identification: get16(bytes, 4),
    source: getAddress(bytes, 12, 4),
    destination: getAddress(bytes, 16, 4),
    chain: "walked",
    unbalancedIn: [],
  };
}

function parseIpv6(bytes: Uint8Array): Ip | null {
  if (bytes.length < 40 || bytes[0]! >> 4 !== 6) return null;
  const totalLength = get16(bytes, 4) + 40;
  if (totalLength > bytes.length) return null;
  return {
    family: 6,
    bytes,
    totalLength,
    ttl: bytes[7]!,
    ttlAt: 7,
    dontFragment: true,
    source: getAddress(bytes, 8, 6),
    destination: getAddress(bytes, 24, 6),
    ...walkExtensions(bytes.subarray(0, totalLength)),
  };
}

const HOP_BY_HOP = 0;
const ROUTING = 43;
const FRAGMENT = 44;
const AUTHENTICATION = 51;
const DESTINATION_OPTIONS = 60;
export const EXTENSIONS: readonly number[] = [HOP_BY_HOP, ROUTING, FRAGMENT, AUTHENTICATION, DESTINATION_OPTIONS];
const MOST_EXTENSIONS = 8;
const MOST_EXTENSION_BYTES = 512;

type Walk = Pick<
  Ip,
  "headerBytes" | "protocol" | "moreFragments" | "fragmentOffset" | "identification" | "chain" | "unbalancedIn"
>;

/** Follows the extension headers of an IPv6 packet (RFC 8200 4), or of as much of one as somebody quotes. */
export function walkExtensions(packet: Uint8Array): Walk {
  let at = 40;
  let protocol = packet[6]!;
  let hasFragment = false;
  let moreFragments = false;
  let fragmentOffset = 0;
  let identification = 0;
  let ilbBalances = true;
  let modernBalances = true;
  const end = (chain: Ip["chain"]): Walk => {
    const unbalancedIn: Compat[] = [
      ...(ilbBalances ? [] : (["ilb"] as const)),
      ...(modernBalances ? [] : (["modern"] as const)),
    ];
    return { headerBytes: at, protocol, moreFragments, fragmentOffset, identification, chain, unbalancedIn };
  };
  for (let count = 0; EXTENSIONS.includes(protocol) && fragmentOffset === 0; count++) {
    if (count === MOST_EXTENSIONS) return end("too long");
    if (packet.length < at + 8) return end("malformed");
    const size =
      protocol === FRAGMENT ? 8 : protocol === AUTHENTICATION ? (packet[at + 1]! + 2) * 4 : (packet[at + 1]! + 1) * 8;
    if (packet.length < at + size) return end("malformed");
    if (at + size > 40 + MOST_EXTENSION_BYTES) return end("too long");
    if (protocol === FRAGMENT && hasFragment) return end("malformed");
    ilbBalances &&= protocol === HOP_BY_HOP && count === 0;
    // Whoever checks an authentication header or goes along a route does not know the server's address.
    if (protocol === AUTHENTICATION || (protocol === ROUTING && packet[at + 3] !== 0)) modernBalances = false;
    if (protocol === FRAGMENT) {
      hasFragment = true;
      fragmentOffset = get16(packet, at + 2) & 0xfff8;
      moreFragments = (packet[at + 3]! & 1) !== 0;
      identification = get32(packet, at + 4);
    }
    protocol = packet[at]!;
    at += size;
  }
  return end("walked");
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

/**
 * Null when the TCP or UDP header is cut short or contradicts the packet (RFC 9293 3.1, RFC 768). The length of a UDP
 * datagram goes beyond its first fragment.
 */
export function parseTransport(ip: Ip): Transport | null {
  const segment = ip.bytes.subarray(ip.headerBytes, ip.totalLength);
  const isTcp = ip.protocol === TCP;
  if (segment.length < (isTcp ? 20 : 8)) return null;
  const headerBytes = isTcp ? (segment[12]! >> 4) * 4 : 8;
  if (isTcp && (headerBytes < 20 || headerBytes > segment.length)) return null;
  if (!isTcp && get16(segment, 4) < 8) return null;
  if (!isTcp && get16(segment, 4) > segment.length && !isFragment(ip)) return null;
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

/**
 * Source addresses that no host may send from: this network, loopback, multicast, reserved (RFC 1122 3.2.1.3, RFC 1112);
 * unspecified, loopback, multicast (RFC 4291 2.5.2, 2.5.3, 2.7).
 */
export function isMartian({ family, value }: Address): boolean {
  if (family === 6) return value <= 1n || value >> 120n === 0xffn;
  const first = Number(value >> 24n);
  return first === 0 || first === 127 || first >= 224;
}

/** ::ffff:0:0/96, which never stands on a wire (RFC 4291 2.5.5.2). */
export const isMapped = ({ family, value }: Address): boolean => family === 6 && value >> 32n === 0xffffn;

/** Destinations that nobody balances, whatever an image says: link-local, multicast, mapped. */
export const isNeverBalanced = (address: Address): boolean => {
  const { family, value } = address;
  return family === 6 && (value >> 118n === 0x3fan || value >> 120n === 0xffn || isMapped(address));
};
