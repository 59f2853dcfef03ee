/** Sweeps that are left out make no difference: two engines, one swept every 5 s, the same memory byte for byte. */
import { expect, test } from "bun:test";
import { WasmEngine } from "../../src/engine/wasm-engine.ts";
import { SWEEP_MS, Sweeps } from "../../src/replay/sweeps.ts";
import type { Event } from "../differential/duel.ts";
import { Traffic } from "../differential/traffic.ts";
import { World } from "../differential/world.ts";
import { propertySeed, Random } from "../support/random.ts";
import { MODULE_BYTES } from "../support/wasm-engine.ts";

const first = propertySeed();
const LIMITS = { maxFlows: 400, maxRules: 64, maxPairs: 400, maxSticky: 400 };
const START_MS = 1000;

/** Counts its sweeps. */
class Swept {
  readonly engine: WasmEngine;
  count = 0;

  constructor(seed: number) {
    const compat = seed % 2 === 0 ? "modern" : "ilb";
    this.engine = new WasmEngine({ limits: LIMITS, moduleBytes: MODULE_BYTES, compat });
  }

  sweep(nowMs: number): void {
    this.count++;
    this.engine.sweep(nowMs);
  }

  restMs(nowMs: number): number {
    return this.engine.host.restMs(nowMs);
  }

  give(event: Event): void {
    if (event.kind === "port") this.engine.setPort(event.index, event.port);
    else if (event.kind === "hop") this.engine.setNextHop(event.index, event.hop);
    else if (event.kind === "publish") this.engine.publish(event.image);
  }
}

const memoryOf = ({ engine }: Swept): Uint8Array => new Uint8Array(engine.host.memory.buffer);

/** One run of traffic with pauses, some of them with a change of the configuration in the middle. */
function run(seed: number): { readonly plain: Swept; readonly fewer: Swept } {
  const random = new Random(seed);
  const world = new World(random);
  const traffic = new Traffic(random, seed % 3 === 0 ? "steady" : "busy");
  const [plain, fewer] = [new Swept(seed), new Swept(seed)];
  const sweeps = new Sweeps(fewer, START_MS);
  let [nowMs, plainAtMs] = [START_MS, START_MS + SWEEP_MS];
  const give = (events: readonly Event[]): void => {
    for (const event of events) for (const one of [plain, fewer]) one.give(event);
  };
  /** @param endMs where the pause ends, which may be later */
  const pass = (untilMs: number, endMs: number): void => {
    for (; plainAtMs <= untilMs; plainAtMs += SWEEP_MS) plain.sweep(plainAtMs);
    while (sweeps.nextMs <= untilMs) sweeps.run(endMs);
    nowMs = untilMs;
  };
  give(world.setUp());
  for (let batch = 0; batch < 60; batch++) {
    const frames = traffic.batch(random.between(1, 40), world.rules);
    const [theirs, ours] = [plain, fewer].map(({ engine }) =>
      engine.process(
        frames.map((frame) => ({ ...frame, bytes: frame.bytes.slice() })),
        nowMs,
      ),
    );
    expect(ours).toEqual(theirs!);
    const pauseMs = random.weighted([
      [60, () => random.below(4000)],
      [40, () => random.between(4000, 400_000)],
      [1, () => 40_000_000],
    ]);
    const endMs = nowMs + pauseMs;
    if (random.chance(0.3)) {
      pass(nowMs + random.below(pauseMs + 1), endMs);
      give(world.change(nowMs));
      sweeps.disturb(nowMs);
    }
    pass(endMs, endMs);
    if (Buffer.compare(memoryOf(fewer), memoryOf(plain)) !== 0)
      throw new Error(`seed ${seed}: another memory after batch ${batch}, at ${nowMs} ms`);
  }
  return { plain, fewer };
}

test(`sweeps that find nothing to do may be left out (seeds from ${first})`, () => {
  let [all, done] = [0, 0];
  for (let seed = first; seed < first + 12; seed++) {
    const { plain, fewer } = run(seed);
    all += plain.count;
    done += fewer.count;
  }
  expect(done).toBeLessThan(all / 2);
}, 60_000);

test("the sweep that a change disturbs comes at its own time", () => {
  const swept: number[] = [];
  const sweeps = new Sweeps({ sweep: (nowMs) => swept.push(nowMs), restMs: () => 1_000_000 }, 0);
  sweeps.run(200_000);
  expect(sweeps.nextMs).toBe(200_000);
  sweeps.disturb(12_345);
  expect(sweeps.nextMs).toBe(15_000);
  sweeps.disturb(20_000);
  expect([sweeps.nextMs, swept]).toEqual([15_000, [5000]]);
});
