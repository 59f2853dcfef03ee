/** The edits: addresses, ports, TTL and checksums in one go, then the link header. The only code that changes a packet. */
import { swap16, unmapped } from "./address";
import { delta16, delta32, delta64, udpChecksum, updated, updatedPartial } from "./checksum";
import { Descriptor, ETHERNET_HEADER, PairRecord, PortKind, REPLY_TTL, View } from "./gen/layout";
import { IPV4_TYPE, IPV6_TYPE, MAC_BITS } from "./parse";

/** What a TTL step adds to a sum of little-endian words: the low byte of TTL and protocol falls by one. */
export const TTL_STEP: u32 = 0xfffe;
export const NEEDS_CSUM: u32 = 1;

/** TTL or hop limit. */
export function ttlOf(packet: View): u32 {
  return packet.isIpv6 ? load<u8>(packet.layer3, 7) : load<u8>(packet.layer3, 8);
}

/** Decrements the TTL and mends the header checksum, or the hop limit, which is in no checksum. */
export function stepTtl(packet: View): void {
  const ip: usize = packet.layer3;
  if (packet.isIpv6) {
    store<u8>(ip, load<u8>(ip, 7) - 1, 7);
    return;
  }
  store<u8>(ip, load<u8>(ip, 8) - 1, 8);
  store<u16>(ip, updated(load<u16>(ip, 10), TTL_STEP), 10);
}

/**
 * Turns the packet at packet.layer3 round as an answer of the box: addresses swapped, TTL or hop limit REPLY_TTL, no flow
 * label. What is behind the IP header stays.
 */
export function turnRound(packet: View): void {
  const ip: usize = packet.layer3;
  if (packet.isIpv6) {
    store<u32>(ip, load<u32>(ip) & 0x0000f0ff);
    store<u8>(ip, REPLY_TTL, 7);
    const source = v128.load(ip, 8);
    v128.store(ip, v128.load(ip, 24), 8);
    v128.store(ip, source, 24);
    return;
  }
  const before: u32 = load<u16>(ip, 8);
  const after: u32 = (before & 0xff00) | REPLY_TTL;
  store<u8>(ip, REPLY_TTL, 8);
  // Swapped addresses add up to the same.
  store<u16>(ip, updated(load<u16>(ip, 10), delta16(before, after)), 10);
  store<u64>(ip, rotl<u64>(load<u64>(ip, 12), 32), 12);
}

/** Writes an IPv6 address in the place of another. @returns one's complement sum of the change */
// @ts-ignore: decorator
@inline
export function replaceAddress(at: usize, head: u64, tail: u64): u32 {
  const change = delta64(load<u64>(at), head) + delta64(load<u64>(at, 8), tail);
  store<u64>(at, head);
  store<u64>(at, tail, 8);
  return change;
}

/**
 * Gives the packet in hand its new addresses, and its header checksum and TTL what belongs to them.
 * @returns one's complement sum of the change, for the checksum behind the header
 */
export function rewriteAddresses(packet: View): u32 {
  const ip: usize = packet.layer3;
  if (packet.isIpv6) {
    const change =
      replaceAddress(ip + 8, packet.newSourceHead, packet.newSourceTail) + replaceAddress(ip + 24, packet.newDestinationHead, packet.newDestinationTail);
    if (packet.stepsTtl) stepTtl(packet);
    return change;
  }
  const addresses = joinAddresses(packet.newSourceTail, packet.newDestinationTail);
  const change = addressChange(ip, addresses);
  store<u64>(ip, addresses, 12);
  store<u16>(ip, updated(load<u16>(ip, 10), change), 10);
  if (packet.stepsTtl) stepTtl(packet);
  return change;
}

/**
 * Gives an IPv4 packet new addresses and ports.
 * @param addresses source low, destination high, as stored @param portsBe source low, destination high, as stored
 * @param addressDelta one's complement sum of the change of addresses @param partial the checksum is partial
 * @param ttlDelta TTL_STEP to decrement the TTL, 0 to leave it
 */
