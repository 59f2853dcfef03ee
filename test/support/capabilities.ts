/**
 * What this machine lets tests do. A test that needs more skips itself by name; scripts/test.ts counts it as skipped.
 */
import { closeSync, openSync } from "node:fs";
import { SANDBOX_VARIABLE } from "../../src/lab/sandbox.ts";

function probeNamespaces(): boolean {
  if (process.env[SANDBOX_VARIABLE] === "1") return true;
  if (process.geteuid?.() !== 0) return false;
  // `bun test FILE` by hand, outside of the sandbox that scripts/test.ts makes.
  return Bun.spawnSync(["unshare", "--net", "true"], { stdout: "ignore", stderr: "ignore" }).exitCode === 0;
}

function probeTun(): boolean {
  try {
    closeSync(openSync("/dev/net/tun", "r+"));
    return true;
  } catch {
    return false;
  }
}

/** Network namespaces can be made. */
export const hasNamespaces = probeNamespaces();

/** TUN and TAP devices can be made. */
export const hasTun = hasNamespaces && probeTun();

/** Runs at full counts: `npm run test:full`. */
export const isFullRun = process.env.ILB_TEST_FULL === "1";

/** Runs test/full/ at reduced counts, as `.ci/run` does. */
export const isShortRun = process.env.ILB_TEST_SHORT === "1";

/**
 * Whether `argv` (setpriv with another user) may run this checkout: below /root, or in a user namespace with one user,
 * nobody else may.
 */
export function reachesCheckout(argv: readonly string[]): boolean {
  const main = new URL("../../src/main.ts", import.meta.url).pathname;
  const probe = [...argv, "sh", "-c", `test -x "${process.execPath}" && test -r "${main}"`];
  return Bun.spawnSync(probe, { cwd: "/", stderr: "ignore" }).exitCode === 0;
}

/** This program is installed. */
export function hasProgram(name: string): boolean {
  return Bun.which(name) !== null;
}
