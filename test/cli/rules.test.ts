/** ILB-061 to 108, 241 to 247, 254 to 256, 290, 291 and 299: rules, through the real program. Packets: test/e2e. */
import { expect, test } from "bun:test";
import { Program, TEXT } from "../support/program.ts";

const cli = new Program();
const GROUP = "create-servergroup -s server=192.0.2.10 sg1";

interface Parts {
  readonly incoming?: string;
  readonly method?: string;
  readonly rest?: string;
  readonly group?: string;
}
/** create-rule with what differs from a DSR rule on port 80. */
function rule(name: string, { incoming, method, rest, group }: Parts = {}): string {
  const words = ["create-rule", "-i", incoming ?? "vip=198.51.100.10,port=80", "-m", method ?? "type=DSR"];
  return [...words, ...(rest === undefined ? [] : [rest]), "-o", `servergroup=${group ?? "sg1"}`, name].join(" ");
}
const nat = (proxy: string, more = ""): Parts => ({ method: `type=NAT,proxy-src=${proxy}${more}` });

test("ILB-061 a rule is created disabled without -e", async () => {
  await cli.given(GROUP);
  await cli.ok(rule("r1"));
  await cli.shows("show-rule -p -o rulename,status", "r1:D\n");
});

test("ILB-062 with -e a rule is enabled at once", async () => {
  await cli.given(GROUP);
  await cli.ok(rule("r1", { rest: "-e" }));
  await cli.shows("show-rule -p -o rulename,status", "r1:E\n");
});

test("ILB-063 rule names have at most 19 characters", async () => {
  await cli.given(GROUP);
  const name = "abcdefghijklmnopqrst";
  await cli.refuses([rule(name), `rule name ${name} is too long - must not exceed 19 chars`]);
  await cli.ok(rule(name.slice(1)));
});

test("ILB-064 a name that exists in another case is E-DUPRULE", async () => {
  await cli.given(GROUP, rule("r1"));
  await cli.refuses([rule("R1", { incoming: "vip=198.51.100.10,port=81" }), TEXT.DUPRULE]);
  await cli.shows("show-rule -p -o rulename", "r1\n");
});

test("ILB-065 rules are found in any case and print as stored", async () => {
  await cli.given(GROUP, rule("Web", { rest: "-e" }));
  await cli.ok("disable-rule WEB");
  await cli.shows("show-rule -p -o rulename,status web", "Web:D\n");
});

test("ILB-066 rules of one address and protocol share no port", async () => {
  await cli.given(GROUP, rule("r1", { incoming: "vip=198.51.100.10,port=80-90" }));
  const other = (port: string) => rule("r2", { incoming: `vip=198.51.100.10,port=${port}` });
  await cli.refuses([other("85"), TEXT.EEXIST], [other("90-99"), TEXT.EEXIST], [other("1-65535"), TEXT.EEXIST]);
});

test("ILB-067 another protocol, the next port or another address is another rule", async () => {
  await cli.given(GROUP, rule("r1", { incoming: "vip=198.51.100.10,port=80-90" }));
  await cli.ok(
    rule("udp", { incoming: "vip=198.51.100.10,port=85,protocol=udp" }),
    rule("next", { incoming: "vip=198.51.100.10,port=91" }),
    rule("other", { incoming: "vip=198.51.100.11,port=85" }),
  );
});

test("ILB-068 a group that is not there", async () => {
  await cli.refuses([rule("r1"), TEXT.SGUNAVAIL], [rule("r1", { group: "abcdefghijklmnopq" }), TEXT.SGUNAVAIL]);
});

test("ILB-069 an empty group is allowed", async () => {
  await cli.given("create-servergroup sg1");
  await cli.ok(rule("r1", { rest: "-e" }));
  await cli.shows("show-rule -f", await cli.prepared(["show-rule", "-f"]));
  expect(await cli.prepared(["show-rule", "-f"])).toContain("        SERVERS: --\n");
});

test("ILB-070 an IPv6 address in front of IPv4 servers", async () => {
  await cli.given(GROUP);
  await cli.refuses([rule("r1", { incoming: "vip=2001:db8::1,port=80" }), TEXT.MISMATCHSG]);
});

test("ILB-071 without lbalg it is roundrobin", async () => {
  await cli.given(GROUP);
  await cli.ok(rule("r1"));
  await cli.shows("show-rule -p -o lbalg", "roundrobin\n");
});

