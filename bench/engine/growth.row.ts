/**
 * How the cost of a packet grows: the other family and types against IPv4 half-NAT, many rules, servers and flows against
 * few. Both sides are engines, each on a memory of its own.
 */
import { totalmem } from "node:os";
import type { BenchContext, BenchRow, BenchSides } from "../row.ts";
import { EngineWorld, type WorldOptions } from "../support/engine-world.ts";
import { BatchTimer } from "../support/timing.ts";

const FLOWS = 1_000;
const FEW: WorldOptions = { flows: FLOWS, rules: 1, servers: 3 };
/** What 8 million flows take with their buckets and records, and the rest of the process. */
const MANY_FLOWS_BYTES = 3 * 2 ** 30;

async function setup(own: WorldOptions, other: WorldOptions, { sideMs }: BenchContext): Promise<BenchSides> {
  const ours = new BatchTimer(await EngineWorld.create(own));
  const peer = new BatchTimer(await EngineWorld.create(other));
  return { ours: () => ours.run(sideMs), peer: () => peer.run(sideMs) };
}

function row(id: string, what: string, own: WorldOptions, peerName: string, leastBytes = 0): BenchRow {
  return {
    id,
    unit: "ns/packet",
    better: "lower",
    peerName,
    what,
    unavailable: () => (totalmem() < leastBytes ? `less than ${leastBytes / 2 ** 30} GiB of memory` : null),
    setup: (context) => setup(own, FEW, context),
  };
}

const HALF_NAT = "half-NAT over IPv4";
const rows: readonly BenchRow[] = [
  row("engine.v6", "established half-NAT TCP over IPv6, 1,000 flows", { ...FEW, family: 6 }, HALF_NAT),
  row("engine.nat", "established full NAT TCP, ten proxy addresses, 1,000 flows", { ...FEW, type: "NAT" }, HALF_NAT),
  row("engine.dsr", "DSR of TCP (no flows: rule and server anew for every packet)", { ...FEW, type: "DSR" }, HALF_NAT),
  row("engine.rules.10k", "1,000 flows over 10,000 rules of 3 servers", { ...FEW, rules: 10_000 }, "1 rule"),
  row("engine.servers.1k", "1,000 flows over 1,000 servers of one rule", { ...FEW, servers: 1_000 }, "3 servers"),
  row("engine.flows.8m", "8,000,000 flows", { ...FEW, flows: 8_000_000 }, "1,000 flows", MANY_FLOWS_BYTES),
];

export default rows;
