/**
 * Frames that the engine makes: ICMP errors of the box (RFC 792, RFC 1812 section 4.3.2, RFC 4443) and fragments (RFC 791 section
 * 3.2). They come from a pool of MADE_SIZE head blocks that is empty again with every batch.
 */
import { isMartian4, isMartian6, swap16, unmapped } from "./address";
import { descriptors, heads } from "./bases";
import { fold, sumBytes, sumTwo, udpChecksum, updated } from "./checksum";
import { IPV6_HEADER } from "./extension";
import {
  BATCH_SIZE,
  DESCRIPTOR_SIZE,
  Descriptor,
  ETHERNET_HEADER,
  HEAD_L3_CAPACITY,
  HEAD_L3_OFFSET,
  HEAD_STRIDE,
  ICMP6_QUOTE_BYTES,
  ICMP_QUOTE_BYTES,
  ICMP_TOKEN_MS,
  ICMP_TOKENS,
  MADE_SIZE,
  PORT_NONE,
  PortKind,
  REPLY_TTL,
  Reason,
  Verdict,
  View,
} from "./gen/layout";
import { DONT_FRAGMENT, fragmentWord, ICMP, ICMPV6, MAC_BITS, MORE_FRAGMENTS, OFFSET_BITS, TCP, UDP } from "./parse";
import { etherTypeOf, writeLink, writeMac } from "./rewrite";
import { port, state } from "./state";

/** Frames left in the pool. */
export function madeLeft(): u32 {
  return MADE_SIZE - state().madeUsed;
}

/** Takes a frame; call madeLeft first. Its layer 3 begins at layer3Of(). */
function take(): Descriptor {
  const index = state().madeUsed++;
  const made = changetype<Descriptor>(descriptors + <usize>(BATCH_SIZE + index) * DESCRIPTOR_SIZE);
  memory.fill(changetype<usize>(made), 0, DESCRIPTOR_SIZE);
  made.slot = <u16>index;
  return made;
}

function layer3Of(made: Descriptor): usize {
  return heads + <usize>(BATCH_SIZE + made.slot) * HEAD_STRIDE + HEAD_L3_OFFSET;
}

/** Fills the descriptor in and puts the link header before layer 3. */
function finish(packet: View, made: Descriptor, layer3: usize, length: u32, verdict: u32, reason: u32, outPort: u32, kind: u32, to: u64, from: u64): void {
  const link: u32 = kind == PortKind.Ethernet ? ETHERNET_HEADER : 0;
  made.frame = <u32>layer3 - link;
  made.length = length + link;
  made.headLength = made.length;
  made.outPort = <u8>outPort;
  made.inPort = <u8>outPort;
  made.verdict = <u8>verdict;
  made.reason = <u8>reason;
  if (link) writeMac(made.frame, to, from, etherTypeOf(packet));
}

/** Ties a made frame to the frame that it was made for. */
function attachMade(descriptor: Descriptor, made: Descriptor): void {
  if (descriptor.madeCount == 0) descriptor.madeFirst = BATCH_SIZE + made.slot;
  descriptor.madeCount += 1;
  made.ruleId = descriptor.ruleId;
  made.serverId = descriptor.serverId;
}

/** One token per ICMP_TOKEN_MS, ICMP_TOKENS at most. */
function takeToken(now: u32): bool {
  const s = state();
  const earned = (now - s.icmpTokensMs) / ICMP_TOKEN_MS;
  s.icmpTokensMs += earned * ICMP_TOKEN_MS;
  s.icmpTokens = min(s.icmpTokens + min(earned, ICMP_TOKENS), ICMP_TOKENS);
  if (s.icmpTokens == 0) return false;
  s.icmpTokens -= 1;
  return true;
}

/**
 * Tells the sender of the packet in hand that it went nowhere. The packet must be as it was received.
 * @param rest the second word of the ICMP header, as stored
 * @returns whether a message was made: not about ICMP, to no host, without an address, or over the rate (RFC 1812 4.3.2)
 */
export function sendError(packet: View, type: u32, code: u32, rest: u32, reason: u32, now: u32): bool {
  if (packet.isIpv6) return sendError6(packet, type, code, rest, reason, now);
  const own = port(packet.inPort);
  // About no fragment but the first (RFC 1122 section 3.2.2).
  if (packet.fragmentOffset) return false;
  if (packet.protocol == ICMP || own.address4Be == 0 || isMartian4(unmapped(packet.sourceTail))) return false;
  if (madeLeft() == 0 || !takeToken(now)) return false;
  const made = take();
  const ip = layer3Of(made);
  const quote = min(packet.total, ICMP_QUOTE_BYTES);
  const length = 28 + quote;
  store<u32>(ip, 0xc045 | (swap16(length) << 16));
  store<u32>(ip, 0x00400000, 4);
  store<u32>(ip, REPLY_TTL | (ICMP << 8), 8);
  store<u32>(ip, own.address4Be, 12);
  store<u32>(ip, unmapped(packet.sourceTail), 16);
  store<u16>(ip, fold(sumBytes(ip, 20)) ^ 0xffff, 10);
  store<u32>(ip, type | (code << 8), 20);
  store<u32>(ip, rest, 24);
  copyOut(packet, 0, quote, ip + 28);
  store<u16>(ip, sumBytes(ip + 20, length - 20) ^ 0xffff, 22);
  sendBack(packet, made, ip, length, reason);
  return true;
}

