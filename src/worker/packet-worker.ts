/**
 * Entry of a packet worker thread: attaches to the shared memory and to the ports that the main thread opened, warms the
 * engine up, then lives in the loop. Opens nothing and owns nothing.
 */
import { type IoHandOver, KernelPacketIo } from "../device/kernel-io.ts";
import { WorkerEngine } from "../engine/worker-engine.ts";
import { discardStale, type LoopPeers, run } from "./loop.ts";
import type { FromWorker, ToWorker } from "./messages.ts";

declare const self: Worker;

const say = (message: FromWorker): void => self.postMessage(message);
let parts: { readonly engine: WorkerEngine; readonly io: KernelPacketIo; readonly peers: LoopPeers | null } | null =
  null;

function peersOf(engine: WorkerEngine, handOvers: readonly IoHandOver[]): LoopPeers | null {
  if (handOvers.length < 2) return null;
  const ios = handOvers.map((handOver) => KernelPacketIo.attach(handOver));
  return {
    takeHandedOver: () => engine.takeHandedOver(),
    releaseHandedOver: () => engine.releaseHandedOver(),
    announceSleep: () => engine.announceSleep(),
    endSleep: () => engine.endSleep(),
    takeWakes: () => engine.takeWakes(),
    wake: (worker) => ios[worker]!.wake(),
  };
}

self.onmessage = ({ data }: MessageEvent<ToWorker>) => {
  try {
    if (data.kind === "prepare") {
      const engine = new WorkerEngine(data.seat);
      parts = { engine, io: KernelPacketIo.attach(data.io), peers: peersOf(engine, data.peers) };
      parts.engine.warmUp();
      say({ kind: "prepared" });
      return;
    }
    if (parts === null) throw new Error("run before prepare");
    discardStale(parts.io);
    say({ kind: "running" });
    run(parts.engine, parts.io, parts.peers);
    say({ kind: "stopped" });
  } catch (error) {
    say({ kind: "failed", reason: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
};
