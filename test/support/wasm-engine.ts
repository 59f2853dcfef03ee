/** The WebAssembly engine for tests, built first when a source is newer than the module. */
import { ensureWasm, WASM_PATH } from "../../scripts/build-wasm.ts";
import { readModule } from "../../src/engine/abi.ts";
import type { EngineLimits } from "../../src/engine/engine.ts";
import { WasmEngine, type WasmEngineOptions } from "../../src/engine/wasm-engine.ts";

await ensureWasm();

/** Bytes of the module. */
export const MODULE_BYTES = await readModule(WASM_PATH);

/** An engine with tables of its own and the fixed hash key. */
export function makeWasmEngine(limits: EngineLimits, options: Partial<WasmEngineOptions> = {}): WasmEngine {
  return new WasmEngine({ limits, moduleBytes: MODULE_BYTES, ...options });
}
