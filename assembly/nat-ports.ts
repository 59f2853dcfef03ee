/**
 * Proxy ports of full NAT (specification E.7). One pool per (proxy address, server address, server port) counts ports
 * for TCP and UDP together; a server used on several ports has one pool for them all, and where it is used on one of them
 * alone too, a port is free only if both pools say so. Bits in chunks of 2048 ports, so
 * that a pool with few flows is small.
 * With several workers each hands out every n-th port: all that leave the same remainder. So two workers never take the
 * same one, though neither asks the other. A port's *place* is its number among those.
 */
import { chunkCount, chunks, poolCount, pools, poolTable, poolTableMask, sharedHeader, workerCount, workerIndex } from "./bases";
import {
  NAT_CHUNK_BYTES,
  NAT_CHUNK_PORTS,
  NAT_PORT_FIRST,
  NAT_PORT_LAST,
  NAT_PORT_SPARED,
  NAT_POOL_IDLE_MS,
  NONE,
  POOL_RECORD_SIZE,
  PoolRecord,
  SharedHeader,
} from "./gen/layout";
import { addressHash } from "./hash";
import { flowMemory, isPast, state } from "./state";

/** Records that are looked at for one without users when all are taken. */
const POOL_TRIES: u32 = 64;

const CHUNK_LIST: usize = offsetof<PoolRecord>("chunk0");

// @ts-ignore: decorator
@inline
function poolAt(index: u32): PoolRecord {
  return changetype<PoolRecord>(pools + <usize>index * POOL_RECORD_SIZE);
}

// @ts-ignore: decorator
@inline
function tableEntry(at: u32): usize {
  return poolTable + (<usize>at << 2);
}

function home(proxyHead: u64, proxyTail: u64, serverHead: u64, serverTail: u64, port: u32): u32 {
  return (addressHash(proxyHead, proxyTail, port) ^ addressHash(serverTail, serverHead, port)) & poolTableMask;
}

function homeOf(pool: PoolRecord): u32 {
  return home(pool.proxyHead, pool.proxyTail, pool.serverHead, pool.serverTail, pool.serverPort);
}

/** Index of a pool, NONE when there is none. @param port server port in host order, 0: all ports of the server */
export function findPool(proxyHead: u64, proxyTail: u64, serverHead: u64, serverTail: u64, port: u32): u32 {
  let at = home(proxyHead, proxyTail, serverHead, serverTail, port);
  while (true) {
    const entry = load<u32>(tableEntry(at));
    if (entry == 0) return NONE;
    const pool = poolAt(entry - 1);
    if (pool.proxyTail == proxyTail && pool.serverTail == serverTail && pool.serverPort == port && pool.proxyHead == proxyHead && pool.serverHead == serverHead) return entry - 1;
    at = (at + 1) & poolTableMask;
  }
}

/** Index of a pool, made if need be, at the cost of one without users; NONE when there is no memory for one more. */
export function obtainPool(proxyHead: u64, proxyTail: u64, serverHead: u64, serverTail: u64, port: u32, now: u32): u32 {
  const found = findPool(proxyHead, proxyTail, serverHead, serverTail, port);
  if (found != NONE) return found;
  const header = flowMemory();
  if (!header.poolsFree && header.poolsTop == poolCount) giveUpIdle(now);
  let index: u32;
  if (header.poolsFree) {
    index = header.poolsFree - 1;
    header.poolsFree = poolAt(index).next;
  } else {
    if (header.poolsTop == poolCount) return NONE;
    index = header.poolsTop++;
  }
  const pool = poolAt(index);
  memory.fill(changetype<usize>(pool), 0, POOL_RECORD_SIZE);
  pool.proxyHead = proxyHead;
  pool.proxyTail = proxyTail;
  pool.serverHead = serverHead;
  pool.serverTail = serverTail;
  pool.serverPort = port;
  pool.cursor = portAt(firstPlace());
  pool.idleSinceMs = now;
  pool.live = 1;
  let at = homeOf(pool);
  while (load<u32>(tableEntry(at))) at = (at + 1) & poolTableMask;
  store<u32>(tableEntry(at), index + 1);
  return index;
}

