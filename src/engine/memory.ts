/**
 * The region map of the one shared memory: what lies where, computed from the sizes fixed at start. docs/memory.md has
 * the formulas. The memory never grows (initial = maximum): growing would move it under the native side's feet.
 */
import {
  BATCH_SIZE,
  Bucket,
  CLIENT_HOPS,
  CRC_TABLE_BYTES,
  DESCRIPTOR_COUNT,
  Descriptor,
  Endpoint,
  FlowHeader,
  FlowRecord,
  FRAGMENT_SETS,
  FRAGMENT_WAYS,
  FragmentRecord,
  HASH_KEY_WORDS,
  HandOverRing,
  HEAD_STRIDE,
  HELD_FRAGMENTS,
  HeldRecord,
  ImageDrain,
  ImageHeader,
  ImageMember,
  ImageRule,
  ImageServer,
  MADE_SIZE,
  MAX_PAIR_RECORDS,
  MAX_PORTS,
  MAX_PROXY_ADDRESSES,
  MAX_WORKERS,
  NAT_CHUNK_BYTES,
  NextHopRecord,
  Opening,
  PairRecord,
  POLICY_CACHE4,
  POLICY_CACHE6,
  POLICY_COUNTERS,
  POLICY_PAIRS,
  POLICY_REFUSED,
  PolicyCache4,
  PolicyCache6,
  PolicyCounter,
  PolicyPairCache,
  PolicyRefused,
  PoolRecord,
  PortInterval,
  PortRecord,
  REASON_NAMES,
  RING_ENTRIES,
  RING_TAIL_BYTES,
  RING_TAIL_LEAST,
  RuleState,
  Scratch,
  SharedHeader,
  StickyRecord,
  TAIL_STRIDE,
  View,
  WorkerControl,
  WorkerCounters,
  WorkerMap,
  WorkerState,
} from "../gen/layout.ts";
import type { EngineLimits } from "./engine.ts";
import { POLICY_PART_BYTES } from "./policy-tables.ts";

export const PAGE_BYTES = 65536;
const REGION_ALIGNMENT = 4096;
const MEMORY_LIMIT = 65536 * PAGE_BYTES;
/** A pool is a (proxy address, server, port) that holds connections now, so there are far fewer than pairs. */
const MAX_POOLS = 262_144;

/** How much one image may hold. */
export interface ImageCapacity {
  readonly rules: number;
  readonly members: number;
  readonly servers: number;
  readonly endpoints: number;
  readonly endpointSlots: number;
  readonly intervals: number;
  readonly drains: number;
}

/** Linear offsets of an image's parts, from the start of the image. */
export interface ImageParts {
  readonly rules: number;
  readonly members: number;
  readonly enabledMembers: number;
  readonly servers: number;
  readonly endpointTable: number;
  readonly endpoints: number;
  readonly intervals: number;
  readonly memberIds: number;
  readonly rulesById: number;
  readonly drains: number;
  readonly policy: number;
  readonly bytes: number;
}

/** One worker's part of the memory. Linear offsets, counts and masks, as in WorkerMap. */
export interface WorkerRegions {
  readonly map: number;
  readonly control: number;
  readonly descriptors: number;
  readonly heads: number;
  readonly tails: number;
  readonly scratch: number;
  readonly openings: number;
  readonly view: number;
  readonly state: number;
  readonly counters: number;
  readonly ruleStates: number;
  readonly clientHops: number;
  readonly fragments: number;
  readonly held: number;
  readonly heldBlocks: number;
  readonly policyCounters: number;
  readonly policyRefused: number;
  readonly policyCache4: number;
  readonly policyCache6: number;
  readonly policyPairs: number;
  /** The flow memory: a run of whole pages that holds indexes and ids only. */
  readonly flowMemory: number;
  readonly flowMemoryBytes: number;
  readonly buckets: number;
  readonly slotRecords: number;
  readonly flows: number;
  readonly pairs: number;
  readonly pairTable: number;
  readonly stickies: number;
  readonly stickyHeads: number;
  readonly pools: number;
  readonly poolTable: number;
  readonly chunks: number;
}

