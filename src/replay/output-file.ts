/**
 * A file that is either as it was or complete: written under another name beside it and renamed at the end. Pipes and
 * devices cannot be replaced and are written directly. Errors of the system are thrown as OutputFailed with one line.
 */
import { closeSync, openSync, renameSync, unlinkSync, writeSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { placeOf } from "../cli/export-file.ts";

const BUFFER_BYTES = 1 << 20;

export class OutputFailed extends Error {
  override readonly name = "OutputFailed";
}

export class OutputFile {
  readonly #path: string;
  readonly #target: string;
  /** null: written directly. */
  readonly #working: string | null;
  #fd: number;
  readonly #buffer = new Uint8Array(BUFFER_BYTES);
  #filled = 0;

  /** Opens it. Throws OutputFailed. */
  constructor(path: string) {
    this.#path = path;
    try {
      const { target, isReplaceable } = placeOf(path);
      const working = join(dirname(target), `.${basename(target)}.ilbd-${process.pid}`);
      this.#target = target;
      this.#fd = isReplaceable ? openSync(working, "w", 0o666) : openSync(target, "w");
      this.#working = isReplaceable ? working : null;
    } catch (error) {
      throw this.#failure(error);
    }
  }

  write(bytes: Uint8Array): void {
    if (this.#filled + bytes.length > BUFFER_BYTES) this.#flush();
    if (bytes.length > BUFFER_BYTES) {
      this.#writeOut(bytes);
      return;
    }
    this.#buffer.set(bytes, this.#filled);
    this.#filled += bytes.length;
  }

  /** Writes what is left; nothing can fail for want of space afterwards. The file is not in place yet. */
  finish(): void {
    this.#flush();
    try {
      closeSync(this.#fd);
    } catch (error) {
      throw this.#failure(error);
    }
    this.#fd = -1;
  }

  /** Puts the finished file in place. */
  commit(): void {
    if (this.#working === null) return;
    try {
      renameSync(this.#working, this.#target);
    } catch (error) {
      throw this.#failure(error);
    }
  }

  /** The file stays as it was, and nothing is left beside it. Harmless after commit(). */
  abandon(): void {
    try {
      if (this.#fd >= 0) closeSync(this.#fd);
      this.#fd = -1;
      if (this.#working !== null) unlinkSync(this.#working);
    } catch {
      // It is gone already, which is what we want.
    }
  }

  #flush(): void {
    this.#writeOut(this.#buffer.subarray(0, this.#filled));
    this.#filled = 0;
  }

  #writeOut(bytes: Uint8Array): void {
    try {
      for (let done = 0; done < bytes.length; ) done += writeSync(this.#fd, bytes, done);
    } catch (error) {
      throw this.#failure(error);
    }
  }

  #failure(error: unknown): OutputFailed {
    return new OutputFailed(`${this.#path} cannot be written (${(error as NodeJS.ErrnoException).code ?? error})`);
  }
}