// @ts-ignore: decorator
@inline
export function rewriteIpv4(ip: usize, l4: usize, isTcp: bool, partial: bool, addresses: u64, portsBe: u32, addressDelta: u32, ttlDelta: u32): void {
  if (ttlDelta) store<u8>(ip, load<u8>(ip, 8) - 1, 8);
  store<u16>(ip, updated(load<u16>(ip, 10), addressDelta + ttlDelta), 10);
  store<u64>(ip, addresses, 12);
  rewriteTransport(l4, isTcp, partial, portsBe, addressDelta);
}

/** Gives TCP or UDP new ports and mends its checksum for them and for a change of addresses. */
// @ts-ignore: decorator
@inline
export function rewriteTransport(l4: usize, isTcp: bool, partial: bool, portsBe: u32, addressDelta: u32): void {
  const before = load<u32>(l4);
  store<u32>(l4, portsBe);
  const at: usize = isTcp ? l4 + 16 : l4 + 6;
  const sum: u32 = load<u16>(at);
  if (partial) {
    store<u16>(at, updatedPartial(sum, addressDelta));
  } else if (isTcp) {
    store<u16>(at, updated(sum, addressDelta + delta32(before, portsBe)));
  } else if (sum != 0) {
    store<u16>(at, udpChecksum(updated(sum, addressDelta + delta32(before, portsBe))));
  }
}

/** One's complement sum that turns the packet's addresses into others. */
// @ts-ignore: decorator
@inline
export function addressChange(ip: usize, addresses: u64): u32 {
  return delta32(load<u32>(ip, 12), <u32>addresses) + delta32(load<u32>(ip, 16), <u32>(addresses >>> 32));
}

// @ts-ignore: decorator
@inline
export function joinAddresses(sourceTail: u64, destinationTail: u64): u64 {
  return <u64>unmapped(sourceTail) | (<u64>unmapped(destinationTail) << 32);
}

/** @param source host order @param destination host order */
// @ts-ignore: decorator
@inline
export function joinPorts(source: u32, destination: u32): u32 {
  return swap16(source) | (swap16(destination) << 16);
}

/** Writes a MAC header before the packet. @param to, from bytes 0..5 @param etherType as stored */
// @ts-ignore: decorator
@inline
export function writeMac(frame: usize, to: u64, from: u64, etherType: u32): void {
  store<u64>(frame, (to & MAC_BITS) | (from << 48));
  store<u32>(frame, <u32>((from & MAC_BITS) >>> 16), 8);
  store<u16>(frame, etherType, 12);
}

/** EtherType of the packet, as stored. */
// @ts-ignore: decorator
@inline
export function etherTypeOf(packet: View): u32 {
  return packet.isIpv6 ? IPV6_TYPE : IPV4_TYPE;
}

/**
 * Gives the frame the link header of its egress port and brings the virtio header in line: only NEEDS_CSUM means
 * anything to a sender, and offsets count from the start of the frame.
 */
export function writeLink(packet: View): void {
  const descriptor = changetype<Descriptor>(packet.descriptor);
  const link: u32 = packet.outKind == PortKind.Ethernet ? ETHERNET_HEADER : 0;
  const grown = link - packet.link;
  if (grown) {
    descriptor.frame = packet.layer3 - link;
    descriptor.length += grown;
    descriptor.headLength += grown;
    if (descriptor.vnetCsumStart) descriptor.vnetCsumStart += <u16>grown;
    if (descriptor.vnetHdrLen) descriptor.vnetHdrLen += <u16>grown;
    packet.link = link;
  }
  if (link) writeMac(descriptor.frame, packet.nextHop, packet.nextSource, etherTypeOf(packet));
  descriptor.vnetFlags &= <u8>NEEDS_CSUM;
  descriptor.outPort = <u8>packet.outPort;
}

/** Writes who the packet belongs to into its descriptor. */
export function describe(packet: View, pair: PairRecord): void {
  const descriptor = changetype<Descriptor>(packet.descriptor);
  descriptor.ruleId = pair.ruleId;
  descriptor.serverId = pair.serverId;
}
