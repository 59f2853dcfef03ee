/**
 * Frames that benchmarks put into an engine and take out again: TCP segments of 60 bytes (IPv4) or 80 (IPv6) with right
 * checksums, and a check of what came out that computes every sum from scratch. Shares no code with the engines, so that a
 * wrong rewrite cannot pass as a fast one.
 */

/** Where frames lie, and where layer 3 of each begins in that memory. */
export interface FramePlaces {
  readonly view: DataView;
  /** Even. */
  layer3(slot: number): number;
}

export type Family = 4 | 6;

/** Ends of a segment. Addresses are 32-bit numbers; an IPv6 address is 2001:db8::/96 and the number. */
export interface Segment {
  source: number;
  destination: number;
  sourcePort: number;
  destinationPort: number;
}

export const ACK = 0x10;
export const SYN = 0x02;
/** MAC addresses as their first four and last two bytes. */
export interface Mac {
  readonly head: number;
  readonly tail: number;
}
const macOf = (head: number, tail: number): Mac => ({ head, tail });
export const CLIENT_MAC = macOf(0x020c0000, 0x0001);
export const BOX_CLIENT_MAC = macOf(0x02000000, 0x0001);
export const BOX_SERVER_MAC = macOf(0x02000000, 0x0002);
export const SERVER_MAC = macOf(0x020d0000, 0x0001);
export const macBytes = ({ head, tail }: Mac): Uint8Array =>
  new Uint8Array([head >>> 24, (head >>> 16) & 0xff, (head >>> 8) & 0xff, head & 0xff, tail >>> 8, tail & 0xff]);

const PAYLOAD_BYTES = 6;
const TCP_BYTES = 20 + PAYLOAD_BYTES;
const TTL = 64;
const TCP = 6;
const PREFIX = 0x20010db8;
const ETHERTYPE = { 4: 0x0800, 6: 0x86dd } as const;
const IP_BYTES = { 4: 20, 6: 40 } as const;

/** Bytes of a whole frame. */
export const frameBytes = (family: Family): number => 14 + IP_BYTES[family] + TCP_BYTES;

/** One's complement sum of the halves of a 32-bit number. */
const halves = (word: number): number => (word >>> 16) + (word & 0xffff);

/** Folds a sum below 2^32 to 16 bits. */
function fold(sum: number): number {
  const once = (sum & 0xffff) + (sum >>> 16);
  return (once & 0xffff) + (once >>> 16);
}

/** Writes a frame that goes from `from` to `to` on the wire. The payload begins with `mark`. */
export function writeFrame(
  { view, layer3 }: FramePlaces,
  slot: number,
  family: Family,
  segment: Segment,
  [from, to]: readonly [Mac, Mac],
  mark: number,
  tcpFlags = ACK,
): void {
  const ip = layer3(slot);
  view.setUint32(ip - 14, to.head);
  view.setUint32(ip - 10, (to.tail << 16) | (from.head >>> 16));
  view.setUint32(ip - 6, (from.head << 16) | from.tail);
  view.setUint16(ip - 2, ETHERTYPE[family]);
  if (family === 4) writeIpv4(view, ip, segment);
  else writeIpv6(view, ip, segment);
  const l4 = ip + IP_BYTES[family];
  const ports = ((segment.sourcePort << 16) | segment.destinationPort) >>> 0;
  const offsetAndFlags = 0x5000 | tcpFlags;
  view.setUint32(l4, ports);
  view.setUint32(l4 + 4, mark);
  view.setUint32(l4 + 8, 0);
  view.setUint32(l4 + 12, ((offsetAndFlags << 16) | 0x2000) >>> 0);
  view.setUint32(l4 + 20, mark);
  view.setUint16(l4 + 24, 0xbeef);
  const prefixes = family === 6 ? 2 * halves(PREFIX) : 0;
  const pseudo = prefixes + halves(segment.source) + halves(segment.destination) + TCP + TCP_BYTES;
  const sum = pseudo + halves(ports) + 2 * halves(mark) + offsetAndFlags + 0x2000 + 0xbeef;
  view.setUint32(l4 + 16, ((fold(sum) ^ 0xffff) << 16) >>> 0);
}

