/**
 * Runs synthetic packets through the engine until the compiler has done its best, on a small memory of its own: code is
 * compiled per module, so the worker's instance runs fast from its first packet and its tables never see a trace.
 */
import { BATCH_SIZE, Descriptor, ETHERNET_HEADER, HEAD_L3_OFFSET, HEAD_STRIDE } from "../gen/layout.ts";
import { type EngineExports, instantiate, viewsOf } from "./abi.ts";
import type { Port, TableImage } from "./engine.ts";
import { EngineHost, fixedHashKey } from "./host.ts";
import type { WorkerRegions } from "./memory.ts";

/** Batches; the top tier is reached after 30,000 to 45,000 packets. */
const ROUNDS = 1600;
/**
 * The compiler works beside us and decides by what it has seen. Without time to keep up, one process in two ended with code
 * that is slower by a quarter, for good.
 */
const PAUSE_ROUNDS = 32;
const PAUSE_MS = 1;
/** Different batches, half of each family. */
const PATTERNS = 8;
/** Packets of every batch that open connections: HALF-NAT, from the client. */
const OPENINGS: readonly number[] = [1, 13, 25, 37, 49];
/** Ports that they come from in turn; no other packet has one of them. */
const OPENING_PORT = 8192;
const OPENING_PORTS = 32_768;
/** Bytes of the longest frame of them, with IPv6. */
const LONGEST_FRAME = 80;
const CLIENT = 0xc6336401; // 198.51.100.1
const SERVER = 0xc0000201; // 192.0.2.1
const VIP = 0xcb007101; // 203.0.113.1

/** The same numbers in IPv6: 2001:db8::/96 and the number. */
const NETWORK6 = 0x20010db8n << 96n;

/** HALF-NAT, full NAT and DSR, one port each, in both families. */
function image(): TableImage {
  const addressOf = (family: 4 | 6, value: number) => ({
    family,
    value: BigInt(value >>> 0) + (family === 6 ? NETWORK6 : 0n),
  });
  const families = [4, 6] as const;
  const types = ["HALF-NAT", "NAT", "DSR"] as const;
  return {
    generation: 1,
    servers: families.map((family, index) => ({
      id: index + 1,
      address: addressOf(family, SERVER),
      ports: null,
      nextHop: 0,
    })),
    rules: families.flatMap((family, server) =>
      (["udp", "tcp"] as const).flatMap((protocol, row) =>
        types.map((type, index) => ({
          id: server * 6 + row * 3 + index + 1,
          slot: server * 6 + row * 3 + index,
          vip: addressOf(family, VIP),
          vipIsLocal: false,
          protocol,
          ports: { min: 80 + index, max: 80 + index },
          type,
          algorithm: "roundrobin" as const,
          proxySource: type === "NAT" ? { first: addressOf(family, VIP + 1), last: addressOf(family, VIP + 2) } : null,
          stickyMask: null,
          natTimeoutMs: 60_000,
          persistTimeoutMs: 60_000,
          enabled: true,
          sequence: index,
          members: [{ server, insertSequence: 1, enabledSequence: 1 }],
        })),
      ),
    ),
    drains: [],
    interest: {
      entries: [],
      vips: families.map((family) => addressOf(family, VIP)),
      servers: families.map((family) => addressOf(family, SERVER)),
      proxies: [],
      own: [],
    },
  };
}

/**
 * Runs about 100,000 packets: UDP and TCP of the three types, both ways and in both families, an echo request and strangers in every batch.
 * @param isAlone false: a second worker takes over what is its own
 */
export function runWarmUp(module: WebAssembly.Module, isAlone = true): void {
  // A host needs bytes to compile; the module is compiled already, so its parts are used one by one.
  const host = EngineHost.prepare(
    { maxFlows: 4096, maxRules: 12, maxPairs: 64, maxSticky: 16 },
    isAlone ? 1 : 2,
    fixedHashKey(),
    module,
  );
  const mac = new Uint8Array([2, 0, 0, 0, 0, 1]);
  const port: Port = { kind: "ethernet", mac, mtu: 1500, address4: null, address6: null };
  host.setPort(0, port);
  host.setNextHop(0, { state: "resolved", port: 0, destinationMac: mac, sourceMac: mac, mtu: 1500 });
  host.publish(image());
  const regions = host.map.workers[0]!;
  const [engine, ...others] = host.map.workers.map(({ map }) => instantiate(module, host.memory, map)) as [
    EngineExports,
    ...EngineExports[],
  ];
  for (const one of [engine, ...others]) one.leaveQuiescent();
  const views = viewsOf(host.memory);
  const data = new DataView(host.memory.buffer);
  const writeBatch = batches(views.u8, data, regions);
  for (let round = 0; round < ROUNDS; round++) {
    if (round % PAUSE_ROUNDS === 0) Bun.sleepSync(PAUSE_MS);
    writeBatch(round);
    engine.processBatch(BATCH_SIZE, round);
    for (const other of others) takeOver(other, round);
    engine.sweepSlice(round);
  }
}

