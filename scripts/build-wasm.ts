/**
 * Compiles assembly/ to build/engine.wasm and refuses a module that breaks the discipline of decision record 0001:
 * several instances share one memory, so it may have no data segment, no start function, no runtime, and no mutable
 * global but the bases that attach() sets.
 */
import { existsSync, mkdirSync, renameSync, statSync } from "node:fs";
import { join, relative, resolve } from "node:path";
import asc from "assemblyscript/asc";

const ROOT = join(import.meta.dir, "..");
export const WASM_PATH = join(ROOT, "build/engine.wasm");

/** What the compiler may leave as a mutable global: the exported variables of assembly/bases.ts. */
const BASES = "$assembly/bases/";

/** Every way in which the text form of a module breaks the discipline, in words; empty when it keeps it. */
export function breaches(text: string): string[] {
  const found: string[] = [];
  if (/^\s*\(data\b/m.test(text)) found.push("a data segment: every instance would write it again");
  if (/^\s*\(start\b/m.test(text)) found.push("a start function: every instance would run it again");
  if (text.includes("~lib/rt")) found.push("the runtime (~lib/rt): there is no heap");
  if (/\bmemory\.grow\b/.test(text)) found.push("memory.grow: the memory has a fixed size");
  if (!/\(import "env" "memory" \(memory (\$\S+ )?\d+ \d+ shared\)\)/.test(text))
    found.push("no imported shared memory");
  for (const [, name] of text.matchAll(/^\s*\(global (\$\S+)[^\n]*\(mut /gm))
    if (!name!.startsWith(BASES)) found.push(`the mutable global ${name}: every instance has its own`);
  return found;
}

/**
 * Compiles assembly/ into a module and its text form. @param options of the compiler, beside those that every build has
 * @param outFile, @param textFile relative to the project or absolute. Throws with the compiler's words.
 * @param edit what to make of a source before it is compiled, for builds that only tests use
 */
export async function compileEngine(
  options: readonly string[],
  outFile: string,
  textFile: string,
  edit?: (path: string, source: string) => string,
): Promise<void> {
  const sources = ["assembly/index.ts", "--baseDir", ROOT, "--noAssert", "--runtime", "stub"];
  const memory = ["--importMemory", "--sharedMemory", "--initialMemory", "1", "--maximumMemory", "65536"];
  const features = ["--enable", "simd", "--enable", "threads", "--enable", "bulk-memory"];
  const files = [
    "--outFile",
    relative(ROOT, resolve(ROOT, outFile)),
    "--textFile",
    relative(ROOT, resolve(ROOT, textFile)),
  ];
  const readFile = async (path: string, baseDir: string): Promise<string | null> => {
    const file = Bun.file(resolve(baseDir, path));
    return (await file.exists()) ? edit!(path, await file.text()) : null;
  };
  const words = [...sources, ...options, ...memory, ...features, ...files];
  const { error, stderr } = await asc.main(words, edit === undefined ? {} : { readFile });
  if (error) throw new Error(`assembly/ does not compile:\n${stderr.toString()}${error.message}`);
}

/** Compiles, checks and writes build/engine.wasm in one step. Throws with the compiler's words or the breaches. */
export async function buildWasm(): Promise<void> {
  mkdirSync(join(ROOT, "build"), { recursive: true });
  // Written beside and renamed, so that nobody ever loads half a module.
  const fresh = `build/.engine-${process.pid}.wasm`;
  const text = `build/.engine-${process.pid}.wat`;
  await compileEngine(["-O3"], fresh, text);
  const found = breaches(await Bun.file(join(ROOT, text)).text());
  if (found.length > 0) throw new Error(`build/engine.wasm breaks decision record 0001: it has ${found.join("; ")}`);
  renameSync(join(ROOT, text), join(ROOT, "build/engine.wat"));
  renameSync(join(ROOT, fresh), WASM_PATH);
}

/** Builds when a source is newer than build/engine.wasm, for tests and benchmarks. */
export async function ensureWasm(): Promise<void> {
  const built = existsSync(WASM_PATH) ? statSync(WASM_PATH).mtimeMs : 0;
  const sources = [...new Bun.Glob("assembly/**/*.ts").scanSync(ROOT)].map(
    (path) => statSync(join(ROOT, path)).mtimeMs,
  );
  if (sources.some((changed) => changed > built)) await buildWasm();
}

if (import.meta.main) {
  await buildWasm();
  console.log(`build/engine.wasm ${statSync(WASM_PATH).size} bytes`);
}
