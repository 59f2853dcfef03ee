/** Taking over a published image (decision record 0004). */
import { control, sharedHeader, useImage } from "./bases";
import { SharedHeader, WorkerControl } from "./gen/layout";
import { comparePairs, sweepPairs } from "./pairs";
import { state } from "./state";

/**
 * Uses the published image from now on, if it is not in use already. Costs the same whatever the size of the image.
 * @returns its generation, 0: none yet
 */
export function adoptIfPublished(): u32 {
  const published = atomic.load<u64>(sharedHeader + offsetof<SharedHeader>("published"));
  const generation = <u32>published;
  const s = state();
  if (generation == s.generation) return generation;
  s.image = <u32>(published >>> 32);
  s.generation = generation;
  useImage(s.image);
  // Small configurations are brought up to date at once, large ones by the sweep.
  comparePairs();
  sweepPairs(0);
  atomic.store<u32>(control + offsetof<WorkerControl>("seenGeneration"), generation);
  return generation;
}

/** From now on until leaveQuiescent() the worker uses no image. */
export function enterQuiescent(): void {
  atomic.store<u32>(control + offsetof<WorkerControl>("quiescent"), 1);
}

/** Before anything else after waiting: takes part again and adopts what was published meanwhile. */
export function leaveQuiescent(): u32 {
  atomic.store<u32>(control + offsetof<WorkerControl>("quiescent"), 0);
  return adoptIfPublished();
}

/** Whether the main thread asks the worker to end. */
export function stopRequested(): bool {
  return atomic.load<u32>(control + offsetof<WorkerControl>("stop")) != 0;
}

/** Tells the main thread that the worker is alive. */
export function heartbeat(now: u32): void {
  atomic.store<u32>(control + offsetof<WorkerControl>("heartbeatMs"), now);
}
