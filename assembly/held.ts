/**
 * Fragments that came before the first one of their packet: copied to blocks of the engine's own, at most
 * HELD_FRAGMENTS, HELD_PER_PACKET of one packet, for HELD_MS. They leave behind the first one as made frames, to wherever
 * it goes: a server, a client, the kernel.
 */
import { held, heldBlocks } from "./bases";
import { kindOf, readdress, wantsOffload } from "./fragments";
import {
  Descriptor,
  ETHERNET_HEADER,
  FRAGMENT_ANSWERED,
  FRAGMENT_SENT,
  FragmentRecord,
  HEAD_L3_CAPACITY,
  HEAD_L3_OFFSET,
  HEAD_STRIDE,
  HELD_FRAGMENTS,
  HELD_MS,
  HELD_PER_PACKET,
  HELD_RECORD_SIZE,
  HeldRecord,
  NONE,
  PortKind,
  Reason,
  Verdict,
  View,
} from "./gen/layout";
import { handHeldOver } from "./hand-over";
import { copyOut, madeLeft, passCopy, receivedIndex, sendCopy, sendItselfAsMade } from "./made";
import { countFor } from "./pairs";
import { state, totals } from "./state";

// @ts-ignore: decorator
@inline
function heldAt(index: u32): HeldRecord {
  return changetype<HeldRecord>(held + <usize>index * HELD_RECORD_SIZE);
}

/** Layer 3 of a held packet; its link header stands before it. */
function layer3Of(index: u32): usize {
  return heldBlocks + <usize>index * HEAD_STRIDE + HEAD_L3_OFFSET;
}

/** The port that a held frame came by. */
// @ts-ignore: decorator
@inline
function portOf(record: HeldRecord): u32 {
  return <u32>(record.sourceHop >>> 48) & 0xff;
}

function waitsFor(record: HeldRecord, packet: View, kind: u32): bool {
  return (
    record.live != 0 && record.id == packet.fragmentId && record.kind == kind &&
    record.sourceTail == packet.sourceTail && record.sourceHead == packet.sourceHead &&
    record.destinationTail == packet.destinationTail && record.destinationHead == packet.destinationHead
  );
}

/**
 * Keeps a copy of the packet in hand. @param isKernels the kernel gets it when no first one comes
 * @returns false when there is no room for it
 */
export function hold(packet: View, isToVip: bool, isKernels: bool, now: u32): bool {
  if (packet.total > HEAD_L3_CAPACITY || state().heldCount == HELD_FRAGMENTS) return false;
  const kind = kindOf(packet);
  let free: u32 = NONE;
  let ofPacket: u32 = 0;
  for (let index: u32 = 0; index < HELD_FRAGMENTS; index++) {
    if (!heldAt(index).live) free = index;
    else if (waitsFor(heldAt(index), packet, kind)) ofPacket++;
  }
  if (free == NONE || ofPacket >= HELD_PER_PACKET) return false;
  const record = heldAt(free);
  const descriptor = changetype<Descriptor>(packet.descriptor);
  record.sourceHead = packet.sourceHead;
  record.sourceTail = packet.sourceTail;
  record.destinationHead = packet.destinationHead;
  record.destinationTail = packet.destinationTail;
  record.id = packet.fragmentId;
  record.kind = kind;
  record.heldMs = now;
  record.sequence = state().heldSequence++;
  record.bytes = <u16>packet.total;
  record.isToVip = <u8>(isToVip ? 1 : 0);
  record.isKernels = <u8>(isKernels ? 1 : 0);
  record.wantsOffload = <u8>(wantsOffload(descriptor) ? 1 : 0);
  record.inKind = <u8>packet.inKind;
  record.sourceHop = packet.sourceHop;
  record.live = 1;
  memory.copy(layer3Of(free) - packet.link, packet.layer3 - packet.link, packet.link);
  copyOut(packet, 0, packet.total, layer3Of(free));
  state().heldCount += 1;
  return true;
}

function free(record: HeldRecord): void {
  record.live = 0;
  state().heldCount -= 1;
}

function giveUp(record: HeldRecord): void {
  if (record.isToVip) totals().fragmentsDropped += 1;
  free(record);
}

/** Whether a record came before another one, which may be none. */
function isBefore(record: HeldRecord, other: u32): bool {
  return other == NONE || <i32>(record.sequence - heldAt(other).sequence) < 0;
}

/** The oldest that waits for the packet in hand, NONE when nothing does. */
function nextHeld(packet: View, kind: u32): u32 {
  let found: u32 = NONE;
  for (let index: u32 = 0; index < HELD_FRAGMENTS; index++) if (waitsFor(heldAt(index), packet, kind) && isBefore(heldAt(index), found)) found = index;
  return found;
}

