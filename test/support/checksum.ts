/**
 * Internet checksums from scratch (RFC 1071), for tests only. Deliberately byte by byte and without any incremental
 * update: it is the judge of code that updates sums incrementally, so it shares nothing with it.
 */

/** Ones' complement sum of big-endian 16-bit words over all parts in a row; an odd last byte is padded with zero.
 *  Parts are concatenated first, so an odd part does not begin a new word. Folded to 16 bits, not complemented. */
export function onesComplementSum(...parts: readonly Uint8Array[]): number {
  let sum = 0;
  let high = true;
  for (const part of parts) {
    for (const byte of part) {
      sum += high ? byte * 256 : byte;
      high = !high;
      // Folding at once keeps the accumulator below 2^17 and leaves nothing to argue about.
      if (sum > 0xffff) sum = (sum & 0xffff) + 1;
    }
  }
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