test("ILB-072 a type is needed", async () => {
  await cli.given(GROUP);
  await cli.refuses(
    [rule("r1", { method: "lbalg=rr" }), "lbalg or type is unspecified"],
    ["create-rule -i vip=198.51.100.10,port=80 -o sg=sg1 r1", "lbalg or type is unspecified"],
  );
});

test("ILB-073 vip, servergroup and port are needed, reported in this order", async () => {
  await cli.given(GROUP);
  await cli.refuses(
    [rule("r1", { incoming: "port=80" }), "address family is invalid"],
    ["create-rule -m type=DSR r1", "address family is invalid"],
    ["create-rule -i vip=198.51.100.10,port=80 -m type=DSR r1", "servergroup name missing"],
    ["create-rule -i vip=198.51.100.10 -m lbalg=rr r1", "servergroup name missing"],
    [rule("r1", { incoming: "vip=198.51.100.10" }), "port: missing"],
    [
      "create-rule",
      "missing mandatory arguments - please refer to 'ilbadm create-rule' subcommand description in ilbadm(8)",
    ],
  );
});

test("ILB-074 ILB-076 the address is numeric, and brackets are for IPv6", async () => {
  await cli.given(GROUP);
  await cli.refuses(
    [rule("r1", { incoming: "vip=web.example,port=80" }), "vip: address is invalid"],
    [rule("r1", { incoming: "vip=198.51.100,port=80" }), "vip: address is invalid"],
    [rule("r1", { incoming: "vip=[2001:db8::1,port=80" }), `vip: ${TEXT.SYNTAX}`],
  );
});

test("ILB-075 IPv6 in brackets or bare, shown without", async () => {
  await cli.given("create-servergroup sg1");
  await cli.ok(
    rule("r1", { incoming: "vip=[2001:db8::1],port=80" }),
    rule("r2", { incoming: "vip=2001:db8::2,port=80" }),
  );
  await cli.shows("show-rule -p -o vip", "2001:db8::1\n2001:db8::2\n");
});

test("ILB-076 brackets around IPv4", async () => {
  await cli.given(GROUP);
  await cli.refuses([
    rule("r1", { incoming: "vip=[192.0.2.1],port=80" }),
    "use of '[]' only valid with IPv6 addresses",
  ]);
});

test("ILB-077 addresses that nobody can be reached at", async () => {
  await cli.given("create-servergroup sg1");
  const addresses = [
    "127.0.0.1",
    "224.0.0.1",
    "0.0.0.0",
    "255.255.255.255",
    "::1",
    "ff02::1",
    "::",
    "::ffff:192.0.2.1",
  ];
  await cli.refuses(...addresses.map((vip) => [rule("r1", { incoming: `vip=${vip},port=80` }), TEXT.EINVAL] as const));
});

const NEEDS_PROXY = "proxy-src is either missing or its address family does not match that of the VIP address";

test("ILB-078 NAT needs proxy-src", async () => {
  await cli.given(GROUP);
  await cli.refuses([rule("r1", { method: "type=NAT" }), NEEDS_PROXY]);
});

test("ILB-079 other types have no proxy-src", async () => {
  await cli.given(GROUP);
  const notAllowed = "proxy-src: proxy-src not allowed";
  await cli.refuses(
    [rule("r1", { method: "type=DSR,proxy-src=203.0.113.1" }), notAllowed],
    [rule("r1", { method: "proxy-src=203.0.113.1,type=HALF-NAT" }), notAllowed],
  );
});

test("ILB-080 at most ten proxy addresses", async () => {
  await cli.given(GROUP);
  await cli.refuses([rule("r1", nat("203.0.113.1-203.0.113.11")), TEXT.EINVAL]);
  await cli.ok(rule("r1", nat("203.0.113.1-203.0.113.10")));
});

test("ILB-081 a proxy address may end in 127, and begin with neither 127 nor 224", async () => {
  await cli.given(GROUP);
  await cli.ok(rule("r1", nat("192.0.2.127")));
  const other = { incoming: "vip=198.51.100.10,port=81" };
  await cli.refuses(
    [rule("r2", { ...other, ...nat("127.0.0.1") }), TEXT.EINVAL],
    [rule("r2", { ...other, ...nat("224.0.0.1") }), TEXT.EINVAL],
  );
});

