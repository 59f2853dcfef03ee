/** The frame of the command line: subcommands, options, key=value arguments, operands, help. */
import { describe, expect, test } from "bun:test";
import { OPTIONS } from "../../src/command/options.ts";
import { check } from "../../src/command/run.ts";
import { SUBCOMMANDS } from "../../src/command/spec.ts";
import { errorOf, FakeHost, ilbadm, outputOf, setUp } from "../support/fake-host.ts";

const ARGS = "ilbadm: invalid/incompatible keywords - refer to ilbadm(8)\n";
const SYNTAX = "ilbadm: syntax failure - refer to ilbadm(8)\n";
const RULE = ["-m", "type=DSR", "-o", "servergroup=sg1", "r1"];

/** A host with the empty group sg1. */
async function withGroup(): Promise<FakeHost> {
  const host = new FakeHost();
  await setUp(host, "create-servergroup sg1");
  return host;
}

/** The arguments of create-rule with this -i. */
const incoming = (argument: string): string[] => ["create-rule", "-i", argument, ...RULE];

test("ILB-001 no arguments at all are an incomplete line and the usage list", async () => {
  const { exit, stdout, stderr } = await ilbadm(new FakeHost(), []);
  const lines = stderr.split("\n");
  expect({ exit, stdout, first: lines[0], second: lines[1] }).toEqual({
    exit: 1,
    stdout: "",
    first: "ilbadm: the command line is incomplete (more arguments expected)",
    second: "Usage:",
  });
  expect(lines.length).toBe(2 + 22 + 4 + 10 + 2 + 1); // the original subcommands; show-audit, history, rollback, explain; of NetBackup; help, completion
});

test("ILB-002 an unknown subcommand is refused", async () => {
  expect(await errorOf(new FakeHost(), "frobnicate x")).toBe(
    "ilbadm: subcommand is invalid - please refer to ilbadm(8)\n",
  );
});

test("ILB-003 subcommands match in any case", async () => {
  const host = new FakeHost();
  await setUp(host, "CREATE-SG sg1", "Create-ServerGroup sg2");
  expect(host.config().groups.map((group) => group.name)).toEqual(["sg1", "sg2"]);
});

test.each(Object.values(SUBCOMMANDS).map((spec) => [spec.short, spec.long]))(
  "ILB-004 %s answers as %s does",
  async (short, long) => {
    const setting = async () => {
      const host = await withGroup();
      await setUp(
        host,
        "create-hc -h hc-test=ping hc1",
        "create-rule -i vip=198.51.100.1,port=1 -m type=d -o sg=sg1 r",
      );
      return host;
    };
    for (const words of [["-z"], [], ["nosuch"], ["a", "b", "c"], ["-o"], ["-s", "server=192.0.2.1", "sg1"]]) {
      const [a, b] = [await setting(), await setting()];
      const byShort = await ilbadm(a, [short, ...words], { input: "" });
      expect(byShort).toEqual(await ilbadm(b, [long, ...words], { input: "" }));
      expect(a.config()).toEqual(b.config());
    }
  },
);

test("ILB-005 a subcommand cannot be abbreviated", async () => {
  for (const word of ["show-rul", "show-rule-", "create", "ilbadm", "import"]) {
    expect(await errorOf(new FakeHost(), [word])).toStartWith("ilbadm: subcommand is invalid");
  }
});

test("ILB-006 every diagnostic line of a failing command begins with ilbadm: and none is on standard output", async () => {
  const host = await withGroup();
  for (const line of ["add-server -s server=192.0.2.1,192.0.2.1,192.0.2.1 sg1", "enable-rule a b", "show-rule x"]) {
    const { exit, stdout, stderr } = await ilbadm(host, line);
    expect({ exit, stdout }).toEqual({ exit: 1, stdout: "" });
    for (const text of stderr.trimEnd().split("\n")) expect(text).toStartWith("ilbadm: ");
  }
});

