/**
 * The flow policy (docs/packet-path.md, "Policy"): which class the addresses of a packet belong to, and whether a flow
 * between the two permits it. Stateless: what it remembers of addresses follows from the tables alone.
 * Decides about one packet, counts it, and remembers what it refused; who asks, and what becomes of the packet, is
 * policy-batch.ts.
 */
import { isMapped, swap16, unmapped } from "./address";
import { policy, policyCache4, policyCache6, policyCounters, policyPairs, policyRefused } from "./bases";
import {
  NONE,
  POLICY_BLOCK_SIZE,
  POLICY_CACHE4,
  POLICY_CACHE4_SIZE,
  POLICY_CACHE6,
  POLICY_CACHE6_SIZE,
  POLICY_COUNTER_SIZE,
  POLICY_ENFORCE,
  POLICY_LIST_SIZE,
  POLICY_MESSAGE,
  POLICY_NO_FLOW,
  POLICY_NO_PORTS,
  POLICY_NON_RESERVED,
  POLICY_OUTSIDE,
  POLICY_OUTSIDE_DROP,
  POLICY_PAIRS,
  POLICY_PAIR_CACHE_SIZE,
  POLICY_RANGE_SIZE,
  POLICY_REFUSED,
  POLICY_REFUSED_SIZE,
  POLICY_REPLY_IS_SYN,
  POLICY_RESERVED_SOURCE,
  PolicyCache4,
  PolicyCache6,
  PolicyHeader,
  PolicyList,
  PolicyPairCache,
  PolicyRange,
  PolicyRefused,
  Reason,
  View,
} from "./gen/layout";
import { ACK, icmpOf, SYN, TCP, UDP } from "./parse";
import { state } from "./state";

/** Ports below are reserved by convention. */
const FIRST_PORT_FOR_ALL: u32 = 1024;
/** Bytes of a TCP header up to its flags, and of ports. */
const TCP_SHOWN: u32 = 14;
const PORTS_SHOWN: u32 = 4;

// @ts-ignore: decorator
@inline
function header(): PolicyHeader {
  return changetype<PolicyHeader>(policy);
}

/** Whether a refused packet is dropped. */
// @ts-ignore: decorator
@inline
export function enforces(): bool {
  return (header().flags & POLICY_ENFORCE) != 0;
}

/** Whether a counter is one of refusals. */
// @ts-ignore: decorator
@inline
export function isRefusal(counter: u32): bool {
  return counter >= POLICY_NO_FLOW && counter <= POLICY_OUTSIDE;
}

// --- classes ---

/** Forgets what is known of addresses when it was another policy that told it. Before every batch. */
export function forgetOtherClasses(): void {
  const s = state();
  if (s.policyEpoch == header().epoch) return;
  s.policyEpoch = header().epoch;
  memory.fill(policyCache4, 0, <usize>POLICY_CACHE4 * POLICY_CACHE4_SIZE);
  learnKind4(0, changetype<PolicyCache4>(policyCache4));
  memory.fill(policyCache6, 0, <usize>POLICY_CACHE6 * POLICY_CACHE6_SIZE);
  memory.fill(policyPairs, 0, <usize>POLICY_PAIRS * POLICY_PAIR_CACHE_SIZE);
}

/** The class of an address by its number, 0: not bound. The ranges hold every address. */
function searchKind(head: u64, tail: u64): u32 {
  const base: usize = header().ranges;
  let first: u32 = 0;
  let end = header().rangeCount;
  while (end - first > 1) {
    const middle = (first + end) >>> 1;
    const range = changetype<PolicyRange>(base + <usize>middle * POLICY_RANGE_SIZE);
    if (range.head > head || (range.head == head && range.tail > tail)) end = middle;
    else first = middle;
  }
  return changetype<PolicyRange>(base + <usize>first * POLICY_RANGE_SIZE).kind;
}

/** Class of an IPv4 address. */
// @ts-ignore: decorator
@inline
export function kindOf4(addressBe: u32): u32 {
  const cached = changetype<PolicyCache4>(policyCache4 + <usize>((addressBe * 0x9e3779b1) >>> 20) * POLICY_CACHE4_SIZE);
  return cached.addressBe == addressBe ? cached.kind : learnKind4(addressBe, cached);
}

function learnKind4(addressBe: u32, cached: PolicyCache4): u32 {
  const kind = searchKind(0, 0xffff00000000 | <u64>bswap<u32>(addressBe));
  cached.addressBe = addressBe;
  cached.kind = kind;
  return kind;
}

