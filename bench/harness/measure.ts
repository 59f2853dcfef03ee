/** Measures one row: rounds in which the sides take turns, then medians, intervals and what became of the goals. */
import { GOALS, type Goal } from "../goals.ts";
import type { BenchContext, BenchResult, BenchRow, BenchSides, Closable, Verdict } from "../row.ts";
import { median, medianInterval, rangeOf } from "./statistics.ts";

/** What rows of one fixture share. */
export class Fixtures {
  readonly #made = new Map<string, Promise<Closable>>();

  /** What has this name; made by `create` when it is asked for first. */
  get<T extends Closable>(name: string, create: () => Promise<T>): Promise<T> {
    const found = this.#made.get(name) as Promise<T> | undefined;
    if (found !== undefined) return found;
    const made = create();
    this.#made.set(name, made);
    return made;
  }

  /** Closes everything, the newest first. What could not be made needs no closing. */
  async close(): Promise<void> {
    const all = [...this.#made.values()].reverse();
    this.#made.clear();
    for (const one of all)
      await one.then(
        (made) => made.close(),
        () => undefined,
      );
  }
}

/** The numbers of all rounds. `peer` is as long as `ours`, or empty when the row has no peer. */
export interface Rounds {
  readonly ours: readonly number[];
  readonly peer: readonly number[];
}

/**
 * One round of each side to warm up, then `rounds` rounds in which the sides take turns at going first, so that a
 * machine that grows slower over time harms both alike.
 */
async function runRounds(sides: BenchSides, rounds: number, onRound: (round: number) => void): Promise<Rounds> {
  const ours: number[] = [];
  const peer: number[] = [];
  const measureOurs = async () => ours.push(await sides.ours());
  const measurePeer = async () => sides.peer && peer.push(await sides.peer());
  onRound(0);
  await sides.ours();
  await sides.peer?.();
  for (let round = 0; round < rounds; round++) {
    onRound(round + 1);
    const turns = round % 2 === 0 ? [measureOurs, measurePeer] : [measurePeer, measureOurs];
    for (const turn of turns) await turn();
  }
  return { ours, peer };
}

/** Whether the numbers reach a goal. `interval` is that of the goal's own quantity. */
function judge(goal: number, middle: number, interval: readonly [number, number], atMost: boolean): Verdict {
  const best = atMost ? Math.min(middle, interval[0]) : Math.max(middle, interval[1]);
  return { goal, holds: atMost ? best <= goal : best >= goal };
}

/** Both verdicts of a row; figures beside the main one have to hold with it. */
function judgeAll(
  goal: Goal | undefined,
  rounds: Rounds,
  ratios: readonly number[],
  parts: Readonly<Record<string, number>>,
): { first: Verdict | null; second: Verdict | null } {
  if (goal === undefined) return { first: null, second: null };
  const values = goal.kind === "ratio" ? ratios : rounds.ours;
  const atMost = goal.kind === "limit";
  const verdict = (which: "first" | "second"): Verdict | null => {
    const wanted = goal[which];
    if (wanted === undefined) return null;
    const main = judge(wanted, median(values), medianInterval(values), atMost);
    const others = goal.kind === "limit" ? Object.entries(goal.parts ?? {}) : [];
    const othersHold = others.every(([name, pair]) => parts[name]! <= (pair[which] ?? Number.POSITIVE_INFINITY));
    return { ...main, holds: main.holds && othersHold };
  };
  return { first: verdict("first"), second: verdict("second") };
}

/** What the rounds of a row come to. Pure. Throws when a row without a peer has no limit either. */
export function summarise(
  row: BenchRow,
  rounds: Rounds,
  parts: Readonly<Record<string, number>>,
  seconds: number,
): BenchResult {
  const goal = GOALS[row.id];
  if (row.peerName === null && goal?.kind !== "limit") throw new Error(`${row.id} has neither a peer nor a limit`);
  const limit = goal?.kind === "limit" ? goal.first : Number.NaN;
  const peer = row.peerName === null ? rounds.ours.map(() => limit) : rounds.peer;
  const ratios = rounds.ours.map((own, index) => {
    const other = peer[index] ?? Number.NaN;
    return row.better === "higher" ? own / other : other / own;
  });
  return {
    id: row.id,
    unit: row.unit,
    ours: median(rounds.ours),
    peer: median(peer),
    peerName: row.peerName ?? "limit",
    ratio: median(ratios),
    rounds: rounds.ours.length,
    ratioInterval: medianInterval(ratios),
    ratioRange: rangeOf(ratios),
    oursRange: rangeOf(rounds.ours),
    peerRange: rangeOf(peer),
    goalKind: goal?.kind ?? null,
    ...judgeAll(goal, rounds, ratios, parts),
    parts,
    seconds,
    what: row.what,
  };
}

/** Builds a row, measures it and takes it down, whatever happens. @param onRound 0 while warming up, then 1.. */
export async function measure(
  row: BenchRow,
  context: BenchContext,
  rounds: number,
  onRound: (round: number) => void = () => undefined,
): Promise<BenchResult> {
  const start = performance.now();
  const sides = await row.setup(context);
  try {
    if ((sides.peer === undefined) !== (row.peerName === null))
      throw new Error(`${row.id} names ${row.peerName === null ? "no" : "a"} peer and measures otherwise`);
    const measured = await runRounds(sides, rounds, onRound);
    return summarise(row, measured, sides.parts?.() ?? {}, (performance.now() - start) / 1000);
  } finally {
    await sides.close?.();
  }
}