test("ILB-007 commands that only change state print nothing and end with 0", async () => {
  const host = await withGroup();
  const { exit, chunks } = await ilbadm(host, "add-server -s server=192.0.2.1 sg1");
  expect({ exit, chunks }).toEqual({ exit: 0, chunks: [] });
});

test("ILB-008 an undefined option letter is refused with its whole word, alone or in a cluster", async () => {
  const host = await withGroup();
  for (const { long } of Object.values(SUBCOMMANDS)) {
    expect(await errorOf(host, [long, "-z"])).toBe("ilbadm: bad or misplaced option -z\n");
  }
  expect(await errorOf(host, ["create-rule", "-ez"])).toBe("ilbadm: bad or misplaced option -ez\n");
  expect(await errorOf(host, ["show-rule", "-?"])).toBe("ilbadm: bad or misplaced option -?\n");
});

test.each([
  ["create-rule -i", "missing option-argument for i"],
  ["create-rule -e -m", "missing option-argument for m"],
  ["create-rule -pt", "missing option-argument for t"],
  ["create-servergroup -s", "missing option-argument for s"],
  ["create-healthcheck -h", "missing option-argument for h"],
  ["show-rule -o", "missing option argument for o"],
  ["show-servergroup -o", "missing option argument for o"],
  ["show-server -po", "missing option argument for o"],
  ["show-statistics -r", "missing option-argument detected for r"],
])("ILB-009 %s lacks its argument", async (line, text) => {
  expect(await errorOf(new FakeHost(), line)).toBe(`ilbadm: ${text}\n`);
});

test.each([
  ["vip", "vip: assignment '=' missing"],
  ["vip=198.51.100.1,port", "port: assignment '=' missing"],
])("ILB-010 -i %s lacks an equals sign", async (argument, text) => {
  expect(await errorOf(await withGroup(), incoming(argument))).toBe(`ilbadm: ${text}\n`);
});

test("ILB-011 an unknown key is a bad keyword", async () => {
  expect(await errorOf(await withGroup(), incoming("vipp=1"))).toBe("ilbadm: bad keyword vipp\n");
});

test("ILB-012 an empty value is missing, under the key as it was typed", async () => {
  expect(await errorOf(await withGroup(), incoming("vip="))).toBe("ilbadm: vip: missing value\n");
  expect(await errorOf(await withGroup(), incoming("VIP="))).toBe("ilbadm: VIP: missing value\n");
});

test("ILB-013 keys match in any case", async () => {
  await setUp(await withGroup(), "create-rule -i VIP=198.51.100.1,Port=80 -m TYPE=DSR -o ServerGroup=sg1 r1");
});

test("ILB-014 proxy-src may precede type", async () => {
  await setUp(
    await withGroup(),
    "create-rule -i vip=198.51.100.1,port=80 -m proxy-src=203.0.113.1,type=NAT -o servergroup=sg1 r1",
  );
});

test("ILB-015 -m with pmask may precede -i", async () => {
  const host = await withGroup();
  await setUp(host, "create-rule -m pmask=24,type=DSR -i vip=198.51.100.1,port=80 -o servergroup=sg1 r1");
  expect(host.config().rules[0]?.stickyMask).toBe(24);
});

test("ILB-016 an empty element and a missing key are syntax failures", async () => {
  const host = await withGroup();
  const before = host.config();
  for (const argument of ["port=80,,protocol=tcp", "=x", "vip=198.51.100.1,=80", ",port=80", ""]) {
    expect(await errorOf(host, incoming(argument))).toBe(SYNTAX);
  }
  expect(host.config()).toBe(before);
});

test.each([
  [incoming("vip=198.51.100.1,port=80abc"), "invalid port value 80abc specified"],
  [incoming("vip=198.51.100.1,port=+80"), "invalid port value +80 specified"],
  [
    "create-rule -i vip=198.51.100.1,port=80 -m type=d -t conn-drain=+5 -o sg=sg1 r1".split(" "),
    "conn-drain: invalid value  - refer to ilbadm(8)",
  ],
  [["show-nat", "5x"], "invalid value  - refer to ilbadm(8)"],
])("ILB-017 a number with a sign or junk is refused: %j", async (words, text) => {
  expect(await errorOf(await withGroup(), words as string[])).toBe(`ilbadm: ${text}\n`);
});

