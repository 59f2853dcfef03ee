/**
 * ICMP to a VIP or a proxy address (specification E.8): echo requests are answered, fragmentation needed is translated
 * for the server, what the box itself waits for goes to the kernel.
 */
import { isMartian4, swap16, unmapped } from "./address";
import { delta16, delta32, fold, udpChecksum, updated } from "./checksum";
import { leaveToServer } from "./egress";
import { flowAt, isClosed, refresh, serverPortBeOf, sourceTailOf } from "./flows";
import { findSlot, metaOf, recordOf } from "./flow-table";
import {
  Descriptor,
  Direction,
  ENDPOINT_PROXY,
  ENDPOINT_VIP,
  ENDPOINT_VIP_LOCAL,
  Endpoint,
  FlowState,
  ImageRule,
  META_REVERSE,
  NONE,
  REPLY_TTL,
  Reason,
  View,
} from "./gen/layout";
import { tupleKey4 } from "./hash";
import { findEndpoint, icmpRule } from "./image";
import { emit } from "./made";
import { pairAt } from "./pairs";
import { MAC_BITS, OFFSET_BITS, TCP, UDP } from "./parse";
import { describe, joinAddresses, stepTtl, writeLink } from "./rewrite";
import { port, ruleState } from "./state";

const ECHO_REPLY: u32 = 0;
const UNREACHABLE: u32 = 3;
const ECHO_REQUEST: u32 = 8;
const TIME_EXCEEDED: u32 = 11;
const PARAMETER_PROBLEM: u32 = 12;
const FRAGMENTATION_NEEDED: u32 = 4;
/** ICMP header before the quoted packet (RFC 792). */
const QUOTE: u32 = 8;

export function processIcmp(packet: View, now: u32): u32 {
  const to = findEndpoint(packet.destinationHead, packet.destinationTail);
  if (to == null) return Reason.Unguarded;
  const inHead = packet.headAvailable - packet.headerLength;
  if (!(to.flags & ENDPOINT_VIP)) {
    return guardsProxyIcmp(to, packet) ? Reason.ProxyIcmp : Reason.Unguarded;
  }
  const rule = icmpRule(to);
  if (rule == null) return Reason.RuleGone;
  const descriptor = changetype<Descriptor>(packet.descriptor);
  descriptor.ruleId = rule.id;
  descriptor.direction = <u8>Direction.ClientToServer;
  return toVip(packet, to, rule, inHead, now);
}

/** Whether the guard takes an ICMP message to a proxy address for us: errors only, so that the box answers its own pings. */
export function guardsProxyIcmp(to: Endpoint, packet: View): bool {
  return (to.flags & ENDPOINT_PROXY) != 0 && packet.headAvailable > packet.headerLength && isError(load<u8>(packet.layer4));
}

function isError(type: u32): bool {
  return type == UNREACHABLE || type == TIME_EXCEEDED || type == PARAMETER_PROBLEM;
}

function toVip(packet: View, to: Endpoint, rule: ImageRule, inHead: u32, now: u32): u32 {
  const counters = ruleState(rule.slot);
  if (inHead < QUOTE) {
    counters.icmpDropped += 1;
    return Reason.IcmpTruncated;
  }
  const type: u32 = load<u8>(packet.layer4);
  if (type == ECHO_REQUEST) {
    if (isMartian4(unmapped(packet.sourceTail))) return Reason.MartianSource;
    counters.icmpEchoProcessed += 1;
    answerEcho(packet);
    return Reason.EchoAnswered;
  }
  const isTooBig = type == UNREACHABLE && load<u8>(packet.layer4, 1) == FRAGMENTATION_NEEDED;
  const isQuoted = isError(type) && findQuoted(packet);
  if (to.flags & ENDPOINT_VIP_LOCAL && (type == ECHO_REPLY || (isError(type) && !isQuoted))) return toTheBox(packet);
  if (!isTooBig) {
    counters.icmpDropped += 1;
    return Reason.IcmpToVip;
  }
  if (!isQuoted) {
    counters.icmpTooBigDropped += 1;
    return Reason.TooBigUnknown;
  }
  return translateTooBig(packet, rule, now);
}

/** The message answers the box's own traffic; no rule has to do with it. */
function toTheBox(packet: View): u32 {
  const descriptor = changetype<Descriptor>(packet.descriptor);
  descriptor.ruleId = 0;
  descriptor.direction = <u8>Direction.None;
  return Reason.LocalIcmp;
}

/** Turns an echo request round where it stands (RFC 792, RFC 1122 section 3.2.2.6). */
function answerEcho(packet: View): void {
  const ip: usize = packet.layer3;
  const l4: usize = packet.layer4;
  const ttlBefore: u32 = load<u16>(ip, 8);
  const ttlAfter: u32 = (ttlBefore & 0xff00) | REPLY_TTL;
  store<u8>(ip, REPLY_TTL, 8);
  store<u16>(ip, updated(load<u16>(ip, 10), delta16(ttlBefore, ttlAfter)), 10);
  store<u64>(ip, rotl<u64>(load<u64>(ip, 12), 32), 12);
  const typeBefore: u32 = load<u16>(l4);
  store<u8>(l4, ECHO_REPLY);
  store<u16>(l4, updated(load<u16>(l4, 2), delta16(typeBefore, typeBefore & 0xff00)), 2);
  packet.outPort = packet.inPort;
  packet.outKind = packet.inKind;
  packet.nextHop = packet.sourceHop & MAC_BITS;
  packet.nextSource = port(packet.inPort).mac;
  writeLink(packet);
}

