/** The kernel's eBPF LRU hash (bench/native/lru.c), as nanoseconds per operation. */
import { dlopen, FFIType } from "bun:ffi";
import { getSystemErrorName } from "node:util";
import { median } from "../harness/statistics.ts";
import { type Closable, Unavailable } from "../row.ts";
import { buildNative } from "./native.ts";

/** Operations between two looks at the clock: some ten milliseconds. */
const REPEAT = 500;
const LEAST_RUNS = 5;

export type LruOperation = "look-up" | "insert";

export class Lru implements Closable {
  readonly #symbols;

  /**
   * @param entries capacity of the table @param keys how many are in it for look-ups
   * Throws Unavailable when this user may not load BPF programs here, or there is no compiler.
   */
  constructor(entries: number, keys: number) {
    const { symbols } = dlopen(buildNative("lru", [{ file: "lru.c" }]), {
      ilb_lru_open: { args: [FFIType.u32, FFIType.u32], returns: FFIType.i32 },
      ilb_lru_run: { args: [FFIType.u32, FFIType.u32], returns: FFIType.f64 },
      ilb_lru_close: { args: [], returns: FFIType.void },
    });
    this.#symbols = symbols;
    const result = symbols.ilb_lru_open(entries, keys);
    if (result < 0) {
      symbols.ilb_lru_close();
      throw new Unavailable(`bpf(2) is not to be had here: ${getSystemErrorName(result)}`);
    }
  }

  /** @returns nanoseconds per operation, the median over about `ms` milliseconds; throws when one of them failed */
  run(operation: LruOperation, ms: number): number {
    const runs: number[] = [];
    const end = performance.now() + ms;
    while (runs.length < LEAST_RUNS || performance.now() < end) {
      const spent = this.#symbols.ilb_lru_run(operation === "insert" ? 1 : 0, REPEAT);
      if (spent < 0) throw new Error(`${operation} in the eBPF LRU hash failed: ${getSystemErrorName(spent)}`);
      runs.push(spent);
    }
    return median(runs);
  }

  close(): void {
    this.#symbols.ilb_lru_close();
  }
}
