/**
 * ICMP and ICMPv6 to a VIP, to a proxy address, or about a packet to a server (specification E.8): echo requests are
 * answered, errors are translated for the server or the client whose packets they quote (in mode `ilb` too big for the server only), what the box itself
 * waits for goes to the kernel.
 */
import { isMartian4, isMartian6, swap16, unmapped } from "./address";
import { isIlb } from "./bases";
import { delta16, updated } from "./checksum";
import { leaveToClient, leaveToServer } from "./egress";
import { clientHopOf, flowAt, isClosed, isUnanswered, refresh, serverPortBeOf, sourceHeadOf, sourceTailOf } from "./flows";
import { metaOf } from "./flow-table";
import { guardsFirst } from "./guarded";
import {
  Descriptor,
  Direction,
  ENDPOINT_PROXY,
  ENDPOINT_VIP,
  ENDPOINT_VIP_LOCAL,
  Endpoint,
  FlowState,
  ImageRule,
  NONE,
  RULE_ENABLED,
  Reason,
  RuleState,
  RuleType,
  View,
} from "./gen/layout";
import { destinationOf, findEndpoint, findRule, icmpRule, memberAt, serverAt } from "./image";
import { emit } from "./made";
import { countRefused, pairAt } from "./pairs";
import { MAC_BITS, TCP } from "./parse";
import { findQuotedFlow, isQuotedToServer, QUOTE, readQuoted, rewriteQuoted } from "./quoted";
import { describe, rewriteAddresses, stepTtl, turnRound, writeLink } from "./rewrite";
import { chooseQuoted } from "./select";
import { port, ruleState } from "./state";

const ECHO_REPLY: u32 = 0;
const UNREACHABLE: u32 = 3;
const ECHO_REQUEST: u32 = 8;
const TIME_EXCEEDED: u32 = 11;
const PARAMETER_PROBLEM: u32 = 12;
const FRAGMENTATION_NEEDED: u32 = 4;
/** ICMPv6 (RFC 4443 section 2.1): 1 unreachable, 2 too big, 3 time exceeded, 4 parameter problem. */
const UNREACHABLE6: u32 = 1;
const TOO_BIG6: u32 = 2;
const LAST_ERROR6: u32 = 4;
const ECHO_REQUEST6: u32 = 128;
const ECHO_REPLY6: u32 = 129;

export function processIcmp(packet: View, now: u32): u32 {
  const inHead = packet.headAvailable - packet.headerLength;
  if (packet.isIpv6 && inHead != 0 && belongsToHost(load<u8>(packet.layer4))) return Reason.Unguarded;
  const to = destinationOf(packet);
  if (to == null || !(to.flags & ENDPOINT_VIP)) return elsewhere(packet, to, inHead, now);
  const rule = icmpRule(to);
  if (rule == null) return Reason.RuleGone;
  nameRule(packet, rule);
  return toVip(packet, to, rule, inHead, now);
}

/** The rule that the message counts for. */
function nameRule(packet: View, rule: ImageRule): void {
  const descriptor = changetype<Descriptor>(packet.descriptor);
  descriptor.ruleId = rule.id;
  descriptor.direction = <u8>Direction.ClientToServer;
}

/** To an address that is no VIP. Guarded are errors about packets that we may have sent to a server, and those to proxies. */
function elsewhere(packet: View, to: Endpoint | null, inHead: u32, now: u32): u32 {
  const isToProxy = guardsProxyIcmp(to, packet);
  if (!isToProxy && !quotesServer(packet)) return Reason.Unguarded;
  if (!isIlb && inHead >= QUOTE && readQuoted(packet) && findSent(packet)) return translateForClient(packet, now);
  return isToProxy ? Reason.ProxyIcmp : Reason.ServerIcmp;
}

/**
 * The first fragment of an ICMP message, mode `modern`. Echo requests to a remote VIP are answered fragment by fragment
 * (fragments.ts); what a local VIP gets is the kernel's, which can put it together.
 */
