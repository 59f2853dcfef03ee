/**
 * Time as a value that is handed in, so that tests decide it. Two clocks: the wall (history, statistics) and the engine
 * clock (monotonic milliseconds since the start of the daemon, the same in every thread up to a millisecond).
 */

export interface Clock {
  /** Wall clock, milliseconds since the epoch. */
  wallMs(): number;
  /** Engine clock, whole milliseconds, never goes back. */
  nowMs(): number;
  /** Calls `action` once after `delayMs`, unless cancelled. */
  after(delayMs: number, action: () => void): { cancel(): void };
}

/** The longest that one timer of the runtime waits, 24.8 days; asked for more it would end at once. */
const LONGEST_TIMER_MS = 2 ** 31 - 1;

/** The machine's clocks. */
export function systemClock(): Clock {
  return {
    wallMs: () => Date.now(),
    nowMs: () => Math.floor(performance.now()),
    after(delayMs, action) {
      let timer: ReturnType<typeof setTimeout>;
      const wait = (leftMs: number): void => {
        const partMs = Math.min(leftMs, LONGEST_TIMER_MS);
        timer = setTimeout(() => (leftMs > partMs ? wait(leftMs - partMs) : action()), partMs);
      };
      wait(delayMs);
      return { cancel: () => clearTimeout(timer) };
    },
  };
}
