/**
 * Takes packets apart for tests and checks every length and checksum from scratch. The counterpart of packet-builder,
 * and like it free of any code or offset of the product: fields are read front to back by a cursor.
 */
import type { Address } from "../../src/model/address.ts";
import { addressFromBytes } from "./addresses.ts";
import { onesComplementSum, sumIsValid } from "./checksum.ts";
import { PROTOCOL_ICMP, PROTOCOL_ICMP6, PROTOCOL_TCP, PROTOCOL_UDP, pseudoHeader } from "./packet-builder.ts";

class Reader {
  #at = 0;
  readonly bytes: Uint8Array;
  constructor(bytes: Uint8Array) {
    this.bytes = bytes;
  }
  u8(): number {
    const byte = this.bytes[this.#at];
    if (byte === undefined) throw new Error(`packet ends at byte ${this.bytes.length}`);
    this.#at++;
    return byte;
  }
  u16(): number {
    return this.u8() * 256 + this.u8();
  }
  u32(): number {
    return this.u16() * 65536 + this.u16();
  }
  take(length: number): Uint8Array {
    if (this.#at + length > this.bytes.length) throw new Error(`packet ends at byte ${this.bytes.length}`);
    this.#at += length;
    return this.bytes.subarray(this.#at - length, this.#at);
  }
  rest(): Uint8Array {
    return this.bytes.subarray(this.#at);
  }
}

export interface Transport {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly checksum: number;
  readonly payload: Uint8Array;
}
export interface DecodedTcp extends Transport {
  readonly sequence: number;
  readonly acknowledgement: number;
  /** Letters in the order FSRPAUEC. */
  readonly flags: string;
  readonly window: number;
  readonly options: Uint8Array;
}
export interface DecodedUdp extends Transport {
  readonly length: number;
}
export interface DecodedIcmp {
  readonly type: number;
  readonly code: number;
  readonly checksum: number;
  readonly rest: number;
  readonly payload: Uint8Array;
}

/** One IP packet. `transport` is absent for later fragments and for protocols that are not decoded. */
export interface Decoded {
  readonly family: 4 | 6;
  readonly source: Address;
  readonly destination: Address;
  readonly protocol: number;
  /** TTL or hop limit. */
  readonly ttl: number;
  /** Type of service or traffic class. */
  readonly typeOfService: number;
  /** IPv4 header with options, or IPv6 header with extension headers. */
  readonly header: Uint8Array;
  /** Everything behind `header`, cut to the length that the header states. */
  readonly body: Uint8Array;
  readonly options: Uint8Array;
  readonly identification: number;
  readonly dontFragment: boolean;
  readonly moreFragments: boolean;
  /** In bytes. */
  readonly fragmentOffset: number;
  readonly tcp?: DecodedTcp;
  readonly udp?: DecodedUdp;
  readonly icmp?: DecodedIcmp;
}

export interface DecodedFrame {
  readonly destination: Uint8Array;
  readonly source: Uint8Array;
  readonly etherType: number;
  readonly vlans: readonly number[];
  readonly payload: Uint8Array;
}

/** Splits an Ethernet II frame; VLAN tags in-band are taken off. */
export function decodeEthernet(frame: Uint8Array): DecodedFrame {
  const reader = new Reader(frame);
  const destination = reader.take(6);
  const source = reader.take(6);
  const vlans: number[] = [];
  let etherType = reader.u16();
  while (etherType === 0x8100 || etherType === 0x88a8) {
    vlans.push(reader.u16());
    etherType = reader.u16();
  }
  return { destination, source, etherType, vlans, payload: reader.rest() };
}

function decodeTransport(protocol: number, body: Uint8Array): Pick<Decoded, "tcp" | "udp" | "icmp"> {
  const reader = new Reader(body);
  if (protocol === PROTOCOL_TCP) {
    const sourcePort = reader.u16();
    const destinationPort = reader.u16();
    const sequence = reader.u32();
    const acknowledgement = reader.u32();
    const dataOffset = reader.u8() >> 4;
    const flagBits = reader.u8();
    const flags = [..."FSRPAUEC"].filter((_, bit) => (flagBits & (1 << bit)) !== 0).join("");
    const window = reader.u16();
    const checksum = reader.u16();
    reader.u16();
    const options = reader.take(dataOffset * 4 - 20);
    const payload = reader.rest();
    const tcp = { sourcePort, destinationPort, sequence, acknowledgement, flags, window, checksum, options, payload };
    return { tcp };
  }
  if (protocol === PROTOCOL_UDP) {
    const sourcePort = reader.u16();
    const destinationPort = reader.u16();
    const length = reader.u16();
    const checksum = reader.u16();
    return { udp: { sourcePort, destinationPort, length, checksum, payload: reader.rest() } };
  }
  if (protocol === PROTOCOL_ICMP || protocol === PROTOCOL_ICMP6) {
    const type = reader.u8();
    const code = reader.u8();
    const checksum = reader.u16();
    const rest = reader.u32();
    return { icmp: { type, code, checksum, rest, payload: reader.rest() } };
  }
  return {};
}

/**
 * Takes an IPv4 packet apart. Throws when it is cut inside a header. `quoted`: the packet is the inside of an ICMP
 * error, so its body may be shorter than its header says and its transport header is left alone.
 */
export function decodeIpv4(packet: Uint8Array, quoted = false): Decoded {
  const reader = new Reader(packet);
  const first = reader.u8();
  if (first >> 4 !== 4) throw new Error(`version ${first >> 4}, not 4`);
  const headerBytes = (first & 15) * 4;
  const typeOfService = reader.u8();
  const totalLength = reader.u16();
  const identification = reader.u16();
  const flagsAndOffset = reader.u16();
  const ttl = reader.u8();
  const protocol = reader.u8();
  reader.u16();
  const source = addressFromBytes(reader.take(4));
  const destination = addressFromBytes(reader.take(4));
  const options = reader.take(headerBytes - 20);
  if (!quoted && totalLength > packet.length) throw new Error(`total length ${totalLength} of ${packet.length} bytes`);
  const body = packet.subarray(headerBytes, Math.min(totalLength, packet.length));
  const fragmentOffset = (flagsAndOffset & 0x1fff) * 8;
  const moreFragments = (flagsAndOffset & 0x2000) !== 0;
  const whole = fragmentOffset === 0 && !moreFragments && !quoted;
  return {
    family: 4,
    source,
    destination,
    protocol,
    ttl,
    typeOfService,
    header: packet.subarray(0, headerBytes),
    body,
    options,
    identification,
    dontFragment: (flagsAndOffset & 0x4000) !== 0,
    moreFragments,
    fragmentOffset,
    ...(whole ? decodeTransport(protocol, body) : {}),
  };
}

/**
 * Takes an IPv6 packet apart, walking hop-by-hop, routing, destination options, authentication and fragment headers.
 * `quoted` as for decodeIpv4.
 */
export function decodeIpv6(packet: Uint8Array, quoted = false): Decoded {
  const reader = new Reader(packet);
  const first = reader.u32();
  if (first >>> 28 !== 6) throw new Error(`version ${first >>> 28}, not 6`);
  const payloadLength = reader.u16();
  let protocol = reader.u8();
  const ttl = reader.u8();
  const source = addressFromBytes(reader.take(16));
  const destination = addressFromBytes(reader.take(16));
  if (!quoted && 40 + payloadLength > packet.length)
    throw new Error(`payload length ${payloadLength} of ${packet.length} bytes`);
  let headerBytes = 40;
  let identification = 0;
  let fragmentOffset = 0;
  let moreFragments = false;
  // What lies behind a later fragment's header is data.
  while ([0, 43, 44, 51, 60].includes(protocol) && fragmentOffset === 0) {
    const next = reader.u8();
    const second = reader.u8();
    const size = protocol === 44 ? 8 : protocol === 51 ? 4 * (second + 2) : 8 * (second + 1);
    const extension = new Reader(reader.take(size - 2));
    if (protocol === 44) {
      const field = extension.u16();
      fragmentOffset = field & 0xfff8;
      moreFragments = (field & 1) !== 0;
      identification = extension.u32();
    }
    protocol = next;
    headerBytes += size;
  }
  const body = packet.subarray(headerBytes, Math.min(packet.length, 40 + payloadLength));
  const whole = fragmentOffset === 0 && !moreFragments && !quoted;
  return {
    family: 6,
    source,
    destination,
    protocol,
    ttl,
    typeOfService: (first >>> 20) & 0xff,
    header: packet.subarray(0, headerBytes),
    body,
    options: packet.subarray(40, headerBytes),
    identification,
    dontFragment: true,
    moreFragments,
    fragmentOffset,
    ...(whole ? decodeTransport(protocol, body) : {}),
  };
}

/** Family by the version nibble. */
export function decodeIp(packet: Uint8Array, quoted = false): Decoded {
  return (packet[0] ?? 0) >> 4 === 6 ? decodeIpv6(packet, quoted) : decodeIpv4(packet, quoted);
}

/** How the transport checksum of a packet stands. */
export type ChecksumState = "good" | "bad" | "partial" | "absent" | "not checked";

/** State of the IPv4 header checksum; `absent` for IPv6, which has none. */
export function headerChecksumState(packet: Decoded): ChecksumState {
  if (packet.family === 6) return "absent";
  return sumIsValid(packet.header) ? "good" : "bad";
}

/**
 * State of the transport checksum, computed over the whole body. `partial` when the field holds the not complemented
 * pseudo-header sum (only asked for with `mayBePartial`, since a complete sum can equal it by chance).
 */
export function transportChecksumState(packet: Decoded, mayBePartial = false): ChecksumState {
  if (packet.icmp !== undefined) {
    const pseudo = packet.family === 6 ? [pseudoHeader(packet, PROTOCOL_ICMP6, packet.body.length)] : [];
    return sumIsValid(...pseudo, packet.body) ? "good" : "bad";
  }
  const transport = packet.tcp ?? packet.udp;
  if (transport === undefined) return "not checked";
  if (packet.udp !== undefined && packet.udp.checksum === 0) return packet.family === 4 ? "absent" : "bad";
  const pseudo = pseudoHeader(packet, packet.protocol, packet.body.length);
  if (mayBePartial) return transport.checksum === onesComplementSum(pseudo) ? "partial" : "bad";
  return sumIsValid(pseudo, packet.body) ? "good" : "bad";
}

/** Every fault of lengths and checksums in a packet that ought to be perfect, as sentences; empty when there is none. */
export function faults(packetBytes: Uint8Array, mayBePartial = false): string[] {
  let packet: Decoded;
  try {
    packet = decodeIp(packetBytes);
  } catch (error) {
    return [(error as Error).message];
  }
  const found: string[] = [];
  if (headerChecksumState(packet) === "bad") found.push("IPv4 header checksum is wrong");
  if (transportChecksumState(packet, mayBePartial) === "bad") found.push("transport checksum is wrong");
  if (packet.udp !== undefined && packet.udp.length !== packet.body.length) {
    found.push(`UDP length ${packet.udp.length}, body ${packet.body.length}`);
  }
  return found;
}
