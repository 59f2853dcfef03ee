/** ILB-003 to 020 and 228 to 239: the frame of the command line and key=value arguments, through the real program. */
import { expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Program, TEXT } from "../support/program.ts";

const cli = new Program();
const GROUP = "create-servergroup -s server=192.0.2.10 sg1";
/** A rule on sg1; `-i` and `-m` arguments can be replaced. */
const rule = (name: string, incoming = "vip=198.51.100.10,port=80", method = "lbalg=rr,type=DSR", rest = "") =>
  `create-rule -i ${incoming} -m ${method} ${rest === "" ? "" : `${rest} `}-o servergroup=sg1 ${name}`;

test("ILB-003 a subcommand matches in any case", async () => {
  await cli.ok("CREATE-SG sg1", "Create-ServerGroup sg2");
  await cli.shows("Show-SG", "sg1: id:\nsg2: id:\n");
});

test("ILB-004 every short name does what its long name does", async () => {
  const pairs: readonly (readonly [string, string, string])[] = [
    ["create-servergroup", "create-sg", "sgX"],
    ["create-healthcheck", "create-hc", "-h hc-test=tcp hcX"],
    ["create-rule", "create-rl", "-i vip=198.51.100.99,port=80 -m type=DSR -o sg=sg1 rX"],
    ["enable-rule", "enable-rl", "r1"],
    ["disable-rule", "disable-rl", "r1"],
    ["add-server", "add-srv", "-s server=192.0.2.99 sg1"],
    ["disable-server", "disable-srv", "_sg1.0"],
    ["enable-server", "enable-srv", "_sg1.0"],
    ["remove-server", "remove-srv", "-s server=_sg1.1 sg1"],
    ["show-rule", "show-rl", "-f"],
    ["show-statistics", "show-stats", "-v"],
    ["show-servergroup", "show-sg", "-o all"],
    ["show-server", "show-srv", ""],
    ["show-healthcheck", "show-hc", ""],
    ["show-hc-result", "show-hc-res", "r1"],
    ["show-nat", "show-nat", "0"],
    ["show-persist", "show-pt", "0"],
    ["export-config", "export-cf", ""],
    ["delete-rule", "delete-rl", "rX"],
    ["delete-healthcheck", "delete-hc", "hcX"],
    ["delete-servergroup", "delete-sg", "sgX"],
    ["import-config", "import-cf", "/nonexistent"],
  ];
  const config = [
    GROUP,
    "add-server -s server=192.0.2.11 sg1",
    "create-healthcheck -h hc-test=tcp hc1",
    rule("r1", undefined, undefined, "-h hc-name=hc1"),
    "",
  ].join("\n");
  const outcome = async (name: string, rest: string) => {
    await cli.prepared(["import-config"], config);
    if (name.startsWith("delete"))
      await cli.given(
        "create-servergroup sgX",
        "create-healthcheck -h hc-test=tcp hcX",
        "create-rule -i vip=198.51.100.99,port=80 -m type=DSR -o servergroup=sg1 rX",
      );
    const done = await cli.run(rest === "" ? name : `${name} ${rest}`);
    return { ...done, config: await cli.config(), servers: await cli.prepared(["show-server"]) };
  };
  for (const [long, short, rest] of pairs) {
    const [one, other] = [await outcome(long, rest), await outcome(short, rest)];
    // LAST of a check is when it was made, which differs between the two.
    const plain = (text: string): string => text.replace(/\d\d:\d\d:\d\d/g, "TIME");
    expect([short, { ...other, stdout: plain(other.stdout) }]).toEqual([short, { ...one, stdout: plain(one.stdout) }]);
  }
}, 60_000);

test("ILB-005 a subcommand is no prefix", async () => {
  const unknown = "subcommand is invalid - please refer to ilbadm(8)";
  await cli.refuses(["show-rul", unknown], ["show", unknown], ["create-rules", unknown], ["import", unknown]);
});

