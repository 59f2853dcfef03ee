/**
 * Packets that open flows, many at a time. A look ahead works out what the plain ones among the next packets are going to need
 * (rule, server, the key of the answers), each thing once, and touches it for all of them together, so that the misses
 * overlap; then a loop opens their flows. Whatever is not plain, or comes to anything else, is left to processPacket() before
 * anything of it has changed: choice, flow table and rewriting are the same functions there.
 */
import { isMapped, isMartian4, isMartian6, mapped, swap16 } from "./address";
import { bucketCount, descriptors, flowCount, nextHopCount, nextHops, openings, scratch, workerCount } from "./bases";
import { clearOutcome, settle } from "./batch";
import { flowAt, hasFlowRoom, installFlow } from "./flows";
import { bucketAt, findSlot, firstBucket, MANY_BUCKETS, otherBucket, touchBucket, touchRecords } from "./flow-table";
import {
  DESCRIPTOR_SIZE,
  Descriptor,
  Direction,
  FlowState,
  HANDED_SETTLED,
  ImageRule,
  NEXT_HOP_RECORD_SIZE,
  NONE,
  OPENING_SIZE,
  Opening,
  PAIR_PORT_KEPT,
  RULE_ENABLED,
  RULE_STICKY,
  Reason,
  RuleType,
  SCRATCH_SIZE,
  Scratch,
} from "./gen/layout";
import { tupleKey4, tupleKey6 } from "./hash";
import { findDestination6, findEndpoint, findRule, memberAt, serverAt } from "./image";
import { SHAPE_LINK, SHAPE_OPENS, SHAPE_OPENS6, SHAPE_PARTIAL, SHAPE_TOTAL } from "./inspect";
import { holderOf, opensHere } from "./owner";
import { findPair, pairAt, serverPort } from "./pairs";
import { MAC_BITS, TCP } from "./parse";
import { dropped } from "./process";
import { isOpen, NO_WAY, noteForwarded, rewrite4, rewrite6, writeMacs } from "./quick";
import { foresee, isInTurn, takeTurn } from "./select";
import { countReason, flowMemory, port, state } from "./state";

// @ts-ignore: decorator
@inline
function notesOf(index: u32): Scratch {
  return changetype<Scratch>(scratch + <usize>index * SCRATCH_SIZE);
}

// @ts-ignore: decorator
@inline
function openingOf(index: u32): Opening {
  return changetype<Opening>(openings + <usize>index * OPENING_SIZE);
}

/** Looks at packet `index`, which has SHAPE_OPENS, and those among the rest of the batch that have it too. @param count packets of the batch */
export function lookAhead(index: u32, count: u32): void {
  state().lookAheads += 1;
  // What one packet needs the next one often needs too.
  let before = openingOf(index);
  before.rule = 0;
  // It is of an earlier batch, or of none: that pair may be another one by now, whose ports are not plain.
  before.pair = NONE;
  for (let next = index; next < count; next++) {
    const notes = notesOf(next);
    if (!(notes.shape & SHAPE_OPENS)) continue;
    const opening = openingOf(next);
    foreseeFlow(next, notes, opening, before);
    before = opening;
  }
  if (bucketCount >= MANY_BUCKETS) touch(index, count);
}

/**
 * Finds rule, server and keys of the flow that a packet is going to open; opening.pair is NONE when it is not a plain one.
 * @param before of an opening that was looked at in this batch, or with a rule of 0; may be `opening`
 */
