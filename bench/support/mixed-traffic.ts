/**
 * Traffic of every kind that the engine knows, made once and written down: the random conversations, damaged frames and changes of
 * configuration that the differential test has (test/differential), so that a benchmark meets what no warm-up was made for.
 */
import { ensureWasm } from "../../scripts/build-wasm.ts";
import { readModule } from "../../src/engine/abi.ts";
import type { EngineLimits, Port } from "../../src/engine/engine.ts";
import { WasmEngine } from "../../src/engine/wasm-engine.ts";
import { BATCH_SIZE } from "../../src/gen/layout.ts";
import type { Event } from "../../test/differential/duel.ts";
import { Traffic } from "../../test/differential/traffic.ts";
import { World } from "../../test/differential/world.ts";
import { Random } from "../../test/support/random.ts";

export type MixedEvent = Event;

export const MIXED_LIMITS: EngineLimits = { maxFlows: 20_000, maxRules: 64, maxPairs: 4_096, maxSticky: 4_096 };

/** How likely the configuration changes after a batch: rules, servers, next hops, the flow policy. */
const CHANGE = 0.05;
/** One batch in so many is of short conversations, the others of such that live long. */
const BUSY = 3;

/** Ports, next hops and a first image, then `batches` full batches with changes in between. The engine clock rises. */
export async function mixedTraffic(seed: number, batches: number): Promise<MixedEvent[]> {
  await ensureWasm();
  const random = new Random(seed);
  const engine = new WasmEngine({ limits: MIXED_LIMITS, moduleBytes: await readModule() });
  const world = new World(random);
  const [busy, steady] = [new Traffic(random, "busy"), new Traffic(random, "steady")];
  const ports = new Map<number, Port>();
  const events: MixedEvent[] = [];
  const tell = (event: MixedEvent): void => {
    events.push(event);
    if (event.kind === "port") {
      ports.set(event.index, event.port);
      engine.setPort(event.index, event.port);
    } else if (event.kind === "hop") engine.setNextHop(event.index, event.hop);
    else if (event.kind === "publish") engine.publish(event.image);
  };
  for (const event of world.setUp()) tell(event);
  for (let batch = 0, nowMs = 1_000_000; batch < batches; batch++, nowMs += random.below(20)) {
    const traffic = batch % BUSY === 0 ? busy : steady;
    const frames = traffic.batch(BATCH_SIZE, world.rules);
    events.push({ kind: "batch", frames: frames.map((frame) => ({ ...frame, bytes: frame.bytes.slice() })), nowMs });
    traffic.learn(engine.process(frames, nowMs), ports);
    engine.sweepSlice(nowMs);
    if (random.chance(CHANGE)) for (const event of world.change(nowMs)) tell(event);
  }
  return events;
}
