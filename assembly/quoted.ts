/**
 * The packet that an ICMP error quotes: read, looked up, rewritten. What becomes of the error is decided in icmp.ts.
 * Everything is read from the head block only; what does not lie there counts as not quoted.
 */
import { isMapped, mapped, swap16 } from "./address";
import { delta16, delta32, delta64, fold, udpChecksum, updated } from "./checksum";
import { IPV6_HEADER, walkChain } from "./extension";
import { belongsQuoted, flowAt } from "./flows";
import { findSlot, metaOf, recordOf } from "./flow-table";
import { CHAIN_PLAIN, ENDPOINT_SERVER, META_REVERSE, NONE, View } from "./gen/layout";
import { tupleKey } from "./hash";
import { findEndpoint } from "./image";
import { OFFSET_BITS, TCP, UDP } from "./parse";

/** ICMP header before the quoted packet (RFC 792, RFC 4443). */
export const QUOTE: u32 = 8;

/** Offset of the quoted packet. */
// @ts-ignore: decorator
@inline
function quoted(packet: View): usize {
  return packet.layer4 + QUOTE;
}

/** Bytes of the message that lie in the head block from `at` on. */
// @ts-ignore: decorator
@inline
function inHeadFrom(packet: View, at: usize): u32 {
  return packet.layer3 + packet.headAvailable - <u32>at;
}

/** Reads the quoted tuple into the View. The message itself is no fragment. @returns whether it is TCP or UDP with its ports */
export function readQuoted(packet: View): bool {
  if (!(packet.isIpv6 ? readHeader6(packet) : readHeader4(packet))) return false;
  const protocol = packet.quotedProtocol;
  if ((protocol != TCP && protocol != UDP) || inHeadFrom(packet, packet.quotedLayer4) < 8) return false;
  packet.quotedPortsBe = load<u32>(packet.quotedLayer4);
  return true;
}

function readHeader4(packet: View): bool {
  const inner = quoted(packet);
  const available = inHeadFrom(packet, inner);
  if (available < 28) return false;
  const first: u32 = load<u8>(inner);
  const header = (first & 15) << 2;
  if (first >>> 4 != 4 || header < 20 || available < header + 8) return false;
  if (swap16(load<u16>(inner, 6)) & OFFSET_BITS) return false;
  packet.quotedProtocol = load<u8>(inner, 9);
  packet.quotedLayer4 = <u32>inner + header;
  packet.quotedSourceHead = 0;
  packet.quotedDestinationHead = 0;
  packet.quotedSourceTail = mapped(load<u32>(inner, 12));
  packet.quotedDestinationTail = mapped(load<u32>(inner, 16));
  return true;
}

function readHeader6(packet: View): bool {
  const inner = quoted(packet);
  const available = inHeadFrom(packet, inner);
  if (available < IPV6_HEADER + 8 || load<u8>(inner) >>> 4 != 6) return false;
  const chain = walkChain(packet, inner, available, available);
  const isLater = packet.fragmentOffset != 0;
  // The walk was over another packet; the one in hand is whole.
  packet.fragmentOffset = 0;
  packet.moreFragments = 0;
  if (chain != CHAIN_PLAIN || isLater || available < packet.chainLength + 8) return false;
  packet.quotedProtocol = packet.chainProtocol;
  packet.quotedLayer4 = <u32>inner + packet.chainLength;
  packet.quotedSourceHead = load<u64>(inner, 8);
  packet.quotedSourceTail = load<u64>(inner, 16);
  packet.quotedDestinationHead = load<u64>(inner, 24);
  packet.quotedDestinationTail = load<u64>(inner, 32);
  return true;
}

/** Key of an answer to the quoted packet. */
export function quotedKey(packet: View): u64 {
  return tupleKey(
    packet.isIpv6 != 0, packet.quotedDestinationHead, packet.quotedDestinationTail, packet.quotedSourceHead, packet.quotedSourceTail,
    rotl<u32>(packet.quotedPortsBe, 16), packet.quotedProtocol,
  );
}

/**
 * Whether the destination of the quoted packet is a server of NAT or HALF-NAT: the guard's own question (decision record
 * 0019), asked of the same bytes and before anything else of the quoted packet is looked at.
 */
export function isQuotedToServer(packet: View): bool {
  const inner = quoted(packet);
  if (inHeadFrom(packet, packet.layer4) < QUOTE + (packet.isIpv6 ? <u32>IPV6_HEADER : 20)) return false;
  const head = packet.isIpv6 ? load<u64>(inner, 24) : 0;
  const tail = packet.isIpv6 ? load<u64>(inner, 32) : mapped(load<u32>(inner, 16));
  if (packet.isIpv6 && isMapped(head, tail)) return false;
  const server = findEndpoint(head, tail);
  return server != null && (server.flags & ENDPOINT_SERVER) != 0;
}

/**
 * Looks up whose answer the quoted packet is, the quoted tuple turned round. Sets packet.flow and packet.slot.
 * @param reverse false: the packet went from the VIP to the client; true: it went to the server
 */
export function findQuotedFlow(packet: View, reverse: bool): bool {
  const slot = findSlot(quotedKey(packet));
  if (slot == NONE || ((metaOf(slot) & META_REVERSE) != 0) != reverse) return false;
  const index = recordOf(slot);
  if (!belongsQuoted(flowAt(index), packet, reverse)) return false;
  packet.flow = index;
  packet.slot = slot;
  return true;
}

/**
 * Gives the quoted packet the new addresses and ports of the View and mends its checksums.
 * @returns what the change adds to the sum of the ICMP message. Quoted words lie at even offsets of the message, so
 * their changes count as they are.
 */
export function rewriteQuoted(packet: View): u32 {
  const inner = quoted(packet);
  const addressDelta =
    delta64(packet.quotedSourceHead, packet.newSourceHead) + delta64(packet.quotedSourceTail, packet.newSourceTail) +
    delta64(packet.quotedDestinationHead, packet.newDestinationHead) + delta64(packet.quotedDestinationTail, packet.newDestinationTail);
  const portDelta = delta32(packet.quotedPortsBe, packet.newPortsBe);
  let change = fold(addressDelta + portDelta);
  if (packet.isIpv6) {
    store<u64>(inner, packet.newSourceHead, 8);
    store<u64>(inner, packet.newSourceTail, 16);
    store<u64>(inner, packet.newDestinationHead, 24);
    store<u64>(inner, packet.newDestinationTail, 32);
  } else {
    store<u32>(inner, <u32>(packet.newSourceTail >>> 32), 12);
    store<u32>(inner, <u32>(packet.newDestinationTail >>> 32), 16);
    const headerSum: u32 = load<u16>(inner, 10);
    const newHeaderSum = updated(headerSum, addressDelta);
    store<u16>(inner, newHeaderSum, 10);
    change += delta16(headerSum, newHeaderSum);
  }
  const l4: usize = packet.quotedLayer4;
  store<u32>(l4, packet.newPortsBe);
  const isTcp = packet.quotedProtocol == TCP;
  const at: usize = isTcp ? l4 + 16 : l4 + 6;
  if (inHeadFrom(packet, l4) < <u32>(isTcp ? 18 : 8)) return change;
  const sum: u32 = load<u16>(at);
  if (!isTcp && sum == 0) return change;
  const moved = updated(sum, addressDelta + portDelta);
  const stored = isTcp ? moved : udpChecksum(moved);
  store<u16>(at, stored);
  return change + delta16(sum, stored);
}
