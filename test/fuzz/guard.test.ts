/** The guard around frames put to the test: what it has to notice, done on purpose. */
import { expect, test } from "bun:test";
import { fixedHashKey } from "../../src/engine/host.ts";
import { HEAD_STRIDE, Reason } from "../../src/gen/layout.ts";
import { arriving, hopOf, PORTS, ruleOf, tcpPacket } from "../support/engine-bench.ts";
import { imageOf } from "../support/image-builder.ts";
import { seedFromEnvironment } from "../support/random.ts";
import { MODULE_BYTES } from "../support/wasm-engine.ts";
import { Corpus } from "./corpus.ts";
import { runCrowdedRings } from "./crowded-rings.ts";
import { GuardedEngine, MARKER_BASE } from "./guarded-engine.ts";
import { instrumentedEngine, withMarkers } from "./instrument.ts";

const LIMITS = { maxFlows: 100, maxRules: 8, maxPairs: 64, maxSticky: 8 };

function engineOf(moduleBytes: Uint8Array<ArrayBuffer>): GuardedEngine {
  const engine = new GuardedEngine({
    limits: LIMITS,
    moduleBytes,
    hashKey: fixedHashKey(),
    compat: "modern",
    canary: 0x5c,
  });
  for (const [index, port] of PORTS.entries()) engine.setPort(index, port);
  for (const index of [0, 1, 2]) engine.setNextHop(index, hopOf(index));
  engine.publish(imageOf(1, [ruleOf()]));
  return engine;
}

test("the engine passes the guard, with a frame in its block and at the end of the memory", () => {
  const engine = engineOf(MODULE_BYTES);
  for (const edge of [null, 0]) {
    engine.edge = edge;
    expect(engine.process([arriving(tcpPacket({ flags: "S" }))], 1)[0]!.out.length).toBe(1);
  }
  engine.checkAll();
});

test("a write beside the frames, into another worker's memory or into a frame that stays is noticed", async () => {
  const { heads } = engineOf(MODULE_BYTES).host.map.workers[0]!;
  const other = engineOf(MODULE_BYTES).host.map.workers[1]!;
  const frames = [arriving(tcpPacket({ destinationPort: 9 }))];
  // The markers are the writes; the last block of the heads is not in use.
  const beside = engineOf((await instrumentedEngine(heads + 62 * HEAD_STRIDE)).moduleBytes);
  expect(() => beside.process(frames, 1)).toThrow("a byte beside the frames has changed");
  const elsewhere = engineOf((await instrumentedEngine(other.flows)).moduleBytes);
  elsewhere.process(frames, 1);
  expect(() => elsewhere.checkAll()).toThrow("of the worker that does not run have changed");
  const within = engineOf((await instrumentedEngine(heads + 64)).moduleBytes);
  expect(() => within.process(frames, 1)).toThrow("frame 0 stays and has changed");
}, 60_000);

test("the build with markers says which blocks have run, and nothing else is different about it", async () => {
  const { moduleBytes, blocks } = await instrumentedEngine(MARKER_BASE);
  const marked = engineOf(moduleBytes);
  const corpus = new Corpus(blocks.length);
  const frames = [arriving(tcpPacket({ flags: "S" }))];
  expect(marked.process(frames, 1)).toEqual(engineOf(MODULE_BYTES).process(frames, 1));
  corpus.note(marked.markers(blocks.length), frames);
  const reached = blocks.filter((_, index) => corpus.reached[index] === 1).map(({ functionName }) => functionName);
  expect(reached).toContain("assembly/process/openFlow");
  expect(reached).not.toContain("assembly/icmp/processIcmp");
  expect(corpus.size).toBe(1);
  // The same again reaches nothing new but the path of a known flow.
  corpus.note(marked.markers(blocks.length), frames);
  expect(corpus.size).toBe(1);
}, 60_000);

test("a marker stands behind the locals of a function, in both branches, in loops and behind conditional jumps", () => {
  const text = [
    " (func $f (param $0 i32)",
    "  (local $1 i32)",
    "  local.get $0",
    "  if",
    "   nop",
    "  else",
    "   loop $again",
    "    local.get $0",
    "    br_if $again",
    "   end",
    "  end",
    " )",
  ].join("\n");
  const marked = withMarkers(text, 100);
  expect(marked.blocks.map(({ kind }) => kind)).toEqual(["function", "if", "else", "loop", "br_if"]);
  const lines = marked.text.split("\n").map((line) => line.trim());
  expect(lines.slice(1, 5)).toEqual(["(local $1 i32)", "i32.const 100", "i32.const 1", "i32.store8"]);
  expect(lines[lines.indexOf("br_if $again") + 1]).toBe("i32.const 104");
});

test.each([
  [2, true],
  [3, true],
  [3, false],
])("%i workers whose rings run over (flooded: %p) give every frame one reason", (workers, isFlooded) => {
  const seed = seedFromEnvironment(77);
  console.log(`rings seed ${seed}`);
  const { failure, reasons } = runCrowdedRings(seed, "modern", workers, 40_000, isFlooded);
  expect(failure).toBeNull();
  if (isFlooded) expect(reasons[Reason.HandOverFull]).toBeGreaterThan(0n);
});