test("ILB-008 an undefined option letter, alone or in a cluster, is refused and nothing changes", async () => {
  await cli.given(GROUP);
  await cli.refuses(
    ["create-rule -z r1", "bad or misplaced option -z"],
    ["create-rule -ez -i vip=198.51.100.10,port=80 -m type=DSR -o sg=sg1 r1", "bad or misplaced option -ez"],
    ["delete-servergroup -f sg1", "bad or misplaced option -f"],
    ["show-rule -z", "bad or misplaced option -z"],
    ["enable-rule -a", "bad or misplaced option -a"],
    ["add-server -z -s server=192.0.2.11 sg1", "bad or misplaced option -z"],
  );
});

test("ILB-009 a missing option argument is named by its bare letter, in the words of the subcommand", async () => {
  await cli.refuses(
    ["create-rule -i", "missing option-argument for i"],
    ["create-rule -ei", "missing option-argument for i"],
    ["create-healthcheck -h", "missing option-argument for h"],
    ["add-server -s", "missing option-argument for s"],
    ["show-rule -o", "missing option argument for o"],
    ["show-servergroup -o", "missing option argument for o"],
    ["show-server -o", "missing option argument for o"],
    ["show-statistics -r", "missing option-argument detected for r"],
  );
});

test("ILB-010 ILB-011 ILB-012 elements without `=`, unknown keys and empty values", async () => {
  await cli.given(GROUP);
  await cli.refuses(
    [rule("r1", "vip,port=80"), "vip: assignment '=' missing"],
    [rule("r1", "vip=198.51.100.10,port=80,Blah"), "Blah: assignment '=' missing"],
    [rule("r1", "vip=198.51.100.10,prt=80"), "bad keyword prt"],
    [rule("r1", "lbalg=rr"), "bad keyword lbalg"],
    [rule("r1", "vip=,port=80"), "vip: missing value"],
    [rule("r1", "VIP=,port=80"), "VIP: missing value"],
  );
});

test("ILB-011 an unknown key is named as it was typed", async () => {
  await cli.given(GROUP);
  await cli.fails(rule("r1", "Vipp=198.51.100.10"), "bad keyword Vipp");
});

test("ILB-012 an empty value is reported with the key as it was typed", async () => {
  await cli.given(GROUP);
  await cli.fails("add-server -s SERVER= sg1", "SERVER: missing value");
});

test("ILB-013 keys match in any case", async () => {
  await cli.given(GROUP);
  await cli.ok("create-rule -i VIP=198.51.100.10,Port=80,PROTOCOL=UDP -m LBALG=RR,Type=dsr -o ServerGroup=sg1 r1");
  await cli.shows("show-rule -p -o vip,port,protocol r1", "198.51.100.10:80:UDP\n");
});

test("ILB-014 proxy-src may stand before type", async () => {
  await cli.given(GROUP);
  await cli.ok(rule("r1", undefined, "proxy-src=203.0.113.1,type=NAT"));
  await cli.shows("show-rule -p -o proxy-src,type r1", "203.0.113.1-203.0.113.1:NAT\n");
});

test("ILB-015 -m with pmask may stand before -i", async () => {
  await cli.given(GROUP);
  await cli.ok("create-rule -m type=DSR,pmask=24 -i vip=198.51.100.10,port=80 -o servergroup=sg1 r1");
  await cli.shows("show-rule -p -o pmask", "/24\n");
});

test("ILB-016 empty elements and a key without a name are a syntax failure", async () => {
  await cli.given(GROUP);
  await cli.refuses(
    [rule("r1", "vip=198.51.100.10,port=80,,protocol=tcp"), TEXT.SYNTAX],
    [rule("r1", "=x,vip=198.51.100.10,port=80"), TEXT.SYNTAX],
    [rule("r1", ",vip=198.51.100.10,port=80"), TEXT.SYNTAX],
    ["add-server -s server=192.0.2.11,,192.0.2.12 sg1", TEXT.SYNTAX],
  );
});

