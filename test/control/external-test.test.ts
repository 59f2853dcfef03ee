import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { chmodSync, chownSync, mkdirSync, mkdtempSync, rmSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { externalTest, remarksOnTest, TEST_USER, userOfTest } from "../../src/control/external-test.ts";

let directory: string;
const at = (name: string): string => join(directory, name);

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "ilb-test-"));
  chmodSync(directory, 0o755);
  for (const [name, mode] of [
    ["good", 0o755],
    ["shared", 0o757],
    ["private", 0o700],
    ["plain", 0o644],
  ] as const) {
    writeFileSync(at(name), "#!/bin/sh\n");
    chmodSync(at(name), mode);
  }
  mkdirSync(at("open"));
  writeFileSync(at("open/good"), "#!/bin/sh\n", { mode: 0o755 });
  chmodSync(at("open"), 0o777);
});
afterAll(() => rmSync(directory, { recursive: true }));

test("ILB-202 a directory and a file that is not executable are unusable, a path without file is missing", () => {
  expect(externalTest(at("good"))).toBe("executable");
  expect(externalTest(directory)).toBe("unusable");
  expect(externalTest(at("plain"))).toBe("unusable");
  expect(externalTest(at("nosuch"))).toBe("missing");
  expect(externalTest(at("good/below"))).toBe("missing");
});

test("a test that others can change, or replace in its folder, is warned about", () => {
  expect(remarksOnTest(at("good"), true)).toEqual([]);
  expect(remarksOnTest(at("shared"), true)).toEqual([
    expect.stringContaining(`${at("shared")} can be written by others`),
  ]);
  expect(remarksOnTest(at("open/good"), true)).toEqual([
    expect.stringContaining(`${at("open")} can be written by others`),
  ]);
});

/** In a user namespace the folders above belong to somebody without a name. */
const isRoot = process.geteuid?.() === 0 && statSync(tmpdir()).uid === 0;

describe.skipIf(!isRoot)("a daemon that is root", () => {
  beforeAll(() => {
    for (const name of ["alien", "shared-private", "locked/by-group"]) {
      mkdirSync(join(at(name), ".."), { recursive: true });
      writeFileSync(at(name), "#!/bin/sh\n");
      chmodSync(at(name), 0o700);
    }
    chownSync(at("alien"), 59_000, 59_000);
    chmodSync(at("shared-private"), 0o720);
    chmodSync(at("locked"), 0o700);
    symlinkSync(at("private"), at("link"));
    symlinkSync(at("locked"), at("linked"));
  });

  test("has nobody run what nobody may execute", () => {
    expect(userOfTest(at("good"), true)).toBe(TEST_USER);
    expect(userOfTest(at("open/good"), true)).toBe(TEST_USER);
    expect(userOfTest(at("good"), false)).toBeNull();
  });

  test("runs itself what only root may execute and change, as in a folder of its own", () => {
    expect(userOfTest(at("private"), true)).toBeNull();
    expect(userOfTest(at("locked/by-group"), true)).toBeNull();
    expect(remarksOnTest(at("private"), true)).toEqual([]);
  });

  test("never runs what somebody else could change, or turn a link to", () => {
    chmodSync(directory, 0o777);
    expect(userOfTest(at("private"), true)).toBe(TEST_USER);
    chmodSync(directory, 0o755);
    for (const name of ["alien", "shared-private", "link", "linked/by-group", "nosuch"])
      expect([name, userOfTest(at(name), true)]).toEqual([name, TEST_USER]);
  });

  test("warns of a test that nobody may not execute and that it will not run itself", () => {
    expect(remarksOnTest(at("alien"), true)).toEqual([expect.stringContaining("runs as nobody")]);
    expect(remarksOnTest(at("alien"), false)).toEqual([]);
  });

  test("lets only root name what it would run itself", () => {
    expect(externalTest(at("private"), false, true)).toBe("forbidden");
    expect(externalTest(at("private"), true, true)).toBe("executable");
    expect(externalTest(at("good"), false, true)).toBe("executable");
    expect(externalTest(at("private"), false, false)).toBe("executable");
  });
});

test("built-in tests and vanished files have no remarks", () => {
  for (const text of ["tcp", "PING", at("nosuch")]) expect(remarksOnTest(text, true)).toEqual([]);
});