test("ILB-082 a proxy address of the other family", async () => {
  await cli.given(GROUP);
  await cli.refuses([rule("r1", nat("2001:db8::1")), NEEDS_PROXY]);
});

test("ILB-083 ILB-084 every spelling of types and algorithms", async () => {
  await cli.given(GROUP);
  const types = {
    d: "DSR",
    dsr: "DSR",
    n: "NAT",
    nat: "NAT",
    h: "HALF-NAT",
    "half-nat": "HALF-NAT",
    "Half-NAT": "HALF-NAT",
  };
  const lines = Object.keys(types).map((type, i) => {
    const method = `type=${type}${types[type as keyof typeof types] === "NAT" ? ",proxy-src=203.0.113.1" : ""}`;
    return rule(`t${i}`, { incoming: `vip=198.51.100.10,port=${100 + i}`, method });
  });
  await cli.ok(...lines);
  await cli.shows("show-rule -p -o type", `${Object.values(types).join("\n")}\n`);
  await cli.refuses([rule("r1", { method: "type=HALF-TYPE" }), "type: operation type is invalid"]);
});

test("ILB-084 algorithms by short and long names", async () => {
  await cli.given(GROUP);
  const names = { rr: "roundrobin", hip: "hash-ip", HIPP: "hash-ip-port", hipv: "hash-ip-vip", "Hash-IP": "hash-ip" };
  await cli.ok(
    ...Object.keys(names).map((name, i) =>
      rule(`a${i}`, { incoming: `vip=198.51.100.10,port=${100 + i}`, method: `lbalg=${name},type=DSR` }),
    ),
  );
  await cli.shows("show-rule -p -o lbalg", `${Object.values(names).join("\n")}\n`);
  await cli.refuses([rule("r1", { method: "lbalg=wrr,type=DSR" }), "lbalg: LB algorithm is invalid"]);
});

test("ILB-085 DSR changes no port", async () => {
  await cli.given("create-servergroup -s server=192.0.2.10:8080 sg1");
  await cli.refuses([rule("r1"), TEXT.BADSG]);
});

const SHIFTED = { incoming: "vip=198.51.100.10,port=5000-5009", ...nat("203.0.113.1") };

test("ILB-088 a NAT range needs a range of the same size", async () => {
  await cli.given("create-servergroup -s server=192.0.2.10:6000-6004 sg1", "create-servergroup sg2");
  await cli.refuses([rule("r1", SHIFTED), TEXT.BADSG]);
  await cli.ok(rule("r1", { ...SHIFTED, group: "sg2" }));
  await cli.refuses([
    "add-server -s server=192.0.2.10:6000-6004 sg2",
    `cannot add 192.0.2.10 to sg2: ${TEXT.INVALSRVR}`,
  ]);
});

test("ILB-089 a single NAT port has no range behind it", async () => {
  await cli.given("create-servergroup -s server=192.0.2.10:80-81 sg1", "create-servergroup sg2");
  await cli.refuses([rule("r1", nat("203.0.113.1")), TEXT.BADSG]);
  await cli.ok(rule("r1", { ...nat("203.0.113.1"), group: "sg2" }));
  await cli.refuses(["add-server -s server=192.0.2.10:80-81 sg2", `cannot add 192.0.2.10 to sg2: ${TEXT.INVALSRVR}`]);
});

test("port rules of DSR when servers are added", async () => {
  await cli.given(
    "create-servergroup one",
    "create-servergroup many",
    rule("r1", { group: "one" }),
    rule("r2", { group: "many", incoming: "vip=198.51.100.10,port=5000-5009" }),
  );
  const fails = (server: string, group: string, text: string) =>
    [`add-server -s server=${server} ${group}`, `cannot add 192.0.2.10 to ${group}: ${text}`] as const;
  await cli.refuses(
    fails("192.0.2.10:81", "one", TEXT.BADPORT),
    fails("192.0.2.10:80-81", "one", TEXT.INVALSRVR),
    fails("192.0.2.10:5000-5008", "many", TEXT.BADPORT),
    fails("192.0.2.10:5000", "many", TEXT.INVALSRVR),
  );
});

const CHECK = "create-healthcheck -h hc-test=tcp h1";

