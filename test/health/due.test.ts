import { expect, test } from "bun:test";
import fc from "fast-check";
import { DueQueue } from "../../src/health/due.ts";
import { propertySeed } from "../support/random.ts";

test("takes everybody in the order of their last time, whatever was set and deleted before", () => {
  const step = fc.record({ entry: fc.nat(8), atMs: fc.option(fc.nat(50)) });
  fc.assert(
    fc.property(fc.array(step, { maxLength: 60 }), fc.nat(60), (steps, nowMs) => {
      const queue = new DueQueue<number>();
      const times = new Map<number, number>();
      for (const { entry, atMs } of steps) {
        if (atMs === null) {
          queue.delete(entry);
          times.delete(entry);
        } else {
          queue.set(entry, atMs);
          times.set(entry, atMs);
        }
      }
      expect(queue.next()).toBe(times.size === 0 ? null : Math.min(...times.values()));
      const taken = queue.take(nowMs);
      const due = [...times].filter(([, at]) => at <= nowMs);
      expect(taken.toSorted()).toEqual(due.map(([entry]) => entry).toSorted());
      expect(taken.map((entry) => times.get(entry)!)).toEqual(due.map(([, at]) => at).toSorted((a, b) => a - b));
      const left = [...times.values()].filter((at) => at > nowMs);
      expect(queue.next()).toBe(left.length === 0 ? null : Math.min(...left));
    }),
    { seed: propertySeed() },
  );
});
