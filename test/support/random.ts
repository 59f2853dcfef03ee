/** Seeded random numbers for tests: same seed, same sequence, on every machine. Not for anything secret. */
import { isFullRun } from "./capabilities.ts";

export class Random {
  #state: number;

  constructor(seed: number) {
    this.#state = seed >>> 0;
  }

  /** Unsigned 32 bits (the mulberry32 generator). */
  next(): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0;
    let t = this.#state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }

  /** 0 to bound - 1. */
  below(bound: number): number {
    return this.next() % bound;
  }

  /** Both ends included. */
  between(low: number, high: number): number {
    return low + this.below(high - low + 1);
  }

  /** True with the given probability. */
  chance(probability: number): boolean {
    return this.next() < probability * 0x1_0000_0000;
  }

  /** One of a list that is not empty. */
  of<T>(list: readonly T[]): T {
    if (list.length === 0) throw new Error("nothing to choose from");
    return list[this.below(list.length)]!;
  }

  bytes(length: number): Uint8Array {
    const bytes = new Uint8Array(length);
    for (let i = 0; i < length; i++) bytes[i] = this.below(256);
    return bytes;
  }

  /** Puts a list into random order, in place (Fisher-Yates): the draws depend on its length alone. */
  shuffle<T>(list: T[]): T[] {
    for (let i = list.length - 1; i > 0; i--) {
      const j = this.below(i + 1);
      [list[i], list[j]] = [list[j]!, list[i]!];
    }
    return list;
  }

  /** Runs one of the choices, each as likely as its weight. */
  weighted<T>(choices: readonly (readonly [weight: number, make: () => T])[]): T {
    let left = this.below(choices.reduce((sum, [weight]) => sum + weight, 0));
    for (const [weight, make] of choices) {
      if (left < weight) return make();
      left -= weight;
    }
    throw new Error("weights do not add up");
  }
}

/** Seed and size from the environment: ILB_SEED, else the default. Printed by whoever uses it. */
export function seedFromEnvironment(fallback: number): number {
  const text = process.env.ILB_SEED;
  const seed = text === undefined ? fallback : Number.parseInt(text, 10);
  if (!Number.isSafeInteger(seed)) throw new Error(`ILB_SEED=${text} is not a whole number`);
  return seed;
}

/** Of an ordinary run. */
const EVERYDAY_SEED = 20_261_122;

/**
 * The seed of a property test: ILB_SEED, else a new one in full runs and always the same one in ordinary ones, so that
 * `npm test` judges a change and not its luck. What new seeds find is found by `npm run test:full` and `npm run fuzz`.
 * Printed by whoever uses it.
 */
export function propertySeed(): number {
  return seedFromEnvironment(isFullRun ? Math.floor(Math.random() * 2 ** 31) : EVERYDAY_SEED);
}
