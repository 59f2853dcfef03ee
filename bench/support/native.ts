/**
 * Compiles the C files of bench/native on the machine that measures (-march=native) and loads them. Each build has a
 * name of its own, so that two runs do not pull a library away from under each other.
 */
import { mkdirSync, renameSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { renderC } from "../../layout/generate.ts";
import { Unavailable } from "../row.ts";

const SOURCES = join(import.meta.dir, "../native");
const BUILD = join(import.meta.dir, "../../build/bench/native");
const FLAGS = ["-std=gnu11", "-O3", "-march=native", "-fno-strict-aliasing", "-fPIC", "-Wall", "-Wextra", "-Werror"];

/** One file of bench/native and what is defined for it. */
export interface NativeSource {
  readonly file: string;
  readonly defines?: readonly string[];
}

/** Why nothing can be compiled here, null when it can. */
export function compilerReason(): string | null {
  return Bun.which("gcc") === null ? "gcc is missing, so there is no C to compare with" : null;
}

/** Libraries that this process has built already, by name. */
const built = new Map<string, string>();

function compile(argv: readonly string[]): void {
  const run = Bun.spawnSync(["gcc", ...argv], { stdout: "ignore", stderr: "pipe" });
  if (run.exitCode !== 0) throw new Error(`bench/native does not compile:\n${run.stderr}`);
}

/**
 * Builds a shared library, once per process and name. Throws Unavailable without a compiler, an Error with its words when it refuses.
 * @returns path of the library
 */
export function buildNative(name: string, sources: readonly NativeSource[]): string {
  const reason = compilerReason();
  if (reason !== null) throw new Unavailable(reason);
  const known = built.get(name);
  if (known !== undefined) return known;
  mkdirSync(BUILD, { recursive: true });
  const stem = join(BUILD, `${name}-${process.pid}`);
  // The layout of everything, not only of what the product's C has to do with; a header per process for the same reason.
  const headers = `${stem}.include`;
  mkdirSync(headers, { recursive: true });
  writeFileSync(join(headers, "engine-layout.h"), renderC(true));
  const objects = sources.map(({ file, defines = [] }, index) => {
    const object = `${stem}-${index}.o`;
    compile([
      ...FLAGS,
      `-I${headers}`,
      ...defines.map((define) => `-D${define}`),
      "-c",
      join(SOURCES, file),
      "-o",
      object,
    ]);
    return object;
  });
  compile(["-shared", "-o", `${stem}.so`, ...objects]);
  for (const file of [...objects, headers]) rmSync(file, { recursive: true });
  const path = join(BUILD, `${name}.so`);
  renameSync(`${stem}.so`, path);
  built.set(name, path);
  return path;
}
