/** The WebAssembly engine as the differential test makes it: of every seed another hash key and another cut of frames. */
import type { Compat } from "../../src/engine/engine.ts";
import { fixedHashKey } from "../../src/engine/host.ts";
import { Random } from "../support/random.ts";
import { makeWasmEngine } from "../support/wasm-engine.ts";
import { LIMITS, type MakeEngine } from "./run.ts";

/** Longest headers that the engine promises to find in the head block: IPv6 with extensions, ICMPv6, the same quoted, TCP. */
const SMALLEST_HEAD_BYTES = 40 + 512 + 8 + 40 + 512 + 60;

export function wasmSubject(seed: number, compat: Compat): MakeEngine {
  const hashKey = new Random(seed).bytes(fixedHashKey().length);
  const cut = seed % 4 < 2 ? {} : { headBytes: SMALLEST_HEAD_BYTES };
  return Object.assign(() => makeWasmEngine(LIMITS, { hashKey, compat, ...cut }), { compat });
}
