/**
 * From a frame to the View: checks every length once, against the frame and its head block, so that nothing later reads
 * past either. Decides nothing about load balancing.
 */
import { isMapped, mapped, swap16 } from "./address";
import { CHAIN_MALFORMED, CHAIN_PLAIN, Descriptor, ETHERNET_HEADER, FRAME_TRUNCATED, FRAME_VLAN, MAX_PORTS, NONE, PortKind, Reason, View } from "./gen/layout";
import { walkChain } from "./extension";
import { port } from "./state";

export const ICMP: u32 = 1;
export const TCP: u32 = 6;
export const UDP: u32 = 17;
export const ICMPV6: u32 = 58;

export const FIN: u32 = 0x01;
export const SYN: u32 = 0x02;
export const RST: u32 = 0x04;
export const ACK: u32 = 0x10;

/** EtherTypes as loaded. */
export const IPV4_TYPE: u32 = 0x0008;
export const IPV6_TYPE: u32 = 0xdd86;
const VLAN_TYPE: u32 = 0x0081;
const SERVICE_VLAN_TYPE: u32 = 0xa888;
/** The six bytes of a MAC address in a u64. */
export const MAC_BITS: u64 = 0x0000ffffffffffff;
/** DF, MF and offset of the flags word, host order (RFC 791 section 3.1). */
export const DONT_FRAGMENT: u32 = 0x4000;
export const MORE_FRAGMENTS: u32 = 0x2000;
export const OFFSET_BITS: u32 = 0x1fff;

/** Link and IP header. @returns NONE when the packet is worth a decision, else the reason why not */
export function parseFrame(descriptor: Descriptor, packet: View): u32 {
  packet.descriptor = <u32>changetype<usize>(descriptor);
  packet.inPort = descriptor.inPort;
  packet.slot = NONE;
  packet.flow = NONE;
  packet.fragments = 0;
  packet.reverse = 0;
  if (descriptor.flags & FRAME_VLAN) return Reason.VlanTagged;
  packet.inKind = packet.inPort < MAX_PORTS ? port(packet.inPort).kind : PortKind.Absent;
  if (packet.inKind == PortKind.Absent) return Reason.NotIp;
  const inHead = min(descriptor.headLength, descriptor.length);
  const reason = packet.inKind == PortKind.Ethernet ? parseEthernet(descriptor.frame, inHead, packet) : parseBare(descriptor.frame, inHead, packet);
  if (reason != NONE) return reason;
  if (descriptor.flags & FRAME_TRUNCATED) return Reason.Truncated;
  packet.sourceHop |= (<u64>packet.inPort << 48) | (<u64>1 << 56);
  const available = descriptor.length - packet.link;
  return packet.isIpv6 ? parseIpv6(inHead - packet.link, available, packet) : parseIpv4(inHead - packet.link, available, packet);
}

function parseEthernet(frame: usize, inHead: u32, packet: View): u32 {
  if (inHead < ETHERNET_HEADER) return Reason.MalformedLink;
  const etherType: u32 = load<u16>(frame, 12);
  if (etherType == VLAN_TYPE || etherType == SERVICE_VLAN_TYPE) return Reason.VlanTagged;
  if (etherType != IPV4_TYPE && etherType != IPV6_TYPE) return Reason.NotIp;
  packet.isIpv6 = etherType == IPV6_TYPE ? 1 : 0;
  packet.link = ETHERNET_HEADER;
  packet.layer3 = <u32>frame + ETHERNET_HEADER;
  packet.sourceHop = load<u64>(frame, 6) & MAC_BITS;
  return NONE;
}

function parseBare(frame: usize, inHead: u32, packet: View): u32 {
  if (inHead == 0) return Reason.MalformedLink;
  const version: u32 = load<u8>(frame) >>> 4;
  if (version != 4 && version != 6) return Reason.NotIp;
  packet.isIpv6 = version == 6 ? 1 : 0;
  packet.link = 0;
  packet.layer3 = <u32>frame;
  packet.sourceHop = 0;
  return NONE;
}

