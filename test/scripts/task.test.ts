/**
 * The bootstrap script on machines that lack this or that. Every program it might call is a stand-in in a directory of
 * its own, which is the whole PATH; each call is written down.
 */
import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

const ROOT = join(import.meta.dir, "../..");
const VERSION = /"packageManager": "bun@([^"]+)"/.exec(readFileSync(join(ROOT, "package.json"), "utf8"))?.[1] ?? "";

/** Real programs that every Debian has. */
const ESSENTIAL =
  "sh sed uname dirname mkdir rm mv ln cat cksum find sort xargs flock readlink tail tr env grep ls comm chmod".split(
    " ",
  );

let checkout: string;
let bin: string;

/** Puts a stand-in into PATH: a shell script that writes its call down first. */
function stub(name: string, script = ""): void {
  const path = join(bin, name);
  rmSync(path, { force: true });
  writeFileSync(path, `#!/bin/sh\necho "${name} $*" >> ${join(checkout, "calls")}\n${script}\n`);
  chmodSync(path, 0o755);
}

function calls(): string[] {
  const path = join(checkout, "calls");
  return existsSync(path) ? readFileSync(path, "utf8").trim().split("\n") : [];
}

function task(...words: string[]) {
  const run = Bun.spawnSync([join(bin, "sh"), "scripts/task", ...words], {
    cwd: checkout,
    env: { HOME: checkout, PATH: bin },
    stdout: "pipe",
    stderr: "pipe",
  });
  return { exitCode: run.exitCode, stdout: run.stdout.toString(), stderr: run.stderr.toString() };
}

/** A Bun of some version that does nothing. */
function bunScript(version: string): string {
  return `[ "$1" = --version ] && echo ${version}; exit 0`;
}

beforeEach(() => {
  checkout = mkdtempSync(join(tmpdir(), "ilb-task-"));
  bin = join(checkout, "path");
  mkdirSync(join(checkout, "scripts"));
  mkdirSync(bin);
  for (const file of ["scripts/task", "package.json", "bun.lock"]) cpSync(join(ROOT, file), join(checkout, file));
  for (const name of ESSENTIAL) symlinkSync(Bun.which(name) ?? "", join(bin, name));
  // The script adds the system's own directories to PATH; here they would hide what is missing.
  const script = readFileSync(join(checkout, "scripts/task"), "utf8");
  expect(script).toContain(":/usr/local/sbin:/usr/sbin:/sbin");
  writeFileSync(join(checkout, "scripts/task"), script.replace(":/usr/local/sbin:/usr/sbin:/sbin", ""));
  stub("id", "echo 0");
  stub("dpkg-query", "cat installed 2>/dev/null");
  for (const name of ["gcc", "make", "ip", "nft"]) stub(name);
  stub("bun", bunScript(VERSION));
});

afterEach(() => rmSync(checkout, { recursive: true, force: true }));

