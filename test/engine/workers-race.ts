/**
 * The two sides of workers-threads.test.ts, each in a thread of its own. `answers` receives answers of flows that the
 * other worker has; `owner` opens flows in a full table, so that entries come, go and move all the time, and takes over.
 */
import type { WorkerSeat } from "../../src/engine/host.ts";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import { BATCH_SIZE } from "../../src/gen/layout.ts";
import { feed } from "./feed.ts";

export interface RaceTask {
  readonly role: "answers" | "owner";
  readonly seat: WorkerSeat;
  /** Frames to go through in turn. */
  readonly frames: readonly Uint8Array[];
  readonly batches: number;
  /** Word 0: threads that are ready; word 1: threads that are done. */
  readonly progress: SharedArrayBuffer;
}

/** Frames that the thread received, and those that it took over. */
export interface RaceResult {
  readonly received: number;
  readonly taken: number;
}

declare const self: Worker;

/** Offset of the source port in an Ethernet frame with IPv4 and UDP. */
const SOURCE_PORT_AT = 34;

function takeAll(engine: WorkerEngine): number {
  let taken = 0;
  for (let count = engine.takeHandedOver(); count > 0; count = engine.takeHandedOver()) {
    engine.process(count, 1);
    engine.releaseHandedOver();
    taken += count;
  }
  return taken;
}

/** A frame of the list; of the owner each time from another client port, so that it opens a flow. */
function frameAt({ role, frames }: RaceTask, number: number): Uint8Array {
  const frame = frames[number % frames.length]!;
  if (role === "owner")
    new DataView(frame.buffer, frame.byteOffset).setUint16(SOURCE_PORT_AT, 2048 + (number % 60_000));
  return frame;
}

self.onmessage = ({ data: task }: MessageEvent<RaceTask>) => {
  const progress = new Int32Array(task.progress);
  const engine = new WorkerEngine(task.seat);
  engine.leaveQuiescent();
  let taken = 0;
  Atomics.add(progress, 0, 1);
  while (Atomics.load(progress, 0) < 2) Atomics.wait(progress, 0, 1, 1);
  for (let batch = 0; batch < task.batches; batch++) {
    feed(
      engine,
      Array.from({ length: BATCH_SIZE }, (_, i) => frameAt(task, batch * BATCH_SIZE + i)),
      1,
    );
    taken += takeAll(engine);
  }
  Atomics.add(progress, 1, 1);
  // The other one may still be giving.
  while (Atomics.load(progress, 1) < 2 || engine.hasHandedOver()) taken += takeAll(engine);
  self.postMessage({ received: task.batches * BATCH_SIZE, taken } satisfies RaceResult);
};
