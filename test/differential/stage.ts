/** How large the tables of a differential run are, and what else about it is not chance. */
import type { EngineLimits } from "../../src/engine/engine.ts";
import type { PortUse } from "../../src/engine/reference/ports.ts";
import type { Temper } from "./traffic.ts";
import type { WorldSize } from "./world.ts";

/** A part of the proxy ports. */
export interface PortSpan {
  readonly first: number;
  readonly last: number;
}

export interface Stage {
  readonly limits: EngineLimits;
  readonly world: WorldSize;
  /** The proxy ports that the subject gives out. */
  readonly proxyPorts: PortSpan;
  /**
   * Whether the subject sweeps in slices between batches, as a worker does. Not where tables fill up: when a slice comes
   * to an entry that is over is an engine's own affair, and so would be what is refused.
   */
  readonly slices: boolean;
  /** Frames of a batch at most, and the milliseconds from one batch to the next at least. */
  readonly mostFrames: number;
  readonly leastStepMs: number;
  /**
   * The subject is several workers. Each forgets its own part of a pair that has left the image, so what such a pair counts
   * is not compared; and what several have held too long reaches the kernel in no order between them.
   */
  readonly isSeveral?: boolean;
  /** Default: chance decides between busy and steady. */
  readonly temper?: Temper;
  /** How likely the configuration changes between two batches, where not as the temper of the traffic has it. */
  readonly changeChance?: number;
}

const ALL_PORTS: PortSpan = { first: 4096, last: 65534 };
/** Six ports, of which one is never given out. */
export const FEW_PORTS: PortSpan = { first: 13_722, last: 13_727 };

/** Tables that nothing fills. */
export const ROOMY: Stage = {
  limits: { maxFlows: 20_000, maxRules: 64, maxPairs: 4_096, maxSticky: 4_096 },
  world: { mostRules: 6, mostServers: 5, hasPolicies: true },
  proxyPorts: ALL_PORTS,
  slices: true,
  mostFrames: 64,
  leastStepMs: 0,
};

/** A flow table of more than 65,536 buckets: in such a one the engine looks ahead. */
export const LARGE: Stage = { ...ROOMY, limits: { ...ROOMY.limits, maxFlows: 80_000 } };

const tight = (maxFlows: number, maxSticky: number, mostRules: number, mostServers: number): Stage => ({
  ...ROOMY,
  limits: { maxFlows, maxRules: 64, maxPairs: mostRules * mostServers, maxSticky },
  world: { mostRules, mostServers, mostDrains: 2 * mostRules * mostServers },
  proxyPorts: FEW_PORTS,
  slices: false,
});

const RESTLESS = tight(400, 400, 2, 5);
/** Tables and ports of which one or the other always runs out. Next hops, one of each server, go up to maxPairs. */
const TIGHT: readonly Stage[] = [
  tight(12, 100, 5, 4),
  tight(40, 3, 5, 2),
  tight(400, 2, 2, 5),
  tight(1_000, 200, 4, 3),
  { ...RESTLESS, world: { ...RESTLESS.world, isRestless: true }, temper: "crowded", changeChance: 0.8 },
];

/**
 * For several workers, compared with a reference that is one: no turns, which each worker has of its own, one frame at a
 * time, because each batch has its own pool of frames, and time for the buckets of ICMP errors to fill.
 */
export const SHARED: Stage = {
  ...ROOMY,
  world: { ...ROOMY.world, isTurnless: true },
  slices: false,
  isSeveral: true,
  mostFrames: 1,
  leastStepMs: 10,
};

/** One of the small stages. */
export const tightStage = (seed: number): Stage => TIGHT[seed % TIGHT.length]!;

/** Whether a pool of proxy ports has none left, and a port of it that is free. */
export function freePortOf({ isFree }: PortUse & { isFree(port: number): boolean }, span: PortSpan): number | null {
  for (let port = span.first; port <= span.last; port++) if (isFree(port)) return port;
  return null;
}