/** The same in ICMPv6 (RFC 4443 section 3). */
function sendError6(packet: View, type: u32, code: u32, rest: u32, reason: u32, now: u32): bool {
  const own = port(packet.inPort);
  if (packet.protocol == ICMPV6 || (own.address6Head | own.address6Tail) == 0 || isMartian6(packet.sourceHead, packet.sourceTail)) return false;
  if (madeLeft() == 0 || !takeToken(now)) return false;
  const made = take();
  const ip = layer3Of(made);
  const quote = min(packet.total, ICMP6_QUOTE_BYTES);
  const length = 8 + quote;
  const l4 = ip + IPV6_HEADER;
  // The pseudo header (RFC 8200 section 8.1) first, where the fixed header is to stand.
  store<u64>(ip, (<u64>swap16(length) << 16) | (<u64>ICMPV6 << 56));
  store<u64>(ip, own.address6Head, 8);
  store<u64>(ip, own.address6Tail, 16);
  store<u64>(ip, packet.sourceHead, 24);
  store<u64>(ip, packet.sourceTail, 32);
  store<u32>(l4, type | (code << 8));
  store<u32>(l4, rest, 4);
  copyOut(packet, 0, quote, l4 + 8);
  store<u16>(l4, sumBytes(ip, IPV6_HEADER + length) ^ 0xffff, 2);
  store<u64>(ip, 0x60 | (<u64>swap16(length) << 32) | (<u64>ICMPV6 << 48) | (<u64>REPLY_TTL << 56));
  sendBack(packet, made, ip, IPV6_HEADER + length, reason);
  return true;
}

/** Finishes an answer to the packet in hand: out of the port it came by, to where it came from. */
function sendBack(packet: View, made: Descriptor, ip: usize, length: u32, reason: u32): void {
  const own = port(packet.inPort);
  finish(packet, made, ip, length, Verdict.Reply, reason, packet.inPort, packet.inKind, packet.sourceHop & MAC_BITS, own.mac);
  attachMade(changetype<Descriptor>(packet.descriptor), made);
}

// --- fragments ---

/** Bytes of the options of every fragment but the first: those with the copied bit, padded to four (RFC 791 section 3.1). */
function copiedOptions(packet: View, to: usize): u32 {
  let at: usize = packet.layer3 + 20;
  const end: usize = packet.layer4;
  let length: u32 = 0;
  while (at < end) {
    const kind: u32 = load<u8>(at);
    if (kind == 0) break;
    if (kind == 1) {
      at++;
      continue;
    }
    const size: u32 = at + 1 < end ? load<u8>(at, 1) : 0;
    if (size < 2 || at + size > end) break;
    if (kind & 0x80) {
      if (to) memory.copy(to + length, at, size);
      length += size;
    }
    at += size;
  }
  const padded = (length + 3) & ~3;
  if (to) memory.fill(to + length, 0, padded - length);
  return padded;
}

/** Data bytes of a fragment with a header of that length, 0 when not even eight fit. */
function room(mtu: u32, header: u32): u32 {
  const most = min(mtu, HEAD_L3_CAPACITY);
  return most < header + 8 ? 0 : (most - header) & ~7;
}

/** How many fragments the packet makes for the MTU of its way out; 0: it cannot be fragmented. */
export function countFragments(packet: View): u32 {
  const data = packet.total - packet.headerLength;
  const first = room(packet.mtu, packet.headerLength);
  const others = room(packet.mtu, 20 + copiedOptions(packet, 0));
  if (first == 0 || others == 0) return 0;
  return data <= first ? 1 : 1 + (data - first + others - 1) / others;
}

/** Copies bytes of the packet that may lie in the head block or in the tail. @param from offset from layer 3 */
export function copyOut(packet: View, from: u32, length: u32, to: usize): void {
  const inHead = packet.headAvailable;
  let copied: u32 = 0;
  if (from < inHead) {
    copied = min(inHead - from, length);
    memory.copy(to, packet.layer3 + from, copied);
  }
  if (copied < length) memory.copy(to + copied, changetype<Descriptor>(packet.descriptor).tail + (from + copied - inHead), length - copied);
}

