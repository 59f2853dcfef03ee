/**
 * Whether and where the packet in hand may leave: offloads it asks for, next hop, TTL, size. Changes nothing but the
 * View, and makes the box's own errors; so whatever fails here leaves no trace in any table.
 */
import { swap16 } from "./address";
import { nextHopCount, nextHops } from "./bases";
import { Descriptor, HopState, MAX_PORTS, NEXT_HOP_RECORD_SIZE, NONE, PortKind, Reason, View } from "./gen/layout";
import { countFragments, forbidsFragments, madeLeft, sendError } from "./made";
import { MAC_BITS, TCP } from "./parse";
import { NEEDS_CSUM, ttlOf } from "./rewrite";
import { port } from "./state";

/** gso_type of struct virtio_net_hdr. */
const GSO_TCPV4: u32 = 1;
const GSO_TCPV6: u32 = 4;
const GSO_UDP_L4: u32 = 5;
const GSO_ECN: u32 = 0x80;

/** Towards a server. @param hop index of its next hop @param isDirect DSR @returns NONE, or the reason why the packet does not leave */
export function leaveToServer(packet: View, hop: u32, isDirect: bool, now: u32): u32 {
  const offload = checkOffload(packet);
  if (offload != NONE) return offload;
  // What came in by an IP port goes back there: the kernel routes it. But no kernel can be told the server of a packet
  // whose destination stays the VIP.
  if (packet.inKind == PortKind.Ip && !isDirect) {
    packet.mtu = port(packet.inPort).mtu;
    return leave(packet, packet.inPort, now);
  }
  if (hop >= nextHopCount) return Reason.NoRoute;
  const record = nextHops + <usize>hop * NEXT_HOP_RECORD_SIZE;
  // Aligned words, so each is whole, as in quick.ts; an atomic load would be a locked instruction here, which waits for every store before it.
  const destination = load<u64>(record);
  const source = load<u64>(record, 8);
  const hopState = <u32>(destination >>> 56);
  if (hopState == HopState.None) return Reason.NoRoute;
  if (hopState == HopState.Unresolved) return Reason.NextHopUnresolved;
  packet.nextHop = destination & MAC_BITS;
  packet.nextSource = source & MAC_BITS;
  packet.mtu = <u32>(source >>> 48);
  return leave(packet, <u32>(destination >>> 48) & 0xff, now);
}

/** Towards a client. @param hop bytes 0..5 MAC, byte 6 port. @returns as leaveToServer */
export function leaveToClient(packet: View, hop: u64, now: u32): u32 {
  const offload = checkOffload(packet);
  if (offload != NONE) return offload;
  const outPort = <u32>(hop >>> 48) & 0xff;
  if (outPort >= MAX_PORTS) return Reason.NoEgressPort;
  packet.nextHop = hop & MAC_BITS;
  packet.nextSource = port(outPort).mac;
  packet.mtu = port(outPort).mtu;
  return leave(packet, outPort, now);
}

/** By a way that is known: next hop, source and MTU stand in the View. @returns as leaveToServer */
export function leaveAs(packet: View, outPort: u32, now: u32): u32 {
  return leave(packet, outPort, now);
}

function leave(packet: View, outPort: u32, now: u32): u32 {
  packet.outPort = outPort;
  packet.outKind = outPort < MAX_PORTS ? port(outPort).kind : PortKind.Absent;
  if (packet.outKind == PortKind.Absent) return Reason.NoEgressPort;
  // The kernel steps the TTL of what goes through an IP port, on its way in.
  packet.stepsTtl = packet.inKind == PortKind.Ethernet && packet.outKind == PortKind.Ethernet ? 1 : 0;
  if (packet.stepsTtl && ttlOf(packet) <= 1)
    return sendError(packet, packet.isIpv6 ? 3 : 11, 0, 0, Reason.TimeExceededSent, now) ? Reason.TimeExceededSent : Reason.TimeExceededUnsent;
  return packet.mtuBytes <= packet.mtu ? NONE : tooBig(packet, now);
}

function tooBig(packet: View, now: u32): u32 {
  if (packet.isIpv6)
    return sendError(packet, 2, 0, swap16(packet.mtu) << 16, Reason.TooBigSent, now) ? Reason.TooBigSent : Reason.TooBigUnsent;
  if (forbidsFragments(packet) || (changetype<Descriptor>(packet.descriptor).vnetGsoType & ~GSO_ECN))
    return sendError(packet, 3, 4, swap16(packet.mtu) << 16, Reason.TooBigSent, now) ? Reason.TooBigSent : Reason.TooBigUnsent;
  const count = countFragments(packet);
  if (count == 0) return Reason.TooBigUnsent;
  if (count > madeLeft()) return Reason.MadePoolFull;
  packet.fragments = count;
  return NONE;
}

/** What the virtio header asks for must fit the packet. Finds the size that counts against an MTU. */
function checkOffload(packet: View): u32 {
  const descriptor = changetype<Descriptor>(packet.descriptor);
  const isTcp = packet.protocol == TCP;
  const gso: u32 = descriptor.vnetGsoType & ~GSO_ECN;
  packet.partial = descriptor.vnetFlags & NEEDS_CSUM;
  // The ECN bit alone is no kind of super-packet either.
  if (descriptor.vnetGsoType != 0 && gso != (isTcp ? (packet.isIpv6 ? GSO_TCPV6 : GSO_TCPV4) : GSO_UDP_L4)) return Reason.GsoUnknown;
  if (packet.partial) {
    const offset: u32 = isTcp ? 16 : 6;
    if (<u32>descriptor.vnetCsumStart != packet.link + packet.headerLength || <u32>descriptor.vnetCsumOffset != offset) return Reason.MalformedOffload;
  }
  if (gso == 0) return NONE;
  if (!packet.partial || descriptor.vnetGsoSize == 0) return Reason.MalformedOffload;
  packet.mtuBytes = packet.headerLength + packet.transportLength + descriptor.vnetGsoSize;
  return NONE;
}
