/**
 * A batch: one pass reads all headers and computes bucket addresses, one tight loop touches the buckets so that their
 * cache misses overlap, one pass matches and rewrites. Packets are decided about strictly in order; whatever is not
 * everyday traffic of an established flow goes to processPacket() when its turn comes.
 * The touch loop alone takes the cost at a million flows from 91 to 36 ns (npm run bench -- --only engine.c).
 */
import { swap16, unmapped } from "./address";
import { buckets, descriptors, nextHopCount, nextHops, policy, scratch, workerCount } from "./bases";
import {
  BATCH_SIZE,
  DEADLINE_STEP_MS,
  DESCRIPTOR_SIZE,
  Descriptor,
  Direction,
  FlowState,
  HANDED_COPY,
  HANDED_OVER,
  HOP_IN_RECORD,
  HopState,
  MAX_PORTS,
  META_PAIR_SHIFT,
  META_RECORD,
  META_REVERSE,
  META_SLOW,
  NEXT_HOP_RECORD_SIZE,
  PORT_NONE,
  PairRecord,
  PortKind,
  Reason,
  SCRATCH_SIZE,
  Scratch,
  Verdict,
  verdictOf,
} from "./gen/layout";
import { flowAt, hopIndexOf, indexedHop, serverPortBeOf, sourceHeadOf, sourceTailOf } from "./flows";
import { bucketAt, firstBucket, matchWays, otherBucket, recordOf } from "./flow-table";
import { findSleepers } from "./hand-over";
import { tupleKey4, tupleKey6 } from "./hash";
import { expireHeld } from "./held";
import { pairAt } from "./pairs";
import { IPV4_TYPE, IPV6_TYPE, MAC_BITS, TCP, UDP } from "./parse";
import { carryJudged } from "./policy-batch";
import { processPacket } from "./process";
import { addressChange, joinAddresses, NEEDS_CSUM, replaceAddress, rewriteIpv4, rewriteTransport, TTL_STEP, writeMac } from "./rewrite";
import { countReason, port, state, totals } from "./state";

/** Scratch.flags. */
export const IS_TCP: u32 = 1;
const IS_PARTIAL: u32 = 2;
export const IS_IPV6: u32 = 4;
/** FIN, SYN and RST of the TCP flags byte. */
const STATE_FLAGS: u32 = 0x07;
/** MF and offset of the flags word as loaded. */
const FRAGMENT_BITS_BE: u32 = 0xff3f;

// @ts-ignore: decorator
@inline
export function descriptorAt(index: u32): Descriptor {
  return changetype<Descriptor>(descriptors + <usize>index * DESCRIPTOR_SIZE);
}

/** What the first pass found out about a descriptor. */
// @ts-ignore: decorator
@inline
export function notesAt(index: u32): Scratch {
  return changetype<Scratch>(scratch + <usize>index * SCRATCH_SIZE);
}

/**
 * Decides about descriptors 0..count-1 and carries it out. @param count at most BATCH_SIZE
 * @returns number of made frames (descriptors BATCH_SIZE..)
 */
export function processBatch(count: u32, now: u32): u32 {
  count = min(count, BATCH_SIZE);
  const s = state();
  s.madeUsed = 0;
  s.uncounted = 0;
  expireHeld(now);
  for (let index: u32 = 0; index < count; index++) inspect(descriptorAt(index), notesAt(index));
  touchBuckets(count);
  const quick = policy ? carryJudged(count, now) : carry(count, now);
  countReason(Reason.FlowFound, quick);
  totals().packetsIn += count - s.uncounted;
  if (s.targets) findSleepers();
  return s.madeUsed;
}

/** Decides about an inspected batch in order. @returns how many packets of established flows were forwarded on the short way */
function carry(count: u32, now: u32): u32 {
  let quick: u32 = 0;
  for (let index: u32 = 0; index < count; index++) {
    const descriptor = descriptorAt(index);
    clearOutcome(descriptor);
    const notes = notesAt(index);
    // IPv6 has layer3 0, so that a batch of IPv4 pays nothing for it.
    if (notes.layer3 && forwardQuickly(descriptor, notes, now, false)) quick++;
    else if (notes.flags & IS_IPV6 && forwardQuickly6(descriptor, notes, now)) quick++;
    else decide(descriptor, now);
  }
  return quick;
}

