/** When a worker counts as strained. */
import { expect, test } from "bun:test";
import { BATCH_SIZE } from "../../src/gen/layout.ts";
import { Strain } from "../../src/worker/strain.ts";

/** Feeds batches of one size, 1 ms apart. @returns the clock behind them */
function feed(strain: Strain, batches: number, count: number, fromMs = 0): number {
  for (let i = 0; i < batches; i++) strain.note(count, fromMs + i);
  return fromMs + batches;
}

test("a worker is strained by the 16th full batch in turn, and says so once", () => {
  const strain = new Strain();
  for (let i = 1; i <= 40; i++) expect([i, strain.note(BATCH_SIZE, i)]).toEqual([i, i === 16]);
  expect(strain.isStrained).toBe(true);
});

test("a burst that it catches up with is no strain, however often it comes", () => {
  const strain = new Strain();
  for (let burst = 0; burst < 100; burst++) {
    feed(strain, 15, BATCH_SIZE);
    feed(strain, 1, BATCH_SIZE - 1);
  }
  expect(strain.isStrained).toBe(false);
});

test("strain is over when no batch has been full for a second, also across the end of the clock", () => {
  for (const startMs of [0, 2 ** 32 - 500]) {
    const strain = new Strain();
    const at = (ms: number) => (startMs + ms) >>> 0;
    for (let i = 0; i < 16; i++) strain.note(BATCH_SIZE, at(0));
    expect([strain.note(3, at(999)), strain.isStrained]).toEqual([false, true]);
    strain.note(BATCH_SIZE, at(999));
    expect([strain.note(0, at(1998)), strain.note(0, at(1999)), strain.isStrained]).toEqual([false, true, false]);
    // It begins anew.
    expect(strain.note(BATCH_SIZE, at(2000))).toBe(false);
  }
});
