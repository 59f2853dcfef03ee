/**
 * Where this instance's memory regions begin. The only mutable globals of the module: set once by attach(), `image` and
 * `policy` by adopt(). Several instances share one memory, and each has these of its own (decision record 0001).
 */
import { CompatMode, ImageHeader, LAYOUT_FINGERPRINT, SharedHeader, WorkerMap, WorkerState } from "./gen/layout";

export let sharedHeader: usize = 0;
/** The one predicate of --compat. */
export let isIlb: bool = false;
export let control: usize = 0;
export let crcTable: usize = 0;
export let hashKeys: usize = 0;
export let ports: usize = 0;
export let nextHops: usize = 0;
export let nextHopCount: u32 = 0;
export let descriptors: usize = 0;
export let heads: usize = 0;
export let scratch: usize = 0;
export let openings: usize = 0;
export let viewBase: usize = 0;
export let stateBase: usize = 0;
export let counters: usize = 0;
export let ruleStates: usize = 0;
export let flowHeader: usize = 0;
export let buckets: usize = 0;
export let bucketCount: u32 = 0;
export let slotRecords: usize = 0;
export let flows: usize = 0;
export let flowCount: u32 = 0;
export let pairs: usize = 0;
export let pairCount: u32 = 0;
export let pairTable: usize = 0;
export let pairTableMask: u32 = 0;
export let stickies: usize = 0;
export let stickyCount: u32 = 0;
export let stickyHeads: usize = 0;
export let stickyHeadMask: u32 = 0;
export let pools: usize = 0;
export let poolCount: u32 = 0;
export let poolTable: usize = 0;
export let poolTableMask: u32 = 0;
export let chunks: usize = 0;
export let chunkCount: u32 = 0;
export let clientHops: usize = 0;
export let fragments: usize = 0;
export let held: usize = 0;
export let heldBlocks: usize = 0;
export let workerIndex: u32 = 0;
/** 1: there is nobody to hand anything over to. */
export let workerCount: u32 = 1;
export let peers: usize = 0;
export let rings: usize = 0;
/** The image in use, 0: none. */
export let image: usize = 0;
/** Its PolicyHeader, 0: no policy is in force. */
export let policy: usize = 0;
export let policyCounters: usize = 0;
export let policyRefused: usize = 0;
export let policyCache4: usize = 0;
export let policyCache6: usize = 0;
export let policyPairs: usize = 0;

/**
 * Ties this instance to one worker's region.
 * @param mapOffset linear offset of its WorkerMap
 * @returns false when the memory was laid out by another layout; then nothing is attached
 */
export function attach(mapOffset: usize): bool {
  const map = changetype<WorkerMap>(mapOffset);
  if (changetype<SharedHeader>(map.sharedHeader).fingerprint != LAYOUT_FINGERPRINT) return false;
  sharedHeader = map.sharedHeader;
  isIlb = changetype<SharedHeader>(map.sharedHeader).compat == CompatMode.Ilb;
  control = map.control;
  crcTable = map.crcTable;
  hashKeys = map.hashKeys;
  ports = map.ports;
  nextHops = map.nextHops;
  nextHopCount = map.nextHopCount;
  descriptors = map.descriptors;
  heads = map.heads;
  scratch = map.scratch;
  openings = map.openings;
  viewBase = map.view;
  stateBase = map.state;
  counters = map.counters;
  ruleStates = map.ruleStates;
  flowHeader = map.flowHeader;
  buckets = map.buckets;
  bucketCount = map.bucketCount;
  slotRecords = map.slotRecords;
  flows = map.flows;
  flowCount = map.flowCount;
  pairs = map.pairs;
  pairCount = map.pairCount;
  pairTable = map.pairTable;
  pairTableMask = map.pairTableMask;
  stickies = map.stickies;
  stickyCount = map.stickyCount;
  stickyHeads = map.stickyHeads;
  stickyHeadMask = map.stickyHeadMask;
  pools = map.pools;
  poolCount = map.poolCount;
  poolTable = map.poolTable;
  poolTableMask = map.poolTableMask;
  chunks = map.chunks;
  chunkCount = map.chunkCount;
  clientHops = map.clientHops;
  fragments = map.fragments;
  held = map.held;
  heldBlocks = map.heldBlocks;
  workerIndex = map.workerIndex;
  workerCount = map.workerCount;
  peers = map.peers;
  rings = map.rings;
  policyCounters = map.policyCounters;
  policyRefused = map.policyRefused;
  policyCache4 = map.policyCache4;
  policyCache6 = map.policyCache6;
  policyPairs = map.policyPairs;
  // Another instance may have adopted it for the worker already.
  useImage(changetype<WorkerState>(map.state).image);
  return true;
}

/** Makes `offset` the image in use. */
export function useImage(offset: usize): void {
  image = offset;
  policy = offset ? changetype<ImageHeader>(offset).policy : 0;
}
