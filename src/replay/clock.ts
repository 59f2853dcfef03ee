/** The clocks of a replay: they stand still until the replay moves them on, and go by the capture's time stamps. */
import type { Clock } from "../control/clock.ts";

interface Timer {
  readonly dueMs: number;
  readonly action: () => void;
}

export class CaptureClock implements Clock {
  #nowMs: number;
  /** Wall clock minus engine clock, milliseconds. */
  readonly #wallOffsetMs: number;
  readonly #timers = new Set<Timer>();

  /** @param startMs engine clock at the first packet. @param firstNs time stamp of the first packet */
  constructor(startMs: number, firstNs: bigint) {
    this.#nowMs = startMs;
    this.#wallOffsetMs = Number(firstNs / 1_000_000n) - startMs;
  }

  nowMs(): number {
    return this.#nowMs;
  }

  wallMs(): number {
    return this.#nowMs + this.#wallOffsetMs;
  }

  after(delayMs: number, action: () => void): { cancel(): void } {
    const timer = { dueMs: this.#nowMs + delayMs, action };
    this.#timers.add(timer);
    return { cancel: () => void this.#timers.delete(timer) };
  }

  /** When the next timer is due, infinity when none is set. */
  nextDueMs(): number {
    let next = Number.POSITIVE_INFINITY;
    for (const { dueMs } of this.#timers) next = Math.min(next, dueMs);
    return next;
  }

  /** Sets the time; timers that are due by then are the caller's to fire with fireDue(). Never goes back. */
  moveTo(nowMs: number): void {
    if (nowMs > this.#nowMs) this.#nowMs = nowMs;
  }

  /** Fires what is due, in the order in which it was set. */
  fireDue(): void {
    for (const timer of [...this.#timers]) {
      if (timer.dueMs <= this.#nowMs && this.#timers.delete(timer)) timer.action();
    }
  }
}