/** Finishes a partial checksum: fragments cannot carry one. The field holds the pseudo-header sum. */
function completeChecksum(packet: View): void {
  if (!packet.partial) return;
  const descriptor = changetype<Descriptor>(packet.descriptor);
  const offset: u32 = packet.protocol == TCP ? 16 : 6;
  const inHead = packet.headAvailable - packet.headerLength;
  const inTail = packet.total - packet.headAvailable;
  const sum = sumTwo(packet.layer4, inHead, descriptor.tail, inTail) ^ 0xffff;
  store<u16>(packet.layer4 + offset, packet.protocol == UDP ? udpChecksum(sum) : sum);
  descriptor.vnetFlags = 0;
}

/** Makes the fragments of the packet, rewritten already; countFragments and madeLeft have said that they fit. */
export function makeFragments(packet: View): void {
  completeChecksum(packet);
  const data = packet.total - packet.headerLength;
  const word = fragmentWord(packet);
  // A header that came in corrupt leaves corrupt, so its checksum is carried over and not computed anew.
  const stored: u32 = load<u16>(packet.layer3, 10);
  const others = fold(sumBytes(packet.layer3, packet.headerLength) + (stored ^ 0xffff));
  let offset: u32 = 0;
  while (offset < data) {
    const made = take();
    const ip = layer3Of(made);
    let header = packet.headerLength;
    memory.copy(ip, packet.layer3, offset == 0 ? <usize>header : <usize>20);
    if (offset) header = 20 + copiedOptions(packet, ip + 20);
    const length = min(data - offset, room(packet.mtu, header));
    const isLast = offset + length == data;
    store<u8>(ip, 0x40 | (header >>> 2));
    store<u16>(ip, swap16(header + length), 2);
    store<u16>(ip, swap16(((word & OFFSET_BITS) + (offset >>> 3)) | (isLast ? word & MORE_FRAGMENTS : MORE_FRAGMENTS)), 6);
    store<u16>(ip, 0, 10);
    store<u16>(ip, updated(stored, (others ^ 0xffff) + sumBytes(ip, header)), 10);
    copyOut(packet, packet.headerLength + offset, length, ip + header);
    finish(packet, made, ip, header + length, Verdict.Forward, Reason.FragmentsMade, packet.outPort, packet.outKind, packet.nextHop, packet.nextSource);
    attachMade(changetype<Descriptor>(packet.descriptor), made);
    offset += length;
  }
}

/**
 * Turns the packet in hand, rewritten and ready, into the first of its made frames: the same bytes where they are.
 * Call madeLeft first.
 */
export function sendItselfAsMade(packet: View, verdict: u32, reason: u32): void {
  const descriptor = changetype<Descriptor>(packet.descriptor);
  const made = take();
  const slot = made.slot;
  memory.copy(changetype<usize>(made), changetype<usize>(descriptor), offsetof<Descriptor>("inPort"));
  made.slot = slot;
  made.inPort = descriptor.inPort;
  made.outPort = descriptor.outPort;
  made.verdict = <u8>verdict;
  made.reason = <u8>reason;
  attachMade(descriptor, made);
}

/** Makes a frame of a held packet, on the way of the packet in hand; call madeLeft first. @returns its layer 3 */
export function sendCopy(packet: View, from: usize, length: u32, verdict: u32, reason: u32): usize {
  const made = take();
  const ip = layer3Of(made);
  memory.copy(ip, from, length);
  finish(packet, made, ip, length, verdict, reason, packet.outPort, packet.outKind, packet.nextHop, packet.nextSource);
  attachMade(changetype<Descriptor>(packet.descriptor), made);
  return ip;
}

/** Place of the packet in hand in its batch. */
export function receivedIndex(packet: View): u32 {
  return <u32>((<usize>packet.descriptor - descriptors) / DESCRIPTOR_SIZE);
}

/**
 * Makes a frame of a held one for the kernel, as it was received; call madeLeft first. No received frame names it, so it
 * goes when all of the batch have gone. @param layer3 of the held frame, its link header of `link` bytes before it
 * @param because index of the received frame that it goes with
 */
export function passCopy(layer3: usize, link: u32, length: u32, inPort: u32, because: u32): void {
  const made = take();
  made.frame = <u32>layer3Of(made) - link;
  made.length = length + link;
  made.headLength = made.length;
  made.inPort = <u8>inPort;
  made.outPort = <u8>PORT_NONE;
  made.verdict = <u8>Verdict.Pass;
  made.reason = <u8>Reason.VipFragment;
  made.madeFirst = because;
  memory.copy(made.frame, layer3 - link, made.length);
}

/** Sends the rewritten packet: gives it its link header, or makes its fragments. */
export function emit(packet: View): void {
  if (packet.fragments) makeFragments(packet);
  else writeLink(packet);
}

/** Whether the sender forbids fragments. */
export function forbidsFragments(packet: View): bool {
  return (fragmentWord(packet) & DONT_FRAGMENT) != 0;
}

