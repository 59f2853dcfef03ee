/** When a worker counts as strained. */
import { expect, test } from "bun:test";
import { BATCH_SIZE } from "../../src/gen/layout.ts";
import { Strain } from "../../src/worker/strain.ts";

/**
 * Feeds batches of one size, 1 ms apart.
 * @param waits share of the time that the worker waits
 * @returns what changed, and when, in milliseconds from the start
 */
function feed(strain: Strain, ms: number, count: number, waits: number, from = { ms: 0, waitedUs: 0 }) {
  const changes: [number, boolean][] = [];
  for (let i = 0; i < ms; i++) {
    const [nowMs, waitedUs] = [(from.ms + i) >>> 0, from.waitedUs + i * 1000 * waits];
    if (strain.note(count, nowMs, waitedUs)) changes.push([i, strain.isStrained]);
  }
  from.ms = (from.ms + ms) >>> 0;
  from.waitedUs += ms * 1000 * waits;
  return changes;
}

test("a worker is strained by the 16th full batch in turn, and says so once", () => {
  const strain = new Strain();
  for (let i = 1; i <= 40; i++) expect([i, strain.note(BATCH_SIZE, 0, 0)]).toEqual([i, i === 16]);
  expect(strain.isStrained).toBe(true);
});

test("a burst that it catches up with is no strain, however often it comes", () => {
  const strain = new Strain();
  for (let burst = 0; burst < 100; burst++) {
    for (let i = 0; i < 15; i++) strain.note(BATCH_SIZE, 0, 0);
    strain.note(BATCH_SIZE - 1, 0, 0);
  }
  expect(strain.isStrained).toBe(false);
});

test("strain is over when no batch has been full for a second, also across the end of the clock", () => {
  for (const startMs of [0, 2 ** 32 - 500]) {
    const strain = new Strain();
    // Whoever has time to spare waits half of it.
    const note = (count: number, ms: number) => strain.note(count, (startMs + ms) >>> 0, ms * 500);
    for (let i = 0; i < 16; i++) note(BATCH_SIZE, 0);
    expect([note(3, 999), strain.isStrained]).toEqual([false, true]);
    note(BATCH_SIZE, 999);
    expect([note(0, 1998), note(0, 1999), strain.isStrained]).toEqual([false, true, false]);
    // It begins anew.
    expect(note(BATCH_SIZE, 2000)).toBe(false);
  }
});

test("small batches strain a worker when they leave it less than a tenth of the time, also across the end of the clock", () => {
  for (const ms of [0, 2 ** 32 - 100]) {
    expect(feed(new Strain(), 1000, 5, 0.05, { ms, waitedUs: 7 })).toEqual([[200, true]]);
    expect(feed(new Strain(), 1000, 5, 0.15, { ms, waitedUs: 7 })).toEqual([]);
  }
});

test("who is strained stays so until it has waited for three tenths of the time, for a second", () => {
  const strain = new Strain();
  const at = { ms: 0, waitedUs: 0 };
  expect(feed(strain, 401, 5, 0, at)).toEqual([[200, true]]);
  expect(feed(strain, 5000, 5, 0.2, at)).toEqual([]);
  const over = feed(strain, 2000, 5, 0.5, at);
  expect(over.map(([, isStrained]) => isStrained)).toEqual([false]);
  // The last busy window ended within the 200 ms before.
  expect(over[0]![0]).toBeWithin(800, 1201);
  expect(feed(strain, 1000, 5, 0.2, at)).toEqual([]);
});
