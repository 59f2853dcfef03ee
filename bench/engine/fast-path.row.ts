/**
 * Nanoseconds per packet of established half-NAT TCP flows, client to server: the whole engine against its fast path in C on
 * the same memory, and against plain TypeScript, in turn, in one process, on the same packets in the same order. Only
 * process() is timed, batch by batch; filling and checking are not.
 */
import type { BenchContext, BenchRow, BenchSides } from "../row.ts";
import { type CTwinKind, loadCTwin } from "../support/c-twin.ts";
import { EngineWorld } from "../support/engine-world.ts";
import { compilerReason } from "../support/native.ts";
import { BatchTimer } from "../support/timing.ts";
import { TypescriptSide } from "../support/typescript-side.ts";

const COUNTS = { "1k": 1_000, "1m": 1_000_000 } as const;
type Count = keyof typeof COUNTS;

async function againstC(flows: number, kind: CTwinKind, { sideMs }: BenchContext): Promise<BenchSides> {
  const world = await EngineWorld.create({ flows });
  const twin = loadCTwin(world.seat, kind);
  const ours = new BatchTimer(world);
  const peer = new BatchTimer(world.sideOf((count, nowMs) => twin.process(count, nowMs)));
  return { ours: () => ours.run(sideMs), peer: () => peer.run(sideMs) };
}

async function againstTypescript(flows: number, { sideMs }: BenchContext): Promise<BenchSides> {
  const world = await EngineWorld.create({ flows });
  const ours = new BatchTimer(world);
  const peer = new BatchTimer(new TypescriptSide(flows));
  return { ours: () => ours.run(sideMs), peer: () => peer.run(sideMs) };
}

const text = (count: Count): string =>
  `established half-NAT TCP, ${COUNTS[count].toLocaleString("en")} flows, batches of 64`;

const cRow = (id: string, count: Count, kind: CTwinKind): BenchRow => ({
  id: `${id}.${count}`,
  unit: "ns/packet",
  better: "lower",
  peerName: kind === "prefetch" ? "C with prefetch" : "C, same algorithm",
  what: `${text(count)}, against gcc -O3 -march=native on the same memory`,
  unavailable: compilerReason,
  setup: (context) => againstC(COUNTS[count], kind, context),
});

const typescriptRow = (count: Count): BenchRow => ({
  id: `engine.ts.${count}`,
  unit: "ns/packet",
  better: "lower",
  peerName: "plain TypeScript",
  what: `${text(count)}, against typed arrays, packet by packet`,
  setup: (context) => againstTypescript(COUNTS[count], context),
});

const rows: readonly BenchRow[] = [
  cRow("engine.c", "1k", "touch"),
  cRow("engine.c", "1m", "touch"),
  cRow("engine.cprefetch", "1m", "prefetch"),
  typescriptRow("1k"),
  typescriptRow("1m"),
];

export default rows;
