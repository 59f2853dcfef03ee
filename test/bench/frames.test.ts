/** What benchmarks check: a packet that came out wrong must not count as a fast one. */
import { describe, expect, test } from "bun:test";
import { Unavailable } from "../../bench/row.ts";
import { EngineWorld } from "../../bench/support/engine-world.ts";
import { frameBytes } from "../../bench/support/frames.ts";
import { Lru } from "../../bench/support/lru.ts";
import { NewFlows } from "../../bench/support/new-flows.ts";
import { TypescriptSide } from "../../bench/support/typescript-side.ts";

const FLOWS = 100;

describe.each([
  ["half-NAT over IPv4", { family: 4, type: "HALF-NAT" }],
  ["half-NAT over IPv6", { family: 6, type: "HALF-NAT" }],
  ["full NAT", { family: 4, type: "NAT" }],
  ["DSR", { family: 4, type: "DSR" }],
] as const)("a batch of %s", (_, kind) => {
  test("passes as the engine leaves it, and fails with any one byte of a frame changed", async () => {
    const world = await EngineWorld.create({ flows: FLOWS, rules: 7, servers: 3, ...kind });
    const SLOT = 5;
    const start = world.layer3(SLOT) - 14;
    for (let at = 0; at < frameBytes(kind.family); at++) {
      world.fill();
      world.process(1000);
      world.view.setUint8(start + at, world.view.getUint8(start + at) ^ 0x04);
      expect(() => world.check(), `byte ${at}`).toThrow();
    }
    world.fill();
    world.process(1000);
    world.check();
    // A second look at the same frames: nobody has processed them since.
    expect(() => world.check()).toThrow();
  });
});

test("packets that nobody processed fail", async () => {
  const world = await EngineWorld.create({ flows: FLOWS });
  world.fill();
  expect(() => world.check()).toThrow();
  const twin = new TypescriptSide(FLOWS);
  twin.fill();
  expect(() => twin.check()).toThrow();
  twin.process(1000);
  twin.check();
});

test("every packet of the new-flow row opens a flow, in a table that is and stays full", async () => {
  const flows = await NewFlows.create(1024);
  for (let batch = 0; batch < 100; batch++) {
    flows.fill();
    flows.process(1000);
    flows.check();
  }
  // The same batch once more: its flows are there already.
  flows.process(1000);
  expect(() => flows.check()).toThrow();
});

/** A table, or why there is none on this machine. */
function lruOrReason(): Lru | string {
  try {
    return new Lru(1024, 500);
  } catch (error) {
    if (error instanceof Unavailable) return error.message;
    throw error;
  }
}
const lru = lruOrReason();

test.skipIf(typeof lru === "string")(
  typeof lru === "string"
    ? `the LRU hash of the kernel (skipped: ${lru})`
    : "the LRU hash of the kernel finds every key and takes new ones",
  () => {
    const table = lru as Lru;
    expect(table.run("look-up", 1)).toBeGreaterThan(0);
    expect(table.run("insert", 1)).toBeGreaterThan(0);
    table.close();
    // Of three times as many keys as fit most are not there, and a look-up that finds nothing fails.
    const tooSmall = new Lru(1024, 3000);
    expect(() => tooSmall.run("look-up", 1)).toThrow("ENOENT");
    tooSmall.close();
  },
);
