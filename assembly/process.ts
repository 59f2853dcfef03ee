/**
 * One packet from top to bottom, in the order of docs/packet-path.md: parse, find its flow or pick a server, see whether
 * it may leave, and only then change anything. The fast path of batch.ts is a short cut through forwardFlow().
 */
import { following, isMartian4, isMartian6, swap16, unmapped } from "./address";
import { isIlb, workerCount } from "./bases";
import { leaveToClient, leaveToServer } from "./egress";
import {
  clientHopOf,
  belongs,
  flowAt,
  hasFlowRoom,
  installFlow,
  isClosed,
  moveClient,
  refresh,
  removeFlow,
  reverseKey,
  serverPortBeOf,
  sourceHeadOf,
  sourceTailOf,
} from "./flows";
import { findSlot, metaOf, recordOf } from "./flow-table";
import {
  CHAIN_PLAIN,
  CHAIN_TOO_LONG,
  Descriptor,
  Direction,
  ENDPOINT_PROXY,
  ENDPOINT_VIP,
  Endpoint,
  FlowState,
  ImageRule,
  META_REVERSE,
  NONE,
  PAIR_PORT_RANGE,
  PairRecord,
  RULE_ENABLED,
  RULE_STICKY,
  RULE_VIP_LOCAL,
  Reason,
  RuleType,
  View,
} from "./gen/layout";
import { processFragment, refuseFragment, rememberUnbalanced } from "./fragments";
import { tupleKey } from "./hash";
import { guardsFragment, guardsFrom, guardsLater } from "./guarded";
import { processIcmp } from "./icmp";
import { destinationOf, findRule, guardsDestination, memberAt, serverAt, sourceOf } from "./image";
import { emit } from "./made";
import { findPool, freePort, obtainPool, portAfter, portCursor, releasePort, takePort } from "./nat-ports";
import { passOn } from "./owner";
import { obtainPair, pairAt, serverPort } from "./pairs";
import { ACK, FIN, icmpOf, isFragment, parseFrame, parseTransport, RST, SYN, TCP, UDP } from "./parse";
import { describe, rewriteAddresses, rewriteTransport, stepTtl } from "./rewrite";
import { choose, stickyMember } from "./select";
import { addSticky, findSticky, hasStickyRoom, redirectSticky, stickyAt, touchSticky } from "./sticky";
import { ruleState, totals, view } from "./state";
import { noteSignal, track } from "./tcp-tracking";

/**
 * Proxy ports that are tried beside each other before a pool counts as empty. The pools tell which ports are in use, so
 * the first one does, unless a HALF-NAT client has the proxy's own address and port.
 */
const PORT_TRIES: u32 = 64;

/** Decides about the frame of a descriptor and carries the decision out. @returns its Reason, or HANDED_OVER */
export function processPacket(descriptor: Descriptor, now: u32): u32 {
  const packet = view();
  packet.now = now;
  const reason = parseFrame(descriptor, packet);
  return reason != NONE ? reason : processParsed(packet, now);
}

/** The same for a packet whose link and IP header are parsed. */
export function processParsed(packet: View, now: u32): u32 {
  if (workerCount > 1) {
    const given = passOn(packet, now);
    if (given != NONE) return given;
  }
  if (packet.chain != CHAIN_PLAIN) return processUnbalanced(packet, now);
  if (isFragment(packet)) return isIlb ? refuseFragment(packet) : processFragment(packet, now);
  if (packet.protocol == TCP || packet.protocol == UDP) return processTransport(packet, now);
  if (packet.protocol == icmpOf(packet)) return processIcmp(packet, now);
  return Reason.Unguarded;
}

/** An IPv6 packet that its extension headers keep from being balanced: the kernel's, if the guard has kept it from it. */
function processUnbalanced(packet: View, now: u32): u32 {
  const to = destinationOf(packet);
  const from = sourceOf(packet);
  if (packet.chain == CHAIN_TOO_LONG) return guardsLater(to, from) ? Reason.HeaderChain : Reason.Unguarded;
  rememberUnbalanced(packet, to, from, now);
  if (!guardsFragment(packet, to, from)) return Reason.Unguarded;
  if (isFragment(packet) && to && to.flags & ENDPOINT_VIP) totals().fragmentsIn += 1;
  return Reason.ExtensionHeader;
}

// --- TCP and UDP ---

