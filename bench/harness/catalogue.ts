/** All rows there are, in the order in which they run. */
import { join } from "node:path";
import { GOALS, groupOf } from "../goals.ts";
import type { BenchRow } from "../row.ts";

const BENCH = join(import.meta.dir, "..");
const GROUPS = ["engine", "memory", "start", "tcp", "udp", "cps", "rps", "rtt", "health"];

/** Place of a row: groups as above, in each the rows with goals in the order of goals.ts, fixtures together. */
function placeOf(row: BenchRow): number {
  const group = GROUPS.indexOf(groupOf(row.id));
  const goal = Object.keys(GOALS).indexOf(row.id);
  return (group < 0 ? GROUPS.length : group) * 1000 + (goal < 0 ? 999 : goal);
}

/** Rows that share a fixture follow each other, at the place of the first of them. */
export function ordered(rows: readonly BenchRow[]): BenchRow[] {
  const byPlace = [...rows].sort((a, b) => placeOf(a) - placeOf(b));
  const groups = Map.groupBy(byPlace, (row) => row.fixture ?? `row ${row.id}`);
  return [...groups.values()].flat();
}

/** Every row of every `*.row.ts`. Throws when two have one id. */
export async function findRows(): Promise<BenchRow[]> {
  const files = [...new Bun.Glob("**/*.row.ts").scanSync({ cwd: BENCH })].sort();
  const modules = await Promise.all(
    files.map((file) => import(join(BENCH, file)) as Promise<{ default: readonly BenchRow[] }>),
  );
  const rows = modules.flatMap((module) => module.default);
  for (const [id, same] of Map.groupBy(rows, (row) => row.id))
    if (same.length > 1) throw new Error(`two benchmark rows have the id ${id}`);
  return ordered(rows);
}
