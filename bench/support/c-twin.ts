/** The fast path in C (bench/native/fast-path.c), on the memory of an engine. */
import { dlopen, FFIType, ptr } from "bun:ffi";
import type { WorkerSeat } from "../../src/engine/host.ts";
import { buildNative } from "./native.ts";

/** How the twin hides the latency of the flow table: by stores as the engine does, or by prefetch instructions. */
export type CTwinKind = "touch" | "prefetch";

/** The same call that a worker makes into WebAssembly. */
export interface CTwin {
  /** @param count at most BATCH_SIZE @param nowMs engine clock @returns how many were forwarded; the rest is left as it was */
  process(count: number, nowMs: number): number;
}

/** Compiles and attaches. One memory at a time per kind. Throws Unavailable without a compiler. */
export function loadCTwin(seat: WorkerSeat, kind: CTwinKind): CTwin {
  const path = buildNative("fast-path", [
    { file: "fast-path.c", defines: ["TWIN_PREFETCH=0"] },
    { file: "fast-path.c", defines: ["TWIN_PREFETCH=1"] },
  ]);
  const attach = { args: [FFIType.ptr, FFIType.u32], returns: FFIType.i32 } as const;
  const process = { args: [FFIType.u32, FFIType.u32], returns: FFIType.u32 } as const;
  const { symbols } = dlopen(path, {
    ilb_twin_attach: attach,
    ilb_twin_process: process,
    ilb_twin_prefetch_attach: attach,
    ilb_twin_prefetch_process: process,
  });
  const isPrefetch = kind === "prefetch";
  const memory = ptr(new Uint8Array(seat.memory.buffer));
  const map = seat.map.workers[seat.workerIndex]!.map;
  if ((isPrefetch ? symbols.ilb_twin_prefetch_attach : symbols.ilb_twin_attach)(memory, map) !== 0)
    throw new Error("the C twin was compiled for another memory layout");
  const run = isPrefetch ? symbols.ilb_twin_prefetch_process : symbols.ilb_twin_process;
  return { process: (count, nowMs) => run(count, nowMs) };
}
