/**
 * A batch while a flow policy is in force: the loop of batch.ts, with a judgement before every packet. A loop of its own, so
 * that without a policy no packet pays for it. Stands before the way of a packet and changes nothing of it.
 */
import { swap16 } from "./address";
import { clearOutcome, decide, descriptorAt, notesAt, settle } from "./batch";
import { belongs, flowAt } from "./flows";
import { findSlot, metaOf, recordOf } from "./flow-table";
import { CHAIN_PLAIN, CHAIN_TOO_LONG, Descriptor, HANDED_JUDGED, META_REVERSE, NONE, Scratch, View } from "./gen/layout";
import { guardsFragment } from "./guarded";
import { tupleKey } from "./hash";
import { destinationOf, sourceOf } from "./image";
import { SHAPE_IPV4, SHAPE_IPV6, SHAPE_TCP, SHAPE_TOTAL } from "./inspect";
import { isFragment, parseFrame, parseTransport, TCP, UDP } from "./parse";
import { countJudged, enforces, forgetOtherClasses, isRefusal, judgeParsed, judgePorts, kindOf4, kindOf6, reasonOf, rememberRefused } from "./policy";
import { processParsed } from "./process";
import { forwardIpv4, forwardIpv6 } from "./quick";
import { view } from "./state";

/** Decides about an inspected batch in order. @returns how many packets of established flows were forwarded on the short way */
export function carryJudged(count: u32, now: u32): u32 {
  forgetOtherClasses();
  let quick: u32 = 0;
  for (let index: u32 = 0; index < count; index++) {
    const descriptor = descriptorAt(index);
    const notes = notesAt(index);
    if (descriptor.handOver & HANDED_JUDGED) {
      if (isCarried(index, notes, now)) quick++;
      else decide(descriptor, now);
      continue;
    }
    const counter = judgeNotes(notes);
    if (!isRefusal(counter) && isCarried(index, notes, now)) {
      quick++;
      if (counter != NONE) countJudged(counter, notes.shape & SHAPE_TOTAL);
    } else {
      decideJudged(descriptor, now);
    }
  }
  return quick;
}

// @ts-ignore: decorator
@inline
function isCarried(index: u32, notes: Scratch, now: u32): bool {
  if (notes.shape & SHAPE_IPV4) return forwardIpv4(index, index + 1, now) != index;
  return (notes.shape & SHAPE_IPV6) != 0 && forwardIpv6(index, index + 1, now) != index;
}

/** An everyday segment or datagram, as inspected: never one that opens a connection. @returns NONE for everything else */
// @ts-ignore: decorator
@inline
function judgeNotes(notes: Scratch): u32 {
  const protocol: u32 = notes.shape & SHAPE_TCP ? TCP : UDP;
  const ip: usize = notes.layer3;
  if (notes.shape & SHAPE_IPV4) {
    const ports = load<u32>(ip, 20);
    return judgePorts(kindOf4(load<u32>(ip, 12)), kindOf4(load<u32>(ip, 16)), protocol, swap16(ports & 0xffff), swap16(ports >>> 16), false);
  }
  if (notes.shape & SHAPE_IPV6) return judgeNotes6(ip, protocol);
  return NONE;
}

function judgeNotes6(ip: usize, protocol: u32): u32 {
  const ports = load<u32>(ip, 40);
  const from = kindOf6(load<u64>(ip, 8), load<u64>(ip, 16));
  const to = kindOf6(load<u64>(ip, 24), load<u64>(ip, 32));
  return judgePorts(from, to, protocol, swap16(ports & 0xffff), swap16(ports >>> 16), false);
}

/** The slow path of one packet, with the judgement between its headers and everything else. */
function decideJudged(descriptor: Descriptor, now: u32): void {
  clearOutcome(descriptor);
  const packet = view();
  packet.now = now;
  let reason = parseFrame(descriptor, packet);
  if (reason == NONE && isCarriedByUs(packet)) {
    reason = judge(packet, now);
    if (reason == NONE) {
      // Whoever it is handed over to need not judge it again.
      const marks = descriptor.handOver;
      descriptor.handOver = marks | HANDED_JUDGED;
      reason = processParsed(packet, now);
      descriptor.handOver = marks;
    }
  } else if (reason == NONE) {
    reason = processParsed(packet, now);
  }
  settle(descriptor, reason);
}

/** @returns NONE: it goes on; or the reason why not */
function judge(packet: View, now: u32): u32 {
  const counter = judgeParsed(packet);
  if (counter == NONE) return NONE;
  countJudged(counter, packet.total);
  if (!isRefusal(counter)) return NONE;
  rememberRefused(packet, counter, now);
  return enforces() ? reasonOf(counter) : NONE;
}

/** Whether the engine has to do with the packet: the guard keeps it from the kernel, or it is of a flow. What the kernel forwards, nft judges. */
function isCarriedByUs(packet: View): bool {
  if (packet.chain == CHAIN_TOO_LONG) return false;
  if (guardsFragment(packet, destinationOf(packet), sourceOf(packet))) return true;
  if (packet.chain != CHAIN_PLAIN || isFragment(packet) || (packet.protocol != TCP && packet.protocol != UDP)) return false;
  if (parseTransport(packet) != NONE) return false;
  const ports = load<u32>(packet.layer4);
  const slot = findSlot(tupleKey(packet.isIpv6 != 0, packet.sourceHead, packet.sourceTail, packet.destinationHead, packet.destinationTail, ports, packet.protocol));
  return slot != NONE && belongs(flowAt(recordOf(slot)), packet, (metaOf(slot) & META_REVERSE) != 0);
}
