/**
 * Keyed hashes: NH (Black, Halevi, Krawczyk, Krovetz, Rogaway: UMAC, 1999) over the packet's tuple, two rows with secret
 * words, each brought down to 32 bits by a secret odd multiplier. Nobody who does not know the words can choose tuples
 * that collide. And CRC-32 for the published server choice of the hash rules.
 */
import { crcTable, hashKeys } from "./bases";

// @ts-ignore: decorator
@inline
function product(a: u32, b: u32): u64 {
  return <u64>a * <u64>b;
}

/**
 * A bijection that breaks up arithmetic progressions: NH is linear in a port that counts up, and so would be the buckets
 * of neighbouring flows; of a million such flows one found no room.
 */
// @ts-ignore: decorator
@inline
function scramble(value: u64, secret: u64): u64 {
  const folded = (value ^ (value >>> 32)) * (secret | 1);
  return folded ^ (folded >>> 29);
}

/**
 * Key of an IPv4 packet in the flow table. @param portsBe source port low, destination port high, as loaded
 * @returns 63-bit fingerprint, bit 0 set, so never 0
 */
// @ts-ignore: decorator
@inline
export function tupleKey4(source: u32, destination: u32, portsBe: u32, protocol: u32): u64 {
  const k = hashKeys;
  const family: u32 = protocol | 0x400;
  const row1 = product(source + load<u32>(k, 0), destination + load<u32>(k, 4)) + product(portsBe + load<u32>(k, 8), family + load<u32>(k, 12));
  const row2 = product(source + load<u32>(k, 48), destination + load<u32>(k, 52)) + product(portsBe + load<u32>(k, 56), family + load<u32>(k, 60));
  const halves = ((row1 * (load<u64>(k, 96) | 1)) & 0xffffffff00000000) | ((row2 * (load<u64>(k, 104) | 1)) >>> 32);
  return scramble(halves, load<u64>(k, 120)) | 1;
}

/** Key of an IPv6 packet. Halves as loaded; otherwise as tupleKey4. */
// @ts-ignore: decorator
@inline
export function tupleKey6(sourceHead: u64, sourceTail: u64, destinationHead: u64, destinationTail: u64, portsBe: u32, protocol: u32): u64 {
  return addressesKey6(i64x2.replace_lane(i64x2.splat(sourceHead), 1, sourceTail), i64x2.replace_lane(i64x2.splat(destinationHead), 1, destinationTail), portsBe, protocol);
}

/** The same of whole addresses as loaded. */
// @ts-ignore: decorator
@inline
export function addressesKey6(source: v128, destination: v128, portsBe: u32, protocol: u32): u64 {
  const k = hashKeys;
  const family: u32 = protocol | 0x600;
  const row1 = row6(k, source, destination) + product(portsBe + load<u32>(k, 32), family + load<u32>(k, 36));
  const row2 = row6(k + 48, source, destination) + product(portsBe + load<u32>(k, 80), family + load<u32>(k, 84));
  const halves = ((row1 * (load<u64>(k, 96) | 1)) & 0xffffffff00000000) | ((row2 * (load<u64>(k, 104) | 1)) >>> 32);
  return scramble(halves, load<u64>(k, 120)) | 1;
}

/** NH over two addresses with the eight words at `k`: each word of the one goes with its like of the other. */
// @ts-ignore: decorator
@inline
function row6(k: usize, source: v128, destination: v128): u64 {
  const a = i32x4.add(source, v128.load(k));
  const b = i32x4.add(destination, v128.load(k, 16));
  const products = i64x2.add(i64x2.extmul_low_i32x4_u(a, b), i64x2.extmul_high_i32x4_u(a, b));
  return i64x2.extract_lane(products, 0) + i64x2.extract_lane(products, 1);
}

/** Key of a packet of either family. IPv4 addresses are mapped. */
export function tupleKey(isIpv6: bool, sourceHead: u64, sourceTail: u64, destinationHead: u64, destinationTail: u64, portsBe: u32, protocol: u32): u64 {
  if (isIpv6) return tupleKey6(sourceHead, sourceTail, destinationHead, destinationTail, portsBe, protocol);
  return tupleKey4(<u32>(sourceTail >>> 32), <u32>(destinationTail >>> 32), portsBe, protocol);
}

/** Keyed hash of an address and a number. @returns 32 bits */
export function addressHash(head: u64, tail: u64, number: u32): u32 {
  const k = hashKeys;
  const a: u32 = <u32>head;
  const b: u32 = <u32>(head >>> 32);
  const c: u32 = <u32>tail;
  const d: u32 = <u32>(tail >>> 32);
  const row = product(a + load<u32>(k, 0), b + load<u32>(k, 4)) + product(c + load<u32>(k, 8), d + load<u32>(k, 12)) + product(number + load<u32>(k, 16), load<u32>(k, 20));
  return <u32>((row * (load<u64>(k, 112) | 1)) >>> 32);
}

/** Unkeyed hash of a configured address; src/engine/tables.ts has its twin. */
export function endpointHash(head: u64, tail: u64): u32 {
  let h: u32 = mix(0, <u32>head);
  h = mix(h, <u32>(head >>> 32));
  h = mix(h, <u32>tail);
  return mix(h, <u32>(tail >>> 32));
}

// @ts-ignore: decorator
@inline
function mix(h: u32, word: u32): u32 {
  const product: u32 = (h ^ word) * 0x9e3779b1;
  return product ^ (product >>> 15);
}

/** Hash of two ids. */
export function idHash(a: u32, b: u32): u32 {
  return mix(mix(0, a), b);
}

/**
 * CRC-32, polynomial 0xEDB88320 reflected, initial 0xFFFFFFFF, not inverted at the end.
 * @param word four bytes, the first lowest
 */
export function crc32(word: u32): u32 {
  let crc: u32 = 0xffffffff;
  for (let i: u32 = 0; i < 4; i++) {
    crc = load<u32>(crcTable + (((crc ^ word) & 0xff) << 2)) ^ (crc >>> 8);
    word >>>= 8;
  }
  return crc;
}

/** Writes the CRC table. Once, by the main thread's instance, before any worker starts. */
export function writeCrcTable(at: usize): void {
  for (let n: u32 = 0; n < 256; n++) {
    let c = n;
    for (let bit = 0; bit < 8; bit++) c = c & 1 ? 0xedb88320 ^ (c >>> 1) : c >>> 1;
    store<u32>(at + (n << 2), c);
  }
}
