/** ILB-110 to 139, 262 to 264, 288 to 292: listings and health checks, byte for byte, through the real program. */
import { expect, test } from "bun:test";
import { chmodSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Program, TEXT } from "../support/program.ts";

const cli = new Program();

/** The rules of the specification's first listing. */
const RULES = [
  "create-servergroup sg1",
  "create-rule -e -i vip=198.51.100.10,port=81 -m lbalg=hip,type=NAT,proxy-src=203.0.113.1 -o servergroup=sg1 r2",
  "create-rule -i vip=198.51.100.20,port=5000-5009,protocol=udp -m type=h -o servergroup=sg1 webrule",
  "create-rule -e -i vip=198.51.100.30,port=80 -m lbalg=hipp,type=DSR -o servergroup=sg1 dsr-rule-with-name1",
];
const SIX = [
  "create-servergroup sg6",
  "create-rule -e -i vip=2001:db8::10,port=21 -m lbalg=hipv,type=DSR -o servergroup=sg6 v6rule",
];

test("ILB-110 every empty listing prints nothing and succeeds", async () => {
  const listings = [
    "show-rule",
    "show-rule -f",
    "show-rule -o all",
    "show-rule -p -o rulename",
    "show-rule -e",
    "show-servergroup",
    "show-servergroup -o all",
    "show-server",
    "show-server -o all",
    "show-healthcheck",
    "show-hc-result",
    "show-nat",
    "show-nat 5",
    "show-persist",
    "export-config",
  ];
  await Promise.all(listings.map((words) => cli.shows(words, "")));
});

test("ILB-111 ILB-112 show-rule, with cells that overflow their columns", async () => {
  await cli.given(...RULES);
  await cli.shows(
    "show-rule",
    `RULENAME            STATUS LBALG       TYPE    PROTOCOL VIP         PORT
r2                  E      hash-ip     NAT     TCP  198.51.100.10   81
webrule             D      roundrobin  HALF-NAT UDP 198.51.100.20   5000-5009
dsr-rule-with-name1 E      hash-ip-port DSR    TCP  198.51.100.30   80
`,
  );
});

test("ILB-112 the first rule decides the widths of addresses; the last column has no trailing blanks", async () => {
  await cli.given(...SIX, ...RULES);
  await cli.shows(
    "show-rule v6rule r2",
    `RULENAME            STATUS LBALG       TYPE    PROTOCOL VIP                                PORT
v6rule              E      hash-ip-vip DSR     TCP  2001:db8::10                           21
r2                  E      hash-ip     NAT     TCP  198.51.100.10                          81
`,
  );
});

const FULL = [
  "create-healthcheck -h hc-test=tcp,hc-timeout=2,hc-count=3,hc-interval=10 hc1",
  "create-servergroup -s server=192.0.2.10:6000-6009,192.0.2.11:7000-7009 sg1",
  "create-rule -e -i vip=198.51.100.10,port=5000-5009 -m lbalg=rr,type=NAT,proxy-src=203.0.113.1-203.0.113.5,pmask=24 -h hc-name=hc1 -t conn-drain=180,nat-timeout=180,persist-timeout=180 -o servergroup=sg1 rule1",
];
const RULE1 = `       RULENAME: rule1
         STATUS: E
           PORT: 5000-5009
       PROTOCOL: TCP
          LBALG: roundrobin
           TYPE: NAT
      PROXY-SRC: 203.0.113.1-203.0.113.5
          PMASK: /24
        HC-NAME: hc1
        HC-PORT: ANY
     CONN-DRAIN: 180
    NAT-TIMEOUT: 180
PERSIST-TIMEOUT: 180
    SERVERGROUP: sg1
            VIP: 198.51.100.10
        SERVERS: _sg1.0,_sg1.1
`;
const PLAIN = `       RULENAME: plain
         STATUS: D
           PORT: 80
       PROTOCOL: TCP
          LBALG: roundrobin
           TYPE: DSR
      PROXY-SRC: --
          PMASK: --
        HC-NAME: --
        HC-PORT: --
     CONN-DRAIN: 0
    NAT-TIMEOUT: 0
PERSIST-TIMEOUT: 0
    SERVERGROUP: none
            VIP: 198.51.100.2
        SERVERS: --
`;
const PLAIN_LINES = [
  "create-servergroup none",
  "create-rule -i vip=198.51.100.2,port=80 -m type=DSR -o servergroup=none plain",
];