/** Class of an IPv6 address. @param head, tail as loaded */
// @ts-ignore: decorator
@inline
export function kindOf6(head: u64, tail: u64): u32 {
  const hash = <u32>(((head ^ (tail * 0x9e3779b97f4a7c15)) * 0xff51afd7ed558ccd) >>> 54);
  const cached = changetype<PolicyCache6>(policyCache6 + <usize>hash * POLICY_CACHE6_SIZE);
  return cached.addressTail == tail && cached.addressHead == head && cached.known ? cached.known - 1 : learnKind6(head, tail, cached);
}

function learnKind6(head: u64, tail: u64, cached: PolicyCache6): u32 {
  // It would pass for an IPv4 address.
  const kind = isMapped(head, tail) ? 0 : searchKind(bswap<u64>(head), bswap<u64>(tail));
  cached.addressHead = head;
  cached.addressTail = tail;
  cached.known = kind + 1;
  return kind;
}

// --- flows ---

// @ts-ignore: decorator
@inline
function listOf(from: u32, to: u32): PolicyList {
  const place = (from - 1) * header().classCount + (to - 1);
  return changetype<PolicyList>(<usize>header().lists + <usize>load<u16>(<usize>header().matrix + (<usize>place << 1)) * POLICY_LIST_SIZE);
}

/** The first flow from one class to another that has the protocol and port, NONE when there is none. */
// @ts-ignore: decorator
@inline
function findFlow(from: u32, to: u32, protocol: u32, port: u32): u32 {
  const list = listOf(from, to);
  const isTcp = protocol == TCP;
  const first = <usize>header().blocks + <usize>(list.first + (isTcp ? 0 : <u32>list.tcpBlocks)) * POLICY_BLOCK_SIZE;
  return findBlock(first, isTcp ? list.tcpBlocks : list.udpBlocks, port);
}

/** The first of the flows in `count` blocks that has the port, NONE when there is none. */
// @ts-ignore: decorator
@inline
function findBlock(at: usize, count: u32, port: u32): u32 {
  const ports = i16x8.splat(<i16>port);
  for (; count; count--, at += POLICY_BLOCK_SIZE) {
    // Two bits per lane, so that the lowest is where its counter lies.
    const lanes = i8x16.bitmask(v128.and(i16x8.ge_u(ports, v128.load(at)), i16x8.le_u(ports, v128.load(at, 16))));
    if (lanes) return load<u16>(at + <usize>ctz(lanes), 32);
  }
  return NONE;
}

/** One end at least is not bound. @returns NONE: the policy has nothing to say; or POLICY_OUTSIDE */
// @ts-ignore: decorator
@inline
function judgeOutside(from: u32, to: u32): u32 {
  return (from | to) != 0 && header().flags & POLICY_OUTSIDE_DROP ? POLICY_OUTSIDE : NONE;
}

/**
 * A packet whose ports are known, host order. @param isOpening it is a segment with SYN and without ACK
 * @returns the counter that it belongs to, NONE: the policy has nothing to say about it
 */
// @ts-ignore: decorator
@inline
export function judgePorts(from: u32, to: u32, protocol: u32, sourcePort: u32, destinationPort: u32, isOpening: bool): u32 {
  if (from == 0 || to == 0) return judgeOutside(from, to);
  const forward = findFlow(from, to, protocol, destinationPort);
  if (forward != NONE && (sourcePort >= FIRST_PORT_FOR_ALL || !(header().flags & POLICY_NON_RESERVED))) return forward;
  const reply = findFlow(to, from, protocol, sourcePort);
  if (reply != NONE && !isOpening) return reply;
  if (forward != NONE) return POLICY_RESERVED_SOURCE;
  return reply == NONE ? POLICY_NO_FLOW : POLICY_REPLY_IS_SYN;
}

// --- pairs of IPv4 addresses ---

/** Word of a pair about which the policy has nothing to say. */
const PAIR_UNTOUCHED: u32 = 1;
/** Bits of a word with the number of blocks, and what is added to their place so that no word is one of the others. */
export const PAIR_BLOCKS: u32 = 15;
const PAIR_BIAS: u32 = 16;
if (POLICY_PAIRS != 1 << 12) ERROR("policyPair() takes twelve bits");

/**
 * What judgePorts() says to an everyday IPv4 packet, if one look-up for both addresses is enough to tell.
 * @param word from policyPair(); @param portsBe both ports, as loaded; @param firstPort, firstBlock of the functions of that name
 * @returns NONE: judgeAddresses() has to say
 */
