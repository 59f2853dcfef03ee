/**
 * Content that both ends of a download can make for themselves: any number of bytes, different for every seed, where
 * every block of 64 KiB says which one it is. So a block that is lost, doubled, swapped or mixed with another download
 * is found by comparing bytes, with no file on either side.
 */

export const BLOCK_BYTES = 65_536;

/** Makes the blocks of one seed. The buffer that block() returns is used again by the next call. */
export class Pattern {
  readonly #block = new Uint8Array(BLOCK_BYTES);
  readonly #view = new DataView(this.#block.buffer);

  /** @param seed 32 bits, not 0. */
  constructor(seed: number) {
    let state = seed >>> 0 || 1;
    for (let at = 0; at < BLOCK_BYTES; at += 4) {
      // xorshift32 (Marsaglia, "Xorshift RNGs", 2003): cheap, and no run of it repeats inside a block.
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      this.#view.setUint32(at, state >>> 0, true);
    }
  }

  /** Block number `index`: 64 KiB, of which the first 4 bytes are the number. Valid until the next call. */
  block(index: number): Uint8Array {
    this.#view.setUint32(0, index, true);
    return this.#block;
  }
}

/** Compares a stream of chunks with the pattern as they come. */
export class PatternCheck {
  readonly #pattern: Pattern;
  #received = 0;
  #firstDifference: number | null = null;

  constructor(seed: number) {
    this.#pattern = new Pattern(seed);
  }

  /** Bytes taken so far. */
  get received(): number {
    return this.#received;
  }

  /** Offset of the first 64 KiB block that differs, null while everything matched. */
  get firstDifference(): number | null {
    return this.#firstDifference;
  }

  take(chunk: Uint8Array): void {
    let at = 0;
    while (at < chunk.length) {
      const inBlock = this.#received % BLOCK_BYTES;
      const length = Math.min(chunk.length - at, BLOCK_BYTES - inBlock);
      const want = this.#pattern.block(Math.floor(this.#received / BLOCK_BYTES)).subarray(inBlock, inBlock + length);
      if (
        this.#firstDifference === null &&
        !Bun.deepEquals(Buffer.from(chunk.subarray(at, at + length)), Buffer.from(want))
      ) {
        this.#firstDifference = this.#received;
      }
      this.#received += length;
      at += length;
    }
  }
}
