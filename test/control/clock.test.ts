import { expect, test } from "bun:test";
import { systemClock } from "../../src/control/clock.ts";

/** More milliseconds than a timer of the runtime can wait (2^31 - 1); one that is asked for more ends at once. */
const MONTHS_MS = 3_000_000_000;

test("a wait of months, as with a very long hc-interval, does not end at once", async () => {
  const clock = systemClock();
  let ended = false;
  const wait = clock.after(MONTHS_MS, () => {
    ended = true;
  });
  // A short wait that was asked for later comes first.
  await new Promise<void>((resolve) => void clock.after(20, resolve));
  expect(ended).toBe(false);
  wait.cancel();
});

test("a wait ends once, and not at all when it is cancelled", async () => {
  const clock = systemClock();
  const ended: string[] = [];
  clock.after(5, () => ended.push("first"));
  clock.after(5, () => ended.push("cancelled")).cancel();
  await new Promise<void>((resolve) => void clock.after(30, resolve));
  expect(ended).toEqual(["first"]);
});
