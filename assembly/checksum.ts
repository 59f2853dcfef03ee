/**
 * The Internet checksum (RFC 1071) and its incremental update (RFC 1624). Words are read little-endian throughout: the
 * sum commutes with swapping the bytes of every word (RFC 1071 section 2 B), so nothing is ever swapped.
 * A stored 16-bit value is complemented with `^ 0xffff`, never with `~`, which would be a 32-bit NOT.
 */

/** One's complement sum folded to 16 bits. Correct for every u32. */
// @ts-ignore: decorator
@inline
export function fold(sum: u32): u32 {
  // The halves are added in the upper half, with the carry that the lower half gives: the carry that goes round.
  return (sum + rotl<u32>(sum, 16)) >>> 16;
}

/** What turns the 16-bit word `before` into `after`, to be added to a sum. At most 2 * 0xffff. */
// @ts-ignore: decorator
@inline
export function delta16(before: u32, after: u32): u32 {
  return (before ^ 0xffff) + after;
}

/** The same for two words in a u32. At most 4 * 0xffff. */
// @ts-ignore: decorator
@inline
export function delta32(before: u32, after: u32): u32 {
  return ((before & 0xffff) ^ 0xffff) + ((before >>> 16) ^ 0xffff) + (after & 0xffff) + (after >>> 16);
}

/** The same for four words in a u64, brought down to 16 bits. */
// @ts-ignore: decorator
@inline
export function delta64(before: u64, after: u64): u32 {
  return fold(delta32(<u32>before, <u32>after) + delta32(<u32>(before >>> 32), <u32>(after >>> 32)));
}

/**
 * Checksum after a change. @param stored the field as loaded @param delta sum of delta16 and delta32 of all changes, not 0
 * @returns the value to store. RFC 1624 section 3, equation 3.
 */
// @ts-ignore: decorator
@inline
export function updated(stored: u32, delta: u32): u32 {
  return fold((stored ^ 0xffff) + delta) ^ 0xffff;
}

/**
 * The same for a partial checksum: the field holds the uncomplemented sum of the pseudo header, which a device
 * completes later. @param delta changes of the pseudo header only
 */
// @ts-ignore: decorator
@inline
export function updatedPartial(stored: u32, delta: u32): u32 {
  return fold(stored + delta);
}

/** Eight words of a run, added two and two to four 32-bit sums. */
// @ts-ignore: decorator
@inline
function addWords(sums: v128, words: v128): v128 {
  return i32x4.add(sums, i32x4.extadd_pairwise_i16x8_u(words));
}

// @ts-ignore: decorator
@inline
function sumLanes(sums: v128): u64 {
  const first = <u64><u32>i32x4.extract_lane(sums, 0) + <u64><u32>i32x4.extract_lane(sums, 1);
  return first + <u64><u32>i32x4.extract_lane(sums, 2) + <u64><u32>i32x4.extract_lane(sums, 3);
}

/**
 * Sum of `length` bytes, an odd last byte padded with zero; at most 2 MiB. Four sums side by side, because one would wait for
 * itself (npm run bench -- --only checksum). @returns folded to 16 bits, not complemented.
 */
export function sumBytes(at: usize, length: u32): u32 {
  let a = i32x4.splat(0);
  let b = i32x4.splat(0);
  let c = i32x4.splat(0);
  let d = i32x4.splat(0);
  const end = at + <usize>(length & ~63);
  for (; at < end; at += 64) {
    a = addWords(a, v128.load(at));
    b = addWords(b, v128.load(at, 16));
    c = addWords(c, v128.load(at, 32));
    d = addWords(d, v128.load(at, 48));
  }
  let sum = sumLanes(a) + sumLanes(b) + sumLanes(c) + sumLanes(d);
  let left = length & 63;
  while (left >= 4) {
    sum += load<u32>(at);
    at += 4;
    left -= 4;
  }
  if (left >= 2) {
    sum += load<u16>(at);
    at += 2;
    left -= 2;
  }
  if (left) sum += load<u8>(at);
  // Under 2^38.
  return fold(fold(<u32>sum) + <u32>(sum >>> 32));
}

/** Sum of two runs of bytes that follow each other, as if they were one. @returns folded, not complemented. */
export function sumTwo(first: usize, firstLength: u32, second: usize, secondLength: u32): u32 {
  let rest = sumBytes(second, secondLength);
  // An odd first run shifts the second by one byte (RFC 1071 section 2 B).
  if (firstLength & 1) rest = ((rest << 8) | (rest >>> 8)) & 0xffff;
  return fold(sumBytes(first, firstLength) + rest);
}

/** One of the two stored forms of zero: UDP sends a computed 0 as 0xffff (RFC 768), TCP and ICMP store it. */
// @ts-ignore: decorator
@inline
export function udpChecksum(computed: u32): u32 {
  return computed == 0 ? 0xffff : computed;
}
