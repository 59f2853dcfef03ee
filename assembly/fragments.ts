/**
 * Fragments (decision record 0016). Mode `ilb`: known to be ours or not, never translated. Mode `modern`: the first one is
 * decided about like a whole packet and its outcome remembered; later ones follow it; those that come before it wait, a
 * few and for a short while. What is remembered is complete, so that it needs neither flow nor pair. Where the first one
 * is the kernel's, so are the others, whenever they came (decision record 0019).
 */
import { fragments, workerCount } from "./bases";
import { leaveAs } from "./egress";
import { isExtension } from "./extension";
import {
  Descriptor,
  Direction,
  ENDPOINT_PROXY,
  ENDPOINT_SERVER,
  ENDPOINT_VIP,
  ENDPOINT_VIP_LOCAL,
  Endpoint,
  FRAGMENT_ANSWERED,
  FRAGMENT_DROPPED,
  FRAGMENT_KERNEL,
  FRAGMENT_MS,
  FRAGMENT_RECORD_SIZE,
  FRAGMENT_SENT,
  FRAGMENT_SETS,
  FRAGMENT_WAYS,
  FlowState,
  FragmentRecord,
  HANDED_COPY,
  NONE,
  Reason,
  Verdict,
  View,
  verdictOf,
} from "./gen/layout";
import { guardsFragment, guardsLater } from "./guarded";
import { addressHash } from "./hash";
import { giveUpHeld, hold, passHeld, releaseHeld } from "./held";
import { processIcmpFragment, sendBack } from "./icmp";
import { destinationOf, icmpRule, sourceOf } from "./image";
import { emit } from "./made";
import { countFor } from "./pairs";
import { icmpOf, isFragment, TCP, UDP } from "./parse";
import { processTransport } from "./process";
import { NEEDS_CSUM, rewriteAddresses, stepTtl, turnRound } from "./rewrite";
import { totals } from "./state";

/** Mode `ilb`. */
export function refuseFragment(packet: View): u32 {
  const to = destinationOf(packet);
  if (!guardsFragment(packet, to, sourceOf(packet))) return Reason.Unguarded;
  if (to && to.flags & ENDPOINT_VIP) {
    totals().fragmentsIn += 1;
    totals().fragmentsDropped += 1;
    return Reason.FragmentToVip;
  }
  return to && to.flags & ENDPOINT_PROXY ? Reason.ProxyFragment : Reason.ServerFragment;
}

/** Mode `modern`. */
export function processFragment(packet: View, now: u32): u32 {
  const to = destinationOf(packet);
  const from = sourceOf(packet);
  return countVip(packet, to, packet.fragmentOffset ? processLater(packet, to, from, now) : processFirst(packet, to, from, now));
}

/** Counts a fragment to a VIP. One that was held back by another worker counted when it came. */
function countVip(packet: View, to: Endpoint | null, reason: u32): u32 {
  if (to == null || !(to.flags & ENDPOINT_VIP)) return reason;
  if (!isCopied(packet)) totals().fragmentsIn += 1;
  if (verdictOf(reason) == Verdict.Drop && reason != Reason.FragmentHeld) totals().fragmentsDropped += 1;
  return reason;
}

/** Whether the packet in hand is a copy of one that another worker held back. */
function isCopied(packet: View): bool {
  return workerCount > 1 && (changetype<Descriptor>(packet.descriptor).handOver & HANDED_COPY) != 0;
}

function processFirst(packet: View, to: Endpoint | null, from: Endpoint | null, now: u32): u32 {
  const isTransport = packet.protocol == TCP || packet.protocol == UDP;
  const reason = isTransport ? processTransport(packet, now) : packet.protocol == icmpOf(packet) ? processIcmpFragment(packet, to, from) : <u32>Reason.Unguarded;
  const verdict = verdictOf(reason);
  if (verdict == Verdict.Forward) {
    const record = remember(packet, FRAGMENT_SENT, now);
    describeTrail(record, packet, reason == Reason.DsrSent);
    releaseHeld(packet, record);
  } else if (reason == Reason.EchoAnswered) {
    const record = remember(packet, FRAGMENT_ANSWERED, now);
    record.ruleId = changetype<Descriptor>(packet.descriptor).ruleId;
    releaseHeld(packet, record);
  } else if (verdict == Verdict.Pass || verdict == Verdict.Ignore) {
    leaveToKernel(packet, to, from, now);
  } else {
    if (guardsLater(to, from)) remember(packet, FRAGMENT_DROPPED, now);
    giveUpHeld(packet);
  }
  return reason;
}

