import { describe, expect, test } from "bun:test";
import type { PortRange } from "../../src/model/config.ts";
import { intersectRanges, mergeRanges, subtractRanges } from "../../src/model/port-ranges.ts";
import { propertySeed } from "../support/random.ts";

/** Small deterministic generator (xorshift). */
function random(seed: number): (below: number) => number {
  let state = seed || 1;
  return (below) => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return (state >>> 0) % below;
  };
}

/** The plain twin: one bit per port. */
const portsOf = (ranges: readonly PortRange[]): Set<number> => {
  const ports = new Set<number>();
  for (const { min, max } of ranges) for (let port = min; port <= max; port++) ports.add(port);
  return ports;
};
const isCanonical = (ranges: readonly PortRange[]): boolean =>
  ranges.every((range, i) => range.min <= range.max && (i === 0 || ranges[i - 1]!.max + 1 < range.min));

describe("port ranges", () => {
  test("touching and overlapping ranges become one", () => {
    const ranges = [
      { min: 20, max: 30 },
      { min: 1, max: 5 },
      { min: 6, max: 6 },
      { min: 25, max: 28 },
    ];
    expect(mergeRanges(ranges)).toEqual([
      { min: 1, max: 6 },
      { min: 20, max: 30 },
    ]);
  });

  test("seeded random ranges: merge, subtract and intersect equal the same on sets of ports", () => {
    const seed = propertySeed();
    console.log(`seed ${seed} (repeat with ILB_SEED)`);
    const next = random(seed);
    const some = () =>
      Array.from({ length: next(8) }, () => {
        const min = 1 + next(60);
        return { min, max: min + next(12) };
      });
    for (let round = 0; round < 2000; round++) {
      const [first, second] = [some(), some()];
      const [a, b] = [mergeRanges(first), mergeRanges(second)];
      expect(isCanonical(a)).toBe(true);
      expect(portsOf(a)).toEqual(portsOf(first));
      expect(portsOf(subtractRanges(a, b))).toEqual(portsOf(a).difference(portsOf(b)));
      expect(portsOf(intersectRanges(a, b))).toEqual(portsOf(a).intersection(portsOf(b)));
    }
  });
});
