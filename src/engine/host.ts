/**
 * The engine as the main thread sees it: the shared memory, the tables in it, and what workers count. It hands out
 * plain values from which a worker attaches (worker-engine.ts). It processes no packets.
 */
import {
  CompatMode,
  DEAL_WORD,
  FlowHeader,
  HASH_KEY_WORDS,
  HandOverRing,
  HopState,
  ICMP_TOKENS,
  LAYOUT_FINGERPRINT,
  MAX_PORTS,
  NextHopRecord,
  PortKind,
  PortRecord,
  SharedHeader,
  WorkerControl,
  WorkerMap,
  WorkerState,
} from "../gen/layout.ts";
import { compileModule, instantiate, type MemoryViews, viewsOf } from "./abi.ts";
import type {
  Compat,
  EngineCounters,
  EngineLimits,
  FlowSnapshot,
  NextHop,
  PairIds,
  PairSignals,
  Placed,
  Port,
  StickySnapshot,
  TableImage,
  WorkerFigures,
} from "./engine.ts";
import type { LiveTables } from "./explanation.ts";
import { MemoryTables } from "./live-tables.ts";
import { createMemory, type GrowingTable, type RegionMap, regionMap, type WorkerRegions } from "./memory.ts";
import { type Ends, flowNumber, workerOfClient } from "./owner.ts";
import type { PolicyFigures, PolicyTables } from "./policy.ts";
import { restMs } from "./rest.ts";
import { type EngineHealth, StatsReader } from "./stats.ts";
import { addressWords, swap32, writeImage } from "./tables.ts";

/** Bytes of a hash key. */
export const HASH_KEY_BYTES = HASH_KEY_WORDS * 4;

/** How long publish() waits for a worker that has not left the image before. */
const PUBLISH_WAIT_MS = 2000;

/** A fresh secret, for a daemon that faces the network. */
export function randomHashKey(): Uint8Array {
  return crypto.getRandomValues(new Uint8Array(HASH_KEY_BYTES));
}

/** The same for everybody: replay and tests, where the same input must give the same output. */
export function fixedHashKey(): Uint8Array {
  const key = new Uint8Array(HASH_KEY_BYTES);
  let word = 0x12345678;
  for (let at = 0; at < key.length; at++) {
    // xorshift32 (Marsaglia 2003)
    word ^= word << 13;
    word ^= word >>> 17;
    word ^= word << 5;
    key[at] = word >>> 24;
  }
  return key;
}

/** What a worker needs to attach. Structured-cloneable. */
export interface WorkerSeat {
  readonly memory: WebAssembly.Memory;
  readonly map: RegionMap;
  readonly workerIndex: number;
  /** The compiled engine, as bytes. */
  readonly moduleBytes: Uint8Array<ArrayBuffer>;
}

export interface EngineHostOptions {
  readonly limits: EngineLimits;
  /** 1..MAX_WORKERS */
  readonly workers: number;
  /** HASH_KEY_BYTES secret bytes: randomHashKey() or fixedHashKey(). */
  readonly hashKey: Uint8Array;
  /** From abi.ts readModule(). */
  readonly moduleBytes: Uint8Array<ArrayBuffer>;
  /** Default `modern`. */
  readonly compat?: Compat;
  /** Which of its proxy ports a worker begins a pool with, modulo their number. Default 0: the lowest. */
  readonly firstProxyPlace?: number;
}

/** A worker kept an image longer than PUBLISH_WAIT_MS: it hangs or is gone. Nothing has changed. */
export class PublishBlocked extends Error {
  override readonly name = "PublishBlocked";
}

export class EngineHost {
  readonly memory: WebAssembly.Memory;
  readonly map: RegionMap;
  readonly #views: MemoryViews;
  readonly #moduleBytes: Uint8Array<ArrayBuffer> | null;
  readonly #stats: StatsReader;
  #rules: readonly { readonly id: number; readonly slot: number }[] = [];
  #policy: { readonly tables: PolicyTables | undefined; readonly epoch: number } = { tables: undefined, epoch: 0 };

  private constructor(memory: WebAssembly.Memory, map: RegionMap, moduleBytes: Uint8Array<ArrayBuffer> | null) {
    this.memory = memory;
    this.map = map;
    this.#views = viewsOf(memory);
    this.#moduleBytes = moduleBytes;
    this.#stats = new StatsReader(this.#views, map);
  }

  /** Lays the memory out. Throws a RangeError that names a limit which is too large. */
  static create(options: EngineHostOptions): EngineHost {
    return EngineHost.#create(options, compileModule(options.moduleBytes), options.moduleBytes);
  }

