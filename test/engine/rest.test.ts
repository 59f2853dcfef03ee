/** restMs() says when a sweep next has something to do: no sweep before that changes anything, and that one does. */
import { expect, test } from "bun:test";
import { WasmEngine } from "../../src/engine/wasm-engine.ts";
import { Bucket, MAX_TIMEOUT_MS } from "../../src/gen/layout.ts";
import { Traffic } from "../differential/traffic.ts";
import { World } from "../differential/world.ts";
import { propertySeed, Random } from "../support/random.ts";
import { MODULE_BYTES } from "../support/wasm-engine.ts";

const first = propertySeed();
const LIMITS = { maxFlows: 400, maxRules: 64, maxPairs: 400, maxSticky: 400 };
/** The longest rest, when nothing at all waits for its time. */
const FOREVER_MS = 2 ** 31 - 1 - MAX_TIMEOUT_MS;

class Subject {
  readonly engine: WasmEngine;
  readonly #bytes: Uint8Array;

  constructor(compat: "ilb" | "modern") {
    this.engine = new WasmEngine({ limits: LIMITS, moduleBytes: MODULE_BYTES, compat });
    this.#bytes = new Uint8Array(this.engine.host.memory.buffer);
  }

  save(): Uint8Array {
    return this.#bytes.slice();
  }

  restore(saved: Uint8Array): void {
    this.#bytes.set(saved);
  }

  /** The memory without deadlines of flows: a sweep moves those of clients that are silent while their server is not. */
  content(): Uint8Array {
    const copy = this.#bytes.slice();
    const { workers, counts } = this.engine.host.map;
    for (let bucket = 0; bucket < counts.buckets; bucket++) {
      const at = workers[0]!.buckets + bucket * Bucket.size;
      copy.fill(0, at + Bucket.deadline0, at + Bucket.meta0);
    }
    return copy;
  }

  /** Whether a sweep at that time changes anything; it is taken back. */
  doesSomething(nowMs: number): boolean {
    const [saved, before] = [this.save(), this.content()];
    this.engine.sweep(nowMs);
    const isSame = Buffer.compare(before, this.content()) === 0;
    this.restore(saved);
    return !isSame;
  }
}

test(`no sweep before its time does anything, and the one at its time does (seeds from ${first})`, () => {
  const rests = new Set<number>();
  for (let seed = first; seed < first + 4; seed++) {
    const random = new Random(seed);
    const world = new World(random);
    const traffic = new Traffic(random, seed % 3 === 0 ? "steady" : "busy");
    const subject = new Subject(seed % 2 === 0 ? "modern" : "ilb");
    let nowMs = 1000;
    for (const event of world.setUp()) {
      if (event.kind === "port") subject.engine.setPort(event.index, event.port);
      else if (event.kind === "hop") subject.engine.setNextHop(event.index, event.hop);
      else if (event.kind === "publish") subject.engine.publish(event.image);
    }
    for (let step = 0; step < 25; step++) {
      subject.engine.process(traffic.batch(random.between(1, 20), world.rules), nowMs);
      for (const event of random.chance(0.3) ? world.change(nowMs) : []) {
        if (event.kind === "hop") subject.engine.setNextHop(event.index, event.hop);
        else if (event.kind === "publish") subject.engine.publish(event.image);
      }
      // As far as to what is due next, again and again.
      for (let look = 0; look < 4; look++) {
        subject.engine.sweep(nowMs);
        const restMs = subject.engine.host.restMs(nowMs);
        rests.add(restMs);
        const where = `seed ${seed}, step ${step}, at ${nowMs} ms, rest ${restMs} ms`;
        if (restMs > 1 && subject.doesSomething(nowMs + restMs - 1))
          throw new Error(`${where}: something was due before`);
        if (restMs < FOREVER_MS && !subject.doesSomething(nowMs + restMs))
          throw new Error(`${where}: nothing is due then`);
        if (restMs === FOREVER_MS || !random.chance(0.8)) break;
        nowMs += restMs;
      }
      nowMs += random.below(3000);
    }
  }
  expect(rests.size).toBeGreaterThan(25);
}, 60_000);

test("where nothing waits for its time a sweep rests, but not so long that a clock of 32 bits wraps", () => {
  const { engine } = new Subject("modern");
  engine.sweep(5000);
  const restMs = engine.host.restMs(5000);
  expect(restMs).toBe(FOREVER_MS);
  expect(restMs).toBeLessThan(2 ** 31);
});