/**
 * What puts the batch of a round into the memory. The packets of PATTERNS rounds are made once and copied from then on: making
 * them anew takes longer than everything that they are for, as this code is never warm.
 */
function batches(u8: Uint8Array, data: DataView, regions: WorkerRegions): (round: number) => void {
  const frameOf = (index: number) => regions.heads + index * HEAD_STRIDE + HEAD_L3_OFFSET - ETHERNET_HEADER;
  const patterns = Array.from({ length: PATTERNS }, (_, round) => {
    for (let index = 0; index < BATCH_SIZE; index++) {
      const ip = frameOf(index) + ETHERNET_HEADER;
      const length = round < PATTERNS / 2 ? writePacket(data, ip, index, round) : writePacket6(data, ip, index, round);
      const at = regions.descriptors + index * Descriptor.size;
      u8.fill(0, at, at + Descriptor.size);
      data.setUint32(at + Descriptor.frame, frameOf(index), true);
      data.setUint32(at + Descriptor.length, length, true);
      data.setUint32(at + Descriptor.headLength, length, true);
    }
    const frames = Array.from({ length: BATCH_SIZE }, (_, index) =>
      u8.slice(frameOf(index), frameOf(index) + LONGEST_FRAME),
    );
    return { frames, descriptors: u8.slice(regions.descriptors, regions.descriptors + BATCH_SIZE * Descriptor.size) };
  });
  return (round) => {
    const { frames, descriptors } = patterns[round % PATTERNS]!;
    for (let index = 0; index < BATCH_SIZE; index++) u8.set(frames[index]!, frameOf(index));
    // Each from a port that none came from before.
    const ports = (round % PATTERNS < PATTERNS / 2 ? 20 : 40) + ETHERNET_HEADER;
    OPENINGS.forEach((index, place) => {
      data.setUint16(frameOf(index) + ports, OPENING_PORT + ((round * OPENINGS.length + place) % OPENING_PORTS));
    });
    u8.set(descriptors, regions.descriptors);
  };
}

function takeOver(engine: EngineExports, round: number): void {
  for (let count = engine.takeHandedOver(); count > 0; count = engine.takeHandedOver()) {
    engine.processBatch(count, round);
    engine.releaseHandedOver();
  }
}

/** One small packet; sums are left out, nobody reads them. @returns bytes of its frame */
function writePacket(data: DataView, ip: number, index: number, round: number): number {
  const isEcho = index === 63;
  const isTcp = index % 2 === 1;
  const isReply = index % 8 >= 6;
  data.setUint16(ip - 2, 0x0800);
  data.setUint16(ip, 0x4500);
  data.setUint16(ip + 2, 46);
  data.setUint32(ip + 4, 0);
  data.setUint8(ip + 8, 64);
  data.setUint8(ip + 9, isEcho ? 1 : isTcp ? 6 : 17);
  const flow = (index >>> 3) + 8 * (round % 4);
  data.setUint32(ip + 12, isReply ? SERVER : CLIENT);
  data.setUint32(ip + 16, isReply ? CLIENT : index === 62 ? VIP + 100 : VIP);
  const service = 80 + (isReply ? 0 : (index >>> 1) % 3);
  data.setUint16(ip + 20, isEcho ? 0x0800 : isReply ? service : 1024 + flow);
  data.setUint16(ip + 22, isReply ? 1024 + flow : service);
  data.setUint16(ip + 24, 26);
  data.setUint32(ip + 32, OPENINGS.includes(index) ? 0x50020000 : 0x50100000);
  return 60;
}

/** The same in IPv6. */
function writePacket6(data: DataView, ip: number, index: number, round: number): number {
  const length = writePacket(data, ip, index, round);
  const shift = 20;
  const [source, destination] = [data.getUint32(ip + 12), data.getUint32(ip + 16)];
  const protocol = data.getUint8(ip + 9);
  for (let at = 44; at >= 20; at -= 4) data.setUint32(ip + at + shift, data.getUint32(ip + at));
  data.setUint16(ip - 2, 0x86dd);
  data.setUint32(ip, 0x60000000);
  data.setUint16(ip + 4, 26);
  data.setUint8(ip + 6, protocol === 1 ? 58 : protocol);
  data.setUint8(ip + 7, 64);
  if (protocol === 1) data.setUint8(ip + 40, 128);
  for (const [at, value] of [
    [8, source],
    [24, destination],
  ] as const) {
    data.setUint32(ip + at, 0x20010db8);
    data.setUint32(ip + at + 4, 0);
    data.setUint32(ip + at + 8, 0);
    data.setUint32(ip + at + 12, value);
  }
  return length + shift;
}