export function processIcmpFragment(packet: View, to: Endpoint | null, from: Endpoint | null): u32 {
  if (!guardsFirst(packet, to, from)) return Reason.Unguarded;
  if (to == null || !(to.flags & ENDPOINT_VIP)) return to && to.flags & ENDPOINT_PROXY ? Reason.ProxyFragment : Reason.ServerFragment;
  const rule = icmpRule(to);
  if (rule == null || to.flags & ENDPOINT_VIP_LOCAL) return Reason.VipFragment;
  if (packet.headAvailable - packet.headerLength < QUOTE || !isEchoRequest(packet)) return Reason.FragmentToVip;
  nameRule(packet, rule);
  return toAnswer(packet, ruleState(rule));
}

/** Multicast listeners, routers, neighbours: 130 to 137 and 143 (RFC 2710, RFC 3810, RFC 4861). */
function belongsToHost(type: u32): bool {
  return (type >= 130 && type <= 137) || type == 143;
}

/** Whether the guard takes an ICMP message for us. @param to what the image knows of its destination */
export function guardsIcmp(to: Endpoint | null, packet: View): bool {
  if (packet.isIpv6 && (packet.headAvailable <= packet.headerLength || belongsToHost(load<u8>(packet.layer4)))) return false;
  return (to && to.flags & ENDPOINT_VIP) || guardsProxyIcmp(to, packet) || quotesServer(packet);
}

/** Whether it is an error about a packet to a server, as the guard sees it: by the quoted destination and nothing else. */
function quotesServer(packet: View): bool {
  return packet.headAvailable > packet.headerLength && isError(packet, load<u8>(packet.layer4)) && isQuotedToServer(packet);
}

/** To a proxy address: errors only, so that the box answers its own pings. */
function guardsProxyIcmp(to: Endpoint | null, packet: View): bool {
  return to != null && (to.flags & ENDPOINT_PROXY) != 0 && packet.headAvailable > packet.headerLength && isError(packet, load<u8>(packet.layer4));
}

/** Whether the ICMP message in hand is an error. */
export function isErrorMessage(packet: View): bool {
  return packet.headAvailable > packet.headerLength && isError(packet, load<u8>(packet.layer4));
}

function isError(packet: View, type: u32): bool {
  if (packet.isIpv6) return type != 0 && type <= LAST_ERROR6;
  return type == UNREACHABLE || type == TIME_EXCEEDED || type == PARAMETER_PROBLEM;
}

/** Fragmentation needed, or packet too big. */
function isTooBig(packet: View, type: u32): bool {
  return packet.isIpv6 ? type == TOO_BIG6 : type == UNREACHABLE && load<u8>(packet.layer4, 1) == FRAGMENTATION_NEEDED;
}

/** Destination unreachable, whatever is; not fragmentation needed, which shares the type in ICMP. */
function isUnreachable(packet: View, type: u32): bool {
  return packet.isIpv6 ? type == UNREACHABLE6 : type == UNREACHABLE && load<u8>(packet.layer4, 1) != FRAGMENTATION_NEEDED;
}

function toVip(packet: View, to: Endpoint, rule: ImageRule, inHead: u32, now: u32): u32 {
  const counters = ruleState(rule);
  if (inHead < QUOTE) {
    counters.icmpDropped += 1;
    return Reason.IcmpTruncated;
  }
  const type: u32 = load<u8>(packet.layer4);
  if (isEchoRequest(packet)) return toAnswer(packet, counters);
  const isQuoting = isError(packet, type) && readQuoted(packet);
  const isQuoted = isQuoting && findQuotedFlow(packet, false);
  if (isQuoting && !isIlb) {
    if (isQuoted) return translateForServer(packet, rule, isTooBig(packet, type), now);
    if (findSent(packet)) return translateForClient(packet, now);
    const reason = sendDirect(packet, rule, isTooBig(packet, type), now);
    if (reason != NONE) return reason;
  }
  const isReply = type == (packet.isIpv6 ? ECHO_REPLY6 : ECHO_REPLY);
  if (to.flags & ENDPOINT_VIP_LOCAL && (isReply || (isError(packet, type) && !isQuoted))) return toTheBox(packet);
  if (!isTooBig(packet, type)) {
    counters.icmpDropped += 1;
    return Reason.IcmpToVip;
  }
  if (!isQuoted) {
    counters.icmpTooBigDropped += 1;
    return Reason.TooBigUnknown;
  }
  return translateForServer(packet, rule, true, now);
}

