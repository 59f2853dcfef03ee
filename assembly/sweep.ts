/**
 * Expiry (specification E.4): in slices between batches, each bounded, so that everything is visited once in
 * SWEEP_PERIOD_MS as long as a slice is called at least once in SWEEP_SLICE_MS. No timer per flow.
 */
import { bucketCount } from "./bases";
import { sweepFragments } from "./fragments";
import { FRAGMENT_SETS, META_PAIR_SHIFT, META_REVERSE, SWEEP_BEHIND_MS, SWEEP_PERIOD_MS, SWEEP_SLICE } from "./gen/layout";
import { giveUpExpired } from "./held";
import { flowAt, isOver, removeFlow } from "./flows";
import { bucketAt, DEADLINES, deadlineOf, matchWays, METAS, metaOf, recordOf, setDeadline } from "./flow-table";
import { comparePairs, isDrained, pairAt, sweepPairs } from "./pairs";
import { sweepPools } from "./nat-ports";
import { flowMemory, isPast, state, totals } from "./state";
import { sweepStickies } from "./sticky";

/** Removes what is over in `count` buckets from the cursor on. */
function sweepBuckets(count: u32, now: u32): void {
  let index = state().bucketCursor;
  const draining = state().drainingPairs != 0;
  for (let done: u32 = 0; done < count; done++) {
    if (draining || lateWays(bucketAt(index), now)) sweepBucket(index << 2, draining, now);
    if (++index == bucketCount) index = 0;
  }
  state().bucketCursor = index;
}

/**
 * Bits of the ways of a bucket that hold a client-to-server entry past its deadline, all four at once: of millions of flows
 * hardly one is over at any time, and looking entry by entry took four times as long (npm run bench -- --only sweep).
 */
// @ts-ignore: decorator
@inline
function lateWays(bucket: usize, now: u32): u32 {
  // The sign of now - deadline says whether it is past, as isPast() has it; that of meta << 31 whether it is a reverse entry.
  const early = i32x4.sub(i32x4.splat(now), v128.load(bucket, DEADLINES));
  const reverse = i32x4.shl(v128.load(bucket, METAS), 31);
  return ~(i32x4.bitmask(v128.or(early, reverse)) | matchWays(bucket, 0)) & 0xf;
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
  return min(total, <u32>((<u64>total * elapsed + (SWEEP_PERIOD_MS - 1)) / SWEEP_PERIOD_MS));
}

/** Milliseconds for which one slice can do what is due in the largest table; at least one. */
function sliceMs(): u32 {
  const largest = max(bucketCount, max(flowMemory().stickiesTop, flowMemory().poolsTop));
  return max(<u32>1, <u32>((<u64>SWEEP_SLICE * SWEEP_PERIOD_MS) / largest));
}

/**
 * One bounded slice; between batches, at least once in SWEEP_BEHIND_MS.
 * @returns whether more is due already: the next slice should not wait long
 */
export function sweepSlice(now: u32): bool {
  const s = state();
  if (!s.sweepStarted) {
    s.sweepStarted = 1;
    s.sweptMs = now;
  }
  giveUpExpired(now);
  const elapsed = now - s.sweptMs;
  if (elapsed > SWEEP_BEHIND_MS) s.sweptMs = now - SWEEP_BEHIND_MS;
  const due = min(now - s.sweptMs, sliceMs());
  s.sweptMs += due;
  sweepFragments(due, s.sweptMs, now);
  sweepPairs(share(flowMemory().pairsTop, due));
  if (due != 0) {
    sweepBuckets(share(bucketCount, due), now);
    sweepStickies(share(flowMemory().stickiesTop, due), now);
    sweepPools(share(flowMemory().poolsTop, due), now);
  }
  return s.sweptMs != now || s.pairsBehind != 0;
}

/** Everything once. For replay and tests; a worker uses slices. */
export function sweepAll(now: u32): void {
  const s = state();
  giveUpExpired(now);
  sweepFragments(FRAGMENT_SETS, now, now);
  comparePairs();
  sweepPairs(flowMemory().pairsTop);
  s.bucketCursor = 0;
  sweepBuckets(bucketCount, now);
  s.stickyCursor = 0;
  sweepStickies(flowMemory().stickiesTop, now);
  s.poolCursor = 0;
  sweepPools(flowMemory().poolsTop, now);
}

if (META_REVERSE != 1) ERROR("lateWays");
