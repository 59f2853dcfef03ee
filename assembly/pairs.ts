/**
 * Pairs: a server in a rule, as this worker uses it. Made at the first packet that needs it; kept while the image, a
 * flow or a sticky entry names it. Its translation data never changes, so flows outlive rules and servers.
 */
import { isMapped, swap16, unmapped } from "./address";
import { pairCount, pairs, pairTable, pairTableMask } from "./bases";
import { delta32, delta64 } from "./checksum";
import {
  ImageMember,
  ImageRule,
  ImageServer,
  NONE,
  PAIR_DRAINING,
  PAIR_IN_IMAGE,
  PAIR_IPV6,
  PAIR_PORT_KEPT,
  PAIR_PORT_RANGE,
  PAIR_RECORD_SIZE,
  PAIR_SLICE,
  PAIR_USED,
  PairRecord,
} from "./gen/layout";
import { idHash } from "./hash";
import { findDrain, hasPair } from "./image";
import { flowMemory, isPast, state } from "./state";

// @ts-ignore: decorator
@inline
export function pairAt(index: u32): PairRecord {
  return changetype<PairRecord>(pairs + <usize>index * PAIR_RECORD_SIZE);
}

// @ts-ignore: decorator
@inline
function tableEntry(at: u32): usize {
  return pairTable + (<usize>at << 2);
}

/** Index of the pair, NONE when there is none yet. */
export function findPair(ruleId: u32, serverId: u32): u32 {
  let at = idHash(ruleId, serverId) & pairTableMask;
  while (true) {
    const entry = load<u32>(tableEntry(at));
    if (entry == 0) return NONE;
    const pair = pairAt(entry - 1);
    if (pair.ruleId == ruleId && pair.serverId == serverId) return entry - 1;
    at = (at + 1) & pairTableMask;
  }
}

/** Index of the pair, made if need be; NONE when the table is full. */
export function obtainPair(rule: ImageRule, member: ImageMember, server: ImageServer): u32 {
  const found = findPair(rule.id, member.serverId);
  if (found != NONE) return found;
  const memory = flowMemory();
  let index: u32;
  if (memory.pairsFree) {
    index = memory.pairsFree - 1;
    memory.pairsFree = pairAt(index).next;
  } else {
    if (memory.pairsTop == pairCount) return NONE;
    index = memory.pairsTop++;
  }
  fillPair(pairAt(index), rule, member, server);
  enterPair(index);
  return index;
}

function enterPair(index: u32): void {
  const pair = pairAt(index);
  let at = idHash(pair.ruleId, pair.serverId) & pairTableMask;
  while (load<u32>(tableEntry(at))) at = (at + 1) & pairTableMask;
  store<u32>(tableEntry(at), index + 1);
}

function fillPair(pair: PairRecord, rule: ImageRule, member: ImageMember, server: ImageServer): void {
  memory.fill(changetype<usize>(pair), 0, PAIR_RECORD_SIZE);
  pair.ruleId = rule.id;
  pair.serverId = member.serverId;
  pair.type = rule.type;
  pair.nextHop = server.nextHop;
  pair.vipHead = rule.vipHead;
  pair.vipTail = rule.vipTail;
  pair.serverHead = server.addressHead;
  pair.serverTail = server.addressTail;
  const isIpv6 = !isMapped(rule.vipHead, rule.vipTail);
  if (isIpv6) {
    pair.forwardDelta = delta64(rule.vipHead, server.addressHead) + delta64(rule.vipTail, server.addressTail);
    pair.reverseDelta = delta64(server.addressHead, rule.vipHead) + delta64(server.addressTail, rule.vipTail);
  } else {
    pair.vipIpv4Be = unmapped(rule.vipTail);
    pair.serverIpv4Be = unmapped(server.addressTail);
    pair.forwardDelta = delta32(pair.vipIpv4Be, pair.serverIpv4Be);
    pair.reverseDelta = delta32(pair.serverIpv4Be, pair.vipIpv4Be);
  }
  pair.idleTimeoutMs = rule.idleTimeoutMs;
  pair.persistTimeoutMs = rule.persistTimeoutMs;
  pair.insertSequence = member.insertSequence;
  pair.proxyFirstHead = rule.proxyFirstHead;
  pair.proxyFirstTail = rule.proxyFirstTail;
  pair.proxyCount = rule.proxyCount;
  fillPorts(pair, rule, server);
  if (isIpv6) pair.flags |= PAIR_IPV6;
  bringUpToDate(pair);
}