test("ILB-018 of a repeated key or option the last value holds", async () => {
  const host = await withGroup();
  await setUp(
    host,
    "create-rule -i vip=198.51.100.9,port=81,port=82 -i vip=198.51.100.1 -m type=NAT,type=d -o sg=sg1 r1",
  );
  const rule = host.config().rules[0];
  expect([rule?.ports.min, rule?.type, String((rule?.vip.value ?? 0n) & 255n)]).toEqual([82, "DSR", "1"]);
});

test("ILB-020 every alias stands for its key", async () => {
  const long = await withGroup();
  const short = await withGroup();
  const rule = "198.51.100.1,port=80";
  await setUp(
    long,
    "create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-interval=20 h",
    `create-rule -i vip=${rule},protocol=tcp -m lbalg=hash-ip,type=NAT,proxy-src=203.0.113.1,pmask=9 -h hc-name=h,hc-port=80 -o servergroup=sg1 r`,
  );
  await setUp(
    short,
    "create-hc -h hc-test=tcp,hc-tout=2,hc-intl=20 h",
    `create-rl -i vip=${rule},prot=tcp -m algo=hip,topo=n,nat-src=203.0.113.1,persist=9 -h hcn=h,hcp=80 -o sg=sg1 r`,
  );
  expect(short.config()).toEqual(long.config());
  await setUp(long, "delete-rule r", `create-rule -i vip=${rule} -m type=d,pmask=7 -o sg=sg1 s`);
  await setUp(short, "delete-rule r", `create-rule -i vip=${rule} -m type=d,stickiness=7 -o sg=sg1 s`);
  expect(short.config()).toEqual(long.config());
});

test("ILB-230 one operand more than the syntax has is refused and changes nothing", async () => {
  const host = await withGroup();
  const before = host.config();
  for (const line of [
    "create-rule -i vip=198.51.100.1,port=80 -m type=d -o sg=sg1 r1 r2",
    "create-servergroup a b",
    "add-server -s server=192.0.2.1 sg1 x",
    "remove-server -s server=_sg1.0 sg1 x",
    "create-healthcheck -h hc-test=ping a b",
    "show-statistics 1 1 1",
    "export-config a b",
    "import-config a b",
  ]) {
    expect([line, await errorOf(host, line)]).toEqual([line, ARGS]);
  }
  expect(host.config()).toBe(before);
});

test("ILB-231 an argument that ends with a comma goes on in the next word", async () => {
  const host = await withGroup();
  await setUp(
    host,
    "create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3, hc-interval=10 hc1",
    "create-rule -i vip=198.51.100.1,port=80 -m type=n,proxy-src=203.0.113.1-203.0.113.4, pmask=24 -o sg=sg1 r1",
    "add-server -s server=192.0.2.1, 192.0.2.2, 192.0.2.3 sg1",
  );
  expect(host.config().healthChecks[0]?.intervalSeconds).toBe(10);
  expect(host.config().rules[0]?.stickyMask).toBe(24);
  expect(host.config().groups[0]?.servers.length).toBe(3);
});

test("ILB-232 an argument that ends with a comma needs a word that is no option", async () => {
  const host = await withGroup();
  for (const line of ["create-hc -h hc-test=tcp, -n hc1", "create-hc -h hc-test=tcp,", "create-hc -hhc-test=tcp,"]) {
    expect(await errorOf(host, line)).toBe(SYNTAX);
  }
});

test("ILB-233 keys stand in any order (example 7)", async () => {
  await setUp(new FakeHost(), "create-healthcheck -h hc-timeout=3,hc-count=2,hc-interval=8,hc-test=tcp hc1");
});

