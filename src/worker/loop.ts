/**
 * The loop of a packet worker: wait, adopt, decide, send, expire. One native call in, one engine call, one native call
 * out per batch; one clock read per batch. Knows neither packets nor configuration.
 */
import type { PacketIo } from "../device/device.ts";
import { Strain } from "./strain.ts";

/** What the loop needs of engine/worker-engine.ts. */
export interface LoopEngine {
  enterQuiescent(): void;
  leaveQuiescent(): number;
  stopRequested(): boolean;
  process(count: number, nowMs: number): number;
  sweepSlice(nowMs: number): boolean;
  heartbeat(nowMs: number): void;
}
export type LoopIo = Pick<PacketIo, "receive" | "transmit" | "nowMs" | "waitedUs">;

/** The other workers, as the loop sees them: what they hand over, and how to wake them (decision record 0017). */
export interface LoopPeers {
  takeHandedOver(): number;
  releaseHandedOver(): void;
  announceSleep(): boolean;
  endSleep(): void;
  /** Bit per worker. */
  takeWakes(): number;
  wake(worker: number): void;
}

/** How long to wait for packets before expiry has its turn; when it lags behind it only looks for packets in between. */
export const WAIT_US = 100_000;
/** Batches of frames from other workers before this one looks at its own devices again. */
const MOST_TAKEN = 16;
/** More batches than any socket buffer holds. */
const MAX_STALE_BATCHES = 4096;

/** Throws away what has arrived before the guard stood: the kernel has handled it already. Before run(). */
export function discardStale(io: LoopIo): void {
  for (let batches = 0; batches < MAX_STALE_BATCHES && io.receive(0) > 0; batches++);
}

/**
 * Runs until the main thread asks for the end. While it waits it is quiescent, so a new image never has to wait for
 * packets; after every wait it adopts the newest image before it looks at a frame.
 * @param peers null: there is one worker
 * @param onStrain is told when the worker becomes strained, and when it no longer is
 */
export function run(
  engine: LoopEngine,
  io: LoopIo,
  peers: LoopPeers | null = null,
  onStrain: (isStrained: boolean) => void = () => undefined,
): void {
  const strain = new Strain();
  const carryOut = (count: number, nowMs: number): void => {
    const made = engine.process(count, nowMs);
    if (peers !== null) wakeSleepers(peers);
    io.transmit(count, made);
  };
  let lagsBehind = false;
  for (;;) {
    const waitUs = lagsBehind ? 0 : WAIT_US;
    engine.enterQuiescent();
    const count = peers === null ? io.receive(waitUs) : receiveBesides(io, peers, waitUs);
    engine.leaveQuiescent();
    if (engine.stopRequested()) break;
    const nowMs = io.nowMs();
    if (count > 0) carryOut(count, nowMs);
    if (strain.note(count, nowMs, io.waitedUs())) onStrain(strain.isStrained);
    if (peers !== null) takeOver(peers, (taken) => carryOut(taken, nowMs));
    lagsBehind = engine.sweepSlice(nowMs);
    engine.heartbeat(nowMs);
  }
  engine.enterQuiescent(); // for ever: nobody waits for us any more
}

/** Waits for packets only when no other worker has any for this one either. */
function receiveBesides(io: LoopIo, peers: LoopPeers, waitUs: number): number {
  const count = io.receive(0);
  if (count > 0 || waitUs === 0 || !peers.announceSleep()) return count;
  const later = io.receive(waitUs);
  peers.endSleep();
  return later;
}

/** Works off what the others have handed over, their rings in turn. */
function takeOver(peers: LoopPeers, carryOut: (count: number) => void): void {
  for (let batches = 0; batches < MOST_TAKEN; batches++) {
    const count = peers.takeHandedOver();
    if (count === 0) return;
    carryOut(count);
    peers.releaseHandedOver();
  }
}

function wakeSleepers(peers: LoopPeers): void {
  for (let wakes = peers.takeWakes(); wakes !== 0; wakes &= wakes - 1) peers.wake(31 - Math.clz32(wakes & -wakes));
}
