import { afterAll, beforeAll, expect, test } from "bun:test";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { externalTest, remarksOnTest } from "../../src/control/external-test.ts";

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

test("a test that nobody may not execute is warned about when the daemon is root", () => {
  expect(remarksOnTest(at("private"), true)).toEqual([expect.stringContaining("runs as nobody")]);
  expect(remarksOnTest(at("private"), false)).toEqual([]);
});

test("built-in tests and vanished files have no remarks", () => {
  for (const text of ["tcp", "PING", at("nosuch")]) expect(remarksOnTest(text, true)).toEqual([]);
});
