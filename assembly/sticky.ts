/**
 * Sticky clients (specification E.6): (rule, masked client address) -> pair and proxy address. Counted by the flows made
 * through it; idle time runs while there are none. Chained hash over a fixed number of records.
 */
import { stickies, stickyCount, stickyHeadMask, stickyHeads } from "./bases";
import { ImageRule, NONE, STICKY_RECORD_SIZE, StickyRecord, View } from "./gen/layout";
import { addressHash } from "./hash";
import { pairAt } from "./pairs";
import { flowMemory, isPast, state } from "./state";

// @ts-ignore: decorator
@inline
export function stickyAt(index: u32): StickyRecord {
  return changetype<StickyRecord>(stickies + <usize>index * STICKY_RECORD_SIZE);
}

function chainOf(ruleId: u32, head: u64, tail: u64): usize {
  return stickyHeads + (<usize>(addressHash(head, tail, ruleId) & stickyHeadMask) << 2);
}

/** Index of the entry of a client, NONE when it has none. */
export function findSticky(rule: ImageRule, clientHead: u64, clientTail: u64): u32 {
  const head = clientHead & rule.stickyMaskHead;
  const tail = clientTail & rule.stickyMaskTail;
  let next = load<u32>(chainOf(rule.id, head, tail));
  while (next) {
    const entry = stickyAt(next - 1);
    if (entry.clientTail == tail && entry.ruleId == rule.id && entry.clientHead == head) return next - 1;
    next = entry.next;
  }
  return NONE;
}

/** Whether one more entry fits. */
export function hasStickyRoom(): bool {
  return flowMemory().stickiesFree != 0 || flowMemory().stickiesTop < stickyCount;
}

/** Makes an entry; call hasStickyRoom first. @returns its index */
export function addSticky(rule: ImageRule, packet: View, pair: u32, proxyIndex: u32, now: u32): u32 {
  const header = flowMemory();
  let index: u32;
  if (header.stickiesFree) {
    index = header.stickiesFree - 1;
    header.stickiesFree = stickyAt(index).next;
  } else {
    index = header.stickiesTop++;
  }
  const entry = stickyAt(index);
  entry.clientHead = packet.sourceHead & rule.stickyMaskHead;
  entry.clientTail = packet.sourceTail & rule.stickyMaskTail;
  entry.ruleId = rule.id;
  entry.pair = pair;
  entry.proxyIndex = proxyIndex;
  entry.flowCount = 0;
  const chain = chainOf(rule.id, entry.clientHead, entry.clientTail);
  entry.next = load<u32>(chain);
  store<u32>(chain, index + 1);
  entry.live = 1;
  header.stickiesLive += 1;
  pairAt(pair).stickyCount += 1;
  touchSticky(index, now);
  return index;
}

/** Points an entry at another server; the flows made through it keep counting. */
export function redirectSticky(index: u32, pair: u32, proxyIndex: u32): void {
  const entry = stickyAt(index);
  pairAt(entry.pair).stickyCount -= 1;
  pairAt(pair).stickyCount += 1;
  entry.pair = pair;
  entry.proxyIndex = proxyIndex;
}

/** Starts the idle time anew. */
export function touchSticky(index: u32, now: u32): void {
  const entry = stickyAt(index);
  entry.deadlineMs = now + pairAt(entry.pair).persistTimeoutMs;
}

/** A flow that was made through the entry has gone. */
export function releaseSticky(index: u32, now: u32): void {
  const entry = stickyAt(index);
  entry.flowCount -= 1;
  if (entry.flowCount == 0) touchSticky(index, now);
}

/** Removes what is idle among up to `count` records. */
export function sweepStickies(count: u32, now: u32): void {
  const top = flowMemory().stickiesTop;
  let index = state().stickyCursor;
  const end = min(index + count, top);
  for (; index < end; index++) {
    const entry = stickyAt(index);
    // Idle longer than the timeout, not as long.
    if (entry.live && entry.flowCount == 0 && isPast(entry.deadlineMs + 1, now)) freeSticky(index);
  }
  state().stickyCursor = end == top ? 0 : end;
}

function freeSticky(index: u32): void {
  const entry = stickyAt(index);
  let link = chainOf(entry.ruleId, entry.clientHead, entry.clientTail);
  while (load<u32>(link) != index + 1) link = changetype<usize>(stickyAt(load<u32>(link) - 1)) + offsetof<StickyRecord>("next");
  store<u32>(link, entry.next);
  pairAt(entry.pair).stickyCount -= 1;
  entry.live = 0;
  entry.next = flowMemory().stickiesFree;
  flowMemory().stickiesFree = index + 1;
  flowMemory().stickiesLive -= 1;
}
