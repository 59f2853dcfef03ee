/**
 * Reads capture files of the laboratory, which are cut to a snap length, into what the end to end tests ask about.
 */
import { readFileSync } from "node:fs";
import { readCapture } from "../../src/device/pcap.ts";
import { addressFromBytes, formatAddress } from "../../src/model/address.ts";

/** One captured frame with an IP packet in it. Ports and TCP fields are 0 where they do not apply. */
export interface SeenPacket {
  /** Wall clock, milliseconds since the epoch. */
  readonly atMs: number;
  readonly sourceMac: string;
  readonly source: string;
  readonly destination: string;
  readonly protocol: "tcp" | "udp" | "icmp" | "icmpv6" | "other";
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly isSyn: boolean;
  readonly isAck: boolean;
  readonly isReset: boolean;
  readonly sequence: number;
  readonly icmpType: number;
  /** TTL or hop limit. */
  readonly ttl: number;
  /** Length of the IP packet by its header. */
  readonly lengthBytes: number;
  /** First bytes behind the transport header, as far as captured, in hexadecimal. */
  readonly payloadStart: string;
}

const PROTOCOLS: Readonly<Record<number, SeenPacket["protocol"]>> = { 1: "icmp", 6: "tcp", 17: "udp", 58: "icmpv6" };

/** What an IP header says. `transport`: where the transport header begins; null in later fragments. */
interface Network {
  readonly source: Uint8Array;
  readonly destination: Uint8Array;
  readonly protocol: number;
  readonly ttl: number;
  readonly lengthBytes: number;
  readonly transport: number | null;
}

/** Where the frame's IP header is. */
const IP = 14;

function slice(frame: DataView, from: number, length: number): Uint8Array {
  return new Uint8Array(frame.buffer, frame.byteOffset + from, Math.max(0, Math.min(length, frame.byteLength - from)));
}

function decodeIPv4(frame: DataView): Network {
  const isFirst = (frame.getUint16(IP + 6) & 0x1fff) === 0;
  return {
    source: slice(frame, IP + 12, 4),
    destination: slice(frame, IP + 16, 4),
    protocol: frame.getUint8(IP + 9),
    ttl: frame.getUint8(IP + 8),
    lengthBytes: frame.getUint16(IP + 2),
    transport: isFirst ? IP + (frame.getUint8(IP) & 0x0f) * 4 : null,
  };
}

const HOP_BY_HOP = 0;
const FRAGMENT = 44;

/** Of the extension headers it knows those that the kernels here send: hop-by-hop (MLD) and fragment. */
function decodeIPv6(frame: DataView): Network {
  let protocol = frame.getUint8(IP + 6);
  let transport: number | null = IP + 40;
  if (protocol === HOP_BY_HOP && frame.byteLength >= transport + 8) {
    protocol = frame.getUint8(transport);
    transport += 8 + frame.getUint8(transport + 1) * 8;
  }
  if (protocol === FRAGMENT && frame.byteLength >= transport + 8) {
    protocol = frame.getUint8(transport);
    transport = frame.getUint16(transport + 2) >> 3 === 0 ? transport + 8 : null;
  }
  return {
    source: slice(frame, IP + 8, 16),
    destination: slice(frame, IP + 24, 16),
    protocol,
    ttl: frame.getUint8(IP + 7),
    lengthBytes: frame.getUint16(IP + 4) + 40,
    transport,
  };
}

function decodeNetwork(frame: DataView): Network | null {
  const etherType = frame.byteLength >= IP ? frame.getUint16(12) : 0;
  if (etherType === 0x0800 && frame.byteLength >= IP + 20) return decodeIPv4(frame);
  if (etherType === 0x86dd && frame.byteLength >= IP + 40) return decodeIPv6(frame);
  return null;
}

const textOf = (bytes: Uint8Array): string => formatAddress(addressFromBytes(bytes));

function decode(frame: DataView, atMs: number): SeenPacket | null {
  const network = decodeNetwork(frame);
  if (network === null) return null;
  const protocol = PROTOCOLS[network.protocol] ?? "other";
  const transport = network.transport ?? frame.byteLength;
  const has = (length: number) => frame.byteLength >= transport + length;
  const isTcp = protocol === "tcp" && has(20);
  const isIcmp = protocol === "icmp" || protocol === "icmpv6";
  const hasPorts = isTcp || (protocol === "udp" && has(8));
  const flags = isTcp ? frame.getUint8(transport + 13) : 0;
  const payload = transport + (isTcp ? (frame.getUint8(transport + 12) >> 4) * 4 : 8);
  return {
    atMs,
    sourceMac: Buffer.from(slice(frame, 6, 6)).toString("hex"),
    source: textOf(network.source),
    destination: textOf(network.destination),
    protocol,
    sourcePort: hasPorts ? frame.getUint16(transport) : 0,
    destinationPort: hasPorts ? frame.getUint16(transport + 2) : 0,
    isSyn: (flags & 0x02) !== 0,
    isAck: (flags & 0x10) !== 0,
    isReset: (flags & 0x04) !== 0,
    sequence: isTcp ? frame.getUint32(transport + 4) : 0,
    icmpType: isIcmp && has(8) ? frame.getUint8(transport) : -1,
    ttl: network.ttl,
    lengthBytes: network.lengthBytes,
    payloadStart: Buffer.from(slice(frame, payload, 16)).toString("hex"),
  };
}

/** IPv4 and IPv6 packets of a capture file in order. Other frames are left out. */
export function packetsOf(file: string): SeenPacket[] {
  const capture = readCapture(readFileSync(file), file);
  if (!capture.ok) throw new Error(capture.failure.text);
  return capture.value.packets
    .map(({ bytes, timeNs }) =>
      decode(new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength), Number(timeNs / 1_000_000n)),
    )
    .filter((packet) => packet !== null);
}

/** Counts packets by a key. */
export function countBy(packets: readonly SeenPacket[], key: (packet: SeenPacket) => string): Map<string, number> {
  const counts = new Map<string, number>();
  for (const packet of packets) counts.set(key(packet), (counts.get(key(packet)) ?? 0) + 1);
  return counts;
}