test("ILB-091 hc-port lies among the ports of every server, or of the rule", async () => {
  await cli.given(
    CHECK,
    "create-servergroup -s server=192.0.2.10:6000-6009,192.0.2.11:7000-7009 sg1",
    GROUP.replace("sg1", "sg2"),
  );
  const half = { incoming: "vip=198.51.100.10,port=5000-5009", method: "type=h" };
  const probed = (port: string, group: string) => rule("r1", { ...half, rest: `-h hc-name=h1,hc-port=${port}`, group });
  await cli.refuses([probed("6005", "sg1"), TEXT.BADSG], [probed("6005", "sg2"), TEXT.BADSG]);
  await cli.ok(probed("5005", "sg2"));
  await cli.refuses(["add-server -s server=192.0.2.20:6000-6009 sg2", `cannot add 192.0.2.20 to sg2: ${TEXT.BADPORT}`]);
});

test("ILB-092 a server with the very port of hc-port is added", async () => {
  await cli.given(
    CHECK,
    "create-servergroup sg1",
    rule("r1", { ...nat("203.0.113.1"), rest: "-h hc-name=h1,hc-port=8080" }),
  );
  await cli.ok("add-server -s server=192.0.2.30:8080 sg1");
});

test("ILB-093 ILB-094 the health check exists and fits the protocol", async () => {
  await cli.given(GROUP, CHECK, "create-healthcheck -h hc-test=udp u1", "create-healthcheck -h hc-test=ping p1");
  const udp = { incoming: "vip=198.51.100.10,port=80,protocol=udp" };
  await cli.refuses(
    [rule("r1", { rest: "-h hc-name=nosuch" }), TEXT.NOHCINFO],
    [rule("r1", { rest: "-h hc-name=abcdefghijklmnopqrstu" }), TEXT.NOHCINFO],
  );
  await cli.ok(rule("r1", { ...udp, rest: "-h hc-name=U1" }));
});

test("ILB-094 tcp tests need a TCP rule, udp tests a UDP rule, ping fits both", async () => {
  await cli.given(GROUP, CHECK, "create-healthcheck -h hc-test=udp u1", "create-healthcheck -h hc-test=ping p1");
  const udp = { incoming: "vip=198.51.100.10,port=80,protocol=udp" };
  await cli.refuses(
    [rule("r1", { ...udp, rest: "-h hc-name=h1" }), TEXT.HCMISMATCH],
    [rule("r1", { rest: "-h hc-name=u1" }), TEXT.HCMISMATCH],
  );
  await cli.ok(rule("r1", { ...udp, rest: "-h hc-name=p1" }), rule("r2", { rest: "-h hc-name=p1" }));
});

test("ILB-095 ILB-096 pmask alone and -p alone make a rule sticky", async () => {
  await cli.given(GROUP, "create-servergroup sg6");
  await cli.ok(
    rule("mask", { method: "type=DSR,pmask=24" }),
    rule("p4", { rest: "-p", incoming: "vip=198.51.100.10,port=81" }),
    rule("p6", { rest: "-p", incoming: "vip=2001:db8::1,port=81", group: "sg6" }),
  );
  await cli.shows("show-rule -p -o pmask", "/24\n/32\n/128\n");
  expect(await cli.config()).toContain(
    "create-rule -p -i vip=198.51.100.10,port=80,protocol=tcp -m lbalg=roundrobin,type=DSR,pmask=/24",
  );
});

test("ILB-096 -p means single clients", async () => {
  await cli.given(GROUP);
  await cli.ok(rule("r1", { rest: "-p" }));
  await cli.shows("show-rule -p -o pmask,persist-timeout", "/32:60\n");
});

test("ILB-097 pmask beyond the address is refused; 0 is everybody", async () => {
  await cli.given(GROUP, "create-servergroup sg6");
  const six = { incoming: "vip=2001:db8::1,port=81", group: "sg6" };
  const wrong = "invalid pmask provided (AF mismatch?)";
  await cli.refuses(
    [rule("r1", { method: "type=DSR,pmask=33" }), wrong],
    [rule("r1", { ...six, method: "type=DSR,pmask=129" }), wrong],
  );
  await cli.ok(rule("r1", { method: "type=DSR,pmask=0" }), rule("r2", { ...six, method: "type=DSR,pmask=/128" }));
  await cli.shows("show-rule -p -o pmask", "/0\n/128\n");
});