/** The kernel has the first fragment, so it gets the others. */
function leaveToKernel(packet: View, to: Endpoint | null, from: Endpoint | null, now: u32): void {
  if (!guardsLater(to, from)) return;
  remember(packet, FRAGMENT_KERNEL, now);
  passHeld(packet);
}

/** A packet that its extension headers keep from being balanced: if it is a first fragment, the kernel has it. */
export function rememberUnbalanced(packet: View, to: Endpoint | null, from: Endpoint | null, now: u32): void {
  if (isFragment(packet) && packet.fragmentOffset == 0) leaveToKernel(packet, to, from, now);
}

function processLater(packet: View, to: Endpoint | null, from: Endpoint | null, now: u32): u32 {
  const record = find(packet, now);
  if (record) {
    if (record.outcome == FRAGMENT_SENT) return follow(packet, record, now);
    if (record.outcome == FRAGMENT_ANSWERED) return answerLater(packet, record);
    return record.outcome == FRAGMENT_KERNEL ? toKernel(to, from) : Reason.FragmentToVip;
  }
  if (!guardsLater(to, from)) return Reason.Unguarded;
  if (!mayBeOurs(packet, to)) return toKernel(to, from);
  const flags: u32 = to ? to.flags : 0;
  const isKernels = (flags & (ENDPOINT_VIP | ENDPOINT_PROXY)) == 0 || (flags & ENDPOINT_VIP_LOCAL) != 0;
  if (hold(packet, (flags & ENDPOINT_VIP) != 0, isKernels, now)) return Reason.FragmentHeld;
  return isKernels ? toKernel(to, from) : Reason.FragmentHoldFull;
}

/** Whether the first fragment of the packet, not seen so far, may be one that we send on or answer. */
function mayBeOurs(packet: View, to: Endpoint | null): bool {
  if (packet.protocol == TCP || packet.protocol == UDP) return true;
  if (packet.isIpv6 && isExtension(packet.protocol)) return true;
  return packet.protocol == icmpOf(packet) && to != null && (to.flags & ENDPOINT_VIP_LOCAL) == 0 && icmpRule(to) != null;
}

/** Guarded by its addresses, but the kernel's. */
function toKernel(to: Endpoint | null, from: Endpoint | null): u32 {
  const flags: u32 = to ? to.flags : 0;
  if (flags & ENDPOINT_VIP) return Reason.VipFragment;
  if (flags & ENDPOINT_PROXY) return Reason.ProxyFragment;
  return from && from.flags & ENDPOINT_SERVER ? Reason.ServerFragment : Reason.Unguarded;
}

/** Sends a later fragment where the first one went. */
function follow(packet: View, record: FragmentRecord, now: u32): u32 {
  const descriptor = changetype<Descriptor>(packet.descriptor);
  descriptor.ruleId = record.ruleId;
  descriptor.serverId = record.serverId;
  descriptor.direction = record.direction;
  descriptor.flowState = <u8>(record.isDirect ? FlowState.None : FlowState.Found);
  if (wantsOffload(descriptor)) return Reason.MalformedOffload;
  packet.partial = 0;
  packet.nextHop = record.nextHop;
  packet.nextSource = record.nextSource;
  packet.mtu = record.mtu;
  const reason = leaveAs(packet, record.outPort, now);
  if (reason != NONE) return reason;
  readdress(packet, record);
  countFor(record.pair, record.ruleId, record.serverId, packet.total);
  emit(packet);
  return packet.fragments ? Reason.FragmentsMade : Reason.FragmentTranslated;
}

/** A part of a packet has nothing that a device could sum up or cut. */
export function wantsOffload(descriptor: Descriptor): bool {
  return ((descriptor.vnetFlags & NEEDS_CSUM) | descriptor.vnetGsoType) != 0;
}

/** Turns a later fragment of an echo request round. */
function answerLater(packet: View, record: FragmentRecord): u32 {
  const descriptor = changetype<Descriptor>(packet.descriptor);
  descriptor.ruleId = record.ruleId;
  descriptor.direction = <u8>Direction.ClientToServer;
  if (wantsOffload(descriptor)) return Reason.MalformedOffload;
  sendBack(packet);
  return Reason.EchoAnswered;
}