// @ts-ignore: decorator
@inline
export function judgePair(word: u32, portsBe: u32, firstPort: u32, firstBlock: usize): u32 {
  const forward = findBlock(firstBlock + (word & ~PAIR_BLOCKS), word & PAIR_BLOCKS, swap16(portsBe >>> 16));
  return firstPort == 0 || swap16(portsBe & 0xffff) >= firstPort ? forward : NONE;
}

/** The word of a pair of addresses. @param pairs policyPairs; @param isTcp 1 for TCP, 0 for UDP */
// @ts-ignore: decorator
@inline
export function policyPair(addresses: u64, pairs: usize, isTcp: u32): u32 {
  const cached = pairs + <usize>((addresses * 0x9e3779b97f4a7c15) >>> 52) * POLICY_PAIR_CACHE_SIZE;
  if (load<u64>(cached) != addresses) learnPair(addresses, changetype<PolicyPairCache>(cached));
  return load<u32>(cached + <usize>(isTcp << 2), offsetof<PolicyPairCache>("udp"));
}

function learnPair(addresses: u64, cached: PolicyPairCache): void {
  const from = kindOf4(<u32>addresses);
  const to = kindOf4(<u32>(addresses >>> 32));
  cached.addresses = addresses;
  if (from == 0 || to == 0) {
    const word: u32 = judgeOutside(from, to) == NONE ? PAIR_UNTOUCHED : 0;
    cached.tcp = word;
    cached.udp = word;
    return;
  }
  const list = listOf(from, to);
  cached.tcp = wordOf(list.first, list.tcpBlocks);
  cached.udp = wordOf(list.first + list.tcpBlocks, list.udpBlocks);
}

function wordOf(first: u32, count: u32): u32 {
  return count > PAIR_BLOCKS ? 0 : (first * POLICY_BLOCK_SIZE + PAIR_BIAS) | count;
}

/** What judgePair() leaves: replies, refusals, and lists that are too long for a word. @returns as judgePorts */
export function judgeAddresses(word: u32, addresses: u64, portsBe: u32, isTcp: u32, firstBlock: usize): u32 {
  if (word == PAIR_UNTOUCHED) return NONE;
  const sourcePort = swap16(portsBe & 0xffff);
  if (word > PAIR_BLOCKS && findBlock(firstBlock + (word & ~PAIR_BLOCKS), word & PAIR_BLOCKS, swap16(portsBe >>> 16)) == NONE) {
    const back = policyPair(rotr<u64>(addresses, 32), policyPairs, isTcp);
    const reply: u32 = back > PAIR_BLOCKS ? findBlock(firstBlock + (back & ~PAIR_BLOCKS), back & PAIR_BLOCKS, sourcePort) : NONE;
    if (reply != NONE) return reply;
  }
  return judgePorts(kindOf4(<u32>addresses), kindOf4(<u32>(addresses >>> 32)), isTcp ? TCP : UDP, sourcePort, swap16(portsBe >>> 16), false);
}

/** The lowest port from which flows may begin. */
export function firstSourcePort(): u32 {
  return header().flags & POLICY_NON_RESERVED ? FIRST_PORT_FOR_ALL : 0;
}

/** Where the first block of permitted flows lies, as words have it. */
export function firstPolicyBlock(): usize {
  return <usize>header().blocks - PAIR_BIAS;
}

/** A packet that shows no ports. */
function judgeBare(from: u32, to: u32, protocol: u32): u32 {
  if (from == 0 || to == 0) return judgeOutside(from, to);
  const there = listOf(from, to);
  const back = listOf(to, from);
  const blocks: u32 = protocol == TCP ? there.tcpBlocks | back.tcpBlocks : protocol == UDP ? there.udpBlocks | back.udpBlocks : 0;
  return blocks ? POLICY_NO_PORTS : POLICY_NO_FLOW;
}

/** ICMP errors (RFC 1122 section 3.2.2, RFC 4443 section 2.1) and neighbour discovery: whatever hosts need of each other and of routers. */
function isSignal(isIpv6: bool, kind: u32): bool {
  if (isIpv6) return kind < 128 || (kind >= 133 && kind <= 137);
  return kind == 3 || kind == 4 || kind == 5 || kind == 11 || kind == 12;
}

function isEcho(isIpv6: bool, kind: u32): bool {
  return isIpv6 ? kind == 128 || kind == 129 : kind == 0 || kind == 8;
}

