/**
 * The engine contract on the WebAssembly engine: whole frames in the head block, and frames whose payload lies in the
 * tail block, as long ones do.
 */
import { engineContract } from "../contract/engine-contract.ts";
import { goldenCaptures } from "../contract/golden-captures.ts";
import { makeWasmEngine } from "../support/wasm-engine.ts";

engineContract("wasm", (limits) => makeWasmEngine(limits), [4, 6]);
goldenCaptures("wasm", (limits) => makeWasmEngine(limits));
engineContract("wasm, payload in the tail", (limits) => makeWasmEngine(limits, { headBytes: 200 }), [4, 6]);