/** A whole packet of TCP or UDP, or the first fragment of one. */
export function processTransport(packet: View, now: u32): u32 {
  const reason = parseTransport(packet);
  if (reason != NONE) return reason;
  packet.key = tupleKey(packet.isIpv6 != 0, packet.sourceHead, packet.sourceTail, packet.destinationHead, packet.destinationTail, load<u32>(packet.layer4), packet.protocol);
  const slot = findSlot(packet.key);
  if (slot != NONE) {
    const index = recordOf(slot);
    const reverse = (metaOf(slot) & META_REVERSE) != 0;
    if (belongs(flowAt(index), packet, reverse)) {
      packet.slot = slot;
      packet.flow = index;
      packet.reverse = reverse ? 1 : 0;
      // A closed flow gives way to a new connection from the same port (ILB-187).
      if (reverse || !isOpening(packet) || !isClosed(flowAt(index))) return forwardFlow(packet, now);
    }
  }
  return openFlow(packet, now);
}

/** A segment that can only begin a connection. */
function isOpening(packet: View): bool {
  return packet.protocol == TCP && (packet.tcpFlags & (SYN | ACK | RST | FIN)) == SYN;
}

/** Sends a packet of a known flow on. */
function forwardFlow(packet: View, now: u32): u32 {
  const flow = flowAt(packet.flow);
  const pair = pairAt(flow.pair);
  const descriptor = changetype<Descriptor>(packet.descriptor);
  const reverse = packet.reverse != 0;
  describe(packet, pair);
  descriptor.direction = <u8>(reverse ? Direction.ServerToClient : Direction.ClientToServer);
  descriptor.flowState = <u8>FlowState.Found;
  const reason = reverse ? leaveToClient(packet, clientHopOf(flow, metaOf(packet.slot)), now) : leaveToServer(packet, pair.nextHop, false, now);
  if (reason != NONE) return reason;
  if (!reverse && clientHopOf(flow, metaOf(packet.slot)) != packet.sourceHop) moveClient(flow, packet.sourceHop);
  noteSignal(packet.flow, packet);
  track(packet.flow, packet, now);
  // After tracking: a segment that reopens a closed flow has to lift the short deadline that closing gave it.
  if (!isClosed(flow)) refresh(packet.slot, pair.idleTimeoutMs, now);
  countPair(flow.pair, packet);
  translate(packet, Reason.FlowFound);
  return packet.fragments ? Reason.FragmentsMade : Reason.FlowFound;
}

// @ts-ignore: decorator
@inline
function countPair(index: u32, packet: View): void {
  const pair = pairAt(index);
  packet.pair = index;
  pair.packets += 1;
  pair.bytes += packet.total;
}

/** Rewrites the packet for its flow and sends it, whole or in fragments. */
function translate(packet: View, reason: u32): void {
  const flow = flowAt(packet.flow);
  const pair = pairAt(flow.pair);
  let portsBe: u32;
  if (packet.reverse) {
    packet.newSourceHead = pair.vipHead;
    packet.newSourceTail = pair.vipTail;
    packet.newDestinationHead = flow.clientHead;
    packet.newDestinationTail = flow.clientTail;
    portsBe = <u32>flow.vipPortBe | (<u32>flow.clientPortBe << 16);
  } else {
    packet.newSourceHead = sourceHeadOf(flow, pair);
    packet.newSourceTail = sourceTailOf(flow, pair);
    packet.newDestinationHead = pair.serverHead;
    packet.newDestinationTail = pair.serverTail;
    portsBe = <u32>flow.sourcePortBe | (serverPortBeOf(flow, pair) << 16);
  }
  rewriteTransport(packet.layer4, packet.protocol == TCP, packet.partial != 0, portsBe, rewriteAddresses(packet));
  emit(packet);
}

// --- packets of no flow ---

function openFlow(packet: View, now: u32): u32 {
  const isTcp = packet.protocol == TCP;
  const to = destinationOf(packet);
  const rule = to ? findRule(to, isTcp, packet.destinationPort) : null;
  if (rule == null) return ofNoRule(packet, to, isTcp);
  const answers: u32 = SYN | ACK;
  if (rule.flags & RULE_VIP_LOCAL && isTcp && (packet.tcpFlags & answers) == answers) return Reason.LocalSynAck;
  const descriptor = changetype<Descriptor>(packet.descriptor);
  descriptor.ruleId = rule.id;
  descriptor.direction = <u8>Direction.ClientToServer;
  const own = ruleState(rule);
  if (!(rule.flags & RULE_ENABLED)) {
    own.packetsNotProcessed += 1;
    own.bytesNotProcessed += packet.total;
    return Reason.RuleDisabled;
  }
  if (packet.isIpv6 ? isMartian6(packet.sourceHead, packet.sourceTail) : isMartian4(unmapped(packet.sourceTail))) return Reason.MartianSource;
  const pick = choose(rule, packet);
  if (pick == NONE) return dropped(rule, packet.total, Reason.NoServer);
  const sticky = rule.flags & RULE_STICKY ? findSticky(rule, packet.sourceHead, packet.sourceTail) : NONE;
  return sendToServer(packet, rule, pick, sticky, now);
}

