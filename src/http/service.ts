/** What the HTTP application needs of the daemon. src/daemon.ts implements it, tests do so with fakes. */
import type { CommandHost } from "../command/host.ts";
import type { Caller } from "../control/caller.ts";
import type { HealthEvents } from "../control/health-events.ts";
import type { Log } from "../control/ports.ts";
import type { EngineCounters, WorkerFigures } from "../engine/engine.ts";
import type { RefusalAudit } from "./rights.ts";

/** One attached interface and what it counted, for metrics. */
export interface PortFigures {
  readonly name: string;
  readonly counters: Readonly<Record<string, bigint>>;
}

export interface Service {
  readonly version: string;
  readonly log: Log;
  /** The daemon as this caller may use it. `gone` fires when the caller has left. */
  hostFor(caller: Caller, gone: AbortSignal): CommandHost;
  /** Where refusals are recorded. */
  readonly refusals: RefusalAudit;
  /** What has lately happened to the health of servers. */
  readonly healthEvents: HealthEvents;
  counters(): EngineCounters;
  ports(): readonly PortFigures[];
  /** By number; empty without packet workers. */
  workers(): readonly WorkerFigures[];
  /** Tables are loaded, devices are open, and their interfaces still exist. */
  isReady(): boolean;
}