/** The slow path of one packet. */
export function decide(descriptor: Descriptor, now: u32): void {
  settle(descriptor, processPacket(descriptor, now));
}

/** Writes down what became of a packet, and counts it. @param reason a Reason, or HANDED_OVER */
export function settle(descriptor: Descriptor, reason: u32): void {
  if (reason == HANDED_OVER) return leaveAlone(descriptor);
  let verdict = verdictOf(reason);
  if (workerCount > 1 && descriptor.handOver & HANDED_COPY) {
    // The guard kept it from the kernel when it came.
    if (verdict == Verdict.Ignore) verdict = Verdict.Pass;
    state().uncounted += 1;
  } else {
    countReason(reason, 1);
  }
  descriptor.reason = <u8>reason;
  descriptor.verdict = <u8>verdict;
  if (verdict != Verdict.Forward && verdict != Verdict.Reply) descriptor.outPort = <u8>PORT_NONE;
}

/** Another worker has the frame, and will count it. */
function leaveAlone(descriptor: Descriptor): void {
  descriptor.reason = 0;
  descriptor.verdict = <u8>Verdict.Ignore;
  descriptor.outPort = <u8>PORT_NONE;
  state().uncounted += 1;
}

// @ts-ignore: decorator
@inline
export function clearOutcome(descriptor: Descriptor): void {
  const at = changetype<usize>(descriptor);
  descriptor.outPort = <u8>PORT_NONE;
  store<u64>(at, 0, offsetof<Descriptor>("ruleId"));
  store<u16>(at, 0, offsetof<Descriptor>("direction"));
  store<u64>(at, 0, offsetof<Descriptor>("madeFirst"));
}

/** First pass: everyday TCP or UDP gets its key and bucket, everything else layer3 = 0 and no IS_IPV6. */
// @ts-ignore: decorator
@inline
function inspect(descriptor: Descriptor, notes: Scratch): void {
  notes.layer3 = 0;
  notes.flags = 0;
  notes.bucket = <u32>buckets;
  const inPort: u32 = descriptor.inPort;
  if (descriptor.flags || inPort >= MAX_PORTS) return;
  const kind = port(inPort).kind;
  if (kind == PortKind.Absent) return;
  const link: u32 = kind == PortKind.Ethernet ? 14 : 0;
  const frame: usize = descriptor.frame;
  const inHead = min(descriptor.headLength, descriptor.length);
  if (inHead < link + 28 || (link && load<u16>(frame, 12) != IPV4_TYPE)) return inspect6(descriptor, notes, link, inHead);
  const ip = frame + link;
  const total = swap16(load<u16>(ip, 2));
  const protocol: u32 = load<u8>(ip, 9);
  if (load<u8>(ip) != 0x45) return inspect6(descriptor, notes, link, inHead);
  if (load<u16>(ip, 6) & FRAGMENT_BITS_BE || total < 28 || total + link > descriptor.length) return;
  if (link && load<u8>(ip, 8) <= 1) return;
  let flags: u32;
  let header: u32;
  if (protocol == 6) {
    if (total < 40 || inHead < link + 40 || load<u8>(ip, 33) & STATE_FLAGS) return;
    header = (<u32>load<u8>(ip, 32) >>> 4) << 2;
    if (header < 20 || header + 20 > total) return;
    flags = IS_TCP;
  } else if (protocol == 17) {
    const claimed = swap16(load<u16>(ip, 24));
    if (claimed < 8 || claimed + 20 > total) return;
    header = 8;
    flags = 0;
  } else {
    return;
  }
  let size = total;
  if (descriptor.vnetGsoType | (descriptor.vnetFlags & NEEDS_CSUM)) {
    const gso: u32 = descriptor.vnetGsoType & 0x7f;
    if (!(descriptor.vnetFlags & NEEDS_CSUM) || <u32>descriptor.vnetCsumStart != link + 20 || <u32>descriptor.vnetCsumOffset != (flags ? 16 : 6)) return;
    if (descriptor.vnetGsoType) {
      if (gso != (flags ? 1 : 5) || descriptor.vnetGsoSize == 0) return;
      size = 20 + header + descriptor.vnetGsoSize;
    }
    flags |= IS_PARTIAL;
  }
  const key = tupleKey4(load<u32>(ip, 12), load<u32>(ip, 16), load<u32>(ip, 20), protocol);
  notes.key = key;
  notes.bucket = <u32>bucketAt(firstBucket(key));
  notes.layer3 = <u32>ip;
  notes.total = total;
  notes.link = link;
  notes.flags = flags;
  notes.mtuBytes = size;
}