/** Guarded traffic that nothing of the configuration wants goes back to the kernel. */
function ofNoRule(packet: View, to: Endpoint | null, isTcp: bool): u32 {
  if (to && guardsDestination(to, isTcp, packet.destinationPort)) return to.flags & ENDPOINT_PROXY ? Reason.ProxyTraffic : Reason.RuleGone;
  return guardsFrom(sourceOf(packet), to, isTcp, packet.sourcePort, packet.destinationPort) ? Reason.ServerTraffic : Reason.Unguarded;
}

/** Counts a packet of the rule that is dropped for want of something. @param total its bytes @returns `reason` */
export function dropped(rule: ImageRule, total: u32, reason: u32): u32 {
  const own = ruleState(rule);
  own.packetsDropped += 1;
  own.bytesDropped += total;
  if (reason == Reason.NoPort) {
    own.packetsNoPort += 1;
    own.bytesNoPort += total;
  } else if (reason != Reason.NoServer) {
    own.packetsNoMemory += 1;
    own.bytesNoMemory += total;
  }
  return reason;
}

function sendToServer(packet: View, rule: ImageRule, pick: u32, sticky: u32, now: u32): u32 {
  let holds = false;
  if (sticky != NONE) {
    const bound = stickyMember(rule, sticky);
    if (bound != NONE) {
      pick = bound;
      holds = true;
    }
  }
  const member = memberAt(rule, pick);
  const server = serverAt(member.server);
  changetype<Descriptor>(packet.descriptor).serverId = member.serverId;
  const reason = leaveToServer(packet, server.nextHop, rule.type == RuleType.Dsr, now);
  if (reason != NONE) return reason;
  const pair = obtainPair(rule, member, server);
  if (pair == NONE) return dropped(rule, packet.total, Reason.NoPairMemory);
  // The flow that this one replaces makes room by going.
  if (rule.type != RuleType.Dsr && packet.flow == NONE && !hasFlowRoom()) return dropped(rule, packet.total, Reason.NoFlowMemory);
  if (rule.flags & RULE_STICKY && sticky == NONE && !hasStickyRoom()) return dropped(rule, packet.total, Reason.NoStickyMemory);
  return rule.type == RuleType.Dsr ? sendDirect(packet, rule, pair, sticky, holds, now) : sendTranslated(packet, rule, pair, sticky, holds, now);
}

/** Enters, redirects or leaves alone the client's sticky entry. @returns its index, NONE when the rule is not sticky */
function bind(packet: View, rule: ImageRule, pair: u32, proxyIndex: u32, sticky: u32, holds: bool, now: u32): u32 {
  if (!(rule.flags & RULE_STICKY)) return NONE;
  if (sticky == NONE) return addSticky(rule, packet, pair, proxyIndex, now);
  if (!holds) redirectSticky(sticky, pair, proxyIndex);
  return sticky;
}

/** DSR: no flow, the packet stays as it is. */
function sendDirect(packet: View, rule: ImageRule, pair: u32, sticky: u32, holds: bool, now: u32): u32 {
  const bound = bind(packet, rule, pair, 0, sticky, holds, now);
  if (bound != NONE) touchSticky(bound, now);
  countPair(pair, packet);
  if (packet.stepsTtl) stepTtl(packet);
  emit(packet);
  return packet.fragments ? Reason.FragmentsMade : Reason.DsrSent;
}

