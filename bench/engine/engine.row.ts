/**
 * Nanoseconds per packet of an established half-NAT TCP flow, client to server: the WebAssembly engine and its plain
 * TypeScript twin, in turn, in one process, on the same packets in the same order. Only process() is timed, batch by
 * batch; filling the frames is not. One clock read per batch costs both sides 1 to 2 ns a packet.
 */
import { ensureWasm } from "../../scripts/build-wasm.ts";
import { readModule, viewsOf } from "../../src/engine/abi.ts";
import { EngineHost, fixedHashKey } from "../../src/engine/host.ts";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import { BATCH_SIZE, Descriptor, HEAD_L3_OFFSET, HEAD_STRIDE, Reason } from "../../src/gen/layout.ts";
import type { BenchContext, BenchRow, BenchSides } from "../row.ts";
import { TypescriptTwin } from "../support/typescript-twin.ts";

const CLIENT = 0x0a000000;
const SERVER = 0xc000020a;
const VIP = 0xc633640a;
const VIP_PORT = 80;
const SERVER_PORT = 8080;
const FRAME_BYTES = 60;
const IDLE_MS = 600_000;
const CLIENT_MAC = new Uint8Array([2, 12, 0, 0, 0, 1]);
const BOX_MAC = new Uint8Array([2, 0, 0, 0, 0, 1]);
const SERVER_MAC = new Uint8Array([2, 13, 0, 0, 0, 1]);
const PORT_BASE = 1024;
const PORTS_PER_CLIENT = 4096;

const ACK = 0x10;

/** A side under test: something to put frames into, and a batch to be timed. */
interface Side {
  readonly frames: DataView;
  /** Offset of layer 3 of frame `slot` in `frames`. */
  layer3(slot: number): number;
  process(): void;
  /** Throws when a packet of the batch did not go out on the fast path. */
  check(): void;
}

/** A TCP segment; nobody looks at the sums. */
function write(
  view: DataView,
  ip: number,
  source: number,
  destination: number,
  sourcePort: number,
  destinationPort: number,
): void {
  view.setUint32(ip - 14, 0x02000000);
  view.setUint32(ip - 10, 0x0001020c);
  view.setUint32(ip - 6, 0x00000001);
  view.setUint16(ip - 2, 0x0800);
  view.setUint32(ip, 0x4500002e);
  view.setUint32(ip + 4, 0x00004000);
  view.setUint32(ip + 8, 0x40061234);
  view.setUint32(ip + 12, source);
  view.setUint32(ip + 16, destination);
  view.setUint32(ip + 20, ((sourcePort << 16) | destinationPort) >>> 0);
  view.setUint32(ip + 32, 0x50000000 | (ACK << 16));
  view.setUint32(ip + 36, 0x56780000);
}

const clientOf = (flow: number): number => CLIENT + Math.floor(flow / PORTS_PER_CLIENT);
const portOf = (flow: number): number => PORT_BASE + (flow % PORTS_PER_CLIENT);

/** The flows of a batch: the same order for both sides, far apart in every table. */
class Order {
  #state: number;
  readonly #flows: Uint32Array;
  constructor(flows: Uint32Array) {
    this.#flows = flows;
    this.#state = 0x2545f491;
  }
  next(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return this.#flows[(this.#state >>> 0) % this.#flows.length]!;
  }
}

function fill(side: Side, order: Order): void {
  for (let slot = 0; slot < BATCH_SIZE; slot++) {
    const flow = order.next();
    write(side.frames, side.layer3(slot), clientOf(flow), VIP, portOf(flow), VIP_PORT);
  }
}

/** @returns nanoseconds per packet */
function time(side: Side, order: Order, batches: number): number {
  const spent = new Float64Array(batches);
  for (let batch = 0; batch < batches; batch++) {
    fill(side, order);
    const start = Bun.nanoseconds();
    side.process();
    spent[batch] = Bun.nanoseconds() - start;
  }
  side.check();
  // The median batch: a batch that another process interrupted says nothing about either side.
  return spent.sort()[batches >>> 1]! / BATCH_SIZE;
}

const address = (value: number) => ({ family: 4 as const, value: BigInt(value >>> 0) });

class WasmSide implements Side {
  readonly frames: DataView;
  readonly #engine: WorkerEngine;
  readonly #views;
  readonly #host: EngineHost;

  constructor(host: EngineHost) {
    this.#host = host;
    this.#engine = new WorkerEngine(host.seat(0));
    this.frames = new DataView(host.memory.buffer);
    this.#views = viewsOf(host.memory);
    host.setPort(0, { kind: "ethernet", mac: BOX_MAC, mtu: 1500, address4: null, address6: null });
    host.setNextHop(0, { state: "resolved", port: 0, destinationMac: SERVER_MAC, sourceMac: BOX_MAC, mtu: 1500 });
    host.publish({
      generation: 1,
      servers: [{ id: 1, address: address(SERVER), ports: { min: SERVER_PORT, max: SERVER_PORT }, nextHop: 0 }],
      rules: [
        {
          id: 1,
          slot: 0,
          vip: address(VIP),
          vipIsLocal: false,
          protocol: "tcp",
          ports: { min: VIP_PORT, max: VIP_PORT },
          type: "HALF-NAT",
          algorithm: "roundrobin",
          proxySource: null,
          stickyMask: null,
          natTimeoutMs: IDLE_MS,
          persistTimeoutMs: 0,
          enabled: true,
          sequence: 1,
          members: [{ server: 0, insertSequence: 1, enabledSequence: 1 }],
        },
      ],
      drains: [],
      interest: { entries: [], vips: [], servers: [], proxies: [], own: [] },
    });
    this.#engine.leaveQuiescent();
    const { descriptorBase, headBase } = this.#engine.geometry;
    for (let slot = 0; slot < BATCH_SIZE; slot++) {
      const at = descriptorBase + slot * Descriptor.size;
      this.frames.setUint32(at + Descriptor.frame, headBase + slot * HEAD_STRIDE + HEAD_L3_OFFSET - 14, true);
      this.frames.setUint32(at + Descriptor.length, FRAME_BYTES, true);
      this.frames.setUint32(at + Descriptor.headLength, FRAME_BYTES, true);
    }
  }

