/** import-config and export-config. */
import { describe, expect, test } from "bun:test";
import { readLines } from "../../src/command/file.ts";
import { check, fileUse, unreadableFile } from "../../src/command/run.ts";
import { errorOf, FakeHost, ilbadm, outputOf, setUp } from "../support/fake-host.ts";

/** The export of the specification, without the lines that it leaves out. */
const EXPORT = `create-servergroup sg1
add-server -s server=192.0.2.10:6000-6009 sg1
add-server -s server=192.0.2.11 sg1
create-servergroup sg_v6
add-server -s server=[2001:db8::10]:21 sg_v6
create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10 hc1
create-healthcheck -n -h hc-test=/opt/probes/http_probe,hc-timeout=5,hc-count=3,hc-interval=30 hc2
create-rule -e -p -i vip=198.51.100.10,port=5000-5009,protocol=tcp -m lbalg=roundrobin,type=NAT,proxy-src=203.0.113.1-203.0.113.5,pmask=/24 -h hc-name=hc1,hc-port=ANY -t conn-drain=180,nat-timeout=120,persist-timeout=60 -o servergroup=sg1 rule1
create-rule -i vip=2001:db8:1::1,port=21,protocol=tcp -m lbalg=hash-ip-port,type=DSR -o servergroup=sg_v6 rule3
`;

/** Imports a text that must succeed silently. */
async function imported(text: string, host = new FakeHost(), line = "import-config"): Promise<FakeHost> {
  const { exit, stdout, stderr } = await ilbadm(host, line, { input: text });
  expect({ exit, stdout, stderr }).toEqual({ exit: 0, stdout: "", stderr: "" });
  return host;
}

/** What importing says; nothing must have changed. */
async function refused(text: string, host = new FakeHost(), line = "import-config"): Promise<string> {
  const config = host.config();
  const error = await errorOf(host, line, { input: text });
  expect(host.config()).toBe(config);
  return error;
}

test("ILB-153 ILB-154 what is exported can be imported, and exports the same again", async () => {
  const host = await imported(EXPORT);
  expect(await outputOf(host, "export-config")).toBe(EXPORT);
  expect(await outputOf(await imported(EXPORT, host), "export-config")).toBe(EXPORT);
});

test("ILB-155 high ports are exported as they are", async () => {
  const host = await imported("create-sg g\ncreate-rule -i vip=198.51.100.1,port=40000 -m type=d -o sg=g r\n");
  expect(await outputOf(host, "export-config")).toContain("port=40000,");
});

test("-t is exported with what applies: NAT rules and sticky rules have timers, plain DSR rules none", async () => {
  const host = await imported(
    "create-sg g\n" +
      "create-rule -i vip=198.51.100.1,port=1,protocol=udp -m type=h -o sg=g a\n" +
      "create-rule -i vip=198.51.100.1,port=2 -m type=d,pmask=0 -o sg=g b\n" +
      "create-rule -i vip=198.51.100.1,port=3 -m type=d -o sg=g c\n",
  );
  const timers = (await outputOf(host, "export-cf")).split("\n").map((line) => /-t (\S+)/.exec(line)?.[1]);
  expect(timers).toEqual([undefined, "nat-timeout=60", "persist-timeout=60", undefined, undefined]);
});

test("ILB-157 import reads what the caller hands over and export prints", async () => {
  expect(fileUse(["import-config"])).toEqual({
    access: "read",
    file: null,
    preserve: false,
    dryRun: false,
    isImport: true,
  });
  expect(fileUse(["import-cf", "-p", "F"])).toEqual({
    access: "read",
    file: "F",
    preserve: true,
    dryRun: false,
    isImport: true,
  });
  expect(fileUse(["export-config", "F"])).toEqual({
    access: "write",
    file: "F",
    preserve: false,
    dryRun: false,
    isImport: false,
  });
  expect(fileUse(["show-rule"])).toBeNull();
  expect(fileUse(["export-config", "a", "b"])).toBeNull();
  const host = await imported(EXPORT);
  expect(await outputOf(host, "export-config F")).toBe(EXPORT);
});

test("ILB-158 without -p everything previous goes", async () => {
  const host = await imported(EXPORT);
  const ids = host.config().nextId;
  await imported("create-sg new\n", host);
  expect(await outputOf(host, "export-cf")).toBe("create-servergroup new\n");
  expect(host.config().nextId).toBe(ids + 1);
});

test("ILB-159 with -p previous objects stay", async () => {
  const host = await imported(EXPORT);
  await imported("create-sg new\n", host, "import-config -p");
  expect(host.config().groups.map((group) => group.name)).toEqual(["sg1", "sg_v6", "new"]);
});

