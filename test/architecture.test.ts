/**
 * Who may import whom. Import lines are read as text, because a scanner that leaves out type-only imports would not
 * see half of them. docs/architecture.md draws the same rules.
 */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { dirname, join, relative } from "node:path";

const ROOT = join(import.meta.dir, "..");

/**
 * For every room under src/, what it may import beside itself: rooms, or single files of a room. A room that only
 * needs another's interface names the file that holds it.
 */
const MAY_IMPORT: Readonly<Record<string, readonly string[]>> = {
  gen: [],
  model: [],
  // The port catalogue of data/ and what follows from it, pure.
  netbackup: ["model"],
  command: ["model", "netbackup", "engine/engine.ts", "engine/explanation.ts"],
  engine: ["gen", "model"],
  native: ["gen", "model"],
  device: ["gen", "model", "native", "engine/engine.ts"],
  kernel: ["gen", "model", "native", "engine/engine.ts"],
  worker: ["gen", "model", "engine", "device", "native"],
  // Reasons and verdicts have their names in gen.
  control: [
    "gen",
    "model",
    "netbackup",
    "command",
    "engine/engine.ts",
    "engine/explain.ts",
    "engine/explanation.ts",
    "engine/policy.ts",
    "device/device.ts",
  ],
  // What is to be checked comes from the configuration, what was found goes to the controller's interface.
  health: ["model", "netbackup", "command", "control", "native", "engine/engine.ts"],
  http: ["gen", "model", "netbackup", "command", "control", "native", "engine/engine.ts"],
  // Types alone: no code of the server or of the layout gets into a program that uses it.
  client: ["gen/api.ts"],
  cli: ["model", "command", "client"],
  // A box without a machine: the daemon's controller, the engine, captures; and what writes for the caller.
  replay: ["gen", "model", "command", "control", "engine", "device", "cli/export-file.ts", "cli/output.ts"],
  lab: [],
  demo: ["lab"],
};

/** Files directly under src/: composition roots, which know every part. Nothing imports them. */
const ROOTS = "(root)";

interface Import {
  /** Path relative to the project, for example "src/control/controller.ts". */
  readonly from: string;
  /** The same for a file of the project, else the bare name of the package. */
  readonly to: string;
  readonly line: number;
  readonly isTypeOnly: boolean;
}

