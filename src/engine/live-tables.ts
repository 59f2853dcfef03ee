/**
 * Reads for `explain` out of shared memory while workers run, without locks: each is a scan that compares a few words
 * before it looks closer, so that a million entries cost milliseconds. Writes nothing.
 */
import {
  FLOW_CLOSED_FORWARD,
  FLOW_CLOSED_REVERSE,
  FLOW_RESET,
  FlowHeader,
  FlowRecord,
  HOP_IN_RECORD,
  HopState,
  MAX_PORTS,
  META_HOP_SHIFT,
  NextHopRecord,
  NONE,
  PAIR_USED,
  PairRecord,
  PortKind,
  PortRecord,
  RuleState,
  StickyRecord,
} from "../gen/layout.ts";
import { type Address, sameAddress } from "../model/address.ts";
import type { MemoryViews } from "./abi.ts";
import type { FlowSnapshot, ImageRule, NextHop } from "./engine.ts";
import type { ExplainedPacket, LiveFlow, LiveTables } from "./explanation.ts";
import type { RegionMap, WorkerRegions } from "./memory.ts";
import { addressWords } from "./tables.ts";

/** Bytes of a bucket, and where in it the four meta words begin. */
const BUCKET_BYTES = 64;
const BUCKET_METAS = 48;

const swap16 = (n: number): number => ((n & 0xff) << 8) | (n >>> 8);

/** What others know how to find out. */
export interface TableReads {
  /** The flow record of an index; null: not in use. */
  flowAt(worker: WorkerRegions, index: number): FlowSnapshot | null;
  /** The worker that opens the flow of a client's packet. @param stickyBits null: the rule is not sticky */
  workerOf(packet: ExplainedPacket, stickyBits: number | null): number;
}

export class MemoryTables implements LiveTables {
  readonly portCount = MAX_PORTS;
  readonly #views: MemoryViews;
  readonly #map: RegionMap;
  readonly #reads: TableReads;

  constructor(views: MemoryViews, map: RegionMap, reads: TableReads) {
    this.#views = views;
    this.#map = map;
    this.#reads = reads;
  }

  flowOf(packet: ExplainedPacket): LiveFlow | null {
    // As the engine does: all client keys before any server key.
    return this.#find(packet, true) ?? this.#find(packet, false);
  }

  #find(packet: ExplainedPacket, fromClient: boolean): LiveFlow | null {
    const { u16 } = this.#views;
    const field = fromClient ? FlowRecord.clientPortBe : FlowRecord.sourcePortBe;
    const wanted = swap16(fromClient ? packet.sourcePort : packet.destinationPort);
    for (const worker of this.#map.workers) {
      const top = this.#u32(worker.flowMemory + FlowHeader.flowsTop);
      for (let index = 0; index < top; index++) {
        const at = worker.flows + index * FlowRecord.size;
        if (u16[(at + field) >>> 1] !== wanted) continue;
        const flow = this.#reads.flowAt(worker, index);
        if (flow === null || !isOf(flow, packet, fromClient)) continue;
        // A newer flow may have taken the server's key.
        if (!fromClient && this.#u32(at + FlowRecord.slotReverse) === NONE) continue;
        return this.#live(worker, at, flow, fromClient);
      }
    }
    return null;
  }

  #live(worker: WorkerRegions, at: number, flow: FlowSnapshot, fromClient: boolean): LiveFlow {
    const state = this.#views.u8[at + FlowRecord.state]!;
    const bothClosed = FLOW_CLOSED_FORWARD | FLOW_CLOSED_REVERSE;
    const isClosed = (state & FLOW_RESET) !== 0 || (state & bothClosed) === bothClosed;
    const pair = worker.pairs + this.#u32(at + FlowRecord.pair) * PairRecord.size;
    const nextHop = this.#u32(pair + PairRecord.nextHop);
    return { flow, fromClient, isClosed, nextHop, client: this.#clientHop(worker, at) };
  }