test("ILB-098 timers of 0 are the defaults", async () => {
  await cli.given(GROUP, rule("r1", { method: "type=h,pmask=24" }));
  const without = [await cli.config(), await cli.prepared(["show-rule", "-f"])];
  await cli.ok("delete-rule r1");
  await cli.ok(rule("r1", { method: "type=h,pmask=24", rest: "-t conn-drain=0,nat-timeout=0,persist-timeout=0" }));
  expect([await cli.config(), await cli.prepared(["show-rule", "-f"])]).toEqual(without);
});

test("ILB-099 timers are 32-bit seconds", async () => {
  await cli.given(GROUP);
  await cli.refuses(
    [rule("r1", { rest: "-t nat-timeout=4294967296" }), `nat-timeout: ${TEXT.VALUE}`],
    [rule("r1", { rest: "-t conn-drain=-1" }), `conn-drain: ${TEXT.VALUE}`],
    [rule("r1", { rest: "-t persist-timeout=x" }), `persist-timeout: ${TEXT.VALUE}`],
  );
  await cli.ok(rule("r1", { rest: "-t nat-timeout=4294967295" }));
});

test("ILB-100 service names of ports", async () => {
  await cli.given(GROUP);
  await cli.ok(rule("r1", { incoming: "vip=198.51.100.10,port=telnet" }));
  await cli.shows("show-rule -p -o port", "23\n");
  await cli.refuses([
    rule("r2", { incoming: "vip=198.51.100.10,port=nosuch" }),
    "port: servicename does not exist in nameservices",
  ]);
});

test("ILB-101 bad ports are named", async () => {
  await cli.given(GROUP);
  const named = { "0": "0", "65536": "65536", "90-80": "80", "80-80": "80" };
  await cli.refuses(
    ...Object.entries(named).map(
      ([port, at]) =>
        [rule("r1", { incoming: `vip=198.51.100.10,port=${port}` }), `invalid port value ${at} specified`] as const,
    ),
  );
});

test("ILB-102 only tcp and udp are protocols", async () => {
  await cli.given(GROUP);
  await cli.refuses(
    ...["icmp", "6", "nosuch", "sctp"].map(
      (name) => [rule("r1", { incoming: `vip=198.51.100.10,port=80,protocol=${name}` }), TEXT.EINVAL] as const,
    ),
  );
});

const THREE = [
  GROUP,
  ..."abc".split("").map((name, i) => rule(name, { incoming: `vip=198.51.100.10,port=${80 + i}` })),
];

test("ILB-103 delete-rule stops at the first name that is unknown", async () => {
  await cli.given(...THREE);
  await cli.fails("delete-rule a nosuch b", TEXT.ENORULE);
  await cli.shows("show-rule -p -o rulename", "b\nc\n");
});

test("ILB-104 delete-rule -a takes all, also with names", async () => {
  await cli.given(...THREE);
  await cli.ok("delete-rule -a nosuch");
  await cli.shows("show-rule", "");
});

test("ILB-105 delete-rule needs a name or -a", async () => {
  await cli.refuses(["delete-rule", "usage: delete-rule -a | name"]);
});

test("ILB-106 without names all rules are switched", async () => {
  await cli.given(...THREE);
  await cli.ok("enable-rule");
  await cli.shows("show-rule -p -o status", "E\nE\nE\n");
  await cli.ok("disable-rule");
  await cli.shows("show-rule -p -o status", "D\nD\nD\n");
});

test("ILB-107 every unknown name is reported, the others are switched", async () => {
  await cli.given(...THREE);
  await cli.fails("enable-rule nosuch a NoSuch2 c", `nosuch: ${TEXT.ENORULE}`, `NoSuch2: ${TEXT.ENORULE}`);
  await cli.shows("show-rule -p -o status", "E\nD\nE\n");
});

test("ILB-108 an enabled rule can be deleted", async () => {
  await cli.given(...THREE, "enable-rule b");
  await cli.ok("delete-rule B");
  await cli.shows("show-rule -p -o rulename", "a\nc\n");
});

test("ILB-241 the protocol is TCP unless it says UDP", async () => {
  await cli.given(GROUP);
  await cli.ok(
    rule("a"),
    rule("b", { incoming: "vip=198.51.100.10,port=80,protocol=UDP" }),
    rule("c", { incoming: "vip=198.51.100.10,port=81,protocol=udp" }),
  );
  await cli.shows("show-rule -p -o protocol", "TCP\nUDP\nUDP\n");
});

