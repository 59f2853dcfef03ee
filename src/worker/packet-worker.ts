/**
 * Entry of a packet worker thread: attaches to the shared memory and to the ports that the main thread opened, warms the
 * engine up, then lives in the loop. Opens nothing and owns nothing.
 */
import { KernelPacketIo } from "../device/kernel-io.ts";
import { WorkerEngine } from "../engine/worker-engine.ts";
import { discardStale, run } from "./loop.ts";
import type { FromWorker, ToWorker } from "./messages.ts";

declare const self: Worker;

const say = (message: FromWorker): void => self.postMessage(message);
let parts: { readonly engine: WorkerEngine; readonly io: KernelPacketIo } | null = null;

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  try {
    if (data.kind === "prepare") {
      parts = { engine: new WorkerEngine(data.seat), io: KernelPacketIo.attach(data.io) };
      parts.engine.warmUp();
      say({ kind: "prepared" });
      return;
    }
    if (parts === null) throw new Error("run before prepare");
    discardStale(parts.io);
    say({ kind: "running" });
    run(parts.engine, parts.io);
    say({ kind: "stopped" });
  } catch (error) {
    say({ kind: "failed", reason: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
};
