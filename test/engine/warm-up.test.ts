/** What the warm-up reaches: whatever it misses runs interpreted when the first packet needs it, with others behind it. */
import { expect, test } from "bun:test";
import { WarmUp } from "../../src/engine/warm-up.ts";
import { MARKER_BASE } from "../fuzz/guarded-engine.ts";
import { instrumentedEngine } from "../fuzz/instrument.ts";
import { MODULE_BYTES } from "../support/wasm-engine.ts";

/** Functions that run once per start or per image, or for the sake of full tables. */
const MISSED = [
  "adopt/", // one line each
  "sweep/sweepAll",
  "flow-table/makeRoomIn",
  "flow-table/roomBeside",
  "flow-table/move",
  "flows/moveClient",
  "nat-ports/freePool",
  "pairs/leavePairTable",
];
/** What only several workers do. */
const SHARED = ["hand-over/", "owner/", "held/handHeld"];

/** Names of the functions that have not run. */
async function missed(isAlone: boolean): Promise<string[]> {
  const { moduleBytes, blocks } = await instrumentedEngine(MARKER_BASE);
  const warmUp = new WarmUp(new WebAssembly.Module(moduleBytes), isAlone);
  warmUp.prepare();
  await warmUp.finish(async () => true);
  const markers = new Uint8Array(warmUp.host.memory.buffer, MARKER_BASE, blocks.length);
  return blocks
    .filter(({ kind }, index) => kind === "function" && markers[index] === 0)
    .map(({ functionName }) => functionName.replace("assembly/", ""));
}

test("the warm-up runs every function that packets of one worker need", async () => {
  const allowed = [...MISSED, ...SHARED];
  expect((await missed(true)).filter((name) => !allowed.some((start) => name.startsWith(start)))).toEqual([]);
});

test("the warm-up of several workers hands frames over as well", async () => {
  // The look ahead of large tables is for one worker; so far no others have missed it.
  const allowed = [
    ...MISSED,
    "openings/",
    "hand-over/announceSleep",
    "hand-over/endSleep",
    "hand-over/hasHandedOver",
    "hand-over/takeWakes",
  ];
  expect((await missed(false)).filter((name) => !allowed.some((start) => name.startsWith(start)))).toEqual([]);
});

test("the second part of the warm-up asks before every slice whether to go on, and ends at a no", async () => {
  const warmUp = new WarmUp(new WebAssembly.Module(MODULE_BYTES), true);
  let asked = 0;
  await warmUp.finish(async () => ++asked < 5);
  expect(asked).toBe(5);
});
