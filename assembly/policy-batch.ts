/**
 * A batch while a flow policy is in force: the loop of batch.ts, with a pass before it that judges what is everyday traffic. A
 * loop of its own, so that without a policy no packet pays for it. Stands before the way of a packet and changes nothing of it.
 */
import { swap16 } from "./address";
import { descriptors, policyPairs, scratch, workerCount } from "./bases";
import { clearOutcome, decide, descriptorAt, notesAt, settle } from "./batch";
import { belongs, flowAt } from "./flows";
import { findSlot, metaOf, recordOf } from "./flow-table";
import { CHAIN_PLAIN, CHAIN_TOO_LONG, DESCRIPTOR_SIZE, Descriptor, HANDED_JUDGED, META_REVERSE, NONE, SCRATCH_SIZE, Scratch, View } from "./gen/layout";
import { guardsFragment } from "./guarded";
import { tupleKey } from "./hash";
import { destinationOf, sourceOf } from "./image";
import { SHAPE_IPV4, SHAPE_IPV6, SHAPE_TCP, SHAPE_TOTAL } from "./inspect";
import { isFragment, parseFrame, parseTransport, TCP, UDP } from "./parse";
import { countJudged, enforces, firstPolicyBlock, firstSourcePort, forgetOtherClasses, isRefusal, judgeAddresses, judgePair, judgeParsed, judgePorts, kindOf6, PAIR_BLOCKS, policyPair, reasonOf, rememberRefused } from "./policy";
import { processParsed } from "./process";
import { forwardIpv4, forwardIpv6 } from "./quick";
import { view } from "./state";

/**
 * Judges an inspected batch and decides about it in order. The judgement looks at packets as they came and nothing else, so it
 * may go ahead of the batch; then the loops of quick.ts run as they do without a policy.
 * @returns how many packets of established flows were forwarded on the short way
 */
export function carryJudged(count: u32, now: u32): u32 {
  forgetOtherClasses();
  judgeBatch(count);
  let quick = count;
  for (let index: u32 = 0; index < count; ) {
    const from = index;
    index = forwardIpv4(index, count, now);
    if (index != count && notesAt(index).shape & SHAPE_IPV6) index = forwardIpv6(index, count, now);
    if (index != from) {
      countRun(from, index);
      continue;
    }
    const descriptor = descriptorAt(index);
    if (descriptor.handOver & HANDED_JUDGED) decide(descriptor, now);
    else decideJudged(descriptor, now);
    quick--;
    index++;
  }
  return quick;
}

/** Finds the counters of everyday packets; what is refused is none from then on, and decideJudged() sees whether it is ours at all. */
function judgeBatch(count: u32): void {
  const firstPort = firstSourcePort();
  const firstBlock = firstPolicyBlock();
  const pairs = policyPairs;
  const isAlone = workerCount == 1;
  let at = descriptors;
  let notes = changetype<Scratch>(scratch);
  for (const end = at + <usize>count * DESCRIPTOR_SIZE; at < end; at += DESCRIPTOR_SIZE, notes = changetype<Scratch>(changetype<usize>(notes) + SCRATCH_SIZE)) {
    const shape = notes.shape;
    const ip: usize = notes.layer3;
    let counter: u32 = NONE;
    if (isAlone || !(changetype<Descriptor>(at).handOver & HANDED_JUDGED)) {
      if (shape & SHAPE_IPV4) {
        const addresses = load<u64>(ip, 12);
        const ports = load<u32>(ip, 20);
        const isTcp: u32 = (shape & SHAPE_TCP) != 0 ? 1 : 0;
        const word = policyPair(addresses, pairs, isTcp);
        if (word > PAIR_BLOCKS) counter = judgePair(word, ports, firstPort, firstBlock);
        if (counter == NONE) {
          counter = judgeAddresses(word, addresses, ports, isTcp, firstBlock);
          if (isRefusal(counter)) notes.shape = 0;
        }
      } else if (shape & SHAPE_IPV6) {
        counter = judgeNotes6(ip, shape);
        if (isRefusal(counter)) notes.shape = 0;
      }
    }
    notes.aside = counter;
  }
}

/** Counts the packets from..end-1, which have been forwarded: neighbours of the same counter at once. */
function countRun(from: u32, end: u32): void {
  let counter: u32 = NONE;
  let packets: u32 = 0;
  let bytes: u64 = 0;
  for (let index = from; index < end; index++) {
    const notes = notesAt(index);
    const own = <u32>notes.aside;
    if (own != counter) {
      if (counter != NONE) countJudged(counter, packets, bytes);
      counter = own;
      packets = 0;
      bytes = 0;
    }
    packets++;
    bytes += notes.shape & SHAPE_TOTAL;
  }
  if (counter != NONE) countJudged(counter, packets, bytes);
}

/** The counter of an everyday packet of IPv6, as inspected: never one that opens a connection. */
function judgeNotes6(ip: usize, shape: u32): u32 {
  const ports = load<u32>(ip, 40);
  const from = kindOf6(load<u64>(ip, 8), load<u64>(ip, 16));
  const to = kindOf6(load<u64>(ip, 24), load<u64>(ip, 32));
  return judgePorts(from, to, shape & SHAPE_TCP ? TCP : UDP, swap16(ports & 0xffff), swap16(ports >>> 16), false);
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
  countJudged(counter, 1, packet.total);
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
