/** Reading the published image: which address, which rule, which server. Changes nothing. */
import { isLinkScope, isMapped } from "./address";
import { image } from "./bases";
import {
  ENDPOINT_SIZE,
  Endpoint,
  IMAGE_MEMBER_SIZE,
  IMAGE_RULE_SIZE,
  IMAGE_SERVER_SIZE,
  ImageHeader,
  ImageMember,
  ImageRule,
  ImageServer,
  IMAGE_DRAIN_SIZE,
  ImageDrain,
  NONE,
  PORT_INTERVAL_SIZE,
  PortInterval,
  View,
} from "./gen/layout";
import { endpointHash } from "./hash";

// @ts-ignore: decorator
@inline
function header(): ImageHeader {
  return changetype<ImageHeader>(image);
}

/** What the image knows about an address, null when nothing. */
export function findEndpoint(head: u64, tail: u64): Endpoint | null {
  if (image == 0) return null;
  const mask = header().endpointMask;
  let at = endpointHash(head, tail) & mask;
  // The writer leaves at least half of the table empty.
  while (true) {
    const index = load<u32>(<usize>header().endpointTable + (<usize>at << 2));
    if (index == 0) return null;
    const endpoint = changetype<Endpoint>(<usize>header().endpoints + <usize>(index - 1) * ENDPOINT_SIZE);
    if (endpoint.addressTail == tail && endpoint.addressHead == head) return endpoint;
    at = (at + 1) & mask;
  }
}

/** What the image knows about the packet's destination. Link-local and multicast addresses are never ours. */
export function destinationOf(packet: View): Endpoint | null {
  return packet.isIpv6 ? findDestination6(packet.destinationHead, packet.destinationTail) : findEndpoint(packet.destinationHead, packet.destinationTail);
}

/** What the image knows about the destination of an IPv6 packet. */
export function findDestination6(head: u64, tail: u64): Endpoint | null {
  return isLinkScope(head) || isMapped(head, tail) ? null : findEndpoint(head, tail);
}

/** What the image knows about the packet's source. */
export function sourceOf(packet: View): Endpoint | null {
  return findEndpoint(packet.sourceHead, packet.sourceTail);
}

/** The interval of [first, end) that holds a port, null when none. */
function findInterval(first: u32, end: u32, port: u32): PortInterval | null {
  const base = <usize>header().intervals;
  while (first < end) {
    const middle = (first + end) >>> 1;
    const interval = changetype<PortInterval>(base + <usize>middle * PORT_INTERVAL_SIZE);
    if (port < interval.min) end = middle;
    else if (port > interval.max) first = middle + 1;
    else return interval;
  }
  return null;
}

/** The rule with this VIP, protocol and port, null when none. */
export function findRule(vip: Endpoint, isTcp: bool, port: u32): ImageRule | null {
  const interval = isTcp ? findInterval(vip.first, vip.endRuleTcp, port) : findInterval(vip.endRuleTcp, vip.endRuleUdp, port);
  return interval ? ruleAt(interval.rule) : null;
}

/** Whether packets to this port of the address are kept from the kernel. */
export function guardsDestination(endpoint: Endpoint, isTcp: bool, port: u32): bool {
  const interval = isTcp ? findInterval(endpoint.endRuleUdp, endpoint.endToTcp, port) : findInterval(endpoint.endToTcp, endpoint.endToUdp, port);
  return interval != null;
}

/** Whether packets from this port of the address are kept from the kernel. */
export function guardsSource(endpoint: Endpoint, isTcp: bool, port: u32): bool {
  const interval = isTcp ? findInterval(endpoint.endToUdp, endpoint.endFromTcp, port) : findInterval(endpoint.endFromTcp, endpoint.endFromUdp, port);
  return interval != null;
}

export function ruleAt(index: u32): ImageRule {
  return changetype<ImageRule>(<usize>header().rules + <usize>index * IMAGE_RULE_SIZE);
}

// @ts-ignore: decorator
@inline
export function ruleCount(): u32 {
  return image == 0 ? 0 : header().ruleCount;
}

/** The rule that ICMP to a VIP counts for, null when the VIP has none. */
export function icmpRule(endpoint: Endpoint): ImageRule | null {
  return endpoint.icmpRule == NONE ? null : ruleAt(endpoint.icmpRule);
}

/** @param index 0..rule.memberCount-1, ascending by insertSequence */
// @ts-ignore: decorator
@inline
export function memberAt(rule: ImageRule, index: u32): ImageMember {
  return changetype<ImageMember>(<usize>header().members + <usize>(rule.memberFirst + index) * IMAGE_MEMBER_SIZE);
}

/** Index of a member, in the order in which members became enabled. @param index 0..rule.enabledCount-1 */
// @ts-ignore: decorator
@inline
export function enabledMember(rule: ImageRule, index: u32): u32 {
  return load<u32>(<usize>header().enabledMembers + (<usize>(rule.memberFirst + index) << 2));
}

export function serverAt(index: u32): ImageServer {
  return changetype<ImageServer>(<usize>header().servers + <usize>index * IMAGE_SERVER_SIZE);
}

/** Index of the first member whose insertSequence is over `sequence`; memberCount when there is none. */
export function membersUpTo(rule: ImageRule, sequence: u32): u32 {
  let first: u32 = 0;
  let end = rule.memberCount;
  while (first < end) {
    const middle = (first + end) >>> 1;
    if (memberAt(rule, middle).insertSequence <= sequence) first = middle + 1;
    else end = middle;
  }
  return first;
}

/** The rule of this id, null when the image has none. */
function ruleOfId(id: u32): ImageRule | null {
  const base = <usize>header().rulesById;
  let first: u32 = 0;
  let end = header().ruleCount;
  while (first < end) {
    const middle = (first + end) >>> 1;
    const rule = ruleAt(load<u32>(base + (<usize>middle << 2)));
    if (rule.id == id) return rule;
    if (rule.id < id) first = middle + 1;
    else end = middle;
  }
  return null;
}

/** Whether the image names the pair. */
export function hasPair(ruleId: u32, serverId: u32): bool {
  if (image == 0) return false;
  const rule = ruleOfId(ruleId);
  if (rule == null) return false;
  const base = <usize>header().memberIds + (<usize>rule.memberFirst << 2);
  let first: u32 = 0;
  let end = rule.memberCount;
  while (first < end) {
    const middle = (first + end) >>> 1;
    const found = load<u32>(base + (<usize>middle << 2));
    if (found == serverId) return true;
    if (found < serverId) first = middle + 1;
    else end = middle;
  }
  return false;
}

/** The pair's drain deadline, null when it has none. */
export function findDrain(ruleId: u32, serverId: u32): ImageDrain | null {
  if (image == 0) return null;
  const key = (<u64>ruleId << 32) | serverId;
  let first: u32 = 0;
  let end = header().drainCount;
  while (first < end) {
    const middle = (first + end) >>> 1;
    const drain = changetype<ImageDrain>(<usize>header().drains + <usize>middle * IMAGE_DRAIN_SIZE);
    if (drain.key == key) return drain;
    if (drain.key < key) first = middle + 1;
    else end = middle;
  }
  return null;
}
