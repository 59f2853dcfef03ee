/**
 * IPv6 extension headers (RFC 8200 section 4): walked to find the transport header, within bounds. The walk is the one
 * that nftables makes, so that engine and guard find the same ports. Knows which headers the mode does not balance.
 */
import { swap16 } from "./address";
import { isIlb } from "./bases";
import { CHAIN_MALFORMED, CHAIN_PLAIN, CHAIN_TOO_LONG, CHAIN_UNBALANCED, MAX_EXTENSION_BYTES, MAX_EXTENSION_HEADERS, View } from "./gen/layout";

const HOP_BY_HOP: u32 = 0;
const ROUTING: u32 = 43;
const FRAGMENT: u32 = 44;
const AUTHENTICATION: u32 = 51;
const DESTINATION_OPTIONS: u32 = 60;
/** Bytes of the fixed header. */
export const IPV6_HEADER: u32 = 40;

/** Whether a next header is one of the extension headers. */
export function isExtension(next: u32): bool {
  return next == HOP_BY_HOP || next == ROUTING || next == FRAGMENT || next == AUTHENTICATION || next == DESTINATION_OPTIONS;
}

/** Bytes of an extension header (RFC 8200 section 4, RFC 4302 section 2.2). */
function lengthOf(kind: u32, at: usize): u32 {
  if (kind == FRAGMENT) return 8;
  const units: u32 = load<u8>(at, 1);
  return kind == AUTHENTICATION ? (units + 2) << 2 : (units + 1) << 3;
}

/** Whether packets with the header stay unbalanced: the checksum of such a packet may cover what we cannot see. */
function isUnbalanced(kind: u32, place: u32, at: usize): bool {
  if (isIlb) return kind != HOP_BY_HOP || place != 0;
  return kind == AUTHENTICATION || (kind == ROUTING && load<u8>(at, 3) != 0);
}

/**
 * Walks the extension headers of the packet at `ip`, whose fixed header is there.
 * @param total bytes of the packet @param inHead those that may be read
 * @returns CHAIN_…; sets chainLength, chainProtocol and the fragment fields of the View
 */
export function walkChain(packet: View, ip: usize, total: u32, inHead: u32): u32 {
  let next: u32 = load<u8>(ip, 6);
  let at = IPV6_HEADER;
  let chain: u32 = CHAIN_PLAIN;
  let sawFragment = false;
  packet.fragmentOffset = 0;
  packet.moreFragments = 0;
  packet.fragmentId = 0;
  for (let place: u32 = 0; isExtension(next) && packet.fragmentOffset == 0; place++) {
    if (place == MAX_EXTENSION_HEADERS) return CHAIN_TOO_LONG;
    if (at + 8 > total) return CHAIN_MALFORMED;
    if (at + 8 > inHead) return CHAIN_TOO_LONG;
    const header = ip + at;
    const length = lengthOf(next, header);
    if (at + length > total) return CHAIN_MALFORMED;
    if (at + length > inHead || at + length > IPV6_HEADER + MAX_EXTENSION_BYTES) return CHAIN_TOO_LONG;
    if (isUnbalanced(next, place, header)) chain = CHAIN_UNBALANCED;
    if (next == FRAGMENT) {
      if (sawFragment) return CHAIN_MALFORMED;
      sawFragment = true;
      const word = swap16(load<u16>(header, 2));
      packet.fragmentOffset = word & 0xfff8;
      packet.moreFragments = word & 1;
      packet.fragmentId = load<u32>(header, 4);
    }
    next = load<u8>(header);
    at += length;
  }
  packet.chainLength = at;
  packet.chainProtocol = next;
  return chain;
}
