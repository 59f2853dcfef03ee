/**
 * Fragments that came before the first one of their packet: copied to blocks of the engine's own, at most
 * HELD_FRAGMENTS, HELD_PER_PACKET of one packet, for HELD_MS. They leave behind the first one as made frames.
 */
import { held, heldBlocks } from "./bases";
import { kindOf, readdress } from "./fragments";
import {
  Descriptor,
  FragmentRecord,
  HEAD_L3_CAPACITY,
  HEAD_STRIDE,
  HELD_FRAGMENTS,
  HELD_MS,
  HELD_PER_PACKET,
  HELD_RECORD_SIZE,
  HeldRecord,
  NONE,
  PortKind,
  View,
} from "./gen/layout";
import { handHeldOver } from "./hand-over";
import { copyOut, madeLeft, sendCopy, sendItselfAsMade } from "./made";
import { countFor } from "./pairs";
import { NEEDS_CSUM } from "./rewrite";
import { state, totals } from "./state";

// @ts-ignore: decorator
@inline
function heldAt(index: u32): HeldRecord {
  return changetype<HeldRecord>(held + <usize>index * HELD_RECORD_SIZE);
}

function blockOf(index: u32): usize {
  return heldBlocks + <usize>index * HEAD_STRIDE;
}

function waitsFor(record: HeldRecord, packet: View, kind: u32): bool {
  return (
    record.live != 0 && record.id == packet.fragmentId && record.kind == kind &&
    record.sourceTail == packet.sourceTail && record.sourceHead == packet.sourceHead &&
    record.destinationTail == packet.destinationTail && record.destinationHead == packet.destinationHead
  );
}

/** Keeps a copy of the packet in hand. @returns false when there is no room for it */
export function hold(packet: View, isToVip: bool, now: u32): bool {
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
  record.bytes = packet.total;
  record.isToVip = <u8>(isToVip ? 1 : 0);
  record.wantsOffload = (descriptor.vnetFlags & NEEDS_CSUM) | descriptor.vnetGsoType ? 1 : 0;
  record.inKind = <u8>packet.inKind;
  record.sourceHop = packet.sourceHop;
  record.live = 1;
  copyOut(packet, 0, packet.total, blockOf(free));
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

/** The oldest that waits for the packet in hand, NONE when nothing does. */
function nextHeld(packet: View, kind: u32): u32 {
  let found: u32 = NONE;
  for (let index: u32 = 0; index < HELD_FRAGMENTS; index++) {
    const record = heldAt(index);
    if (waitsFor(record, packet, kind) && (found == NONE || <i32>(record.sequence - heldAt(found).sequence) < 0)) found = index;
  }
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
    const isGiven = !record.wantsOffload && handHeldOver(record, blockOf(index), packet.isIpv6 != 0, worker);
    if (isGiven) free(record);
    else giveUp(record);
  }
}

/** The first fragment, in hand, has left: sends those that wait for it behind it. */
export function releaseHeld(packet: View, trail: FragmentRecord): void {
  if (state().heldCount == 0) return;
  const kind = kindOf(packet);
  const descriptor = changetype<Descriptor>(packet.descriptor);
  for (let index = nextHeld(packet, kind); index != NONE; index = nextHeld(packet, kind)) {
    const record = heldAt(index);
    // The first one needs a frame of its own to stay before the others.
    const steps: u32 = record.inKind == PortKind.Ethernet && packet.outKind == PortKind.Ethernet ? 1 : 0;
    const needed: u32 = descriptor.madeCount ? 1 : 2;
    if (!mayLeave(packet, record, blockOf(index), steps) || madeLeft() < needed) {
      giveUp(record);
      continue;
    }
    if (descriptor.madeCount == 0) sendItselfAsMade(packet);
    // The View is borrowed: the edits are those of the packet in hand, on a copy.
    const layer3 = packet.layer3;
    const firstSteps = packet.stepsTtl;
    packet.stepsTtl = steps;
    packet.layer3 = <u32>sendCopy(packet, blockOf(index), record.bytes);
    readdress(packet, trail);
    packet.layer3 = layer3;
    packet.stepsTtl = firstSteps;
    countFor(trail.pair, trail.ruleId, trail.serverId, record.bytes);
    free(record);
  }
}

function mayLeave(packet: View, record: HeldRecord, ip: usize, steps: u32): bool {
  const ttl: u32 = packet.isIpv6 ? load<u8>(ip, 7) : load<u8>(ip, 8);
  return !record.wantsOffload && record.bytes <= packet.mtu && !(steps && ttl <= 1);
}

/** Gives up what has waited too long. */
export function expireHeld(now: u32): void {
  if (state().heldCount == 0) return;
  for (let index: u32 = 0; index < HELD_FRAGMENTS; index++) {
    const record = heldAt(index);
    if (record.live && now - record.heldMs >= HELD_MS) giveUp(record);
  }
}
