/** The WebAssembly engine as the differential test makes it: of every seed another hash key and another cut of frames. */
import type { Compat } from "../../src/engine/engine.ts";
import { fixedHashKey } from "../../src/engine/host.ts";
import { WasmEngine } from "../../src/engine/wasm-engine.ts";
import { Random } from "../support/random.ts";
import { MODULE_BYTES } from "../support/wasm-engine.ts";
import { WorkerGroup } from "../support/worker-group.ts";
import type { MakeEngine } from "./run.ts";
import { ROOMY, SHARED, type Stage } from "./stage.ts";

/** Longest headers that the engine promises to find in the head block: IPv6 with extensions, ICMPv6, the same quoted, TCP. */
const SMALLEST_HEAD_BYTES = 40 + 512 + 8 + 40 + 512 + 60;

/**
 * One of 2^`bits` choices that a seed stands for, another for each `which`. The seeds of one kind of run are a fixed step
 * apart, so the lowest bits of all of them may be the same; these are the upper ones of a product.
 */
export function choiceOf(seed: number, which: number, bits = 1): number {
  const mixed = Math.imul(seed + which * 0x27d4eb2f, 0x9e3779b1);
  return Math.imul(mixed ^ (mixed >>> 15), 0x85ebca6b) >>> (32 - bits);
}

/** @param moduleBytes of a build that gives out the proxy ports of the stage; default: the one that is shipped */
export function wasmSubject(
  seed: number,
  compat: Compat,
  stage: Stage = ROOMY,
  moduleBytes = MODULE_BYTES,
): MakeEngine {
  const hashKey = new Random(seed).bytes(fixedHashKey().length);
  const cut = choiceOf(seed, 1) === 0 ? {} : { headBytes: SMALLEST_HEAD_BYTES };
  const make = () => new WasmEngine({ limits: stage.limits, moduleBytes, hashKey, compat, ...cut });
  return Object.assign(make, { compat, stage });
}

/** Several workers that chance deals the frames to. */
export function workersSubject(seed: number, compat: Compat, workers: number): MakeEngine {
  const hashKey = new Random(seed).bytes(fixedHashKey().length);
  const make = () => new WorkerGroup({ limits: SHARED.limits, workers, compat, seed, hashKey, inStep: true });
  return Object.assign(make, { compat, stage: SHARED });
}