/** Port mapping of specification D.2: unchanged, shifted, or every port onto one. */
function fillPorts(pair: PairRecord, rule: ImageRule, server: ImageServer): void {
  pair.flags = PAIR_USED | PAIR_IN_IMAGE;
  const ruleIsRange = rule.portMin != rule.portMax;
  const serverIsRange = server.portMin != server.portMax;
  if (server.portMin == 0 || serverIsRange) {
    pair.portMask = 0xffff;
    pair.portAdd = server.portMin == 0 ? 0 : (<u32>server.portMin - <u32>rule.portMin) & 0xffff;
    pair.flags |= PAIR_PORT_KEPT;
    if (ruleIsRange) pair.flags |= PAIR_PORT_RANGE;
  } else {
    pair.portMask = 0;
    pair.portAdd = server.portMin;
    // A rule of one port has nothing to collapse: the server's port tells the client's.
    if (!ruleIsRange) {
      pair.portMask = 0xffff;
      pair.portAdd = (<u32>server.portMin - <u32>rule.portMin) & 0xffff;
      pair.flags |= PAIR_PORT_KEPT;
    }
  }
  if (!ruleIsRange && pair.flags & PAIR_PORT_KEPT) {
    pair.vipPortBe = <u16>swap16(rule.portMin);
    pair.serverPortBe = <u16>swap16(serverPort(pair, rule.portMin));
  }
}

/** Counts a packet for a pair, if it is still the same. */
export function countFor(index: u32, ruleId: u32, serverId: u32, bytes: u32): void {
  const pair = pairAt(index);
  if (!(pair.flags & PAIR_USED) || pair.ruleId != ruleId || pair.serverId != serverId) return;
  pair.packets += 1;
  pair.bytes += bytes;
}

/** Signal of a failing server: it refused a new connection. */
export function countRefused(index: u32): void {
  pairAt(index).refused += 1;
  flowMemory().signals += 1;
}

/** Signal of a failing server: it has left a SYN unanswered. */
export function countUnanswered(index: u32): void {
  pairAt(index).unanswered += 1;
  flowMemory().signals += 1;
}

/** The server's port for a port of the VIP, both in host order. */
// @ts-ignore: decorator
@inline
export function serverPort(pair: PairRecord, vipPort: u32): u32 {
  return ((vipPort & pair.portMask) + pair.portAdd) & 0xffff;
}

/** Whether flows of the pair have reached their drain deadline. */
// @ts-ignore: decorator
@inline
export function isDrained(pair: PairRecord, now: u32): bool {
  return (pair.flags & PAIR_DRAINING) != 0 && isPast(pair.drainDeadlineMs, now);
}

/** Takes over what the image in use says about the pair. */
function bringUpToDate(pair: PairRecord): void {
  const was = pair.flags;
  let flags = was & ~(PAIR_DRAINING | PAIR_IN_IMAGE);
  if (hasPair(pair.ruleId, pair.serverId)) flags |= PAIR_IN_IMAGE;
  const drain = findDrain(pair.ruleId, pair.serverId);
  if (drain) {
    flags |= PAIR_DRAINING;
    pair.drainDeadlineMs = drain.deadlineMs;
  }
  if (flags & PAIR_DRAINING && !(was & PAIR_DRAINING)) state().drainingPairs += 1;
  if (was & PAIR_DRAINING && !(flags & PAIR_DRAINING)) state().drainingPairs -= 1;
  pair.flags = flags;
}

/** All pairs are to be compared with a new image, as soon as slices come to them. */
export function comparePairs(): void {
  state().pairCursor = 0;
  state().pairsBehind = flowMemory().pairsTop;
}

/**
 * Compares pairs with the image and frees those that nobody names: PAIR_SLICE while some have not been compared with
 * this image, else `count`.
 */
export function sweepPairs(count: u32): void {
  const s = state();
  const top = flowMemory().pairsTop;
  for (let left = min(s.pairsBehind ? max(count, <u32>PAIR_SLICE) : count, top); left > 0; left--) {
    if (s.pairCursor >= top) s.pairCursor = 0;
    const index = s.pairCursor++;
    if (s.pairsBehind) s.pairsBehind -= 1;
    const pair = pairAt(index);
    if (!(pair.flags & PAIR_USED)) continue;
    bringUpToDate(pair);
    if (!(pair.flags & PAIR_IN_IMAGE) && pair.flowCount == 0 && pair.stickyCount == 0) freePair(index);
  }
}

function freePair(index: u32): void {
  const pair = pairAt(index);
  if (pair.flags & PAIR_DRAINING) state().drainingPairs -= 1;
  leavePairTable(index);
  pair.flags = 0;
  pair.next = flowMemory().pairsFree;
  flowMemory().pairsFree = index + 1;
}

/** Removes an entry of the linear-probing table and closes the gap. */
function leavePairTable(index: u32): void {
  let at = idHash(pairAt(index).ruleId, pairAt(index).serverId) & pairTableMask;
  while (load<u32>(tableEntry(at)) != index + 1) at = (at + 1) & pairTableMask;
  let gap = at;
  while (true) {
    at = (at + 1) & pairTableMask;
    const entry = load<u32>(tableEntry(at));
    if (entry == 0) break;
    const home = idHash(pairAt(entry - 1).ruleId, pairAt(entry - 1).serverId) & pairTableMask;
    // The entry may fill the gap only if its home does not lie between gap and entry.
    if (((at - home) & pairTableMask) < ((at - gap) & pairTableMask)) continue;
    store<u32>(tableEntry(gap), entry);
    gap = at;
  }
  store<u32>(tableEntry(gap), 0);
}
