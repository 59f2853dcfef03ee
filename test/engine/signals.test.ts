/** What the main thread reads of servers in rules while workers run: signals that they fail, and whether they hold flows. */
import { expect, test } from "bun:test";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import { feed } from "./feed.ts";
import { imageOfRule, LIMITS, makeHost, refusalOf, requestEnds, requestOf } from "./support.ts";

test("refused connections of all workers move one count, and their pairs are found by it", () => {
  const host = makeHost(LIMITS, 2);
  host.publish(imageOfRule(1));
  const workers = [0, 1].map((number) => new WorkerEngine(host.seat(number)));
  for (const worker of workers) worker.leaveQuiescent();
  const flowsOf = (worker: number) =>
    [1, 2, 3, 4, 5, 6, 7, 8].filter((flow) => host.workerOf(requestEnds(flow), null) === worker).slice(0, 2);
  for (const [number, worker] of workers.entries()) feed(worker, flowsOf(number).map(requestOf), 1);
  expect([host.signalCount(), host.signals()]).toEqual([0, []]);
  for (const [number, worker] of workers.entries()) feed(worker, flowsOf(number).map(refusalOf), 2);
  expect(host.signalCount()).toBe(4);
  expect(host.signals()).toEqual([
    { ruleId: 1, serverId: 7, count: 2 },
    { ruleId: 1, serverId: 7, count: 2 },
  ]);
  expect(host.counters().pairs).toMatchObject([{ refused: 4n, unanswered: 0n }]);
});

test("pairs that hold flows are told once per worker, and no more when their flows have gone", () => {
  const host = makeHost(LIMITS, 2);
  host.publish(imageOfRule(1));
  const workers = [0, 1].map((number) => new WorkerEngine(host.seat(number)));
  for (const worker of workers) worker.leaveQuiescent();
  expect([...host.heldPairs()]).toEqual([]);
  for (const [number, worker] of workers.entries()) {
    const flow = [1, 2, 3, 4, 5, 6, 7, 8].find((each) => host.workerOf(requestEnds(each), null) === number)!;
    feed(worker, [requestOf(flow)], 1);
  }
  const pair = { ruleId: 1, serverId: 7 };
  expect([...host.heldPairs()]).toEqual([pair, pair]);
  for (const worker of workers) worker.sweepAll(2_000_000);
  expect([...host.heldPairs()]).toEqual([]);
});
