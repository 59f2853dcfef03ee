/** ILB-153 to 162 and 276 to 282: import and export through the real program. */
import { expect, test } from "bun:test";
import { lstatSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { ILBADM, run } from "../daemon/daemon.ts";
import { Program, TEXT } from "../support/program.ts";

const cli = new Program();

/** The specification's own example, in the form of export-config. */
const EXAMPLE = `create-servergroup sg1
add-server -s server=192.0.2.10:6000-6009 sg1
add-server -s server=192.0.2.11 sg1
create-servergroup sg_v6
add-server -s server=[2001:db8::10]:21 sg_v6
create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10 hc1
create-healthcheck -n -h hc-test=/bin/true,hc-timeout=5,hc-count=3,hc-interval=30 hc2
create-rule -e -p -i vip=198.51.100.10,port=5000-5009,protocol=tcp -m lbalg=roundrobin,type=NAT,proxy-src=203.0.113.1-203.0.113.5,pmask=/24 -h hc-name=hc1,hc-port=ANY -t conn-drain=180,nat-timeout=120,persist-timeout=60 -o servergroup=sg1 rule1
create-rule -i vip=2001:db8:1::1,port=21,protocol=tcp -m lbalg=hash-ip-port,type=DSR -o servergroup=sg_v6 rule3
`;
const file = (name: string, text: string | Uint8Array): string => {
  const path = join(cli.place.directory, name);
  writeFileSync(path, text);
  return path;
};

test("ILB-153 ILB-154 an export is imported as it was, groups first, then health checks, then rules", async () => {
  expect(await cli.run("import-config", EXAMPLE)).toEqual({ status: 0, stdout: "", stderr: "" });
  await cli.shows("export-config", EXAMPLE);
});

test("ILB-154 objects of each kind stand in the order of their creation", async () => {
  await cli.given(
    "create-healthcheck -h hc-test=tcp z",
    "create-servergroup b",
    "create-rule -i vip=198.51.100.1,port=80 -m type=DSR -o servergroup=b r2",
    "create-servergroup a",
    "create-healthcheck -h hc-test=tcp a",
    "create-rule -i vip=198.51.100.1,port=81 -m type=DSR -o servergroup=a r1",
  );
  const lines = (await cli.place.must("export-config")).trimEnd().split("\n");
  expect(lines.map((line) => `${line.split(" ")[0]} ${line.split(" ").at(-1)}`)).toEqual([
    "create-servergroup b",
    "create-servergroup a",
    "create-healthcheck z",
    "create-healthcheck a",
    "create-rule r2",
    "create-rule r1",
  ]);
});

test("ILB-155 ports above 32767", async () => {
  await cli.given("create-servergroup sg1", "create-rule -i vip=198.51.100.1,port=40000 -m type=DSR -o sg=sg1 r1");
  await cli.shows(
    "export-config",
    "create-servergroup sg1\ncreate-rule -i vip=198.51.100.1,port=40000,protocol=tcp -m lbalg=roundrobin,type=DSR -o servergroup=sg1 r1\n",
  );
});

test("ILB-158 ILB-159 without -p everything that was there goes, with -p it stays", async () => {
  await cli.given("create-servergroup old");
  await cli.ok(`import-config ${file("new", "create-servergroup new\n")}`);
  await cli.shows("export-config", "create-servergroup new\n");
});

test("ILB-159 with -p commands apply on top", async () => {
  await cli.given("create-servergroup old");
  await cli.ok(`import-config -p ${file("more", "create-servergroup more\nadd-server -s server=192.0.2.1 old\n")}`);
  await cli.shows(
    "export-config",
    "create-servergroup old\nadd-server -s server=192.0.2.1 old\ncreate-servergroup more\n",
  );
});

test("ILB-160 a failing line changes nothing, with or without -p, and is named", async () => {
  await cli.given("create-servergroup sg1");
  const path = file("bad", "# comment\ncreate-servergroup a\nadd-server -s server=300.0.0.1 a\n");
  const line = `${path}: line 3: server: address is invalid`;
  await cli.refuses([`import-config ${path}`, line], [`import-config -p ${path}`, line]);
});

test("a file that is not UTF-8 is refused with line and byte, and changes nothing", async () => {
  await cli.given("create-servergroup sg1");
  const path = file("latin1", Buffer.from("create-servergroup a\n# b\xfcro\ncreate-servergroup b\n", "latin1"));
  const line = `${path}: line 2: byte 24 (0xfc) is not UTF-8 - save the text as UTF-8`;
  await cli.refuses(
    [`import-config ${path}`, line],
    [`import-config -p ${path}`, line],
    [`import-config -n ${path}`, line],
  );
  await cli.shows("export-config", "create-servergroup sg1\n");
});

test("ILB-161 ILB-282 comments, blank lines, continuations, CRLF, tabs and a last line without newline", async () => {
  const text = [
    "# a comment \\",
    "",
    "   \t ",
    "create-servergroup \\",
    "  sg1",
    "\tadd-server\t-s  server=192.0.2.10 sg1\r",
    "create-rule -i vip=198.51.100.1,\\",
    "port=80 -m type=DSR \\\r",
    "   -o servergroup=sg1 r1\r",
    "create-servergroup last",
  ].join("\n");
  expect(await cli.run("import-config", text)).toEqual({ status: 0, stdout: "", stderr: "" });
  await cli.shows(
    "export-config",
    `create-servergroup sg1
add-server -s server=192.0.2.10 sg1
create-servergroup last
create-rule -i vip=198.51.100.1,port=80,protocol=tcp -m lbalg=roundrobin,type=DSR -o servergroup=sg1 r1
`,
  );
});

test("ILB-282 CRLF line ends and a last line without newline", async () => {
  expect((await cli.run("import-config", "create-servergroup a\r\n\r\ncreate-servergroup\tb")).status).toBe(0);
  await cli.shows("export-config", "create-servergroup a\ncreate-servergroup b\n");
});

test("ILB-162 import and export inside a file are refused, with the first of continued lines", async () => {
  await cli.given("create-servergroup sg1");
  await cli.refuses(
    [
      `import-config ${file("i", "show-rule\nimport-config \\\nx\n")}`,
      `${join(cli.place.directory, "i")}: line 2: recursive import not allowed`,
    ],
    [
      `import-config ${file("e", "export-config\n")}`,
      `${join(cli.place.directory, "e")}: line 1: export from import file not allowed`,
    ],
  );
});

test("ILB-276 FILE holds what stdout shows", async () => {
  await cli.given(...EXAMPLE.trimEnd().split("\n"));
  const path = join(cli.place.directory, "out");
  await cli.ok(`export-config ${path}`);
  expect(readFileSync(path, "utf8")).toBe(EXAMPLE);
});

test("FILE that is a pipe is written into: /dev/stdout leaves nothing in the working directory", async () => {
  await cli.given(...EXAMPLE.trimEnd().split("\n"));
  const directory = join(cli.place.directory, "elsewhere");
  mkdirSync(directory);
  const command = `cd '${directory}' && ILB_SOCKET='${cli.place.socket}' '${ILBADM}' export-config /dev/stdout | cat`;
  expect(await run(["sh", "-c", command])).toEqual({ status: 0, stdout: EXAMPLE, stderr: "" });
  expect(readdirSync(directory)).toEqual([]);
});

test("FILE that is a link: what it points at is replaced, and made when it is not there", async () => {
  await cli.given(...EXAMPLE.trimEnd().split("\n"));
  const [link, target] = [join(cli.place.directory, "link"), join(cli.place.directory, "linked")];
  symlinkSync(target, link);
  for (let time = 0; time < 2; time++) {
    await cli.ok(`export-config ${link}`);
    expect([lstatSync(link).isSymbolicLink(), readFileSync(target, "utf8")]).toEqual([true, EXAMPLE]);
  }
});

test("ILB-278 a file as the manual prints an export", async () => {
  await cli.given();
  const text = `create-servergroup ftpgroup
add-server -s server=192.0.2.10:21 ftpgroup
create-rule -e protocol=tcp,VIP=198.51.100.10,port=ftp \\
        -m lbalg=roundrobin,type=DSR \\
        -o servergroup=ftpgroup rule4
`;
  await cli.ok(`import-config ${file("manual", text)}`);
  await cli.shows(
    "export-config",
    `create-servergroup ftpgroup
add-server -s server=192.0.2.10:21 ftpgroup
create-rule -e -i vip=198.51.100.10,port=21,protocol=tcp -m lbalg=roundrobin,type=DSR -o servergroup=ftpgroup rule4
`,
  );
  // The command line itself has no such leniency.
  await cli.fails("create-rule -e protocol=tcp,VIP=198.51.100.11,port=ftp -m type=DSR -o sg=ftpgroup r5", TEXT.ARGS);
});

test("ILB-279 -p keeps a group that the file creates again: E-SGEXISTS; without -p it succeeds", async () => {
  await cli.given("create-servergroup sg1");
  const path = file("again", "create-servergroup sg1\n");
  await cli.refuses([`import-config -p ${path}`, `${path}: line 1: ${TEXT.SGEXISTS}`]);
  await cli.ok(`import-config ${path}`);
});

test("ILB-280 a line that would half succeed fails the whole import", async () => {
  await cli.given("create-servergroup sg1");
  const path = file("half", "create-servergroup a\nadd-server -s server=192.0.2.10,192.0.2.10 a\n");
  await cli.refuses([`import-config ${path}`, `${path}: line 2: cannot add 192.0.2.10 to a: ${TEXT.EEXIST}`]);
});

test("ILB-281 after an import servers are numbered from 0 and enabled", async () => {
  await cli.given(
    "create-servergroup -s server=192.0.2.10,192.0.2.11 sg1",
    "create-rule -i vip=198.51.100.1,port=80 -m type=DSR -o servergroup=sg1 r1",
    "remove-server -s server=_sg1.0 sg1",
    "disable-server _sg1.1",
  );
  const exported = await cli.config();
  expect((await cli.run("import-config", exported)).status).toBe(0);
  await cli.shows("show-server -p -o serverid,status", "_sg1.0:E\n");
  expect(await cli.config()).toBe(exported);
});

test("a name with ANSI controls or a newline reaches no terminal and no file as such", async () => {
  await cli.run("create-servergroup a\u001b[31mb");
  expect(await cli.place.must("show-audit -p -o command 1")).toBe("create-servergroup a?[31mb\n");
});
