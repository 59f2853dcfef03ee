/**
 * Flows: a record and two entries in the flow table each. Install, refresh and remove are the only ways to change them.
 * A flow that is closed or half open (nobody has proven that both ends talk) stands in a list, closed ones first, each oldest
 * first, from which one is given up when the table is full; so a flood never costs an established flow its place.
 */
import { following, swap16 } from "./address";
import { clientHops, flowCount, flows } from "./bases";
import {
  CLIENT_HOPS,
  CLOSED_LINGER_MS,
  DEADLINE_STEP_MS,
  FLOW_ANSWERED,
  FLOW_CLOSED_FORWARD,
  FLOW_CLOSED_REVERSE,
  FLOW_HALF_OPEN,
  FLOW_LIVE,
  FLOW_RECORD_SIZE,
  FLOW_RESET,
  FlowRecord,
  HOP_IN_RECORD,
  META_HOP_SHIFT,
  META_PAIR_SHIFT,
  META_RECORD,
  META_REVERSE,
  META_SLOW,
  NONE,
  PAIR_IPV6,
  PAIR_PORT_KEPT,
  PAIR_PORT_RANGE,
  PairRecord,
  RuleType,
  View,
} from "./gen/layout";
import { tupleKey } from "./hash";
import { findPool, releasePort } from "./nat-ports";
import { deadlineOf, findSlot, insertEntry, metaOf, recordOf, removeEntry, setDeadline, setMeta, setRecord } from "./flow-table";
import { pairAt, serverPort } from "./pairs";
import { releaseSticky } from "./sticky";
import { flowMemory, isPast, totals } from "./state";

// @ts-ignore: decorator
@inline
export function flowAt(index: u32): FlowRecord {
  return changetype<FlowRecord>(flows + <usize>index * FLOW_RECORD_SIZE);
}

/** Last half of the address that the server sees as the client's. */
// @ts-ignore: decorator
@inline
export function sourceTailOf(flow: FlowRecord, pair: PairRecord): u64 {
  return pair.type == RuleType.Nat ? following(pair.proxyFirstTail, flow.proxyIndex) : flow.clientTail;
}

/** First half of it. */
// @ts-ignore: decorator
@inline
export function sourceHeadOf(flow: FlowRecord, pair: PairRecord): u64 {
  return pair.type == RuleType.Nat ? pair.proxyFirstHead : flow.clientHead;
}

// @ts-ignore: decorator
@inline
export function serverPortBeOf(flow: FlowRecord, pair: PairRecord): u32 {
  return swap16(serverPort(pair, swap16(flow.vipPortBe)));
}

/** Whether the flow still takes a SYN for a new connection's sake: RST seen, or both FINs acknowledged. */
export function isClosed(flow: FlowRecord): bool {
  const both: u32 = FLOW_CLOSED_FORWARD | FLOW_CLOSED_REVERSE;
  return (flow.state & FLOW_RESET) != 0 || (flow.state & both) == both;
}

/** Key of the packets that the server sends. */
export function reverseKey(pair: PairRecord, sourceHead: u64, sourceTail: u64, sourcePortBe: u32, serverPortBe: u32, protocol: u32): u64 {
  return tupleKey((pair.flags & PAIR_IPV6) != 0, pair.serverHead, pair.serverTail, sourceHead, sourceTail, serverPortBe | (sourcePortBe << 16), protocol);
}

/** Whether the packet's full tuple is the flow's, in the direction that the entry says. */
export function belongs(flow: FlowRecord, packet: View, reverse: bool): bool {
  const ports = swap16(packet.sourcePort) | (swap16(packet.destinationPort) << 16);
  return isTupleOf(flow, reverse, packet.protocol, packet.sourceHead, packet.sourceTail, packet.destinationHead, packet.destinationTail, ports);
}

/** The same for an answer to the packet that an ICMP error quotes. */
export function belongsQuoted(flow: FlowRecord, packet: View, reverse: bool): bool {
  const ports = rotl<u32>(packet.quotedPortsBe, 16);
  return isTupleOf(
    flow, reverse, packet.quotedProtocol, packet.quotedDestinationHead, packet.quotedDestinationTail, packet.quotedSourceHead, packet.quotedSourceTail, ports,
  );
}

