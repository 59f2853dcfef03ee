/**
 * The first pass over a batch: what is everyday TCP or UDP gets its key, its bucket and its shape into scratch; whatever
 * else it may be is left to processPacket(). Reads frames and descriptors, changes neither, decides nothing.
 */
import { swap16 } from "./address";
import { bucketCount, buckets, descriptors, scratch } from "./bases";
import { bucketAt, firstBucket, MANY_BUCKETS, matchWays, otherBucket, touchBucket } from "./flow-table";
import { DESCRIPTOR_SIZE, Descriptor, ETHERNET_HEADER, MAX_PORTS, PortKind, SCRATCH_SIZE, Scratch } from "./gen/layout";
import { addressesKey6, tupleKey4 } from "./hash";
import { IPV4_TYPE, IPV6_TYPE, TCP, UDP } from "./parse";
import { NEEDS_CSUM } from "./rewrite";
import { port } from "./state";

/** Bits of Scratch.shape with the IP total length; IPv6 packets have up to 65,575 bytes. */
export const SHAPE_TOTAL: u32 = 0xfffff;
export const SHAPE_TCP: u32 = 1 << 20;
/** The checksum is partial, and Scratch.mtuBytes holds. */
export const SHAPE_PARTIAL: u32 = 1 << 21;
/** The frame has a MAC header. */
export const SHAPE_LINK: u32 = 1 << 22;
export const SHAPE_IPV4: u32 = 1 << 23;
export const SHAPE_IPV6: u32 = 1 << 24;
/** Perhaps a packet of the other family: the second look. */
const SHAPE_OTHER: u32 = 1 << 25;
/** Everyday TCP but for its flags: it can only begin a connection, and has neither SHAPE_IPV4 nor SHAPE_IPV6. */
export const SHAPE_OPENS: u32 = 1 << 26;
/** With SHAPE_OPENS: the packet is IPv6. */
export const SHAPE_OPENS6: u32 = 1 << 27;

/** FIN, SYN and RST of data offset and flags of a TCP header, as loaded. */
const STATE_FLAGS: u32 = 0x0700;
/** The same with ACK, and what a segment has of them that opens a connection. */
const OPENING_BITS: u32 = 0x1700;
const OPENING_FLAGS: u32 = 0x0200;
/** Version, header length, MF and offset of the first eight bytes of an IPv4 header, as loaded. */
const FIRST_BITS: u64 = 0xff3f0000000000ff;
const FIRST_PLAIN: u64 = 0x45;
/** Port and flags of the eight descriptor bytes from csumOffset on, as loaded. */
const ARRIVAL_BITS: u64 = 0xffff000000ff0000;
const ARRIVAL_UNKNOWN: u64 = 1;
/** NEEDS_CSUM and gsoType of a virtio header's first two bytes, as loaded. */
const OFFLOAD_BITS: u32 = 0xff01;
const NO_LINK: u32 = 1;

if (offsetof<Descriptor>("vnetCsumOffset") != 24 || offsetof<Descriptor>("inPort") != 26 || offsetof<Descriptor>("flags") != 30) ERROR("ARRIVAL_BITS");
if (offsetof<Descriptor>("vnetGsoType") != offsetof<Descriptor>("vnetFlags") + 1) ERROR("OFFLOAD_BITS");

/** Fills scratch for descriptors 0..count-1 and brings their buckets into the cache. */
export function inspect(count: u32): void {
  if (beginsWithIpv6()) {
    if (inspectIpv6(count, false)) inspectIpv4(count, true);
  } else if (inspectIpv4(count, false)) inspectIpv6(count, true);
  touchBuckets(count);
  if (bucketCount >= MANY_BUCKETS) touchOtherBuckets(count);
}

/** Bytes of the link header of frames with these ARRIVAL_BITS; NO_LINK when they are slow. */
function linkOf(arrival: u64): u32 {
  const index = <u32>(arrival >>> 16);
  if (arrival >>> 48 || index >= MAX_PORTS) return NO_LINK;
  const kind = port(index).kind;
  return kind == PortKind.Ethernet ? ETHERNET_HEADER : kind == PortKind.Ip ? 0 : NO_LINK;
}

/** The family of the first frame, by which the one pass is chosen that most batches need. A guess: whatever it says, the shapes are the same. */
function beginsWithIpv6(): bool {
  const descriptor = changetype<Descriptor>(descriptors);
  const frame: usize = descriptor.frame;
  const index: u32 = descriptor.inPort;
  if (min(descriptor.headLength, descriptor.length) < ETHERNET_HEADER) return false;
  if (index < MAX_PORTS && port(index).kind == PortKind.Ip) return load<u8>(frame) >>> 4 == 6;
  return load<u16>(frame, 12) == IPV6_TYPE;
}

