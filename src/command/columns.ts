/**
 * Laying rows out in columns, byte for byte as the original's output formatter does, and the parsable form. Knows
 * nothing of what the cells mean. A cell is the value's text; the empty text is an empty value.
 */

import type { Family } from "../model/address.ts";
import type { FieldSet } from "./fields.ts";

/** What an empty value prints, but in parsable output. */
export const EMPTY_CELL = "--";
/** What a value prints that cannot be determined. */
export const UNKNOWN_CELL = "?";

/**
 * One line without its newline. Cells are left-justified; a cell as long as its column or longer prints in full and one
 * space, and what it takes too much is taken back from the padding of the columns after it, as far as they have room.
 * The last cell is never padded.
 * @param widths width of each column in characters, gap included; as many as cells
 */
export function layOut(cells: readonly string[], widths: readonly number[]): string {
  let line = "";
  let debt = 0;
  const last = cells.length - 1;
  for (let i = 0; i < last; i++) {
    const cell = cells[i] as string;
    const width = widths[i] as number;
    if (cell.length + debt >= width) {
      line += `${cell} `;
      debt += cell.length - width + 1;
    } else {
      // Room enough: length + debt < width, so the whole debt fits into the padding.
      line += cell.padEnd(width - debt);
      debt = 0;
    }
  }
  return line + (cells[last] ?? "");
}

/** Cells joined with `:`; `\` and `:` in a value are preceded by `\`, unless it is the only field. */
export function parsableLine(cells: readonly string[]): string {
  if (cells.length === 1) return cells[0] as string;
  return cells.map((cell) => cell.replace(/[\\:]/g, "\\$&")).join(":");
}

/** The header and the rows of one listing. When a header is due is for the caller to say. */
export class Table {
  readonly #fields: readonly string[];
  readonly #set: FieldSet;
  readonly #parsable: boolean;
  #widths: readonly number[];

  constructor(set: FieldSet, fields: readonly string[], parsable: boolean) {
    this.#set = set;
    this.#fields = fields;
    this.#parsable = parsable;
    this.#widths = this.#widthsFor(null);
  }

  #widthsFor(family: Family | null): readonly number[] {
    return this.#fields.map((field) => {
      const width = this.#set.widths[field] as FieldSet["widths"][string];
      return typeof width === "number" ? width : width[family === 6 ? 1 : 0];
    });
  }

  /** The header line with its newline; nothing in parsable output. @param family of the first row, where widths depend on it */
  header(family: Family | null): string {
    this.#widths = this.#widthsFor(family);
    return this.#parsable ? "" : `${layOut(this.#fields, this.#widths)}\n`;
  }

  /** One row with its newline, in the widths of the header before it. @param cellOf the text of a field, empty when it has no value */
  row(cellOf: (field: string) => string): string {
    const cells = this.#fields.map(cellOf);
    if (this.#parsable) return `${parsableLine(cells)}\n`;
    const shown = cells.map((cell) => (cell === "" ? EMPTY_CELL : cell));
    return `${layOut(shown, this.#widths)}\n`;
  }
}