/** NAT and HALF-NAT: the packet opens a flow; there is a record for it, and one for the sticky entry if it makes one. */
function sendTranslated(packet: View, rule: ImageRule, pairIndex: u32, sticky: u32, holds: bool, now: u32): u32 {
  const pair = pairAt(pairIndex);
  let proxyIndex: u32 = 0;
  let pool: u32 = NONE;
  let sourcePort = packet.sourcePort;
  let sourceTail = packet.sourceTail;
  if (rule.type == RuleType.Nat) {
    const lease = leaseAny(packet, pair, sticky, holds, now);
    if (lease == NONE) return dropped(rule, packet.total, Reason.NoPort);
    proxyIndex = lease >>> 16;
    sourcePort = lease & 0xffff;
    sourceTail = following(pair.proxyFirstTail, proxyIndex);
    pool = poolOf(packet, pair, proxyIndex, now);
    if (pool == NONE || !takePort(pool, sourcePort)) return dropped(rule, packet.total, Reason.NoFlowMemory);
  }
  if (packet.flow != NONE) removeFlow(packet.flow, now);
  const index = install(packet, pairIndex, proxyIndex, sourceTail, swap16(sourcePort), now);
  if (index == NONE) {
    if (pool != NONE) releasePort(pool, sourcePort, now);
    return dropped(rule, packet.total, Reason.NoFlowMemory);
  }
  const bound = bind(packet, rule, pairIndex, proxyIndex, sticky, holds, now);
  if (bound != NONE) {
    flowAt(index).sticky = bound;
    stickyAt(bound).flowCount += 1;
  }
  packet.flow = index;
  changetype<Descriptor>(packet.descriptor).flowState = <u8>FlowState.New;
  track(index, packet, now);
  countPair(pairIndex, packet);
  translate(packet, Reason.FlowNew);
  return packet.fragments ? Reason.FragmentsMade : Reason.FlowNew;
}

/** The flow of the packet in hand. @param sourceTail, sourcePortBe what the server sees as the client @returns as installFlow */
function install(packet: View, pairIndex: u32, proxyIndex: u32, sourceTail: u64, sourcePortBe: u32, now: u32): u32 {
  // Another flow may have the fingerprint of this one.
  if (findSlot(packet.key) != NONE) return NONE;
  const pair = pairAt(pairIndex);
  const sourceHead = pair.type == RuleType.Nat ? pair.proxyFirstHead : packet.sourceHead;
  const serverPortBe = swap16(serverPort(pair, packet.destinationPort));
  const back = reverseKey(pair, sourceHead, sourceTail, sourcePortBe, serverPortBe, packet.protocol);
  const portsBe = swap16(packet.sourcePort) | (swap16(packet.destinationPort) << 16);
  return installFlow(
    packet.key, back, packet.sourceHead, packet.sourceTail, portsBe, sourcePortBe, packet.protocol, packet.sourceHop, pairIndex, proxyIndex, now,
  );
}

// --- proxy ports ---

function poolOf(packet: View, pair: PairRecord, proxyIndex: u32, now: u32): u32 {
  const port: u32 = pair.flags & PAIR_PORT_RANGE ? 0 : serverPort(pair, packet.destinationPort);
  return obtainPool(pair.proxyFirstHead, following(pair.proxyFirstTail, proxyIndex), pair.serverHead, pair.serverTail, port, now);
}

/**
 * A free proxy port, not taken yet: the address of the sticky entry and no other, or the next address of the rotation,
 * which begins with the second, and then the ones after it.
 * @returns proxy index << 16 | port in host order, NONE when all pools are empty
 */
function leaseAny(packet: View, pair: PairRecord, sticky: u32, holds: bool, now: u32): u32 {
  if (holds) return leaseOne(packet, pair, stickyAt(sticky).proxyIndex, now);
  pair.proxyCursor += 1;
  for (let tried: u32 = 0; tried < pair.proxyCount; tried++) {
    const lease = leaseOne(packet, pair, (pair.proxyCursor + tried) % pair.proxyCount, now);
    if (lease != NONE) return lease;
  }
  return NONE;
}

function leaseOne(packet: View, pair: PairRecord, proxyIndex: u32, now: u32): u32 {
  const pool = poolOf(packet, pair, proxyIndex, now);
  if (pool == NONE) return NONE;
  const sourceTail = following(pair.proxyFirstTail, proxyIndex);
  const serverPortBe = swap16(serverPort(pair, packet.destinationPort));
  const other = findPool(pair.proxyFirstHead, sourceTail, pair.serverHead, pair.serverTail, pair.flags & PAIR_PORT_RANGE ? swap16(serverPortBe) : 0);
  let from = portCursor(pool);
  for (let tried: u32 = 0; tried < PORT_TRIES; tried++) {
    const port = freePort(pool, other, from);
    if (port == NONE) return NONE;
    if (findSlot(reverseKey(pair, pair.proxyFirstHead, sourceTail, swap16(port), serverPortBe, packet.protocol)) == NONE) return (proxyIndex << 16) | port;
    from = portAfter(port);
  }
  return NONE;
}