/** @param isSecond looks only at what the other family's pass has left @returns bits of which one is set when there are packets left for the other family */
function inspectIpv4(count: u32, isSecond: bool): u32 {
  return inspectFamily(count, isSecond, false);
}

/** The same for IPv6. */
function inspectIpv6(count: u32, isSecond: bool): u32 {
  return inspectFamily(count, isSecond, true);
}

/** @param isIpv6 a constant, so that each family has code of its own */
// @ts-ignore: decorator
@inline
function inspectFamily(count: u32, isSecond: bool, isIpv6: bool): u32 {
  const kept: u32 = isSecond ? ~SHAPE_OTHER : ~0;
  const first = buckets;
  let others: u32 = 0;
  let known = ARRIVAL_UNKNOWN;
  let link: u32 = NO_LINK;
  let at = descriptors;
  let notes = changetype<Scratch>(scratch);
  for (const end = at + <usize>count * DESCRIPTOR_SIZE; at < end; at += DESCRIPTOR_SIZE, notes = changetype<Scratch>(changetype<usize>(notes) + SCRATCH_SIZE)) {
    if (isSecond && notes.shape != SHAPE_OTHER) continue;
    const arrival = load<u64>(at, 24) & ARRIVAL_BITS;
    if (arrival != known) {
      link = linkOf(arrival);
      known = arrival;
    }
    const descriptor = changetype<Descriptor>(at);
    const shape = link == NO_LINK ? 0 : (isIpv6 ? shapeOfIpv6(descriptor, notes, link) : shapeOfIpv4(descriptor, notes, link)) & kept;
    notes.shape = shape;
    others |= shape;
    if (!(shape & (SHAPE_IPV4 | SHAPE_IPV6 | SHAPE_OPENS))) notes.bucket = <u32>first;
  }
  return others & SHAPE_OTHER;
}

/** Key, bucket and place of an IPv4 packet. @returns its shape, SHAPE_OTHER or 0 */
// @ts-ignore: decorator
@inline
function shapeOfIpv4(descriptor: Descriptor, notes: Scratch, link: u32): u32 {
  const frame: usize = descriptor.frame;
  const length = descriptor.length;
  const inHead = min(descriptor.headLength, length);
  if (inHead < link + 28) return 0;
  if (link && load<u16>(frame, 12) != IPV4_TYPE) return SHAPE_OTHER;
  const ip = frame + link;
  const first = load<u64>(ip);
  if ((first & FIRST_BITS) != FIRST_PLAIN) return link ? 0 : SHAPE_OTHER;
  const total = swap16(<u32>first >>> 16);
  const times: u32 = load<u16>(ip, 8);
  const protocol = times >>> 8;
  if (total + link > length || (link && (times & 0xff) <= 1)) return 0;
  let shape = total | SHAPE_IPV4;
  let header: u32;
  if (protocol == TCP) {
    if (inHead < link + 40) return 0;
    const word: u32 = load<u16>(ip, 32);
    header = (word >>> 2) & 0x3c;
    if (header < 20 || header + 20 > total) return 0;
    if (word & STATE_FLAGS) {
      if ((word & OPENING_BITS) != OPENING_FLAGS) return 0;
      shape = total | SHAPE_OPENS;
    }
    shape |= SHAPE_TCP;
  } else {
    if (protocol != UDP) return 0;
    const claimed = swap16(load<u16>(ip, 24));
    if (claimed < 8 || claimed + 20 > total) return 0;
    header = 8;
  }
  if (link) shape |= SHAPE_LINK;
  if (load<u16>(changetype<usize>(descriptor), offsetof<Descriptor>("vnetFlags")) & OFFLOAD_BITS) {
    shape |= SHAPE_PARTIAL;
    if (!takesOffload(descriptor, notes, shape, link, 20, header)) return 0;
  }
  const key = tupleKey4(load<u32>(ip, 12), load<u32>(ip, 16), load<u32>(ip, 20), protocol);
  notes.key = key;
  notes.bucket = <u32>bucketAt(firstBucket(key));
  notes.layer3 = <u32>ip;
  return shape;
}

