/** The systemd unit of packaging/: what systemd itself says of it, and that it names what the project makes. */
import { expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { parseRunOptions } from "../../src/daemon-options.ts";

const ROOT = join(import.meta.dir, "../..");
const unit = readFileSync(join(ROOT, "packaging/ilbd.service"), "utf8");
const setting = (key: string): string => new RegExp(`^${key}=(.*)$`, "m").exec(unit)?.[1] ?? "";

test.skipIf(Bun.which("systemd-analyze") === null)("systemd finds nothing wrong with the unit", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ilb-unit-"));
  try {
    // Only the program is another: it need not be installed here.
    const file = join(directory, "ilbd.service");
    writeFileSync(file, unit.replace("/usr/lib/ilb/ilbd", join(ROOT, "bin/ilbd")));
    const child = Bun.spawn(["systemd-analyze", "verify", "--man=no", file], { stdout: "pipe", stderr: "pipe" });
    const said = await Promise.all([
      new Response(child.stdout).text(),
      new Response(child.stderr).text(),
      child.exited,
    ]);
    expect(said).toEqual(["", "", 0]);
  } finally {
    rmSync(directory, { recursive: true });
  }
});

test("the unit starts the daemon where the image has it, with its default state and socket", () => {
  const [program, verb, ...rest] = setting("ExecStart").split(" ");
  expect([program, verb, rest]).toEqual(["/usr/lib/ilb/ilbd", "run", ["$ILBD_OPTIONS"]]);
  expect(readFileSync(join(ROOT, "Dockerfile"), "utf8")).toContain("/usr/lib/ilb/ilbd");
  const options = parseRunOptions([]);
  expect(options).toMatchObject({
    ok: true,
    value: {
      stateDirectory: `/var/lib/${setting("StateDirectory")}`,
      socket: `/run/${setting("RuntimeDirectory")}/ilbd.sock`,
    },
  });
});
