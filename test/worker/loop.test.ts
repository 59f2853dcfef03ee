import { expect, test } from "bun:test";
import { compileModule } from "../../src/engine/abi.ts";
import { BATCH_SIZE } from "../../src/gen/layout.ts";
import { discardStale, type LoopEngine, type LoopIo, type LoopPeers, run, WAIT_US } from "../../src/worker/loop.ts";
import { PacketWorker } from "../../src/worker/workers.ts";
import { MODULE_BYTES } from "../support/wasm-engine.ts";

/** Plays the batches given, then asks for the stop; every call lands in one list. @param waits share of the time */
function play(
  batches: readonly number[],
  behind: boolean[] = [],
  waits = 0.5,
): { calls: string[]; engine: LoopEngine; io: LoopIo } {
  const calls: string[] = [];
  const left = [...batches];
  let nowMs = 1000;
  const io: LoopIo = {
    receive(timeoutUs) {
      calls.push(`receive ${timeoutUs}`);
      nowMs += 5;
      return left.shift() ?? 0;
    },
    transmit(count, made) {
      calls.push(`transmit ${count} ${made}`);
      return count;
    },
    nowMs: () => nowMs,
    waitedUs: () => nowMs * 1000 * waits,
  };
  const engine: LoopEngine = {
    enterQuiescent: () => void calls.push("enter"),
    leaveQuiescent: () => calls.push("leave"),
    stopRequested: () => left.length === 0,
    process(count, at) {
      calls.push(`process ${count} ${at}`);
      return 2;
    },
    sweepSlice(at) {
      calls.push(`sweep ${at}`);
      return behind.shift() ?? false;
    },
    heartbeat: (at) => void calls.push(`beat ${at}`),
  };
  return { calls, engine, io };
}

test("a batch: quiescent only while waiting, adopt before the first frame, one time for everything", () => {
  const { calls, engine, io } = play([3, 0, 0]);
  run(engine, io);
  expect(calls).toEqual([
    "enter",
    `receive ${WAIT_US}`,
    "leave",
    "process 3 1005",
    "transmit 3 2",
    "sweep 1005",
    "beat 1005",
    "enter",
    `receive ${WAIT_US}`,
    "leave",
    "sweep 1010",
    "beat 1010",
    "enter",
    `receive ${WAIT_US}`,
    "leave",
    "enter",
  ]);
});

test("while expiry is behind, the worker looks for packets between slices and does not wait for them", () => {
  const { calls, engine, io } = play([0, 2, 0, 0], [true, true, false]);
  run(engine, io);
  const waits = calls.filter((call) => call.startsWith("receive"));
  expect(waits).toEqual([`receive ${WAIT_US}`, "receive 0", "receive 0", `receive ${WAIT_US}`]);
});

test("strain is told when it comes and when it is over", () => {
  const { engine, io } = play([...new Array(20).fill(BATCH_SIZE), ...new Array(250).fill(1)]);
  const told: boolean[] = [];
  run(engine, io, null, (isStrained) => told.push(isStrained));
  expect(told).toEqual([true, false]);
  const busy = play(new Array(60).fill(5), [], 0.01);
  run(busy.engine, busy.io, null, (isStrained) => told.push(isStrained));
  expect(told).toEqual([true, false, true]);
});

test("a worker that ends is quiescent for ever, and does not process what it has just received", () => {
  const { calls, engine, io } = play([9]);
  run(engine, io);
  expect(calls).toEqual(["enter", `receive ${WAIT_US}`, "leave", "enter"]);
});

/** Other workers that have handed over what is given, batch by batch; sleeping is refused while there is any. */
function withPeers(calls: string[], handedOver: readonly number[], wakes: number): LoopPeers {
  const waiting = [...handedOver];
  let wakesLeft = wakes;
  return {
    takeHandedOver() {
      const count = waiting.shift() ?? 0;
      calls.push(`take ${count}`);
      return count;
    },
    releaseHandedOver: () => void calls.push("release"),
    announceSleep() {
      calls.push("announce");
      return waiting.length === 0;
    },
    endSleep: () => void calls.push("end sleep"),
    takeWakes() {
      const due = wakesLeft;
      wakesLeft = 0;
      return due;
    },
    wake: (worker) => void calls.push(`wake ${worker}`),
  };
}

test("several workers: what others hand over is decided, sent and only then released, and sleepers are woken before sending", () => {
  const { calls, engine, io } = play([3, 0, 0]);
  run(engine, io, withPeers(calls, [64, 5], 0b1010));
  expect(calls.slice(0, calls.indexOf("sweep 1005"))).toEqual([
    "enter",
    "receive 0",
    "leave",
    "process 3 1005",
    "wake 1",
    "wake 3",
    "transmit 3 2",
    "take 64",
    "process 64 1005",
    "transmit 64 2",
    "release",
    "take 5",
    "process 5 1005",
    "transmit 5 2",
    "release",
    "take 0",
  ]);
});

test("several workers: one waits only after it has announced it and found nothing handed over", () => {
  const { calls, engine, io } = play([0, 0, 0]);
  run(engine, io, withPeers(calls, [], 0));
  expect(calls.slice(0, 7)).toEqual([
    "enter",
    "receive 0",
    "announce",
    `receive ${WAIT_US}`,
    "end sleep",
    "leave",
    "take 0",
  ]);

  const busy = play([0, 0, 0]);
  run(busy.engine, busy.io, withPeers(busy.calls, [1], 0));
  expect(busy.calls.slice(0, 5)).toEqual(["enter", "receive 0", "announce", "leave", "take 1"]);
});

test("several workers: the others cannot keep one from its own devices", () => {
  const { calls, engine, io } = play([0, 0]);
  run(engine, io, withPeers(calls, new Array(100).fill(64), 0));
  expect(calls.filter((call) => call === "release").length).toBe(16);
});

test("what the sockets collected before the start is thrown away without waiting", () => {
  const { calls, io } = play([64, 64, 7, 0, 5]);
  discardStale(io);
  expect(calls).toEqual(["receive 0", "receive 0", "receive 0", "receive 0"]);
});

test("a worker that cannot attach says why, in one line, and can be stopped", async () => {
  const worker = new PacketWorker("the packet worker");
  const prepared = worker.prepare(compileModule(MODULE_BYTES), {
    seat: { memory: null, map: { workers: [] }, workerIndex: 3, moduleBytes: new Uint8Array() } as never,
    io: { io: 0, ports: [], spinUs: 0 },
    askToStop: () => undefined,
    heartbeatMs: () => 0,
    nowMs: () => 0,
  });
  await expect(prepared).rejects.toThrow(/^the packet worker failed: .*there is no number 3$/);
  expect(await worker.failed).not.toContain("\n");
  await worker.stop();
});
