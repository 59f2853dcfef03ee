/**
 * The flow table: fingerprint -> entry, in buckets of four that fill one cache line each. An entry lies in one of two
 * buckets, whose indexes add up to a number that the key tells; so either leads to the other. Knows keys, deadlines and metas, not what flows mean;
 * but when an entry moves it tells the flow record its new slot.
 */
import { bucketCount, buckets, flowCount, flows, slotRecords } from "./bases";
import { BUCKET_SIZE, FLOW_RECORD_SIZE, FlowRecord, META_REVERSE, NONE } from "./gen/layout";
import { totals } from "./state";

/** So many do not fit a cache that is near; then a look ahead is worth its time (test/differential has such a table). */
export const MANY_BUCKETS: u32 = 1 << 16;
/** Where the deadlines of a bucket begin. */
export const DEADLINES: usize = 32;
/** Where its metas begin. */
export const METAS: usize = 48;

// @ts-ignore: decorator
@inline
export function bucketAt(index: u32): usize {
  return buckets + (<usize>index << 6);
}

/** A hash brought down to an index of a bucket (Lemire 2019), so that the table may have any size. */
// @ts-ignore: decorator
@inline
function scaled(hash: u32): u32 {
  return <u32>((<u64>hash * bucketCount) >>> 32);
}

/** Index of the bucket that is tried first. */
// @ts-ignore: decorator
@inline
export function firstBucket(key: u64): u32 {
  return scaled(<u32>(key >>> 32));
}

/** Index of the other bucket of a key; one key in as many as there are buckets has the same again. */
// @ts-ignore: decorator
@inline
export function otherBucket(index: u32, key: u64): u32 {
  const both = scaled(<u32>key);
  return both - index + (both < index ? bucketCount : 0);
}

/**
 * Asks for the cache line of a bucket without waiting for it. The byte that is stored is the lowest of the first way's deadline, and
 * 0xff puts a deadline off by 255 ms at most, however often it is stored: deadlines are late by up to DEADLINE_STEP_MS anyway.
 */
// @ts-ignore: decorator
@inline
export function touchBucket(bucket: usize): void {
  store<u8>(bucket, 0xff, DEADLINES);
}

/** So many indices of flow records leave the uppermost byte of a u32 at 0. */
const NARROW_RECORDS: u32 = 1 << 24;

/**
 * The same for the records of a bucket's slots. Stores the uppermost byte of the first as it is, which is 0 unless the table is
 * for more than NARROW_RECORDS flows; then there is nothing but a load.
 * @returns what somebody has to want, or the load goes away
 */
// @ts-ignore: decorator
@inline
export function touchRecords(bucketIndex: u32): u32 {
  const first = slotRecords + (<usize>bucketIndex << 4);
  if (flowCount > NARROW_RECORDS) return load<u32>(first);
  store<u8>(first, 0, 3);
  return 0;
}

/** Bits of the ways of a bucket that hold `key`. */
// @ts-ignore: decorator
@inline
export function matchWays(bucket: usize, key: u64): u32 {
  const wanted = i64x2.splat(key);
  return i64x2.bitmask(i64x2.eq(v128.load(bucket), wanted)) | (i64x2.bitmask(i64x2.eq(v128.load(bucket, 16), wanted)) << 2);
}

// @ts-ignore: decorator
@inline
function keyAddress(slot: u32): usize {
  return bucketAt(slot >>> 2) + ((slot & 3) << 3);
}

// @ts-ignore: decorator
@inline
export function keyOf(slot: u32): u64 {
  return load<u64>(keyAddress(slot));
}

/** Where the deadline of a slot lies. */
// @ts-ignore: decorator
@inline
export function deadlineAddress(slot: u32): usize {
  return bucketAt(slot >>> 2) + DEADLINES + ((slot & 3) << 2);
}

// @ts-ignore: decorator
@inline
export function deadlineOf(slot: u32): u32 {
  return load<u32>(deadlineAddress(slot));
}

// @ts-ignore: decorator
@inline
export function setDeadline(slot: u32, deadlineMs: u32): void {
  store<u32>(deadlineAddress(slot), deadlineMs);
}