test("ILB-017 numbers are digits only", async () => {
  await cli.given(GROUP);
  const timed = (timer: string) => rule("r1", undefined, undefined, `-t ${timer}`);
  await cli.refuses(
    [rule("r1", "vip=198.51.100.10,port=80abc"), "invalid port value 80abc specified"],
    [rule("r1", "vip=198.51.100.10,port=+80"), "invalid port value +80 specified"],
    [timed("conn-drain=+5"), `conn-drain: ${TEXT.VALUE}`],
    [timed("nat-timeout=5s"), `nat-timeout: ${TEXT.VALUE}`],
    ["show-nat 5x", TEXT.VALUE],
    ["show-persist -- -1", TEXT.VALUE],
    ["create-healthcheck -h hc-test=tcp,hc-count=3x h1", `hc-count: ${TEXT.VALUE}`],
  );
  await cli.ok(rule("r1", "vip=198.51.100.10,port=0080"));
  await cli.shows("show-rule -p -o port", "80\n");
});

test("ILB-018 of a key or option that is repeated the last value counts", async () => {
  await cli.given(GROUP);
  await cli.ok(
    "create-rule -i vip=198.51.100.10,port=1,port=80 -m type=NAT,type=DSR -t conn-drain=1 -t conn-drain=9 -o servergroup=nosuch -o sg=sg1 r1",
  );
  await cli.shows("show-rule -p -o port,type,conn-drain,servergroup", "80:DSR:9:sg1\n");
});

test("ILB-020 every alias stands for its key", async () => {
  await cli.given(GROUP);
  await cli.ok(
    "create-healthcheck -h hc-test=tcp,hc-tout=2,hc-count=3,hc-intl=9 h1",
    "create-rule -i vip=198.51.100.10,port=80,prot=tcp -m algo=hip,topo=n,nat-src=203.0.113.1,persist=24 -h hcn=h1,hcp=80 -o sg=sg1 r1",
    "create-rule -i vip=198.51.100.10,port=81 -m type=d,stickiness=/8 -o sg=sg1 r2",
  );
  await cli.shows(
    "show-rule -p -o protocol,lbalg,type,proxy-src,pmask,hc-name,hc-port,servergroup",
    "TCP:hash-ip:NAT:203.0.113.1-203.0.113.1:/24:h1:80:sg1\nTCP:roundrobin:DSR::/8:::sg1\n",
  );
  await cli.shows(
    "show-healthcheck",
    "HCNAME        TIMEOUT COUNT   INTERVAL DEF_PING TEST\nh1            2       3       9        Y        tcp\n",
  );
});

test("ILB-006 ILB-007 a failure has status 1 and speaks on stderr only; a change that succeeds says nothing", async () => {
  await cli.ok("create-servergroup sg1");
  const done = await cli.run("create-servergroup sg1");
  expect([done.status, done.stdout]).toEqual([1, ""]);
  for (const line of done.stderr.trimEnd().split("\n")) expect(line).toStartWith("ilbadm: ");
});

test("ILB-228 names of new objects: first character, allowed characters, the empty name", async () => {
  await cli.given(GROUP);
  const names = ["-x", "_x", ".x", "a,b", "a=b", "a:b", "a/b", "é"];
  await cli.refuses(
    ...names.map((name) => [`create-servergroup -- ${name}`, TEXT.EINVAL] as const),
    ...names.map((name) => [rule(`-- ${name}`), TEXT.EINVAL] as const),
    ...names.map((name) => [`create-healthcheck -h hc-test=tcp -- ${name}`, TEXT.EINVAL] as const),
    ["create-servergroup ", TEXT.EINVAL],
  );
  await cli.ok(rule("RULE-all"), "create-servergroup webgroup_v6");
});

test("ILB-229 server IDs match without case and print as stored", async () => {
  await cli.given("create-servergroup -s server=192.0.2.10 Web");
  await cli.ok("create-rule -i vip=198.51.100.10,port=80 -m type=DSR -o servergroup=WEB r1", "disable-server _WEB.0");
  await cli.shows("show-server -p -o serverid,status", "_Web.0:D\n");
  await cli.shows("show-stats -s _web.0 -i -p -o rulename,pkt_p", "r1:0\n");
});

