/**
 * The packet engine as a worker has it (the WebAssembly module as it is built, warmed up, on its shared memory), with rules,
 * servers and established flows, and batches of client packets of these flows for it.
 */
import { ensureWasm } from "../../scripts/build-wasm.ts";
import { readModule, viewsOf } from "../../src/engine/abi.ts";
import type { EngineLimits, TableImage } from "../../src/engine/engine.ts";
import { EngineHost, fixedHashKey, type WorkerSeat } from "../../src/engine/host.ts";
import { pageAdvice } from "../../src/engine/memory.ts";
import type { PolicyTables } from "../../src/engine/policy.ts";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import {
  BATCH_SIZE,
  Descriptor,
  HEAD_L3_OFFSET,
  HEAD_STRIDE,
  REASON_NAMES,
  Reason,
  Verdict,
} from "../../src/gen/layout.ts";
import type { Address } from "../../src/model/address.ts";
import { useHugePages } from "../../src/native/system.ts";
import {
  ACK,
  BOX_CLIENT_MAC,
  BOX_SERVER_MAC,
  CLIENT_MAC,
  checkFrame,
  type Family,
  type FramePlaces,
  frameBytes,
  macBytes,
  readSegment,
  SERVER_MAC,
  type Segment,
  writeFrame,
} from "./frames.ts";
import { Order, type Side } from "./timing.ts";

export type Type = "HALF-NAT" | "NAT" | "DSR";

export interface WorldOptions {
  readonly flows: number;
  /** Size of the flow table in flows. Default: as many as there are, at least 1024. */
  readonly maxFlows?: number;
  readonly family?: Family;
  readonly type?: Type;
  /** One VIP each. */
  readonly rules?: number;
  readonly servers?: number;
  readonly idleMs?: number;
  /** Flows are dealt out to so many clients in turn. Default 0: each client has PORTS_PER_CLIENT flows. */
  readonly clients?: number;
}

/** First address of the clients. */
export const CLIENT = 0x0a000000;
const PROXY = 0xcb007101;
const PROXIES = 10;
export const FIRST_SERVER = 0xac100001;
export const FIRST_VIP = 0xc6120001;
export const VIP_PORT = 80;
export const SERVER_PORT = 8080;
const PORT_BASE = 1024;
const PORTS_PER_CLIENT = 4096;
const PREFIX6 = 0x20010db8n << 96n;
const CLIENT_SIDE = 0;
const SERVER_SIDE = 1;
export const IDLE_MS = 600_000;

export const clientOf = (flow: number): number => CLIENT + Math.floor(flow / PORTS_PER_CLIENT);
export const portOf = (flow: number): number => PORT_BASE + (flow % PORTS_PER_CLIENT);

const addressOf = (family: Family, value: number): Address => ({
  family,
  value: BigInt(value >>> 0) + (family === 6 ? PREFIX6 : 0n),
});

/** One port each: `rules` VIPs, all with the same servers. */
function imageOf(options: Required<WorldOptions>): TableImage {
  const { family, type, rules, servers, idleMs } = options;
  const isNat = type === "NAT";
  const port = type === "DSR" ? VIP_PORT : SERVER_PORT;
  return {
    generation: 1,
    servers: Array.from({ length: servers }, (_, index) => ({
      id: index + 1,
      address: addressOf(family, FIRST_SERVER + index),
      ports: { min: port, max: port },
      nextHop: 0,
    })),
    rules: Array.from({ length: rules }, (_, index) => ({
      id: index + 1,
      slot: index,
      vip: addressOf(family, FIRST_VIP + index),
      vipIsLocal: false,
      protocol: "tcp",
      ports: { min: VIP_PORT, max: VIP_PORT },
      type,
      algorithm: "roundrobin",
      proxySource: isNat ? { first: addressOf(family, PROXY), last: addressOf(family, PROXY + PROXIES - 1) } : null,
      stickyMask: null,
      natTimeoutMs: idleMs,
      persistTimeoutMs: 0,
      enabled: true,
      sequence: index,
      members: Array.from({ length: servers }, (_, server) => ({
        server,
        insertSequence: server,
        enabledSequence: server,
      })),
    })),
    drains: [],
    interest: { entries: [], vips: [], servers: [], proxies: [], own: [] },
  };
}

function limitsOf({ flows, maxFlows, rules, servers }: Required<WorldOptions>): EngineLimits {
  const pairs = Math.max(64, rules * servers);
  return { maxFlows: Math.max(maxFlows, flows, 1024), maxRules: Math.max(8, rules), maxPairs: pairs, maxSticky: 64 };
}