/** Gives the packet of the View the addresses of the first fragment, and steps its TTL. */
export function readdress(packet: View, record: FragmentRecord): void {
  if (record.outcome == FRAGMENT_ANSWERED) {
    turnRound(packet);
    return;
  }
  if (record.isDirect) {
    if (packet.stepsTtl) stepTtl(packet);
    return;
  }
  packet.newSourceHead = record.newSourceHead;
  packet.newSourceTail = record.newSourceTail;
  packet.newDestinationHead = record.newDestinationHead;
  packet.newDestinationTail = record.newDestinationTail;
  rewriteAddresses(packet);
}

// --- what is remembered ---

/** What belongs together: IPv4 by protocol too (RFC 791 section 3.2), IPv6 not (RFC 8200 section 4.5). */
export function kindOf(packet: View): u32 {
  return packet.isIpv6 ? 0x600 : 0x400 | packet.protocol;
}

function wayOf(packet: View, way: u32): FragmentRecord {
  const a = addressHash(packet.sourceHead, packet.sourceTail, packet.fragmentId);
  const b = addressHash(packet.destinationTail, packet.destinationHead, kindOf(packet));
  return recordAt((a ^ b) & (FRAGMENT_SETS - 1), way);
}

// @ts-ignore: decorator
@inline
function recordAt(set: u32, way: u32): FragmentRecord {
  return changetype<FragmentRecord>(fragments + <usize>(set * FRAGMENT_WAYS + way) * FRAGMENT_RECORD_SIZE);
}

function matches(record: FragmentRecord, packet: View): bool {
  return (
    record.outcome != 0 && record.id == packet.fragmentId && record.kind == kindOf(packet) &&
    record.sourceTail == packet.sourceTail && record.sourceHead == packet.sourceHead &&
    record.destinationTail == packet.destinationTail && record.destinationHead == packet.destinationHead
  );
}

/** What is remembered of the first fragment of the packet in hand, null when nothing. */
export function find(packet: View, now: u32): FragmentRecord | null {
  for (let way: u32 = 0; way < FRAGMENT_WAYS; way++) {
    const record = wayOf(packet, way);
    if (matches(record, packet)) return now - record.madeMs < FRAGMENT_MS ? record : null;
  }
  return null;
}

/** In the place of what was remembered of the same packet, else of nothing, else of the oldest of its set. */
export function remember(packet: View, outcome: u32, now: u32): FragmentRecord {
  let place = wayOf(packet, 0);
  for (let way: u32 = 0; way < FRAGMENT_WAYS; way++) {
    const record = wayOf(packet, way);
    if (matches(record, packet)) {
      place = record;
      break;
    }
    if (place.outcome && (record.outcome == 0 || now - record.madeMs > now - place.madeMs)) place = record;
  }
  memory.fill(changetype<usize>(place), 0, FRAGMENT_RECORD_SIZE);
  place.sourceHead = packet.sourceHead;
  place.sourceTail = packet.sourceTail;
  place.destinationHead = packet.destinationHead;
  place.destinationTail = packet.destinationTail;
  place.id = packet.fragmentId;
  place.kind = kindOf(packet);
  place.madeMs = now;
  place.outcome = outcome;
  return place;
}

/**
 * Forgets what is too old, in the sets whose turn it is: one a millisecond, so that nothing comes back to life when the
 * clock has gone round. @param ms how many have passed until `upTo`
 */
export function sweepFragments(ms: u32, upTo: u32, now: u32): void {
  for (let turn: u32 = 0; turn < min(ms, FRAGMENT_SETS); turn++) {
    const set = (upTo - turn) & (FRAGMENT_SETS - 1);
    for (let way: u32 = 0; way < FRAGMENT_WAYS; way++) {
      const record = recordAt(set, way);
      if (record.outcome && now - record.madeMs >= FRAGMENT_MS) record.outcome = 0;
    }
  }
}

/** Writes the way that the packet in hand has just gone. */
function describeTrail(record: FragmentRecord, packet: View, isDirect: bool): void {
  const descriptor = changetype<Descriptor>(packet.descriptor);
  record.newSourceHead = packet.newSourceHead;
  record.newSourceTail = packet.newSourceTail;
  record.newDestinationHead = packet.newDestinationHead;
  record.newDestinationTail = packet.newDestinationTail;
  record.nextHop = packet.nextHop;
  record.nextSource = packet.nextSource;
  record.mtu = packet.mtu;
  record.outPort = <u8>packet.outPort;
  record.pair = packet.pair;
  record.ruleId = descriptor.ruleId;
  record.serverId = descriptor.serverId;
  record.direction = descriptor.direction;
  // DSR opens no flow, also when it left in fragments.
  record.isDirect = isDirect || (descriptor.flowState == FlowState.None && descriptor.direction == Direction.ClientToServer) ? 1 : 0;
}
