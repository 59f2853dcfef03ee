/**
 * As many flows as --max-flows allows: every one is found again, the one too many costs the oldest half-open one its
 * place, and silence ends them all. 8 million with --full, fewer else. Prints what it took; asserts no time.
 */
import { expect, test } from "bun:test";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import { BATCH_SIZE, Descriptor, Reason } from "../../src/gen/layout.ts";
import { ip } from "../support/addresses.ts";
import { isFullRun } from "../support/capabilities.ts";
import { imageOfRule, LIMITS, makeHost, requestOf } from "./support.ts";

const FLOWS = isFullRun ? 8_000_000 : 200_000;
const EXTRA = 1000;
const FIRST_CLIENT = Number(ip("10.0.0.1").value);
const PORTS_PER_CLIENT = 60_000;
const FIRST_PORT = 1024;
const IDLE_MS = 600_000;
/** In an Ethernet frame: source address, source port. */
const SOURCE_AT = 14 + 12;
const PORT_AT = 14 + 20;

test(`limits: ${FLOWS} flows are opened, found, given up for new ones and expired, each exactly once`, () => {
  const host = makeHost({ ...LIMITS, maxFlows: FLOWS });
  host.publish(imageOfRule(1, { natTimeoutMs: IDLE_MS }));
  const engine = new WorkerEngine(host.seat(0));
  engine.leaveQuiescent();
  const { geometry } = engine;
  const bytes = new Uint8Array(engine.memory.buffer);
  const data = new DataView(engine.memory.buffer);
  const frame = requestOf(0);
  let busyMs = 0;

  /** One datagram of each flow. @returns how often each reason was given */
  function send(first: number, count: number, nowMs: number): Map<number, number> {
    const reasons = new Map<number, number>();
    for (let flow = first; flow < first + count; flow += BATCH_SIZE) {
      const size = Math.min(BATCH_SIZE, first + count - flow);
      for (let slot = 0; slot < size; slot++) {
        const at = geometry.descriptorBase + slot * Descriptor.size;
        const start = geometry.headBase + slot * geometry.headStride + geometry.headLayer3Offset - 14;
        bytes.set(frame, start);
        data.setUint32(start + SOURCE_AT, FIRST_CLIENT + Math.floor((flow + slot) / PORTS_PER_CLIENT));
        data.setUint16(start + PORT_AT, FIRST_PORT + ((flow + slot) % PORTS_PER_CLIENT));
        bytes.fill(0, at, at + Descriptor.size);
        data.setUint32(at + Descriptor.frame, start, true);
        data.setUint32(at + Descriptor.length, frame.length, true);
        data.setUint32(at + Descriptor.headLength, frame.length, true);
      }
      const began = performance.now();
      engine.process(size, nowMs);
      busyMs += performance.now() - began;
      for (let slot = 0; slot < size; slot++) {
        const reason = data.getUint8(geometry.descriptorBase + slot * Descriptor.size + Descriptor.reason);
        reasons.set(reason, (reasons.get(reason) ?? 0) + 1);
      }
    }
    return reasons;
  }

  const report: string[] = [];
  const timed = (name: string, packets: number): void => {
    report.push(`${name} ${Math.round((busyMs * 1e6) / packets)} ns`);
    busyMs = 0;
  };
  expect([...send(0, FLOWS, 1)]).toEqual([[Reason.FlowNew, FLOWS]]);
  timed("opened", FLOWS);
  expect([...send(0, FLOWS, 1000)]).toEqual([[Reason.FlowFound, FLOWS]]);
  timed("found", FLOWS);
  expect(host.health()).toMatchObject({ flows: FLOWS, evicted: 0n, expired: 0n });

  expect([...send(FLOWS, EXTRA, 2000)]).toEqual([[Reason.FlowNew, EXTRA]]);
  expect(host.health()).toMatchObject({ flows: FLOWS, evicted: BigInt(EXTRA) });
  expect([...send(EXTRA, FLOWS, 3000)]).toEqual([[Reason.FlowFound, FLOWS]]);

  // Slices as the worker's loop makes them; none may take long, and together they let nothing live too long.
  let longest = 0;
  let slices = 0;
  const begin = performance.now();
  for (let now = 4000; now < IDLE_MS + 25_000; now += 500) {
    for (let isBehind = true; isBehind; slices++) {
      const began = performance.now();
      isBehind = engine.sweepSlice(now);
      longest = Math.max(longest, performance.now() - began);
    }
    if (now < IDLE_MS + 1000) expect(host.health().flows).toBe(FLOWS);
  }
  expect(host.health()).toMatchObject({ flows: 0, evicted: BigInt(EXTRA), expired: BigInt(FLOWS) });
  const sweepMs = performance.now() - begin;
  const rounds = (IDLE_MS + 21_000) / 5000;
  report.push(`a round of the sweep ${(sweepMs / rounds).toFixed(1)} ms, a slice ${(sweepMs / slices).toFixed(3)} ms`);
  report.push(
    `longest slice ${longest.toFixed(2)} ms, resident ${Math.round(process.memoryUsage.rss() / 2 ** 20)} MiB`,
  );
  console.log(`${FLOWS} flows: ${report.join(", ")}`);
  expect([...send(0, EXTRA, IDLE_MS + 30_000)]).toEqual([[Reason.FlowNew, EXTRA]]);
}, 600_000);
