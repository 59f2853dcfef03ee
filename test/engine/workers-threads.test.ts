/** Two workers in two threads at once: rings without locks, and flow tables that are read while they change. */
import { expect, test } from "bun:test";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import { Reason, WorkerCounters } from "../../src/gen/layout.ts";
import { feed } from "./feed.ts";
import { answerOf, imageOfRule, LIMITS, makeHost, requestEnds, requestOf } from "./support.ts";
import type { RaceResult, RaceTask } from "./workers-race.ts";

/** 1024 flows for each worker, which is just half of its table. */
const MAX_FLOWS = 1638;
const ESTABLISHED = 500;

function inThread(task: RaceTask): Promise<RaceResult> {
  const thread = new Worker(new URL("workers-race.ts", import.meta.url).href);
  return new Promise<RaceResult>((resolve, reject) => {
    thread.onmessage = ({ data }: MessageEvent<RaceResult>) => resolve(data);
    thread.onerror = ({ message }) => reject(new Error(message));
    thread.postMessage(task);
  }).finally(() => thread.terminate());
}

test("answers find their flow while its table is full and its entries come, go and move, and every packet is counted once", async () => {
  const host = makeHost({ ...LIMITS, maxFlows: MAX_FLOWS, maxSticky: 1024 }, 2);
  // Sticky, so that a client's flows have one worker, whatever their ports.
  host.publish(imageOfRule(1, { stickyMask: 32 }));
  const flows = Array.from({ length: 4000 }, (_, flow) => flow).filter(
    (flow) => host.workerOf(requestEnds(flow), 32) === 1,
  );
  const established = flows.slice(0, ESTABLISHED);
  const owner = new WorkerEngine(host.seat(1));
  owner.leaveQuiescent();
  for (const flow of established)
    expect(feed(owner, [requestOf(flow), answerOf(flow)], 1)).toEqual([Reason.FlowNew, Reason.FlowFound]);

  const progress = new SharedArrayBuffer(8);
  const [answers, opened] = await Promise.all([
    inThread({ role: "answers", seat: host.seat(0), frames: established.map(answerOf), batches: 4000, progress }),
    inThread({
      role: "owner",
      seat: host.seat(1),
      frames: flows.slice(0, 100).map(requestOf),
      batches: 2000,
      progress,
    }),
  ]);

  const { packetsIn, reasons } = host.counters();
  const count = (reason: number): number => Number(reasons[reason]);
  expect(Number(packetsIn)).toBe(answers.received + opened.received + 2 * ESTABLISHED);
  expect(reasons.reduce((sum, n) => sum + n, 0n)).toBe(packetsIn);
  // Not one answer was taken for traffic of no flow: each was handed over, or found no room.
  expect([count(Reason.ServerTraffic), count(Reason.Unguarded), count(Reason.NoFlowMemory)]).toEqual([0, 0, 0]);
  expect(opened.taken + count(Reason.HandOverFull)).toBe(answers.received);
  expect(count(Reason.FlowFound)).toBeGreaterThanOrEqual(opened.taken + ESTABLISHED);
  expect(opened.taken).toBeGreaterThan(1000);
  const words = new BigUint64Array(host.memory.buffer);
  const ofOwner = (field: number): bigint => words[(host.map.workers[1]!.counters + field) >>> 3]!;
  expect(ofOwner(WorkerCounters.evicted)).toBeGreaterThan(1000n);
  expect(ofOwner(WorkerCounters.kicks)).toBeGreaterThan(0n);
}, 60_000);
