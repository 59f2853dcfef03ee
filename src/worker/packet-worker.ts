/**
 * Entry of a packet worker thread: warms the engine up while the main thread is still putting the daemon together, attaches
 * to the shared memory and to the ports that were opened there, then lives in the loop. Opens nothing and owns nothing.
 */
import { type IoHandOver, KernelPacketIo } from "../device/kernel-io.ts";
import { WarmUp } from "../engine/warm-up.ts";
import { WorkerEngine } from "../engine/worker-engine.ts";
import { discardStale, type LoopPeers, run } from "./loop.ts";
import type { FromWorker, ToWorker } from "./messages.ts";
import { callingThread, StrainRelief } from "./priority.ts";

declare const self: Worker;

const say = (message: FromWorker): void => self.postMessage(message);

interface Parts {
  readonly engine: WorkerEngine;
  readonly io: KernelPacketIo;
  readonly peers: LoopPeers | null;
  readonly onStrain: (isStrained: boolean) => void;
}
let parts: Parts | null = null;

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

/** An optimisation: where a thread may not raise itself, it stays as it is. */
function reliefOf(nice: number | null): Parts["onStrain"] {
  if (nice === null) return (isStrained) => say({ kind: "strained", isStrained });
  const relief = new StrainRelief(callingThread(nice), () => undefined);
  return (isStrained) => relief.note(isStrained);
}

async function follow(message: ToWorker): Promise<void> {
  switch (message.kind) {
    case "warm":
      return new WarmUp(message.module, message.isAlone).prepare();
    case "prepare": {
      const engine = new WorkerEngine(message.seat, message.module);
      const peers = peersOf(engine, message.peers);
      parts = { engine, io: KernelPacketIo.attach(message.io), peers, onStrain: reliefOf(message.nice) };
      return say({ kind: "prepared" });
    }
    case "run":
      if (parts === null) throw new Error("run before prepare");
      discardStale(parts.io);
      say({ kind: "running" });
      run(parts.engine, parts.io, parts.peers, parts.onStrain);
      say({ kind: "stopped" });
  }
}

self.onmessage = async ({ data }: MessageEvent<ToWorker>) => {
  try {
    await follow(data);
  } catch (error) {
    say({ kind: "failed", reason: error instanceof Error ? (error.stack ?? error.message) : String(error) });
  }
};