/** The message answers the box's own traffic; no rule has to do with it. */
function toTheBox(packet: View): u32 {
  const descriptor = changetype<Descriptor>(packet.descriptor);
  descriptor.ruleId = 0;
  descriptor.direction = <u8>Direction.None;
  return Reason.LocalIcmp;
}

function isEchoRequest(packet: View): bool {
  return load<u8>(packet.layer4) == (packet.isIpv6 ? ECHO_REQUEST6 : ECHO_REQUEST);
}

/** Answers an echo request, whole or its first fragment (RFC 792, RFC 1122 section 3.2.2.6, RFC 4443 section 4.2). */
function toAnswer(packet: View, counters: RuleState): u32 {
  if (packet.isIpv6 ? isMartian6(packet.sourceHead, packet.sourceTail) : isMartian4(unmapped(packet.sourceTail))) return Reason.MartianSource;
  counters.icmpEchoProcessed += 1;
  const l4: usize = packet.layer4;
  const typeBefore: u32 = load<u16>(l4);
  const typeAfter = (typeBefore & 0xff00) | (packet.isIpv6 ? ECHO_REPLY6 : ECHO_REPLY);
  store<u16>(l4, typeAfter);
  // In ICMPv6 the addresses count too, but swapped they add up to the same.
  store<u16>(l4, updated(load<u16>(l4, 2), delta16(typeBefore, typeAfter)), 2);
  sendBack(packet);
  return Reason.EchoAnswered;
}

/** Turns a packet round and sends it to where it came from. */
export function sendBack(packet: View): void {
  turnRound(packet);
  packet.outPort = packet.inPort;
  packet.outKind = packet.inKind;
  packet.nextHop = packet.sourceHop & MAC_BITS;
  packet.nextSource = port(packet.inPort).mac;
  writeLink(packet);
}

/** A message about what we sent to the client: it is for the server. */
function translateForServer(packet: View, rule: ImageRule, isTooBig: bool, now: u32): u32 {
  const flow = flowAt(packet.flow);
  const pair = pairAt(flow.pair);
  const descriptor = changetype<Descriptor>(packet.descriptor);
  describe(packet, pair);
  descriptor.flowState = <u8>FlowState.Found;
  const reason = leaveToServer(packet, pair.nextHop, false, now);
  if (reason != NONE) return reason;
  if (isTooBig) {
    ruleState(rule).icmpTooBigProcessed += 1;
    if (!isClosed(flow)) refresh(packet.slot, pair.idleTimeoutMs, now);
  }
  packet.newSourceHead = pair.serverHead;
  packet.newSourceTail = pair.serverTail;
  packet.newDestinationHead = sourceHeadOf(flow, pair);
  packet.newDestinationTail = sourceTailOf(flow, pair);
  packet.newPortsBe = serverPortBeOf(flow, pair) | (<u32>flow.sourcePortBe << 16);
  const change = rewriteQuoted(packet);
  const isNat = pair.type == RuleType.Nat;
  packet.newSourceHead = isNat ? sourceHeadOf(flow, pair) : packet.sourceHead;
  packet.newSourceTail = isNat ? sourceTailOf(flow, pair) : packet.sourceTail;
  packet.newDestinationHead = pair.serverHead;
  packet.newDestinationTail = pair.serverTail;
  sendRewritten(packet, change);
  return sentReason(packet, isTooBig);
}

