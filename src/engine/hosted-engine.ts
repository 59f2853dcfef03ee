/**
 * What engines on the memory of an EngineHost have in common, whoever runs the module there: next hops are told to the
 * host, counters and tables are read from it. How frames get in and out is for each of them.
 */
import type {
  EngineCounters,
  FlowSnapshot,
  FrameIn,
  NextHop,
  Outcome,
  PacketEngine,
  Port,
  StickySnapshot,
  TableImage,
} from "./engine.ts";
import type { EngineHost } from "./host.ts";
import type { PolicyFigures } from "./policy.ts";
import type { EngineHealth } from "./stats.ts";

export abstract class HostedEngine implements PacketEngine {
  abstract readonly name: string;

  constructor(readonly host: EngineHost) {}

  abstract publish(image: TableImage): void;
  abstract setPort(index: number, port: Port): void;
  abstract process(frames: readonly FrameIn[], nowMs: number): Outcome[];
  abstract sweep(nowMs: number): void;

  setNextHop(index: number, hop: NextHop): void {
    this.host.setNextHop(index, hop);
  }

  counters(): EngineCounters {
    return this.host.counters();
  }

  health(): EngineHealth {
    return this.host.health();
  }

  flows(): FlowSnapshot[] {
    return [...this.host.flows()];
  }

  policy(): PolicyFigures {
    return this.host.policy();
  }

  sticky(): StickySnapshot[] {
    return [...this.host.sticky()];
  }

  /** Nothing to give back: the memory goes with the object. */
  close(): void {}
}
