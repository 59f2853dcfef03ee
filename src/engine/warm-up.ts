/**
 * Runs synthetic packets through the engine until the compiler has done its best, on a small memory of its own: code is
 * compiled per module, so the worker's instance runs fast from its first packet and its tables never see a trace.
 */
import { BATCH_SIZE, Descriptor, HEAD_L3_OFFSET, HEAD_STRIDE } from "../gen/layout.ts";
import { type EngineExports, instantiate, viewsOf } from "./abi.ts";
import type { Port, TableImage } from "./engine.ts";
import { EngineHost, fixedHashKey } from "./host.ts";

/** Batches; the top tier is reached after 30,000 to 45,000 packets. */
const ROUNDS = 1600;
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
  for (let round = 0; round < ROUNDS; round++) {
    for (let index = 0; index < BATCH_SIZE; index++) {
      const head = regions.heads + index * HEAD_STRIDE + HEAD_L3_OFFSET;
      const length =
        (round >>> 2) % 2 === 0 ? writePacket(data, head, index, round) : writePacket6(data, head, index, round);
      const at = regions.descriptors + index * Descriptor.size;
      views.u8.fill(0, at, at + Descriptor.size);
      data.setUint32(at + Descriptor.frame, head - 14, true);
      data.setUint32(at + Descriptor.length, length, true);
      data.setUint32(at + Descriptor.headLength, length, true);
    }
    engine.processBatch(BATCH_SIZE, round);
    for (const other of others) takeOver(other, round);
    engine.sweepSlice(round);
  }
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
  data.setUint32(ip + 32, 0x50100000);
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
