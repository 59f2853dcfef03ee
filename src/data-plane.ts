/**
 * The packet side of the daemon as one thing that starts, fails and stops: engine memory, devices, kernel guard, packet
 * workers. `--io none` has none of it. Ties parts together; decides nothing about packets or configurations.
 */
import { NO_KERNEL, NoEngine } from "./control/no-plane.ts";
import type { EngineControl, KernelControl, Log } from "./control/ports.ts";
import type { RunOptions } from "./daemon-options.ts";
import type { WorkerFigures } from "./engine/engine.ts";
import type { SignalSource } from "./health/signals.ts";
import type { PortFigures } from "./http/service.ts";
import type { ProbeDetourAnswer, ProbeWayAnswer } from "./kernel/probe-way.ts";
import type { Address } from "./model/address.ts";
import { ok, type Result } from "./model/result.ts";
import type { WorkerTeam } from "./worker/workers.ts";

export interface DataPlane {
  readonly engine: EngineControl;
  readonly kernel: KernelControl;
  /** Engine clock, milliseconds. */
  nowMs(): number;
  /** Called after the tables are in force: packets flow from here on. Rejects with one clear line. */
  start(): Promise<void>;
  ports(): readonly PortFigures[];
  /** Names of owned interfaces that were removed: what comes in there is not balanced until the next start. */
  missingDevices(): readonly string[];
  /** What each packet worker has done, by number. */
  workers(): readonly WorkerFigures[];
  /** Resolves with one clear line when the plane has failed on its own; never before, never rejects. */
  readonly failed: Promise<string>;
  /** The way of a health probe that is addressed to `vip` and meant for `server` (direct server return). */
  probeWay(server: Address, vip: Address): ProbeWayAnswer;
  /** The same for a connection by a socket. Does not reject. */
  probeDetour(server: Address, vip: Address): Promise<ProbeDetourAnswer>;
  /** The kernel's source address towards a server; null: not known. */
  probeSource(server: Address): Address | null;
  /** What clients have met of servers that fail. */
  readonly signals: SignalSource;
  /** Called when addresses of the box changed. */
  onLocalChange(listener: () => void): void;
  /** Workers stopped, devices closed, kernel as before. Idempotent. */
  stop(): Promise<void>;
}

/** What can be known before anything is touched. @returns null, or one line that says why these options cannot work here */
export async function refusedDataPlane(options: RunOptions): Promise<string | null> {
  if (options.io === "none") return null;
  const { refusedPacketPlane } = await import("./packet-plane.ts");
  return refusedPacketPlane(options);
}

/**
 * Opens what the options ask for. Fails with one clear line; then everything is as before.
 * @param team the packet workers, null for `--io none`
 */
export async function openDataPlane(
  options: RunOptions,
  log: Log,
  team: WorkerTeam | null,
): Promise<Result<DataPlane>> {
  if (team === null) return ok(noPlane());
  const { openPacketPlane } = await import("./packet-plane.ts");
  return openPacketPlane(options, log, team);
}

function noPlane(): DataPlane {
  return {
    engine: new NoEngine(),
    kernel: NO_KERNEL,
    nowMs: () => Math.floor(performance.now()),
    start: async () => undefined,
    ports: () => [],
    missingDevices: () => [],
    workers: () => [],
    failed: new Promise(() => undefined),
    probeSource: () => null,
    probeWay: () => ({ kind: "not-started", reason: "without packet devices no server can be asked for the VIP" }),
    probeDetour: async () => ({
      kind: "not-started",
      reason: "without packet devices no server can be asked for the VIP",
    }),
    signals: { signalCount: () => 0, signals: () => [] },
    onLocalChange: () => undefined,
    stop: async () => undefined,
  };
}
