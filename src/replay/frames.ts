/**
 * Between packets of a capture and frames of the engine. A raw IP packet gets an Ethernet header for the engine and
 * loses it again, so that it fares exactly as it would on Ethernet, TTL included: with an IP port the engine would leave
 * that to a kernel, and here is none. A packet that the capture has cut short is filled up with zeros if all of its
 * headers are there, because the engine reads no payload; what leaves is cut likewise.
 */
import type { CapturedPacket, LinkKind } from "../device/capture-reader.ts";
import type { WritablePacket } from "../device/pcap.ts";

const LINK_BYTES = 14;
/** Link header and the largest packet that IPv4 and IPv6 without jumbograms know; padding behind it is left out. */
const LARGEST_FRAME_BYTES = LINK_BYTES + 40 + 65_535;
const ETHERTYPE_IPV4 = 0x0800;
const ETHERTYPE_IPV6 = 0x86dd;
/** Reserved by RFC 1701: no protocol that the engine knows. */
const ETHERTYPE_NONE = 0xffff;

/** The box's only port. */
export const BOX_MAC: Uint8Array = Uint8Array.of(0x02, 0, 0, 0, 0, 0x01);
/** Where packets of a raw IP capture come from. */
const RAW_SENDER_MAC: Uint8Array = Uint8Array.of(0x02, 0, 0, 0, 0, 0x02);

/** What the engine gets for one captured packet, and what has to be undone on what leaves. */
export interface Arrived {
  readonly bytes: Uint8Array;
  /** Bytes at its end that the capture did not hold. */
  readonly missingBytes: number;
}

/** The frame of a captured packet: the captured bytes themselves where nothing has to be added. */
export function frameOf({ bytes, originalLength }: CapturedPacket, kind: LinkKind): Arrived {
  const framed = kind === "ethernet" ? bytes : withLinkHeader(bytes);
  const frame = framed.subarray(0, LARGEST_FRAME_BYTES);
  const wholeBytes = originalLength > bytes.length ? packetEnd(frame) : 0;
  if (wholeBytes <= frame.length) return { bytes: frame, missingBytes: 0 };
  const whole = new Uint8Array(wholeBytes);
  whole.set(frame);
  return { bytes: whole, missingBytes: wholeBytes - frame.length };
}

/** What leaves because of an arrived frame, as it is written to the capture. */
export function packetOut(
  sent: Uint8Array,
  arrived: Arrived,
  { timeNs, originalLength }: CapturedPacket,
  kind: LinkKind,
): WritablePacket {
  const bytes = kind === "ethernet" ? sent : sent.subarray(LINK_BYTES);
  // Only what is as long as the frame that came in can be that frame.
  if (arrived.missingBytes === 0 || sent.length !== arrived.bytes.length) return { timeNs, bytes };
  const held = bytes.subarray(0, bytes.length - arrived.missingBytes);
  return { timeNs, bytes: held, originalLength: Math.max(originalLength, bytes.length) };
}

function withLinkHeader(packet: Uint8Array): Uint8Array {
  if (packet.length === 0) return packet;
  const version = packet[0]! >> 4;
  const etherType = version === 4 ? ETHERTYPE_IPV4 : version === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_NONE;
  const frame = new Uint8Array(LINK_BYTES + packet.length);
  frame.set(BOX_MAC, 0);
  frame.set(RAW_SENDER_MAC, 6);
  frame.set([etherType >> 8, etherType & 0xff], 12);
  frame.set(packet, LINK_BYTES);
  return frame;
}

const u16 = (bytes: Uint8Array, at: number): number => ((bytes[at] ?? 0) << 8) | (bytes[at + 1] ?? 0);

/** Bytes of transport header that the engine reads, by IP protocol number; of ICMP errors also what they quote. */
const TRANSPORT_BYTES: Readonly<Record<number, number>> = { 6: 20, 17: 8, 1: 8 + 60 + 8, 58: 8 + 40 + 20 };
const OTHER_TRANSPORT_BYTES = 64;

/** Where the IP packet of a frame ends by its own header; 0 when not all headers are in the frame. */
function packetEnd(frame: Uint8Array): number {
  const etherType = u16(frame, 12);
  if (etherType === ETHERTYPE_IPV4 && frame.length >= LINK_BYTES + 20) {
    const end = LINK_BYTES + u16(frame, LINK_BYTES + 2);
    const headerEnd = LINK_BYTES + (frame[LINK_BYTES]! & 0x0f) * 4;
    return hasHeaders(frame, headerEnd, frame[LINK_BYTES + 9]!, end) ? end : 0;
  }
  if (etherType === ETHERTYPE_IPV6 && frame.length >= LINK_BYTES + 40) {
    const end = LINK_BYTES + 40 + u16(frame, LINK_BYTES + 4);
    return hasHeaders(frame, LINK_BYTES + 40, frame[LINK_BYTES + 6]!, end) ? end : 0;
  }
  return 0;
}

function hasHeaders(frame: Uint8Array, headerEnd: number, protocol: number, packetBytes: number): boolean {
  const needed = headerEnd + (TRANSPORT_BYTES[protocol] ?? OTHER_TRANSPORT_BYTES);
  return frame.length >= Math.min(needed, packetBytes);
}
