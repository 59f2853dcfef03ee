/** What must hold in the engine's memory whatever arrives: tables that agree, frames that keep to themselves. */
import { expect, test } from "bun:test";
import type { Port } from "../../src/engine/engine.ts";
import { FrameMemory } from "../../src/engine/frame-memory.ts";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import {
  Descriptor,
  FLOW_ANSWERED,
  FLOW_LIVE,
  FlowHeader,
  FlowRecord,
  HEAD_STRIDE,
  META_REVERSE,
  META_SLOW,
  NONE,
  PairRecord,
  REASON_VERDICT,
  Reason,
} from "../../src/gen/layout.ts";
import type { Event } from "../differential/duel.ts";
import { Traffic } from "../differential/traffic.ts";
import { World } from "../differential/world.ts";
import { ip } from "../support/addresses.ts";
import { Random, seedFromEnvironment } from "../support/random.ts";
import { feed } from "./feed.ts";
import { answerOf, imageOfRule, LIMITS, makeHost, requestOf } from "./support.ts";

const seed = seedFromEnvironment(4711);
console.log(`seed ${seed}`);

/** Walks table and records and checks one against the other. @returns flows alive */
function checkTables(host: ReturnType<typeof makeHost>): number {
  const { map } = host;
  const worker = map.workers[0]!;
  const data = new DataView(host.memory.buffer);
  const u32 = (at: number) => data.getUint32(at, true);
  const owned = new Map<number, number>();
  let live = 0;
  const perPair = new Map<number, number>();
  for (let index = 0; index < u32(worker.flowMemory + FlowHeader.flowsTop); index++) {
    const at = worker.flows + index * FlowRecord.size;
    if (data.getUint8(at + FlowRecord.state) === 0) continue;
    live++;
    perPair.set(u32(at + FlowRecord.pair), (perPair.get(u32(at + FlowRecord.pair)) ?? 0) + 1);
    const forward = u32(at + FlowRecord.slotForward);
    const reverse = u32(at + FlowRecord.slotReverse);
    for (const [slot, flag] of [
      [forward, 0],
      [reverse, META_REVERSE],
    ] as const) {
      if (slot === NONE) continue;
      const bucket = worker.buckets + (slot >>> 2) * 64;
      expect(data.getBigUint64(bucket + (slot & 3) * 8, true)).not.toBe(0n);
      expect(u32(bucket + 48 + (slot & 3) * 4) & META_REVERSE).toBe(flag);
      expect(u32(worker.slotRecords + slot * 4)).toBe(index);
      owned.set(slot, index);
    }
  }
  let entries = 0;
  for (let slot = 0; slot < map.counts.buckets * 4; slot++)
    if (data.getBigUint64(worker.buckets + (slot >>> 2) * 64 + (slot & 3) * 8, true) !== 0n) entries++;
  expect(entries).toBe(owned.size);
  expect(u32(worker.flowMemory + FlowHeader.flowsLive)).toBe(live);
  for (const [pair, flows] of perPair)
    expect(u32(worker.pairs + pair * PairRecord.size + PairRecord.flowCount)).toBe(flows);
  return live;
}

function startNat(limits = LIMITS) {
  const host = makeHost(limits);
  const first = ip("203.0.113.240");
  host.publish(
    imageOfRule(1, {
      type: "NAT",
      proxySource: { first, last: { family: 4, value: first.value + 2n } },
      stickyMask: 28,
    }),
  );
  const engine = new WorkerEngine(host.seat(0));
  engine.leaveQuiescent();
  return { host, engine };
}

test("the table holds every flow that the limit promises, and gives all of them back", () => {
  const limits = { ...LIMITS, maxFlows: 20_000, maxSticky: 4096 };
  const { host, engine } = startNat(limits);
  for (let flow = 0; flow < limits.maxFlows; flow += 50)
    expect(
      new Set(
        feed(
          engine,
          Array.from({ length: 50 }, (_, i) => requestOf(flow + i)),
          1,
        ),
      ),
    ).toEqual(new Set([Reason.FlowNew]));
  expect(checkTables(host)).toBe(limits.maxFlows);
  const listed = new Set([...host.flows()].map((flow) => `${flow.source.value} ${flow.sourcePort}`));
  expect(listed.size).toBe(limits.maxFlows);
  engine.sweepAll(100_000);
  expect(checkTables(host)).toBe(0);
  engine.sweepAll(200_000);
  expect([...host.sticky()]).toEqual([]);
});

