/** The bench compares with the twin only if the twin does the same job: it must agree with the reference engine. */
import { expect, test } from "bun:test";
import { TypescriptTwin } from "../../bench/support/typescript-twin.ts";
import { ReferenceEngine } from "../../src/engine/reference.ts";
import {
  answerTo,
  arriving,
  Bench,
  BOX_MACS,
  CLIENT,
  CLIENT_MAC,
  onlyPacket,
  ruleOf,
  SERVER_SIDE,
  SERVERS,
  serverMac,
  tcpPacket,
  udpPacket,
  VIP,
} from "../support/engine-bench.ts";
import { membersOf, onePort } from "../support/image-builder.ts";
import { toHex } from "../support/packet-builder.ts";
import { Random, seedFromEnvironment } from "../support/random.ts";

const LIMITS = { maxFlows: 4_096, maxRules: 8, maxPairs: 64, maxSticky: 8 };

test("the TypeScript twin sends what the reference sends for established half-NAT flows", () => {
  const seed = seedFromEnvironment(7);
  console.log(`twin seed ${seed}`);
  const random = new Random(seed);
  const twin = new TypescriptTwin(1_000);
  const server = { ...SERVERS[0]!, ports: onePort(8080) };
  const rules = (["tcp", "udp"] as const).map((protocol, i) =>
    ruleOf({ id: i + 1, slot: i, protocol, ports: onePort(80), members: membersOf([server]) }),
  );
  const world = new Bench(new ReferenceEngine(LIMITS), rules);
  const pairs = rules.map(() =>
    twin.addPair({
      vip: Number(VIP.value),
      server: Number(server.address.value),
      portAdd: 8000,
      idleTimeoutMs: 60_000,
      serverMac: serverMac(0),
      serverSideMac: BOX_MACS[1],
    }),
  );
  const hop = twin.addHop({ clientMac: CLIENT_MAC, clientSideMac: BOX_MACS[0] });
  const open = Array.from({ length: 200 }, (_, i) => {
    const protocol = i % 2 === 0 ? "tcp" : "udp";
    const from = { family: 4, value: CLIENT.value + BigInt(random.below(40)) } as const;
    const sourcePort = 1024 + i;
    const packet =
      protocol === "tcp" ? tcpPacket({ from, sourcePort }) : udpPacket({ from, sourcePort, destinationPort: 80 });
    const request = onlyPacket(world.send(arriving(packet)));
    const flow = {
      protocol: protocol === "tcp" ? 6 : 17,
      client: Number(from.value),
      clientPort: sourcePort,
      vipPort: 80,
    };
    expect(twin.addFlow({ ...flow, pair: pairs[i % 2]!, hop }, world.nowMs)).toBe(true);
    return { protocol, from, sourcePort, request };
  });
  for (let i = 0; i < 4_000; i++) {
    const { protocol, from, sourcePort, request } = random.of(open);
    const payload = random.bytes(random.below(100));
    const partial = random.chance(0.2);
    const checksum = partial ? "partial" : random.chance(0.1) ? random.of([0, 0xffff, random.below(65536)]) : "good";
    const ends = { from, sourcePort, payload, checksum } as const;
    const fromClient =
      protocol === "tcp" ? tcpPacket({ ...ends, flags: "PA" }) : udpPacket({ ...ends, destinationPort: 80 });
    const isAnswer = random.chance(0.5);
    const packet = isAnswer ? answerTo(request, { flags: "A", payload, checksum }) : fromClient;
    const vnet = {
      flags: 1,
      gsoType: 0,
      hdrLen: 0,
      gsoSize: 0,
      csumStart: 34,
      csumOffset: protocol === "tcp" ? 16 : 6,
    };
    const frame = arriving(packet, isAnswer ? SERVER_SIDE : 0, partial ? vnet : undefined);
    const slot = random.below(64);
    twin.put(slot, frame.bytes, partial ? 1 : 0);
    for (let other = 0; other < 64; other++) if (other !== slot) twin.lengths[other] = 0;
    expect(twin.process(64, world.nowMs)).toBe(1);
    expect(toHex(twin.frame(slot))).toBe(toHex(world.send(frame).out[0]!.bytes));
  }
  const counted = world.engine.counters().pairs.map((pair) => [Number(pair.packets), Number(pair.bytes)]);
  const opening = open.filter((_, i) => i % 2 === 0);
  expect(twin.packets[pairs[0]!]! + opening.length).toBe(counted[0]![0]!);
  expect(twin.octets[pairs[0]!]! + 40 * opening.length).toBe(counted[0]![1]!);
});

test("the twin leaves alone what its fast path does not take", () => {
  const twin = new TypescriptTwin(10);
  const others = [
    tcpPacket({ flags: "S" }),
    tcpPacket({ flags: "A" }),
    udpPacket({ ipv4: { ttl: 1 } }),
    udpPacket({ ipv4: { moreFragments: true } }),
  ];
  for (const [slot, packet] of others.entries()) twin.put(slot, arriving(packet).bytes);
  expect(twin.process(others.length, 0)).toBe(0);
  for (const [slot, packet] of others.entries()) expect([...twin.frame(slot)]).toEqual([...arriving(packet).bytes]);
});
