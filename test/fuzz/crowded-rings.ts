/**
 * Several workers at their own pace: frames arrive at any of them, and what they hand over to each other is taken too
 * late or hardly at all, until rings are full. Which frame finds room is nobody's promise, so nothing is compared frame by
 * frame; what must hold is that each one that came has exactly one reason, and that none traps or is lost.
 */
import { fixedHashKey } from "../../src/engine/host.ts";
import { RING_ENTRIES } from "../../src/gen/layout.ts";
import type { Event } from "../differential/duel.ts";
import { ROOMY } from "../differential/stage.ts";
import { Traffic } from "../differential/traffic.ts";
import { World } from "../differential/world.ts";
import { Random } from "../support/random.ts";
import { WorkerGroup } from "../support/worker-group.ts";

export interface CrowdedRun {
  readonly packets: number;
  readonly reasons: readonly bigint[];
  readonly failure: string | null;
}

/** Gives the workers a change of the world. */
function configure(group: WorkerGroup, events: readonly Event[]): void {
  for (const event of events) {
    if (event.kind === "port") group.setPort(event.index, event.port);
    else if (event.kind === "hop") group.setNextHop(event.index, event.hop);
    else if (event.kind === "publish") group.publish(event.image);
  }
}

/** Every worker takes what waits for it, until nothing does. Throws when it never ends. */
function drain(group: WorkerGroup, nowMs: number): void {
  const { length } = group.workers;
  // No frame takes more than a few steps, and a ring has so many entries.
  for (let left = 8 * length * RING_ENTRIES; ; left--) {
    if (left === 0) throw new Error("frames are handed over again and again");
    const taken = group.workers.map((_, worker) => group.take(worker, nowMs).length);
    if (taken.every((count) => count === 0)) return;
  }
}

/** Runs about `packets` packets from `seed` over rules of every algorithm. @param isFlooded nobody takes anything before the end */
export function runCrowdedRings(
  seed: number,
  compat: "ilb" | "modern",
  workers: number,
  packets: number,
  isFlooded: boolean,
): CrowdedRun {
  const random = new Random(seed);
  const hashKey = random.bytes(fixedHashKey().length);
  const group = new WorkerGroup({ limits: ROOMY.limits, workers, compat, seed, hashKey });
  const world = new World(random, ROOMY.world);
  const traffic = new Traffic(random, random.of(["busy", "crowded"]));
  let nowMs = 1_000_000;
  let received = 0;
  const check = (): string | null => {
    const { packetsIn, reasons } = group.counters();
    const sum = reasons.reduce((total, count) => total + count, 0n);
    return sum === packetsIn && packetsIn === BigInt(received)
      ? null
      : `seed ${seed}: ${received} frames came, ${packetsIn} were counted, their reasons add up to ${sum}`;
  };
  configure(group, world.setUp());
  let failure: string | null = null;
  while (received < packets && failure === null) {
    const frames = traffic.batch(random.between(1, 64), world.rules);
    group.receive(random.below(workers), frames, nowMs);
    received += frames.length;
    if (!isFlooded && random.chance(0.3)) group.take(random.below(workers), nowMs);
    nowMs += random.below(20);
    if (random.chance(0.02)) configure(group, world.change(nowMs));
    if (!random.chance(0.01) || isFlooded) continue;
    drain(group, nowMs);
    failure = check();
    group.sweep(nowMs);
  }
  drain(group, nowMs);
  return { packets: received, reasons: group.counters().reasons, failure: failure ?? check() };
}