/** The same for an IPv6 packet without extension headers. It may still be anything. */
function inspect6(descriptor: Descriptor, notes: Scratch, link: u32, inHead: u32): void {
  const frame: usize = descriptor.frame;
  const ip = frame + link;
  if (inHead < link + 48 || (link && load<u16>(frame, 12) != IPV6_TYPE) || load<u8>(ip) >>> 4 != 6) return;
  const total: u32 = 40 + swap16(load<u16>(ip, 4));
  const protocol: u32 = load<u8>(ip, 6);
  if (total < 48 || total + link > descriptor.length || (link && load<u8>(ip, 7) <= 1)) return;
  let flags = IS_IPV6;
  let header: u32;
  if (protocol == TCP) {
    if (total < 60 || inHead < link + 60 || load<u8>(ip, 53) & STATE_FLAGS) return;
    header = (<u32>load<u8>(ip, 52) >>> 4) << 2;
    if (header < 20 || header + 40 > total) return;
    flags |= IS_TCP;
  } else if (protocol == UDP) {
    const claimed = swap16(load<u16>(ip, 44));
    if (claimed < 8 || claimed + 40 > total) return;
    header = 8;
  } else {
    return;
  }
  let size = total;
  if (descriptor.vnetGsoType | (descriptor.vnetFlags & NEEDS_CSUM)) {
    const isTcp = (flags & IS_TCP) != 0;
    if (!(descriptor.vnetFlags & NEEDS_CSUM) || <u32>descriptor.vnetCsumStart != link + 40 || <u32>descriptor.vnetCsumOffset != <u32>(isTcp ? 16 : 6)) return;
    if (descriptor.vnetGsoType) {
      const gso: u32 = descriptor.vnetGsoType & 0x7f;
      if (gso != <u32>(isTcp ? 4 : 5) || descriptor.vnetGsoSize == 0) return;
      size = 40 + header + descriptor.vnetGsoSize;
    }
    flags |= IS_PARTIAL;
  }
  const key = tupleKey6(load<u64>(ip, 8), load<u64>(ip, 16), load<u64>(ip, 24), load<u64>(ip, 32), load<u32>(ip, 40), protocol);
  notes.key = key;
  notes.bucket = <u32>bucketAt(firstBucket(key));
  notes.total = total;
  notes.link = link;
  notes.flags = flags;
  notes.mtuBytes = size;
}

/** Loads one word of every bucket and nothing else, so that the misses overlap. */
function touchBuckets(count: u32): void {
  let sum: u64 = 0;
  let at = scratch;
  const end = scratch + <usize>((count + 3) & ~3) * SCRATCH_SIZE;
  // Scratch records past count hold bucket addresses of an earlier batch, or 0: harmless to read.
  for (; at < end; at += 4 * SCRATCH_SIZE) {
    sum +=
      load<u64>(load<u32>(at, offsetof<Scratch>("bucket"))) +
      load<u64>(load<u32>(at, 32 + offsetof<Scratch>("bucket"))) +
      load<u64>(load<u32>(at, 64 + offsetof<Scratch>("bucket"))) +
      load<u64>(load<u32>(at, 96 + offsetof<Scratch>("bucket")));
  }
  // Somebody has to want the sum, or the loads go away.
  state().touched = sum;
}

