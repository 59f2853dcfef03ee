/**
 * The engine contract on the WebAssembly engine: whole frames in the head block, and frames whose payload lies in the
 * tail block, as long ones do. And on several workers that hand over to each other.
 */
import { engineContract } from "../contract/engine-contract.ts";
import { goldenCaptures } from "../contract/golden-captures.ts";
import { makeWasmEngine } from "../support/wasm-engine.ts";
import { WorkerGroup } from "../support/worker-group.ts";

engineContract("wasm", (limits, compat) => makeWasmEngine(limits, { compat }));
goldenCaptures("wasm", (limits) => makeWasmEngine(limits));
engineContract("wasm, payload in the tail", (limits, compat) => makeWasmEngine(limits, { compat, headBytes: 620 }));
// Frames arrive at either worker, as chance has it.
engineContract(
  "wasm, two workers",
  (limits, compat) => new WorkerGroup({ limits, compat, workers: 2, seed: 7 }),
  false,
);
