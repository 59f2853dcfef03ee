/**
 * Builds packets for tests, header by header, as byte arrays. Every length and checksum is right unless the caller
 * overrides it; overriding is how broken packets are made. Shares no code or offsets with assembly/ or src/engine:
 * headers are written front to back by a cursor, from the pictures in RFC 791, 793, 768, 792, 8200, 4443 and 826.
 */
import type { Address } from "../../src/model/address.ts";
import { addressBytes } from "./addresses.ts";
import { internetChecksum, onesComplementSum } from "./checksum.ts";

/** Appends big-endian fields. */
class Writer {
  #bytes = new Uint8Array(64);
  #length = 0;
  u8(value: number): this {
    this.#reserve(1);
    this.#bytes[this.#length++] = value;
    return this;
  }
  u16(value: number): this {
    return this.u8(value >>> 8).u8(value);
  }
  u32(value: number): this {
    return this.u16(value >>> 16).u16(value);
  }
  raw(bytes: Uint8Array): this {
    this.#reserve(bytes.length);
    this.#bytes.set(bytes, this.#length);
    this.#length += bytes.length;
    return this;
  }
  done(): Uint8Array {
    return this.#bytes.slice(0, this.#length);
  }
  #reserve(more: number): void {
    if (this.#length + more <= this.#bytes.length) return;
    const larger = new Uint8Array(Math.max(this.#length + more, 2 * this.#bytes.length));
    larger.set(this.#bytes);
    this.#bytes = larger;
  }
}

/** Bytes of all parts in a row. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  const whole = new Uint8Array(parts.reduce((size, part) => size + part.length, 0));
  let at = 0;
  for (const part of parts) {
    whole.set(part, at);
    at += part.length;
  }
  return whole;
}

const NOTHING = new Uint8Array(0);

export const PROTOCOL_ICMP = 1;
export const PROTOCOL_TCP = 6;
export const PROTOCOL_UDP = 17;
export const PROTOCOL_ICMP6 = 58;
export const ETHERTYPE_IPV4 = 0x0800;
export const ETHERTYPE_IPV6 = 0x86dd;
export const ETHERTYPE_ARP = 0x0806;
export const ETHERTYPE_VLAN = 0x8100;

/** Source and destination as the pseudo-header needs them. */
export interface Ends {
  readonly source: Address;
  readonly destination: Address;
}

/** Pseudo-header of RFC 9293 3.1 and RFC 768 (IPv4), RFC 8200 8.1 (IPv6). @param length of transport header and data. */
export function pseudoHeader(ends: Ends, protocol: number, length: number): Uint8Array {
  const writer = new Writer().raw(addressBytes(ends.source)).raw(addressBytes(ends.destination));
  if (ends.source.family === 4) writer.u8(0).u8(protocol).u16(length);
  else writer.u32(length).u16(0).u8(0).u8(protocol);
  return writer.done();
}

/**
 * `good`: the right sum. `partial`: the folded, not complemented pseudo-header sum that Linux leaves for the device
 * (CHECKSUM_PARTIAL). `none`: 0. A number: stored as given.
 */
export type ChecksumChoice = "good" | "partial" | "none" | number;

function transportChecksum(choice: ChecksumChoice, ends: Ends, protocol: number, segment: Uint8Array): number {
  if (typeof choice === "number") return choice;
  if (choice === "none") return 0;
  const pseudo = pseudoHeader(ends, protocol, segment.length);
  if (choice === "partial") return onesComplementSum(pseudo);
  const sum = internetChecksum(pseudo, segment);
  return protocol === PROTOCOL_UDP && sum === 0 ? 0xffff : sum;
}

/** Puts a checksum where the header just written has a 0. */
function stored(bytes: Uint8Array, at: number, checksum: number): Uint8Array {
  bytes[at] = checksum >> 8;
  bytes[at + 1] = checksum;
  return bytes;
}

export interface TcpSpec {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly sequence?: number;
  readonly acknowledgement?: number;
  /** Letters of FSRPAUEC in any order; default `A`. */
  readonly flags?: string;
  readonly window?: number;
  readonly urgent?: number;
  /** Padded with zeros to whole words. */
  readonly options?: Uint8Array;
  readonly payload?: Uint8Array;
  /** In 32-bit words; default from the options. */
  readonly dataOffset?: number;
  readonly checksum?: ChecksumChoice;
}

const TCP_FLAG_LETTERS = "FSRPAUEC";

/** A TCP segment (RFC 9293 3.1). */
export function tcp(spec: TcpSpec, ends: Ends): Uint8Array {
  const options = padded(spec.options ?? NOTHING, 4);
  let flags = 0;
  for (const letter of spec.flags ?? "A") {
    const bit = TCP_FLAG_LETTERS.indexOf(letter);
    if (bit < 0) throw new Error(`no TCP flag ${letter}`);
    flags |= 1 << bit;
  }
  const segment = new Writer()
    .u16(spec.sourcePort)
    .u16(spec.destinationPort)
    .u32(spec.sequence ?? 1000)
    .u32(spec.acknowledgement ?? 0)
    .u8((spec.dataOffset ?? 5 + options.length / 4) << 4)
    .u8(flags)
    .u16(spec.window ?? 8192)
    .u16(0)
    .u16(spec.urgent ?? 0)
    .raw(options)
    .raw(spec.payload ?? NOTHING)
    .done();
  return stored(segment, 16, transportChecksum(spec.checksum ?? "good", ends, PROTOCOL_TCP, segment));
}

export interface UdpSpec {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly payload?: Uint8Array;
  /** Default from the payload. */
  readonly length?: number;
  readonly checksum?: ChecksumChoice;
}

/** A UDP datagram (RFC 768). */
export function udp(spec: UdpSpec, ends: Ends): Uint8Array {
  const payload = spec.payload ?? NOTHING;
  const datagram = new Writer()
    .u16(spec.sourcePort)
    .u16(spec.destinationPort)
    .u16(spec.length ?? 8 + payload.length)
    .u16(0)
    .raw(payload)
    .done();
  return stored(datagram, 6, transportChecksum(spec.checksum ?? "good", ends, PROTOCOL_UDP, datagram));
}

export interface IcmpSpec {
  readonly type: number;
  readonly code?: number;
  /** Bytes 4 to 7: identifier and sequence, or unused and next-hop MTU. */
  readonly rest?: number;
  readonly payload?: Uint8Array;
  readonly checksum?: number;
}

/** ICMP for IPv4 (RFC 792); the sum has no pseudo-header. */
export function icmp4(spec: IcmpSpec): Uint8Array {
  const message = new Writer()
    .u8(spec.type)
    .u8(spec.code ?? 0)
    .u16(0)
    .u32(spec.rest ?? 0)
    .raw(spec.payload ?? NOTHING)
    .done();
  return stored(message, 2, spec.checksum ?? internetChecksum(message));
}

/** ICMPv6 (RFC 4443 2.3); the sum covers the pseudo-header. */
export function icmp6(spec: IcmpSpec, ends: Ends): Uint8Array {
  const message = icmp4({ ...spec, checksum: 0 });
  const pseudo = pseudoHeader(ends, PROTOCOL_ICMP6, message.length);
  return stored(message, 2, spec.checksum ?? internetChecksum(pseudo, message));
}

export interface Ipv4Spec extends Ends {
  readonly protocol: number;
  readonly payload: Uint8Array;
  readonly ttl?: number;
  readonly typeOfService?: number;
  readonly identification?: number;
  readonly dontFragment?: boolean;
  readonly moreFragments?: boolean;
  /** In units of 8 bytes. */
  readonly fragmentOffset?: number;
  /** The reserved flag, RFC 791's most significant one. */
  readonly reservedFlag?: boolean;
  /** Padded with zeros to whole words. */
  readonly options?: Uint8Array;
  /** Overrides, for broken packets. */
  readonly version?: number;
  readonly headerWords?: number;
  readonly totalLength?: number;
  readonly checksum?: number;
}

/** An IPv4 packet (RFC 791 3.1). */
export function ipv4(spec: Ipv4Spec): Uint8Array {
  const options = padded(spec.options ?? NOTHING, 4);
  const flags = (spec.reservedFlag ? 4 : 0) | (spec.dontFragment ? 2 : 0) | (spec.moreFragments ? 1 : 0);
  const header = new Writer()
    .u8(((spec.version ?? 4) << 4) | (spec.headerWords ?? 5 + options.length / 4))
    .u8(spec.typeOfService ?? 0)
    .u16(spec.totalLength ?? 20 + options.length + spec.payload.length)
    .u16(spec.identification ?? 0x1234)
    .u16((flags << 13) | (spec.fragmentOffset ?? 0))
    .u8(spec.ttl ?? 64)
    .u8(spec.protocol)
    .u16(0)
    .raw(addressBytes(spec.source))
    .raw(addressBytes(spec.destination))
    .raw(options)
    .done();
  return concat(stored(header, 10, spec.checksum ?? internetChecksum(header)), spec.payload);
}

export interface ExtensionHeader {
  /** 0 hop-by-hop, 43 routing, 44 fragment, 60 destination options, 51 authentication. */
  readonly kind: number;
  /** All bytes after the next-header byte, its own length byte included. */
  readonly body: Uint8Array;
}

export interface Ipv6Spec extends Ends {
  readonly nextHeader: number;
  readonly payload: Uint8Array;
  readonly hopLimit?: number;
  readonly trafficClass?: number;
  readonly flowLabel?: number;
  readonly extensions?: readonly ExtensionHeader[];
  readonly payloadLength?: number;
}

/** An IPv6 packet with its extension headers in order (RFC 8200 3 and 4). */
export function ipv6(spec: Ipv6Spec): Uint8Array {
  const extensions = spec.extensions ?? [];
  const chain = extensions.map((extension, i) =>
    concat(Uint8Array.of(extensions[i + 1]?.kind ?? spec.nextHeader), extension.body),
  );
  const inner = concat(...chain, spec.payload);
  const header = new Writer()
    .u32((6 << 28) | ((spec.trafficClass ?? 0) << 20) | (spec.flowLabel ?? 0))
    .u16(spec.payloadLength ?? inner.length)
    .u8(extensions[0]?.kind ?? spec.nextHeader)
    .u8(spec.hopLimit ?? 64)
    .raw(addressBytes(spec.source))
    .raw(addressBytes(spec.destination))
    .done();
  return concat(header, inner);
}

/** Hop-by-hop (0) or destination (60) options filled with Pad1 and PadN. @param units of 8 bytes, from 1. */
export function optionsExtension(kind: 0 | 60, units = 1): ExtensionHeader {
  const body = new Uint8Array(units * 8 - 1);
  body[0] = units - 1;
  for (let at = 1; at < body.length; ) {
    const size = Math.min(body.length - at, 257);
    body[at] = size === 1 ? 0 : 1;
    if (size > 1) body[at + 1] = size - 2;
    at += size;
  }
  return { kind, body };
}

/** Fragment header (RFC 8200 4.5). @param offset in units of 8 bytes. */
export function fragmentExtension(offset: number, more: boolean, identification: number): ExtensionHeader {
  const body = new Writer()
    .u8(0)
    .u16((offset << 3) | (more ? 1 : 0))
    .u32(identification)
    .done();
  return { kind: 44, body };
}

/** Routing header of an experimental type without addresses (RFC 8200 4.4). */
export const routingExtension = (segmentsLeft: number): ExtensionHeader => ({
  kind: 43,
  body: Uint8Array.of(0, 253, segmentsLeft, 0, 0, 0, 0),
});

/** Authentication header with a check value of 8 bytes (RFC 4302 2); its length counts words but two. */
export const authenticationExtension = (): ExtensionHeader => ({ kind: 51, body: new Uint8Array(19).fill(3, 0, 1) });

export interface EthernetSpec {
  readonly destination: Uint8Array;
  readonly source: Uint8Array;
  readonly etherType: number;
  /** VLAN tags in-band, outermost first (IEEE 802.1Q). */
  readonly vlans?: readonly number[];
  readonly payload: Uint8Array;
  /** Pad with zeros to this many bytes; 60 is the shortest frame of a wire without its check sequence. */
  readonly minimumBytes?: number;
}

/** An Ethernet II frame without its check sequence. */
export function ethernet(spec: EthernetSpec): Uint8Array {
  const writer = new Writer().raw(spec.destination).raw(spec.source);
  for (const vlan of spec.vlans ?? []) writer.u16(ETHERTYPE_VLAN).u16(vlan);
  const frame = writer.u16(spec.etherType).raw(spec.payload).done();
  return spec.minimumBytes === undefined || frame.length >= spec.minimumBytes
    ? frame
    : concat(frame, new Uint8Array(spec.minimumBytes - frame.length));
}

/** An ARP request for IPv4 over Ethernet (RFC 826). */
export function arpRequest(senderMac: Uint8Array, sender: Address, target: Address): Uint8Array {
  return new Writer()
    .u16(1)
    .u16(ETHERTYPE_IPV4)
    .u8(6)
    .u8(4)
    .u16(1)
    .raw(senderMac)
    .raw(addressBytes(sender))
    .raw(new Uint8Array(6))
    .raw(addressBytes(target))
    .done();
}

/**
 * Cuts an IPv4 packet without options into fragments as a router does (RFC 791 3.2), each with a valid header.
 * @param maximumBytes of one fragment's packet; the payload per fragment is rounded down to 8.
 */
export function fragmentIpv4(spec: Ipv4Spec, maximumBytes: number): Uint8Array[] {
  const step = Math.floor((maximumBytes - 20) / 8) * 8;
  const base = (spec.fragmentOffset ?? 0) * 8;
  const fragments: Uint8Array[] = [];
  for (let at = 0; at < spec.payload.length; at += step) {
    const last = at + step >= spec.payload.length;
    const payload = spec.payload.subarray(at, at + step);
    const moreFragments = !last || spec.moreFragments === true;
    fragments.push(ipv4({ ...spec, payload, moreFragments, fragmentOffset: (base + at) / 8 }));
  }
  return fragments;
}

/** Cuts what follows `spec.extensions` into fragments as a source does (RFC 8200 4.5). @param maximumBytes of a packet. */
export function fragmentIpv6(spec: Ipv6Spec, identification: number, maximumBytes: number): Uint8Array[] {
  const extensions = spec.extensions ?? [];
  const headerBytes = 48 + extensions.reduce((sum, { body }) => sum + 1 + body.length, 0);
  const step = Math.max(8, Math.floor((maximumBytes - headerBytes) / 8) * 8);
  const fragments: Uint8Array[] = [];
  for (let at = 0; at < spec.payload.length; at += step) {
    const more = at + step < spec.payload.length;
    const chain = [...extensions, fragmentExtension(at / 8, more, identification)];
    fragments.push(ipv6({ ...spec, extensions: chain, payload: spec.payload.subarray(at, at + step) }));
  }
  return fragments;
}

function padded(bytes: Uint8Array, unit: number): Uint8Array {
  const rest = bytes.length % unit;
  return rest === 0 ? bytes : concat(bytes, new Uint8Array(unit - rest));
}

/** `0a0b` to bytes; blanks are skipped. */
export function fromHex(text: string): Uint8Array {
  const digits = text.replace(/\s+/g, "");
  return Uint8Array.from({ length: digits.length / 2 }, (_, i) => Number.parseInt(digits.slice(2 * i, 2 * i + 2), 16));
}

/** Lower-case hexadecimal without blanks. */
export function toHex(bytes: Uint8Array): string {
  return Array.from(bytes, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