export class EngineWorld implements Side, FramePlaces {
  readonly host: EngineHost;
  readonly engine: WorkerEngine;
  readonly seat: WorkerSeat;
  readonly view: DataView;
  readonly #options: Required<WorldOptions>;
  readonly #bytes: Uint8Array;
  readonly #headBase: number;
  readonly #descriptorBase: number;
  /**
   * What was learnt when a flow was opened: the index of its server, and in full NAT whom the server answers. As small as may be,
   * because check() reads it between batches at places of chance.
   */
  readonly #server: Uint8Array | Uint16Array;
  readonly #source: Uint32Array;
  readonly #sourcePort: Uint16Array;
  #order: Order;
  readonly #inBatch = new Uint32Array(BATCH_SIZE);
  readonly #segment: Segment = { source: 0, destination: 0, sourcePort: 0, destinationPort: 0 };
  #reason: number = Reason.FlowFound;
  #generation = 1;

  private constructor(host: EngineHost, options: Required<WorldOptions>) {
    this.#options = options;
    this.host = host;
    this.seat = host.seat(0);
    this.engine = new WorkerEngine(this.seat);
    this.view = new DataView(host.memory.buffer);
    this.#bytes = viewsOf(host.memory).u8;
    this.#headBase = this.engine.geometry.headBase;
    this.#descriptorBase = this.engine.geometry.descriptorBase;
    this.#server = options.servers <= 256 ? new Uint8Array(options.flows) : new Uint16Array(options.flows);
    const proxied = options.type === "NAT" ? options.flows : 0;
    this.#source = new Uint32Array(proxied);
    this.#sourcePort = new Uint16Array(proxied);
    this.#order = new Order(options.flows);
    const port = { kind: "ethernet", mtu: 1500, address4: null, address6: null } as const;
    host.setPort(CLIENT_SIDE, { ...port, mac: macBytes(BOX_CLIENT_MAC) });
    host.setPort(SERVER_SIDE, { ...port, mac: macBytes(BOX_SERVER_MAC) });
    const hop = { destinationMac: macBytes(SERVER_MAC), sourceMac: macBytes(BOX_SERVER_MAC), mtu: 1500 };
    host.setNextHop(0, { state: "resolved", port: SERVER_SIDE, ...hop });
    host.publish(imageOf(options));
    this.engine.leaveQuiescent();
    this.#writeDescriptors(CLIENT_SIDE);
  }

  /** A world with its flows established. Throws when one of them does not stand. */
  static async create(options: WorldOptions): Promise<EngineWorld> {
    await ensureWasm();
    const all: Required<WorldOptions> = {
      maxFlows: options.flows,
      family: 4,
      type: "HALF-NAT",
      rules: 1,
      servers: 1,
      idleMs: IDLE_MS,
      clients: 0,
      ...options,
    };
    const moduleBytes = await readModule();
    const host = EngineHost.create({ limits: limitsOf(all), workers: 1, hashKey: fixedHashKey(), moduleBytes });
    // As the daemon does: without it millions of flows cost a walk of the page tables each.
    useHugePages(host.memory.buffer, pageAdvice(host.map).huge);
    const world = new EngineWorld(host, all);
    await world.engine.warmUp();
    world.#open();
    return world;
  }

  layer3 = (slot: number): number => this.#headBase + slot * HEAD_STRIDE + HEAD_L3_OFFSET;

  /** As the shim writes them for a batch that came in by one port. */
  #writeDescriptors(inPort: number): void {
    const length = frameBytes(this.#options.family);
    for (let slot = 0; slot < BATCH_SIZE; slot++) {
      const at = this.#descriptorBase + slot * Descriptor.size;
      this.view.setUint32(at + Descriptor.frame, this.layer3(slot) - 14, true);
      this.view.setUint32(at + Descriptor.length, length, true);
      this.view.setUint32(at + Descriptor.headLength, length, true);
      this.#bytes[at + Descriptor.inPort] = inPort;
    }
  }

