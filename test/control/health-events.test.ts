/** What happened lately to the health of servers, for those who follow it. */
import { expect, test } from "bun:test";
import { type HealthEvent, HealthEvents } from "../../src/control/health-events.ts";

const STARTED_MS = 1_795_000_000_000;
const event = (text: string): HealthEvent => ({
  atMs: STARTED_MS,
  kind: "status",
  rule: "www",
  server: "_web.0",
  from: "alive",
  to: "dead",
  reason: "connection refused",
  text,
});
const never = new AbortController().signal;

/** Whether it has come to an end when all that could run has run. */
async function ended(promise: Promise<void>): Promise<boolean> {
  let isOver = false;
  promise.then(() => {
    isOver = true;
  });
  await new Promise((resolve) => setImmediate(resolve));
  return isOver;
}

// A daemon without a health check once span for ever, and took all memory, as soon as somebody opened the dashboard.
test("who knows nothing waits while nothing has happened, however high the numbers begin", async () => {
  const events = new HealthEvents(STARTED_MS);
  const waiting = events.until(0, never);
  expect(events.since(0)).toEqual([]);
  expect(await ended(waiting)).toBe(false);
  events.add([event("first")]);
  expect(await ended(waiting)).toBe(true);
  expect(events.since(0).map(({ id, text }) => [id, text])).toEqual([[STARTED_MS, "first"]]);
});

test("who knows an event waits for the next one; who missed one does not wait", async () => {
  const events = new HealthEvents(STARTED_MS);
  events.add([event("first"), event("second")]);
  expect(await ended(events.until(STARTED_MS, never))).toBe(true);
  const waiting = events.until(STARTED_MS + 1, never);
  expect(await ended(waiting)).toBe(false);
  events.add([event("third")]);
  expect(await ended(waiting)).toBe(true);
  expect(events.since(STARTED_MS + 1).map(({ text }) => text)).toEqual(["third"]);
});

test("a number from a later time than any event's waits like the last one's", async () => {
  const events = new HealthEvents(STARTED_MS);
  events.add([event("first")]);
  expect(await ended(events.until(STARTED_MS + 100, never))).toBe(false);
});

test("leaving ends the waiting, and only one's own", async () => {
  const events = new HealthEvents(STARTED_MS);
  const leaving = new AbortController();
  const mine = events.until(0, leaving.signal);
  const others = events.until(0, never);
  leaving.abort();
  expect(await ended(mine)).toBe(true);
  expect(await ended(others)).toBe(false);
});