function foreseeFlow(index: u32, notes: Scratch, opening: Opening, before: Opening): void {
  const ruleBefore = before.rule;
  const pairBefore = before.pair;
  opening.rule = 0;
  opening.pair = NONE;
  const ip: usize = notes.layer3;
  const isIpv6 = (notes.shape & SHAPE_OPENS6) != 0;
  const portsBe = isIpv6 ? load<u32>(ip, 40) : load<u32>(ip, 20);
  const sourceHead = isIpv6 ? load<u64>(ip, 8) : 0;
  const sourceTail = isIpv6 ? load<u64>(ip, 16) : mapped(load<u32>(ip, 12));
  const vipTail = isIpv6 ? load<u64>(ip, 32) : mapped(load<u32>(ip, 16));
  const vipHead = isIpv6 ? load<u64>(ip, 24) : 0;
  if (isIpv6 ? isMapped(sourceHead, sourceTail) || isMartian6(sourceHead, sourceTail) : isMartian4(load<u32>(ip, 12))) return;
  // It would pass for the VIP of the opening before, which IPv4 addresses are compared like.
  if (isIpv6 && isMapped(vipHead, vipTail)) return;
  const vipPort = swap16(portsBe >>> 16);
  let rule = changetype<ImageRule>(<usize>ruleBefore);
  if (!ruleBefore || before.vipPortBe != portsBe >>> 16 || rule.vipTail != vipTail || rule.vipHead != vipHead) {
    const found = findPlainRule(isIpv6, vipHead, vipTail, vipPort);
    if (found == null) return;
    rule = found;
  }
  opening.rule = <u32>changetype<usize>(rule);
  opening.vipPortBe = portsBe >>> 16;
  if (workerCount > 1 && !isSettled(index) && !opensHere(isIpv6, sourceHead, sourceTail, vipHead, vipTail, swap16(portsBe & 0xffff), vipPort)) return;
  const pick = foresee(rule, opening, sourceTail, swap16(portsBe & 0xffff), vipTail);
  if (pick == NONE) return;
  const member = memberAt(rule, pick);
  let pairIndex = pairBefore;
  if (pairIndex == NONE || pairAt(pairIndex).ruleId != rule.id || pairAt(pairIndex).serverId != member.serverId) {
    pairIndex = findPair(rule.id, member.serverId);
    if (pairIndex == NONE || !(pairAt(pairIndex).flags & PAIR_PORT_KEPT)) return;
  }
  const pair = pairAt(pairIndex);
  opening.nextHop = serverAt(member.server).nextHop;
  const backPortsBe = swap16(serverPort(pair, vipPort)) | (portsBe << 16);
  opening.back = isIpv6
    ? tupleKey6(pair.serverHead, pair.serverTail, sourceHead, sourceTail, backPortsBe, TCP)
    : tupleKey4(pair.serverIpv4Be, load<u32>(ip, 12), backPortsBe, TCP);
  opening.pair = pairIndex;
}

/** Whether this worker has to decide about a packet, whoever else might. */
// @ts-ignore: decorator
@inline
function isSettled(index: u32): bool {
  return (changetype<Descriptor>(descriptors + <usize>index * DESCRIPTOR_SIZE).handOver & HANDED_SETTLED) != 0;
}

/** The rule of a VIP and a TCP port, if it is on and does no more than half NAT. */
function findPlainRule(isIpv6: bool, vipHead: u64, vipTail: u64, vipPort: u32): ImageRule | null {
  const vip = isIpv6 ? findDestination6(vipHead, vipTail) : findEndpoint(vipHead, vipTail);
  const rule = vip ? findRule(vip, true, vipPort) : null;
  return rule && rule.type == RuleType.HalfNat && (rule.flags & (RULE_ENABLED | RULE_STICKY)) == RULE_ENABLED ? rule : null;
}

/**
 * Asks for the cache lines that the openings among packets `index` to `count` - 1 are going to need; the first buckets of their
 * own keys are there (inspect.ts).
 */
function touch(index: u32, count: u32): void {
  let sum: u32 = 0;
  const header = flowMemory();
  const isFull = !header.flowsFree && header.flowsTop == flowCount;
  // The records that they are going to get: free ones, or those of the flows that are given up.
  let record = isFull ? header.spareHead : header.flowsFree;
  for (; index < count; index++) {
    const notes = notesOf(index);
    if (!(notes.shape & SHAPE_OPENS)) continue;
    const own = firstBucket(notes.key);
    touchBucket(bucketAt(otherBucket(own, notes.key)));
    sum += touchRecords(own);
    const opening = openingOf(index);
    if (opening.pair != NONE) {
      const first = firstBucket(opening.back);
      touchBucket(bucketAt(first));
      touchBucket(bucketAt(otherBucket(first, opening.back)));
      sum += touchRecords(first);
    }
    if (!record) continue;
    const flow = flowAt(record - 1);
    if (isFull) {
      touchBucket(bucketAt(flow.slotForward >>> 2));
      if (flow.slotReverse != NONE) touchBucket(bucketAt(flow.slotReverse >>> 2));
    }
    record = flow.next;
  }
  // Somebody has to want the sum, or loads among them go away.
  state().touched = sum;
}