test("an import is one change", async () => {
  const host = new FakeHost();
  await imported(EXPORT, host, "import-config -p");
  expect(host.audit).toEqual(["import-config -p"]);
});

test("ILB-160 a line that fails leaves everything as it was and is named", async () => {
  for (const line of ["import-config", "import-config -p"]) {
    const host = await imported(EXPORT);
    expect(await refused("create-sg a\ncreate-sg b\ncreate-sg a\n", host, line)).toBe(
      "ilbadm: -: line 3: servergroup already exists\n",
    );
    expect(await refused("create-sg a\n\nfrobnicate\n", host, `${line} /etc/ilb.conf`)).toBe(
      "ilbadm: /etc/ilb.conf: line 3: subcommand is invalid - please refer to ilbadm(8)\n",
    );
  }
});

test("of several lines that fail the first is named, whatever is wrong with it", async () => {
  expect(await refused("create-sg a\ncreate-sg a\nfrobnicate\n")).toStartWith("ilbadm: -: line 2: ");
  expect(await refused("create-sg a\nfrobnicate\ncreate-sg a\n")).toStartWith("ilbadm: -: line 2: ");
});

test("an import that cannot be saved changes nothing", async () => {
  const host = await imported(EXPORT);
  host.failNext = { ok: false, failure: { code: "E-CFG", text: "no" } };
  expect(await refused("create-sg a\nshow-sg\n", host)).toBe("ilbadm: no\n");
});

test("ILB-161 comments, blank lines and continuations", async () => {
  const text = `# a comment that ends in a backslash \\
create-servergroup \\
  -s server=192.0.2.1,\\
192.0.2.2 \\
  sg1

   \t
#create-sg no
create-sg sg2 \\`;
  const host = await imported(text);
  expect(await outputOf(host, "show-sg")).toBe("sg1: id:_sg1.0 192.0.2.1\nsg1: id:_sg1.1 192.0.2.2\nsg2: id:\n");
});

test("a line number counts all lines and is that of the first of continued lines", () => {
  const text = "# one\n\na \\\n b\nc\\\n\\\nd\ne";
  expect([...readLines(text)]).toEqual([
    { number: 3, words: ["a", "b"] },
    { number: 5, words: ["cd"] },
    { number: 8, words: ["e"] },
  ]);
});

test("ILB-162 neither import nor export stands in a file", async () => {
  expect(await refused("create-sg a\nimport-config F\n")).toBe("ilbadm: -: line 2: recursive import not allowed\n");
  expect(await refused("create-sg a\nexport-cf\n")).toBe("ilbadm: -: line 2: export from import file not allowed\n");
});

test("ILB-163 the caller's program has the words for a file that it cannot open", () => {
  const { status, stdout, stderr } = unreadableFile("F");
  expect({ status, stdout }).toEqual({ status: 1, stdout: "" });
  expect(stderr).toStartWith("ilbadm: file F cannot be opened for reading\nUsage:\n");
});

test("ILB-239 over HTTP files are refused, and import needs a body", async () => {
  const args = "ilbadm: invalid/incompatible keywords - refer to ilbadm(8)\n";
  const host = new FakeHost();
  for (const line of ["export-config F", "import-config F", "import-config"]) {
    expect(await errorOf(host, line, { origin: "http" })).toBe(args);
  }
  expect(await errorOf(host, "import-config F", { origin: "http", input: "create-sg a\n" })).toBe(args);
  expect((await ilbadm(host, "import-config", { origin: "http", input: "create-sg a\n" })).exit).toBe(0);
  expect(check(["export-config", "F"])).toBeNull();
});

const MANUAL = `create-servergroup ftpgroup
add-server -s server=192.0.2.10:21 ftpgroup
create-rule -e protocol=tcp,VIP=198.51.100.10,port=ftp \\
        -m lbalg=roundrobin,type=DSR \\
        -o servergroup=ftpgroup rule4
`;

test("ILB-278 the manual's own form of a rule is read, ours is written", async () => {
  const host = await imported(MANUAL);
  expect(await outputOf(host, "export-cf")).toBe(
    `create-servergroup ftpgroup
add-server -s server=192.0.2.10:21 ftpgroup
create-rule -e -i vip=198.51.100.10,port=21,protocol=tcp -m lbalg=roundrobin,type=DSR -o servergroup=ftpgroup rule4
`,
  );
});