/** RFC 791 section 3.1. @param inHead layer-3 bytes in the head block @param available layer-3 bytes of the frame */
function parseIpv4(inHead: u32, available: u32, packet: View): u32 {
  if (inHead < 20) return Reason.MalformedIp;
  const ip: usize = packet.layer3;
  const first: u32 = load<u8>(ip);
  const headerLength = (first & 15) << 2;
  const total = swap16(load<u16>(ip, 2));
  if (first >>> 4 != 4 || headerLength < 20 || headerLength > total || total > available || headerLength > inHead) return Reason.MalformedIp;
  packet.headerLength = headerLength;
  packet.total = total;
  packet.mtuBytes = total;
  packet.headAvailable = min(inHead, total);
  packet.layer4 = packet.layer3 + headerLength;
  packet.protocol = load<u8>(ip, 9);
  packet.sourceHead = 0;
  packet.destinationHead = 0;
  packet.sourceTail = mapped(load<u32>(ip, 12));
  packet.destinationTail = mapped(load<u32>(ip, 16));
  packet.chain = CHAIN_PLAIN;
  const word = fragmentWord(packet);
  packet.fragmentOffset = (word & OFFSET_BITS) << 3;
  packet.moreFragments = word & MORE_FRAGMENTS ? 1 : 0;
  packet.fragmentId = load<u16>(ip, 4);
  return NONE;
}

/** RFC 8200 section 3, with its extension headers. Parameters as parseIpv4. */
function parseIpv6(inHead: u32, available: u32, packet: View): u32 {
  if (inHead < 40) return Reason.MalformedIp;
  const ip: usize = packet.layer3;
  const total: u32 = 40 + swap16(load<u16>(ip, 4));
  if (load<u8>(ip) >>> 4 != 6 || total > available) return Reason.MalformedIp;
  packet.total = total;
  packet.mtuBytes = total;
  packet.headAvailable = min(inHead, total);
  packet.sourceHead = load<u64>(ip, 8);
  packet.sourceTail = load<u64>(ip, 16);
  packet.destinationHead = load<u64>(ip, 24);
  packet.destinationTail = load<u64>(ip, 32);
  // It would pass for an IPv4 address in every table.
  if (isMapped(packet.sourceHead, packet.sourceTail)) return Reason.MartianSource;
  packet.chain = walkChain(packet, ip, total, packet.headAvailable);
  if (packet.chain == CHAIN_MALFORMED) return Reason.MalformedIp;
  packet.headerLength = packet.chainLength;
  packet.layer4 = packet.layer3 + packet.chainLength;
  packet.protocol = packet.chainProtocol;
  return NONE;
}

/** The protocol number of ICMP in the packet's family. */
// @ts-ignore: decorator
@inline
export function icmpOf(packet: View): u32 {
  return packet.isIpv6 ? ICMPV6 : ICMP;
}

/** Whether the packet is one fragment of several. */
// @ts-ignore: decorator
@inline
export function isFragment(packet: View): bool {
  return (packet.fragmentOffset | packet.moreFragments) != 0;
}

/** TCP or UDP header (RFC 9293 section 3.1, RFC 768). @returns NONE or MalformedTransport */
export function parseTransport(packet: View): u32 {
  const l4: usize = packet.layer4;
  const inHead = packet.headAvailable - packet.headerLength;
  const length = packet.total - packet.headerLength;
  if (packet.protocol == TCP) {
    if (inHead < 20) return Reason.MalformedTransport;
    packet.transportLength = (<u32>load<u8>(l4, 12) >>> 4) << 2;
    packet.tcpFlags = load<u8>(l4, 13);
    if (packet.transportLength < 20 || packet.transportLength > length) return Reason.MalformedTransport;
  } else {
    if (inHead < 8) return Reason.MalformedTransport;
    packet.transportLength = 8;
    packet.tcpFlags = 0;
    const claimed = swap16(load<u16>(l4, 4));
    // The length of a fragmented datagram is that of the whole.
    if (claimed < 8 || (claimed > length && !packet.moreFragments)) return Reason.MalformedTransport;
  }
  packet.sourcePort = swap16(load<u16>(l4));
  packet.destinationPort = swap16(load<u16>(l4, 2));
  return NONE;
}

/** Flags and fragment offset of the IP header, host order. */
// @ts-ignore: decorator
@inline
export function fragmentWord(packet: View): u32 {
  return swap16(load<u16>(packet.layer3, 6));
}
