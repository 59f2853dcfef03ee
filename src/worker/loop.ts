/**
 * The loop of a packet worker: wait, adopt, decide, send, expire. One native call in, one engine call, one native call
 * out per batch; one clock read per batch. Knows neither packets nor configuration.
 */
import type { PacketIo } from "../device/device.ts";

/** What the loop needs of engine/worker-engine.ts. */
export interface LoopEngine {
  enterQuiescent(): void;
  leaveQuiescent(): number;
  stopRequested(): boolean;
  process(count: number, nowMs: number): number;
  sweepSlice(nowMs: number): boolean;
  heartbeat(nowMs: number): void;
}
export type LoopIo = Pick<PacketIo, "receive" | "transmit" | "nowMs">;

/** How long to wait for packets before expiry has its turn; when it lags behind it only looks for packets in between. */
export const WAIT_US = 100_000;
/** More batches than any socket buffer holds. */
const MAX_STALE_BATCHES = 4096;

/** Throws away what has arrived before the guard stood: the kernel has handled it already. Before run(). */
export function discardStale(io: LoopIo): void {
  for (let batches = 0; batches < MAX_STALE_BATCHES && io.receive(0) > 0; batches++);
}

/**
 * Runs until the main thread asks for the end. While it waits it is quiescent, so a new image never has to wait for
 * packets; after every wait it adopts the newest image before it looks at a frame.
 */
export function run(engine: LoopEngine, io: LoopIo): void {
  let lagsBehind = false;
  for (;;) {
    engine.enterQuiescent();
    const count = io.receive(lagsBehind ? 0 : WAIT_US);
    engine.leaveQuiescent();
    if (engine.stopRequested()) break;
    const nowMs = io.nowMs();
    if (count > 0) io.transmit(count, engine.process(count, nowMs));
    lagsBehind = engine.sweepSlice(nowMs);
    engine.heartbeat(nowMs);
  }
  engine.enterQuiescent(); // for ever: nobody waits for us any more
}