test("ILB-242 one proxy address is a range of one", async () => {
  await cli.given(GROUP);
  await cli.ok(rule("r1", nat("203.0.113.1")));
  await cli.shows("show-rule -p -o proxy-src", "203.0.113.1-203.0.113.1\n");
  const exported = await cli.config();
  expect(exported).toContain("proxy-src=203.0.113.1-203.0.113.1");
  expect((await cli.run("import-config", exported)).status).toBe(0);
  expect(await cli.config()).toBe(exported);
});

test("ILB-243 a proxy range runs forwards, within 64 bits", async () => {
  await cli.given("create-servergroup sg1");
  const six = { incoming: "vip=2001:db8::1,port=80" };
  await cli.refuses(
    [rule("r1", nat("203.0.113.2-203.0.113.1")), TEXT.EINVAL],
    [rule("r1", { ...six, ...nat("2001:db8:0:1::1-2001:db8:0:2::1") }), TEXT.EINVAL],
  );
});

test("ILB-244 pmask is a number", async () => {
  await cli.given(GROUP);
  await cli.refuses([rule("r1", { method: "type=DSR,pmask=x" }), "invalid pmask provided"]);
});

test("ILB-245 hc-port is ANY, ALL or a port", async () => {
  await cli.given(GROUP, CHECK);
  const probed = (name: string, port: string, at = 80) =>
    rule(name, { rest: `-h hc-name=h1,hc-port=${port}`, incoming: `vip=198.51.100.10,port=${at}` });
  await cli.refuses(
    [probed("r", "0"), "illegal number for hcport 0"],
    [probed("r", "65536"), "illegal number for hcport 65536"],
    [probed("r", "http"), `hc-port: ${TEXT.VALUE}`],
  );
  await cli.ok(probed("a", "any"), probed("b", "all", 81));
  await cli.shows("show-rule -p -o hc-port", "ANY\nALL\n");
});

test("ILB-246 hc-port without hc-name", async () => {
  await cli.given(GROUP);
  await cli.refuses([rule("r1", { rest: "-h hc-port=80" }), TEXT.ARGS]);
});

test("ILB-247 all ports are 1-65535 in listing and export", async () => {
  await cli.given(GROUP);
  await cli.ok(rule("r1", { incoming: "vip=198.51.100.10,port=1-65535" }));
  await cli.shows("show-rule -p -o port", "1-65535\n");
  expect(await cli.config()).toContain("vip=198.51.100.10,port=1-65535,protocol=tcp");
});

test("ILB-254 switching what is switched already, or nothing at all, succeeds", async () => {
  await cli.ok("enable-rule", "disable-rule", "delete-rule -a");
  await cli.given(...THREE, "enable-rule a");
  const before = await cli.config();
  await cli.ok("enable-rule a", "disable-rule b");
  expect(await cli.config()).toBe(before);
});

test("ILB-255 a server that is enabled again shows E in every rule", async () => {
  await cli.given(...THREE, "disable-server _sg1.0");
  await cli.ok("enable-server _sg1.0");
  await cli.shows("show-server -p -o rulename,status", "a:E\nb:E\nc:E\n");
});

test("ILB-256 a new rule inherits that a server is disabled", async () => {
  await cli.given(...THREE, "disable-server _sg1.0");
  await cli.ok(rule("d", { incoming: "vip=198.51.100.10,port=90" }));
  await cli.shows("show-server -p -o serverid,status d", "_sg1.0:D\n");
});

test("ILB-291 hc-port=ALL probes at most 1024 ports", async () => {
  await cli.given(GROUP, CHECK, "create-servergroup sg2");
  const all = (ports: string, group: string) =>
    rule("r1", { rest: "-h hc-name=h1,hc-port=ALL", incoming: `vip=198.51.100.10,port=${ports}`, group });
  await cli.refuses([all("1000-2999", "sg1"), TEXT.EINVAL]);
  await cli.ok(all("1000-2999", "sg2"));
  await cli.refuses(["add-server -s server=192.0.2.10 sg2", `cannot add 192.0.2.10 to sg2: ${TEXT.EINVAL}`]);
});

test("ILB-299 a rule takes servers from a group only", async () => {
  await cli.refuses([
    "create-rule -i vip=198.51.100.10,port=80 -m type=DSR -o server=192.0.2.10 r1",
    "bad keyword server",
  ]);
});