test("ILB-113 show-rule -f has 16 fields and a blank line between rules", async () => {
  await cli.given(...FULL, ...PLAIN_LINES);
  await cli.shows("show-rule -f", `${RULE1}\n${PLAIN}`);
});

test("ILB-124 a DSR rule that is not sticky has no timers, proxies or mask", async () => {
  await cli.given(...PLAIN_LINES);
  await cli.shows("show-rule -f PLAIN", PLAIN);
});

test("ILB-123 NAT rules have the timeout of their protocol", async () => {
  await cli.given(
    "create-servergroup sg1",
    "create-rule -i vip=198.51.100.1,port=80 -m type=h -o servergroup=sg1 t",
    "create-rule -i vip=198.51.100.1,port=80,protocol=udp -m type=h -o servergroup=sg1 u",
  );
  await cli.shows("show-rule -p -o nat-timeout,conn-drain,persist-timeout", "120:0:0\n60:0:0\n");
});

test("ILB-114 -e and -d choose by state, the last wins, also among names", async () => {
  await cli.given(...RULES);
  await cli.shows("show-rule -e -p -o rulename", "r2\ndsr-rule-with-name1\n");
  await cli.shows("show-rule -d -p -o rulename", "webrule\n");
  await cli.shows("show-rule -e -d -p -o rulename", "webrule\n");
  await cli.shows("show-rule -de -p -o rulename webrule r2", "r2\n");
});

test("ILB-115 ILB-116 ILB-117 ILB-120 options that do not go together, and unknown fields", async () => {
  await cli.refuses(["show-rule -f -o rulename", "options -o and -f are mutually exclusive"]);
});

test("ILB-116 -p requires -o", async () => {
  await cli.refuses(
    ...["show-rule", "show-servergroup", "show-server", "show-statistics"].map(
      (name) => [`${name} -p`, "option -p requires -o"] as const,
    ),
  );
});

test("ILB-117 -p requires explicit field names", async () => {
  const explicit = "option -p requires explicit field names for -o";
  await cli.refuses(
    ["show-rule -p -o all", explicit],
    ["show-rule -p -o rulename,ALL", explicit],
    ["show-servergroup -p -o All", explicit],
    ["show-server -p -o all", explicit],
    ["show-statistics -p -o all", "option -p requires explicit field names"],
  );
});

test("ILB-118 ILB-119 colons are escaped among several fields, not in one", async () => {
  await cli.given(...SIX);
  await cli.shows("show-rule -p -o rulename,vip,port v6rule", "v6rule:2001\\:db8\\:\\:10:21\n");
});

test("ILB-119 one field is printed as it is", async () => {
  await cli.given(...SIX);
  await cli.shows("show-rule -p -o vip", "2001:db8::10\n");
});

test("ILB-120 an unknown field is refused, also where there are no rows", async () => {
  const unknown = (name: string) => `unknown output field: ${name}`;
  await cli.refuses(
    ["show-rule -o rulename,nosuch,other", unknown("nosuch")],
    ["show-rule -p -o nosuch", unknown("nosuch")],
    ["show-rule -o a,,b", unknown("a")],
    ["show-rule -o rulename,,vip", unknown("")],
    ["show-server -o vip", unknown("vip")],
    ["show-servergroup -o nosuch", unknown("nosuch")],
    ["show-statistics -o nosuch", unknown("nosuch")],
  );
});

test("ILB-121 fields match in any case and print in the order given, repeats allowed", async () => {
  await cli.given(...RULES);
  await cli.shows(
    "show-rule -o Port,rulename,PORT r2",
    "PORT      RULENAME            PORT\n81        r2                  81\n",
  );
  await cli.shows("show-servergroup -o IP_ADDRESS,SGNAME", "IP_address     sgname\n--             sg1\n");
});

test("ILB-122 an empty value is `--` in tables and nothing in parsable output", async () => {
  await cli.given(...PLAIN_LINES);
  await cli.shows("show-rule -o pmask,rulename", "PMASK RULENAME\n--    plain\n");
  await cli.shows("show-rule -p -o pmask,servers,rulename", "::plain\n");
});

