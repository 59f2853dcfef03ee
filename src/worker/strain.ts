/**
 * Whether a worker receives more than it can carry: it never catches up with what waits in its sockets. A pure state, fed with
 * every turn of the loop; what follows from it is not decided here.
 */
import { BATCH_SIZE } from "../gen/layout.ts";

/** So many full batches one after the other are more than a burst: 1,024 frames. */
const FULL_BATCHES = 16;
/** So long no batch may have been full before it is over: priorities change once a second at most. */
const RELIEF_MS = 1000;

export class Strain {
  #isStrained = false;
  #fullInTurn = 0;
  #lastFullMs = 0;

  /**
   * @param count frames that a receive brought
   * @param nowMs engine clock, wrapping
   * @returns whether that changed something; then `isStrained` tells what
   */
  note(count: number, nowMs: number): boolean {
    if (count === BATCH_SIZE) {
      this.#lastFullMs = nowMs;
      if (this.#isStrained || ++this.#fullInTurn < FULL_BATCHES) return false;
      this.#isStrained = true;
      return true;
    }
    this.#fullInTurn = 0;
    if (!this.#isStrained || (nowMs - this.#lastFullMs) >>> 0 < RELIEF_MS) return false;
    this.#isStrained = false;
    return true;
  }

  get isStrained(): boolean {
    return this.#isStrained;
  }
}