  #clientHop(worker: WorkerRegions, at: number): LiveFlow["client"] {
    const slot = this.#u32(at + FlowRecord.slotForward);
    const meta = this.#u32(worker.buckets + (slot >>> 2) * BUCKET_BYTES + BUCKET_METAS + (slot & 3) * 4);
    const index = (meta >>> META_HOP_SHIFT) & 0xff;
    if (index !== HOP_IN_RECORD) {
      const bits = this.#u64(worker.clientHops + index * 8);
      return { port: Number((bits >> 48n) & 0xffn), mac: macOf(bits) };
    }
    const { u8, u16 } = this.#views;
    const tail = BigInt(u16[(at + FlowRecord.hopMacTail) >>> 1]!);
    const mac = macOf(BigInt(this.#u32(at + FlowRecord.hopMacHead)) | (tail << 32n));
    return { port: u8[at + FlowRecord.hopPort]!, mac };
  }

  stickyOf(ruleId: number, client: Address): { serverId: number; proxyIndex: number } | null {
    const words = addressWords(client);
    for (const worker of this.#map.workers) {
      const top = this.#u32(worker.flowMemory + FlowHeader.stickiesTop);
      for (let index = 0; index < top; index++) {
        const at = worker.stickies + index * StickyRecord.size;
        if (this.#u32(at + StickyRecord.ruleId) !== ruleId || this.#u32(at + StickyRecord.live) !== 1) continue;
        if (words.some((word, place) => this.#u32(at + StickyRecord.clientHead + place * 4) !== word)) continue;
        const pair = worker.pairs + this.#u32(at + StickyRecord.pair) * PairRecord.size;
        return {
          serverId: this.#u32(pair + PairRecord.serverId),
          proxyIndex: this.#u32(at + StickyRecord.proxyIndex),
        };
      }
    }
    return null;
  }

  #workerOf(rule: ImageRule, packet: ExplainedPacket): WorkerRegions {
    return this.#map.workers[this.#reads.workerOf(packet, rule.stickyMask)]!;
  }

  /** Each worker has a turn of its own. (Of DSR without stickiness it is that of the worker that gets the packet, which cannot be told.) */
  turnOf(rule: ImageRule, packet: ExplainedPacket): number {
    const { id: ruleId, slot } = rule;
    const at = this.#workerOf(rule, packet).ruleStates + slot * RuleState.size;
    const cursor = this.#u32(at + RuleState.cursor);
    return this.#u32(at + RuleState.ruleId) !== ruleId || cursor === NONE ? Number.POSITIVE_INFINITY : cursor;
  }

  proxyTurnOf(rule: ImageRule, serverId: number, packet: ExplainedPacket): number {
    const { id: ruleId } = rule;
    const worker = this.#workerOf(rule, packet);
    const top = this.#u32(worker.flowMemory + FlowHeader.pairsTop);
    for (let index = 0; index < top; index++) {
      const at = worker.pairs + index * PairRecord.size;
      const isIt = this.#u32(at + PairRecord.ruleId) === ruleId && this.#u32(at + PairRecord.serverId) === serverId;
      if (isIt && this.#u32(at + PairRecord.flags) & PAIR_USED) return this.#u32(at + PairRecord.proxyCursor);
    }
    return 0;
  }

  nextHop(index: number): NextHop {
    const at = this.#map.nextHops + index * NextHopRecord.size;
    const destination = this.#u64(at + NextHopRecord.destination);
    const source = this.#u64(at + NextHopRecord.source);
    const state = Number(destination >> 56n);
    return {
      state: state === HopState.Resolved ? "resolved" : state === HopState.Unresolved ? "unresolved" : "none",
      port: Number((destination >> 48n) & 0xffn),
      destinationMac: macOf(destination),
      sourceMac: macOf(source),
      mtu: Number(source >> 48n),
    };
  }

  port(index: number): ReturnType<LiveTables["port"]> {
    if (index >= MAX_PORTS) return null;
    const at = this.#map.ports + index * PortRecord.size;
    const kind = this.#u32(at + PortRecord.kind);
    if (kind === PortKind.Absent) return null;
    return {
      kind: kind === PortKind.Ethernet ? "ethernet" : "ip",
      mac: macOf(this.#u64(at + PortRecord.mac)),
      mtu: this.#u32(at + PortRecord.mtu),
    };
  }

  #u32(at: number): number {
    return Atomics.load(this.#views.u32, at >>> 2);
  }

  #u64(at: number): bigint {
    return Atomics.load(this.#views.u64, at >>> 3);
  }
}

/** Whether a packet is one of the flow's, on the client's side or on the server's. */
function isOf(flow: FlowSnapshot, packet: ExplainedPacket, fromClient: boolean): boolean {
  const ends = fromClient
    ? [flow.client, flow.clientPort, flow.vip, flow.vipPort]
    : [flow.server, flow.serverPort, flow.source, flow.sourcePort];
  const [source, sourcePort, destination, destinationPort] = ends as [Address, number, Address, number];
  return (
    flow.protocol === packet.protocol &&
    sourcePort === packet.sourcePort &&
    destinationPort === packet.destinationPort &&
    sameAddress(source, packet.source) &&
    sameAddress(destination, packet.destination)
  );
}

/** Six bytes, the first lowest. */
const macOf = (bits: bigint): Uint8Array =>
  Uint8Array.from({ length: 6 }, (_, index) => Number((bits >> BigInt(8 * index)) & 0xffn));