describe("Bun", () => {
  test("the one in PATH serves when it has the pinned version", () => {
    expect(task("lint").exitCode).toBe(0);
    expect(calls()).toContain("bun install --frozen-lockfile");
    expect(existsSync(join(checkout, `.tools/bun-${VERSION}`))).toBe(false);
  });

  test("a newer one of the same line serves as well", () => {
    const [major, minor, patch] = VERSION.split(".").map(Number);
    stub("bun", bunScript(`${major}.${minor}.${(patch ?? 0) + 1}`));
    expect(task("lint").exitCode).toBe(0);
    expect(existsSync(join(checkout, `.tools/bun-${VERSION}`))).toBe(false);
  });

  const install = `mkdir -p node_modules/@oven/bun-linux-x64/bin node_modules/@oven/bun-linux-aarch64/bin
    for at in node_modules/@oven/*/bin; do printf '#!/bin/sh\\n${bunScript(VERSION)}\\n' > $at/bun; chmod 755 $at/bun; done`;

  test("without one, or with another version, the pinned one comes by npm, without install scripts", () => {
    stub("bun", bunScript("0.1.0"));
    stub("npm", `case "$1" in install) ${install} ;; esac`);
    const done = task("lint");
    expect(done.stderr).toContain(`installing Bun ${VERSION} into .tools with npm`);
    expect(done.exitCode).toBe(0);
    const call = calls().find((line) => line.startsWith("npm install"));
    expect(call).toContain("--ignore-scripts");
    expect(call).toMatch(new RegExp(`@oven/bun-linux-[a-z0-9]+@${VERSION}$`));
  });

  test("on a machine with another Bun and no npm it comes by that Bun", () => {
    stub("bun", `[ "$1" = add ] && { ${install}; exit 0; }\n${bunScript("0.1.0")}`);
    const done = task("lint");
    expect(done.stderr).toContain(`installing Bun ${VERSION} into .tools with Bun 0.1.0`);
    expect(done.exitCode).toBe(0);
  });

  test("offline, the failure names what is needed, and the next run tries again", () => {
    rmSync(join(bin, "bun"));
    stub("npm", "echo 'network is unreachable' >&2; exit 1");
    const done = task("lint");
    expect(done.exitCode).toBe(1);
    expect(done.stderr).toContain("network is unreachable");
    expect(done.stderr).toContain("the first run needs the network");
    stub("npm", install);
    expect(task("lint").exitCode).toBe(0);
  });

  test("with neither npm nor Bun it says so", () => {
    rmSync(join(bin, "bun"));
    expect(task("lint")).toMatchObject({ exitCode: 1, stderr: expect.stringContaining("neither npm nor Bun") });
  });
});

describe("packages", () => {
  test("are installed once, and again only when the lockfile changes", () => {
    task("lint");
    mkdirSync(join(checkout, "node_modules"), { recursive: true });
    const installs = () => calls().filter((line) => line.startsWith("bun install")).length;
    task("lint");
    expect(installs()).toBe(1);
    writeFileSync(join(checkout, "bun.lock"), "changed");
    task("lint");
    expect(installs()).toBe(2);
  });

  test("a failed installation is told with its reason and not remembered", () => {
    stub("bun", `[ "$1" = install ] && { echo 'lockfile had changes' >&2; exit 1; }\n${bunScript(VERSION)}`);
    mkdirSync(join(checkout, "node_modules"));
    const failed = task("lint");
    expect(failed.exitCode).toBe(1);
    expect(failed.stderr).toContain("lockfile had changes");
    stub("bun", bunScript(VERSION));
    task("lint");
    expect(calls().filter((line) => line.startsWith("bun install"))).toHaveLength(2);
  });
});