// @ts-ignore: decorator
@inline
function sentReason(packet: View, isTooBig: bool): u32 {
  if (packet.fragments) return Reason.FragmentsMade;
  return isTooBig ? Reason.TooBigTranslated : Reason.IcmpErrorTranslated;
}

/** Whether the quoted packet is one that we sent to a server, and the message is for its sender as that packet names him. */
function findSent(packet: View): bool {
  if (packet.quotedSourceTail != packet.destinationTail || packet.quotedSourceHead != packet.destinationHead) return false;
  return findQuotedFlow(packet, true);
}

/**
 * A message about what we sent to a server: it is for the client, who must not learn of anything behind the VIP. In full
 * NAT it came to the proxy address, in HALF-NAT to the client's own.
 */
function translateForClient(packet: View, now: u32): u32 {
  const flow = flowAt(packet.flow);
  const pair = pairAt(flow.pair);
  const descriptor = changetype<Descriptor>(packet.descriptor);
  describe(packet, pair);
  descriptor.direction = <u8>Direction.ServerToClient;
  descriptor.flowState = <u8>FlowState.Found;
  const reason = leaveToClient(packet, clientHopOf(flow, metaOf(packet.slot)), now);
  if (reason != NONE) return reason;
  if (isUnreachable(packet, load<u8>(packet.layer4)) && isUnanswered(flow)) countRefused(flow.pair);
  packet.newSourceHead = flow.clientHead;
  packet.newSourceTail = flow.clientTail;
  packet.newDestinationHead = pair.vipHead;
  packet.newDestinationTail = pair.vipTail;
  packet.newPortsBe = <u32>flow.clientPortBe | (<u32>flow.vipPortBe << 16);
  const change = rewriteQuoted(packet);
  packet.newSourceHead = pair.vipHead;
  packet.newSourceTail = pair.vipTail;
  packet.newDestinationHead = flow.clientHead;
  packet.newDestinationTail = flow.clientTail;
  sendRewritten(packet, change);
  return sentReason(packet, isTooBig(packet, load<u8>(packet.layer4)));
}

/** A message about what a DSR server sent: to the server that the quoted tuple selects. @returns NONE when there is none */
function sendDirect(packet: View, counting: ImageRule, isTooBig: bool, now: u32): u32 {
  const vip = findEndpoint(packet.quotedSourceHead, packet.quotedSourceTail);
  const rule = vip ? findRule(vip, packet.quotedProtocol == TCP, swap16(packet.quotedPortsBe & 0xffff)) : null;
  if (rule == null || rule.type != RuleType.Dsr || !(rule.flags & RULE_ENABLED)) return NONE;
  const pick = chooseQuoted(rule, packet);
  if (pick == NONE) return NONE;
  const member = memberAt(rule, pick);
  const descriptor = changetype<Descriptor>(packet.descriptor);
  descriptor.ruleId = rule.id;
  descriptor.serverId = member.serverId;
  const reason = leaveToServer(packet, serverAt(member.server).nextHop, true, now);
  if (reason != NONE) return reason;
  if (isTooBig) ruleState(counting).icmpTooBigProcessed += 1;
  if (packet.stepsTtl) stepTtl(packet);
  emit(packet);
  return sentReason(packet, isTooBig);
}

/** Gives a message its new outer addresses and sends it. @param change what was changed of the message behind them */
function sendRewritten(packet: View, change: u32): void {
  const outer = rewriteAddresses(packet);
  // The checksum of ICMPv6 covers the addresses (RFC 4443 section 2.3).
  if (packet.isIpv6) change += outer;
  store<u16>(packet.layer4, updated(load<u16>(packet.layer4, 2), change), 2);
  emit(packet);
}
