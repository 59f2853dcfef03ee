/**
 * Inputs that were the first to reach a block of the engine, so that later ones can be made from them. In memory only:
 * what matters of it grows again within seconds.
 */
import type { Random } from "../support/random.ts";
import type { GuardedFrame } from "./guarded-engine.ts";

const MOST_INPUTS = 400;

export class Corpus {
  readonly #inputs: (readonly GuardedFrame[])[] = [];
  /** Byte i is 1 once block i has been reached by anything. */
  readonly reached: Uint8Array;

  constructor(blockCount: number) {
    this.reached = new Uint8Array(blockCount);
  }

  get reachedCount(): number {
    return this.reached.reduce((sum, byte) => sum + byte, 0);
  }

  get size(): number {
    return this.#inputs.length;
  }

  /** Takes over the markers of a batch; keeps its frames when they reached something new. */
  note(markers: Uint8Array, frames: readonly GuardedFrame[]): void {
    let isNew = false;
    for (let block = 0; block < markers.length; block++) {
      if (markers[block] === 0 || this.reached[block] === 1) continue;
      this.reached[block] = 1;
      isNew = true;
    }
    if (!isNew) return;
    this.#inputs.push(frames);
    // What everything reaches comes first, so the oldest can go.
    if (this.#inputs.length > MOST_INPUTS) this.#inputs.shift();
  }

  /** Frames of an input, in order; null while there is none. */
  pick(random: Random): readonly GuardedFrame[] | null {
    return this.#inputs.length === 0 ? null : random.of(this.#inputs);
  }
}
