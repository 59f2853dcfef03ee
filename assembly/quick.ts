/**
 * The fast path: packets of established flows, rewritten and sent on without the flow record, where they do not need it.
 * A run of packets of one family is one loop. What a packet lacks for it shows before anything is changed; it then goes
 * to processPacket(), which decides the same about everyday packets, only slower.
 */
import { swap16 } from "./address";
import { buckets, descriptors, nextHopCount, nextHops, scratch } from "./bases";
import { delta16, updated, updatedPartial, udpChecksum } from "./checksum";
import { flowAt, indexedHop, serverPortBeOf, sourceHeadOf, sourceTailOf } from "./flows";
import { bucketAt, matchWays, otherBucket, recordOf } from "./flow-table";
import {
  DEADLINE_STEP_MS,
  DESCRIPTOR_SIZE,
  Descriptor,
  Direction,
  FlowState,
  HOP_IN_RECORD,
  HopState,
  MAX_PORTS,
  META_HOP_SHIFT,
  META_PAIR_SHIFT,
  META_RECORD,
  META_REVERSE,
  META_SLOW,
  NEXT_HOP_RECORD_SIZE,
  PairRecord,
  PortKind,
  Reason,
  SCRATCH_SIZE,
  Scratch,
  Verdict,
} from "./gen/layout";
import { SHAPE_IPV4, SHAPE_IPV6, SHAPE_LINK, SHAPE_PARTIAL, SHAPE_TCP, SHAPE_TOTAL } from "./inspect";
import { pairAt } from "./pairs";
import { IPV4_TYPE, IPV6_TYPE, MAC_BITS } from "./parse";
import { addressChange, joinAddresses, NEEDS_CSUM, replaceAddress, rewriteIpv4, rewriteTransport, TTL_STEP } from "./rewrite";
import { port } from "./state";

const OUTCOME: usize = offsetof<Descriptor>("outPort");
if (offsetof<Descriptor>("verdict") != OUTCOME + 1 || offsetof<Descriptor>("reason") != OUTCOME + 2) ERROR("OUTCOME");
if (offsetof<Descriptor>("flowState") != offsetof<Descriptor>("direction") + 1) ERROR("direction and flowState");
if (offsetof<Descriptor>("madeCount") != offsetof<Descriptor>("madeFirst") + 4) ERROR("madeFirst and madeCount");
if (offsetof<Descriptor>("serverId") != offsetof<Descriptor>("ruleId") + 4 || offsetof<PairRecord>("serverId") != offsetof<PairRecord>("ruleId") + 4) ERROR("ruleId and serverId");

/** An entry's meta, turned by META_HOP_SHIFT, without the rest: index of the client hop, META_SLOW in an upper bit. */
const HOP_AND_SLOW: u32 = 0xff | (META_SLOW << (32 - META_HOP_SHIFT));

/** No state and port of a way, which are 16 bits. */
export const NO_WAY: u32 = 0x10000;

/** Forwards IPv4 packets from `index` on. @returns index of the first that is of another family or needs the slow path; nothing of it has changed */
export function forwardIpv4(index: u32, count: u32, now: u32): u32 {
  return forwardRun(index, count, now, false);
}

/** The same for IPv6. */
export function forwardIpv6(index: u32, count: u32, now: u32): u32 {
  return forwardRun(index, count, now, true);
}

