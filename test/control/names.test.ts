import { expect, test } from "bun:test";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findService, systemNames } from "../../src/control/names.ts";
import { v4 } from "./configs.ts";

test("ILB-234 without a services file the built-in names hold", async () => {
  const names = systemNames("/nonexistent/services");
  const ports = await Promise.all(
    ["telnet", "dns", "ftp", "ftp-data", "http", "www", "https", "nosuch"].map((n) => names.resolveService(n, "tcp")),
  );
  expect(ports).toEqual([23, 53, 21, 20, 80, 80, 443, null]);
});

test("ILB-236 an entry for the rule's protocol comes first, then any", () => {
  const file = "odd 1111/tcp # one\nodd\t2222/udp\tstrange\nonly 3333/udp\n";
  expect(findService(file, "odd", "udp")).toBe(2222);
  expect(findService(file, "odd", "tcp")).toBe(1111);
  expect(findService(file, "strange", "udp")).toBe(2222);
  expect(findService(file, "only", "tcp")).toBe(3333);
  expect(findService(file, "one", "tcp")).toBeNull();
});

test("the services file goes before the built-in list and is read anew", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ilb-names-"));
  const file = join(directory, "services");
  const names = systemNames(file);
  expect(await names.resolveService("http", "tcp")).toBe(80);
  writeFileSync(file, "http 8000/tcp\n");
  expect(await names.resolveService("http", "tcp")).toBe(8000);
  rmSync(directory, { recursive: true });
});

test("a numeric host is its own address, and what does not resolve is null", async () => {
  const names = systemNames();
  expect(await names.resolveHost("192.0.2.20", 4)).toEqual(v4("192.0.2.20"));
  expect(await names.resolveHost("no such host")).toBeNull();
});
