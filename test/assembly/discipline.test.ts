/** Decision record 0001: what keeps several instances on one memory apart, and the guards that hold it. */
import { expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import asc from "assemblyscript/asc";
import { breaches, ensureWasm } from "../../scripts/build-wasm.ts";

const ROOT = join(import.meta.dir, "../..");
const MEMORY = '(import "env" "memory" (memory $0 1 65536 shared))';

test("the built module has no data segment, start function, runtime or stray mutable global", async () => {
  await ensureWasm();
  expect(breaches(readFileSync(join(ROOT, "build/engine.wat"), "utf8"))).toEqual([]);
});

test.each([
  ["a data segment", `${MEMORY}\n (data $0 (i32.const 8) "x")`, "a data segment"],
  ["a start function", `${MEMORY}\n (start $start)`, "a start function"],
  ["the runtime", `${MEMORY}\n (func $~lib/rt/stub/__new)`, "the runtime"],
  ["a growing memory", `${MEMORY}\n (drop (memory.grow (i32.const 1)))`, "memory.grow"],
  ["a memory of its own", "(memory $0 1 65536 shared)", "no imported shared memory"],
  ["a mutable global", `${MEMORY}\n (global $assembly/state/count (mut i32) (i32.const 0))`, "$assembly/state/count"],
])("a module with %s is refused", (_name, text, breach) => {
  expect(breaches(text).join()).toContain(breach);
});

test("only attach() and useImage() write the bases", () => {
  const bases = readFileSync(join(ROOT, "assembly/bases.ts"), "utf8");
  const names = [...bases.matchAll(/^export let (\w+)/gm)].map((match) => match[1]!);
  expect(names.length).toBeGreaterThan(30);
  for (const path of new Bun.Glob("assembly/**/*.ts").scanSync(ROOT)) {
    if (path === "assembly/bases.ts") continue;
    const text = readFileSync(join(ROOT, path), "utf8");
    expect(`${path} ${text.match(/^(export )?let /m)?.[0] ?? "has no global variable"}`).toEndWith(
      "has no global variable",
    );
  }
});

/** Compiles text as one AssemblyScript module. @returns what the compiler objects to */
async function compile(source: string): Promise<string> {
  const files: Record<string, string> = { "module.ts": source };
  const { error, stderr } = await asc.main(["module.ts", "--runtime", "stub", "--noEmit"], {
    readFile: (name) => files[name] ?? null,
    writeFile: () => {},
    listFiles: () => [],
  });
  return error === null ? "" : stderr.toString();
}

test("the AssemblyScript guard stops the compiler when a field moves", async () => {
  const layout = readFileSync(join(ROOT, "assembly/gen/layout.ts"), "utf8");
  expect(await compile(layout)).toBe("");
  const moved = layout.replace("  headLength: u32;", "  headLength: u64;");
  expect(moved).not.toBe(layout);
  expect(await compile(moved)).toContain("Descriptor.tail is not at 12");
});