  /** The same from a module that is compiled already; such a host has no seats to give. */
  static prepare(limits: EngineLimits, workers: number, hashKey: Uint8Array, module: WebAssembly.Module): EngineHost {
    return EngineHost.#create({ limits, workers, hashKey }, module, null);
  }

  static #create(
    options: Omit<EngineHostOptions, "moduleBytes">,
    module: WebAssembly.Module,
    moduleBytes: Uint8Array<ArrayBuffer> | null,
  ): EngineHost {
    const { limits, workers, hashKey } = options;
    const map = regionMap(limits, workers);
    if (hashKey.length !== HASH_KEY_BYTES)
      throw new RangeError(`the hash key must have ${HASH_KEY_BYTES} bytes, not ${hashKey.length}`);
    const host = new EngineHost(createMemory(map), map, moduleBytes);
    host.#setUp(options, module);
    return host;
  }

  #setUp(options: Omit<EngineHostOptions, "moduleBytes">, module: WebAssembly.Module): void {
    const { hashKey, compat = "modern", firstProxyPlace = 0 } = options;
    const { u8 } = this.#views;
    this.#set(this.map.sharedHeader + SharedHeader.fingerprint, LAYOUT_FINGERPRINT);
    this.#set(this.map.sharedHeader + SharedHeader.workerCount, this.map.workers.length);
    this.#set(this.map.sharedHeader + SharedHeader.compat, compat === "ilb" ? CompatMode.Ilb : CompatMode.Modern);
    this.#set(this.map.sharedHeader + SharedHeader.firstProxyPlace, firstProxyPlace);
    u8.set(hashKey, this.map.hashKeys);
    this.map.workers.forEach((worker, index) => {
      this.#writeMap(worker, index);
      // Nobody runs yet, so nobody uses an image.
      this.#set(worker.control + WorkerControl.quiescent, 1);
      this.#set(worker.state + WorkerState.icmpTokens, ICMP_TOKENS);
      this.#set(worker.flowMemory + FlowHeader.fingerprint, LAYOUT_FINGERPRINT);
    });
    this.#writeRings();
    instantiate(module, this.memory, this.map.workers[0]!.map).writeConstants();
  }

  #writeRings(): void {
    const { workers, peers, ringTable, rings } = this.map;
    workers.forEach((worker, index) => {
      this.#set(peers + index * 4, worker.map);
    });
    for (const { from, to, ring, entries, heads, tails, tailBytes } of rings) {
      this.#set(ringTable + (from * workers.length + to) * 4, ring);
      this.#set(ring + HandOverRing.entries, entries);
      this.#set(ring + HandOverRing.heads, heads);
      this.#set(ring + HandOverRing.tails, tails);
      this.#set(ring + HandOverRing.tailMask, tailBytes - 1);
    }
  }

  #set(at: number, value: number): void {
    Atomics.store(this.#views.u32, at >>> 2, value);
  }

  #get(at: number): number {
    return Atomics.load(this.#views.u32, at >>> 2);
  }

  #writeMap(worker: WorkerRegions, workerIndex: number): void {
    const { map } = this;
    const { counts } = map;
    const values: Omit<{ [K in keyof typeof WorkerMap]: number }, "size" | `pad${number}`> = {
      workerIndex,
      sharedHeader: map.sharedHeader,
      control: worker.control,
      crcTable: map.crcTable,
      hashKeys: map.hashKeys,
      ports: map.ports,
      nextHops: map.nextHops,
      nextHopCount: map.nextHopCount,
      descriptors: worker.descriptors,
      heads: worker.heads,
      tails: worker.tails,
      scratch: worker.scratch,
      openings: worker.openings,
      view: worker.view,
      state: worker.state,
      counters: worker.counters,
      ruleStates: worker.ruleStates,
      flowHeader: worker.flowMemory,
      buckets: worker.buckets,
      bucketCount: counts.buckets,
      slotRecords: worker.slotRecords,
      flows: worker.flows,
      flowCount: counts.flows,
      pairs: worker.pairs,
      pairCount: counts.pairs,
      pairTable: worker.pairTable,
      pairTableMask: counts.pairSlots - 1,
      stickies: worker.stickies,
      stickyCount: counts.stickies,
      stickyHeads: worker.stickyHeads,
      stickyHeadMask: counts.stickyHeads - 1,
      pools: worker.pools,
      poolCount: counts.pools,
      poolTable: worker.poolTable,
      poolTableMask: counts.poolSlots - 1,
      chunks: worker.chunks,
      chunkCount: counts.chunks,
      clientHops: worker.clientHops,
      fragments: worker.fragments,
      held: worker.held,
      heldBlocks: worker.heldBlocks,
      workerCount: map.workers.length,
      peers: map.peers,
      rings: map.ringTable,
      policyCounters: worker.policyCounters,
      policyRefused: worker.policyRefused,
      policyCache4: worker.policyCache4,
      policyCache6: worker.policyCache6,
      policyPairs: worker.policyPairs,
    };
    for (const [field, value] of Object.entries(values))
      this.#set(worker.map + WorkerMap[field as keyof typeof values], value);
  }

  /** What worker `workerIndex` attaches with. */
  seat(workerIndex: number): WorkerSeat {
    if (this.#moduleBytes === null) throw new Error("this engine was made without the bytes of its module");
    return { memory: this.memory, map: this.map, workerIndex, moduleBytes: this.#moduleBytes };
  }

  /** Takes effect with the next packet. @param index 0..MAX_PORTS-1, null: the port is gone */
  setPort(index: number, port: Port | null): void {
    if (index < 0 || index >= MAX_PORTS) throw new RangeError(`there can be ${MAX_PORTS} ports; ${index} is none`);
    const at = this.map.ports + index * PortRecord.size;
    const kind = port === null ? PortKind.Absent : port.kind === "ethernet" ? PortKind.Ethernet : PortKind.Ip;
    if (port !== null) {
      this.#store64(at + PortRecord.mac, macBits(port.mac));
      this.#set(at + PortRecord.address4Be, port.address4 === null ? 0 : swap32(Number(port.address4.value)));
      const words = port.address6 === null ? [0, 0, 0, 0] : addressWords(port.address6);
      words.forEach((word, place) => {
        this.#set(at + PortRecord.address6Head + place * 4, word);
      });
    }
    this.#store64(at + PortRecord.kind, BigInt(kind) | (BigInt(port?.mtu ?? 0) << 32n));
  }

  /** Takes effect with the next packet. @param index below limits.maxPairs */
  setNextHop(index: number, hop: NextHop): void {
    if (index < 0 || index >= this.map.nextHopCount)
      throw new RangeError(`there can be ${this.map.nextHopCount} next hops; ${index} is none`);
    const at = this.map.nextHops + index * NextHopRecord.size;
    const states = { none: HopState.None, unresolved: HopState.Unresolved, resolved: HopState.Resolved } as const;
    const mtu = BigInt(Math.min(hop.mtu, 0xffff));
    const place = (BigInt(hop.port & 0xff) << 48n) | (BigInt(states[hop.state]) << 56n);
    this.#store64(at + NextHopRecord.source, macBits(hop.sourceMac) | (mtu << 48n));
    this.#store64(at + NextHopRecord.destination, macBits(hop.destinationMac) | place);
  }

  #store64(at: number, value: bigint): void {
    Atomics.store(this.#views.u64, at >>> 3, value);
  }

  /**
   * Makes `image` the one that workers use from their next batch on. Waits, at most 2 s, for workers that still use the
   * image before the current one.
   * Throws ImageTooLarge when it does not fit and PublishBlocked when a worker does not move on; then nothing has changed.
   */
  publish(image: TableImage): void {
    this.stage(image)();
  }

  /**
   * The first half of publish(): writes `image` to the half of the memory that nobody uses. Waits and throws as publish()
   * does. @returns the second half: puts it in force, cannot fail. Not calling it discards the image; stage the next one
   * only after that decision.
   */
  stage(image: TableImage): () => void {
    const published = Atomics.load(this.#views.u64, (this.map.sharedHeader + SharedHeader.published) >>> 3);
    const generation = Number(published & 0xffffffffn);
    if (image.generation === 0 || image.generation === generation)
      throw new Error(`image generation ${image.generation} after ${generation}`);
    this.#waitFor(generation);
    const [first, second] = this.map.images;
    const base = Number(published >> 32n) === first ? second : first;
    writeImage(this.#views, base, this.map.capacity, this.map.nextHopCount, image, this.#epochOf(image.policy));
    return () => {
      this.#rules = image.rules.map(({ id, slot }) => ({ id, slot }));
      this.#store64(this.map.sharedHeader + SharedHeader.published, (BigInt(base) << 32n) | BigInt(image.generation));
    };
  }

  /** A number for each policy: workers forget what they know about addresses when it changes. */
  #epochOf(policy: PolicyTables | undefined): number {
    if (policy !== this.#policy.tables) this.#policy = { tables: policy, epoch: (this.#policy.epoch + 1) >>> 0 || 1 };
    return this.#policy.epoch;
  }

  /** Blocks until every worker has left the images before `generation`. */
  #waitFor(generation: number): void {
    const until = performance.now() + PUBLISH_WAIT_MS;
    while (!this.generationReached(generation)) {
      if (performance.now() > until)
        throw new PublishBlocked("a packet worker does not take the tables over; it hangs or has ended");
      // Nobody wakes us: workers make no system call for the main thread's sake. So look again every millisecond.
      Atomics.wait(
        this.#views.i32,
        (this.map.sharedHeader + SharedHeader.fingerprint) >>> 2,
        LAYOUT_FINGERPRINT | 0,
        1,
      );
    }
  }

  /** Whether no worker uses an image older than `generation`: each has seen it or waits for packets. */
  generationReached(generation: number): boolean {
    return this.map.workers.every(
      ({ control }) =>
        this.#get(control + WorkerControl.quiescent) === 1 ||
        ((this.#get(control + WorkerControl.seenGeneration) - generation) | 0) >= 0,
    );
  }

  /** Records of the table that have ever been used. */
  usedRecords({ top }: GrowingTable): number {
    return this.#get(top);
  }

  /** Asks a worker to leave its loop; it looks between batches. */
  requestStop(workerIndex: number): void {
    this.#set(this.map.workers[workerIndex]!.control + WorkerControl.stop, 1);
  }

  /** A worker's engine clock at its last sign of life, milliseconds, wrapped to u32. */
  heartbeatMs(workerIndex: number): number {
    return this.#get(this.map.workers[workerIndex]!.control + WorkerControl.heartbeatMs);
  }

  /**
   * Sums over workers: rules of the image published last, pairs that have seen traffic (absent: zero).
   */
  counters(): EngineCounters {
    return this.#stats.counters(this.#rules);
  }

  /** The figures of each worker. */
  workers(): WorkerFigures[] {
    return this.#stats.workers();
  }

  /** Signals of failing servers so far, of all pairs; wraps. Cheap enough for every look. */
  signalCount(): number {
    return this.#stats.signalCount();
  }

  /** Pairs that have any, once per worker. A scan of all pairs: for when signalCount() has moved. */
  signals(): PairSignals[] {
    return this.#stats.signals();
  }

  /** Pairs that hold flows, once per worker; read lazily while workers run. */
  heldPairs(): Iterable<PairIds> {
    return { [Symbol.iterator]: () => this.#stats.heldPairs() };
  }

  /** What the flow policy counted and refused since the start, whatever policies there have been. */
  policy(): PolicyFigures {
    return this.#stats.policy();
  }

  health(): EngineHealth {
    return this.#stats.health();
  }

  /** For how long a sweep finds nothing to do, right after one of everything; only while no worker runs. See rest.ts. */
  restMs(nowMs: number): number {
    return restMs(this.#views, this.map, nowMs);
  }

  /** Connection entries, read lazily while workers run. */
  flows(): Iterable<FlowSnapshot> {
    return { [Symbol.iterator]: () => this.#stats.flows() };
  }

  /** The worker that opens the flow of a client's packet. @param stickyBits see workerOfClient; null: the rule is not sticky */
  workerOf(packet: Ends, stickyBits: number | null): number {
    const workers = this.map.workers.length;
    if (stickyBits === null) return flowNumber(this.dealSecret, packet) % workers;
    return workerOfClient(this.#hashKey, workers, packet.source, stickyBits);
  }

  /** What packet sockets that share an interface have to know, so that they deal as workers open flows (`flowNumber`). */
  get dealSecret(): number {
    return this.#hashKey[DEAL_WORD]!;
  }

  get #hashKey(): Uint32Array {
    return this.#views.u32.subarray(this.map.hashKeys >>> 2, (this.map.hashKeys >>> 2) + HASH_KEY_WORDS);
  }

  /** The same with their places, beginning with place `from`. */
  flowsFrom(from: number): Iterable<Placed<FlowSnapshot>> {
    return { [Symbol.iterator]: () => this.#stats.flowsFrom(from) };
  }

  /** What `explain` reads, while workers run. */
  live(): LiveTables {
    return new MemoryTables(this.#views, this.map, {
      flowAt: (worker, index) => this.#stats.flowAt(worker, index),
      workerOf: (packet, stickyBits) => this.workerOf(packet, stickyBits),
    });
  }

  /** Sticky entries, read lazily while workers run. */
  sticky(): Iterable<StickySnapshot> {
    return { [Symbol.iterator]: () => this.#stats.sticky() };
  }

  /** The same with their places, beginning with place `from`. */
  stickyFrom(from: number): Iterable<Placed<StickySnapshot>> {
    return { [Symbol.iterator]: () => this.#stats.stickyFrom(from) };
  }
}

/** Six bytes, the first lowest. */
function macBits(mac: Uint8Array): bigint {
  let bits = 0n;
  for (let index = 0; index < 6; index++) bits |= BigInt(mac[index] ?? 0) << BigInt(8 * index);
  return bits;
}