function isTupleOf(flow: FlowRecord, reverse: bool, protocol: u32, sourceHead: u64, sourceTail: u64, destinationHead: u64, destinationTail: u64, portsBe: u32): bool {
  const pair = pairAt(flow.pair);
  if (flow.protocol != protocol) return false;
  const source = portsBe & 0xffff;
  const destination = portsBe >>> 16;
  if (!reverse)
    return (
      flow.clientTail == sourceTail && flow.clientHead == sourceHead && flow.clientPortBe == source &&
      pair.vipTail == destinationTail && pair.vipHead == destinationHead && flow.vipPortBe == destination
    );
  return (
    pair.serverTail == sourceTail && pair.serverHead == sourceHead && serverPortBeOf(flow, pair) == source &&
    sourceTailOf(flow, pair) == destinationTail && sourceHeadOf(flow, pair) == destinationHead && flow.sourcePortBe == destination
  );
}

/** Whether a flow record can be had, if need be by giving one up. */
export function hasFlowRoom(): bool {
  const header = flowMemory();
  return header.flowsFree != 0 || header.flowsTop < flowCount || header.spareHead != 0;
}

/** Index of a record; call hasFlowRoom first. */
function takeRecord(now: u32): u32 {
  const header = flowMemory();
  if (!header.flowsFree && header.flowsTop == flowCount) {
    totals().evicted += 1;
    removeFlow(header.spareHead - 1, now);
  }
  header.flowsLive += 1;
  if (header.flowsFree) {
    const index = header.flowsFree - 1;
    header.flowsFree = flowAt(index).next;
    return index;
  }
  return header.flowsTop++;
}

function giveRecordBack(index: u32): void {
  const header = flowMemory();
  flowAt(index).state = 0;
  flowAt(index).next = header.flowsFree;
  header.flowsFree = index + 1;
  header.flowsLive -= 1;
}

/** Four stores: memory.fill would be a call out of the engine. */
// @ts-ignore: decorator
@inline
function clearRecord(flow: FlowRecord): void {
  const at = changetype<usize>(flow);
  const zero = i64x2.splat(0);
  v128.store(at, zero);
  v128.store(at, zero, 16);
  v128.store(at, zero, 32);
  v128.store(at, zero, 48);
}

if (FLOW_RECORD_SIZE != 64) ERROR("clearRecord");
if (offsetof<FlowRecord>("vipPortBe") != offsetof<FlowRecord>("clientPortBe") + 2) ERROR("portsBe");

/**
 * Installs a flow; call hasFlowRoom first.
 * @param key of the client's packets, which must not be in the table @param back key of the server's
 * @param clientHead, clientTail its address @param portsBe the client's port low, the VIP's high, as loaded
 * @param sourcePortBe what the server sees as the client's port @param clientHop as clientHopOf() has it
 * @returns index of the flow, NONE when the buckets have no room; then nothing has changed but perhaps a flow given up
 */
// @ts-ignore: decorator
@inline
export function installFlow(
  key: u64, back: u64, clientHead: u64, clientTail: u64, portsBe: u32, sourcePortBe: u32, protocol: u32, clientHop: u64, pairIndex: u32, proxyIndex: u32, now: u32,
): u32 {
  const pair = pairAt(pairIndex);
  const index = takeRecord(now);
  const flow = flowAt(index);
  clearRecord(flow);
  flow.clientHead = clientHead;
  flow.clientTail = clientTail;
  store<u32>(changetype<usize>(flow), portsBe, offsetof<FlowRecord>("clientPortBe"));
  flow.sourcePortBe = <u16>sourcePortBe;
  flow.pair = pairIndex;
  flow.protocol = <u8>protocol;
  flow.proxyIndex = <u8>proxyIndex;
  flow.sticky = NONE;
  flow.state = <u8>(FLOW_LIVE | FLOW_HALF_OPEN);
  flow.slotForward = NONE;
  flow.slotReverse = NONE;
  const hop = rememberHop(flow, clientHop);
  let meta: u32 = (pairIndex << META_PAIR_SHIFT) | (hop << META_HOP_SHIFT) | META_SLOW;
  if (pair.type == RuleType.Nat || !(pair.flags & PAIR_PORT_KEPT)) meta |= META_RECORD;
  const deadline = now + pair.idleTimeoutMs + DEADLINE_STEP_MS;
  if (!enter(index, flow, key, back, deadline, meta)) {
    giveRecordBack(index);
    return NONE;
  }
  pair.flowCount += 1;
  appendHalfOpen(index);
  return index;
}