/** forwardQuickly() compiled once more for IPv6. */
export function forwardQuickly6(descriptor: Descriptor, notes: Scratch, now: u32): bool {
  return forwardQuickly(descriptor, notes, now, true);
}

/** Forwards a packet of an established flow. @param isIpv6 a constant, so that each family has code of its own. @returns false, with nothing changed, when it needs the slow path */
// @ts-ignore: decorator
@inline
export function forwardQuickly(descriptor: Descriptor, notes: Scratch, now: u32, isIpv6: bool): bool {
  const key = notes.key;
  let bucket: usize = notes.bucket;
  let ways = matchWays(bucket, key);
  if (!ways) {
    bucket = bucketAt(otherBucket(<u32>((bucket - buckets) >>> 6), key));
    ways = matchWays(bucket, key);
    if (!ways) return false;
  }
  const way = ctz(ways);
  const meta = load<u32>(bucket + (way << 2), 48);
  if (meta & META_SLOW) return false;
  const pair = pairAt(meta >>> META_PAIR_SHIFT);
  const hopIndex = hopIndexOf(meta);
  if (hopIndex == HOP_IN_RECORD) return false;
  const hop = indexedHop(hopIndex);
  const link = notes.link;
  const ip: usize = isIpv6 ? descriptor.frame + link : notes.layer3;
  let to: u64;
  let from: u64;
  let mtu: u32;
  if (meta & META_REVERSE) {
    to = hop;
    const out = <u32>(hop >>> 48) & 0xff;
    from = port(out).mac;
    mtu = port(out).mtu;
  } else {
    let source: u64 = (<u64>descriptor.inPort << 48) | (<u64>1 << 56);
    if (link) source |= load<u64>(ip - 8) & MAC_BITS;
    if (source != hop) return false;
    if (link) {
      if (pair.nextHop >= nextHopCount) return false;
      const record = nextHops + <usize>pair.nextHop * NEXT_HOP_RECORD_SIZE;
      to = load<u64>(record);
      from = load<u64>(record, 8);
      mtu = <u32>(from >>> 48);
      if (<u32>(to >>> 56) != HopState.Resolved) return false;
    } else {
      // The kernel routes what came in by an IP port (egress.ts); `hop` names just that port.
      to = hop;
      from = 0;
      mtu = port(descriptor.inPort).mtu;
    }
  }
  const outPort = <u32>(to >>> 48) & 0xff;
  if (outPort >= MAX_PORTS || notes.mtuBytes > mtu || port(outPort).kind != (link ? PortKind.Ethernet : PortKind.Ip)) return false;

  const slot = (<u32>((bucket - buckets) >>> 6) << 2) | way;
  if (isIpv6) rewriteQuickly6(ip, notes, meta, slot, pair);
  else rewriteQuickly(ip, notes, meta, slot, pair, link ? TTL_STEP : 0);
  if (link) writeMac(ip - 14, to, from & MAC_BITS, isIpv6 ? IPV6_TYPE : IPV4_TYPE);

  const deadline = bucket + (way << 2);
  const due = now + pair.idleTimeoutMs;
  if (<i32>(due - load<u32>(deadline, 32)) > 0) store<u32>(deadline, due + DEADLINE_STEP_MS, 32);
  pair.packets += 1;
  pair.bytes += notes.total;
  describeQuickly(descriptor, pair, outPort, meta);
  return true;
}

// @ts-ignore: decorator
@inline
function describeQuickly(descriptor: Descriptor, pair: PairRecord, outPort: u32, meta: u32): void {
  const at = changetype<usize>(descriptor);
  descriptor.vnetFlags &= <u8>NEEDS_CSUM;
  descriptor.outPort = <u8>outPort;
  descriptor.verdict = <u8>Verdict.Forward;
  descriptor.reason = <u8>Reason.FlowFound;
  store<u64>(at, load<u64>(changetype<usize>(pair)), offsetof<Descriptor>("ruleId"));
  descriptor.direction = <u8>(meta & META_REVERSE ? Direction.ServerToClient : Direction.ClientToServer);
  descriptor.flowState = <u8>FlowState.Found;
}

