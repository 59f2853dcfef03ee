/**
 * One run of the differential test: random world, random traffic, two engines, until the packets are used up or the
 * engines disagree. A disagreement is reduced to the events that are needed to see it and spelled out.
 */
import type { Compat, Port } from "../../src/engine/engine.ts";
import { ReferenceEngine } from "../../src/engine/reference.ts";
import { toHex } from "../support/packet-builder.ts";
import { Random } from "../support/random.ts";
import { type Disagreement, Duel, type Event, type Subject } from "./duel.ts";
import { ROOMY, type Stage } from "./stage.ts";
import { type Temper, Traffic } from "./traffic.ts";
import { World } from "./world.ts";

/** Of a run that says nothing else. */
export const LIMITS = ROOMY.limits;

/** Events that are spelled out; who needs more repeats the run. */
const MOST_SHOWN = 60;

/** The clock may move so far without a sweep. */
const LONGEST_STEP_MS = 1_000;

/** Makes a fresh engine to be judged, always the same way. */
export interface MakeEngine {
  (): Subject;
  /** Default `modern`. */
  readonly compat?: Compat;
  /** Default ROOMY. */
  readonly stage?: Stage;
}

/** A fresh engine beside a fresh reference. */
function duelOf(make: MakeEngine): Duel {
  const { compat = "modern", stage = ROOMY } = make;
  return new Duel(make(), new ReferenceEngine(stage.limits, undefined, compat), stage);
}

export interface RunResult {
  readonly packets: number;
  /** How often each reason was given. */
  readonly reasons: readonly bigint[];
  /** Null when the engines agreed throughout. */
  readonly failure: string | null;
}

/** Runs about `packets` packets from `seed`. @param reduces whether a failure is reduced to the events that show it */
export function run(make: MakeEngine, seed: number, packets: number, reduces = true): RunResult {
  const random = new Random(seed);
  const { stage = ROOMY } = make;
  const world = new World(random, stage.world);
  const temper: Temper = stage.temper ?? (seed % 3 === 0 ? "steady" : "busy");
  const traffic = new Traffic(random, temper);
  const duel = duelOf(make);
  const log: Event[] = [];
  const ports = new Map<number, Port>();
  let nowMs = 1_000_000;
  const give = (event: Event): Disagreement | null => {
    log.push(event);
    if (event.kind === "port") ports.set(event.index, event.port);
    return duel.apply(event);
  };
  const failed = (disagreement: Disagreement): RunResult => ({
    packets: duel.packets,
    reasons: duel.reference.counters().reasons,
    failure: `seed ${seed}, after ${duel.packets} packets: ${disagreement.what}\n${spellFault(disagreement)}${reduces ? reproduction(make, log) : ""}`,
  });
  /** Moves the clock, at least by `stepMs`, to a time at which the engines have no liberty; sweeps if it jumped. */
  const advance = (stepMs: number): Disagreement | null => {
    const settled = duel.reference.settledMs(nowMs + stepMs);
    const jumped = settled > nowMs + stepMs || stepMs > LONGEST_STEP_MS;
    nowMs = settled;
    // A sweep takes closed entries at once or later; so it comes only when all of them have to be gone.
    if (!jumped) return null;
    nowMs = duel.reference.sweepableMs(nowMs);
    world.swept(nowMs);
    return give({ kind: "sweep", nowMs }) ?? duel.compareState();
  };
  for (const event of world.setUp()) {
    const disagreement = give(event);
    if (disagreement !== null) return failed(disagreement);
  }
  while (duel.packets < packets) {
    const count = temper === "steady" ? random.between(1, 12) : random.chance(0.3) ? 64 : random.between(1, 64);
    const frames = traffic.batch(Math.min(count, stage.mostFrames, packets - duel.packets), world.rules);
    const batch: Event = { kind: "batch", frames, nowMs };
    const disagreement = give(batch);
    if (disagreement !== null) return failed(disagreement);
    traffic.learn(duel.lastOutcomes, ports);
    const step = random.weighted([
      [temper === "steady" ? 40 : 0, () => random.between(500, 20_000)],
      [60, () => random.below(5)],
      [20, () => random.between(5, 400)],
      [1, () => random.between(5_000, 150_000)],
    ]);
    const afterStep = advance(Math.max(step, stage.leastStepMs));
    if (afterStep !== null) return failed(afterStep);
    if (!random.chance(stage.changeChance ?? (temper === "steady" ? 0.03 : 0.25))) continue;
    for (const event of world.change(nowMs)) {
      const afterChange = give(event);
      if (afterChange !== null) return failed(afterChange);
    }
    // A new deadline may already lie in the past of a window.
    const settled = advance(0);
    if (settled !== null) return failed(settled);
  }
  const atEnd = advance(400_000);
  if (atEnd !== null) return failed(atEnd);
  duel.subject.close();
  return { packets: duel.packets, reasons: duel.reference.counters().reasons, failure: null };
}