/**
 * Opens the flows of a run of packets that lookAhead() has seen, and sends the packets on.
 * @returns index of the first packet that is no plain opening; nothing of it has changed
 */
export function openFlows(index: u32, count: u32, now: u32): u32 {
  const from = index;
  let refused: u32 = 0;
  // As in quick.ts.
  let openWay: u32 = NO_WAY;
  for (; index < count; index++) {
    const notes = notesOf(index);
    const shape = notes.shape;
    if (!(shape & SHAPE_OPENS)) break;
    const opening = openingOf(index);
    if (opening.pair == NONE || findSlot(notes.key) != NONE || !hasFlowRoom()) break;
    if (workerCount > 1 && !isSettled(index) && holderOf(notes.key) != NONE) break;
    if (!isInTurn(changetype<ImageRule>(<usize>opening.rule), opening) && !foreseeAnew(index, notes, opening)) break;
    const at = descriptors + <usize>index * DESCRIPTOR_SIZE;
    const ip: usize = notes.layer3;
    const inPort: u32 = load<u8>(at, offsetof<Descriptor>("inPort"));
    let clientHop = (<u64>inPort << 48) | (<u64>1 << 56);
    let toMac = clientHop;
    let fromMac: u64 = 0;
    let mtu: u32;
    if (shape & SHAPE_LINK) {
      clientHop |= load<u64>(ip - 8) & MAC_BITS;
      if (opening.nextHop >= nextHopCount) break;
      const record = nextHops + <usize>opening.nextHop * NEXT_HOP_RECORD_SIZE;
      toMac = load<u64>(record);
      fromMac = load<u64>(record, 8);
      mtu = <u32>(fromMac >>> 48);
      const way = <u32>(toMac >>> 48);
      if (way != openWay) {
        if (!isOpen(way)) break;
        openWay = way;
      }
    } else {
      // The kernel routes what came in by an IP port (egress.ts).
      mtu = port(inPort).mtu;
    }
    const total = shape & SHAPE_TOTAL;
    if ((shape & SHAPE_PARTIAL ? notes.mtuBytes : total) > mtu) break;
    const rule = changetype<ImageRule>(<usize>opening.rule);
    takeTurn(rule, opening);
    const pair = pairAt(opening.pair);
    const isIpv6 = (shape & SHAPE_OPENS6) != 0;
    const portsBe = isIpv6 ? load<u32>(ip, 40) : load<u32>(ip, 20);
    const head = isIpv6 ? load<u64>(ip, 8) : 0;
    const tail = isIpv6 ? load<u64>(ip, 16) : mapped(load<u32>(ip, 12));
    if (installFlow(notes.key, opening.back, head, tail, portsBe, portsBe & 0xffff, TCP, clientHop, opening.pair, 0, now) == NONE) {
      refuse(changetype<Descriptor>(at), rule, opening.pair, total);
      refused++;
      continue;
    }
    if (isIpv6) rewrite6(ip, shape, pair, false);
    else rewrite4(ip, shape, pair, false);
    if (shape & SHAPE_LINK) writeMacs(ip, toMac, fromMac, isIpv6);
    noteForwarded(at, pair, total, <u32>(toMac >>> 48), Reason.FlowNew, Direction.ClientToServer | (<u32>FlowState.New << 8));
  }
  countReason(Reason.FlowNew, index - from - refused);
  return index;
}

/** The turn is another's, for a packet before this one has come to something else. */
function foreseeAnew(index: u32, notes: Scratch, opening: Opening): bool {
  state().lookAheads += 1;
  foreseeFlow(index, notes, opening, opening);
  return opening.pair != NONE;
}

/** The buckets have no room for the flow. */
function refuse(descriptor: Descriptor, rule: ImageRule, pairIndex: u32, total: u32): void {
  clearOutcome(descriptor);
  descriptor.ruleId = rule.id;
  descriptor.serverId = pairAt(pairIndex).serverId;
  descriptor.direction = <u8>Direction.ClientToServer;
  settle(descriptor, dropped(rule, total, Reason.NoFlowMemory));
}