// @ts-ignore: decorator
@inline
function rewriteQuickly(ip: usize, notes: Scratch, meta: u32, slot: u32, pair: PairRecord, ttlDelta: u32): void {
  const l4 = ip + 20;
  const isTcp = (notes.flags & IS_TCP) != 0;
  const partial = (notes.flags & IS_PARTIAL) != 0;
  const ports = load<u32>(l4);
  if (meta & META_RECORD) {
    rewriteByRecord(ip, isTcp, partial, meta, slot, pair, ttlDelta);
  } else if (meta & META_REVERSE) {
    const addresses = (load<u64>(ip, 12) & 0xffffffff00000000) | <u64>unmapped(pair.vipTail);
    const source = swap16(swap16(ports & 0xffff) - pair.portAdd);
    rewriteIpv4(ip, l4, isTcp, partial, addresses, (ports & 0xffff0000) | source, pair.reverseDelta, ttlDelta);
  } else {
    const addresses = (load<u64>(ip, 12) & 0xffffffff) | (<u64>unmapped(pair.serverTail) << 32);
    const destination = swap16(swap16(ports >>> 16) + pair.portAdd);
    rewriteIpv4(ip, l4, isTcp, partial, addresses, (ports & 0xffff) | (destination << 16), pair.forwardDelta, ttlDelta);
  }
}

// @ts-ignore: decorator
@inline
function rewriteQuickly6(ip: usize, notes: Scratch, meta: u32, slot: u32, pair: PairRecord): void {
  const l4 = ip + 40;
  const isTcp = (notes.flags & IS_TCP) != 0;
  const partial = (notes.flags & IS_PARTIAL) != 0;
  let ports = load<u32>(l4);
  let change: u32;
  if (meta & META_RECORD) {
    const flow = flowAt(recordOf(slot));
    if (meta & META_REVERSE) {
      change = replaceAddress(ip + 8, pair.vipHead, pair.vipTail) + replaceAddress(ip + 24, flow.clientHead, flow.clientTail);
      ports = <u32>flow.vipPortBe | (<u32>flow.clientPortBe << 16);
    } else {
      change = replaceAddress(ip + 8, sourceHeadOf(flow, pair), sourceTailOf(flow, pair)) + replaceAddress(ip + 24, pair.serverHead, pair.serverTail);
      ports = <u32>flow.sourcePortBe | (serverPortBeOf(flow, pair) << 16);
    }
  } else if (meta & META_REVERSE) {
    change = pair.reverseDelta;
    store<u64>(ip, pair.vipHead, 8);
    store<u64>(ip, pair.vipTail, 16);
    ports = (ports & 0xffff0000) | swap16(swap16(ports & 0xffff) - pair.portAdd);
  } else {
    change = pair.forwardDelta;
    store<u64>(ip, pair.serverHead, 24);
    store<u64>(ip, pair.serverTail, 32);
    ports = (ports & 0xffff) | (swap16(swap16(ports >>> 16) + pair.portAdd) << 16);
  }
  if (notes.link) store<u8>(ip, load<u8>(ip, 7) - 1, 7);
  rewriteTransport(l4, isTcp, partial, ports, change);
}

/** Full NAT and collapsed ports: the other end's address and port are in the flow record. */
function rewriteByRecord(ip: usize, isTcp: bool, partial: bool, meta: u32, slot: u32, pair: PairRecord, ttlDelta: u32): void {
  const flow = flowAt(recordOf(slot));
  let addresses: u64;
  let ports: u32;
  if (meta & META_REVERSE) {
    addresses = joinAddresses(pair.vipTail, flow.clientTail);
    ports = <u32>flow.vipPortBe | (<u32>flow.clientPortBe << 16);
  } else {
    addresses = joinAddresses(sourceTailOf(flow, pair), pair.serverTail);
    ports = <u32>flow.sourcePortBe | (serverPortBeOf(flow, pair) << 16);
  }
  rewriteIpv4(ip, ip + 20, isTcp, partial, addresses, ports, addressChange(ip, addresses), ttlDelta);
}
