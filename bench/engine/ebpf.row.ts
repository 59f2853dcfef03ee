/**
 * The engine against the kernel's eBPF LRU hash. A whole packet through the engine (parsed, found, rewritten, checksums mended) stands
 * against one bare look-up, and a whole new flow (rule, server, record, both directions, the oldest given up) against one
 * insert: what no eBPF balancer with a connection table can do without.
 */
import type { BenchContext, BenchRow, BenchSides } from "../row.ts";
import { EngineWorld } from "../support/engine-world.ts";
import { Lru } from "../support/lru.ts";
import { compilerReason } from "../support/native.ts";
import { NewFlows } from "../support/new-flows.ts";
import { BatchTimer } from "../support/timing.ts";

/** Keys that are looked up fit the table with some room: an LRU hash begins to push out before it is quite full. */
const SIZES = {
  "128k": { entries: 131_072, keys: 128_000 },
  "1m": { entries: 1_048_576, keys: 1_000_000 },
} as const;
const NEW_FLOW_TABLE = 1_048_576;

async function lookUps(size: keyof typeof SIZES, { sideMs }: BenchContext): Promise<BenchSides> {
  const { entries, keys } = SIZES[size];
  const lru = new Lru(entries, keys);
  const ours = new BatchTimer(await EngineWorld.create({ flows: keys }));
  return { ours: () => ours.run(sideMs), peer: () => lru.run("look-up", sideMs), close: () => lru.close() };
}

async function newFlows({ sideMs }: BenchContext): Promise<BenchSides> {
  const lru = new Lru(NEW_FLOW_TABLE, NEW_FLOW_TABLE);
  const ours = new BatchTimer(await NewFlows.create(NEW_FLOW_TABLE));
  const perSecond = (nanoseconds: number) => 1e3 / nanoseconds;
  return {
    ours: () => perSecond(ours.run(sideMs)),
    peer: () => perSecond(lru.run("insert", sideMs)),
    close: () => lru.close(),
  };
}

const lookUpRow = (size: keyof typeof SIZES): BenchRow => ({
  id: `engine.ebpflru.${size}`,
  unit: "ns/packet",
  better: "lower",
  peerName: "eBPF LRU look-up",
  what: `established half-NAT TCP, ${SIZES[size].keys.toLocaleString("en")} flows, against one look-up of a random key in an LRU hash of ${SIZES[size].entries.toLocaleString("en")} (BPF_PROG_TEST_RUN)`,
  unavailable: compilerReason,
  setup: (context) => lookUps(size, context),
});

const rows: readonly BenchRow[] = [
  lookUpRow("128k"),
  lookUpRow("1m"),
  {
    id: "engine.newflow",
    unit: "million/s",
    better: "higher",
    peerName: "eBPF LRU insert",
    what: "new flows in a full table of 1,048,576, against inserts of new keys into a full LRU hash of that size (BPF_PROG_TEST_RUN)",
    unavailable: compilerReason,
    setup: newFlows,
  },
];

export default rows;