// --- places ---

/**
 * Where a new pool begins: a daemon that starts again must not meet the tuples that servers still hold from before, and
 * nobody outside should know the next port (RFC 6056).
 */
function firstPlace(): u32 {
  return changetype<SharedHeader>(sharedHeader).firstProxyPlace % placeCount();
}

/** Number of places. */
// @ts-ignore: decorator
@inline
function placeCount(): u32 {
  return (NAT_PORT_LAST - NAT_PORT_FIRST - workerIndex) / workerCount + 1;
}

// @ts-ignore: decorator
@inline
function portAt(place: u32): u32 {
  return NAT_PORT_FIRST + place * workerCount + workerIndex;
}

// @ts-ignore: decorator
@inline
function placeOf(port: u32): u32 {
  return (port - NAT_PORT_FIRST) / workerCount;
}

/** Place of the port that nobody gets, NONE when it is another worker's. */
// @ts-ignore: decorator
@inline
function sparedPlace(): u32 {
  return (NAT_PORT_SPARED - NAT_PORT_FIRST) % workerCount == workerIndex ? placeOf(NAT_PORT_SPARED) : NONE;
}

/** The next port of this worker, round and round. */
export function portAfter(port: u32): u32 {
  const place = placeOf(port) + 1;
  return portAt(place == placeCount() ? 0 : place);
}

// @ts-ignore: decorator
@inline
function chunkEntry(pool: PoolRecord, place: u32): usize {
  return changetype<usize>(pool) + CHUNK_LIST + <usize>(place / NAT_CHUNK_PORTS) * 4;
}

/** Where the 64 bits lie that hold the place's, 0 when its chunk does not exist, so that the port is free. */
function wordOf(pool: PoolRecord, place: u32): usize {
  const chunk = load<u32>(chunkEntry(pool, place));
  if (chunk == 0) return 0;
  return chunks + <usize>(chunk - 1) * NAT_CHUNK_BYTES + ((place % NAT_CHUNK_PORTS) >>> 6) * 8;
}

/** The 64 bits that hold the place's. */
// @ts-ignore: decorator
@inline
function usedAround(pool: PoolRecord, place: u32): u64 {
  const word = wordOf(pool, place);
  return word == 0 ? 0 : load<u64>(word);
}

/**
 * First place >= `place` whose bit is clear in both pools, counting on into the next words; placeCount() or more when
 * there is none.
 */
function nextFree(pool: PoolRecord, other: PoolRecord, place: u32): u32 {
  const spared = sparedPlace();
  const end = placeCount();
  while (place < end) {
    const bit = place & 63;
    const free = ~(usedAround(pool, place) | usedAround(other, place)) >> <u64>bit;
    if (free == 0) {
      place += 64 - bit;
      continue;
    }
    place += <u32>ctz(free);
    if (place != spared) return place;
    place++;
  }
  return place;
}

/**
 * A port that is free in the pool and in the other one that the same server port may be reached from, from `from` on and
 * then round; NONE when there is none. Takes nothing. At most one look at each of the pools' 960 words.
 * @param other index of a pool, NONE when there is none
 */
export function freePort(index: u32, other: u32, from: u32): u32 {
  const pool = poolAt(index);
  const beside = other == NONE ? pool : poolAt(other);
  const end = placeCount();
  if (pool.used >= end - (sparedPlace() == NONE ? 0 : 1)) return NONE;
  let place = nextFree(pool, beside, placeOf(from));
  if (place >= end) place = nextFree(pool, beside, 0);
  return place >= end ? NONE : portAt(place);
}

/** The port to try first. */
export function portCursor(index: u32): u32 {
  return poolAt(index).cursor;
}