function judgeMessage(packet: View, from: u32, to: u32): u32 {
  const kind: u32 = load<u8>(packet.layer4);
  const isIpv6 = packet.isIpv6 != 0;
  if ((from | to) != 0 && isSignal(isIpv6, kind)) return POLICY_MESSAGE;
  if (from != 0 && to != 0 && isEcho(isIpv6, kind)) return POLICY_MESSAGE;
  return judgeBare(from, to, packet.protocol);
}

/** Judges the packet in hand, headers parsed. @returns as judgePorts; sets the ports of the View, 0 where it shows none */
export function judgeParsed(packet: View): u32 {
  const from = packet.isIpv6 ? kindOf6(packet.sourceHead, packet.sourceTail) : kindOf4(unmapped(packet.sourceTail));
  const to = packet.isIpv6 ? kindOf6(packet.destinationHead, packet.destinationTail) : kindOf4(unmapped(packet.destinationTail));
  const shown: u32 = packet.fragmentOffset ? 0 : packet.headAvailable - packet.headerLength;
  const protocol = packet.protocol;
  packet.sourcePort = 0;
  packet.destinationPort = 0;
  if (protocol == icmpOf(packet) && shown) return judgeMessage(packet, from, to);
  if ((protocol != TCP || shown < TCP_SHOWN) && (protocol != UDP || shown < PORTS_SHOWN)) return judgeBare(from, to, protocol);
  const l4: usize = packet.layer4;
  packet.sourcePort = swap16(load<u16>(l4));
  packet.destinationPort = swap16(load<u16>(l4, 2));
  const answers: u32 = SYN | ACK;
  const isOpening = protocol == TCP && (<u32>load<u8>(l4, 13) & answers) == SYN;
  return judgePorts(from, to, protocol, packet.sourcePort, packet.destinationPort, isOpening);
}

// --- counting ---

/** More packets of a counter. @param bytes their IP total lengths */
// @ts-ignore: decorator
@inline
export function countJudged(counter: u32, packets: u32, bytes: u64): void {
  const own = policyCounters + <usize>counter * POLICY_COUNTER_SIZE;
  v128.store(own, i64x2.add(v128.load(own), i64x2.replace_lane(i64x2.splat(packets), 1, bytes)));
}

/** The Reason under which a refused packet is dropped. */
export function reasonOf(counter: u32): u32 {
  if (counter == POLICY_NO_FLOW) return Reason.PolicyNoFlow;
  if (counter == POLICY_RESERVED_SOURCE) return Reason.PolicyReservedSource;
  return counter == POLICY_REPLY_IS_SYN ? Reason.PolicyReplyIsSyn : Reason.PolicyOutside;
}

/** Whether the record is about packets like this one. */
function isAbout(record: PolicyRefused, packet: View, counter: u32): bool {
  if (record.counter != counter || record.protocol != packet.protocol) return false;
  if (record.sourceTail != packet.sourceTail || record.destinationTail != packet.destinationTail) return false;
  if (record.sourceHead != packet.sourceHead || record.destinationHead != packet.destinationHead) return false;
  return counter == POLICY_REPLY_IS_SYN ? record.sourcePort == packet.sourcePort : record.destinationPort == packet.destinationPort;
}

/** Remembers a refused packet, in place of the one that is the longest ago when there is no room. */
export function rememberRefused(packet: View, counter: u32, now: u32): void {
  const s = state();
  s.refusedOrder += 1;
  let oldest = changetype<PolicyRefused>(policyRefused);
  for (let index: u32 = 0; index < POLICY_REFUSED; index++) {
    const record = changetype<PolicyRefused>(policyRefused + <usize>index * POLICY_REFUSED_SIZE);
    if (record.order && isAbout(record, packet, counter)) return refresh(record, packet, now);
    // Differences, since the number wraps; a record that is empty is older than any.
    if (oldest.order && (record.order == 0 || s.refusedOrder - record.order > s.refusedOrder - oldest.order)) oldest = record;
  }
  oldest.order = 0;
  oldest.sourceHead = packet.sourceHead;
  oldest.sourceTail = packet.sourceTail;
  oldest.destinationHead = packet.destinationHead;
  oldest.destinationTail = packet.destinationTail;
  oldest.protocol = <u16>packet.protocol;
  oldest.counter = <u16>counter;
  oldest.packets = 0;
  refresh(oldest, packet, now);
}

function refresh(record: PolicyRefused, packet: View, now: u32): void {
  record.sourcePort = <u16>packet.sourcePort;
  record.destinationPort = <u16>packet.destinationPort;
  record.lastMs = now;
  record.packets += 1;
  record.order = state().refusedOrder;
}