test("ILB-230 one operand more than the syntax has is refused", async () => {
  await cli.given(GROUP, "create-healthcheck -h hc-test=tcp h1");
  await cli.refuses(
    [`${rule("r1")} r2`, TEXT.ARGS],
    ["create-servergroup a b", TEXT.ARGS],
    ["add-server -s server=192.0.2.11 sg1 sg2", TEXT.ARGS],
    ["remove-server -s server=_sg1.0 sg1 sg2", TEXT.ARGS],
    ["create-healthcheck -h hc-test=tcp h2 h3", TEXT.ARGS],
    ["export-config a b", TEXT.ARGS],
    ["import-config a b", TEXT.ARGS],
    ["show-statistics 1 1 1", TEXT.ARGS],
  );
});

test("ILB-231 an argument that ends with a comma goes on in the next word, as the manual's examples print it", async () => {
  await cli.ok(
    "create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3, hc-interval=10 hc1",
    "create-servergroup -s server=192.0.2.10, 192.0.2.11 sg1",
    "create-rule -e -i vip=198.51.100.10,port=80 -m lbalg=rr,type=NAT,proxy-src=203.0.113.1-203.0.113.4, pmask=24 -o servergroup=sg1 rule1",
  );
  await cli.shows("show-rule -p -o pmask,servers", "/24:_sg1.0,_sg1.1\n");
  expect(await cli.config()).toContain("hc-interval=10 hc1\n");
});

test("ILB-232 a comma at the end with nothing, or an option, behind it is a syntax failure", async () => {
  await cli.given(GROUP);
  await cli.refuses(
    ["create-servergroup -s server=192.0.2.10,", TEXT.SYNTAX],
    ["create-rule -i vip=198.51.100.10,port=80, -m type=DSR -o sg=sg1 r1", TEXT.SYNTAX],
  );
});

test("ILB-233 keys of a health check stand in any order", async () => {
  await cli.ok("create-healthcheck -h hc-timeout=3,hc-count=2,hc-interval=8,hc-test=tcp h1");
  await cli.shows(
    "show-hc h1",
    "HCNAME        TIMEOUT COUNT   INTERVAL DEF_PING TEST\nh1            3       2       8        Y        tcp\n",
  );
});

test("ILB-235 service names of servers, hyphens included", async () => {
  await cli.given("create-servergroup sg1");
  await cli.ok("add-server -s server=192.0.2.10:ftp-data sg1");
  await cli.shows("show-servergroup", "sg1: id:_sg1.0 192.0.2.10:20\n");
  await cli.refuses(
    ["add-server -s server=192.0.2.11:http-8080 sg1", "ranges are only allowed for numeric ports"],
    ["add-server -s server=192.0.2.11:nosuch sg1", "invalid port value nosuch specified"],
  );
});

test("ILB-238 options that stand in the synopsis only are accepted", async () => {
  await cli.given("create-servergroup -s server=192.0.2.10:80 sg1", "create-servergroup sg2");
  const lines = "sg1: id:_sg1.0 192.0.2.10:80\nsg2: id:\n";
  const table = [
    "sgname         serverID            minport maxport IP_address",
    "sg1            _sg1.0              80      80      192.0.2.10",
    "",
  ].join("\n");
  await cli.shows("show-sg -s", lines);
  await cli.shows("show-sg -v sg1", table);
  await cli.shows("show-sg -f", `${table}sg2            --                  --      --      --\n`);
  await cli.refuses(
    ["show-sg -s -f", TEXT.ARGS],
    ["show-sg -s -o all", TEXT.ARGS],
    ["show-sg -f -o all", "options -o and -f are mutually exclusive"],
  );
  await cli.shows("show-stats -h", await cli.place.must("show-stats"));
});

test("ILB-239 over POST /v1/ilbadm no file of the daemon's side is touched and nothing is endless", async () => {
  const file = join(cli.place.directory, "precious");
  writeFileSync(file, "create-servergroup stolen\n");
  const before = await cli.config();
  for (const line of [`export-config ${file}`, `import-config ${file}`, "import-config", "show-stats 1"]) {
    const answer = await cli.place.fetch("/v1/ilbadm", {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/json" },
      body: JSON.stringify({ line }),
    });
    expect([line, await answer.json()]).toEqual([line, { exit: 1, stdout: "", stderr: `ilbadm: ${TEXT.ARGS}\n` }]);
  }
  expect(await Bun.file(file).text()).toBe("create-servergroup stolen\n");
  expect(await cli.config()).toBe(before);
});
