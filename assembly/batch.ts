/**
 * A batch: inspect() reads all headers and brings the flow table's buckets into the cache, so that their misses overlap; then
 * runs of everyday traffic take the fast path, and whatever else comes takes processPacket() when its turn comes. Packets
 * are decided about strictly in order.
 */
import { descriptors, policy, scratch, workerCount } from "./bases";
import { BATCH_SIZE, DESCRIPTOR_SIZE, Descriptor, HANDED_COPY, HANDED_OVER, PORT_NONE, Reason, SCRATCH_SIZE, Scratch, Verdict, verdictOf } from "./gen/layout";
import { findSleepers } from "./hand-over";
import { expireHeld } from "./held";
import { inspect, SHAPE_IPV6, SHAPE_OPENS } from "./inspect";
import { lookAhead, openFlows } from "./openings";
import { carryJudged } from "./policy-batch";
import { processPacket } from "./process";
import { forwardIpv4, forwardIpv6 } from "./quick";
import { countReason, state, totals } from "./state";

// @ts-ignore: decorator
@inline
export function descriptorAt(index: u32): Descriptor {
  return changetype<Descriptor>(descriptors + <usize>index * DESCRIPTOR_SIZE);
}

/** What the first pass found out about a descriptor. */
// @ts-ignore: decorator
@inline
export function notesAt(index: u32): Scratch {
  return changetype<Scratch>(scratch + <usize>index * SCRATCH_SIZE);
}

/**
 * Decides about descriptors 0..count-1 and carries it out. @param count at most BATCH_SIZE
 * @returns number of made frames (descriptors BATCH_SIZE..)
 */
export function processBatch(count: u32, now: u32): u32 {
  count = min(count, BATCH_SIZE);
  const s = state();
  s.madeUsed = 0;
  s.uncounted = 0;
  expireHeld(now);
  inspect(count);
  countReason(Reason.FlowFound, policy ? carryJudged(count, now) : carry(count, now));
  totals().packetsIn += count - s.uncounted;
  if (s.targets) findSleepers();
  return s.madeUsed;
}

/** Decides about an inspected batch in order. @returns how many packets of established flows were forwarded on the fast path */
function carry(count: u32, now: u32): u32 {
  let quick = count;
  let hasLooked = false;
  let index: u32 = 0;
  while (true) {
    index = forwardIpv4(index, count, now);
    if (index == count) return quick;
    const from = index;
    if (notesAt(index).shape & SHAPE_IPV6) index = forwardIpv6(index, count, now);
    if (index != from) continue;
    if (notesAt(index).shape & SHAPE_OPENS) {
      if (!hasLooked) lookAhead(index, count);
      hasLooked = true;
      index = openFlows(index, count, now);
      quick -= index - from;
      if (index != from) continue;
    }
    decide(descriptorAt(index), now);
    quick--;
    index++;
  }
}

/** The slow path of one packet. */
export function decide(descriptor: Descriptor, now: u32): void {
  clearOutcome(descriptor);
  settle(descriptor, processPacket(descriptor, now));
}

/** Writes down what became of a packet, and counts it. @param reason a Reason, or HANDED_OVER */
export function settle(descriptor: Descriptor, reason: u32): void {
  if (reason == HANDED_OVER) return leaveAlone(descriptor);
  let verdict = verdictOf(reason);
  if (workerCount > 1 && descriptor.handOver & HANDED_COPY) {
    // The guard kept it from the kernel when it came.
    if (verdict == Verdict.Ignore) verdict = Verdict.Pass;
    state().uncounted += 1;
  } else {
    countReason(reason, 1);
  }
  descriptor.reason = <u8>reason;
  descriptor.verdict = <u8>verdict;
  if (verdict != Verdict.Forward && verdict != Verdict.Reply) descriptor.outPort = <u8>PORT_NONE;
}

/** Another worker has the frame, and will count it. */
function leaveAlone(descriptor: Descriptor): void {
  descriptor.reason = 0;
  descriptor.verdict = <u8>Verdict.Ignore;
  descriptor.outPort = <u8>PORT_NONE;
  state().uncounted += 1;
}

// @ts-ignore: decorator
@inline
export function clearOutcome(descriptor: Descriptor): void {
  const at = changetype<usize>(descriptor);
  descriptor.outPort = <u8>PORT_NONE;
  store<u64>(at, 0, offsetof<Descriptor>("ruleId"));
  store<u16>(at, 0, offsetof<Descriptor>("direction"));
  store<u64>(at, 0, offsetof<Descriptor>("madeFirst"));
}