/** Counts that follow from the limits, the same for every worker. */
export interface WorkerCounts {
  readonly buckets: number;
  readonly flows: number;
  readonly rules: number;
  readonly pairs: number;
  readonly pairSlots: number;
  readonly stickies: number;
  readonly stickyHeads: number;
  readonly pools: number;
  readonly poolSlots: number;
  readonly chunks: number;
}

/** The way of frames from one worker to another. Linear offsets. */
export interface RingRegions {
  readonly from: number;
  readonly to: number;
  readonly ring: number;
  readonly entries: number;
  readonly heads: number;
  readonly tails: number;
  /** A power of two. */
  readonly tailBytes: number;
}

/** Plain data: may be sent to a worker. */
export interface RegionMap {
  /** As asked for; of flows and sticky entries each worker has its share (`counts`). */
  readonly limits: EngineLimits;
  readonly sharedHeader: number;
  readonly crcTable: number;
  readonly hashKeys: number;
  readonly ports: number;
  readonly nextHops: number;
  readonly nextHopCount: number;
  readonly capacity: ImageCapacity;
  readonly images: readonly [number, number];
  readonly counts: WorkerCounts;
  readonly workers: readonly WorkerRegions[];
  /** u32 per worker: its WorkerMap. */
  readonly peers: number;
  /** u32 per ordered pair of workers, giver * workers + taker: its ring. */
  readonly ringTable: number;
  readonly rings: readonly RingRegions[];
  /** Bytes of the whole memory, a multiple of PAGE_BYTES. */
  readonly bytes: number;
}

/** Smallest power of two >= n. */
export const powerOfTwo = (n: number): number => 2 ** Math.ceil(Math.log2(Math.max(1, n)));

/** Hands out aligned runs of bytes, one after another. */
class Layout {
  at: number;
  constructor(at: number) {
    this.at = at;
  }
  take(bytes: number, alignment = 64): number {
    const start = Math.ceil(this.at / alignment) * alignment;
    this.at = start + bytes;
    return start;
  }
}

/**
 * A worker's part of what belongs to clients: clients are dealt out by a hash, so a quarter more than an even share. One
 * client alone finds no more than this.
 */
const shareOf = (all: number, workers: number): number =>
  Math.min(all, Math.ceil((all * (workers === 1 ? 1 : 1.25)) / workers));

/** Sizes of everything that one worker holds. Any worker may meet every rule and every server, so those are whole. */
function countsOf(limits: EngineLimits, workers: number): WorkerCounts {
  const flows = shareOf(limits.maxFlows, workers);
  const stickies = shareOf(limits.maxSticky, workers);
  // Twice the pairs of an image: those of the image before may still drain.
  const pairs = Math.min(2 * limits.maxPairs, MAX_PAIR_RECORDS);
  const pools = Math.min(2 * pairs, MAX_POOLS);
  return {
    // Two entries per flow, four per bucket, so 8 of 15 slots are in use at most.
    buckets: Math.max(64, Math.ceil((flows * 15) / 16)),
    flows,
    rules: limits.maxRules,
    pairs,
    pairSlots: powerOfTwo(2 * pairs),
    stickies,
    stickyHeads: powerOfTwo(stickies),
    pools,
    poolSlots: powerOfTwo(2 * pools),
    chunks: pools + Math.ceil(flows / 512) + 64,
  };
}

/** Everything that an image may hold under the limits. */
export function imageCapacity(limits: EngineLimits): ImageCapacity {
  const endpoints = limits.maxRules * (1 + MAX_PROXY_ADDRESSES) + limits.maxPairs;
  return {
    rules: limits.maxRules,
    members: limits.maxPairs,
    servers: limits.maxPairs,
    endpoints,
    endpointSlots: powerOfTwo(2 * endpoints),
    intervals: 2 * limits.maxRules * (1 + MAX_PROXY_ADDRESSES) + 2 * limits.maxPairs,
    drains: Math.min(2 * limits.maxPairs, MAX_PAIR_RECORDS),
  };
}

