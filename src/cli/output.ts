/** Writing to the caller: at once, in order, whole, and without a word when the reader has gone. */
import { writeSync } from "node:fs";

/** The reader of our output has closed it (`ilbadm show-rule | head -1`). */
export class ReaderGone extends Error {
  override readonly name = "ReaderGone";
}

/** Our output cannot be written; `code` is the system's reason (ENOSPC). */
export class WriteFailed extends Error {
  override readonly name = "WriteFailed";
  constructor(readonly code: string) {
    super(`output cannot be written (${code})`);
  }
}

/** Where output goes. */
export interface Sink {
  stdout(text: string): void;
  stderr(text: string): void;
}

/** Writes all of `text`; waits while a pipe is full. Throws ReaderGone on EPIPE, else WriteFailed. */
export function writeAll(fd: 1 | 2, text: string): void {
  const bytes = Buffer.from(text);
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EPIPE") throw new ReaderGone();
      if (code !== "EAGAIN") throw new WriteFailed(code ?? String(error));
      Bun.sleepSync(1); // somebody made the pipe non-blocking, and it is full
    }
  }
}
