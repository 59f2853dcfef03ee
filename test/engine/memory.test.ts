/** The region map: nothing overlaps, everything is aligned, and a limit that is too large is named. */
import { describe, expect, test } from "bun:test";
import { PAGE_BYTES, type RegionMap, regionMap } from "../../src/engine/memory.ts";
import {
  Bucket,
  Descriptor,
  FlowRecord,
  HandOverRing,
  HEAD_STRIDE,
  PairRecord,
  RING_ENTRIES,
  TAIL_STRIDE,
} from "../../src/gen/layout.ts";

const LIMITS = { maxFlows: 1_000_000, maxRules: 10_000, maxPairs: 65_536, maxSticky: 100_000 };

/** Start and end of everything whose size a test can know. */
function regions(map: RegionMap): [string, number, number][] {
  return map.workers
    .flatMap((worker, index): [string, number, number][] => [
      [`${index} descriptors`, worker.descriptors, 128 * Descriptor.size],
      [`${index} heads`, worker.heads, 128 * HEAD_STRIDE],
      [`${index} tails`, worker.tails, 64 * TAIL_STRIDE],
      [`${index} buckets`, worker.buckets, map.counts.buckets * Bucket.size],
      [`${index} slots`, worker.slotRecords, map.counts.buckets * 16],
      [`${index} flows`, worker.flows, map.counts.flows * FlowRecord.size],
      [`${index} pairs`, worker.pairs, map.counts.pairs * PairRecord.size],
    ])
    .concat(
      map.rings.flatMap(({ from, to, ring, entries, heads, tails, tailBytes }): [string, number, number][] => [
        [`${from} to ${to} ring`, ring, HandOverRing.size],
        [`${from} to ${to} entries`, entries, RING_ENTRIES * Descriptor.size],
        [`${from} to ${to} heads`, heads, RING_ENTRIES * HEAD_STRIDE],
        [`${from} to ${to} tails`, tails, tailBytes],
      ]),
    );
}

describe.each([1, 2, 3, 7])("region map for %i worker(s)", (workers) => {
  const map = regionMap(LIMITS, workers);

  test("there is a ring from every worker to every other, and every ring holds a batch of the longest frames", () => {
    expect(new Set(map.rings.map(({ from, to }) => `${from} ${to}`)).size).toBe(workers * (workers - 1));
    for (const { from, to, tailBytes } of map.rings) {
      expect(from).not.toBe(to);
      expect(tailBytes).toBeGreaterThanOrEqual(64 * TAIL_STRIDE);
      expect(Math.log2(tailBytes) % 1).toBe(0);
    }
  });

  test("the workers together have room for all flows and all sticky clients", () => {
    expect(workers * map.counts.flows).toBeGreaterThanOrEqual(LIMITS.maxFlows);
    expect(workers * map.counts.stickies).toBeGreaterThanOrEqual(LIMITS.maxSticky);
    expect(map.counts.flows).toBeLessThanOrEqual(LIMITS.maxFlows);
  });

  test("no two regions overlap and all lie in the memory", () => {
    const sorted = regions(map).sort((a, b) => a[1] - b[1]);
    sorted.forEach(([name, start, bytes], index) => {
      const next = sorted[index + 1];
      expect([name, start + bytes <= (next?.[1] ?? map.bytes)]).toEqual([name, true]);
    });
  });

  test("frames, flow memory and images begin on pages, records on cache lines", () => {
    for (const worker of map.workers) {
      for (const at of [worker.heads, worker.tails, worker.flowMemory, ...map.images]) expect(at % 4096).toBe(0);
      for (const at of [worker.buckets, worker.flows, worker.pairs, worker.descriptors]) expect(at % 64).toBe(0);
    }
    expect(map.bytes % PAGE_BYTES).toBe(0);
  });

  test("with all flows in it the flow table has 7 of 15 slots free", () => {
    for (const maxFlows of [1, 100, 4096, 5000, 1_000_000, 4_000_000]) {
      const { counts } = regionMap({ ...LIMITS, maxFlows }, 1);
      expect(2 * maxFlows * 15).toBeLessThanOrEqual(counts.buckets * 4 * 8);
    }
  });

  test("nothing lies at offset 0, which means none", () => {
    expect(map.sharedHeader).toBeGreaterThan(0);
  });
});

test.each([
  [{ maxFlows: 60_000_000 }, 1, "maxFlows 60000000"],
  [{ maxFlows: 40_000_000 }, 7, "maxFlows 40000000 with 7 worker(s)"],
  [{ maxSticky: 60_000_000 }, 1, "maxSticky 60000000"],
  [{ maxFlows: 0 }, 1, "maxFlows must be an integer"],
  [{ maxRules: 1.5 }, 1, "maxRules must be an integer"],
  [{ maxPairs: 2_000_000 }, 1, "maxPairs must be at most 1048576"],
  [{}, 8, "1 to 7 workers, not 8"],
])("limits %o with %d workers are refused by name", (change, workers, message) => {
  expect(() => regionMap({ ...LIMITS, ...change }, workers)).toThrow(message);
});