/** Where the parts of an image lie in it. */
export function imageParts(capacity: ImageCapacity): ImageParts {
  const layout = new Layout(ImageHeader.size);
  return {
    rules: layout.take(capacity.rules * ImageRule.size),
    members: layout.take(capacity.members * ImageMember.size),
    enabledMembers: layout.take(capacity.members * 4),
    servers: layout.take(capacity.servers * ImageServer.size),
    endpointTable: layout.take(capacity.endpointSlots * 4),
    endpoints: layout.take(capacity.endpoints * Endpoint.size),
    intervals: layout.take(capacity.intervals * PortInterval.size),
    memberIds: layout.take(capacity.members * 4),
    rulesById: layout.take(capacity.rules * 4),
    drains: layout.take(capacity.drains * ImageDrain.size),
    policy: layout.take(POLICY_PART_BYTES),
    bytes: layout.take(0),
  };
}

function workerRegions(layout: Layout, counts: WorkerCounts, control: number): WorkerRegions {
  const map = layout.take(WorkerMap.size, REGION_ALIGNMENT);
  const state = layout.take(WorkerState.size);
  const view = layout.take(View.size);
  const scratch = layout.take(BATCH_SIZE * Scratch.size);
  const openings = layout.take(BATCH_SIZE * Opening.size);
  const descriptors = layout.take(DESCRIPTOR_COUNT * Descriptor.size);
  const counters = layout.take(WorkerCounters.size + REASON_NAMES.length * 8);
  const ruleStates = layout.take(counts.rules * RuleState.size);
  const heads = layout.take((BATCH_SIZE + MADE_SIZE) * HEAD_STRIDE, REGION_ALIGNMENT);
  const tails = layout.take(BATCH_SIZE * TAIL_STRIDE, REGION_ALIGNMENT);
  const fragments = layout.take(FRAGMENT_SETS * FRAGMENT_WAYS * FragmentRecord.size);
  const held = layout.take(HELD_FRAGMENTS * HeldRecord.size);
  const heldBlocks = layout.take(HELD_FRAGMENTS * HEAD_STRIDE);
  const policyCounters = layout.take(POLICY_COUNTERS * PolicyCounter.size);
  const policyRefused = layout.take(POLICY_REFUSED * PolicyRefused.size);
  const policyCache4 = layout.take(POLICY_CACHE4 * PolicyCache4.size);
  const policyCache6 = layout.take(POLICY_CACHE6 * PolicyCache6.size);
  const policyPairs = layout.take(POLICY_PAIRS * PolicyPairCache.size);
  const flowMemory = layout.take(FlowHeader.size, REGION_ALIGNMENT);
  const clientHops = layout.take(CLIENT_HOPS * 8);
  const regions = {
    buckets: layout.take(counts.buckets * Bucket.size, REGION_ALIGNMENT),
    slotRecords: layout.take(counts.buckets * 4 * 4),
    flows: layout.take(counts.flows * FlowRecord.size),
    pairs: layout.take(counts.pairs * PairRecord.size),
    pairTable: layout.take(counts.pairSlots * 4),
    stickies: layout.take(counts.stickies * StickyRecord.size),
    stickyHeads: layout.take(counts.stickyHeads * 4),
    pools: layout.take(counts.pools * PoolRecord.size),
    poolTable: layout.take(counts.poolSlots * 4),
    chunks: layout.take(counts.chunks * NAT_CHUNK_BYTES),
  };
  const flowMemoryBytes = layout.take(0, REGION_ALIGNMENT) - flowMemory;
  return {
    map,
    control,
    descriptors,
    heads,
    tails,
    scratch,
    openings,
    view,
    state,
    counters,
    ruleStates,
    clientHops,
    fragments,
    held,
    heldBlocks,
    policyCounters,
    policyRefused,
    policyCache4,
    policyCache6,
    policyPairs,
    flowMemory,
    flowMemoryBytes,
    ...regions,
  };
}