/** All entries that it gets or none. */
function enter(index: u32, flow: FlowRecord, key: u64, back: u64, deadline: u32, meta: u32): bool {
  flow.slotForward = insertEntry(key, deadline, meta, index);
  if (flow.slotForward == NONE) return false;
  const taken = findSlot(back);
  if (taken == NONE) {
    flow.slotReverse = insertEntry(back, deadline, meta | META_REVERSE, index);
    if (flow.slotReverse != NONE) return true;
    removeEntry(flow.slotForward);
    return false;
  }
  // What another flow's client sends looks like its answers: it gets none.
  if (!(metaOf(taken) & META_REVERSE)) return true;
  // Two half-NAT flows whose answers look alike: the newest has them (specification E.3). What the server has sent so far
  // still keeps the older one alive.
  const older = flowAt(recordOf(taken));
  if (<i32>(deadlineOf(taken) - deadlineOf(older.slotForward)) > 0) setDeadline(older.slotForward, deadlineOf(taken));
  older.slotReverse = NONE;
  setRecord(taken, index);
  setMeta(taken, meta | META_REVERSE);
  setDeadline(taken, deadline);
  flow.slotReverse = taken;
  return true;
}

/** Removes a flow and everything that it holds. */
export function removeFlow(index: u32, now: u32): void {
  const flow = flowAt(index);
  const pair = pairAt(flow.pair);
  removeEntry(flow.slotForward);
  if (flow.slotReverse != NONE) removeEntry(flow.slotReverse);
  unlist(index);
  if (pair.type == RuleType.Nat) {
    const port: u32 = pair.flags & PAIR_PORT_RANGE ? 0 : swap16(serverPortBeOf(flow, pair));
    const pool = findPool(pair.proxyFirstHead, sourceTailOf(flow, pair), pair.serverHead, pair.serverTail, port);
    releasePort(pool, swap16(flow.sourcePortBe), now);
  }
  if (flow.sticky != NONE) releaseSticky(flow.sticky, now);
  pair.flowCount -= 1;
  giveRecordBack(index);
}

/** The direction of the entry has just been used. Written only when it moves by a step. */
// @ts-ignore: decorator
@inline
export function refresh(slot: u32, idleTimeoutMs: u32, now: u32): void {
  const due = now + idleTimeoutMs;
  if (<i32>(due - deadlineOf(slot)) > 0) setDeadline(slot, due + DEADLINE_STEP_MS);
}

/** Lets a closed flow end soon, whatever still arrives. */
export function endSoon(index: u32, now: u32): void {
  const flow = flowAt(index);
  setDeadline(flow.slotForward, now + CLOSED_LINGER_MS);
  if (flow.slotReverse != NONE) setDeadline(flow.slotReverse, now + CLOSED_LINGER_MS);
  unlist(index);
  listClosed(index);
}

/** A closed flow is in use again. */
export function reopen(index: u32): void {
  const flow = flowAt(index);
  unlist(index);
  if (flow.state & FLOW_HALF_OPEN) appendHalfOpen(index);
}

/** Whether the server has sent nothing yet. */
export function isUnanswered(flow: FlowRecord): bool {
  return (flow.state & (FLOW_HALF_OPEN | FLOW_ANSWERED)) == FLOW_HALF_OPEN;
}

/** Both ends have shown that they talk. */
export function establish(index: u32): void {
  const flow = flowAt(index);
  flow.state &= <u8>~FLOW_HALF_OPEN;
  // One that has closed is still the first to be given up.
  if (!isClosed(flow)) unlist(index);
}

