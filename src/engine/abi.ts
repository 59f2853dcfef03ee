/**
 * The typed face of the WebAssembly module: its exports, its memory import, and little-endian views of the memory. The
 * only file of the project that names an export.
 */
import { join } from "node:path";
import { LAYOUT_FINGERPRINT } from "../gen/layout.ts";

/** Exports of assembly/index.ts. Offsets are linear, times are milliseconds of the engine clock, wrapped to u32. */
export interface EngineExports {
  attach(map: number): number;
  layoutFingerprint(): number;
  writeConstants(): void;
  processBatch(count: number, nowMs: number): number;
  adoptIfPublished(): number;
  enterQuiescent(): void;
  leaveQuiescent(): number;
  stopRequested(): number;
  heartbeat(nowMs: number): void;
  sweepSlice(nowMs: number): number;
  sweepAll(nowMs: number): void;
  hasHandedOver(): number;
  takeHandedOver(): number;
  releaseHandedOver(): void;
  takeWakes(): number;
  announceSleep(): number;
  endSleep(): void;
}

/** The memory, once per kind of access. Little-endian hosts only, as WebAssembly itself is. */
export interface MemoryViews {
  readonly u8: Uint8Array;
  readonly u16: Uint16Array;
  readonly u32: Uint32Array;
  readonly i32: Int32Array;
  readonly u64: BigUint64Array;
}

export function viewsOf(memory: WebAssembly.Memory): MemoryViews {
  const { buffer } = memory;
  return {
    u8: new Uint8Array(buffer),
    u16: new Uint16Array(buffer),
    u32: new Uint32Array(buffer),
    i32: new Int32Array(buffer),
    u64: new BigUint64Array(buffer),
  };
}

/** Where `npm run build` leaves the module. */
export const MODULE_PATH = join(import.meta.dir, "../../build/engine.wasm");

/** Bytes of the module, to be compiled here and sent to workers. Throws one line when it has not been built. */
export async function readModule(path: string = MODULE_PATH): Promise<Uint8Array<ArrayBuffer>> {
  const file = Bun.file(path);
  if (!(await file.exists())) throw new Error(`${path} is missing; build it with: npm run build`);
  return new Uint8Array(await file.arrayBuffer());
}

/** Compiles the module. */
export function compileModule(bytes: Uint8Array<ArrayBuffer>): WebAssembly.Module {
  return new WebAssembly.Module(bytes);
}

/**
 * One more instance of the module on the memory, tied to a worker's region.
 * Throws when module, memory and this program were not built from one layout.
 */
export function instantiate(module: WebAssembly.Module, memory: WebAssembly.Memory, map: number): EngineExports {
  const exports = new WebAssembly.Instance(module, { env: { memory } }).exports as unknown as EngineExports;
  const found = exports.layoutFingerprint() >>> 0;
  if (found !== LAYOUT_FINGERPRINT)
    throw new Error(
      `build/engine.wasm has memory layout ${found.toString(16)}, this program ${LAYOUT_FINGERPRINT.toString(16)}; run: npm run build`,
    );
  if (!exports.attach(map)) throw new Error("the shared memory was laid out by another version of this program");
  return exports;
}
