/** The WebAssembly engine as the differential test makes it: of every seed another hash key and another cut of frames. */
import { fixedHashKey } from "../../src/engine/host.ts";
import { Random } from "../support/random.ts";
import { makeWasmEngine } from "../support/wasm-engine.ts";
import { LIMITS, type MakeEngine } from "./run.ts";

/** Longest headers that the engine promises to find in the head block: IPv4, ICMP, quoted IPv4 and TCP with all options. */
const SMALLEST_HEAD_BYTES = 60 + 8 + 60 + 60;

export function wasmSubject(seed: number): MakeEngine {
  const hashKey = new Random(seed).bytes(fixedHashKey().length);
  const cut = seed % 2 === 0 ? {} : { headBytes: SMALLEST_HEAD_BYTES };
  return () => makeWasmEngine(LIMITS, { hashKey, ...cut });
}
