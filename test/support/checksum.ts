/**
 * Internet checksums from scratch (RFC 1071), for tests only. Deliberately plain and without any incremental update: it
 * is the judge of code that updates sums incrementally, so it shares nothing with it.
 */

/** Ones' complement sum of big-endian 16-bit words over all parts in a row; an odd last byte is padded with zero.
 *  Parts are concatenated first, so an odd part does not begin a new word. Folded to 16 bits, not complemented. */
export function onesComplementSum(...parts: readonly Uint8Array[]): number {
  let highs = 0;
  let lows = 0;
  let high = true;
  for (const part of parts) {
    let at = 0;
    if (!high && part.length > 0) {
      lows += part[at++]!;
      high = true;
    }
    for (; at + 1 < part.length; at += 2) {
      highs += part[at]!;
      lows += part[at + 1]!;
    }
    if (at < part.length) {
      highs += part[at]!;
      high = false;
    }
  }
  let sum = highs * 256 + lows;
  while (sum > 0xffff) sum = (sum % 0x10000) + Math.floor(sum / 0x10000);
  return sum;
}

/** The value to store in a checksum field (host order) when the field itself is zero in `parts`. */
export function internetChecksum(...parts: readonly Uint8Array[]): number {
  return 0xffff - onesComplementSum(...parts);
}

/** True when the sum over data that includes its checksum field is all ones (RFC 1071 section 1, step 3). */
export function sumIsValid(...parts: readonly Uint8Array[]): boolean {
  return onesComplementSum(...parts) === 0xffff;
}
