/**
 * A file as a ByteSource: read from the front in large pieces, so that it may be larger than memory, or a pipe. Knows
 * nothing of what the file holds.
 */
import { closeSync, openSync, readSync } from "node:fs";
import type { ByteSource } from "./capture-reader.ts";

const PIECE_BYTES = 256 * 1024;

export class FileSource implements ByteSource {
  readonly #fd: number;
  #window = new Uint8Array(PIECE_BYTES);
  /** Position in the file of the window's first byte. */
  #start = 0;
  #filled = 0;

  /** Opens the file. Throws the error of the operating system. */
  constructor(path: string) {
    this.#fd = openSync(path, "r");
  }

  /** The result is valid until the next call. Throws the error of the operating system. */
  read(at: number, length: number): Uint8Array {
    if (at < this.#start) throw new Error(`a file is read forward only, not from ${at} after ${this.#start}`);
    if (at + length > this.#start + this.#filled) this.#fill(at, length);
    const from = at - this.#start;
    return this.#window.subarray(Math.min(from, this.#filled), Math.min(from + length, this.#filled));
  }

  close(): void {
    closeSync(this.#fd);
  }

  /** Moves the window to `at` and reads until it holds `length` bytes or the file ends. */
  #fill(at: number, length: number): void {
    const skip = Math.min(at - this.#start, this.#filled);
    this.#window.copyWithin(0, skip, this.#filled);
    this.#start += skip;
    this.#filled -= skip;
    const needed = at - this.#start + length;
    while (this.#filled < needed) {
      // What a damaged file says of its own length is not believed before the bytes are there.
      if (this.#filled === this.#window.length) this.#grow();
      const got = readSync(this.#fd, this.#window, this.#filled, this.#window.length - this.#filled, null);
      if (got === 0) break;
      this.#filled += got;
    }
  }

  #grow(): void {
    const larger = new Uint8Array(this.#window.length * 2);
    larger.set(this.#window);
    this.#window = larger;
  }
}