/** One ring from every worker to every other. */
function ringRegions(layout: Layout, workers: number): RingRegions[] {
  const share = 2 ** Math.floor(Math.log2(RING_TAIL_BYTES / Math.max(1, workers - 1)));
  const tailBytes = Math.max(RING_TAIL_LEAST, share);
  const all = Array.from({ length: workers }, (_, index) => index);
  return all.flatMap((from) =>
    all
      .filter((to) => to !== from)
      .map((to) => ({
        from,
        to,
        ring: layout.take(HandOverRing.size),
        entries: layout.take(RING_ENTRIES * Descriptor.size),
        heads: layout.take(RING_ENTRIES * HEAD_STRIDE),
        tails: layout.take(tailBytes, REGION_ALIGNMENT),
        tailBytes,
      })),
  );
}

/**
 * Lays the memory out. @param workers 1..MAX_WORKERS
 * Throws a RangeError that names the limit at fault.
 */
export function regionMap(limits: EngineLimits, workers: number): RegionMap {
  for (const [name, value] of Object.entries(limits))
    if (!Number.isInteger(value) || value < 1 || value > 2 ** 28)
      throw new RangeError(`${name} must be an integer from 1 to ${2 ** 28}, not ${value}`);
  if (limits.maxPairs > MAX_PAIR_RECORDS) throw new RangeError(`maxPairs must be at most ${MAX_PAIR_RECORDS}`);
  if (!Number.isInteger(workers) || workers < 1 || workers > MAX_WORKERS)
    throw new RangeError(`there can be 1 to ${MAX_WORKERS} workers, not ${workers}`);
  const counts = countsOf(limits, workers);
  const capacity = imageCapacity(limits);
  // The first page stays empty: offset 0 means "none".
  const layout = new Layout(REGION_ALIGNMENT);
  const sharedHeader = layout.take(SharedHeader.size);
  const controls = Array.from({ length: workers }, () => layout.take(WorkerControl.size));
  const hashKeys = layout.take(HASH_KEY_WORDS * 4);
  const crcTable = layout.take(CRC_TABLE_BYTES);
  const ports = layout.take(MAX_PORTS * PortRecord.size);
  const nextHopCount = limits.maxPairs;
  const nextHops = layout.take(nextHopCount * NextHopRecord.size);
  const imageBytes = imageParts(capacity).bytes;
  const images = [layout.take(imageBytes, REGION_ALIGNMENT), layout.take(imageBytes, REGION_ALIGNMENT)] as const;
  const peers = layout.take(workers * 4);
  const ringTable = layout.take(workers * workers * 4);
  const regions = controls.map((control) => workerRegions(layout, counts, control));
  const rings = ringRegions(layout, workers);
  const bytes = layout.take(0, PAGE_BYTES);
  if (bytes > MEMORY_LIMIT) throw new RangeError(tooLarge(limits, workers, bytes, imageBytes, counts));
  return {
    limits,
    sharedHeader,
    crcTable,
    hashKeys,
    ports,
    nextHops,
    nextHopCount,
    capacity,
    images,
    counts,
    workers: regions,
    peers,
    ringTable,
    rings,
    bytes,
  };
}

