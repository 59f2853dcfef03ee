/** The region map: nothing overlaps, everything is aligned, and a limit that is too large is named. */
import { describe, expect, test } from "bun:test";
import { PAGE_BYTES, type RegionMap, regionMap } from "../../src/engine/memory.ts";
import { Bucket, Descriptor, FlowRecord, HEAD_STRIDE, PairRecord, TAIL_STRIDE } from "../../src/gen/layout.ts";

const LIMITS = { maxFlows: 1_000_000, maxRules: 10_000, maxPairs: 65_536, maxSticky: 100_000 };

/** Start and end of everything whose size a test can know. */
function regions(map: RegionMap): [string, number, number][] {
  return map.workers.flatMap((worker, index): [string, number, number][] => [
    [`${index} descriptors`, worker.descriptors, 128 * Descriptor.size],
    [`${index} heads`, worker.heads, 128 * HEAD_STRIDE],
    [`${index} tails`, worker.tails, 64 * TAIL_STRIDE],
    [`${index} buckets`, worker.buckets, map.counts.buckets * Bucket.size],
    [`${index} slots`, worker.slotRecords, map.counts.buckets * 16],
    [`${index} flows`, worker.flows, map.counts.flows * FlowRecord.size],
    [`${index} pairs`, worker.pairs, map.counts.pairs * PairRecord.size],
  ]);
}

describe("region map", () => {
  const map = regionMap(LIMITS, 2);

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

  test("the flow table is at most half full with all flows in it", () => {
    for (const maxFlows of [1, 100, 4096, 5000, 1_000_000, 4_000_000]) {
      const { counts } = regionMap({ ...LIMITS, maxFlows }, 1);
      expect(2 * maxFlows).toBeLessThanOrEqual(counts.buckets * 2);
    }
  });

  test("nothing lies at offset 0, which means none", () => {
    expect(map.sharedHeader).toBeGreaterThan(0);
  });
});

test.each([
  [{ maxFlows: 60_000_000 }, 1, "maxFlows 60000000"],
  [{ maxFlows: 10_000_000 }, 7, "maxFlows 10000000 with 7 worker(s)"],
  [{ maxSticky: 60_000_000 }, 1, "maxSticky 60000000"],
  [{ maxFlows: 0 }, 1, "maxFlows must be an integer"],
  [{ maxRules: 1.5 }, 1, "maxRules must be an integer"],
  [{ maxPairs: 2_000_000 }, 1, "maxPairs must be at most 1048576"],
  [{}, 8, "1 to 7 workers, not 8"],
])("limits %o with %d workers are refused by name", (change, workers, message) => {
  expect(() => regionMap({ ...LIMITS, ...change }, workers)).toThrow(message);
});
