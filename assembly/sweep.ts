/**
 * Expiry (specification E.4): in slices between batches, each bounded, so that everything is visited once in
 * SWEEP_PERIOD_MS as long as a slice is called at least once in SWEEP_SLICE_MS. No timer per flow.
 */
import { buckets } from "./bases";
import { META_PAIR_SHIFT, META_REVERSE, SWEEP_PERIOD_MS, SWEEP_SLICE_MS } from "./gen/layout";
import { expireHeld } from "./held";
import { flowAt, isOver, removeFlow } from "./flows";
import { bucketCount, bucketAt, metaOf, recordOf, setDeadline, deadlineOf } from "./flow-table";
import { isDrained, pairAt, sweepPairs } from "./pairs";
import { sweepPools } from "./nat-ports";
import { flowMemory, isPast, state, totals } from "./state";
import { sweepStickies } from "./sticky";

/** Removes what is over in `count` buckets from the cursor on. */
function sweepBuckets(count: u32, now: u32): void {
  const all = bucketCount();
  let index = state().bucketCursor;
  const draining = state().drainingPairs != 0;
  for (let done: u32 = 0; done < count; done++) {
    const bucket = bucketAt(index);
    if (v128.any_true(v128.or(v128.load(bucket), v128.load(bucket, 16)))) sweepBucket(index << 2, draining, now);
    index = (index + 1) & (all - 1);
  }
  state().bucketCursor = index;
}

/** Looks at the client-to-server entries of a bucket; each answers for its whole flow. */
function sweepBucket(first: u32, draining: bool, now: u32): void {
  for (let slot = first; slot < first + 4; slot++) {
    if (load<u64>(bucketAt(slot >>> 2) + ((slot & 3) << 3)) == 0) continue;
    const meta = metaOf(slot);
    if (meta & META_REVERSE) continue;
    const late = isPast(deadlineOf(slot), now);
    const drained = draining && isDrained(pairAt(meta >>> META_PAIR_SHIFT), now);
    if (!late && !drained) continue;
    const index = recordOf(slot);
    const flow = flowAt(index);
    if (drained || isOver(flow, now)) {
      removeFlow(index, now);
      totals().expired += 1;
    } else {
      // Silent for long, but the server still sends. Keep the clock from wrapping round to the future.
      setDeadline(slot, now);
    }
  }
}

/** Part of `total` that is due after `elapsed` milliseconds, rounded up. */
function share(total: u32, elapsed: u32): u32 {
  return <u32>((<u64>total * elapsed + (SWEEP_PERIOD_MS - 1)) / SWEEP_PERIOD_MS);
}

/** One bounded slice; between batches, at least once in SWEEP_SLICE_MS. */
export function sweepSlice(now: u32): void {
  const s = state();
  if (!s.sweepStarted) {
    s.sweepStarted = 1;
    s.sweptMs = now;
    return;
  }
  const elapsed = now - s.sweptMs;
  if (elapsed == 0) return;
  s.sweptMs = now;
  const due = min(elapsed, SWEEP_SLICE_MS);
  expireHeld(now);
  sweepPairs();
  sweepBuckets(min(share(bucketCount(), due), bucketCount()), now);
  sweepStickies(share(flowMemory().stickiesTop, due), now);
  sweepPools(share(flowMemory().poolsTop, due), now);
}

/** Everything once. For replay and tests; a worker uses slices. */
export function sweepAll(now: u32): void {
  const s = state();
  expireHeld(now);
  s.pairCursor = 0;
  while (!sweepPairs()) {}
  s.bucketCursor = 0;
  sweepBuckets(bucketCount(), now);
  s.stickyCursor = 0;
  sweepStickies(flowMemory().stickiesTop, now);
  s.poolCursor = 0;
  sweepPools(flowMemory().poolsTop, now);
}
