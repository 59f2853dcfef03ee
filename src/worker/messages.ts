/** What main thread and packet worker say to each other. Everything else goes through shared memory. */
import type { IoHandOver } from "../device/kernel-io.ts";
import type { WorkerSeat } from "../engine/host.ts";

/**
 * To the worker, in this order. `warm`: run the engine warm, with nothing to work with yet; of several workers one does it
 * for all. `prepare`: attach. `run`: enter the loop, which ends by the stop flag.
 */
export type ToWorker =
  | { readonly kind: "warm"; readonly module: WebAssembly.Module; readonly isAlone: boolean }
  | {
      readonly kind: "prepare";
      readonly module: WebAssembly.Module;
      readonly seat: WorkerSeat;
      readonly io: IoHandOver;
      /** Of every worker by its number, this one included, to wake them; none when there is one worker. */
      readonly peers: readonly IoHandOver[];
      /** What the thread is to raise itself to while it is strained (priority.ts); null: it only tells. */
      readonly nice: number | null;
    }
  | { readonly kind: "run" };

/** From the worker. */
export type FromWorker =
  | { readonly kind: "prepared" }
  | { readonly kind: "running" }
  | { readonly kind: "strained"; readonly isStrained: boolean }
  | { readonly kind: "stopped" }
  | { readonly kind: "failed"; readonly reason: string };
