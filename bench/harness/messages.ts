/** What a row process tells the process that started it. */
import type { BenchResult } from "../row.ts";

/** Which rows a row process runs, and how. */
export interface Assignment {
  readonly ids: readonly string[];
  readonly quick: boolean;
  readonly rounds: number;
  readonly sideMs: number;
}

export type RowMessage =
  /** Round 0 is the building and warming up. */
  | { readonly kind: "round"; readonly id: string; readonly round: number }
  | { readonly kind: "result"; readonly result: BenchResult }
  | { readonly kind: "skipped" | "failed"; readonly id: string; readonly reason: string };
