/**
 * Reading what the workers count and remember, out of shared memory while they run. Nothing is locked: a counter is one
 * 64-bit load, a record that changes under the reader's eyes is left out.
 */
import {
  FLOW_LIVE,
  FlowHeader,
  FlowRecord,
  PAIR_USED,
  PairRecord,
  POLICY_COUNTERS,
  POLICY_NO_FLOW,
  POLICY_REFUSED,
  PolicyCounter,
  PolicyRefused,
  REASON_NAMES,
  RuleState,
  RuleType,
  StickyRecord,
  WorkerCounters,
} from "../gen/layout.ts";
import type { Address } from "../model/address.ts";
import type { MemoryViews } from "./abi.ts";
import {
  type EngineCounters,
  type FlowSnapshot,
  type PairCounters,
  type PairIds,
  type PairSignals,
  type Placed,
  RULE_COUNTER_NAMES,
  type RuleCounters,
  type StickySnapshot,
  type WorkerFigures,
  zeroPairCounters,
} from "./engine.ts";
import type { RegionMap, WorkerRegions } from "./memory.ts";
import { latestRefused, type PolicyFigures, REFUSALS, type RefusedTuple } from "./policy.ts";
import { RisingSums } from "./rising-sums.ts";
import { PROTOCOL_NUMBERS, wordsAddress } from "./tables.ts";

const swap16 = (n: number): number => ((n & 0xff) << 8) | (n >>> 8);

/** More than any worker has records; places stay exact as doubles for every number of workers. */
const PLACES_PER_WORKER = 2 ** 32;

/** Engine-wide sums that are no part of EngineCounters. */
export interface EngineHealth {
  readonly flows: number;
  readonly stickies: number;
  /** Half-open flows given up because the table was full. */
  readonly evicted: bigint;
  readonly expired: bigint;
  /** Frames that went from one worker to another. */
  readonly handedOver: bigint;
}

/** A read-only look at the memory of all workers. */
export class StatsReader {
  readonly #views: MemoryViews;
  readonly #map: RegionMap;
  readonly #rising = new RisingSums();

  constructor(views: MemoryViews, map: RegionMap) {
    this.#views = views;
    this.#map = map;
  }

  #u32(at: number): number {
    return Atomics.load(this.#views.u32, at >>> 2);
  }

  #u64(at: number): bigint {
    return Atomics.load(this.#views.u64, at >>> 3);
  }

