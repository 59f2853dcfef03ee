/** Sets of ports as sorted lists of inclusive, disjoint ranges. Pure. */
import type { PortRange } from "./config.ts";

/** The same ports as sorted ranges that neither overlap nor touch. */
export function mergeRanges(ranges: readonly PortRange[]): PortRange[] {
  const merged: { min: number; max: number }[] = [];
  for (const { min, max } of [...ranges].sort((a, b) => a.min - b.min)) {
    const last = merged.at(-1);
    if (last !== undefined && min <= last.max + 1) last.max = Math.max(last.max, max);
    else merged.push({ min, max });
  }
  return merged;
}

/** The ports of `ranges` that are in none of `others`; both sorted and disjoint. */
export function subtractRanges(ranges: readonly PortRange[], others: readonly PortRange[]): PortRange[] {
  const rest: PortRange[] = [];
  for (const range of ranges) {
    let min = range.min;
    for (const other of others) {
      if (other.max < min) continue;
      if (other.min > range.max) break;
      if (other.min > min) rest.push({ min, max: other.min - 1 });
      min = other.max + 1;
    }
    if (min <= range.max) rest.push({ min, max: range.max });
  }
  return rest;
}

/** The ports that are in both; both sorted and disjoint. */
export function intersectRanges(ranges: readonly PortRange[], others: readonly PortRange[]): PortRange[] {
  return subtractRanges(ranges, subtractRanges(ranges, others));
}