// @ts-ignore: decorator
@inline
function metaAddress(slot: u32): usize {
  return bucketAt(slot >>> 2) + METAS + ((slot & 3) << 2);
}

// @ts-ignore: decorator
@inline
export function metaOf(slot: u32): u32 {
  return load<u32>(metaAddress(slot));
}

// @ts-ignore: decorator
@inline
export function setMeta(slot: u32, meta: u32): void {
  store<u32>(metaAddress(slot), meta);
}

/** Index of the flow record that a slot belongs to. */
// @ts-ignore: decorator
@inline
export function recordOf(slot: u32): u32 {
  return load<u32>(slotRecords + (<usize>slot << 2));
}

// @ts-ignore: decorator
@inline
export function setRecord(slot: u32, record: u32): void {
  store<u32>(slotRecords + (<usize>slot << 2), record);
}

/** Slot of a key, NONE when it is not in the table. */
export function findSlot(key: u64): u32 {
  const first = firstBucket(key);
  let ways = matchWays(bucketAt(first), key);
  if (ways) return (first << 2) | ctz(ways);
  const other = otherBucket(first, key);
  ways = matchWays(bucketAt(other), key);
  return ways ? (other << 2) | ctz(ways) : NONE;
}

/** A free slot of a bucket, NONE when it is full. */
// @ts-ignore: decorator
@inline
function freeIn(bucket: u32): u32 {
  const ways = matchWays(bucketAt(bucket), 0);
  return ways ? (bucket << 2) | ctz(ways) : NONE;
}

/** Moves an entry to a free slot and tells its flow record. */
function move(from: u32, to: u32): void {
  const record = recordOf(from);
  const meta = metaOf(from);
  store<u64>(keyAddress(to), keyOf(from));
  setDeadline(to, deadlineOf(from));
  setMeta(to, meta);
  setRecord(to, record);
  const flow = changetype<FlowRecord>(flows + <usize>record * FLOW_RECORD_SIZE);
  if (meta & META_REVERSE) flow.slotReverse = to;
  else flow.slotForward = to;
  store<u64>(keyAddress(from), 0);
  totals().kicks += 1;
}

/**
 * Frees a slot of a full bucket by moving one of its entries to that entry's other bucket.
 * @param depth how many buckets further entries may be moved to make room there
 */
function makeRoomIn(bucket: u32, depth: u32): u32 {
  for (let way: u32 = 0; way < 4; way++) {
    const slot = (bucket << 2) | way;
    const other = otherBucket(bucket, keyOf(slot));
    let to = freeIn(other);
    if (to == NONE && depth) to = makeRoomIn(other, depth - 1);
    if (to == NONE) continue;
    move(slot, to);
    return slot;
  }
  return NONE;
}

/**
 * Adds an entry. The key must not be in the table. At most two entries are moved: the table is never much more than half full
 * (docs/memory.md), so that more would not be worth its time.
 * @returns its slot, NONE when there is no room
 */
// @ts-ignore: decorator
@inline
export function insertEntry(key: u64, deadlineMs: u32, meta: u32, record: u32): u32 {
  const first = firstBucket(key);
  let slot = freeIn(first);
  if (slot == NONE) {
    slot = roomBeside(first, key);
    if (slot == NONE) return NONE;
  }
  setDeadline(slot, deadlineMs);
  setMeta(slot, meta);
  setRecord(slot, record);
  store<u64>(keyAddress(slot), key);
  return slot;
}

/** A free slot for a key whose first bucket is full, NONE when there is none to be had. */
function roomBeside(first: u32, key: u64): u32 {
  const other = otherBucket(first, key);
  let slot = freeIn(other);
  if (slot == NONE) slot = makeRoomIn(first, 0);
  if (slot == NONE) slot = makeRoomIn(other, 0);
  if (slot == NONE) slot = makeRoomIn(first, 1);
  return slot;
}

/** Empties a slot. */
export function removeEntry(slot: u32): void {
  store<u64>(keyAddress(slot), 0);
}

if (BUCKET_SIZE != 64) ERROR("a bucket is one cache line");
