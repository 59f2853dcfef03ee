/**
 * How long a sweep would find nothing to do, for whoever lets time pass without packets (replay). Looks at everything that
 * assembly/sweep.ts looks at, and at the times it goes by. For memory that no worker is using meanwhile.
 */
import {
  Bucket,
  FLOW_LIVE,
  FlowHeader,
  FlowRecord,
  FRAGMENT_MS,
  FRAGMENT_SETS,
  FRAGMENT_WAYS,
  FragmentRecord,
  HELD_FRAGMENTS,
  HELD_MS,
  HeldRecord,
  MAX_TIMEOUT_MS,
  NAT_POOL_IDLE_MS,
  NONE,
  PAIR_DRAINING,
  PAIR_IN_IMAGE,
  PAIR_USED,
  PairRecord,
  PoolRecord,
  StickyRecord,
  WorkerState,
} from "../gen/layout.ts";
import type { MemoryViews } from "./abi.ts";
import type { RegionMap, WorkerRegions } from "./memory.ts";

/**
 * A flow whose client has long been silent while its server may still send is told so by every sweep, so that its deadline
 * does not wrap round to the future (half of 32 bits); what it waits for lies MAX_TIMEOUT_MS ahead at most.
 */
const LONGEST_REST_MS = 2 ** 31 - 1 - MAX_TIMEOUT_MS;

/**
 * Milliseconds from `nowMs`, engine clock, at which a sweep first finds something to do, if no packet comes and no image is
 * published; 0: at once, LONGEST_REST_MS at the most. Right after a sweep of everything.
 */
export function restMs(views: MemoryViews, map: RegionMap, nowMs: number): number {
  return Math.min(...map.workers.map((worker) => new Rest(views, worker, nowMs).ms()));
}

class Rest {
  readonly #views: MemoryViews;
  readonly #worker: WorkerRegions;
  readonly #now: number;
  #least = LONGEST_REST_MS;

  constructor(views: MemoryViews, worker: WorkerRegions, nowMs: number) {
    this.#views = views;
    this.#worker = worker;
    this.#now = nowMs | 0;
  }

  ms(): number {
    if (this.#u32(this.#worker.state + WorkerState.pairsBehind) !== 0) return 0;
    this.#fragments();
    this.#held();
    this.#pairs();
    this.#flows();
    this.#stickies();
    this.#pools();
    return this.#least;
  }

  #u32(at: number): number {
    return this.#views.u32[at >>> 2]!;
  }

  /** Milliseconds until a time on the wrapping clock, 0 when it has come. */
  #until(atMs: number): number {
    return Math.max(0, (atMs - this.#now) | 0);
  }

  #note(atMs: number): void {
    this.#least = Math.min(this.#least, this.#until(atMs));
  }

  #fragments(): void {
    const { fragments } = this.#worker;
    for (let index = 0; index < FRAGMENT_SETS * FRAGMENT_WAYS; index++) {
      const at = fragments + index * FragmentRecord.size;
      if (this.#u32(at + FragmentRecord.outcome) !== 0) this.#note(this.#u32(at + FragmentRecord.madeMs) + FRAGMENT_MS);
    }
  }

  /** But for what is the kernel's, which only a batch gives up. */
  #held(): void {
    const { u8 } = this.#views;
    if (this.#u32(this.#worker.state + WorkerState.heldCount) === 0) return;
    for (let index = 0; index < HELD_FRAGMENTS; index++) {
      const at = this.#worker.held + index * HeldRecord.size;
      const isOurs = u8[at + HeldRecord.live] !== 0 && u8[at + HeldRecord.isKernels] === 0;
      if (isOurs) this.#note(this.#u32(at + HeldRecord.heldMs) + HELD_MS);
    }
  }

  /** Those that nobody names any more are freed. */
  #pairs(): void {
    for (const at of this.#records(FlowHeader.pairsTop, this.#worker.pairs, PairRecord.size)) {
      const flags = this.#u32(at + PairRecord.flags);
      const isNamed =
        (flags & PAIR_IN_IMAGE) !== 0 ||
        this.#u32(at + PairRecord.flowCount) !== 0 ||
        this.#u32(at + PairRecord.stickyCount) !== 0;
      if ((flags & PAIR_USED) !== 0 && !isNamed) this.#least = 0;
    }
  }

  /** Over when both directions are, or when the server has drained. */
  #flows(): void {
    const { u8 } = this.#views;
    for (const at of this.#records(FlowHeader.flowsTop, this.#worker.flows, FlowRecord.size)) {
      if ((u8[at + FlowRecord.state]! & FLOW_LIVE) === 0) continue;
      const forward = this.#until(this.#deadlineOf(this.#u32(at + FlowRecord.slotForward)));
      const slot = this.#u32(at + FlowRecord.slotReverse);
      const both = slot === NONE ? forward : Math.max(forward, this.#until(this.#deadlineOf(slot)));
      this.#least = Math.min(this.#least, both);
      const pair = this.#worker.pairs + this.#u32(at + FlowRecord.pair) * PairRecord.size;
      if (this.#u32(pair + PairRecord.flags) & PAIR_DRAINING) this.#note(this.#u32(pair + PairRecord.drainDeadlineMs));
    }
  }

  #deadlineOf(slot: number): number {
    return this.#u32(this.#worker.buckets + (slot >>> 2) * Bucket.size + Bucket.deadline0 + (slot & 3) * 4);
  }

  /** Idle longer than the timeout, not as long. */
  #stickies(): void {
    for (const at of this.#records(FlowHeader.stickiesTop, this.#worker.stickies, StickyRecord.size)) {
      const isIdle = this.#u32(at + StickyRecord.live) !== 0 && this.#u32(at + StickyRecord.flowCount) === 0;
      if (isIdle) this.#note(this.#u32(at + StickyRecord.deadlineMs) + 1);
    }
  }

  #pools(): void {
    for (const at of this.#records(FlowHeader.poolsTop, this.#worker.pools, PoolRecord.size)) {
      const isIdle = this.#u32(at + PoolRecord.live) !== 0 && this.#u32(at + PoolRecord.used) === 0;
      if (isIdle) this.#note(this.#u32(at + PoolRecord.idleSinceMs) + NAT_POOL_IDLE_MS);
    }
  }

  /** Places of the records that were ever used. @param top field of FlowHeader that says how many */
  *#records(top: number, first: number, size: number): Generator<number> {
    const count = this.#u32(this.#worker.flowMemory + top);
    for (let index = 0; index < count; index++) yield first + index * size;
  }
}
