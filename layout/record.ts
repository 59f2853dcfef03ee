/** How the layout schema spells a record. */

export type FieldType = "u8" | "u16" | "u32" | "i32" | "u64" | "addr";
export type Field = readonly [name: string, type: FieldType, doc: string];

export interface RecordSpec {
  readonly doc: string;
  /** Total bytes; the generator checks it. */
  readonly size: number;
  /** Also written to the C header, under this name. */
  readonly c?: string;
  readonly fields: readonly Field[];
}
