/**
 * Checksums of the reference engine. A real box updates a checksum incrementally, so that a packet which arrived with a
 * wrong sum leaves with an equally wrong one. Here that is stated as the law it amounts to instead of as RFC 1624
 * arithmetic: the ones' complement sum over everything that the checksum covers, the field included, is the same before
 * and after. The new field is the one value that makes it so.
 */
import type { Address } from "../../model/address.ts";
import { get16, joined, put16, putAddress, UDP } from "./packet.ts";

/** Sum of big-endian 16-bit words modulo 0xffff; an odd last byte counts as the high half of a word. */
function wordSum(bytes: Uint8Array): number {
  let sum = 0;
  for (let i = 0; i < bytes.length; i++) sum += i % 2 === 0 ? bytes[i]! * 256 : bytes[i]!;
  return sum % 0xffff;
}

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

/**
 * Sets the checksum at `at` in `after` so that both byte ranges sum alike. Of the two spellings of zero the result is
 * 0x0000, as RFC 1624 equation 3 gives it (complement of a sum that is never 0). Untouched if nothing else changed.
 */
function preserveSum(before: Uint8Array, after: Uint8Array, at: number): void {
  if (sameBytes(before, after)) return;
  put16(after, at, 0);
  put16(after, at, (wordSum(before) - wordSum(after) + 0xffff) % 0xffff);
}

const isIpv6 = (packet: Uint8Array): boolean => packet[0]! >> 4 === 6;

/** Mends the IPv4 header checksum of `after`, which differs from `before` in fields but not in header length. IPv6 has none. */
export function mendHeader(before: Uint8Array, after: Uint8Array): void {
  if (isIpv6(before)) return;
  const headerBytes = (before[0]! & 15) * 4;
  preserveSum(before.subarray(0, headerBytes), after.subarray(0, headerBytes), 10);
}

/** The same for a fragment, whose header may be shorter than that of the packet that it was cut from. */
export function preserveHeaderSum(before: Uint8Array, fragment: Uint8Array): void {
  const whole = before.subarray(0, (before[0]! & 15) * 4);
  const header = fragment.subarray(0, (fragment[0]! & 15) * 4);
  put16(header, 10, 0);
  put16(header, 10, (wordSum(whole) - wordSum(header) + 0xffff) % 0xffff);
}

/** What changes here of the pseudo header (RFC 9293 3.1, RFC 8200 8.1): source and destination. */
const addresses = (packet: Uint8Array): Uint8Array => (isIpv6(packet) ? packet.slice(8, 40) : packet.slice(12, 20));

/** Where a transport protocol keeps its checksum, from the start of its header. */
export const checksumOffset = (protocol: number): number => (protocol === UDP ? 6 : 16);

/**
 * Mends a complete TCP or UDP checksum after a change of addresses and ports.
 * @param transportAt start of the transport header in both packets.
 * @param coveredBytes of transport header present in both, at least up to the end of the checksum field.
 */
export function mendTransport(
  before: Uint8Array,
  after: Uint8Array,
  transportAt: number,
  coveredBytes: number,
  protocol: number,
): void {
  const at = checksumOffset(protocol);
  const isUdp = protocol === UDP;
  if (isUdp && get16(before, transportAt + at) === 0) return;
  const cover = (packet: Uint8Array): Uint8Array =>
    joined(addresses(packet), packet.subarray(transportAt, transportAt + coveredBytes));
  const mended = cover(after);
  const field = addresses(after).length + at;
  preserveSum(cover(before), mended, field);
  const sum = get16(mended, field);
  put16(after, transportAt + at, isUdp && sum === 0 ? 0xffff : sum);
}

/**
 * Mends a partial checksum: the field holds the sum of the pseudo-header, not complemented, and whoever sends the frame
 * adds the rest. Only addresses are in it. Of the two spellings of zero the result is 0xffff (a folded sum is never 0).
 */
export function mendPartial(before: Uint8Array, after: Uint8Array, transportAt: number, protocol: number): void {
  const old = addresses(before);
  const now = addresses(after);
  if (sameBytes(old, now)) return;
  const at = transportAt + checksumOffset(protocol);
  const sum = (get16(before, at) + 0xffff - wordSum(old) + wordSum(now)) % 0xffff;
  put16(after, at, sum === 0 ? 0xffff : sum);
}

/**
 * Mends the checksum of an ICMP message after changes in it, at `messageAt` in both packets. That of ICMPv6 covers the
 * addresses too (RFC 4443 2.3).
 */
export function mendIcmp(before: Uint8Array, after: Uint8Array, messageAt: number, end: number): void {
  const ends = (packet: Uint8Array): Uint8Array => (isIpv6(packet) ? addresses(packet) : new Uint8Array(0));
  const cover = (packet: Uint8Array): Uint8Array => joined(ends(packet), packet.subarray(messageAt, end));
  const mended = cover(after);
  const field = ends(after).length + 2;
  preserveSum(cover(before), mended, field);
  put16(after, messageAt + 2, get16(mended, field));
}

/** Checksum from scratch, for packets that the box makes itself; the field in `bytes` is 0. */
export function freshSum(bytes: Uint8Array): number {
  const sum = wordSum(bytes);
  // All-zero data is the only case whose sum is 0x0000 and not 0xffff; no header is all zero.
  return 0xffff - (sum === 0 ? 0xffff : sum);
}

/** Does what the device would: completes a partial checksum over the bytes from `start` to the end. */
export function completePartial(packet: Uint8Array, start: number, protocol: number): void {
  const at = start + checksumOffset(protocol);
  const sum = freshSum(packet.subarray(start));
  put16(packet, at, protocol === UDP && sum === 0 ? 0xffff : sum);
}

/** Writes source and destination addresses of an IP header. Null leaves one alone. */
export function setAddresses(packet: Uint8Array, source: Address | null, destination: Address | null): void {
  const [sourceAt, destinationAt] = isIpv6(packet) ? [8, 24] : [12, 16];
  if (source !== null) putAddress(packet, sourceAt, source);
  if (destination !== null) putAddress(packet, destinationAt, destination);
}