/** The first fragment went nowhere. */
export function giveUpHeld(packet: View): void {
  if (state().heldCount == 0) return;
  const kind = kindOf(packet);
  for (let index: u32 = 0; index < HELD_FRAGMENTS; index++) if (waitsFor(heldAt(index), packet, kind)) giveUp(heldAt(index));
}

/** The first fragment, in hand, went to another worker: sends those that wait for it there, behind it. */
export function handHeld(packet: View, worker: u32): void {
  if (state().heldCount == 0) return;
  const kind = kindOf(packet);
  for (let index = nextHeld(packet, kind); index != NONE; index = nextHeld(packet, kind)) {
    const record = heldAt(index);
    const isGiven = !record.wantsOffload && handHeldOver(record, layer3Of(index), worker);
    if (isGiven) free(record);
    else giveUp(record);
  }
}

/** The kernel has the first fragment, which is in hand: gives it those that wait. */
export function passHeld(packet: View): void {
  if (state().heldCount == 0) return;
  const kind = kindOf(packet);
  for (let index = nextHeld(packet, kind); index != NONE; index = nextHeld(packet, kind)) pass(index, receivedIndex(packet));
}

/** Gives a held frame back to the kernel. @param because index of the received frame that it goes with */
function pass(index: u32, because: u32): void {
  const record = heldAt(index);
  if (record.wantsOffload || madeLeft() == 0) return giveUp(record);
  const link: u32 = record.inKind == PortKind.Ethernet ? ETHERNET_HEADER : 0;
  passCopy(layer3Of(index), link, record.bytes, portOf(record), because);
  free(record);
}

/** The first fragment, in hand, has left or is answered: sends those that wait for it behind it. */
export function releaseHeld(packet: View, trail: FragmentRecord): void {
  if (state().heldCount == 0) return;
  const kind = kindOf(packet);
  const descriptor = changetype<Descriptor>(packet.descriptor);
  const isSent = trail.outcome == FRAGMENT_SENT;
  const verdict: u32 = isSent ? Verdict.Forward : Verdict.Reply;
  const reason: u32 = isSent ? Reason.FragmentTranslated : Reason.EchoAnswered;
  for (let index = nextHeld(packet, kind); index != NONE; index = nextHeld(packet, kind)) {
    const record = heldAt(index);
    // The first one needs a frame of its own to stay before the others.
    const steps: u32 = record.inKind == PortKind.Ethernet && packet.outKind == PortKind.Ethernet ? 1 : 0;
    const needed: u32 = descriptor.madeCount ? 1 : 2;
    if (!mayLeave(packet, trail, record, layer3Of(index), steps) || madeLeft() < needed) {
      giveUp(record);
      continue;
    }
    if (descriptor.madeCount == 0) sendItselfAsMade(packet, verdict, reason);
    // The View is borrowed: the edits are those of the packet in hand, on a copy.
    const layer3 = packet.layer3;
    const firstSteps = packet.stepsTtl;
    packet.stepsTtl = steps;
    packet.layer3 = <u32>sendCopy(packet, layer3Of(index), record.bytes, verdict, reason);
    readdress(packet, trail);
    packet.layer3 = layer3;
    packet.stepsTtl = firstSteps;
    if (isSent) countFor(trail.pair, trail.ruleId, trail.serverId, record.bytes);
    free(record);
  }
}

function mayLeave(packet: View, trail: FragmentRecord, record: HeldRecord, ip: usize, steps: u32): bool {
  // An answer begins a life of its own, and goes by the way that the question came by.
  if (trail.outcome == FRAGMENT_ANSWERED) return !record.wantsOffload;
  const ttl: u32 = packet.isIpv6 ? load<u8>(ip, 7) : load<u8>(ip, 8);
  return !record.wantsOffload && record.bytes <= packet.mtu && !(steps && ttl <= 1);
}

// @ts-ignore: decorator
@inline
function isExpired(record: HeldRecord, now: u32): bool {
  return record.live != 0 && now - record.heldMs >= HELD_MS;
}

/** Gives up what has waited too long, but for what is the kernel's: frames leave with a batch only. */
export function giveUpExpired(now: u32): void {
  if (state().heldCount == 0) return;
  for (let index: u32 = 0; index < HELD_FRAGMENTS; index++) if (isExpired(heldAt(index), now) && !heldAt(index).isKernels) giveUp(heldAt(index));
}

/** Begins a batch: nothing waits any longer than it should. The pool of made frames is full then, so there is room. */
export function expireHeld(now: u32): void {
  if (state().heldCount == 0) return;
  giveUpExpired(now);
  for (let index = nextExpired(now); index != NONE; index = nextExpired(now)) pass(index, 0);
}

/** The oldest that has waited too long, NONE when there is none. */
function nextExpired(now: u32): u32 {
  let found: u32 = NONE;
  for (let index: u32 = 0; index < HELD_FRAGMENTS; index++) if (isExpired(heldAt(index), now) && isBefore(heldAt(index), found)) found = index;
  return found;
}