test("ILB-125 unknown rules: rows before them stay", async () => {
  await cli.given(...RULES);
  await cli.refuses(["show-rule nosuch", TEXT.ENOENT], ["show-server nosuch", TEXT.ENOENT]);
  expect(await cli.run("show-rule -p -o rulename r2 nosuch webrule")).toEqual({
    status: 1,
    stdout: "r2\n",
    stderr: `ilbadm: ${TEXT.ENOENT}\n`,
  });
});

const SERVERS = [
  "create-servergroup -s server=192.0.2.30,192.0.2.4:80,192.0.2.200:6000-6009 sg1",
  "create-servergroup -s server=[2001:db8::10]:80 sg_v6",
  "create-servergroup empty",
];

test("ILB-126 servers stand in ascending order of their addresses", async () => {
  await cli.given(...SERVERS, "create-rule -i vip=198.51.100.1,port=5000-5009 -m type=h -o servergroup=empty r1");
  await cli.shows("show-sg -p -o ip_address sg1", "192.0.2.4\n192.0.2.30\n192.0.2.200\n");
  expect(await cli.config()).toStartWith(
    "create-servergroup sg1\nadd-server -s server=192.0.2.4:80 sg1\nadd-server -s server=192.0.2.30 sg1\nadd-server -s server=192.0.2.200:6000-6009 sg1\n",
  );
});

test("ILB-127 show-servergroup prints a line per server", async () => {
  await cli.given(...SERVERS);
  await cli.shows(
    "show-servergroup",
    `sg1: id:_sg1.1 192.0.2.4:80
sg1: id:_sg1.0 192.0.2.30
sg1: id:_sg1.2 192.0.2.200:6000-6009
sg_v6: id:_sg_v6.0 [2001:db8::10]:80
empty: id:
`,
  );
});

test("ILB-128 show-servergroup -o all is the table of five fields", async () => {
  await cli.given(...SERVERS);
  await cli.shows(
    "show-servergroup -o all",
    `sgname         serverID            minport maxport IP_address
sg1            _sg1.1              80      80      192.0.2.4
sg1            _sg1.0              --      --      192.0.2.30
sg1            _sg1.2              6000    6009    192.0.2.200
sg_v6          _sg_v6.0            80      80      2001:db8::10
empty          --                  --      --      --
`,
  );
});

test("ILB-129 unknown groups", async () => {
  await cli.refuses(["show-servergroup nosuch", TEXT.SGUNAVAIL], ["show-servergroup -o all nosuch", TEXT.SGUNAVAIL]);
});

const TWO_RULES = [
  "create-servergroup -s server=192.0.2.10:80,192.0.2.11,192.0.2.12:80 sg1",
  "create-servergroup -s server=192.0.2.20:6000-6009 sg2",
  "create-servergroup -s server=192.0.2.30 unused",
  "create-rule -i vip=198.51.100.1,port=80 -m type=DSR -o servergroup=sg1 r1",
  "create-rule -i vip=198.51.100.1,port=5000-5009 -m type=h -o servergroup=sg2 r2",
  "create-rule -i vip=198.51.100.2,port=80 -m type=DSR -o servergroup=sg1 r3",
  "disable-server _sg1.1",
];

test("ILB-130 each server shows once per rule", async () => {
  await cli.given(...TWO_RULES);
  await cli.shows(
    "show-server",
    `SERVERID            ADDRESS         PORT RULENAME            STATUS SERVERGROUP
_sg1.0              192.0.2.10      80   r1                  E      sg1
_sg1.1              192.0.2.11      ?    r1                  D      sg1
_sg1.2              192.0.2.12      80   r1                  E      sg1
_sg2.0              192.0.2.20      6000-6009 r2             E      sg2
_sg1.0              192.0.2.10      80   r3                  E      sg1
_sg1.1              192.0.2.11      ?    r3                  D      sg1
_sg1.2              192.0.2.12      80   r3                  E      sg1
`,
  );
});