/** Static, re-exporting, side-effect and dynamic imports, and the files that a Worker is started from. */
const IMPORT =
  /(?:^|[;}\n])\s*(?:(import|export)\s+(type\s)?[^;'"`]*?from\s*|import\s+)(["'])([^"']+)\3|\bimport\(\s*(["'])([^"']+)\5\s*\)|new URL\(\s*(["'])(\.[^"']+)\7\s*,\s*import\.meta\.url/g;

function importsIn(path: string, text: string): Import[] {
  return [...text.matchAll(IMPORT)].map((match) => {
    const target = match[4] ?? match[6] ?? match[8] ?? "";
    const to = target.startsWith(".") ? relative(ROOT, join(ROOT, dirname(path), target)) : target;
    const line = text.slice(0, match.index).split("\n").length;
    return { from: path, to, line, isTypeOnly: match[2] !== undefined };
  });
}

function filesUnder(folder: string): string[] {
  return [...new Bun.Glob(`${folder}/**/*.ts`).scanSync({ cwd: ROOT })].sort();
}

function importsUnder(folder: string): Import[] {
  return filesUnder(folder).flatMap((path) => importsIn(path, readFileSync(join(ROOT, path), "utf8")));
}

/** The room of a file under src/. */
function roomOf(path: string): string {
  const parts = path.split("/");
  return parts.length > 2 ? (parts[1] ?? "") : ROOTS;
}

function where(found: Import): string {
  return `${found.from}:${found.line} imports ${found.to}`;
}

/** Why an import inside src/ is not allowed, null when it is. */
function objection(found: Import): string | null {
  const room = roomOf(found.from);
  if (!found.to.includes("/") || !found.to.startsWith("src/")) return null;
  const targetRoom = roomOf(found.to);
  if (targetRoom === room || room === ROOTS) return null;
  if (targetRoom === ROOTS) return `${where(found)}: nothing imports a composition root`;
  const allowed = MAY_IMPORT[room];
  if (allowed === undefined) return `${where(found)}: the room src/${room} has no rule in this test`;
  const file = found.to.slice("src/".length);
  return allowed.some((entry) => entry === targetRoom || entry === file) ? null : where(found);
}

describe("the reader of import lines", () => {
  const read = (text: string) => importsIn("src/control/x.ts", text).map((found) => found.to);

  test.each([
    ["a value import", 'import { a } from "../engine/wasm.ts";', "src/engine/wasm.ts"],
    ["a type import", 'import type { A } from "../engine/wasm.ts";', "src/engine/wasm.ts"],
    ["an import over several lines", 'import {\n  a,\n  b,\n} from "../engine/wasm.ts";', "src/engine/wasm.ts"],
    ["a re-export", 'export * from "../engine/wasm.ts";', "src/engine/wasm.ts"],
    ["a side-effect import", 'import "../engine/wasm.ts";', "src/engine/wasm.ts"],
    ["a dynamic import", 'const x = await import("../engine/wasm.ts");', "src/engine/wasm.ts"],
    ["a worker's file", 'new Worker(new URL("../worker/w.ts", import.meta.url));', "src/worker/w.ts"],
    ["a package", 'import { dlopen } from "bun:ffi";', "bun:ffi"],
  ])("sees %s", (_name, text, to) => {
    expect(read(`${text}\n`)).toEqual([to]);
  });

  test("a forbidden import is objected to, type-only or not", () => {
    const [value, type] = importsIn(
      "src/model/x.ts",
      'import { a } from "../engine/engine.ts";\nimport type { A } from "../engine/engine.ts";\n',
    );
    expect(objection(value!)).toContain("src/model/x.ts:1");
    expect(objection(type!)).toContain("src/model/x.ts:");
  });
});

describe("rooms", () => {
  const inSource = importsUnder("src");

  test("every file under src/ imports only what its room may", () => {
    expect(filesUnder("src").length).toBeGreaterThan(20);
    expect(inSource.map(objection).filter((line) => line !== null)).toEqual([]);
  });

  test("command uses the types of the engine's interface and no code of it", () => {
    const values = inSource.filter(
      (found) => roomOf(found.from) === "command" && found.to.startsWith("src/engine/") && !found.isTypeOnly,
    );
    expect(values.map(where)).toEqual([]);
  });

  test("the program imports neither tests nor scripts nor benchmarks", () => {
    const strays = inSource.filter((found) => /^(test|scripts|bench|layout)\//.test(found.to));
    expect(strays.map(where)).toEqual([]);
  });

  test("assembly/ stands alone", () => {
    const strays = importsUnder("assembly").filter(
      (found) => found.to.includes("/") && !found.to.startsWith("assembly/"),
    );
    expect(strays.map(where)).toEqual([]);
  });

  test("only src/native/library.ts imports bun:ffi", () => {
    const importers = inSource.filter((found) => found.to === "bun:ffi").map((found) => found.from);
    expect(importers.filter((path) => path !== "src/native/library.ts")).toEqual([]);
  });

  test("only the engine, and the worker that runs it, touch WebAssembly", () => {
    const users = filesUnder("src").filter((path) =>
      /\bWebAssembly\.\w/.test(readFileSync(join(ROOT, path), "utf8").replace(/\/\*[\s\S]*?\*\/|\/\/.*$/gm, "")),
    );
    expect(users.filter((path) => !/^src\/(engine|worker)\//.test(path))).toEqual([]);
  });

  test("relative imports name the file with its extension and stay inside the project", () => {
    const strays = [...inSource, ...importsUnder("test"), ...importsUnder("scripts")].filter(
      (found) => found.to.startsWith("../") || (/^(src|test|scripts)\//.test(found.to) && !/\.\w+$/.test(found.to)),
    );
    expect(strays.map(where)).toEqual([]);
  });
});

describe("the repository", () => {
  const tracked = Bun.spawnSync(["git", "ls-files", "-z"], { cwd: ROOT })
    .stdout.toString()
    .split("\0")
    .filter((path) => path !== "");

  test("has one lockfile, and no file names a registry's host", () => {
    const isCheckout = tracked.length > 0;
    if (isCheckout) expect(tracked.filter((path) => /lock(\.json|\.yaml|b)?$/.test(path))).toEqual(["bun.lock"]);
    expect(readFileSync(join(ROOT, "bun.lock"), "utf8")).not.toContain("://");
  });

  test("every script of package.json goes through scripts/task, so that it works on a bare machine", () => {
    const { scripts } = JSON.parse(readFileSync(join(ROOT, "package.json"), "utf8")) as {
      scripts: Record<string, string>;
    };
    for (const name of ["start", "test", "test:full", "build", "bench", "lint", "typecheck", "layout", "fuzz"]) {
      expect(scripts[name]).toBe(`sh scripts/task ${name}`);
    }
  });
});
