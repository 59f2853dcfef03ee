/**
 * Counters of pairs, summed over workers, that never fall. Each worker gives up its record of a pair by itself, when the
 * pair has left the tables and its own last flow has ended; what that record counted must not vanish from a sum that
 * other workers still add to. Only sums are compared, so what the others have added since the reading before counts
 * against what is missing: while a pair drains the controller reads once a second, and that is the most that is left out.
 */
import type { PairCounters } from "./engine.ts";

const COUNTERS = ["packets", "bytes", "refused", "unanswered"] as const satisfies (keyof PairCounters)[];

type Counts = Readonly<Record<(typeof COUNTERS)[number], bigint>>;

/** Sums by pair, as they were added up from the records that there were. */
export type PairSums = ReadonlyMap<string, PairCounters>;

export class RisingSums {
  #last: PairSums = new Map();
  /** By pair: what records that are gone had counted. A pair that no worker has any more has none. */
  #gone = new Map<string, Counts>();

  /** @param sums of now, of one reading after the other; kept, so the caller leaves them as they are */
  add(sums: PairSums): PairCounters[] {
    for (const [pair, sum] of sums) {
      const last = this.#last.get(pair);
      if (last !== undefined && COUNTERS.some((name) => sum[name] < last[name])) this.#missing(pair, sum, last);
    }
    for (const pair of this.#gone.keys()) if (!sums.has(pair)) this.#gone.delete(pair);
    this.#last = sums;
    if (this.#gone.size === 0) return [...sums.values()];
    return Array.from(sums, ([pair, sum]) => {
      const gone = this.#gone.get(pair);
      return gone === undefined ? sum : { ...sum, ...combined((name) => sum[name] + gone[name]) };
    });
  }

  #missing(pair: string, sum: PairCounters, last: PairCounters): void {
    const gone = this.#gone.get(pair);
    const lost = (name: keyof Counts): bigint => (sum[name] < last[name] ? last[name] - sum[name] : 0n);
    this.#gone.set(
      pair,
      combined((name) => (gone?.[name] ?? 0n) + lost(name)),
    );
  }
}

const combined = (count: (name: keyof Counts) => bigint): Counts =>
  Object.fromEntries(COUNTERS.map((name) => [name, count(name)])) as unknown as Counts;