/** One line that names the limit that takes most. */
function tooLarge(
  limits: EngineLimits,
  workers: number,
  bytes: number,
  imageBytes: number,
  counts: WorkerCounts,
): string {
  const shares: [keyof EngineLimits, number][] = [
    ["maxFlows", workers * (counts.buckets * (Bucket.size + 16) + counts.flows * FlowRecord.size)],
    [
      "maxPairs",
      workers * (counts.pairs * PairRecord.size + counts.pools * (PoolRecord.size + NAT_CHUNK_BYTES)) + 2 * imageBytes,
    ],
    ["maxSticky", workers * counts.stickies * StickyRecord.size],
    ["maxRules", workers * counts.rules * RuleState.size],
  ];
  const [name, share] = shares.sort((a, b) => b[1] - a[1])[0]!;
  const gib = (n: number) => (n / 2 ** 30).toFixed(1);
  return `the engine would need ${gib(bytes)} GiB of memory and can have 4; ${name} ${limits[name]} with ${workers} worker(s) takes ${gib(share)} GiB of it`;
}

/** The largest flow table that the memory can hold, in flows; 0 when not even one fits. @param limitsOf the limits with so many flows */
export function mostFlows(limitsOf: (maxFlows: number) => EngineLimits, workers: number): number {
  const fits = (maxFlows: number): boolean => {
    try {
      regionMap(limitsOf(maxFlows), workers);
      return true;
    } catch {
      return false;
    }
  };
  let [low, high] = [0, 2 ** 28];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (fits(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}

/** The memory for a region map. Shared, fixed in size. */
export function createMemory(map: RegionMap): WebAssembly.Memory {
  const pages = map.bytes / PAGE_BYTES;
  return new WebAssembly.Memory({ initial: pages, maximum: pages, shared: true });
}

/** A part of the memory: first byte and length. */
export interface MemoryPart {
  readonly offset: number;
  readonly bytes: number;
}

/** A table that fills from its beginning. */
export interface GrowingTable extends MemoryPart {
  /** Linear offset of the u32 that counts the records ever used. */
  readonly top: number;
  readonly recordBytes: number;
  /** How much of it is to have its pages before it is used. */
  readonly aheadBytes: number;
}

/** 262,144 flows: so many may be opened until somebody has looked and a page been cleared. */
const FLOWS_AHEAD_BYTES = 16 << 20;
/** Pairs come by commands, 21,845 of them. */
const PAIRS_AHEAD_BYTES = 4 << 20;

/**
 * How the memory is best backed by pages (docs/decisions/0038).
 * `huge`: the tables that every packet looks into at a place of chance; small pages for the rest, where a huge one would be
 * cleared for a few bytes. `early`: what the first packets touch: a worker's own records and frames, and tables that are used at
 * places of chance, of which 64 packets touch 64 pages; of those that grow a beginning. `growing`: those among the huge ones, of which
 * more is wanted as they are used up. What grows in small pages costs a fault for a dozen flows and more, and is left to that.
 */
export function pageAdvice(map: RegionMap): {
  readonly huge: readonly MemoryPart[];
  readonly early: readonly MemoryPart[];
  readonly growing: readonly GrowingTable[];
} {
  const part = (offset: number, end: number): MemoryPart => ({ offset, bytes: end - offset });
  return {
    huge: map.workers.map(({ buckets, stickies }) => part(buckets, stickies)),
    early: map.workers.flatMap((own) => [
      part(own.buckets, Math.min(own.flows + FLOWS_AHEAD_BYTES, own.pairs)),
      part(own.pairs, Math.min(own.pairs + PAIRS_AHEAD_BYTES, own.pairTable)),
      part(own.pairTable, own.stickies),
      part(own.map, own.buckets),
      part(own.stickyHeads, own.pools),
      part(own.poolTable, own.chunks),
    ]),
    growing: map.workers.flatMap(({ flowMemory, flows, pairs, pairTable }) => [
      {
        ...part(flows, pairs),
        top: flowMemory + FlowHeader.flowsTop,
        recordBytes: FlowRecord.size,
        aheadBytes: FLOWS_AHEAD_BYTES,
      },
      {
        ...part(pairs, pairTable),
        top: flowMemory + FlowHeader.pairsTop,
        recordBytes: PairRecord.size,
        aheadBytes: PAIRS_AHEAD_BYTES,
      },
    ]),
  };
}