/** Marks a free port used. @returns false when there is no memory for its chunk */
export function takePort(index: u32, port: u32): bool {
  const pool = poolAt(index);
  const place = placeOf(port);
  const entry = chunkEntry(pool, place);
  if (load<u32>(entry) == 0) {
    const chunk = newChunk();
    if (chunk == NONE) return false;
    store<u32>(entry, chunk + 1);
  }
  const word = wordOf(pool, place);
  store<u64>(word, load<u64>(word) | (<u64>1 << <u64>(place & 63)));
  pool.used += 1;
  // The next flow takes the next port: one just given back rests as long as the others last.
  pool.cursor = portAfter(port);
  return true;
}

/** Gives a port back. */
export function releasePort(index: u32, port: u32, now: u32): void {
  const pool = poolAt(index);
  const place = placeOf(port);
  const word = wordOf(pool, place);
  store<u64>(word, load<u64>(word) & ~(<u64>1 << <u64>(place & 63)));
  pool.used -= 1;
  if (pool.used == 0) pool.idleSinceMs = now;
  const entry = chunkEntry(pool, place);
  const chunk = load<u32>(entry) - 1;
  if (isEmpty(chunk)) {
    store<u32>(entry, 0);
    freeChunk(chunk);
  }
}

function chunkAt(index: u32): usize {
  return chunks + <usize>index * NAT_CHUNK_BYTES;
}

function newChunk(): u32 {
  const header = flowMemory();
  let index: u32;
  if (header.chunksFree) {
    index = header.chunksFree - 1;
    header.chunksFree = load<u32>(chunkAt(index));
  } else {
    if (header.chunksTop == chunkCount) return NONE;
    index = header.chunksTop++;
  }
  memory.fill(chunkAt(index), 0, NAT_CHUNK_BYTES);
  return index;
}

function freeChunk(index: u32): void {
  store<u32>(chunkAt(index), flowMemory().chunksFree);
  flowMemory().chunksFree = index + 1;
}

function isEmpty(chunk: u32): bool {
  const at = chunkAt(chunk);
  for (let i: usize = 0; i < <usize>NAT_CHUNK_BYTES; i += 16) if (v128.any_true(v128.load(at + i))) return false;
  return true;
}

/** Forgets pools of up to `count` records that have been unused long enough. */
export function sweepPools(count: u32, now: u32): void {
  const top = flowMemory().poolsTop;
  let index = state().poolCursor;
  const end = min(index + count, top);
  for (; index < end; index++) {
    const pool = poolAt(index);
    if (pool.live && pool.used == 0 && isPast(pool.idleSinceMs + <u32>NAT_POOL_IDLE_MS, now)) freePool(index);
  }
  state().poolCursor = end == top ? 0 : end;
}

/**
 * All records are taken: forgets the pool that has been without users for longest among the next POOL_TRIES. The sweep goes on
 * behind them; what it has not seen it comes to in its next round.
 */
function giveUpIdle(now: u32): void {
  let oldest: u32 = NONE;
  let longest: u32 = 0;
  let index = state().poolCursor;
  for (let left = min(POOL_TRIES, poolCount); left > 0; left--) {
    if (index >= poolCount) index = 0;
    const pool = poolAt(index);
    const idle = now - pool.idleSinceMs;
    if (pool.used == 0 && (oldest == NONE || idle > longest)) {
      oldest = index;
      longest = idle;
    }
    index++;
  }
  state().poolCursor = index >= poolCount ? 0 : index;
  if (oldest != NONE) freePool(oldest);
}

function freePool(index: u32): void {
  let at = homeOf(poolAt(index));
  while (load<u32>(tableEntry(at)) != index + 1) at = (at + 1) & poolTableMask;
  let gap = at;
  while (true) {
    at = (at + 1) & poolTableMask;
    const entry = load<u32>(tableEntry(at));
    if (entry == 0) break;
    // The entry may fill the gap only if its home does not lie between gap and entry.
    if (((at - homeOf(poolAt(entry - 1))) & poolTableMask) < ((at - gap) & poolTableMask)) continue;
    store<u32>(tableEntry(gap), entry);
    gap = at;
  }
  store<u32>(tableEntry(gap), 0);
  const pool = poolAt(index);
  pool.live = 0;
  pool.next = flowMemory().poolsFree;
  flowMemory().poolsFree = index + 1;
}
