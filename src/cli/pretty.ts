/**
 * Tables for people: columns as wide as what stands in them, states in colour. Only where somebody asked for it
 * (`--pretty`, `--watch`); the daemon's own bytes have the original's widths. What is no table stays as it is.
 */

import { allFields, RULE_ITEM_FIELDS } from "../command/fields.ts";
import { FIELDS_OF } from "../command/fields-of.ts";
import { findSubcommand } from "../command/spec.ts";

const GAP = "  ";
const BOLD = "\u001b[1m";
const GREEN = "\u001b[32m";
const RED = "\u001b[31m";
const YELLOW = "\u001b[33m";
const PLAIN = "\u001b[0m";

/** Columns whose cells are words with a colour. */
const COLOURS: Readonly<Record<string, Readonly<Record<string, string>>>> = {
  STATUS: { E: GREEN, D: YELLOW, alive: GREEN, dead: RED, unreach: RED, disabled: YELLOW },
  RESULT: { ok: GREEN, "*": RED },
};

interface Column {
  readonly field: string;
  /** Where it begins in the header line. */
  readonly from: number;
}

/** The columns of a header line, null when it is none of this subcommand. */
function columnsOf(subcommand: string, header: string): Column[] | null {
  const spec = findSubcommand(subcommand);
  const known = new Set([...((spec && FIELDS_OF[spec.long]) ?? []), ...allFields(RULE_ITEM_FIELDS)]);
  const columns = [...header.matchAll(/\S+/g)].map(({ 0: field, index: from }) => ({ field, from }));
  return columns.length > 0 && columns.every(({ field }) => known.has(field)) ? columns : null;
}

/** Cells hold no blanks, but for USER and the last column. */
function cellsOf(line: string, columns: readonly Column[]): string[] {
  const at = columns.findIndex(({ field }) => field === "USER");
  if (at >= 0) return columns.map(({ from }, i) => line.slice(from, columns[i + 1]?.from).trim());
  const cells = line.split(/ +/);
  return [...cells.slice(0, columns.length - 1), cells.slice(columns.length - 1).join(" ")];
}

function paint(field: string, cell: string, padded: string): string {
  const colours = COLOURS[field];
  const colour = colours?.[cell] ?? colours?.["*"];
  return colour === undefined ? padded : `${colour}${padded}${PLAIN}`;
}

/**
 * The output of one command, aligned.
 * @param subcommand as it was typed, long or short
 * @param colours whether the reader understands them
 */
export function prettify(subcommand: string, text: string, colours: boolean): string {
  const [header = "", ...rest] = text.replace(/\n$/, "").split("\n");
  const columns = columnsOf(subcommand, header);
  if (columns === null) return text;
  const rows = [header, ...rest].map((line) => cellsOf(line, columns));
  const widths = columns.map((_, i) => Math.max(...rows.map((cells) => cells[i]?.length ?? 0)));
  const numeric = columns.map((_, i) => rows.slice(1).every((cells) => /^(\d+|\?|--)$/.test(cells[i] ?? "")));
  const lines = rows.map((cells, at) =>
    columns
      .map(({ field }, i) => {
        const cell = cells[i] ?? "";
        const width = i === columns.length - 1 && !numeric[i] ? 0 : (widths[i] ?? 0);
        const padded = numeric[i] && rows.length > 1 ? cell.padStart(width) : cell.padEnd(width);
        if (!colours) return padded;
        return at === 0 ? `${BOLD}${padded}${PLAIN}` : paint(field, cell, padded);
      })
      .join(GAP)
      .trimEnd(),
  );
  return `${lines.join("\n")}\n`;
}
