/** Results as text: what the terminal shows while it runs, and the table of docs/bench. Pure. */
import type { BenchResult, Verdict } from "../row.ts";
import type { Machine } from "./machine.ts";

/** A row that gave no result. */
export interface Omission {
  readonly id: string;
  readonly reason: string;
}

/** Three digits that count. */
export function digits(value: number): string {
  const size = Math.abs(value);
  return size >= 100
    ? value.toFixed(0)
    : size >= 10
      ? value.toFixed(1)
      : size >= 0.1
        ? value.toFixed(2)
        : value.toPrecision(2);
}

const range = ([low, high]: readonly [number, number]): string => `${digits(low)} - ${digits(high)}`;

/** "0.91 holds", "1 missed", or nothing when the row has no goal. */
export function verdictText(verdict: Verdict | null): string {
  return verdict === null ? "" : `${verdict.goal} ${verdict.holds ? "holds" : "missed"}`;
}

/** Figures beside the main one, as "hot 32". */
const partsText = (result: BenchResult): string =>
  Object.entries(result.parts)
    .map(([name, value]) => `${name} ${digits(value)}`)
    .join(", ");

/** A finished row, for the terminal. */
export function resultText(result: BenchResult): string {
  const line = (name: string, value: number, unit: string, rest: string) =>
    `  ${name.padEnd(28)}${digits(value).padStart(9)} ${unit.padEnd(12)}${rest}`;
  const isLimit = result.peerName === "limit";
  const goals = [
    result.first && `first goal ${verdictText(result.first)}`,
    result.second && `second ${verdictText(result.second)}`,
  ];
  const parts = partsText(result);
  return [
    `${result.id}: ${result.what}`,
    line("ours", result.ours, result.unit, range(result.oursRange)),
    line(result.peerName, result.peer, result.unit, isLimit ? "" : range(result.peerRange)),
    ...(parts === "" ? [] : [`  ${parts}`]),
    line(
      isLimit ? "ratio (above 1: within)" : "ratio (above 1: ours)",
      result.ratio,
      "",
      `95 % interval ${range(result.ratioInterval)}, ${result.rounds} rounds, ${result.seconds.toFixed(0)} s`,
    ),
    ...(result.goalKind === null ? [] : [`  ${goals.filter((text) => text).join(", ")}`]),
    "",
  ].join("\n");
}

/** "cpu Some EPYC, cores 2, ..." */
export function machineText(machine: Machine): string {
  return Object.entries(machine)
    .map(([name, value]) => `${name} ${value}`)
    .join(", ");
}

/** Closing lines: goals that do not hold, rows left out and failed, the sum. */
export function closingText(
  results: readonly BenchResult[],
  skipped: readonly Omission[],
  failed: readonly Omission[],
): string {
  const missed = (which: "first" | "second") =>
    results.filter((result) => result[which]?.holds === false).map(({ id }) => id);
  const lines = [
    ...skipped.map(({ id, reason }) => `${id}: left out: ${reason}`),
    ...failed.map(({ id, reason }) => `${id}: FAILED: ${reason}`),
    `first goals missed: ${missed("first").join(", ") || "none"}`,
    `second goals missed: ${missed("second").join(", ") || "none"}`,
    `${results.length} rows measured, ${failed.length} failed, ${skipped.length} left out`,
  ];
  return `${lines.join("\n")}\n`;
}

/** The table of docs/bench/results.md. */
export function resultsPage(machine: Machine, results: readonly BenchResult[], skipped: readonly Omission[]): string {
  const rows = results.map((result) =>
    [
      `\`${result.id}\``,
      `${digits(result.ours)} ${result.unit}${Object.keys(result.parts).length > 0 ? ` (${partsText(result)})` : ""}`,
      `${digits(result.peer)} (${result.peerName})`,
      digits(result.ratio),
      range(result.ratioInterval),
      verdictText(result.first),
      verdictText(result.second),
    ].join(" | "),
  );
  const what = results.map((result) => `- \`${result.id}\`: ${result.what}`);
  const rounds = [...new Set(results.map((result) => result.rounds))].join(", ");
  return `# Results

Written by \`npm run bench\`; do not edit. [How to read it](README.md).

${machineText(machine)}. ${rounds} rounds.

| Row | Ours | Peer | Ratio | 95 % interval | First goal | Second goal |
| --- | --- | --- | --- | --- | --- | --- |
${rows.map((row) => `| ${row} |`).join("\n")}

${skipped.length === 0 ? "Nothing was left out." : `Left out:\n\n${skipped.map(({ id, reason }) => `- \`${id}\`: ${reason}`).join("\n")}`}

## What the rows measure

${what.join("\n")}
`;
}