// --- fragmentation needed: it quotes what we sent to the client, so it is for the server ---

/** Offset of the quoted packet. */
// @ts-ignore: decorator
@inline
function quoted(packet: View): usize {
  return packet.layer4 + QUOTE;
}

// @ts-ignore: decorator
@inline
function quotedTransport(packet: View): usize {
  return quoted(packet) + ((<u32>load<u8>(quoted(packet)) & 15) << 2);
}

/** Bytes of the message that lie in the head block from `at` on. */
// @ts-ignore: decorator
@inline
function inHeadFrom(packet: View, at: usize): u32 {
  return packet.layer3 + packet.headAvailable - <u32>at;
}

/** Looks the quoted packet (VIP to client) up as the client's tuple. Sets packet.flow and packet.slot. */
function findQuoted(packet: View): bool {
  const inner = quoted(packet);
  const available = inHeadFrom(packet, inner);
  if (available < 28) return false;
  const first: u32 = load<u8>(inner);
  const header = (first & 15) << 2;
  if (first >>> 4 != 4 || header < 20 || available < header + 8) return false;
  const protocol: u32 = load<u8>(inner, 9);
  if ((protocol != TCP && protocol != UDP) || swap16(load<u16>(inner, 6)) & OFFSET_BITS) return false;
  const ports = load<u32>(inner + header);
  const slot = findSlot(tupleKey4(load<u32>(inner, 16), load<u32>(inner, 12), rotl<u32>(ports, 16), protocol));
  if (slot == NONE || metaOf(slot) & META_REVERSE) return false;
  const flow = flowAt(recordOf(slot));
  const pair = pairAt(flow.pair);
  if (unmapped(flow.clientTail) != load<u32>(inner, 16) || unmapped(pair.vipTail) != load<u32>(inner, 12) || flow.protocol != protocol) return false;
  if (<u32>flow.vipPortBe != (ports & 0xffff) || <u32>flow.clientPortBe != ports >>> 16) return false;
  packet.flow = recordOf(slot);
  packet.slot = slot;
  return true;
}

function translateTooBig(packet: View, rule: ImageRule, now: u32): u32 {
  const flow = flowAt(packet.flow);
  const pair = pairAt(flow.pair);
  const descriptor = changetype<Descriptor>(packet.descriptor);
  describe(packet, pair);
  descriptor.flowState = <u8>FlowState.Found;
  const reason = leaveToServer(packet, pair.nextHop, false, now);
  if (reason != NONE) return reason;
  ruleState(rule.slot).icmpTooBigProcessed += 1;
  if (!isClosed(flow)) refresh(packet.slot, pair.idleTimeoutMs, now);
  const sourceTail = sourceTailOf(flow, pair);
  const change = rewriteQuoted(packet, joinAddresses(pair.serverTail, sourceTail), serverPortBeOf(flow, pair) | (<u32>flow.sourcePortBe << 16));
  store<u16>(packet.layer4, updated(load<u16>(packet.layer4, 2), change), 2);
  rewriteOuter(packet, unmapped(pair.serverTail), flow.clientTail == sourceTail ? 0 : unmapped(sourceTail));
  if (packet.stepsTtl) stepTtl(packet.layer3);
  emit(packet);
  return packet.fragments ? Reason.FragmentsMade : Reason.TooBigTranslated;
}

/** @param source new outer source, 0: the router's own stays */
function rewriteOuter(packet: View, destination: u32, source: u32): void {
  const ip: usize = packet.layer3;
  let change = delta32(load<u32>(ip, 16), destination);
  store<u32>(ip, destination, 16);
  if (source) {
    change += delta32(load<u32>(ip, 12), source);
    store<u32>(ip, source, 12);
  }
  store<u16>(ip, updated(load<u16>(ip, 10), change), 10);
}

/**
 * Rewrites the quoted packet and its checksums. @returns what the change adds to the sum of the ICMP message
 * Quoted words lie at even offsets of the message, so their changes count as they are.
 */
function rewriteQuoted(packet: View, addresses: u64, portsBe: u32): u32 {
  const inner = quoted(packet);
  const l4 = quotedTransport(packet);
  const addressDelta = delta32(load<u32>(inner, 12), <u32>addresses) + delta32(load<u32>(inner, 16), <u32>(addresses >>> 32));
  const portDelta = delta32(load<u32>(l4), portsBe);
  const headerSum: u32 = load<u16>(inner, 10);
  const newHeaderSum = updated(headerSum, addressDelta);
  let change = fold(addressDelta + portDelta) + delta16(headerSum, newHeaderSum);
  store<u64>(inner, addresses, 12);
  store<u16>(inner, newHeaderSum, 10);
  store<u32>(l4, portsBe);
  const isTcp = load<u8>(inner, 9) == TCP;
  const at: usize = isTcp ? l4 + 16 : l4 + 6;
  if (inHeadFrom(packet, l4) < (isTcp ? 18 : 8)) return change;
  const sum: u32 = load<u16>(at);
  if (!isTcp && sum == 0) return change;
  const moved = updated(sum, addressDelta + portDelta);
  const stored = isTcp ? moved : udpChecksum(moved);
  store<u16>(at, stored);
  return change + delta16(sum, stored);
}
