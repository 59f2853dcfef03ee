/**
 * When a replay sweeps: every SWEEP_MS of the capture's time, as the engine was promised, but for those sweeps that would
 * find nothing to do. A capture may pause for years. Ends in the very state that all sweeps would have left.
 */

/** The engine promises its 15 s for removing what is over if everything is visited that often. */
export const SWEEP_MS = 5000;

/** What sweeps. */
export interface Sweeper {
  sweep(nowMs: number): void;
  /** Milliseconds for which a sweep finds nothing to do, right after one. */
  restMs(nowMs: number): number;
}

export class Sweeps {
  readonly #sweeper: Sweeper;
  readonly #startMs: number;
  #nextMs: number;

  /** @param startMs engine clock at which the time begins */
  constructor(sweeper: Sweeper, startMs: number) {
    this.#sweeper = sweeper;
    this.#startMs = startMs;
    this.#nextMs = startMs + SWEEP_MS;
  }

  /** Engine clock of the next sweep. */
  get nextMs(): number {
    return this.#nextMs;
  }

  /**
   * The sweep that is due at nextMs. No packet comes before `untilMs`; the last sweep before that is never left out, because
   * a sweep also says that it has looked.
   */
  run(untilMs: number): void {
    const nowMs = this.#nextMs;
    this.#sweeper.sweep(nowMs);
    const last = Math.floor((untilMs - nowMs) / SWEEP_MS);
    const rests = last > 1 ? Math.ceil(this.#sweeper.restMs(nowMs) / SWEEP_MS) : 1;
    this.#nextMs = nowMs + SWEEP_MS * Math.max(1, Math.min(rests, last));
  }

  /** The engine was changed at `nowMs`, so something may be due before the sweep that was chosen. */
  disturb(nowMs: number): void {
    const done = Math.floor((nowMs - this.#startMs) / SWEEP_MS);
    this.#nextMs = Math.min(this.#nextMs, this.#startMs + SWEEP_MS * (done + 1));
  }
}
