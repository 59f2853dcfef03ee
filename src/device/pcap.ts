/**
 * Capture files as values: reads a whole one (capture-reader.ts reads packet by packet) and spells pcap. Link types
 * Ethernet and raw IP. Knows nothing of packets beyond their length. Format: draft-ietf-opsawg-pcap.
 */
import { ok, type Result } from "../model/result.ts";
import {
  type CapturedPacket,
  LARGEST_PACKET_BYTES,
  type LinkKind,
  MAGIC_MICROSECONDS,
  MAGIC_NANOSECONDS,
  openCapture,
  PCAP_HEADER_BYTES,
  PCAP_RECORD_BYTES,
} from "./capture-reader.ts";

export { type CapturedPacket, LINKTYPE_ETHERNET, LINKTYPE_RAW, type LinkKind } from "./capture-reader.ts";

export interface Capture {
  readonly kind: LinkKind;
  /** The number that stood in the file (several numbers mean raw IP), so that a writer can repeat it. */
  readonly linkType: number;
  /** Finer than microseconds, so a writer that must not lose digits uses nanoseconds. */
  readonly nanoseconds: boolean;
  /** Their bytes are views into the file that was read. */
  readonly packets: readonly CapturedPacket[];
}

/**
 * Reads a whole capture of either format.
 * @param name of the file, for messages.
 * @returns E-CAPTURE with the name and the byte offset at which the file is damaged or not supported.
 */
export function readCapture(contents: Uint8Array, name: string): Result<Capture> {
  // A Buffer, as file functions give it, has a slice() that does not copy; packets must not inherit that.
  const file = new Uint8Array(contents.buffer, contents.byteOffset, contents.byteLength);
  const opened = openCapture({ read: (at, length) => file.subarray(at, at + length) }, name);
  if (!opened.ok) return opened;
  const reader = opened.value;
  const packets: CapturedPacket[] = [];
  for (;;) {
    const packet = reader.next();
    if (!packet.ok) return packet;
    if (packet.value === null) break;
    packets.push(packet.value);
  }
  return ok({ kind: reader.kind, linkType: reader.linkType, nanoseconds: reader.nanoseconds, packets });
}

/** How pcap is spelled. */
export interface PcapStyle {
  readonly linkType: number;
  /** Default: microseconds. */
  readonly nanoseconds?: boolean;
  /** Default: little-endian. */
  readonly bigEndian?: boolean;
}

/** A packet to be written. */
export interface WritablePacket {
  readonly timeNs: bigint;
  readonly bytes: Uint8Array;
  /** Default: all bytes are there. */
  readonly originalLength?: number;
}

/** The first bytes of a pcap file, version 2.4. */
export function pcapHeader(style: PcapStyle): Uint8Array {
  const littleEndian = style.bigEndian !== true;
  const header = new Uint8Array(PCAP_HEADER_BYTES);
  const view = new DataView(header.buffer);
  view.setUint32(0, style.nanoseconds ? MAGIC_NANOSECONDS : MAGIC_MICROSECONDS, littleEndian);
  view.setUint16(4, 2, littleEndian);
  view.setUint16(6, 4, littleEndian);
  view.setUint32(16, LARGEST_PACKET_BYTES, littleEndian);
  view.setUint32(20, style.linkType, littleEndian);
  return header;
}

/**
 * What stands before the bytes of a packet in a pcap file. Times are cut to whole units, never rounded up, seconds to
 * 32 bits.
 */
export function pcapRecordHeader({ timeNs, bytes, originalLength }: WritablePacket, style: PcapStyle): Uint8Array {
  const littleEndian = style.bigEndian !== true;
  const header = new Uint8Array(PCAP_RECORD_BYTES);
  const view = new DataView(header.buffer);
  view.setUint32(0, Number(BigInt.asUintN(32, timeNs / 1_000_000_000n)), littleEndian);
  const fractionNs = timeNs % 1_000_000_000n;
  view.setUint32(4, Number(style.nanoseconds ? fractionNs : fractionNs / 1000n), littleEndian);
  view.setUint32(8, bytes.length, littleEndian);
  view.setUint32(12, originalLength ?? bytes.length, littleEndian);
  return header;
}

/** A whole pcap file. Seconds must fit the 32 bits of the format. */
export function writePcap(packets: readonly WritablePacket[], style: PcapStyle): Uint8Array {
  const parts = [pcapHeader(style), ...packets.flatMap((packet) => [pcapRecordHeader(packet, style), packet.bytes])];
  const file = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    file.set(part, at);
    at += part.length;
  }
  return file;
}