test("ILB-262 rules of show-server stand in the order of the operands", async () => {
  await cli.given(...TWO_RULES);
  await cli.shows("show-server -p -o rulename,serverid r2 R1", "r2:_sg2.0\nr1:_sg1.0\nr1:_sg1.1\nr1:_sg1.2\n");
});

test("ILB-263 one group, printed as stored", async () => {
  await cli.given(...TWO_RULES);
  await cli.shows("show-servergroup SG2", "sg2: id:_sg2.0 192.0.2.20:6000-6009\n");
});

test("ILB-264 a backslash of a value is doubled among several fields, not in one", async () => {
  // A name that was refused is the one value with a backslash: the audit log keeps what somebody typed.
  expect((await cli.run("create-servergroup a\\b:c")).status).toBe(1);
  await cli.shows("show-audit -p -o result,command 1", "E-EINVAL:create-servergroup a\\\\b\\:c\n");
  await cli.shows("show-audit -p -o command 1", "create-servergroup a\\b:c\n");
});

test("ILB-135 COUNT of show-nat and show-persist is one number of at least 1", async () => {
  await cli.refuses(
    ...["show-nat", "show-persist"].flatMap((name) =>
      ["0", "x", "1 2", "1.5"].map((count) => [`${name} ${count}`, TEXT.VALUE] as const),
    ),
  );
});

const CHECKS = [
  "create-healthcheck -h hc-test=TCP,hc-timeout=2,hc-count=1,hc-interval=10 hc1",
  "create-healthcheck -n -h hc-test=/bin/true,hc-timeout=2,hc-count=1,hc-interval=10 hc2",
];

test("ILB-137 show-healthcheck", async () => {
  await cli.given(...CHECKS);
  await cli.shows(
    "show-healthcheck",
    `HCNAME        TIMEOUT COUNT   INTERVAL DEF_PING TEST
hc1           2       1       10       Y        TCP
hc2           2       1       10       N        /bin/true
`,
  );
});

test("ILB-289 health checks stand in the order of the operands; an unknown one ends the listing", async () => {
  await cli.given(...CHECKS);
  const rows = (await cli.prepared(["show-hc"])).trimEnd().split("\n");
  await cli.shows("show-hc HC2 hc1", `${[rows[0], rows[2], rows[1]].join("\n")}\n`);
  expect(await cli.run("show-hc hc2 nosuch hc1")).toEqual({
    status: 1,
    stdout: `${rows[0]}\n${rows[2]}\n`,
    stderr: `ilbadm: ${TEXT.ENOENT}\n`,
  });
});

const CHECKED = [
  ...CHECKS,
  "create-servergroup -s server=192.0.2.11,192.0.2.10 sg1",
  "create-rule -e -i vip=198.51.100.1,port=80 -m type=DSR -h hc-name=hc1 -o servergroup=sg1 Web",
  "create-rule -e -i vip=198.51.100.1,port=81 -m type=DSR -o servergroup=sg1 unchecked",
];
/** Times vary; whatever stands there must be one. */
const timeless = (listing: string): string => listing.replace(/\b\d\d:\d\d:\d\d\b/g, "HH:MM:SS");

test("ILB-138 rules without a health check are skipped, or refused by name", async () => {
  await cli.given(...CHECKED);
  const done = await cli.run("show-hc-result");
  expect(timeless(done.stdout)).toBe(`RULENAME      HCNAME        SERVERID      STATUS   FAIL LAST     NEXT     RTT
Web           hc1           _sg1.1        un-init  0    HH:MM:SS HH:MM:SS 0
Web           hc1           _sg1.0        un-init  0    HH:MM:SS HH:MM:SS 0
`);
  await cli.refuses(["show-hc-result unchecked", TEXT.NOHC], ["show-hc-result nosuch", TEXT.NOHC]);
});

test("ILB-139 a disabled server's check is disabled and has no next time", async () => {
  await cli.given(...CHECKED, "disable-server _sg1.0");
  const done = await cli.run("show-hc-result");
  expect(timeless(done.stdout).split("\n")[2]).toBe(
    "Web           hc1           _sg1.0        disabled 0    HH:MM:SS --       0",
  );
});

test("ILB-292 show-hc-result prints the stored name", async () => {
  await cli.given(...CHECKED);
  const done = await cli.run("show-hc-result WEB");
  expect(done.stdout.split("\n")[1]).toStartWith("Web           hc1 ");
});

