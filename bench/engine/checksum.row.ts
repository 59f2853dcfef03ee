/**
 * The full checksum over 1500 bytes, as the engine computes it for messages that it makes itself: the function of
 * assembly/checksum.ts in a module of its own, against C, on the same bytes in the same memory. Established traffic needs
 * no full checksum.
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import asc from "assemblyscript/asc";
import { median } from "../harness/statistics.ts";
import type { BenchContext, BenchRow, BenchSides } from "../row.ts";
import { buildNative, compilerReason } from "../support/native.ts";
import { clockCostNs } from "../support/timing.ts";

const ROOT = join(import.meta.dir, "../..");
const FOLDER = join(ROOT, "build/bench/checksum");
const DATA = 4096;
const LENGTH = 1500;
const STRIDE = 2112;
const BUFFERS = 8;
/** Sums between two looks at the clock. */
const TIMES = 1000;

const SOURCE = `import { sumBytes } from "../../../assembly/checksum";
export function sumMany(at: usize, length: u32, stride: u32, buffers: u32, times: u32): u32 {
  let all: u32 = 0;
  for (let i: u32 = 0; i < times; i++) all += sumBytes(at + <usize>(i % buffers) * stride, length);
  return all;
}
`;

type SumMany = (at: number, length: number, stride: number, buffers: number, times: number) => number;

/** The engine's function, compiled as the engine is. */
async function compileSum(memory: WebAssembly.Memory): Promise<() => SumMany> {
  mkdirSync(FOLDER, { recursive: true });
  const source = join(FOLDER, `sum-${process.pid}.ts`);
  const module = join(FOLDER, `sum-${process.pid}.wasm`);
  await Bun.write(source, SOURCE);
  const words = [
    "--runtime",
    "stub",
    "--importMemory",
    "--initialMemory",
    "2",
    "--enable",
    "simd",
    "-O3",
    "--noAssert",
  ];
  const { error, stderr } = await asc.main([source, "--baseDir", "/", ...words, "--outFile", module]);
  if (error) throw new Error(`assembly/checksum.ts does not compile: ${stderr}`);
  const compiled = await Bun.file(module).arrayBuffer();
  return () =>
    new WebAssembly.Instance(new WebAssembly.Module(compiled), { env: { memory } }).exports.sumMany as SumMany;
}

/** Sum of TIMES sums, word by word in plain TypeScript. */
function expectedSum(view: DataView): number {
  let all = 0;
  for (let i = 0; i < TIMES; i++) {
    let sum = 0;
    for (let at = 0; at < LENGTH; at += 2) sum += view.getUint16(DATA + (i % BUFFERS) * STRIDE + at, true);
    while (sum > 0xffff) sum = (sum & 0xffff) + Math.floor(sum / 65536);
    all = (all + sum) >>> 0;
  }
  return all;
}

async function setup({ sideMs }: BenchContext): Promise<BenchSides> {
  const memory = new WebAssembly.Memory({ initial: 2, maximum: 2 });
  const newSum = await compileSum(memory);
  const bytes = new Uint8Array(memory.buffer);
  for (let at = DATA; at < bytes.length; at++) bytes[at] = (Math.imul(at, 0x9e3779b1) >>> 13) & 0xff;
  const kept: SumMany[] = [];
  const expected = expectedSum(new DataView(memory.buffer));
  const u32 = FFIType.u32;
  const { symbols } = dlopen(buildNative("checksum", [{ file: "checksum.c" }]), {
    ilb_sum_many: { args: [FFIType.ptr, u32, u32, u32, u32], returns: u32 },
  });
  const data = ptr(bytes, DATA);
  const time = (name: string, work: () => number) => () => {
    const spent: number[] = [];
    const end = performance.now() + sideMs;
    while (performance.now() < end) {
      const start = Bun.nanoseconds();
      const sum = work();
      spent.push(Bun.nanoseconds() - start - clockCostNs());
      if (sum >>> 0 !== expected) throw new Error(`${name} computes ${sum >>> 0} instead of ${expected}`);
    }
    return median(spent) / TIMES;
  };
  return {
    // Machine code anew in each round, at another place because the one before is kept: how fast a loop is can depend on that.
    ours: () => {
      const sumMany = newSum();
      kept.push(sumMany);
      return time("the engine", () => sumMany(DATA, LENGTH, STRIDE, BUFFERS, TIMES))();
    },
    peer: time("C", () => symbols.ilb_sum_many(data, LENGTH, STRIDE, BUFFERS, TIMES)),
  };
}

const rows: readonly BenchRow[] = [
  {
    id: "engine.checksum.1500",
    unit: "ns",
    better: "lower",
    peerName: "C, vectorised by gcc",
    what: "full Internet checksum over 1,500 bytes",
    unavailable: compilerReason,
    setup,
  },
];

export default rows;
