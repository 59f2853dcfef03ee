/**
 * The engine contract on the WebAssembly engine: whole frames in the head block, and frames whose payload lies in the
 * tail block, as long ones do.
 */
import { engineContract } from "../contract/engine-contract.ts";
import { goldenCaptures } from "../contract/golden-captures.ts";
import { makeWasmEngine } from "../support/wasm-engine.ts";

engineContract("wasm", (limits, compat) => makeWasmEngine(limits, { compat }));
goldenCaptures("wasm", (limits) => makeWasmEngine(limits));
engineContract("wasm, payload in the tail", (limits, compat) => makeWasmEngine(limits, { compat, headBytes: 620 }));
