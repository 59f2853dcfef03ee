/** `ilbd demo --once` as a user runs it. */
import { describe, expect, test } from "bun:test";
import { locatePrograms } from "../../src/lab/programs.ts";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import { DEVICES, TEST_TIMEOUT_MS, TYPES } from "../support/e2e.ts";

async function demo(...words: string[]) {
  const run = Bun.spawn([...locatePrograms().ilbd, "demo", ...words], {
    stdin: "ignore",
    stdout: "pipe",
    stderr: "pipe",
  });
  const [stdout, stderr, exitCode] = await Promise.all([
    new Response(run.stdout).text(),
    new Response(run.stderr).text(),
    run.exited,
  ]);
  return { stdout, stderr, exitCode };
}

describe("ilbd demo --once", () => {
  const cases = DEVICES.flatMap((io) =>
    TYPES.map((type) => ({ io, type, isPossible: io === "tun" ? hasTun : hasNamespaces })),
  );
  for (const { io, type, isPossible } of cases) {
    test.skipIf(!isPossible)(
      `${type} over ${io}: every request is answered, every server serves, a file of 100 MB arrives, and it says so`,
      async () => {
        const { stdout, stderr, exitCode } = await demo("--once", "--requests", "90", "--type", type, "--io", io);
        expect({ exitCode, stderr }).toEqual({ exitCode: 0, stderr: "" });
        expect(stdout).toContain("90 requests answered, 0 failed");
        expect(stdout).toContain("a file of 100 MB arrived byte for byte");
        for (const id of ["_web.0", "_web.1", "_web.2"]) expect(stdout).toMatch(new RegExp(`^${id} .*%$`, "m"));
        expect(stdout).toContain("$ ilbadm create-rule");
        expect(stdout).toContain("PKT_P");
      },
      TEST_TIMEOUT_MS,
    );
  }

  test.each([
    ["an unknown option", ["--twice"]],
    ["a type that does not exist", ["--type", "TRIANGLE"]],
    ["an option without its value", ["--requests"]],
    ["a number out of range", ["--requests", "0"]],
    ["an address that is none", ["--listen", "9080"]],
  ])("%s is refused in one line", async (_name, words) => {
    const { stderr, exitCode } = await demo("--once", ...words);
    expect(exitCode).toBe(1);
    expect(stderr.trim().split("\n")).toHaveLength(1);
    expect(stderr).toContain(words.at(-1) ?? "");
  });
});
