/** The worker of instances.test.ts: attaches with the seat that it is sent and reports the reasons of its frames. */
import type { WorkerSeat } from "../../src/engine/host.ts";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import { feed } from "./feed.ts";

declare const self: Worker;

self.onmessage = (event: MessageEvent<{ seat: WorkerSeat; frames: Uint8Array[] }>) => {
  const engine = new WorkerEngine(event.data.seat);
  engine.leaveQuiescent();
  self.postMessage(feed(engine, event.data.frames, 1));
};