/** Whether a packet that asks for offloads is an everyday one; then notes.mtuBytes is what counts against an MTU. */
function takesOffload(descriptor: Descriptor, notes: Scratch, shape: u32, link: u32, network: u32, transport: u32): bool {
  const isTcp = (shape & SHAPE_TCP) != 0;
  if (!(descriptor.vnetFlags & NEEDS_CSUM) || <u32>descriptor.vnetCsumStart != link + network) return false;
  if (<u32>descriptor.vnetCsumOffset != <u32>(isTcp ? 16 : 6)) return false;
  let size = shape & SHAPE_TOTAL;
  if (descriptor.vnetGsoType) {
    const wanted: u32 = isTcp ? (network == 20 ? 1 : 4) : 5;
    if ((<u32>descriptor.vnetGsoType & 0x7f) != wanted || descriptor.vnetGsoSize == 0) return false;
    size = network + transport + descriptor.vnetGsoSize;
  }
  notes.mtuBytes = size;
  return true;
}

/** As shapeOfIpv4, of a packet without extension headers. */
// @ts-ignore: decorator
@inline
function shapeOfIpv6(descriptor: Descriptor, notes: Scratch, link: u32): u32 {
  const frame: usize = descriptor.frame;
  const length = descriptor.length;
  const inHead = min(descriptor.headLength, length);
  const ip = frame + link;
  // Too short for either family.
  if (inHead < link + 28) return 0;
  if (link && load<u16>(frame, 12) != IPV6_TYPE) return SHAPE_OTHER;
  if (inHead < link + 48) return link ? 0 : SHAPE_OTHER;
  const first = load<u64>(ip);
  if ((first & 0xf0) != 0x60) return link ? 0 : SHAPE_OTHER;
  const total: u32 = 40 + swap16(<u32>(first >>> 32) & 0xffff);
  const protocol = <u32>(first >>> 48) & 0xff;
  if (total + link > length || (link && first >>> 56 <= 1)) return 0;
  let shape = total | SHAPE_IPV6;
  let header: u32;
  if (protocol == TCP) {
    if (inHead < link + 60) return 0;
    const word: u32 = load<u16>(ip, 52);
    header = (word >>> 2) & 0x3c;
    if (header < 20 || header + 40 > total) return 0;
    if (word & STATE_FLAGS) {
      if ((word & OPENING_BITS) != OPENING_FLAGS) return 0;
      shape = total | SHAPE_OPENS | SHAPE_OPENS6;
    }
    shape |= SHAPE_TCP;
  } else {
    if (protocol != UDP) return 0;
    const claimed = swap16(load<u16>(ip, 44));
    if (claimed < 8 || claimed + 40 > total) return 0;
    header = 8;
  }
  if (link) shape |= SHAPE_LINK;
  if (load<u16>(changetype<usize>(descriptor), offsetof<Descriptor>("vnetFlags")) & OFFLOAD_BITS) {
    shape |= SHAPE_PARTIAL;
    if (!takesOffload(descriptor, notes, shape, link, 40, header)) return 0;
  }
  const key = addressesKey6(v128.load(ip, 8), v128.load(ip, 24), load<u32>(ip, 40), protocol);
  notes.key = key;
  notes.bucket = <u32>bucketAt(firstBucket(key));
  notes.layer3 = <u32>ip;
  return shape;
}

/**
 * Brings every bucket into the cache, and does nothing else, so that the misses overlap. By stores: nobody waits for a store, so
 * the next loops begin while the lines are on their way; WebAssembly has no prefetch, and a loop of loads takes 2 ns longer per packet
 * at a million flows (docs/decisions/0045). What is stored is told at touchBucket().
 */
function touchBuckets(count: u32): void {
  let at = scratch;
  for (const end = at + <usize>count * SCRATCH_SIZE; at < end; at += SCRATCH_SIZE) touchBucket(load<u32>(at, offsetof<Scratch>("bucket")));
}

/**
 * The same for the other buckets of what is not in its first one. Those of slow packets do no harm; those of openings are
 * touched with all that they need (openings.ts), without waiting for the first.
 */
function touchOtherBuckets(count: u32): void {
  let notes = changetype<Scratch>(scratch);
  for (const end = scratch + <usize>count * SCRATCH_SIZE; changetype<usize>(notes) < end; notes = changetype<Scratch>(changetype<usize>(notes) + SCRATCH_SIZE)) {
    const key = notes.key;
    const bucket: usize = notes.bucket;
    if (!(notes.shape & SHAPE_OPENS) && !matchWays(bucket, key)) touchBucket(bucketAt(otherBucket(<u32>((bucket - buckets) >>> 6), key)));
  }
}