test("ILB-288 delete-healthcheck stops at the first unknown name", async () => {
  await cli.given(...CHECKS);
  await cli.fails("delete-healthcheck hc1 nosuch hc2", TEXT.ENOENT);
  expect(await cli.config()).toBe(
    "create-healthcheck -n -h hc-test=/bin/true,hc-timeout=2,hc-count=1,hc-interval=10 hc2\n",
  );
});

/** show-healthcheck of one check. */
const listed = (row: string): string => `HCNAME        TIMEOUT COUNT   INTERVAL DEF_PING TEST\n${row}\n`;

test("ILB-199 without options a check has timeout 5, count 3, interval 30 and the default ping", async () => {
  await cli.ok("create-hc -h hc-test=tcp h1");
  await cli.shows("show-hc", listed("h1            5       3       30       Y        tcp"));
});

test("ILB-200 an interval has to be more than timeout times count", async () => {
  await cli.refuses(
    ["create-hc -h hc-test=tcp,hc-timeout=10 h1", TEXT.EINVAL],
    ["create-hc -h hc-test=tcp,hc-timeout=2,hc-count=5,hc-interval=10 h1", TEXT.EINVAL],
  );
  await cli.ok("create-hc -h hc-test=tcp,hc-timeout=2,hc-count=5,hc-interval=11 h1");
});

test("ILB-201 a check without a test is refused", async () => {
  await cli.refuses(["create-hc h1", "hc-test: missing"], ["create-hc -h hc-count=1 h1", "hc-test: missing"]);
});

test("ILB-203 -n goes with every test but ping", async () => {
  await cli.refuses(["create-hc -n -h hc-test=Ping h1", "cannot disable default PING for this test"]);
  for (const [name, tried] of [
    ["h1", "tcp"],
    ["h2", "udp"],
    ["h3", "/bin/true"],
  ]) {
    await cli.ok(`create-hc -n -h hc-test=${tried} ${name}`);
    await cli.shows(`show-hc ${name}`, listed(`${name}            5       3       30       N        ${tried}`));
  }
});

test("ILB-204 names of checks are told apart without regard to case", async () => {
  await cli.ok("create-hc -h hc-test=tcp h1");
  await cli.refuses(["create-hc -h hc-test=udp H1", TEXT.EEXIST]);
});

test("ILB-290 numbers of a health check are at least 1 and whole", async () => {
  const value = (key: string) => `${key}: ${TEXT.VALUE}`;
  await cli.refuses(
    ["create-hc -h hc-test=tcp,hc-timeout=0 h2", TEXT.EINVAL],
    ["create-hc -h hc-test=tcp,hc-count=0 h2", TEXT.EINVAL],
    ["create-hc -h hc-test=tcp,hc-timeout=-1 h2", value("hc-timeout")],
    ["create-hc -h hc-test=tcp,hc-timeout=5s h2", value("hc-timeout")],
    ["create-hc -h hc-test=tcp,hc-interval=2147483648 h2", value("hc-interval")],
  );
});

test("ILB-202 external tests are absolute paths of programs", async () => {
  const path = (name: string): string => join(cli.place.directory, name);
  mkdirSync(path("dir"), { recursive: true });
  writeFileSync(path("plain"), "");
  chmodSync(path("plain"), 0o644);
  await cli.refuses(
    ["create-hc -h hc-test=nosuch h1", TEXT.EINVAL],
    ["create-hc -h hc-test=bin/true h1", TEXT.EINVAL],
    [`create-hc -h hc-test=${path("dir")} h1`, TEXT.EINVAL],
    [`create-hc -h hc-test=${path("plain")} h1`, TEXT.EINVAL],
    [`create-hc -h hc-test=${path("missing")} h1`, TEXT.ENOENT],
  );
});

test("ILB-205 a health check that an enabled rule uses stays; disabled rules lose it", async () => {
  await cli.given(...CHECKED);
  await cli.refuses(["delete-hc hc1", TEXT.INUSE]);
  await cli.ok("disable-rule Web", "delete-hc hc1");
  await cli.shows("show-rule -p -o hc-name,hc-port Web", ":\n");
});
