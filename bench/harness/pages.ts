/**
 * Charts and table of results, as files. As a program it draws them from JSON files of earlier runs, the later ones winning
 * row by row: `bun bench/harness/pages.ts FOLDER FILE.json...`.
 */
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { GOALS } from "../goals.ts";
import type { BenchResult } from "../row.ts";
import { charts } from "./chart.ts";
import type { Machine } from "./machine.ts";
import { type Omission, resultsPage } from "./report.ts";

/** What `--json` writes. */
export interface Report {
  readonly machine: Machine;
  readonly rows: readonly BenchResult[];
  readonly skipped: readonly Omission[];
}

/** Writes results.md and one SVG drawing per chart into a folder. */
export function writePages(folder: string, { machine, rows, skipped }: Report): void {
  mkdirSync(folder, { recursive: true });
  const caption = `${machine.cpu}, ${machine.cores} cores, Linux ${machine.kernel}, Bun ${machine.bun}, ${machine.date}`;
  for (const [name, drawing] of charts(rows, caption)) writeFileSync(join(folder, name), drawing);
  writeFileSync(join(folder, "results.md"), resultsPage(machine, rows, skipped));
}

/** Several runs on one machine as one: of every row the last result. */
export function merged(reports: readonly Report[]): Report {
  const last = reports.at(-1);
  if (last === undefined) throw new Error("no results");
  const rows = new Map(reports.flatMap((report) => report.rows).map((row) => [row.id, row]));
  const skipped = new Map(reports.flatMap((report) => report.skipped).map((one) => [one.id, one]));
  const order = Object.keys(GOALS);
  const placeOf = ({ id }: BenchResult) => (order.includes(id) ? order.indexOf(id) : order.length);
  return {
    machine: last.machine,
    rows: [...rows.values()].sort((a, b) => placeOf(a) - placeOf(b)),
    skipped: [...skipped.values()].filter(({ id }) => !rows.has(id)),
  };
}

if (import.meta.main) {
  const [folder, ...files] = process.argv.slice(2);
  if (folder === undefined || files.length === 0) {
    console.error("usage: bun bench/harness/pages.ts FOLDER FILE.json...");
    process.exit(2);
  }
  writePages(folder, merged(files.map((file) => JSON.parse(readFileSync(file, "utf8")) as Report)));
}
