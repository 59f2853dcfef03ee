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

/** @param moduleBytes of a build that gives out the proxy ports of the stage; default: the one that is shipped */
export function wasmSubject(
  seed: number,
  compat: Compat,
  stage: Stage = ROOMY,
  moduleBytes = MODULE_BYTES,
): MakeEngine {
  const hashKey = new Random(seed).bytes(fixedHashKey().length);
  const cut = seed % 4 < 2 ? {} : { headBytes: SMALLEST_HEAD_BYTES };
  const make = () => new WasmEngine({ limits: stage.limits, moduleBytes, hashKey, compat, ...cut });
  return Object.assign(make, { compat, stage });
}

/** Several workers that chance deals the frames to. */
export function workersSubject(seed: number, compat: Compat, workers: number): MakeEngine {
  const hashKey = new Random(seed).bytes(fixedHashKey().length);
  const make = () => new WorkerGroup({ limits: SHARED.limits, workers, compat, seed, hashKey, inStep: true });
  return Object.assign(make, { compat, stage: SHARED });
}