const spellFault = ({ frame }: Disagreement): string =>
  frame === undefined ? "" : `  at port ${frame.port}: ${toHex(frame.bytes)}\n`;

/** Replays events with fresh engines. True when they still disagree and had no liberty where they do. */
function stillFails(make: MakeEngine, events: readonly Event[]): Disagreement | null {
  const duel = duelOf(make);
  try {
    let sweptMs = 0;
    for (const event of events) {
      // A run sweeps after every jump of the clock, because until then it is open when something has gone.
      if (event.kind === "batch" && sweptMs > 0 && event.nowMs - sweptMs > LONGEST_STEP_MS) return null;
      if (event.kind === "batch" || event.kind === "sweep") sweptMs = event.nowMs;
      if (event.kind === "batch" && duel.reference.settledMs(event.nowMs) !== event.nowMs) return null;
      if (event.kind === "sweep" && duel.reference.sweepableMs(event.nowMs) !== event.nowMs) return null;
      const disagreement = duel.apply(event) ?? (event.kind === "sweep" ? duel.compareState() : null);
      if (disagreement !== null) return disagreement;
    }
    return null;
  } finally {
    duel.subject.close();
  }
}

/** Splits batches so that single frames can be left out. */
const oneFrameEach = (events: readonly Event[]): Event[] =>
  events.flatMap((event) =>
    event.kind === "batch" ? event.frames.map((frame): Event => ({ ...event, frames: [frame] })) : [event],
  );

/** Leaves out ever smaller runs of events as long as the rest still fails; stops after a few seconds. */
function reduced(make: MakeEngine, events: readonly Event[]): Event[] {
  const giveUp = Bun.nanoseconds() + 8e9;
  let kept = [...events];
  for (let size = Math.ceil(kept.length / 2); size >= 1; size = size === 1 ? 0 : Math.ceil(size / 2)) {
    for (let from = 0; from < kept.length && Bun.nanoseconds() < giveUp; ) {
      const without = kept.filter((_, i) => i < from || i >= from + size);
      if (stillFails(make, without) !== null) kept = without;
      else from += size;
    }
  }
  return kept;
}

function spellEvent(event: Event): string {
  const plain = (_: string, value: unknown): unknown =>
    typeof value === "bigint" ? `${value}n` : value instanceof Uint8Array ? toHex(value) : value;
  return JSON.stringify(event, plain);
}

/** The shortest list of events found that shows the disagreement, one a line. */
function reproduction(make: MakeEngine, log: readonly Event[]): string {
  const single = oneFrameEach(log);
  const base = stillFails(make, single) !== null ? single : log;
  if (stillFails(make, base) === null) return `not repeatable from its ${log.length} events`;
  const events = reduced(make, base);
  const what = stillFails(make, events)!.what;
  const shown = events.slice(0, MOST_SHOWN).map(spellEvent);
  const hidden = events.length - shown.length;
  return [
    `reduced to ${events.length} events, where ${what}`,
    ...shown,
    ...(hidden > 0 ? [`and ${hidden} more`] : []),
  ].join("\n");
}
