/**
 * The WebAssembly engine alone, on input that is damaged more than the differential test damages it: two guarded engines
 * (guarded-engine.ts) with different bytes around their frames, one of them a build that marks the blocks it runs, are given
 * the same and have to say the same. Frames that reach new blocks are kept and used again. No reference, so nothing has
 * to be comparable: the clock jumps as it likes and wraps, tables are tiny, and the sweep comes when it comes.
 */
import type { Compat, EngineLimits, Outcome, Port } from "../../src/engine/engine.ts";
import { HASH_KEY_BYTES } from "../../src/engine/host.ts";
import { Reason } from "../../src/gen/layout.ts";
import { type Event, outcomeDifference, spellOutcome } from "../differential/duel.ts";
import { mutate } from "../differential/mutate.ts";
import { Traffic } from "../differential/traffic.ts";
import { World } from "../differential/world.ts";
import { Random } from "../support/random.ts";
import type { Corpus } from "./corpus.ts";
import { GuardedEngine, type GuardedFrame } from "./guarded-engine.ts";

/** From roomy to so small that everything runs out. */
const SIZES: readonly EngineLimits[] = [
  { maxFlows: 4_000, maxRules: 64, maxPairs: 1_024, maxSticky: 1_024 },
  { maxFlows: 40, maxRules: 64, maxPairs: 64, maxSticky: 16 },
  { maxFlows: 8, maxRules: 64, maxPairs: 64, maxSticky: 2 },
  { maxFlows: 300, maxRules: 64, maxPairs: 30, maxSticky: 1 },
];
const CANARIES = [0x5c, 0xa3] as const;

/** The two builds. */
export interface Modules {
  readonly release: Uint8Array<ArrayBuffer>;
  readonly instrumented: Uint8Array<ArrayBuffer>;
}

export interface AloneRun {
  readonly packets: number;
  readonly reasons: readonly number[];
  readonly failure: string | null;
}

/** Frames of one batch: conversations, things seen before, and much of either damaged. */
function framesOf(random: Random, traffic: Traffic, world: World, corpus: Corpus): GuardedFrame[] {
  const frames: GuardedFrame[] = traffic.batch(random.between(1, 64), world.rules);
  const seen = random.chance(0.5) ? corpus.pick(random) : null;
  if (seen !== null) frames.splice(random.below(frames.length + 1), frames.length, ...seen);
  return frames.slice(0, 64).map((frame) => {
    let damaged: GuardedFrame = frame;
    if (random.chance(0.4)) for (let hits = random.between(1, 4); hits > 0; hits--) damaged = mutate(damaged, random);
    if (random.chance(0.01)) damaged = { ...damaged, truncated: true };
    if (random.chance(0.01)) damaged = { ...damaged, port: random.below(256) };
    return damaged;
  });
}

/** Runs about `packets` packets from `seed`. What is kept in `corpus` depends on the seeds before. */
export function runAlone(modules: Modules, corpus: Corpus, seed: number, compat: Compat, packets: number): AloneRun {
  const random = new Random(seed);
  const limits = random.of(SIZES);
  const hashKey = random.bytes(HASH_KEY_BYTES);
  const headBytes = random.of([undefined, undefined, 1172, 300, 120]);
  const cut = headBytes === undefined ? {} : { headBytes };
  const engines = [modules.instrumented, modules.release].map(
    (moduleBytes, i) => new GuardedEngine({ limits, moduleBytes, hashKey, compat, canary: CANARIES[i]!, ...cut }),
  ) as [GuardedEngine, GuardedEngine];
  const markers = engines[0].markers(corpus.reached.length);
  const world = new World(random, { mostRules: 6, mostServers: 5, hasPolicies: true, mostDrains: 2 * limits.maxPairs });
  const traffic = new Traffic(random, random.of(["steady", "busy", "crowded"]));
  const reasons: number[] = Object.values(Reason).map(() => 0);
  let nowMs = random.of([1_000_000, 2 ** 32 - 100_000]);
  let done = 0;
  const ports = new Map<number, Port>();
  const configure = (events: readonly Event[]): void => {
    for (const engine of engines) {
      for (const event of events) {
        if (event.kind === "port") ports.set(event.index, event.port);
        if (event.kind === "port") engine.setPort(event.index, event.port);
        else if (event.kind === "hop") engine.setNextHop(event.index, event.hop);
        else if (event.kind === "publish") engine.publish(event.image);
      }
    }
  };
  const fail = (what: string): AloneRun => ({
    packets: done,
    reasons,
    failure: `seed ${seed}, after ${done} packets: ${what}`,
  });
  try {
    configure(world.setUp());
    while (done < packets) {
      const frames = framesOf(random, traffic, world, corpus);
      const edge = random.chance(0.5) ? random.below(frames.length) : null;
      for (const engine of engines) engine.edge = edge;
      const [ours, theirs] = engines.map((engine) => engine.process(frames, nowMs)) as [Outcome[], Outcome[]];
      done += frames.length;
      corpus.note(markers, frames);
      for (const [i, outcome] of ours.entries()) {
        reasons[outcome.reason]!++;
        const found = outcomeDifference(outcome, theirs[i]!);
        if (found !== null)
          return fail(
            `what lies around frame ${i} matters: ${found}\n${spellOutcome(outcome)}\n${spellOutcome(theirs[i]!)}`,
          );
      }
      traffic.learn(ours, ports);
      nowMs += random.weighted([
        [70, () => random.below(20)],
        [25, () => random.below(2_000)],
        [5, () => random.below(200_000)],
      ]);
      if (random.chance(0.5)) for (const engine of engines) engine.sweepSlice(nowMs);
      if (random.chance(0.02)) {
        for (const engine of engines) engine.sweep(nowMs);
        world.swept(nowMs);
      }
      if (random.chance(0.1)) configure(world.change(nowMs));
    }
    for (const engine of engines) engine.checkAll();
  } catch (error) {
    return fail(error instanceof Error ? (error.stack ?? error.message) : String(error));
  }
  return { packets: done, reasons, failure: null };
}
