/** Programs of health tests as the native library runs them. */
import { expect, test } from "bun:test";
import { existsSync, mkdtempSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { ProgramRuns } from "../../src/native/probe.ts";
import { isAlive } from "../support/processes.ts";

async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(1);
}

// Whether a descendant was looked for once hung on a look at the program while it was there.
test("a program that comes and goes between two looks leaves no descendant in a session of its own", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ilb-programs-"));
  const numberIn = (name: string): number => {
    try {
      return Number(readFileSync(join(directory, name), "utf8"));
    } catch {
      return 0;
    }
  };
  try {
    const programs = new ProgramRuns(2);
    await until(() => programs.poll() === 0);
    const stray = `setsid sh -c 'echo $$ > ${directory}/stray; exec sleep 1000' &`;
    const record = programs.start(["/bin/sh", "-c", `echo $$ > ${directory}/leader; ${stray} exec sleep 1000`], null);
    await until(() => numberIn("leader") > 0 && numberIn("stray") > 0);
    programs.release(record);
    await until(() => !isAlive(numberIn("leader")));
    await until(() => programs.poll() === 0);
    expect(isAlive(numberIn("stray"))).toBe(false);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("a program that keeps our identity has no capabilities, and can get none", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ilb-programs-"));
  try {
    const programs = new ProgramRuns(2);
    const file = join(directory, "status");
    const record = programs.start(
      ["/bin/sh", "-c", `cat /proc/self/status > ${file}.new; mv ${file}.new ${file}`],
      null,
    );
    await until(() => existsSync(file));
    programs.release(record);
    await until(() => programs.poll() === 0);
    const status = readFileSync(file, "utf8");
    expect(status).toMatch(/^NoNewPrivs:\t1$/m);
    for (const set of ["CapInh", "CapPrm", "CapEff", "CapAmb"])
      expect(status).toContain(`${set}:\t${"0".repeat(16)}\n`);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