function writeIpv4(view: DataView, ip: number, { source, destination }: Segment): void {
  view.setUint32(ip, 0x45000000 | (20 + TCP_BYTES));
  view.setUint32(ip + 4, 0x00004000);
  const sum = 0x4500 + 20 + TCP_BYTES + 0x4000 + ((TTL << 8) | TCP) + halves(source) + halves(destination);
  view.setUint32(ip + 8, ((((TTL << 8) | TCP) << 16) | (fold(sum) ^ 0xffff)) >>> 0);
  view.setUint32(ip + 12, source);
  view.setUint32(ip + 16, destination);
}

function writeIpv6(view: DataView, ip: number, { source, destination }: Segment): void {
  view.setUint32(ip, 0x60000000);
  view.setUint32(ip + 4, (TCP_BYTES << 16) | (TCP << 8) | TTL);
  for (const [at, number] of [
    [ip + 8, source],
    [ip + 24, destination],
  ] as const) {
    view.setUint32(at, PREFIX);
    view.setUint32(at + 4, 0);
    view.setUint32(at + 8, 0);
    view.setUint32(at + 12, number);
  }
}

/** The ends of the segment in a slot. */
export function readSegment({ view, layer3 }: FramePlaces, slot: number, family: Family, into: Segment): void {
  const ip = layer3(slot);
  into.source = view.getUint32(ip + (family === 4 ? 12 : 20));
  into.destination = view.getUint32(ip + (family === 4 ? 16 : 36));
  into.sourcePort = view.getUint16(ip + IP_BYTES[family]);
  into.destinationPort = view.getUint16(ip + IP_BYTES[family] + 2);
}

/** One's complement sum of a run of 16-bit words. */
function sumOf(view: DataView, from: number, to: number): number {
  let sum = 0;
  for (let at = from; at < to; at += 2) sum += view.getUint16(at);
  return sum;
}

/**
 * Throws when the frame in a slot is not the written one with these ends, these MAC addresses and one hop less to go, or
 * when a checksum is wrong.
 */
export function checkFrame(
  { view, layer3 }: FramePlaces,
  slot: number,
  family: Family,
  segment: Segment,
  [from, to]: readonly [Mac, Mac],
  mark: number,
): void {
  const ip = layer3(slot);
  const wrong = (what: string): never => {
    throw new Error(`the packet in slot ${slot} came out with a wrong ${what}`);
  };
  if (
    view.getUint32(ip - 14) !== to.head ||
    view.getUint32(ip - 10) !== ((to.tail << 16) | (from.head >>> 16)) >>> 0 ||
    view.getUint32(ip - 6) !== ((from.head << 16) | from.tail) >>> 0 ||
    view.getUint16(ip - 2) !== ETHERTYPE[family]
  )
    wrong("MAC header");
  const l4 = ip + IP_BYTES[family];
  const source = ip + (family === 4 ? 12 : 8);
  if (view.getUint32(l4 - 4) !== segment.destination) wrong("destination");
  if (view.getUint32(l4 - (family === 4 ? 8 : 20)) !== segment.source) wrong("source");
  if (view.getUint32(l4) !== ((segment.sourcePort << 16) | segment.destinationPort) >>> 0) wrong("port");
  if (view.getUint8(ip + (family === 4 ? 8 : 7)) !== TTL - 1) wrong("TTL");
  if (view.getUint32(l4 + 4) !== mark || view.getUint32(l4 + 20) !== mark) wrong("sequence number or payload");
  if (family === 4 && fold(sumOf(view, ip, l4)) !== 0xffff) wrong("header checksum");
  if (family === 6 && (view.getUint32(ip) !== 0x60000000 || view.getUint32(ip + 4) >>> 8 !== ((TCP_BYTES << 8) | TCP)))
    wrong("IPv6 header");
  const sum = sumOf(view, source, l4) + TCP + TCP_BYTES + sumOf(view, l4, l4 + TCP_BYTES);
  if (fold(sum) !== 0xffff) wrong("TCP checksum");
}
