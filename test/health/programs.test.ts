/** External tests as real programs: what they get, what decides, and that nothing of them is left. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { systemClock } from "../../src/control/clock.ts";
import type { Outcome } from "../../src/health/check.ts";
import type { CheckPlan } from "../../src/health/plan.ts";
import { SystemProber } from "../../src/health/system-prober.ts";
import { SILENT } from "../control/fakes.ts";
import { ip } from "../support/addresses.ts";
import { isAlive } from "../support/processes.ts";
import { NO_WAYS } from "./script.ts";

let directory: string;
let prober: SystemProber;

beforeAll(() => {
  directory = mkdtempSync(join(tmpdir(), "ilb-health-"));
  chmodSync(directory, 0o777); // tests run as nobody and leave notes here
});
afterAll(() => rmSync(directory, { recursive: true }));
/** Milliseconds by which the engine clock is ahead of the machine's: tests run out of time when a test here says so. */
let aheadMs = 0;
const clock = { ...systemClock(), nowMs: () => Math.floor(performance.now()) + aheadMs };

beforeEach(() => {
  prober = new SystemProber(clock, SILENT, NO_WAYS);
});
afterEach(() => prober.close());

let serial = 0;
function program(body: string, mode = 0o755): string {
  const path = join(directory, `test${serial++}`);
  writeFileSync(path, `#!/bin/sh\n${body}\n`, { mode });
  return path;
}

function planOf(path: string, timeoutSeconds = 20): CheckPlan {
  return {
    ruleId: 1,
    serverId: 2,
    check: {
      id: 3,
      name: "h1",
      test: { kind: "external", text: path },
      timeoutSeconds,
      count: 1,
      intervalSeconds: 60,
      defaultPing: false,
    },
    type: "HALF-NAT",
    protocol: "tcp",
    vip: ip("198.51.100.10"),
    server: ip("192.0.2.10"),
    ports: { min: 80, max: 80 },
    port: "ANY",
    isEnabled: true,
  };
}

const run = (path: string, timeoutSeconds?: number): Promise<Outcome> =>
  new Promise((resolve) => {
    prober.start(planOf(path, timeoutSeconds), { kind: "test", port: 80 }, resolve);
  });
const outcomes = (...bodies: string[]): Promise<Outcome[]> => Promise.all(bodies.map((body) => run(program(body))));

/** Waits for a condition of the outside world; the test's own time limit ends it. */
async function until(condition: () => boolean): Promise<void> {
  while (!condition()) await Bun.sleep(5);
}
const note = (name: string): string => {
  try {
    return readFileSync(join(directory, name), "utf8");
  } catch {
    return "";
  }
};

describe("result", () => {
  test("ILB-212 a number on standard output decides, whatever the exit status", async () => {
    expect(await outcomes("echo -1; exit 0", "echo 250; exit 3", "echo 0; kill -9 $$")).toEqual([
      { kind: "failure", reason: "the test printed -1" },
      { kind: "success", rttMicroseconds: 250 },
      { kind: "success", rttMicroseconds: 0 },
    ]);
  });

  test("ILB-214 without a number the exit status decides; standard error says nothing", async () => {
    expect(await outcomes("echo OK", "echo OK; exit 2", "echo OK; kill -TERM $$", "echo -1 >&2", "exit 1")).toEqual([
      { kind: "success", rttMicroseconds: 0 },
      { kind: "failure", reason: "the test exited with 2" },
      { kind: "failure", reason: "the test was killed by signal 15" },
      { kind: "success", rttMicroseconds: 0 },
      { kind: "failure", reason: "the test exited with 1" },
    ]);
  });

  test("ILB-285 a test that something kills before it has printed a number has failed", async () => {
    const done = run(program(`echo $$ > ${directory}/victim; exec sleep 1000`));
    await until(() => note("victim").endsWith("\n"));
    process.kill(Number(note("victim")), "SIGKILL");
    expect(await done).toEqual({ kind: "failure", reason: "the test was killed by signal 9" });
  });

  test("F.3 a number decides at once, while the test runs on", async () => {
    expect(await run(program("echo 17; exec sleep 1000"), 1000)).toEqual({ kind: "success", rttMicroseconds: 17 });
  });

  test("a path that cannot be executed is no failure of the server", async () => {
    expect(await run(join(directory, "nosuch"))).toMatchObject({ kind: "not-started" });
    expect(await run(program("echo 0", 0o644))).toMatchObject({ kind: "not-started" });
  });
});

