/** Several instances on one memory, as several workers have them (decision record 0001). */
import { expect, test } from "bun:test";
import { zeroPairCounters } from "../../src/engine/engine.ts";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import { LAYOUT_FINGERPRINT, Reason, SharedHeader } from "../../src/gen/layout.ts";
import { feed } from "./feed.ts";
import { answerOf, imageOfRule, LIMITS, makeHost, requestEnds, requestOf } from "./support.ts";

test("a second and a third instance attached under traffic change nothing for the first", () => {
  const host = makeHost(LIMITS, 3);
  host.publish(imageOfRule(1));
  const workers = [new WorkerEngine(host.seat(0))];
  workers[0]!.leaveQuiescent();
  const own = [1, 2, 3, 4, 5, 6, 7, 8].find((flow) => host.workerOf(requestEnds(flow), null) === 0)!;
  const [request, answer] = [requestOf(own), answerOf(own)];
  expect(feed(workers[0]!, [request, answer, request], 1)).toEqual([
    Reason.FlowNew,
    Reason.FlowFound,
    Reason.FlowFound,
  ]);
  for (const index of [1, 2]) {
    const next = new WorkerEngine(host.seat(index));
    next.leaveQuiescent();
    workers.push(next);
    expect(feed(workers[0]!, [request, answer], 2)).toEqual([Reason.FlowFound, Reason.FlowFound]);
    // The flow is the first worker's, whoever sees its packets.
    feed(next, [answer, request], 2);
    expect(workers[0]!.takeHandedOver()).toBe(2);
    workers[0]!.process(2, 2);
    workers[0]!.releaseHandedOver();
  }
  expect([...host.flows()].length).toBe(1);
  expect(host.counters().pairs).toEqual([{ ...zeroPairCounters(1, 7), packets: 11n, bytes: 11n * 32n, flows: 1 }]);
});

test("a listing goes on behind a place: nothing twice, nothing left out, over all workers, whatever ended meanwhile", () => {
  const host = makeHost(LIMITS, 2);
  host.publish(imageOfRule(1, { stickyMask: 32 }));
  const workers = [0, 1].map((index) => new WorkerEngine(host.seat(index)));
  for (const [index, worker] of workers.entries()) {
    worker.leaveQuiescent();
    const own = [...Array(200).keys()].filter((flow) => host.workerOf(requestEnds(flow), 32) === index);
    feed(worker, own.slice(0, 20).map(requestOf), 1 + 50_000 * index);
  }
  expect([...host.stickyFrom(0)].map(({ place }) => place)).toEqual(
    [0, 2 ** 32].flatMap((first) => Array.from({ length: 20 }, (_, index) => first + index)),
  );
  const whole = [...host.flowsFrom(0)];
  expect(whole.map(({ entry }) => entry)).toEqual([...host.flows()]);
  const [firstPage, rest] = [whole.slice(0, 13), whole.slice(13)];
  workers[0]!.sweepAll(100_000); // ends the flows of the first worker, those of the first page among them
  const later = [...host.flowsFrom(firstPage.at(-1)!.place + 1)];
  expect(later).toEqual(rest.slice(7));
  expect(later).toHaveLength(20);
});

test("a second instance for the same worker goes on where the first stood", () => {
  const host = makeHost();
  host.publish(imageOfRule(1));
  const first = new WorkerEngine(host.seat(0));
  first.leaveQuiescent();
  feed(first, [requestOf(1)], 1);
  const second = new WorkerEngine(host.seat(0));
  second.leaveQuiescent();
  expect(feed(second, [requestOf(1), requestOf(2)], 2)).toEqual([Reason.FlowFound, Reason.FlowNew]);
  expect(feed(first, [requestOf(1)], 3)).toEqual([Reason.FlowFound]);
});

test("a memory of another layout is refused", () => {
  const host = makeHost();
  new Uint32Array(host.memory.buffer)[(host.map.sharedHeader + SharedHeader.fingerprint) >>> 2] =
    LAYOUT_FINGERPRINT ^ 1;
  expect(() => new WorkerEngine(host.seat(0))).toThrow("laid out by another version");
});

test("a seat crosses to a worker and works there", async () => {
  const host = makeHost();
  host.publish(imageOfRule(1));
  const worker = new Worker(new URL("instances-worker.ts", import.meta.url).href);
  const reasons = await new Promise<number[]>((resolve, reject) => {
    worker.onmessage = (event) => resolve(event.data);
    worker.onerror = reject;
    worker.postMessage({ seat: host.seat(0), frames: [requestOf(1), requestOf(1)] });
  });
  worker.terminate();
  expect(reasons).toEqual([Reason.FlowNew, Reason.FlowFound]);
  expect(host.counters().packetsIn).toBe(2n);
});

test("warming up leaves no trace", async () => {
  const host = makeHost();
  host.publish(imageOfRule(1));
  const engine = new WorkerEngine(host.seat(0));
  engine.leaveQuiescent();
  const before = new Uint8Array(host.memory.buffer).slice();
  await engine.warmUp();
  expect(Bun.hash(new Uint8Array(host.memory.buffer))).toBe(Bun.hash(before));
});
