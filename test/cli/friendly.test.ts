/** What goes beyond the original: help, completion, the manual page, JSON, --pretty and --watch. */
import { describe, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { version } from "../../package.json";
import { complete } from "../../src/command/complete.ts";
import { manualPage } from "../../src/command/manual.ts";
import { SUBCOMMANDS } from "../../src/command/spec.ts";
import { ILBADM, run } from "../daemon/daemon.ts";
import { Program } from "../support/program.ts";

const ROOT = join(import.meta.dir, "../..");
const cli = new Program();
const CONFIG = [
  "create-servergroup -s server=192.0.2.10:80,192.0.2.11:80 web",
  "create-servergroup wide",
  "create-healthcheck -h hc-test=tcp hc1",
  "create-rule -e -i vip=198.51.100.10,port=80 -m type=NAT,proxy-src=203.0.113.1,pmask=24 -h hc-name=hc1 -t conn-drain=30 -o servergroup=web www",
  "create-rule -i vip=198.51.100.10,port=81 -m type=DSR -o servergroup=wide other",
];

describe("help", () => {
  test("help SUBCOMMAND names options, keys, defaults and fields; both names and any case will do", async () => {
    const done = await cli.run("help create-rule");
    expect([done.status, done.stderr]).toEqual([0, ""]);
    expect(done.stdout).toStartWith("usage: ilbadm create-rule|create-rl [-e] [-p] -i INCOMING");
    for (const part of ["vip=", "proxy-src=", "(also nat-src)", "default roundrobin", "right config"])
      expect(done.stdout).toContain(part);
    expect(await cli.run("HELP Create-RL")).toEqual(done);
    expect((await cli.run("help show-rule")).stdout).toContain("Fields:\n  RULENAME STATUS PORT");
  });

  test("help about a word that is no subcommand fails with a suggestion, without a daemon", async () => {
    expect(await run([ILBADM, "--socket", "/nonexistent", "help", "shwo-rule"])).toEqual({
      status: 1,
      stdout: "",
      stderr: "ilbadm: subcommand is invalid - please refer to ilbadm(8)\nilbadm: hint: did you mean show-rule?\n",
    });
  });
});

describe("--json", () => {
  test("objects of every listing, once per line of an array; names in any case", async () => {
    await cli.given(...CONFIG);
    const json = async (words: string): Promise<unknown> => JSON.parse(await cli.place.must(words));
    expect(await json("show-rule --json WWW")).toEqual([
      {
        name: "www",
        enabled: true,
        vip: "198.51.100.10",
        port: "80",
        protocol: "tcp",
        lbalg: "roundrobin",
        type: "NAT",
        "proxy-src": "203.0.113.1-203.0.113.1",
        pmask: 24,
        "hc-name": "hc1",
        "hc-port": "ANY",
        "conn-drain": 30,
        "nat-timeout": 120,
        "persist-timeout": 60,
        servergroup: "web",
        forced: false,
        servers: ["_web.0", "_web.1"],
      },
    ]);
    expect(await json("--json show-rule -d")).toMatchObject([{ name: "other" }]);
    expect(await json("show-servergroup --json")).toMatchObject([
      { name: "web", servers: [{ id: "_web.0" }, { id: "_web.1" }] },
      { name: "wide", servers: [] },
    ]);
    expect(await json("show-server --json")).toMatchObject([
      { rule: "www", id: "_web.0", address: "192.0.2.10", port: "80", enabled: true },
      { rule: "www", id: "_web.1" },
    ]);
    expect(await json("show-healthcheck --json")).toMatchObject([
      { name: "hc1", "hc-test": "tcp", "default-ping": true },
    ]);
    expect(await json("show-hc-result --json")).toMatchObject([
      { rule: "www", healthcheck: "hc1", server: "_web.0", status: "un-init", next: expect.any(String) },
      { server: "_web.1" },
    ]);
    for (const words of ["show-nat --json", "show-persist --json 5"]) await cli.shows(words, "[]\n");
    expect(await json("show-audit --json 1")).toMatchObject([{ result: "ok", command: "import-config -p" }]);
    expect(await json("history --json 1")).toMatchObject([{ command: "import-config -p" }]);
    expect(await json("explain --json -i src=192.0.2.1,dst=198.51.100.10,sport=1,dport=80")).toBeObject();
  });

  test("statistics are an object per sample, cut down to the rule or server asked for", async () => {
    await cli.given(...CONFIG);
    const lines = (await cli.place.must("show-stats --json -s _web.1 1 2")).trimEnd().split("\n");
    expect(lines).toHaveLength(2);
    for (const line of lines)
      expect(JSON.parse(line)).toMatchObject({
        time: expect.stringMatching(/^\d{4}-.*Z$/),
        rules: [{ name: "www", pkt_d: "0", servers: [{ id: "_web.1", pkt_p: "0", bytes_p: "0" }] }],
      });
    expect(JSON.parse(await cli.place.must("show-stats --json -r other"))).toMatchObject({
      rules: [{ name: "other" }],
    });
  });

  test("names that are unknown and options of lines are refused, and nothing is printed", async () => {
    await cli.given(...CONFIG);
    await cli.refuses(
      ["show-rule --json www nosuch", "no such/no more element(s)"],
      ["show-rule --json -o vip", "options --json and -o are mutually exclusive"],
      ["show-rule --json -f", "options --json and -f are mutually exclusive"],
      ["show-stats --json -d 1 1", "options --json and -d are mutually exclusive"],
      ["show-stats --json -r nosuch", "rule name missing or specified rule not found"],
      ["delete-rule --json www", "bad or misplaced option --json"],
    );
  });
});

describe("completion", () => {
  const words = (...line: string[]): string[] => complete(line).candidates.map(({ word }) => word);

  test("subcommands, options, keys, words of values and fields come from the grammar", () => {
    expect(words("")).toEqual([...Object.keys(SUBCOMMANDS), "help", "completion"]);
    expect(words("disable-")).toEqual(["disable-rule", "disable-server"]);
    expect(words("--socket", "/s", "show-r")).toEqual(["show-rule"]);
    expect(words("create-rule", "-")).toEqual(["-e", "-p", "-F", "-i", "-m", "-h", "-t", "-o"]);
    expect(words("create-rule", "-i", "vip=192.0.2.1,")).toEqual(["port=", "protocol="]);
    expect(words("create-rule", "-e", "-m", "lbalg=h")).toEqual(["hash-ip", "hash-ip-port", "hash-ip-vip"]);
    expect(words("show-rule", "-po", "rulename,v")).toEqual(["vip"]);
    expect(words("help", "export-c")).toEqual(["export-config"]);
    expect(words("completion", "")).toEqual(["bash", "zsh", "fish"]);
    expect(words("nosuch", "")).toEqual([]);
  });

  test("what a word names is asked of the daemon by kind", () => {
    const kind = (...line: string[]) => complete(line).names;
    expect(kind("delete-rule", "w")).toBe("rule");
    expect(kind("show-rule", "-e", "a", "")).toBe("rule");
    expect(kind("create-rule", "-o", "servergroup=")).toBe("servergroup");
    expect(kind("create-rule", "-h", "hc-name=h")).toBe("healthcheck");
    expect(kind("remove-server", "-s", "server=_a.0,")).toBe("server");
    expect(kind("show-stats", "-r", "")).toBe("rule");
    expect(kind("show-stats", "-is", "")).toBe("server");
    expect(kind("import-config", "-p", "")).toBe("file");
    expect(kind("create-servergroup", "")).toBeNull();
    expect(kind("show-nat", "")).toBeNull();
  });

  test("__complete prints candidates with the names of the daemon, and nothing where there is no daemon", async () => {
    await cli.given(...CONFIG);
    await cli.shows("__complete delete-rule w", "www\trule\n");
    await cli.shows(
      "__complete create-rule -o servergroup=w",
      "servergroup=web\tservergroup\nservergroup=wide\tservergroup\n",
    );
    await cli.shows("__complete disable-server _web.0 _", "_web.0\tserver\n_web.1\tserver\n");
    await cli.shows("__complete delete-hc ", "hc1\thealthcheck\n");
    await cli.shows("__complete export-config ", ":file\n");
    expect(await run([ILBADM, "__complete", "--socket", "/nonexistent", "delete-rule", ""])).toEqual({
      status: 0,
      stdout: "",
      stderr: "",
    });
  });

  /** What bash offers for a line, with the cursor at its end. */
  const inBash = async (line: string): Promise<string[]> => {
    const script = `source <("$1" completion bash); COMP_LINE=$2; COMP_POINT=\${#2}; _ilbadm; printf '%s\\n' "\${COMPREPLY[@]}"`;
    const done = await run(["bash", "-c", script, "bash", ILBADM, line.replace(/^ilbadm/, ILBADM)], {
      env: { ILB_SOCKET: cli.place.socket },
    });
    expect(done.stderr).toBe("");
    return done.stdout.split("\n").filter((word) => word !== "");
  };

  test.skipIf(Bun.which("bash") === null)("bash completes with it (needs bash)", async () => {
    await cli.given(...CONFIG);
    expect(await inBash("ilbadm enable-")).toEqual(["enable-rule", "enable-server"]);
    expect(await inBash("ilbadm delete-rule ")).toEqual(["www", "other"]);
    // bash has split the word at `=`, so only what follows is given back.
    expect(await inBash("ilbadm create-rule -o servergroup=wi")).toEqual(["wide"]);
    expect(await inBash("ilbadm create-rule -m type=H")).toEqual(["HALF-NAT"]);
    expect(await inBash("ilbadm show-rule -o rulename,vi")).toEqual(["rulename,vip"]);
  });

  for (const shell of ["zsh", "fish"])
    test.skipIf(Bun.which(shell) === null)(`${shell} reads its script without complaint (needs ${shell})`, async () => {
      const directory = mkdtempSync(join(tmpdir(), "ilb-shell-"));
      const file = join(directory, "script");
      writeFileSync(file, (await cli.run(`completion ${shell}`)).stdout);
      expect((await run([shell, "-n", file])).status).toBe(0);
      rmSync(directory, { recursive: true });
    });

  test("every shell's script hands the words to __complete", async () => {
    for (const shell of ["bash", "zsh", "fish"])
      expect((await cli.run(`completion ${shell}`)).stdout).toContain("__complete");
  });

  test("another shell is refused", async () => {
    await cli.fails("completion tcsh", "usage: ilbadm completion bash|zsh|fish");
    await cli.fails("completion", "usage: ilbadm completion bash|zsh|fish");
  });
});

describe("the manual page", () => {
  const page = join(ROOT, "man/ilbadm.8");

  test("man/ilbadm.8 is what scripts/commands-doc.ts writes", () => {
    expect(readFileSync(page, "utf8")).toBe(manualPage(version));
  });

  test.skipIf(Bun.which("groff") === null)("groff renders it without a warning (needs groff)", async () => {
    const done = await run(["groff", "-man", "-Tutf8", "-ww", page]);
    expect([done.status, done.stderr]).toEqual([0, ""]);
  });

  test.skipIf(Bun.which("man") === null)("man -l shows every subcommand, key and example (needs man)", async () => {
    const done = await run(["man", "-l", page], {
      env: { MANWIDTH: "200", MANPAGER: "cat", PAGER: "cat", LC_ALL: "C.UTF-8" },
    });
    expect(done.status).toBe(0);
    const text = done.stdout.replaceAll(new RegExp(`.${String.fromCharCode(8)}`, "g"), "");
    for (const spec of Object.values(SUBCOMMANDS)) expect(text).toContain(`ilbadm ${spec.long}`);
    for (const part of [
      "proxy-src, nat-src",
      "ILB_SOCKET",
      "# ilbadm show-rule",
      "www                 E      roundrobin",
    ])
      expect(text).toContain(part);
  });
});

describe("for people", () => {
  test("--pretty aligns columns to their contents; without it the bytes are the original's", async () => {
    await cli.given(...CONFIG);
    await cli.shows(
      "--pretty show-rule",
      `RULENAME  STATUS  LBALG       TYPE  PROTOCOL  VIP            PORT
www       E       roundrobin  NAT   TCP       198.51.100.10    80
other     D       roundrobin  DSR   TCP       198.51.100.10    81
`,
    );
    await cli.shows("--pretty show-servergroup web", await cli.prepared(["show-servergroup", "web"]));
    await cli.shows("--pretty show-rule -p -o vip,port www", "198.51.100.10:80\n");
  });

  const colours = "a terminal gets colours with --pretty, unless NO_COLOR is set, and never without (needs script)";
  test.skipIf(Bun.which("script") === null)(colours, async () => {
    await cli.given(...CONFIG);
    const onTerminal = async (words: string, env: Record<string, string> = {}): Promise<string> => {
      const command = `${ILBADM} --socket ${cli.place.socket} ${words}`;
      return (await run(["script", "-qec", command, "/dev/null"], { env: { NO_COLOR: "", ...env } })).stdout;
    };
    expect(await onTerminal("--pretty show-rule")).toContain("\u001b[32mE");
    expect(await onTerminal("--pretty show-rule", { NO_COLOR: "1" })).not.toContain("\u001b[");
    expect(await onTerminal("show-rule")).not.toContain("\u001b[");
  });

  test("--watch prints a listing again and again, and shows what has changed meanwhile", async () => {
    await cli.given(...CONFIG);
    const child = Bun.spawn([ILBADM, "--watch=1", "show-rule"], {
      env: { ...process.env, ILB_SOCKET: cli.place.socket },
      stdout: "pipe",
      stderr: "pipe",
    });
    let text = "";
    let changed = false;
    for await (const piece of child.stdout) {
      text += new TextDecoder().decode(piece);
      if (!changed && text.includes("www       E")) {
        changed = true;
        await cli.prepared(["disable-rule", "www"]);
      }
      if (text.includes("www       D")) break;
    }
    child.kill("SIGINT");
    await child.exited;
    expect(text).toStartWith("every 1 s: ilbadm show-rule ");
  });

  test("--watch is for listings that end", async () => {
    await cli.given(...CONFIG);
    await cli.refuses(
      ["--watch delete-rule -a", "--watch is for show commands, and delete-rule is none"],
      ["--watch show-stats 1", "--watch and an INTERVAL do not go together"],
      ["--watch=x show-rule", "--watch=x: a whole number of seconds from 1 to 86400 is needed"],
    );
    // A listing that fails ends it.
    await cli.fails("--watch show-rule nosuch", "no such/no more element(s)");
  });
});