/** @param isIpv6 a constant, so that each family has code of its own */
// @ts-ignore: decorator
@inline
function forwardRun(index: u32, count: u32, now: u32, isIpv6: bool): u32 {
  const family: u32 = isIpv6 ? SHAPE_IPV6 : SHAPE_IPV4;
  let notes = changetype<Scratch>(scratch + <usize>index * SCRATCH_SIZE);
  let at = descriptors + <usize>index * DESCRIPTOR_SIZE;
  // State and port of the way to a server that has been looked at last and is open; none has this one.
  let openWay: u32 = NO_WAY;
  for (; index < count; index++) {
    const shape = notes.shape;
    if (!(shape & family)) break;
    const key = notes.key;
    let bucket: usize = notes.bucket;
    let ways = matchWays(bucket, key);
    if (!ways) {
      bucket = bucketAt(otherBucket(<u32>((bucket - buckets) >>> 6), key));
      ways = matchWays(bucket, key);
      if (!ways) break;
    }
    const entry = bucket + (<usize>ctz(ways) << 2);
    const meta = load<u32>(entry, 48);
    const hopAndSlow = rotr<u32>(meta, META_HOP_SHIFT) & HOP_AND_SLOW;
    if (hopAndSlow >= <u32>HOP_IN_RECORD) break;
    const hop = indexedHop(hopAndSlow);
    const pair = pairAt(meta >>> META_PAIR_SHIFT);
    const ip: usize = notes.layer3;
    const inPort: u32 = load<u8>(at, offsetof<Descriptor>("inPort"));
    let to = hop;
    let from: u64;
    let mtu: u32;
    if (meta & META_REVERSE) {
      const out = <u32>(hop >>> 48) & 0xff;
      if (out >= MAX_PORTS || port(out).kind != <u32>(shape & SHAPE_LINK ? PortKind.Ethernet : PortKind.Ip)) break;
      from = port(out).mac;
      mtu = port(out).mtu;
    } else if (shape & SHAPE_LINK) {
      if (((load<u64>(ip - 8) & MAC_BITS) | (<u64>inPort << 48) | (<u64>1 << 56)) != hop) break;
      if (pair.nextHop >= nextHopCount) break;
      const record = nextHops + <usize>pair.nextHop * NEXT_HOP_RECORD_SIZE;
      to = load<u64>(record);
      from = load<u64>(record, 8);
      mtu = <u32>(from >>> 48);
      const way = <u32>(to >>> 48);
      if (way != openWay) {
        if (!isOpen(way)) break;
        openWay = way;
      }
    } else {
      // The kernel routes what came in by an IP port (egress.ts); `hop` names just that port.
      if (((<u64>inPort << 48) | (<u64>1 << 56)) != hop) break;
      from = 0;
      mtu = port(inPort).mtu;
    }
    const total = shape & SHAPE_TOTAL;
    if ((shape & SHAPE_PARTIAL ? notes.mtuBytes : total) > mtu) break;

    if (meta & META_RECORD) {
      if (isIpv6) rewriteByRecord6(ip, shape, meta, entry, pair);
      else rewriteByRecord4(ip, shape, meta, entry, pair);
    } else if (isIpv6) {
      if (meta & META_REVERSE) rewrite6(ip, shape, pair, true);
      else rewrite6(ip, shape, pair, false);
    } else {
      if (meta & META_REVERSE) rewrite4(ip, shape, pair, true);
      else rewrite4(ip, shape, pair, false);
    }
    if (shape & SHAPE_LINK) writeMacs(ip, to, from, isIpv6);

    const due = now + pair.idleTimeoutMs;
    if (<i32>(due - load<u32>(entry, 32)) > 0) store<u32>(entry, due + DEADLINE_STEP_MS, 32);
    const direction: u32 = meta & META_REVERSE ? Direction.ServerToClient : Direction.ClientToServer;
    noteForwarded(at, pair, total, <u32>(to >>> 48), Reason.FlowFound, direction | (<u32>FlowState.Found << 8));
    at += DESCRIPTOR_SIZE;
    notes = changetype<Scratch>(changetype<usize>(notes) + SCRATCH_SIZE);
  }
  return index;
}

/** Gives the packet at `ip` its MAC header. @param to, from bytes 0..5 */
// @ts-ignore: decorator
@inline
export function writeMacs(ip: usize, to: u64, from: u64, isIpv6: bool): void {
  // Each store but the last runs two bytes too far, into what the next one writes.
  store<u64>(ip - 14, to);
  store<u64>(ip - 8, from);
  store<u16>(ip - 2, isIpv6 ? IPV6_TYPE : IPV4_TYPE);
}

/**
 * Counts a packet for its pair and writes down what became of it. @param at its Descriptor
 * @param outPort in the lowest byte @param part direction, and flowState in the byte above
 */
// @ts-ignore: decorator
@inline
export function noteForwarded(at: usize, pair: PairRecord, total: u32, outPort: u32, reason: u32, part: u32): void {
  pair.packets += 1;
  pair.bytes += total;
  const descriptor = changetype<Descriptor>(at);
  descriptor.vnetFlags &= <u8>NEEDS_CSUM;
  store<u8>(at, outPort, OUTCOME);
  store<u16>(at, <u32>Verdict.Forward | (reason << 8), OUTCOME + 1);
  store<u64>(at, load<u64>(changetype<usize>(pair)), offsetof<Descriptor>("ruleId"));
  store<u16>(at, part, offsetof<Descriptor>("direction"));
  store<u64>(at, 0, offsetof<Descriptor>("madeFirst"));
}

/** Whether a way, state and port as in the upper bits of NextHopRecord.destination, leads out of an Ethernet port. */
export function isOpen(way: u32): bool {
  const out = way & 0xff;
  return way >>> 8 == HopState.Resolved && out < MAX_PORTS && port(out).kind == PortKind.Ethernet;
}

/** Index of the flow record of an entry, given as its bucket's address and four times its way. */
function recordAt(entry: usize): u32 {
  return recordOf(<u32>(entry - buckets) >>> 6 << 2 | (<u32>(entry - buckets) >>> 2 & 3));
}

/** The new port of the end that is translated. @param before as loaded, @returns as stored */
// @ts-ignore: decorator
@inline
function translatedPort(before: u32, pair: PairRecord, reverse: bool): u32 {
  const known: u32 = reverse ? pair.vipPortBe : pair.serverPortBe;
  if (known) return known;
  return swap16(reverse ? swap16(before) - pair.portAdd : swap16(before) + pair.portAdd);
}

