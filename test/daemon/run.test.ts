import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { chmodSync, existsSync, mkdirSync, readFileSync, statSync, symlinkSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { dirname, join } from "node:path";
import { Daemon, ILBADM, ILBD, Place, run } from "./daemon.ts";

let place: Place;
let daemons: Daemon[];
const start = async (...options: string[]): Promise<Daemon> => {
  const daemon = await Daemon.start(place, ...options);
  daemons.push(daemon);
  return daemon;
};
/** A start that must be refused. */
const refused = async (...options: string[]): Promise<string> => {
  const done = await run([ILBD, "run", "--io", "none", "--state", place.state, "--socket", place.socket, ...options]);
  expect(done.status).toBe(1);
  expect(done.stdout).toBe("");
  expect(done.stderr).toMatch(/^ilbd: [^\n]+\n$/);
  return done.stderr.slice("ilbd: ".length, -1);
};

beforeEach(() => {
  place = new Place();
  daemons = [];
});
afterEach(async () => {
  for (const daemon of daemons) await daemon.stop("SIGKILL");
  place.remove();
});

const CONFIG = [
  "create-servergroup sg1",
  "add-server -s server=192.0.2.10:80 sg1",
  "add-server -s server=192.0.2.11 sg1",
  "create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10 hc1",
  "create-rule -e -i vip=198.51.100.10,port=80,protocol=tcp -m lbalg=roundrobin,type=HALF-NAT -h hc-name=hc1,hc-port=ANY -t nat-timeout=120 -o servergroup=sg1 r1",
  "",
].join("\n");
const listings = async (): Promise<string[]> =>
  Promise.all(
    ["show-rule -f", "show-servergroup", "show-healthcheck", "show-server", "export-config"].map((w) => place.must(w)),
  );

describe("start and stop", () => {
  test("says ready in one line, and SIGTERM ends it with 0 and no socket left", async () => {
    const daemon = await start();
    expect(daemon.readyLine).toBe(`ilbd ready socket=${place.socket} io=none workers=0`);
    expect(statSync(place.socket).mode & 0o777).toBe(0o666);
    expect(await daemon.stop()).toBe(0);
    expect(existsSync(place.socket)).toBe(false);
  });

  test("SIGINT stops it too, also while somebody follows statistics", async () => {
    const daemon = await start();
    const following = Bun.spawn([ILBADM, "show-statistics", "1"], {
      env: { ...process.env, ILB_SOCKET: place.socket },
      stdout: "pipe",
      stderr: "pipe",
    });
    const reader = following.stdout.getReader();
    expect((await reader.read()).done).toBe(false);
    expect(await daemon.stop("SIGINT")).toBe(0);
    expect(await following.exited).toBe(1);
    expect(await new Response(following.stderr).text()).toBe("ilbadm: read() failed\n");
  });

  test("SIGHUP is ignored", async () => {
    const daemon = await start();
    daemon.child.kill("SIGHUP");
    expect(await place.must("show-rule")).toBe("");
    expect(daemon.child.exitCode).toBeNull();
  });

  test("logs JSON, one object per line, when asked to", async () => {
    const daemon = await start("--log-format", "json");
    await place.ilbadm("show-rule");
    await daemon.stop();
    const records = daemon.logged
      .trim()
      .split("\n")
      .map((line) => JSON.parse(line) as { level: string; message: string });
    expect(records.map((record) => record.message)).toContain("ready");
    expect(new Set(records.map((record) => record.level))).toEqual(new Set(["info"]));
  });
});

describe("what was changed is there after a restart", () => {
  test("ILB-221 ILB-046 ILB-057 ILB-300 every listing prints the same after a clean restart", async () => {
    const first = await start();
    await place.must("import-config", CONFIG);
    await place.must("disable-server _sg1.0");
    const before = await listings();
    await first.stop();
    await start();
    expect(await listings()).toEqual(before);
    expect(before[0]).toContain("PMASK: --");
  });

  test("ILB-227 ILB-221 SIGKILL right after the answer loses nothing", async () => {
    let daemon = await start();
    await place.must("import-config", CONFIG);
    for (let round = 0; round < 5; round++) {
      await place.must(`create-servergroup -s server=192.0.2.${100 + round} kill${round}`);
      await daemon.stop("SIGKILL");
      daemon = await start();
      expect(await place.must("show-servergroup")).toContain(
        `kill${round}: id:_kill${round}.0 192.0.2.${100 + round}\n`,
      );
    }
  });

  test("ILB-109 a full disk gives E-CFG, nothing changes, and the daemon goes on", async () => {
    mkdirSync(place.state);
    // A disk of its own, 128 KiB, in a mount namespace of its own.
    const script = `mount -t tmpfs -o size=192k tmpfs ${place.state} && exec ${ILBD} run --io none --state ${place.state} --socket ${place.socket}`;
    const child = Bun.spawn(["unshare", "-m", "sh", "-c", script], { stdout: "pipe", stderr: "ignore" });
    try {
      await child.stdout.getReader().read();
      await place.must("import-config", CONFIG);
      const before = await listings();
      const lines = Array.from({ length: 1000 }, (_, i) => `add-server -s server=10.0.${i >> 8}.${i & 255} big\n`);
      const failed = await place.ilbadm("import-config -p", `create-servergroup big\n${lines.join("")}`);
      expect(failed).toEqual({
        status: 1,
        stdout: "",
        stderr: expect.stringContaining("a failure occurred while trying to update persistent config. Panic?\n"),
      });
      expect(await listings()).toEqual(before);
      expect((await place.ilbadm("delete-rule r1")).status).toBe(0);
    } finally {
      child.kill("SIGKILL");
      await child.exited;
    }
  });
});

describe("a start that cannot be is refused in one line, and changes nothing", () => {
  test("unknown option, bad values, too many workers", async () => {
    expect(await refused("--frobnicate")).toBe("unknown option --frobnicate; 'ilbd --help' lists them");
    expect(await refused("--io", "xdp")).toBe("--io xdp: one of packet, tun, none is needed");
    expect(await refused("--max-flows=many")).toContain("--max-flows many: a whole number");
    expect(await refused("--max-flows", "0")).toContain("--max-flows 0: a whole number from 1 to 64000000");
    expect(await refused("--spin-us", "1001")).toContain("--spin-us 1001: a whole number from 0 to 1000");
    expect(await refused("--nice", "1")).toBe("--nice 1: a whole number from -20 to 0 is needed");
    for (const count of ["0", "8", "two"])
      expect(await refused("--workers", count)).toBe(`--workers ${count}: a whole number from 1 to 7 is needed`);
    expect(await refused("--state")).toBe("--state needs a value");
    expect(existsSync(place.state)).toBe(false);
  });

  test("a second daemon on the state directory, on the socket", async () => {
    await start();
    expect(await refused("--socket", `${place.socket}2`)).toBe(
      `${place.state}/ilb.db is in use by another ilbd: stop that one or name another directory with --state`,
    );
    expect(await refused("--state", `${place.state}2`)).toBe(
      `${place.socket} is in use by another ilbd: stop that one or name another path with --socket`,
    );
    expect(await place.must("show-rule")).toBe("");
  });

  test("a socket path that is a file stays as it is", async () => {
    writeFileSync(place.socket, "mine");
    expect(await refused()).toContain(`${place.socket} exists and is no socket`);
    expect(readFileSync(place.socket, "utf8")).toBe("mine");
  });

  test("the socket of a dead daemon is replaced", async () => {
    const first = await start();
    await first.stop("SIGKILL");
    expect(existsSync(place.socket)).toBe(true);
    await start();
    expect(await place.must("show-rule")).toBe("");
  });

  test("a damaged database", async () => {
    mkdirSync(place.state);
    writeFileSync(join(place.state, "ilb.db"), "x".repeat(5000));
    expect(await refused()).toContain(`${place.state}/ilb.db is damaged`);
    expect(existsSync(place.socket)).toBe(false);
  });

  test("a native library of another build, before anything is touched", async () => {
    const done = await run([ILBD, "run", "--io", "none", "--state", place.state, "--socket", place.socket], {
      env: { ILB_LIBRARY: "/nonexistent/libilb.so" },
    });
    expect(done.status).toBe(1);
    expect(done.stderr).toMatch(/^ilbd: cannot load the native library[^\n]+\n$/);
    expect(existsSync(place.state)).toBe(false);
  });

  test("TCP beyond loopback without token and TLS, tokens without TCP, an occupied port", async () => {
    expect(await refused("--listen", "0.0.0.0:0")).toBe(
      "--listen 0.0.0.0: any address but loopback needs --token-file, --tls-cert and --tls-key",
    );
    expect(await refused("--listen", "nowhere")).toContain("is not HOST:PORT");
    expect(await refused("--token-file", "/dev/null")).toContain("mean nothing without --listen");
    const occupant = createServer().listen(0, "127.0.0.1");
    await new Promise((resolve) => occupant.once("listening", resolve));
    const { port } = occupant.address() as { port: number };
    expect(await refused("--listen", `127.0.0.1:${port}`)).toBe(
      `cannot listen on 127.0.0.1:${port}: another program has this port (EADDRINUSE): stop that one or name another with --listen`,
    );
    occupant.close();
    const notPem = ["--listen", "127.0.0.1:0", "--tls-cert", "/etc/hostname", "--tls-key", "/etc/hostname"];
    expect(await refused(...notPem)).toMatch(
      /^cannot use --tls-cert \/etc\/hostname and --tls-key \/etc\/hostname: .*PEM/,
    );
    expect(existsSync(place.socket)).toBe(false);
  });
});

describe("--config", () => {
  test("is imported into an empty database, and never again", async () => {
    const file = join(place.directory, "c");
    writeFileSync(file, CONFIG);
    const first = await start("--config", file);
    expect(await place.must("export-config")).toBe(CONFIG);
    await place.must("delete-rule -a");
    await first.stop();
    await start("--config", file);
    expect(await place.must("show-rule")).toBe("");
  });

  test("a file with a wrong line, or none, refuses the start and names the line", async () => {
    const file = join(place.directory, "c");
    writeFileSync(file, "create-servergroup sg1\nfrobnicate\n");
    expect(await refused("--config", file)).toBe(
      `--config cannot be imported: ${file}: line 2: subcommand is invalid - please refer to ilbadm(8)`,
    );
    writeFileSync(file, Buffer.from("create-servergroup sg1\n# caf\xe9\n", "latin1"));
    expect(await refused("--config", file)).toBe(
      `--config cannot be imported: ${file}: line 2: byte 28 (0xe9) is not UTF-8 - save the text as UTF-8`,
    );
    expect(await refused("--config", "/nonexistent")).toBe("--config /nonexistent cannot be read (ENOENT)");
    await start();
    expect(await place.must("export-config")).toBe("");
  });
});

describe("who may do what, by the operating system's word", () => {
  /** A copy of the client that any user may run; the checkout may be private. */
  const asUser = (
    uid: number,
    groups: string,
    ...words: string[]
  ): Promise<{ status: number; stdout: string; stderr: string }> => {
    const groupOptions = groups === "" ? ["--clear-groups"] : ["--groups", groups];
    const body = JSON.stringify({ argv: words });
    return run([
      "setpriv",
      "--reuid",
      String(uid),
      "--regid",
      String(uid),
      ...groupOptions,
      "curl",
      "-s",
      "--unix-socket",
      place.socket,
      "-H",
      "content-type: application/json",
      "-d",
      body,
      "http://localhost/v1/ilbadm",
    ]).then(({ stdout }) => {
      const { exit, ...output } = JSON.parse(stdout) as { exit: number; stdout: string; stderr: string };
      return { status: exit, ...output };
    });
  };
  const eAuth = (right: "enable" | "config") => ({
    status: 1,
    stdout: "",
    stderr: `ilbadm: user is not authorized to execute command
ilbadm: hint: this needs the right ${right}: be root or in the group ilb-${right}; over TCP, bring a token that has it
`,
  });
  const OK = { status: 0, stdout: "", stderr: "" };

  /** The daemon in a mount namespace of its own, whose group file has our two groups. */
  async function startWithGroups(): Promise<void> {
    const groupFile = join(place.directory, "group");
    writeFileSync(
      groupFile,
      `${readFileSync("/etc/group", "utf8").trimEnd()}\nilb-config:x:59001:\nilb-enable:x:59002:\n`,
    );
    chmodSync(place.directory, 0o755);
    const script = `mount --bind ${groupFile} /etc/group && exec ${ILBD} run --io none --state ${place.state} --socket ${place.socket}`;
    const child = Bun.spawn(["unshare", "-m", "sh", "-c", script], { stdout: "pipe", stderr: "ignore" });
    cleanUp = async () => {
      child.kill("SIGKILL");
      await child.exited;
    };
    await child.stdout.getReader().read();
  }
  let cleanUp: () => Promise<void> = async () => undefined;
  afterEach(() => cleanUp());

  test("ILB-223 ILB-224 ILB-225 rights follow the groups of the caller, and refusals are audited with the user", async () => {
    await startWithGroups();
    await place.must("import-config", CONFIG);
    const nobody = 59_100;

    expect(await asUser(nobody, "", "delete-rule", "-a")).toEqual(eAuth("config"));
    expect(await asUser(nobody, "", "disable-rule", "r1")).toEqual(eAuth("enable"));
    expect((await asUser(nobody, "", "export-config")).stdout).toBe(CONFIG);
    expect((await asUser(nobody, "", "show-rule")).status).toBe(0);

    expect(await asUser(nobody, "59002", "disable-rule", "r1")).toEqual(OK);
    expect(await asUser(nobody, "59002", "disable-server", "_sg1.0")).toEqual(OK);
    expect(await asUser(nobody, "59002", "create-servergroup", "x")).toEqual(eAuth("config"));
    expect(await asUser(nobody, "59002", "remove-server", "-s", "server=_sg1.0", "sg1")).toEqual(eAuth("config"));

    expect(await asUser(nobody, "59001", "create-servergroup", "x")).toEqual(OK);
    expect(await asUser(nobody, "59001", "enable-rule", "r1")).toEqual(eAuth("enable"));
    expect(await asUser(59_001, "", "delete-servergroup", "x")).toEqual(OK); // by primary group

    const probe = join(place.directory, "only-root", "probe");
    mkdirSync(dirname(probe), { mode: 0o700 });
    writeFileSync(probe, "#!/bin/sh\necho 1\n", { mode: 0o700 });
    const naming = ["create-healthcheck", "-n", "-h", `hc-test=${probe}`, "h1"];
    const refused = await asUser(nobody, "59001", ...naming);
    expect([refused.status, refused.stderr]).toEqual([
      1,
      expect.stringMatching(/^ilbadm: invalid argument\(s\) - see man page\nilbadm: hint: only root may name a test /),
    ]);
    expect(await place.ilbadm(naming.join(" "))).toEqual(OK);

    await cleanUp();
    const { Database } = await import("bun:sqlite");
    const db = new Database(join(place.state, "ilb.db"), { readonly: true });
    const audit = db
      .query<{ who: string; command: string; result: string }, []>("SELECT who, command, result FROM audit ORDER BY id")
      .all();
    db.close();
    expect(audit).toContainEqual({ who: `uid ${nobody}`, command: "delete-rule -a", result: "E-AUTH" });
    expect(audit).toContainEqual({ who: `uid ${nobody}`, command: "enable-rule r1", result: "E-AUTH" });
    expect(audit).toContainEqual({ who: `uid ${nobody}`, command: "disable-rule r1", result: "ok" });
    expect(audit.filter((row) => row.result === "E-AUTH")).toHaveLength(5);
  });
});

test("bin/ilbd and bin/ilbadm run through a symbolic link from any directory", async () => {
  symlinkSync(ILBADM, join(place.directory, "a"));
  symlinkSync(ILBD, join(place.directory, "d"));
  const ilbadm = await run([join(place.directory, "a"), "-V"], { cwd: "/" });
  const ilbd = await run([join(place.directory, "d"), "--version"], { cwd: "/" });
  expect(ilbadm.stdout).toMatch(/^ilbadm \d+\.\d+\.\d+\n$/);
  expect(ilbd.stdout).toBe(ilbadm.stdout.replace("ilbadm", "ilbd"));
  const unknown = await run([ILBD, "frobnicate"]);
  expect(unknown).toEqual({
    status: 1,
    stdout: "",
    stderr: "ilbd: unknown command frobnicate; 'ilbd --help' lists what there is\n",
  });
});