  /** Writes what a client sends into a slot. */
  writeClient(slot: number, segment: Segment, mark: number, tcpFlags: number): void {
    writeFrame(this, slot, this.#options.family, segment, [CLIENT_MAC, BOX_CLIENT_MAC], mark, tcpFlags);
  }

  /** The packet that the client of a flow sends. */
  #fromClient(flow: number): Segment {
    const segment = this.#segment;
    const { clients } = this.#options;
    segment.source = clients === 0 ? clientOf(flow) : CLIENT + (flow % clients);
    segment.sourcePort = clients === 0 ? portOf(flow) : PORT_BASE + Math.floor(flow / clients);
    segment.destination = FIRST_VIP + (flow % this.#options.rules);
    segment.destinationPort = VIP_PORT;
    return segment;
  }

  #writeFromClient(slot: number, flow: number): void {
    this.#inBatch[slot] = flow;
    this.writeClient(slot, this.#fromClient(flow), flow, ACK);
  }

  /** Client, server, client: then a flow is established. DSR has no flows. */
  #open(): void {
    const { flows, family, type } = this.#options;
    if (type === "DSR") {
      this.#reason = Reason.DsrSent;
      return;
    }
    for (let first = 0; first < flows; first += BATCH_SIZE) {
      const count = Math.min(BATCH_SIZE, flows - first);
      for (let slot = 0; slot < count; slot++) this.#writeFromClient(slot, first + slot);
      this.#writeDescriptors(CLIENT_SIDE);
      this.engine.process(count, 1);
      for (let slot = 0; slot < count; slot++) this.#learn(slot, first + slot);
      for (let slot = 0; slot < count; slot++) {
        const flow = first + slot;
        const { source, sourcePort, destination, destinationPort } = this.#toServer(flow);
        const back = {
          source: destination,
          sourcePort: destinationPort,
          destination: source,
          destinationPort: sourcePort,
        };
        writeFrame(this, slot, family, back, [SERVER_MAC, BOX_SERVER_MAC], flow, ACK);
      }
      this.#writeDescriptors(SERVER_SIDE);
      this.engine.process(count, 1);
      for (let slot = 0; slot < count; slot++) this.#writeFromClient(slot, first + slot);
      this.#writeDescriptors(CLIENT_SIDE);
      this.engine.process(count, 1);
    }
    const { flows: alive } = this.host.health();
    if (alive !== flows) throw new Error(`${alive} flows stand instead of ${flows}`);
  }

  /** Remembers what the opening packet of a flow became. */
  #learn(slot: number, flow: number): void {
    const { family, servers, type } = this.#options;
    const segment = this.#segment;
    readSegment(this, slot, family, segment);
    const server = segment.destination - FIRST_SERVER;
    const proxy = segment.source - PROXY;
    const isProxied = proxy >= 0 && proxy < PROXIES;
    if (server < 0 || server >= servers || isProxied !== (type === "NAT"))
      throw new Error(`flow ${flow} opened wrongly`);
    this.#server[flow] = server;
    if (!isProxied) return;
    this.#source[flow] = segment.source;
    this.#sourcePort[flow] = segment.sourcePort;
  }

  /** What the packet of #fromClient() becomes. */
  #toServer(flow: number): Segment {
    const segment = this.#fromClient(flow);
    const { type } = this.#options;
    if (type === "DSR") return segment;
    if (type === "NAT") {
      segment.source = this.#source[flow]!;
      segment.sourcePort = this.#sourcePort[flow]!;
    }
    segment.destination = FIRST_SERVER + this.#server[flow]!;
    segment.destinationPort = SERVER_PORT;
    return segment;
  }

  /** Puts a flow policy in force, or none. */
  judge(policy: PolicyTables | null): void {
    const image = { ...imageOf(this.#options), generation: ++this.#generation };
    this.host.publish(policy === null ? image : { ...image, policy });
    this.engine.adoptIfPublished();
  }

  fill(): void {
    for (let slot = 0; slot < BATCH_SIZE; slot++) this.#writeFromClient(slot, this.#order.next());
  }

  process(nowMs: number): void {
    this.engine.process(BATCH_SIZE, nowMs);
  }

  check(): void {
    for (let slot = 0; slot < BATCH_SIZE; slot++) {
      const flow = this.#inBatch[slot]!;
      this.checkSlot(slot, this.#reason, this.#toServer(flow), flow);
    }
  }

  /** Throws when the packet in a slot did not leave to the server as this segment. @param mark as it was written */
  checkSlot(slot: number, expected: number, segment: Segment, mark: number): void {
    const at = this.#descriptorBase + slot * Descriptor.size;
    const reason = this.#bytes[at + Descriptor.reason]!;
    if (reason !== expected)
      throw new Error(`a packet ended with ${REASON_NAMES[reason]}, not ${REASON_NAMES[expected]}`);
    if (
      this.#bytes[at + Descriptor.verdict] !== Verdict.Forward ||
      this.#bytes[at + Descriptor.outPort] !== SERVER_SIDE
    )
      throw new Error("a packet does not leave to the server");
    checkFrame(this, slot, this.#options.family, segment, [BOX_SERVER_MAC, SERVER_MAC], mark);
    // What a twin does not touch must not pass for its work.
    this.#bytes[at + Descriptor.reason] = Reason.Unguarded;
    this.#bytes[at + Descriptor.verdict] = Verdict.Ignore;
  }

  /** The same packets and checks around another way to process them on this memory. Its order of flows is its own. */
  sideOf(process: (count: number, nowMs: number) => void): Side {
    let order = new Order(this.#options.flows);
    const swap = () => {
      const mine = this.#order;
      this.#order = order;
      order = mine;
    };
    return {
      fill: () => {
        swap();
        this.fill();
        swap();
      },
      process: (nowMs) => process(BATCH_SIZE, nowMs),
      check: () => this.check(),
    };
  }
}