/** Gives TCP or UDP the new port of the translated end, and its checksum what belongs to that and to the new address. */
// @ts-ignore: decorator
@inline
function rewritePort(l4: usize, shape: u32, pair: PairRecord, addressDelta: u32, reverse: bool): void {
  const before: u32 = reverse ? load<u16>(l4) : load<u16>(l4, 2);
  const after = translatedPort(before, pair, reverse);
  if (reverse) store<u16>(l4, after);
  else store<u16>(l4, after, 2);
  if (shape & SHAPE_PARTIAL) {
    const at: usize = shape & SHAPE_TCP ? l4 + 16 : l4 + 6;
    store<u16>(at, updatedPartial(load<u16>(at), addressDelta));
  } else if (shape & SHAPE_TCP) {
    store<u16>(l4, updated(load<u16>(l4, 16), addressDelta + delta16(before, after)), 16);
  } else {
    const sum: u32 = load<u16>(l4, 6);
    if (sum) store<u16>(l4, udpChecksum(updated(sum, addressDelta + delta16(before, after))), 6);
  }
}

/** HALF-NAT over IPv4. @param reverse a constant */
// @ts-ignore: decorator
@inline
export function rewrite4(ip: usize, shape: u32, pair: PairRecord, reverse: bool): void {
  const delta = reverse ? pair.reverseDelta : pair.forwardDelta;
  // TTL, protocol and header checksum.
  let word = load<u32>(ip, 8);
  let change = delta;
  if (shape & SHAPE_LINK) {
    // It is at least 2, so it takes nothing from the byte beside it.
    word -= 1;
    change += TTL_STEP;
  }
  store<u32>(ip, (word & 0xffff) | (updated(word >>> 16, change) << 16), 8);
  if (reverse) store<u32>(ip, pair.vipIpv4Be, 12);
  else store<u32>(ip, pair.serverIpv4Be, 16);
  rewritePort(ip + 20, shape, pair, delta, reverse);
}

/** HALF-NAT over IPv6. */
// @ts-ignore: decorator
@inline
export function rewrite6(ip: usize, shape: u32, pair: PairRecord, reverse: bool): void {
  if (reverse) {
    store<u64>(ip, pair.vipHead, 8);
    store<u64>(ip, pair.vipTail, 16);
  } else {
    store<u64>(ip, pair.serverHead, 24);
    store<u64>(ip, pair.serverTail, 32);
  }
  if (shape & SHAPE_LINK) store<u8>(ip, load<u8>(ip, 7) - 1, 7);
  rewritePort(ip + 40, shape, pair, reverse ? pair.reverseDelta : pair.forwardDelta, reverse);
}

/** Full NAT and collapsed ports: the other end's address and port are in the flow record. */
function rewriteByRecord4(ip: usize, shape: u32, meta: u32, entry: usize, pair: PairRecord): void {
  const flow = flowAt(recordAt(entry));
  let addresses: u64;
  let ports: u32;
  if (meta & META_REVERSE) {
    addresses = joinAddresses(pair.vipTail, flow.clientTail);
    ports = <u32>flow.vipPortBe | (<u32>flow.clientPortBe << 16);
  } else {
    addresses = joinAddresses(sourceTailOf(flow, pair), pair.serverTail);
    ports = <u32>flow.sourcePortBe | (serverPortBeOf(flow, pair) << 16);
  }
  const step = shape & SHAPE_LINK ? TTL_STEP : 0;
  rewriteIpv4(ip, ip + 20, (shape & SHAPE_TCP) != 0, (shape & SHAPE_PARTIAL) != 0, addresses, ports, addressChange(ip, addresses), step);
}

/** The same over IPv6. */
function rewriteByRecord6(ip: usize, shape: u32, meta: u32, entry: usize, pair: PairRecord): void {
  const flow = flowAt(recordAt(entry));
  let change: u32;
  let ports: u32;
  if (meta & META_REVERSE) {
    change = replaceAddress(ip + 8, pair.vipHead, pair.vipTail) + replaceAddress(ip + 24, flow.clientHead, flow.clientTail);
    ports = <u32>flow.vipPortBe | (<u32>flow.clientPortBe << 16);
  } else {
    change = replaceAddress(ip + 8, sourceHeadOf(flow, pair), sourceTailOf(flow, pair)) + replaceAddress(ip + 24, pair.serverHead, pair.serverTail);
    ports = <u32>flow.sourcePortBe | (serverPortBeOf(flow, pair) << 16);
  }
  if (shape & SHAPE_LINK) store<u8>(ip, load<u8>(ip, 7) - 1, 7);
  rewriteTransport(ip + 40, (shape & SHAPE_TCP) != 0, (shape & SHAPE_PARTIAL) != 0, ports, change);
}
