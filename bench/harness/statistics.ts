/** Medians and the bootstrap interval of a median. Pure; the same numbers give the same interval, always. */

/** Middle value, or the mean of the two middle ones. NaN of nothing. */
export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

const RESAMPLES = 10_000;
const SEED = 0x9e3779b9;

/** xorshift32 (Marsaglia 2003). @returns a function that gives integers from 0 to `below` - 1 */
function generator(seed: number): (below: number) => number {
  let state = seed | 0 || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/**
 * 95 % percentile bootstrap interval of the median (Efron 1979): medians of 10,000 samples drawn with replacement,
 * without the lowest and highest 2.5 %. With five rounds it is little more than the range; judge by fifteen.
 * @returns [low, high]; both NaN of nothing
 */
export function medianInterval(values: readonly number[]): readonly [number, number] {
  if (values.length === 0) return [Number.NaN, Number.NaN];
  const draw = generator(SEED);
  const medians = Array.from({ length: RESAMPLES }, () =>
    median(Array.from(values, () => values[draw(values.length)]!)),
  ).sort((a, b) => a - b);
  const at = (share: number) => medians[Math.min(RESAMPLES - 1, Math.floor(share * RESAMPLES))]!;
  return [at(0.025), at(0.975)];
}

/** Lowest and highest. */
export const rangeOf = (values: readonly number[]): readonly [number, number] => [
  Math.min(...values),
  Math.max(...values),
];