test("a full table of half-open flows takes new ones, oldest out first", () => {
  const { host, engine } = startNat({ ...LIMITS, maxFlows: 100, maxSticky: 200 });
  for (let flow = 0; flow < 150; flow++) feed(engine, [requestOf(flow)], flow);
  expect(checkTables(host)).toBe(100);
  expect(host.health().evicted).toBe(50n);
  expect(feed(engine, [requestOf(149)], 200)).toEqual([Reason.FlowFound]);
  expect(feed(engine, [requestOf(0)], 200)).toEqual([Reason.FlowNew]);
});

test("tables agree after random opening, answering and expiry", () => {
  const random = new Random(seed);
  const host = makeHost({ ...LIMITS, maxFlows: 300 });
  host.publish(imageOfRule(1));
  const engine = new WorkerEngine(host.seat(0));
  engine.leaveQuiescent();
  let now = 0;
  for (let round = 0; round < 400; round++) {
    now += random.below(3_000);
    feed(
      engine,
      Array.from({ length: 1 + random.below(64) }, () =>
        (random.chance(0.3) ? answerOf : requestOf)(random.below(600)),
      ),
      now,
    );
    engine.sweepSlice(now);
    if (round % 50 === 0) checkTables(host);
  }
  checkTables(host);
});

test.each([
  ["roomy", 4_000, 1_024],
  ["so small that they run out", 40, 16],
] as const)(
  "tables that are %s agree after mixed traffic of both families, fragments and changes of rules",
  (_, maxFlows, maxSticky) => {
    const random = new Random(seed + 2);
    const host = makeHost({ ...LIMITS, maxRules: 1_024, maxFlows, maxSticky });
    const engine = new WorkerEngine(host.seat(0));
    engine.leaveQuiescent();
    const frames = new FrameMemory(host.memory, host.map.workers[0]!);
    const world = new World(random);
    const traffic = new Traffic(random, "crowded");
    const ports = new Map<number, Port>();
    const seen = new Set<string>();
    const configure = (events: readonly Event[]): void => {
      for (const event of events) {
        if (event.kind === "port") {
          ports.set(event.index, event.port);
          frames.setPort(event.index, event.port);
          host.setPort(event.index, event.port);
        } else if (event.kind === "hop") host.setNextHop(event.index, event.hop);
        else if (event.kind === "publish") {
          host.publish(event.image);
          engine.adoptIfPublished();
        }
      }
    };
    configure(world.setUp());
    let now = 0;
    // Some worlds begin without a translating rule of one family, so it goes on until everything has been there.
    for (let round = 0; round < 400 || (seen.size < 3 && round < 8_000); round++) {
      now += random.below(1_000);
      const batch = traffic.batch(1 + random.below(64), world.rules);
      batch.forEach((frame, index) => {
        frames.place(frame, index);
      });
      const made = engine.process(batch.length, now);
      const outcomes = batch.map((_, index) => frames.outcome(index, made));
      for (const { reason } of outcomes) if (reason === Reason.FragmentTranslated) seen.add("fragments");
      traffic.learn(outcomes, ports);
      engine.sweepSlice(now);
      if (random.chance(0.1)) configure(world.change(now));
      if (seen.size < 3) for (const { client } of host.flows()) seen.add(`IPv${client.family}`);
      if (round % 40 === 0) checkTables(host);
    }
    checkTables(host);
    expect([...seen].sort()).toEqual(["IPv4", "IPv6", "fragments"]);
    engine.sweepAll(now + 200_000);
    engine.sweepAll(now + 400_000);
    expect(checkTables(host)).toBe(0);
  },
);

test("slices, called every half second, remove an idle flow within 15 s of its time", () => {
  const { host, engine } = startNat();
  for (let flow = 0; flow < 500; flow += 50)
    feed(
      engine,
      Array.from({ length: 50 }, (_, i) => requestOf(flow + i)),
      0,
    );
  let now = 0;
  for (; now < 60_000; now += 500) engine.sweepSlice(now);
  expect(host.health().flows).toBe(500);
  for (; now < 75_000; now += 500) engine.sweepSlice(now);
  expect(host.health().flows).toBe(0);
});