describe("ILB-237", () => {
  test("-V prints the version", async () => {
    expect(await outputOf(new FakeHost(), ["-V"])).toMatch(/^ilbadm \d+\.\d+\.\d+\n$/);
  });

  test("help and --help print the usage list, -? prints it on standard error", async () => {
    const help = await outputOf(new FakeHost(), ["help"]);
    expect(help).toStartWith("Usage:\nilbadm create-rule|create-rl ");
    expect(await outputOf(new FakeHost(), ["--help"])).toBe(help);
    expect(await errorOf(new FakeHost(), ["-?"])).toBe(help);
  });

  test("every word of the usage list can be asked about, in either way, and one at a time", async () => {
    const help = await outputOf(new FakeHost(), ["help"]);
    for (const line of help.trimEnd().split("\n").slice(1)) {
      const word = line.split(" ")[1]!.split("|")[0]!;
      const told = await outputOf(new FakeHost(), ["help", word]);
      expect(told).toStartWith(`usage: ilbadm ${word}`);
      expect(await outputOf(new FakeHost(), [word, "--help"])).toBe(told);
    }
    expect(await errorOf(new FakeHost(), "help show-rule show-nat")).toBe(ARGS);
    expect(await errorOf(new FakeHost(), "show-rul --help")).toStartWith("ilbadm: subcommand is invalid");
    expect(await errorOf(new FakeHost(), "show-rule x --help")).toBe("ilbadm: no such/no more element(s)\n");
  });
});

test("ILB-299 a rule takes no servers of its own", async () => {
  const words = "create-rule -i vip=198.51.100.1,port=80 -m type=d -o server=192.0.2.10 r1";
  expect(await errorOf(await withGroup(), words)).toBe("ilbadm: bad keyword server\n");
});

describe("options are scanned as POSIX has it", () => {
  const rule = "vip=198.51.100.1,port=80";

  test("letters cluster and arguments may be attached", async () => {
    const host = await withGroup();
    await setUp(host, `create-rule -epi${rule} -mtype=DSR -osg=sg1 r1`);
    expect(host.config().rules[0]).toMatchObject({ enabled: true, stickyMask: 32 });
  });

  test("-- and the first operand end options", async () => {
    const host = await withGroup();
    expect(await errorOf(host, "show-rule -- -e")).toBe("ilbadm: no such/no more element(s)\n");
    expect(await errorOf(host, "show-rule x -e")).toBe("ilbadm: no such/no more element(s)\n");
    expect(await errorOf(host, "show-rule -")).toBe("ilbadm: no such/no more element(s)\n");
  });

  test("the synopsis of each subcommand names its options and no others", () => {
    for (const spec of Object.values(SUBCOMMANDS)) {
      const letters = [...spec.synopsis.matchAll(/-([A-Za-z]+)/g)].flatMap((match) => [...(match[1] as string)]);
      const silent = [OPTIONS.addEnabled, OPTIONS.human, OPTIONS.json] as readonly unknown[];
      const documented = spec.options.filter((option) => !silent.includes(option)).map((option) => option.letter);
      expect([spec.long, [...new Set(letters)].sort()]).toEqual([spec.long, [...new Set(documented)].sort()]);
    }
  });
});

describe("check answers without a daemon", () => {
  const host = new FakeHost();

  test.each([
    "",
    "-V",
    "nosuch",
    "create-rule -z",
    "create-rule r1",
    "create-rule -i vip=198.51.100.1,port=80 -m type=NAT -o sg=sg1 r1",
    "show-rule -f -o port",
    "show-stats 0",
    "create-sg -s server=192.0.2.1:0 sg1",
    "delete-rule",
  ])("with exactly what run says: %s", async (line) => {
    const words = line === "" ? [] : line.split(" ");
    const { exit, stdout, stderr } = await ilbadm(host, words);
    expect(check(words)).toEqual({ status: exit, stdout, stderr });
  });

  test("but leaves to the daemon what names or the configuration decide", () => {
    for (const line of [
      "create-sg -s server=web-1 a-name-that-is-too-long",
      "create-rule -i vip=198.51.100.1,port=nosuch r1",
      "show-rule r1",
      "disable-server 192.0.2.10",
      "import-config F",
    ]) {
      expect([line, check(line.split(" "))]).toEqual([line, null]);
    }
  });
});
