/**
 * Reads capture files of the laboratory, which are cut to a snap length, into what the end to end tests ask about.
 */
import { readFileSync } from "node:fs";
import { readCapture } from "../../src/device/pcap.ts";

/** One captured frame with an IPv4 packet in it. Ports and TCP fields are 0 where they do not apply. */
export interface SeenPacket {
  /** Wall clock, milliseconds since the epoch. */
  readonly atMs: number;
  readonly sourceMac: string;
  readonly source: string;
  readonly destination: string;
  readonly protocol: "tcp" | "udp" | "icmp" | "other";
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly isSyn: boolean;
  readonly isAck: boolean;
  readonly isReset: boolean;
  readonly sequence: number;
  readonly icmpType: number;
  /** Length of the IPv4 packet by its header. */
  readonly lengthBytes: number;
  /** First bytes behind the transport header, as far as captured, in hexadecimal. */
  readonly payloadStart: string;
}

const PROTOCOLS: Readonly<Record<number, SeenPacket["protocol"]>> = { 1: "icmp", 6: "tcp", 17: "udp" };

function decode(frame: DataView, atMs: number): SeenPacket | null {
  const etherType = frame.byteLength >= 34 ? frame.getUint16(12) : 0;
  if (etherType !== 0x0800) return null;
  const bytes = (from: number, length: number) =>
    new Uint8Array(frame.buffer, frame.byteOffset + from, Math.max(0, Math.min(length, frame.byteLength - from)));
  const ip = 14;
  const transport = ip + (frame.getUint8(ip) & 0x0f) * 4;
  const protocol = PROTOCOLS[frame.getUint8(ip + 9)] ?? "other";
  const isFirst = (frame.getUint16(ip + 6) & 0x1fff) === 0;
  const has = (length: number) => isFirst && frame.byteLength >= transport + length;
  const isTcp = protocol === "tcp" && has(20);
  const hasPorts = isTcp || (protocol === "udp" && has(8));
  const flags = isTcp ? frame.getUint8(transport + 13) : 0;
  const payload = transport + (isTcp ? (frame.getUint8(transport + 12) >> 4) * 4 : 8);
  return {
    atMs,
    sourceMac: Buffer.from(bytes(6, 6)).toString("hex"),
    source: [...bytes(ip + 12, 4)].join("."),
    destination: [...bytes(ip + 16, 4)].join("."),
    protocol,
    sourcePort: hasPorts ? frame.getUint16(transport) : 0,
    destinationPort: hasPorts ? frame.getUint16(transport + 2) : 0,
    isSyn: (flags & 0x02) !== 0,
    isAck: (flags & 0x10) !== 0,
    isReset: (flags & 0x04) !== 0,
    sequence: isTcp ? frame.getUint32(transport + 4) : 0,
    icmpType: protocol === "icmp" && has(8) ? frame.getUint8(transport) : -1,
    lengthBytes: frame.getUint16(ip + 2),
    payloadStart: Buffer.from(bytes(payload, 16)).toString("hex"),
  };
}

/** IPv4 packets of a capture file in order. Other frames are left out. */
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