test("the engine clock may wrap", () => {
  const { host, engine } = startNat();
  const start = 2 ** 32 - 30_000;
  feed(engine, [requestOf(1)], start);
  for (let step = 0; step < 59_000; step += 1000) engine.sweepSlice((start + step) >>> 0);
  expect(feed(engine, [requestOf(1)], (start + 59_000) >>> 0)).toEqual([Reason.FlowFound]);
  for (let step = 59_000; step < 59_000 + 76_000; step += 1000) engine.sweepSlice((start + step) >>> 0);
  expect(host.health().flows).toBe(0);
});

test("no input traps, changes a byte outside of its frame and headroom, or goes uncounted", () => {
  const random = new Random(seed + 1);
  const { host, engine } = startNat();
  const { geometry } = engine;
  const bytes = new Uint8Array(host.memory.buffer);
  const data = new DataView(host.memory.buffer);
  const CANARY = 0x5c;
  const blocks = geometry.headBase;
  const blockBytes = 64 * HEAD_STRIDE;
  let total = 0;
  for (let round = 0; round < 300; round++) {
    bytes.fill(CANARY, blocks, blocks + blockBytes);
    const frames = Array.from({ length: 64 }, () => {
      const frame = random.chance(0.5) ? requestOf(random.below(50)) : answerOf(random.below(50));
      for (let hits = random.below(6); hits > 0; hits--) frame[random.below(frame.length)] = random.below(256);
      return frame.slice(0, random.chance(0.3) ? random.below(frame.length + 1) : frame.length);
    });
    frames.forEach((frame, index) => {
      const at = geometry.descriptorBase + index * Descriptor.size;
      const start = blocks + index * HEAD_STRIDE + geometry.headLayer3Offset - 14;
      bytes.set(frame, start);
      for (let offset = 16; offset < 26; offset++) bytes[at + offset] = random.chance(0.2) ? random.below(256) : 0;
      data.setUint32(at + Descriptor.frame, start, true);
      data.setUint32(at + Descriptor.length, frame.length, true);
      data.setUint32(at + Descriptor.headLength, frame.length, true);
      data.setUint32(at + Descriptor.tail, geometry.tailBase, true);
      data.setUint8(at + Descriptor.inPort, random.chance(0.05) ? random.below(256) : 0);
      data.setUint16(at + Descriptor.flags, random.chance(0.05) ? random.below(4) : 0, true);
    });
    engine.process(64, round * 10);
    total += 64;
    frames.forEach((frame, index) => {
      const at = geometry.descriptorBase + index * Descriptor.size;
      const reason = data.getUint8(at + Descriptor.reason);
      expect(data.getUint8(at + Descriptor.verdict)).toBe(REASON_VERDICT[reason]!);
      const block = blocks + index * HEAD_STRIDE;
      const start = geometry.headLayer3Offset - 14;
      const outside = [
        ...bytes.subarray(block, block + start),
        ...bytes.subarray(block + start + frame.length, block + HEAD_STRIDE),
      ];
      expect(outside.every((byte) => byte === CANARY)).toBe(true);
    });
  }
  const counters = host.counters();
  expect(counters.packetsIn).toBe(BigInt(total));
  expect(counters.reasons.reduce((sum, n) => sum + n, 0n)).toBe(BigInt(total));
  checkTables(host);
});

test("one-way UDP takes the fast path from its second packet on, and its first answer establishes it", () => {
  const host = makeHost();
  host.publish(imageOfRule(1));
  const engine = new WorkerEngine(host.seat(0));
  engine.leaveQuiescent();
  feed(engine, [requestOf(1)], 1);
  const worker = host.map.workers[0]!;
  const data = new DataView(host.memory.buffer);
  const slowBit = (field: number) => {
    const slot = data.getUint32(worker.flows + field, true);
    return data.getUint32(worker.buckets + (slot >>> 2) * 64 + 48 + (slot & 3) * 4, true) & META_SLOW;
  };
  expect([slowBit(FlowRecord.slotForward), slowBit(FlowRecord.slotReverse)]).toEqual([0, META_SLOW]);
  expect(feed(engine, [requestOf(1), answerOf(1)], 2)).toEqual([Reason.FlowFound, Reason.FlowFound]);
  expect([slowBit(FlowRecord.slotForward), slowBit(FlowRecord.slotReverse)]).toEqual([0, 0]);
  expect(data.getUint8(worker.flows + FlowRecord.state)).toBe(FLOW_LIVE | FLOW_ANSWERED);
});