  layer3(slot: number): number {
    return this.#engine.geometry.headBase + slot * HEAD_STRIDE + HEAD_L3_OFFSET;
  }

  process(): void {
    this.#engine.process(BATCH_SIZE, 1);
  }

  /** Client, server, client: then the flow is established. */
  open(flows: number): void {
    for (let first = 0; first < flows; first += BATCH_SIZE) {
      for (const reverse of [false, true, false]) {
        for (let slot = 0; slot < BATCH_SIZE; slot++) {
          const flow = Math.min(first + slot, flows - 1);
          if (reverse) write(this.frames, this.layer3(slot), SERVER, clientOf(flow), SERVER_PORT, portOf(flow));
          else write(this.frames, this.layer3(slot), clientOf(flow), VIP, portOf(flow), VIP_PORT);
        }
        this.process();
      }
    }
    const { flows: alive } = this.#host.health();
    if (alive !== flows) throw new Error(`${alive} flows stand instead of ${flows}`);
  }

  check(): void {
    const { descriptorBase } = this.#engine.geometry;
    for (let slot = 0; slot < BATCH_SIZE; slot++) {
      const reason = this.#views.u8[descriptorBase + slot * Descriptor.size + Descriptor.reason];
      if (reason !== Reason.FlowFound) throw new Error(`slot ${slot} ended with reason ${reason}`);
      if (this.frames.getUint32(this.layer3(slot) + 16) !== SERVER) throw new Error(`slot ${slot} was not translated`);
    }
  }
}

class TwinSide implements Side {
  readonly frames: DataView;
  /** Those that found room: the twin does not move entries, so a few do not. */
  readonly flows: Uint32Array;
  readonly #twin: TypescriptTwin;
  #forwarded = 0;

  constructor(flows: number) {
    const twin = new TypescriptTwin(flows);
    const pair = twin.addPair({
      vip: VIP,
      server: SERVER,
      portAdd: SERVER_PORT - VIP_PORT,
      idleTimeoutMs: IDLE_MS,
      serverMac: SERVER_MAC,
      serverSideMac: BOX_MAC,
    });
    const hop = twin.addHop({ clientMac: CLIENT_MAC, clientSideMac: BOX_MAC });
    this.flows = Uint32Array.from({ length: flows }, (_, flow) => flow).filter((flow) =>
      twin.addFlow({ protocol: 6, client: clientOf(flow), clientPort: portOf(flow), vipPort: VIP_PORT, pair, hop }, 1),
    );
    this.#twin = twin;
    this.frames = new DataView(twin.bytes.buffer);
    for (let slot = 0; slot < BATCH_SIZE; slot++) twin.lengths[slot] = FRAME_BYTES;
  }

  layer3(slot: number): number {
    return slot * HEAD_STRIDE + HEAD_L3_OFFSET;
  }

  process(): void {
    this.#forwarded = this.#twin.process(BATCH_SIZE, 1);
  }

  check(): void {
    if (this.#forwarded !== BATCH_SIZE) throw new Error(`the twin forwarded ${this.#forwarded} of a batch`);
  }
}

async function setup(flows: number, context: BenchContext): Promise<BenchSides> {
  await ensureWasm();
  const limits = { maxFlows: Math.max(flows, 1024), maxRules: 8, maxPairs: 64, maxSticky: 64 };
  const host = EngineHost.create({ limits, workers: 1, hashKey: fixedHashKey(), moduleBytes: await readModule() });
  const ours = new WasmSide(host);
  ours.open(flows);
  const peer = new TwinSide(flows);
  const batches = context.quick ? 2_000 : 10_000;
  const orders = { ours: new Order(peer.flows), peer: new Order(peer.flows) };
  return { ours: () => time(ours, orders.ours, batches), peer: () => time(peer, orders.peer, batches) };
}

const row = (id: string, flows: number, what: string): BenchRow => ({
  id,
  unit: "ns/packet",
  better: "lower",
  peerName: "plain TypeScript",
  what,
  setup: (context) => setup(flows, context),
});

const rows: readonly BenchRow[] = [
  row("engine-half-nat-1k", 1_000, "engine alone, established half-NAT TCP, 1,000 flows, batches of 64"),
  row("engine-half-nat-1m", 1_000_000, "engine alone, established half-NAT TCP, 1,000,000 flows, batches of 64"),
];

export default rows;
