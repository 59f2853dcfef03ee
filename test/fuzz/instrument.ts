/**
 * A build of the engine that tells which of its blocks have run, for tests only: compiled with less inlining and with
 * names, and with a store of one byte at the beginning of every function, branch and loop and behind every conditional
 * jump of its text form. The engine that is shipped is made from the same sources and knows nothing of this.
 */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import binaryen from "assemblyscript/binaryen";
import { compileEngine } from "../../scripts/build-wasm.ts";
import type { PortSpan } from "../differential/stage.ts";

/** One place in the module that may or may not run. */
export interface Block {
  /** As the compiler names it, for example `assembly/process/openFlow`; of inlined code the function that it comes from. */
  readonly functionName: string;
  /** What it begins with. */
  readonly kind: "function" | "if" | "else" | "loop" | "br_if";
  /** Line of the text form without markers. */
  readonly line: number;
  /** The instructions around it, for people. */
  readonly before: string;
  readonly after: string;
}

export interface Instrumented {
  readonly moduleBytes: Uint8Array<ArrayBuffer>;
  /** Block i has run once the byte at `base` + i is 1. */
  readonly blocks: readonly Block[];
}

const KINDS = new Set<string>(["if", "else", "loop", "br_if"]);

/**
 * Puts a marker into the text form of a module, one instruction a line, wherever a block begins. A marker leaves the
 * operand stack as it is, so it may stand anywhere. @param base address of the first marker's byte
 */
export function withMarkers(text: string, base: number): { text: string; blocks: Block[] } {
  const lines = text.split("\n");
  const out: string[] = [];
  const blocks: Block[] = [];
  let outer = "";
  /** Where inlined functions end, by indentation. */
  const inlined: { readonly name: string; readonly indent: number }[] = [];
  const near = (from: number, to: number): string =>
    lines
      .slice(from, to)
      .map((line) => line.trim())
      .join("; ");
  const mark = (kind: Block["kind"], at: number): void => {
    out.push(`i32.const ${base + blocks.length}`, "i32.const 1", "i32.store8");
    const functionName = inlined.at(-1)?.name ?? outer;
    blocks.push({
      functionName,
      kind,
      line: at,
      before: kind === "function" ? "" : near(Math.max(0, at - 4), at),
      after: near(at + 1, at + 6),
    });
  };
  for (let at = 0; at < lines.length; at++) {
    const line = lines[at]!;
    const word = line.trim().split(" ")[0]!;
    const indent = line.length - line.trimStart().length;
    if (word === "end" && inlined.at(-1)?.indent === indent) inlined.pop();
    const inlinedName = /^\s*block \$__inlined_func\$(.+?)(?:\$\d+)? ?(?:\(result|$)/.exec(line)?.[1];
    if (inlinedName !== undefined) inlined.push({ name: inlinedName, indent });
    out.push(line);
    if (word === "(func") {
      outer = /\$(\S+)/.exec(line)?.[1] ?? "";
      while (/^\s*\(local /.test(lines[at + 1] ?? "")) out.push(lines[++at]!);
      mark("function", at);
    } else if (KINDS.has(word)) mark(word as Block["kind"], at);
  }
  return { text: out.join("\n"), blocks };
}

/** The text form of the module with names; compiled once, because that takes seconds. */
let compiled: Promise<string> | null = null;

async function compileText(): Promise<string> {
  const scratch = mkdtempSync(join(tmpdir(), "ilb-coverage-"));
  try {
    const textPath = join(scratch, "engine.wat");
    await compileEngine(["-O1", "--debug"], join(scratch, "engine.wasm"), textPath);
    return await Bun.file(textPath).text();
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** Makes a module of a text form. Throws when it is not valid. */
function assemble(text: string): Uint8Array<ArrayBuffer> {
  const module = binaryen.parseText(text);
  try {
    module.setFeatures(binaryen.Features.All);
    if (!module.validate()) throw new Error("the changed module is not valid");
    return Uint8Array.from(module.emitBinary());
  } finally {
    module.dispose();
  }
}

/** The engine with one decision turned round: the `nth` (from 0) branch of a function goes the other way. Throws when there is none. */
export async function engineWithWrongBranch(functionName: string, nth: number): Promise<Uint8Array<ArrayBuffer>> {
  compiled ??= compileText();
  const text = await compiled;
  const branches = withMarkers(text, 0).blocks.filter(
    (block) => block.kind === "if" && block.functionName === functionName,
  );
  const branch = branches[nth];
  if (branch === undefined) throw new Error(`${functionName} has ${branches.length} branches, not ${nth + 1}`);
  return assemble(text.split("\n").toSpliced(branch.line, 0, "i32.eqz").join("\n"));
}

/** The engine with fewer proxy ports than it has, so that they run out. @param span in place of NAT_PORT_FIRST and _LAST */
export async function engineWithPorts({ first, last }: PortSpan): Promise<Uint8Array<ArrayBuffer>> {
  const scratch = mkdtempSync(join(tmpdir(), "ilb-ports-"));
  const limit = (source: string, name: string, value: number): string => {
    const changed = source.replace(new RegExp(`(?<=export const ${name}\\b[^=]*= )\\d+`), String(value));
    if (changed === source) throw new Error(`assembly/gen/layout.ts says nothing of ${name}`);
    return changed;
  };
  try {
    const modulePath = join(scratch, "engine.wasm");
    await compileEngine(["-O3"], modulePath, join(scratch, "engine.wat"), (path, source) =>
      path.endsWith("gen/layout.ts") ? limit(limit(source, "NAT_PORT_FIRST", first), "NAT_PORT_LAST", last) : source,
    );
    return new Uint8Array(await Bun.file(modulePath).arrayBuffer());
  } finally {
    rmSync(scratch, { recursive: true });
  }
}

/** Compiles assembly/ with markers. @param base where every memory has a free byte for each block */
export async function instrumentedEngine(base: number): Promise<Instrumented> {
  compiled ??= compileText();
  const { text, blocks } = withMarkers(await compiled, base);
  return { moduleBytes: assemble(text), blocks };
}
