/**
 * Long work on the main thread in pieces, so that health checks, statistics and other callers have their turn in between.
 * It changes nothing about what the work comes to.
 */

/** The longest piece, milliseconds. */
const PIECE_MS = 15;

export class Pace {
  #since = performance.now();

  /** Lets everything else that is ready run, if the work has gone on for longer than a piece. */
  async breathe(): Promise<void> {
    if (performance.now() - this.#since < PIECE_MS) return;
    await new Promise<void>((resolve) => setImmediate(resolve));
    this.#since = performance.now();
  }
}