test("that form is for files: on the command line an operand stays an operand", async () => {
  const host = await imported("create-sg g\n");
  const line = "create-rule protocol=tcp,vip=198.51.100.1,port=80 -m type=d -o sg=g r";
  expect(await errorOf(host, line)).toBe("ilbadm: invalid/incompatible keywords - refer to ilbadm(8)\n");
  await imported("create-sg g\ncreate-rule vip=198.51.100.1, port=80 -m type=d -o sg=g r\n");
  expect(await refused("create-sg g\ncreate-rule -i vip=198.51.100.1,port=80 -m type=d -o sg=g a=b\n")).toBe(
    "ilbadm: -: line 2: invalid argument(s) - see man page\n",
  );
});

test("ILB-279 with -p an object that exists is an error, without it is not", async () => {
  const host = await imported("create-sg sg1\n");
  expect(await refused("# again\ncreate-servergroup sg1\n", host, "import-config -p")).toBe(
    "ilbadm: -: line 2: servergroup already exists\n",
  );
  await imported("create-servergroup sg1\n", host);
});

test("ILB-280 a line of which a part fails fails the import", async () => {
  expect(await refused("create-sg sg1\nadd-server -s server=192.0.2.10,192.0.2.10 sg1\n")).toBe(
    "ilbadm: -: line 2: cannot add 192.0.2.10 to sg1: object already exists\n",
  );
  expect(await refused("create-sg sg1\nenable-rule nosuch\n")).toBe(
    "ilbadm: -: line 2: nosuch: specified rule does not exist\n",
  );
  expect(await refused("disable-server _x.1\n")).toBe("ilbadm: -: line 1: no such/no more element(s): _x.1\n");
});

test("ILB-281 imported objects are new ones: other ids, enabled servers, numbers from 0", async () => {
  const host = await imported(EXPORT);
  await setUp(
    host,
    "remove-server -s server=_sg1.0 sg1",
    "add-server -s server=192.0.2.12 sg1",
    "disable-server _sg1.1",
  );
  const before = host.config();
  await imported(await outputOf(host, "export-cf"), host);
  const after = host.config();
  expect(after.groups[0]?.servers.map((server) => [server.number, server.enabled])).toEqual([
    [0, true],
    [1, true],
  ]);
  const ids = (config: typeof before) =>
    [...config.rules, ...config.groups, ...config.healthChecks].map((item) => item.id);
  expect(ids(after).filter((id) => ids(before).includes(id))).toEqual([]);
});

test("ILB-282 CRLF, lines of blanks, tabs and a last line without newline", async () => {
  const host = await imported("create-sg\t sg1\r\n \t \r\n# x\r\nadd-server -s server=192.0.2.1,\\\r\n192.0.2.2\tsg1");
  expect(await outputOf(host, "show-sg")).toBe("sg1: id:_sg1.0 192.0.2.1\nsg1: id:_sg1.1 192.0.2.2\n");
});

describe("show-* lines in a file", () => {
  const FILE = "create-sg a\nshow-sg\ncreate-sg b\nshow-sg\nshow-stats 1 2\n";

  test("print the configuration at their turn", async () => {
    const host = new FakeHost();
    const { exit, stdout, stderr } = await ilbadm(host, "import-config", { input: FILE });
    const zeros = "0       0         0       0         0       0\n";
    const header = "PKT_P   BYTES_P   PKT_U   BYTES_U   PKT_D   BYTES_D\n";
    expect({ exit, stdout, stderr }).toEqual({
      exit: 0,
      stdout: `a: id:\na: id:\nb: id:\n${header}${zeros}${zeros}`,
      stderr: "",
    });
  });

  test("print before a later line fails", async () => {
    const host = new FakeHost();
    const { exit, stdout, stderr } = await ilbadm(host, "import-config", { input: `${FILE}create-sg a\n` });
    expect({ exit, stderr }).toEqual({ exit: 1, stderr: "ilbadm: -: line 6: servergroup already exists\n" });
    expect(stdout).toStartWith("a: id:\na: id:\nb: id:\n");
    expect(host.config().groups).toEqual([]);
  });

  test("fail the import when they name what is not there, behind the rows before it", async () => {
    const host = new FakeHost();
    const input = "create-sg a\nshow-sg a nosuch a\n";
    const { exit, stdout, stderr } = await ilbadm(host, "import-config", { input });
    expect({ exit, stdout, stderr }).toEqual({
      exit: 1,
      stdout: "a: id:\n",
      stderr: "ilbadm: -: line 2: cannot find specified server group\n",
    });
    expect(host.config().groups).toEqual([]);
    for (const line of ["show-rule x", "show-srv x", "show-hc x", "show-hc-res x", "show-stats -r x", "show-stats 1"]) {
      expect(await refused(`${line}\n`)).toStartWith("ilbadm: -: line 1: ");
    }
  });
});