  /** Sums over all workers. @param rules id and slot of the rules to report, in this order */
  counters(rules: readonly { readonly id: number; readonly slot: number }[]): EngineCounters {
    const { workers } = this.#map;
    const total = (field: number) => workers.reduce((sum, worker) => sum + this.#u64(worker.counters + field), 0n);
    return {
      packetsIn: total(WorkerCounters.packetsIn),
      reasons: REASON_NAMES.map((_, reason) => total(WorkerCounters.size + reason * 8)),
      rules: rules.map(({ id, slot }) => this.#rule(id, slot)),
      pairs: this.#pairs(),
      fragmentsIn: total(WorkerCounters.fragmentsIn),
      fragmentsDropped: total(WorkerCounters.fragmentsDropped),
    };
  }

  /** Counters of the flow policy summed over workers, and the latest of what any of them refused. */
  policy(): PolicyFigures {
    const { workers } = this.#map;
    const sum = (index: number, field: number) =>
      workers.reduce(
        (all, { policyCounters }) => all + this.#u64(policyCounters + index * PolicyCounter.size + field),
        0n,
      );
    const counters = Array.from({ length: POLICY_COUNTERS }, (_, index) => ({
      packets: sum(index, PolicyCounter.packets),
      bytes: sum(index, PolicyCounter.bytes),
    }));
    return { counters, refused: latestRefused(workers.flatMap((worker) => this.#refused(worker))) };
  }

  /** A worker's refused tuples, the latest first; one that changes under the reader's eyes is left out. */
  #refused({ policyRefused }: WorkerRegions): RefusedTuple[] {
    const { u16 } = this.#views;
    const found: { readonly order: number; readonly tuple: RefusedTuple }[] = [];
    for (let index = 0; index < POLICY_REFUSED; index++) {
      const at = policyRefused + index * PolicyRefused.size;
      const order = this.#u32(at + PolicyRefused.order);
      if (order === 0) continue;
      const tuple = {
        source: this.#address(at + PolicyRefused.sourceHead),
        destination: this.#address(at + PolicyRefused.destinationHead),
        protocol: u16[(at + PolicyRefused.protocol) >>> 1]!,
        sourcePort: u16[(at + PolicyRefused.sourcePort) >>> 1]!,
        destinationPort: u16[(at + PolicyRefused.destinationPort) >>> 1]!,
        refusal: REFUSALS[u16[(at + PolicyRefused.counter) >>> 1]! - POLICY_NO_FLOW]!,
        packets: this.#u64(at + PolicyRefused.packets),
        lastMs: this.#u32(at + PolicyRefused.lastMs),
      };
      if (this.#u32(at + PolicyRefused.order) === order) found.push({ order, tuple });
    }
    return found.sort((a, b) => (b.order - a.order) | 0).map(({ tuple }) => tuple);
  }

  health(): EngineHealth {
    const { workers } = this.#map;
    const total = (field: number) => workers.reduce((sum, worker) => sum + this.#u64(worker.counters + field), 0n);
    const live = (field: number) => workers.reduce((sum, worker) => sum + this.#u32(worker.flowMemory + field), 0);
    return {
      flows: live(FlowHeader.flowsLive),
      stickies: live(FlowHeader.stickiesLive),
      evicted: total(WorkerCounters.evicted),
      expired: total(WorkerCounters.expired),
      handedOver: total(WorkerCounters.handedOver),
    };
  }

  /** The figures of each worker. */
  workers(): WorkerFigures[] {
    return this.#map.workers.map(({ counters, flowMemory }) => ({
      packetsIn: this.#u64(counters + WorkerCounters.packetsIn),
      handedOver: this.#u64(counters + WorkerCounters.handedOver),
      takenOver: this.#u64(counters + WorkerCounters.takenOver),
      flows: this.#u32(flowMemory + FlowHeader.flowsLive),
      flowsExpired: this.#u64(counters + WorkerCounters.expired),
      flowsEvicted: this.#u64(counters + WorkerCounters.evicted),
    }));
  }

  #rule(ruleId: number, slot: number): RuleCounters {
    const sums: Record<string, bigint> = Object.fromEntries(RULE_COUNTER_NAMES.map((name) => [name, 0n]));
    for (const worker of this.#map.workers) {
      const at = worker.ruleStates + slot * RuleState.size;
      if (this.#u32(at + RuleState.ruleId) !== ruleId) continue;
      for (const name of RULE_COUNTER_NAMES) sums[name]! += this.#u64(at + RuleState[name]);
    }
    return { ruleId, ...sums } as unknown as RuleCounters;
  }

  /** Pairs that have seen traffic, summed over workers; no counter falls while a worker has the pair. */
  #pairs(): PairCounters[] {
    type Sum = { -readonly [K in keyof PairCounters]: PairCounters[K] };
    const sums = new Map<string, Sum>();
    for (const worker of this.#map.workers) {
      const top = this.#u32(worker.flowMemory + FlowHeader.pairsTop);
      for (let index = 0; index < top; index++) {
        const at = worker.pairs + index * PairRecord.size;
        const ids = this.#u64(at);
        if (!(this.#u32(at + PairRecord.flags) & PAIR_USED)) continue;
        const packets = this.#u64(at + PairRecord.packets);
        const bytes = this.#u64(at + PairRecord.bytes);
        const flows = this.#u32(at + PairRecord.flowCount);
        if (this.#u64(at) !== ids || (packets === 0n && flows === 0)) continue;
        const ruleId = Number(ids & 0xffffffffn);
        const serverId = Number(ids >> 32n);
        const sum: Sum = sums.get(`${ids}`) ?? { ...zeroPairCounters(ruleId, serverId) };
        sum.packets += packets;
        sum.bytes += bytes;
        sum.flows += flows;
        sum.refused += this.#u64(at + PairRecord.refused);
        sum.unanswered += this.#u64(at + PairRecord.unanswered);
        sums.set(`${ids}`, sum);
      }
    }
    return this.#rising.add(sums);
  }

  /** Signals of failing servers that the workers have counted, all together; wraps. One load per worker. */
  signalCount(): number {
    return this.#map.workers.reduce(
      (sum, { flowMemory }) => (sum + this.#u32(flowMemory + FlowHeader.signals)) >>> 0,
      0,
    );
  }

  /** Pairs that have any, per worker. */
  signals(): PairSignals[] {
    const found: PairSignals[] = [];
    for (const worker of this.#map.workers) {
      const top = this.#u32(worker.flowMemory + FlowHeader.pairsTop);
      for (let index = 0; index < top; index++) {
        const at = worker.pairs + index * PairRecord.size;
        // The low halves: what matters is whether they move.
        const count = (this.#u32(at + PairRecord.refused) + this.#u32(at + PairRecord.unanswered)) >>> 0;
        if (count === 0 || !(this.#u32(at + PairRecord.flags) & PAIR_USED)) continue;
        found.push({
          ruleId: this.#u32(at + PairRecord.ruleId),
          serverId: this.#u32(at + PairRecord.serverId),
          count,
        });
      }
    }
    return found;
  }

  /** Pairs that hold flows, once per worker that has any: a look at one word of most, where counters() adds up all. */
  *heldPairs(): Generator<PairIds, void, undefined> {
    for (const worker of this.#map.workers) {
      const top = this.#u32(worker.flowMemory + FlowHeader.pairsTop);
      for (let index = 0; index < top; index++) {
        const at = worker.pairs + index * PairRecord.size;
        const ruleId = this.#u32(at + PairRecord.ruleId);
        const serverId = this.#u32(at + PairRecord.serverId);
        if (!(this.#u32(at + PairRecord.flags) & PAIR_USED) || this.#u32(at + PairRecord.flowCount) === 0) continue;
        const isStill =
          ruleId === this.#u32(at + PairRecord.ruleId) && serverId === this.#u32(at + PairRecord.serverId);
        if (isStill) yield { ruleId, serverId };
      }
    }
  }

  #address(at: number): Address {
    return wordsAddress(this.#views.u32, at >>> 2);
  }

  /** Connection entries, read as they are asked for. Those that change meanwhile may be missing. */
  *flows(): Generator<FlowSnapshot, void, undefined> {
    for (const { entry } of this.flowsFrom(0)) yield entry;
  }

  /** The same with their places, beginning with place `from`. */
  *flowsFrom(from: number): Generator<Placed<FlowSnapshot>, void, undefined> {
    for (const { worker, index, place } of this.#places(from, (header) => header + FlowHeader.flowsTop)) {
      const entry = this.flowAt(worker, index);
      if (entry !== null) yield { place, entry };
    }
  }

  /** Records of all workers in use or not, by ascending place. @param topOf where a worker's first unused index is */
  *#places(
    from: number,
    topOf: (flowMemory: number) => number,
  ): Generator<{ worker: WorkerRegions; index: number; place: number }, void, undefined> {
    for (const [number, worker] of this.#map.workers.entries()) {
      const first = number * PLACES_PER_WORKER;
      for (let index = Math.max(0, from - first); index < this.#u32(topOf(worker.flowMemory)); index++)
        yield { worker, index, place: first + index };
    }
  }

  /** The flow of one record, null when it is not in use or changes meanwhile. */
  flowAt(worker: WorkerRegions, index: number): FlowSnapshot | null {
    const at = worker.flows + index * FlowRecord.size;
    const before = this.#flowIdentity(at);
    const flow = this.#flow(worker, at);
    return flow !== null && this.#flowIdentity(at) === before ? flow : null;
  }

  /** Client, ports, pair and whether the record is in use, as one text. */
  #flowIdentity(at: number): string {
    const words: number[] = [];
    for (let offset = 0; offset < FlowRecord.slotForward; offset += 4) words.push(this.#u32(at + offset));
    return `${words.join()},${this.#views.u8[at + FlowRecord.state]! & FLOW_LIVE}`;
  }

  #flow(worker: WorkerRegions, at: number): FlowSnapshot | null {
    const { u8, u16 } = this.#views;
    const pairIndex = this.#u32(at + FlowRecord.pair);
    if (!(u8[at + FlowRecord.state]! & FLOW_LIVE) || pairIndex >= this.#map.counts.pairs) return null;
    const pair = worker.pairs + pairIndex * PairRecord.size;
    const portOf = (field: number) => swap16(u16[(at + field) >>> 1]!);
    const client = this.#address(at + FlowRecord.clientHead);
    const vipPort = portOf(FlowRecord.vipPortBe);
    return {
      protocol: u8[at + FlowRecord.protocol] === PROTOCOL_NUMBERS.tcp ? "tcp" : "udp",
      ruleId: this.#u32(pair + PairRecord.ruleId),
      serverId: this.#u32(pair + PairRecord.serverId),
      client,
      clientPort: portOf(FlowRecord.clientPortBe),
      vip: this.#address(pair + PairRecord.vipHead),
      vipPort,
      source: this.#source(pair, client, u8[at + FlowRecord.proxyIndex]!),
      sourcePort: portOf(FlowRecord.sourcePortBe),
      server: this.#address(pair + PairRecord.serverHead),
      serverPort: ((vipPort & this.#u32(pair + PairRecord.portMask)) + this.#u32(pair + PairRecord.portAdd)) & 0xffff,
    };
  }

  #source(pair: number, client: Address, proxyIndex: number): Address {
    if (this.#u32(pair + PairRecord.type) !== RuleType.Nat) return client;
    const first = this.#address(pair + PairRecord.proxyFirstHead);
    return { family: first.family, value: first.value + BigInt(proxyIndex) };
  }

  /** Sticky entries, read as they are asked for. */
  *sticky(): Generator<StickySnapshot, void, undefined> {
    for (const { entry } of this.stickyFrom(0)) yield entry;
  }

  /** The same with their places, beginning with place `from`. */
  *stickyFrom(from: number): Generator<Placed<StickySnapshot>, void, undefined> {
    for (const { worker, index, place } of this.#places(from, (header) => header + FlowHeader.stickiesTop)) {
      const entry = this.#stickyAt(worker, index);
      if (entry !== null) yield { place, entry };
    }
  }

  /** The stickiness of one record, null when it is not in use or changes meanwhile. */
  #stickyAt(worker: WorkerRegions, index: number): StickySnapshot | null {
    const at = worker.stickies + index * StickyRecord.size;
    const pair = this.#u32(at + StickyRecord.pair);
    if (this.#u32(at + StickyRecord.live) !== 1 || pair >= this.#map.counts.pairs) return null;
    const ruleId = this.#u32(at + StickyRecord.ruleId);
    const serverId = this.#u32(worker.pairs + pair * PairRecord.size + PairRecord.serverId);
    const client = this.#address(at + StickyRecord.clientHead);
    const isSame = this.#u32(at + StickyRecord.live) === 1 && this.#u32(at + StickyRecord.pair) === pair;
    return isSame ? { ruleId, serverId, client } : null;
  }
}
