/**
 * What a benchmark is: two ways to do the same work, measured in turn, or one way held against a limit. Files named
 * `*.row.ts` below bench/ export their rows as default; harness/catalogue.ts finds them, goals.ts holds what each has
 * to reach. This file only says what a row is; harness/measure.ts measures it.
 */

/** One comparison. */
export interface BenchRow {
  /** Stable name, for `--only` and for comparing runs over time: "engine.c.1k". Its part before the first dot is its group. */
  readonly id: string;
  readonly unit: string;
  /** Which direction is good. Decides how the ratio is formed; above 1 always means that we are better. */
  readonly better: "higher" | "lower";
  /** null: nobody to compare with; the row is held against its limit (goals.ts). */
  readonly peerName: string | null;
  /** What is measured, and by which command, for the printed table. */
  readonly what: string;
  /**
   * Rows of one name run one after the other in one process and may share what they build (BenchContext.shared).
   * Default: the row has a process to itself. WebKit's JavaScript engine gives only eight memories per process the fast kind of bounds
   * check, so rows that make memories should not share one.
   */
  readonly fixture?: string;
  /** Why it cannot run here, null when it can. Such a row is reported by name and left out. */
  unavailable?(): string | null | Promise<string | null>;
  /** Builds what both sides need. Throws Unavailable when it turns out only now that the machine lacks something. */
  setup(context: BenchContext): Promise<BenchSides>;
}

export interface BenchContext {
  /** Shorter measurements, fewer rounds. */
  readonly quick: boolean;
  /** About how long one side of one round should take, milliseconds. A whole run has to end in 20 minutes. */
  readonly sideMs: number;
  /** What rows of one fixture share: made by the first that asks, closed after the last row of the fixture. */
  shared<T extends Closable>(name: string, create: () => Promise<T>): Promise<T>;
}

export interface Closable {
  close(): Promise<void> | void;
}

/** The sides, ready to be measured as often as wanted. Both give a number in the row's unit. */
export interface BenchSides {
  /** Throws when what came out was wrong: a wrong result is a failed row, however fast. */
  ours(): Promise<number> | number;
  /** Left out exactly when the row's peerName is null. */
  peer?(): Promise<number> | number;
  /** Figures beside the main one, asked for after the last round. Goals may name them. */
  parts?(): Readonly<Record<string, number>>;
  close?(): Promise<void> | void;
}

/** The machine lacks what a row needs. The row is skipped with this reason. */
export class Unavailable extends Error {
  override readonly name = "Unavailable";
}

/** Whether a goal was reached: the median reaches it, or the 95 % interval of the median covers it. */
export interface Verdict {
  readonly goal: number;
  readonly holds: boolean;
}

/** What a row came to. Goes into the JSON file as it is. */
export interface BenchResult {
  readonly id: string;
  readonly unit: string;
  /** Medians. Of a row without a peer, `peer` is the limit. */
  readonly ours: number;
  readonly peer: number;
  readonly peerName: string;
  /** Median of the ratios of the rounds; above 1 means that we are better (under the limit). */
  readonly ratio: number;
  readonly rounds: number;
  /** 95 % bootstrap interval of that median. */
  readonly ratioInterval: readonly [number, number];
  readonly ratioRange: readonly [number, number];
  readonly oursRange: readonly [number, number];
  readonly peerRange: readonly [number, number];
  /** "ratio": the goals are ratios; "limit": they are values of `ours` that must not be passed. */
  readonly goalKind: "ratio" | "limit" | null;
  /** What must hold, and what we are after. */
  readonly first: Verdict | null;
  readonly second: Verdict | null;
  readonly parts: Readonly<Record<string, number>>;
  /** How long the row took with its building, seconds. */
  readonly seconds: number;
  readonly what: string;
}
