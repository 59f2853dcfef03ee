/**
 * What a benchmark is: two ways to do the same work, measured in turn. Files named `*.row.ts` below bench/ export
 * their rows as default; main.ts finds them.
 */

/** One comparison. */
export interface BenchRow {
  /** Stable name, for `--only` and for comparing runs over time: "tcp-1-stream", "engine-half-nat-cached". */
  readonly id: string;
  readonly unit: string;
  /** Which direction is good. Decides how the ratio is formed; above 1 always means that we are better. */
  readonly better: "higher" | "lower";
  readonly peerName: string;
  /** What is measured, and by which command, for the printed table. */
  readonly what: string;
  /** Why it cannot run here, null when it can. Such a row is reported by name and left out. */
  unavailable?(): string | null;
  /** Builds what both sides need. */
  setup(context: BenchContext): Promise<BenchSides>;
}

export interface BenchContext {
  /** Shorter measurements, same rounds. */
  readonly quick: boolean;
}

/** The two sides, ready to be measured as often as wanted. Both give a number in the row's unit. */
export interface BenchSides {
  ours(): Promise<number> | number;
  peer(): Promise<number> | number;
  close?(): Promise<void> | void;
}

/** What a row came to. */
export interface BenchResult {
  readonly id: string;
  readonly unit: string;
  /** Medians. */
  readonly ours: number;
  readonly peer: number;
  readonly peerName: string;
  /** Median of the ratios of the rounds; above 1 means that we are better. */
  readonly ratio: number;
  readonly ratioLow: number;
  readonly ratioHigh: number;
  readonly oursLow: number;
  readonly oursHigh: number;
  readonly peerLow: number;
  readonly peerHigh: number;
  readonly rounds: number;
}

export function median(values: readonly number[]): number {
  const sorted = [...values].sort((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  const upper = sorted[middle] ?? Number.NaN;
  return sorted.length % 2 === 1 ? upper : ((sorted[middle - 1] ?? Number.NaN) + upper) / 2;
}

/**
 * Measures a row: one round of each side to warm up, then `rounds` rounds in which the sides take turns at going
 * first, so that a machine that grows slower over time harms both alike.
 */
export async function measure(row: BenchRow, context: BenchContext, rounds: number): Promise<BenchResult> {
  const sides = await row.setup(context);
  try {
    await sides.ours();
    await sides.peer();
    const ours: number[] = [];
    const peer: number[] = [];
    for (let round = 0; round < rounds; round++) {
      if (round % 2 === 0) {
        ours.push(await sides.ours());
        peer.push(await sides.peer());
      } else {
        peer.push(await sides.peer());
        ours.push(await sides.ours());
      }
    }
    const ratios = ours.map((own, index) => {
      const other = peer[index] ?? Number.NaN;
      return row.better === "higher" ? own / other : other / own;
    });
    return {
      id: row.id,
      unit: row.unit,
      ours: median(ours),
      peer: median(peer),
      peerName: row.peerName,
      ratio: median(ratios),
      ratioLow: Math.min(...ratios),
      ratioHigh: Math.max(...ratios),
      oursLow: Math.min(...ours),
      oursHigh: Math.max(...ours),
      peerLow: Math.min(...peer),
      peerHigh: Math.max(...peer),
      rounds,
    };
  } finally {
    await sides.close?.();
  }
}
