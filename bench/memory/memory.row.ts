/**
 * Bytes of memory per flow at a million flows: what all tables that grow with the number of flows take in the memory plan, and of
 * that what established traffic touches (the buckets). Held against the pages that are really there once a million flows stand.
 */
import { ptr } from "bun:ffi";
import { closeSync, openSync, readSync } from "node:fs";
import { regionMap } from "../../src/engine/memory.ts";
import { Bucket } from "../../src/gen/layout.ts";
import type { BenchRow, BenchSides } from "../row.ts";
import { EngineWorld } from "../support/engine-world.ts";

const FLOWS = 1_000_000;
const PAGE = 4096;
const PAGEMAP_ENTRY = 8;
/** How far pages that are there may be from the plan: tables that do not grow with flows, and random places that stay empty. */
const TOLERANCE = 0.1;

/** Bytes of a range of this process's memory that are in pages that are there (proc_pid_pagemap(5), bit 63). */
function residentBytes(address: number, bytes: number): number {
  const first = Math.floor(address / PAGE);
  const entries = new BigUint64Array(Math.ceil((address + bytes) / PAGE) - first);
  const file = openSync("/proc/self/pagemap", "r");
  try {
    const read = readSync(file, new Uint8Array(entries.buffer), 0, entries.byteLength, first * PAGEMAP_ENTRY);
    if (read !== entries.byteLength) throw new Error("/proc/self/pagemap ends too early");
  } finally {
    closeSync(file);
  }
  return entries.filter((entry) => entry >> 63n === 1n).length * PAGE;
}

async function setup(): Promise<BenchSides> {
  const world = await EngineWorld.create({ flows: FLOWS });
  const { host } = world;
  const own = host.map.workers[0]!;
  const base = ptr(new Uint8Array(host.memory.buffer));
  const perFlow = () => {
    const without = regionMap({ ...host.map.limits, maxFlows: 1 }, 1).workers[0]!.flowMemoryBytes;
    const planned = (own.flowMemoryBytes - without) / FLOWS;
    const resident = residentBytes(base + own.flowMemory, own.flowMemoryBytes) / FLOWS;
    if (Math.abs(resident - planned) > TOLERANCE * planned)
      throw new Error(`${resident} bytes per flow are there, ${planned} are planned`);
    return { planned, resident };
  };
  return {
    ours: () => perFlow().planned,
    parts: () => ({ hot: (host.map.counts.buckets * Bucket.size) / FLOWS, resident: perFlow().resident }),
  };
}

const rows: readonly BenchRow[] = [
  {
    id: "memory.flow",
    unit: "bytes/flow",
    better: "lower",
    peerName: null,
    what: "all tables of 1,000,000 established flows; hot: what their packets touch",
    setup,
  },
];

export default rows;