describe("Debian packages", () => {
  test("without root every missing one is named, with the line that installs it", () => {
    stub("id", "echo 1000");
    stub("apt-get");
    rmSync(join(bin, "nft"));
    rmSync(join(bin, "ip"));
    const done = task("build");
    expect(done.exitCode).toBe(1);
    expect(done.stderr).toContain("missing Debian packages: iproute2 nftables");
    expect(done.stderr).toContain("sudo apt-get install -y --no-install-recommends iproute2 nftables");
    expect(calls().filter((line) => line.startsWith("apt-get"))).toEqual([]);
  });

  test("as root they are installed and all that is new is listed; package lists are read only when needed", () => {
    rmSync(join(bin, "nft"));
    const nft = join(bin, "nft");
    stub(
      "apt-get",
      `case "$*" in *install*) echo nftables > installed; echo libnftables1 >> installed; : > ${nft}; chmod 755 ${nft} ;; esac`,
    );
    const done = task("build");
    expect(done.stderr).toContain("installing Debian packages: nftables");
    expect(done.stderr).toContain("now installed on this machine: libnftables1 nftables");
    expect(calls().filter((line) => line.includes(" update"))).toEqual([]);
    expect(calls().filter((line) => line.startsWith("apt-get"))).toHaveLength(1);
  });

  test("with empty package lists they are read first, then it goes on", () => {
    rmSync(join(bin, "nft"));
    const nft = join(bin, "nft");
    stub(
      "apt-get",
      `case "$*" in *update*) : > lists ;; *install*) [ -f lists ] || exit 100; : > ${nft}; chmod 755 ${nft} ;; esac`,
    );
    expect(task("build").stderr).toContain("now installed on this machine");
    expect(calls().filter((line) => line.startsWith("apt-get"))).toHaveLength(3);
  });

  test("when that fails, the reason and the log are named", () => {
    rmSync(join(bin, "nft"));
    stub("apt-get", "echo 'cannot resolve host' >&2; exit 100");
    const done = task("build");
    expect(done.exitCode).toBe(1);
    expect(done.stderr).toContain("cannot resolve host");
    expect(done.stderr).toContain("the first run needs the network");
  });

  test("test:full goes on without what only the image needs, and asks for it only when it is going to build one", () => {
    for (const name of ["tcpdump", "python3", "ethtool", "ping", "sysctl", "curl", "socat", "iperf3"]) stub(name);
    stub("apt-get", "echo 'broken package' >&2; exit 100");
    const whole = task("test:full");
    expect(whole.stderr).toContain("going on without: buildah mmdebstrap");
    expect(calls().filter((line) => line.startsWith("bun scripts/test.ts --full"))).toHaveLength(1);
    const asked = calls().filter((line) => line.startsWith("apt-get")).length;
    expect(asked).toBeGreaterThan(0);
    expect(task("test:full", "--short").stderr).not.toContain("buildah");
    expect(calls().filter((line) => line.startsWith("bun scripts/test.ts --full"))).toHaveLength(2);
    expect(calls().filter((line) => line.startsWith("apt-get"))).toHaveLength(asked);
  });

  test("on another system the names are given", () => {
    rmSync(join(bin, "nft"));
    const done = task("build");
    expect(done.exitCode).toBe(1);
    expect(done.stderr).toContain("missing on this machine: nftables");
  });
});

describe("what is asked for", () => {
  test.each([
    [[], "usage: scripts/task"],
    [["dance"], "unknown task 'dance'"],
    [["build", "--fast"], "knows one option, --release"],
  ])("%j is refused with one line", (words, text) => {
    const done = task(...words);
    expect(done.exitCode).toBe(1);
    expect(done.stderr).toContain(text);
  });

  test("a worktree that shares .tools with another one is built though the other one has built the same", () => {
    mkdirSync(join(checkout, "native"));
    writeFileSync(join(checkout, "native/Makefile"), "");
    stub("make", "mkdir -p build; : > build/libilb.so");
    const worktree = join(checkout, "worktree");
    for (const path of ["scripts", "native", "package.json", "bun.lock"]) {
      cpSync(join(checkout, path), join(worktree, path), { recursive: true });
    }
    mkdirSync(join(worktree, "build"));
    writeFileSync(join(worktree, "build/libilb.so"), "older than its sources");
    expect(task("build").exitCode).toBe(0);
    for (const path of [".tools", "node_modules"]) symlinkSync(join(checkout, path), join(worktree, path));
    const other = Bun.spawnSync([join(bin, "sh"), "scripts/task", "build"], {
      cwd: worktree,
      env: { HOME: checkout, PATH: bin },
    });
    expect(other.exitCode).toBe(0);
    expect(readFileSync(join(worktree, "build/libilb.so"), "utf8")).toBe("");
  });

  test("two runs at once take turns, and the second finds everything done", async () => {
    const start = () =>
      Bun.spawn([join(bin, "sh"), "scripts/task", "lint"], {
        cwd: checkout,
        env: { HOME: checkout, PATH: `${bin}:/bin` },
        stderr: "ignore",
      });
    stub(
      "bun",
      `[ "$1" = --version ] && { echo ${VERSION}; exit; }\n[ "$1" = install ] && { /bin/sleep 0.3; mkdir -p node_modules; }\nexit 0`,
    );
    const both = [start(), start()];
    expect(await Promise.all(both.map((run) => run.exited))).toEqual([0, 0]);
    expect(calls().filter((line) => line.startsWith("bun install"))).toHaveLength(1);
  });
});