describe("what it gets", () => {
  test("ILB-211 six arguments, no environment, no descriptors of the daemon, directory /, a session of its own", async () => {
    const path = program(
      `{ echo $#; for word in "$0" "$@"; do echo "$word"; done; pwd; ls -l /proc/$$/fd | grep -c -E 'socket|anon_inode|memfd|/dev/net'; echo $$; cut -d' ' -f5,6 /proc/$$/stat; } > ${directory}/got; echo 0`,
    );
    await run(path);
    const lines = note("got").trim().split("\n");
    expect(lines.slice(0, 9)).toEqual(["6", path, "198.51.100.10", "192.0.2.10", "TCP", "HALF_NAT", "80", "20", "/"]);
    const [descriptors, pid, session] = lines.slice(-3);
    expect(descriptors).toBe("0");
    expect(session).toBe(`${pid} ${pid}`);
  });

  test("it has no environment", async () => {
    await run(program(`cat /proc/$$/environ | wc -c > ${directory}/environment; echo 0`));
    expect(note("environment").trim()).toBe("0");
  });

  test("it has no capabilities and can get none", async () => {
    await run(
      program(`grep -E "^(Cap(Prm|Eff|Amb)|NoNewPrivs|Uid|Groups)" /proc/self/status > ${directory}/rights; echo 0`),
    );
    const rights = note("rights");
    expect(rights).toMatch(/^CapPrm:\s+0+$/m);
    expect(rights).toMatch(/^CapEff:\s+0+$/m);
    expect(rights).toMatch(/^CapAmb:\s+0+$/m);
    expect(rights).toMatch(/^NoNewPrivs:\s+1$/m);
  });
});

describe("containment", () => {
  const TIMEOUT_SECONDS = 1000;
  const timeIsOver = (): void => {
    aheadMs += 1000 * TIMEOUT_SECONDS;
  };

  test("ILB-213 a test that hangs, ignores SIGTERM and has children is killed with them at hc-timeout", async () => {
    const path = program(
      `trap "" TERM HUP INT; sleep 1000 & echo $! > ${directory}/child; echo $$ > ${directory}/parent; while :; do sleep 1000; done`,
    );
    const done = run(path, TIMEOUT_SECONDS);
    await until(() => note("parent").endsWith("\n"));
    const [child, parent] = [Number(note("child")), Number(note("parent"))];
    expect([child, parent].map(isAlive)).toEqual([true, true]);
    timeIsOver();
    expect(await done).toEqual({ kind: "failure", reason: "timeout after 1000 s" });
    await until(() => !isAlive(child) && !isAlive(parent));
  });

  test("children that outlive a test go with it", async () => {
    await run(program(`sleep 1000 & echo $! > ${directory}/orphan; echo 0`));
    await until(() => !isAlive(Number(note("orphan"))));
  });

  test("descendants that leave the session of a test and its process group die with it", async () => {
    const hidden = (name: string) => `setsid sh -c 'echo $$ > ${directory}/${name}; exec sleep 1000'`;
    // Below the test, below a shell in a session of its own, and without a parent while the test still runs. The last one
    // may be found and killed at once, so its parent notes it.
    const done = run(
      program(
        `${hidden("below")} & setsid sh -c "${hidden("deep").replaceAll("$", "\\$")} & wait" &
         (setsid sleep 1000 & echo $! > ${directory}/lost)
         exec sleep 1000`,
      ),
      TIMEOUT_SECONDS,
    );
    const names = ["below", "deep", "lost"];
    await until(() => names.every((name) => note(name).endsWith("\n")));
    const pids = names.map((name) => Number(note(name)));
    expect(pids.slice(0, 2).map(isAlive)).toEqual([true, true]);
    timeIsOver();
    await done;
    await until(() => pids.every((pid) => !isAlive(pid)));
  });

  test("when the daemon ends nobody is left, in whatever session", async () => {
    const own = new SystemProber(systemClock(), SILENT, NO_WAYS);
    own.start(
      planOf(program(`setsid sh -c 'echo $$ > ${directory}/last; exec sleep 1000' & exec sleep 1000`)),
      { kind: "test", port: 80 },
      () => undefined,
    );
    await until(() => note("last").endsWith("\n"));
    own.close();
    await until(() => !isAlive(Number(note("last"))));
  });

  test("children of the daemon that are no tests are left alone, in whatever session", async () => {
    const other = Bun.spawn(["setsid", "sleep", "1000"]);
    const detached = Bun.spawn(["sleep", "1000"], { detached: true });
    await run(program(`setsid sleep 1000 & echo $! > ${directory}/mine; echo 0; exec sleep 1000`), TIMEOUT_SECONDS);
    timeIsOver();
    await until(() => !isAlive(Number(note("mine"))));
    await run(program("exit 0"));
    expect([other, detached].map(({ pid }) => isAlive(pid))).toEqual([true, true]);
    for (const child of [other, detached]) child.kill("SIGKILL");
    await Promise.all([other.exited, detached.exited]);
  });

  test("a test that prints megabytes is read and ends", async () => {
    expect(await run(program("head -c 1000000 /dev/zero | tr '\\0' x; exit 4"))).toEqual({
      kind: "failure",
      reason: "the test exited with 4",
    });
  });

  test("100 tests that hang keep no other waiting, and go when they are cancelled", async () => {
    const path = program(`echo $$ >> ${directory}/hanging; exec sleep 1000`);
    const cancels = Array.from({ length: 100 }, () =>
      prober.start(planOf(path, 1000), { kind: "test", port: 80 }, () => {
        throw new Error("a hanging test has no outcome");
      }),
    );
    await until(() => note("hanging").split("\n").length === 101);
    expect(await run(program("echo 5"))).toEqual({ kind: "success", rttMicroseconds: 5 });
    for (const cancel of cancels) cancel();
    const pids = note("hanging").trim().split("\n").map(Number);
    await until(() => pids.every((pid) => !isAlive(pid)));
  });
});
