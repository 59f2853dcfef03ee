/**
 * How to start the project's programs from wherever this code runs: a checkout (source or bundle) or a released
 * executable, which carries the laboratory's own programs inside and starts them as roles of `ilbd demo`.
 */
import { existsSync } from "node:fs";
import { dirname, join } from "node:path";

export type HelperName = "server" | "client";

export interface Programs {
  readonly ilbd: readonly string[];
  readonly ilbadm: readonly string[];
  /** A program of the laboratory. */
  helper(name: HelperName): readonly string[];
}

/** @returns commands by absolute path. @throws when neither a checkout nor a release is around. */
export function locatePrograms(): Programs {
  // Inside an executable made by `bun build --compile` modules live in a virtual directory.
  if (Bun.main.startsWith("/$bunfs/")) {
    const self = process.execPath;
    return {
      ilbd: [self],
      ilbadm: [join(dirname(self), "ilbadm")],
      helper: (name) => [self, "demo", "--role", name],
    };
  }
  for (const root of [join(import.meta.dir, "../.."), join(import.meta.dir, "..")]) {
    if (!existsSync(join(root, "src/lab/server-main.ts"))) continue;
    return {
      ilbd: [join(root, "bin/ilbd")],
      ilbadm: [join(root, "bin/ilbadm")],
      helper: (name) => [process.execPath, join(root, `src/lab/${name}-main.ts`)],
    };
  }
  throw new Error(`the laboratory's programs are not beside ${import.meta.dir}`);
}
