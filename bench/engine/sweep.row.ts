/**
 * What expiry costs: a worker's slices of the sweep over four million flows of which none is over, one slice per
 * millisecond of the engine clock, for as long as one round over the whole table takes.
 */
import { viewsOf } from "../../src/engine/abi.ts";
import { SWEEP_PERIOD_MS, WorkerState } from "../../src/gen/layout.ts";
import type { BenchRow, BenchSides } from "../row.ts";
import { EngineWorld } from "../support/engine-world.ts";
import { clockCostNs } from "../support/timing.ts";

const FLOWS = 4_000_000;

async function setup(): Promise<BenchSides> {
  const world = await EngineWorld.create({ flows: FLOWS });
  const { engine, host } = world;
  const cursorAt = (host.map.workers[0]!.state + WorkerState.bucketCursor) >>> 2;
  const { u32 } = viewsOf(host.memory);
  let nowMs = 1;
  engine.sweepSlice(nowMs);
  const share = () => {
    const before = u32[cursorAt]!;
    let spent = 0;
    let visited = 0;
    for (let slice = 0; slice < SWEEP_PERIOD_MS; slice++) {
      const from = u32[cursorAt]!;
      nowMs++;
      const start = Bun.nanoseconds();
      engine.sweepSlice(nowMs);
      spent += Bun.nanoseconds() - start - clockCostNs();
      visited += (u32[cursorAt]! - from + host.map.counts.buckets) % host.map.counts.buckets;
    }
    if (visited < host.map.counts.buckets) throw new Error(`${visited} buckets were swept, from ${before} on: not all`);
    if (host.health().flows !== FLOWS) throw new Error("flows ended that are not over");
    return (spent / 1e6 / SWEEP_PERIOD_MS) * 100;
  };
  return { ours: share };
}

const rows: readonly BenchRow[] = [
  {
    id: "engine.sweep",
    unit: "% of a core",
    better: "lower",
    peerName: null,
    what: "share of a core that looking for what is over takes, 4,000,000 flows",
    setup,
  },
];

export default rows;