/** Says for each direction whether packets without SYN, FIN and RST need the slow path. */
export function setSlow(flow: FlowRecord, forward: bool, reverse: bool): void {
  const keep: u32 = ~META_SLOW;
  setMeta(flow.slotForward, (metaOf(flow.slotForward) & keep) | (forward ? META_SLOW : 0));
  if (flow.slotReverse != NONE) setMeta(flow.slotReverse, (metaOf(flow.slotReverse) & keep) | (reverse ? META_SLOW : 0));
}

/** Whether a sweep at `now` removes the flow. */
export function isOver(flow: FlowRecord, now: u32): bool {
  if (!isPast(deadlineOf(flow.slotForward), now)) return false;
  return flow.slotReverse == NONE || isPast(deadlineOf(flow.slotReverse), now);
}

// --- where the client is reached ---

/** Index of a client hop, entered if need be; HOP_IN_RECORD when the table is full, then the record holds it. */
function rememberHop(flow: FlowRecord, hop: u64): u32 {
  flow.hopMacHead = <u32>hop;
  flow.hopMacTail = <u16>(hop >>> 32);
  flow.hopPort = <u8>(hop >>> 48);
  const top = flowMemory().clientHopsTop;
  for (let index: u32 = 0; index < top; index++) if (load<u64>(clientHops + (<usize>index << 3)) == hop) return index;
  if (top == <u32>CLIENT_HOPS) return HOP_IN_RECORD;
  store<u64>(clientHops + (<usize>top << 3), hop);
  flowMemory().clientHopsTop = top + 1;
  return top;
}

// @ts-ignore: decorator
@inline
export function hopIndexOf(meta: u32): u32 {
  return (meta >>> META_HOP_SHIFT) & 0xff;
}

// @ts-ignore: decorator
@inline
export function indexedHop(index: u32): u64 {
  return load<u64>(clientHops + (<usize>index << 3));
}

/** Where the flow's client packets come from: bytes 0..5 MAC, byte 6 port. */
export function clientHopOf(flow: FlowRecord, meta: u32): u64 {
  const index = hopIndexOf(meta);
  if (index != HOP_IN_RECORD) return indexedHop(index);
  return <u64>flow.hopMacHead | (<u64>flow.hopMacTail << 32) | (<u64>flow.hopPort << 48) | (<u64>1 << 56);
}

/** The client's packets now come from there. */
export function moveClient(flow: FlowRecord, hop: u64): void {
  const hopBits: u32 = rememberHop(flow, hop) << META_HOP_SHIFT;
  const keep: u32 = ~(<u32>0xff << META_HOP_SHIFT);
  setMeta(flow.slotForward, (metaOf(flow.slotForward) & keep) | hopBits);
  if (flow.slotReverse != NONE) setMeta(flow.slotReverse, (metaOf(flow.slotReverse) & keep) | hopBits);
}

// --- flows that may be given up ---

/** A flow that is half open: behind all others. */
function appendHalfOpen(index: u32): void {
  listBehind(index, flowMemory().spareTail);
}

/** A flow that has closed: behind those that closed before it, in front of all that are half open. */
function listClosed(index: u32): void {
  const header = flowMemory();
  listBehind(index, header.closedTail);
  header.closedTail = index + 1;
}

/** @param before number of a flow in the list plus 1; 0: nothing is in front */
function listBehind(index: u32, before: u32): void {
  const header = flowMemory();
  const flow = flowAt(index);
  const after = before ? flowAt(before - 1).next : header.spareHead;
  flow.previous = before;
  flow.next = after;
  if (before) flowAt(before - 1).next = index + 1;
  else header.spareHead = index + 1;
  if (after) flowAt(after - 1).previous = index + 1;
  else header.spareTail = index + 1;
}

/** Does nothing when the flow is not in the list. */
function unlist(index: u32): void {
  const header = flowMemory();
  const flow = flowAt(index);
  if (!flow.previous && !flow.next && header.spareHead != index + 1) return;
  // In front of a closed flow are closed ones only.
  if (header.closedTail == index + 1) header.closedTail = flow.previous;
  if (flow.previous) flowAt(flow.previous - 1).next = flow.next;
  else header.spareHead = flow.next;
  if (flow.next) flowAt(flow.next - 1).previous = flow.previous;
  else header.spareTail = flow.previous;
  flow.previous = 0;
  flow.next = 0;
}
