/**
 * Whether a worker receives more than it can carry: it never catches up with what waits in its sockets, or it has had something to
 * do all the time. A pure state, fed with every turn of the loop; what follows from it is not decided here.
 */
import { BATCH_SIZE } from "../gen/layout.ts";

/** So many full batches one after the other are more than a burst: 1,024 frames. */
const FULL_BATCHES = 16;
/** So often it is asked how much of the time the worker has waited for frames: small batches can fill its time as well. */
const WINDOW_MS = 200;
/** Who waits less than this share has no time to spare; */
const BUSY_SHARE = 0.1;
/** and once strained, who waits less than this one. */
const STILL_BUSY_SHARE = 0.3;
/** So long neither may have been before it is over: priorities change once a second at most. */
const RELIEF_MS = 1000;

export class Strain {
  #isStrained = false;
  #fullInTurn = 0;
  #lastMs = 0;
  #window: { readonly ms: number; readonly waitedUs: number } | null = null;

  /**
   * @param count frames that a receive brought
   * @param nowMs engine clock, wrapping
   * @param waitedUs for how long the worker has waited so far, in all
   * @returns whether that changed something; then `isStrained` tells what
   */
  note(count: number, nowMs: number, waitedUs: number): boolean {
    this.#fullInTurn = count === BATCH_SIZE ? this.#fullInTurn + 1 : 0;
    const begins = this.#hasBeenBusy(nowMs, waitedUs) || this.#fullInTurn >= FULL_BATCHES;
    if (begins || (this.#isStrained && count === BATCH_SIZE)) this.#lastMs = nowMs;
    if (this.#isStrained ? (nowMs - this.#lastMs) >>> 0 < RELIEF_MS : !begins) return false;
    this.#isStrained = !this.#isStrained;
    return true;
  }

  /** Whether a window ends now in which the worker had no time to spare. */
  #hasBeenBusy(nowMs: number, waitedUs: number): boolean {
    const window = this.#window;
    const passedMs = window === null ? 0 : (nowMs - window.ms) >>> 0;
    if (window !== null && passedMs < WINDOW_MS) return false;
    this.#window = { ms: nowMs, waitedUs };
    if (window === null) return false;
    return waitedUs - window.waitedUs < passedMs * 1000 * (this.#isStrained ? STILL_BUSY_SHARE : BUSY_SHARE);
  }

  get isStrained(): boolean {
    return this.#isStrained;
  }
}
