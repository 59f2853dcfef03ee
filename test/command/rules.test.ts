/** Rules: keys and values, ports, addresses, health checks, switching and deleting. */
import { describe, expect, test } from "bun:test";
import type { Rule } from "../../src/model/config.ts";
import { errorOf, FakeHost, ilbadm, outputOf, setUp } from "../support/fake-host.ts";
import { base, created, createRule, EINVAL, hostWith, refused } from "./rule-lines.ts";

const BADSG = "ilbadm: the rule's port range does not match that of the servers' in associated servergroup\n";

test("ILB-061 a rule is created disabled without -e", async () => {
  expect((await created()).enabled).toBe(false);
});

test("ILB-062 a rule is created enabled with -e", async () => {
  expect((await created({ flags: "-e" })).enabled).toBe(true);
});

test("ILB-063 a rule's name has at most 19 characters", async () => {
  const name = "r2345678901234567890";
  expect(await refused({ name })).toBe(`ilbadm: rule name ${name} is too long - must not exceed 19 chars\n`);
  expect((await created({ name: name.slice(0, 19) })).name.length).toBe(19);
});

test("ILB-064 a rule exists once, whatever the case", async () => {
  const host = await base();
  await setUp(host, createRule());
  for (const name of ["r1", "R1"]) {
    expect(await errorOf(host, createRule({ name, port: "81" }))).toBe("ilbadm: specified rule name already exists\n");
  }
  expect(await outputOf(host, "show-rule -p -o rulename")).toBe("r1\n");
});

test("ILB-065 rules are found in any case and printed as stored", async () => {
  const host = await base();
  await setUp(host, createRule({ name: "Web", flags: "-e" }), "disable-rule WEB");
  expect(await outputOf(host, "show-rule -p -o rulename,status web")).toBe("Web:D\n");
});

test("ILB-066 rules on one VIP and protocol do not share ports", async () => {
  for (const port of ["85", "70-80", "90-91", "1-65535"]) {
    const text = await refused({ port, name: "r2" }, createRule({ port: "80-90" }));
    expect(text).toBe("ilbadm: object already exists\n");
  }
});

test("ILB-067 another protocol, port or VIP is another rule", async () => {
  const host = await base();
  await setUp(
    host,
    createRule({ port: "80-90" }),
    createRule({ port: "85", more: ",protocol=udp", name: "r2" }),
    createRule({ port: "91", name: "r3" }),
    createRule({ vip: "198.51.100.11", port: "85", name: "r4" }),
  );
  expect(host.config().rules.length).toBe(4);
});

test("ILB-068 the group must exist", async () => {
  expect(await refused({ group: "nosuch" })).toBe("ilbadm: cannot find specified server group\n");
  expect(await refused({ group: "a-name-that-is-far-too-long" })).toBe("ilbadm: cannot find specified server group\n");
});

test("ILB-069 a rule may be created on an empty group", async () => {
  expect(await created({ group: "empty", flags: "-e" })).toMatchObject({ enabled: true });
});

const MISMATCHSG = "ilbadm: address family mismatch with servergroup\n";

test("ILB-070 the VIP is of the servers' family", async () => {
  expect(await refused({ vip: "2001:db8::1" })).toBe(MISMATCHSG);
  expect(await refused({ group: "v6" })).toBe(MISMATCHSG);
});

test("ILB-251 the rules of an empty group decide its family", async () => {
  expect(await refused({ vip: "2001:db8::1", group: "empty", name: "r2" }, createRule({ group: "empty" }))).toBe(
    MISMATCHSG,
  );
});

test("ILB-071 roundrobin is the default algorithm", async () => {
  expect((await created()).algorithm).toBe("roundrobin");
});

test.each([
  ["create-rule -i vip=198.51.100.1,port=80 -m lbalg=rr -o sg=sg1 r1", "lbalg or type is unspecified"],
  ["create-rule -i vip=198.51.100.1,port=80 -o sg=sg1 r1", "lbalg or type is unspecified"],
  ["create-rule -i port=80 -m type=d -o sg=sg1 r1", "address family is invalid"],
  ["create-rule -m type=d -o sg=sg1 r1", "address family is invalid"],
  ["create-rule -i vip=198.51.100.1,port=80 -m type=d r1", "servergroup name missing"],
  ["create-rule -i vip=198.51.100.1 -m type=d -o sg=sg1 r1", "port: missing"],
  ["create-rule -i port=80 -m lbalg=rr r1", "address family is invalid"],
])("ILB-072 ILB-073 what is missing is named in order: %s", async (line, text) => {
  const host = await base();
  expect(await errorOf(host, line)).toBe(`ilbadm: ${text}\n`);
  expect(host.config().rules).toEqual([]);
});

test("create-rule without a name refers to its description", async () => {
  expect(await errorOf(await base(), "create-rule -i vip=198.51.100.1,port=80 -m type=d -o sg=sg1")).toBe(
    "ilbadm: missing mandatory arguments - please refer to 'ilbadm create-rule' subcommand description in ilbadm(8)\n",
  );
});

test("ILB-074 a VIP is numeric", async () => {
  expect(await refused({ vip: "web.example" })).toBe("ilbadm: vip: address is invalid\n");
  expect(await refused({ vip: "[web]" })).toBe("ilbadm: vip: address is invalid\n");
  expect(await refused({ vip: "[2001:db8::1" })).toBe("ilbadm: vip: syntax failure - refer to ilbadm(8)\n");
});

test("ILB-075 an IPv6 VIP may stand in brackets and is shown without", async () => {
  for (const vip of ["2001:db8::1", "[2001:db8::1]", "2001:DB8:0:0::1"]) {
    const host = await base();
    await setUp(host, createRule({ vip, group: "v6" }));
    expect(await outputOf(host, "show-rule -p -o vip")).toBe("2001:db8::1\n");
  }
});

test("ILB-076 brackets are for IPv6", async () => {
  expect(await refused({ vip: "[192.0.2.1]" })).toBe("ilbadm: use of '[]' only valid with IPv6 addresses\n");
});

test.each(["127.0.0.1", "224.0.0.1", "0.0.0.0", "255.255.255.255"])("ILB-077 %s is no VIP", async (vip) => {
  expect(await refused({ vip })).toBe(EINVAL);
});

test.each(["::1", "ff02::1", "::", "::ffff:192.0.2.1"])("ILB-077 %s is no VIP", async (vip) => {
  expect(await refused({ vip, group: "v6" })).toBe(EINVAL);
});

const PROXY = "ilbadm: proxy-src is either missing or its address family does not match that of the VIP address\n";

test("ILB-078 NAT needs proxy-src", async () => {
  expect(await refused({ method: "type=NAT" })).toBe(PROXY);
});

test("ILB-079 DSR and HALF-NAT have no proxy-src", async () => {
  for (const type of ["DSR", "HALF-NAT"]) {
    expect(await refused({ method: `type=${type},proxy-src=203.0.113.1` })).toBe(
      "ilbadm: proxy-src: proxy-src not allowed\n",
    );
  }
});

test("ILB-080 proxy-src has at most 10 addresses", async () => {
  await created({ method: "type=NAT,proxy-src=203.0.113.1-203.0.113.10" });
  expect(await refused({ method: "type=NAT,proxy-src=203.0.113.1-203.0.113.11" })).toBe(EINVAL);
});

test("ILB-081 the last octet of proxy-src may be anything, the first may not be 127 or 224-239", async () => {
  await created({ method: "type=NAT,proxy-src=192.0.2.127" });
  await created({ method: "type=NAT,proxy-src=192.0.2.230" });
  expect(await refused({ method: "type=NAT,proxy-src=127.0.2.1" })).toBe(EINVAL);
  expect(await refused({ method: "type=NAT,proxy-src=225.0.2.1" })).toBe(EINVAL);
});

test("ILB-082 proxy-src is of the VIP's family", async () => {
  expect(await refused({ method: "type=NAT,proxy-src=2001:db8::5" })).toBe(PROXY);
});

test.each([
  ["d", "DSR"],
  ["DSR", "DSR"],
  ["dsr", "DSR"],
  ["n", "NAT"],
  ["Nat", "NAT"],
  ["h", "HALF-NAT"],
  ["half-nat", "HALF-NAT"],
])("ILB-083 type=%s is %s", async (word, type) => {
  const proxy = type === "NAT" ? ",proxy-src=203.0.113.1" : "";
  expect((await created({ method: `type=${word}${proxy}` })).type).toBe(type as Rule["type"]);
});

test("ILB-083 another type is refused", async () => {
  expect(await refused({ method: "type=HALF-TYPE" })).toBe("ilbadm: type: operation type is invalid\n");
});

test.each([
  ["rr", "roundrobin"],
  ["hip", "hash-ip"],
  ["HIPP", "hash-ip-port"],
  ["hipv", "hash-ip-vip"],
  ["Hash-IP", "hash-ip"],
])("ILB-084 lbalg=%s is %s", async (word, algorithm) => {
  expect((await created({ method: `type=d,lbalg=${word}` })).algorithm).toBe(algorithm as Rule["algorithm"]);
});

test("ILB-084 another algorithm is refused", async () => {
  expect(await refused({ method: "type=d,lbalg=wrr" })).toBe("ilbadm: lbalg: LB algorithm is invalid\n");
});

/** The port table, row by row: rule ports, server ports, allowed for DSR, allowed for NAT and HALF-NAT, add-server's code. */
const PORT_TABLE: [rule: string, server: string, dsr: boolean, nat: boolean, dsrAdd?: string, natAdd?: string][] = [
  ["80", "", true, true],
  ["5000-5009", "", true, true],
  ["80", ":80", true, true],
  ["80", ":8080", false, true, "E-BADPORT"],
  ["80", ":80-81", false, false, "E-INVALSRVR", "E-INVALSRVR"],
  ["5000-5009", ":5000-5009", true, true],
  ["5000-5009", ":6000-6009", false, true, "E-BADPORT"],
  ["5000-5009", ":6000-6004", false, false, "E-BADPORT", "E-INVALSRVR"],
  ["5000-5009", ":6000", false, true, "E-INVALSRVR"],
];
const ADD_TEXTS: Record<string, string> = {
  "E-BADPORT": "the rule's port value does not match that of the servers' in associated servergroup",
  "E-INVALSRVR":
    "server cannot be added to the servergroup, as the servergroup is associated to rule(s) with port/port range that is incompatible with the server's port",
};

describe.each(["DSR", "HALF-NAT", "NAT,proxy-src=203.0.113.1"])("ILB-085 ILB-088 ILB-089 ports of type=%s", (type) => {
  test.each(PORT_TABLE)("rule %s, server '%s'", async (port, suffix, dsr, nat, dsrAdd, natAdd) => {
    const isDsr = type === "DSR";
    const allowed = isDsr ? dsr : nat;
    const line = createRule({ port, method: `type=${type}`, group: "g" });
    const full = await hostWith(`create-sg -s server=192.0.2.1${suffix} g`);
    const first = await ilbadm(full, line);
    expect(first.stderr).toBe(allowed ? "" : BADSG);
    const empty = await hostWith("create-sg g", line);
    const second = await ilbadm(empty, `add-server -s server=192.0.2.1${suffix} g`);
    const code = (isDsr ? dsrAdd : natAdd) ?? "";
    expect(second.stderr).toBe(allowed ? "" : `ilbadm: cannot add 192.0.2.1 to g: ${ADD_TEXTS[code]}\n`);
  });
});

describe("hc-port", () => {
  const health = (port: string) => `-h hc-name=h,hc-port=${port}`;
  const CHECK = "create-hc -h hc-test=ping h";

  test("ILB-091 a number lies in the ports of every server, else of the rule", async () => {
    const servers = "create-sg -s server=192.0.2.1:8080,192.0.2.2:8080 g";
    const nat = { method: "type=h", group: "g", name: "r" };
    expect(await refused({ ...nat, health: health("80") }, CHECK, servers)).toBe(BADSG);
    await setUp(await base(), CHECK, servers, createRule({ ...nat, health: health("8080") }));
    expect(await refused({ health: health("81") }, CHECK)).toBe(BADSG);
    await setUp(await base(), CHECK, createRule({ health: health("80") }));
  });

  test("ILB-092 a server whose port is the probed one is added, another is not", async () => {
    const host = await hostWith(
      CHECK,
      "create-sg g",
      createRule({ method: "type=h", group: "g", health: health("8080") }),
    );
    await setUp(host, "add-server -s server=192.0.2.30:8080 g");
    expect(await errorOf(host, "add-server -s server=192.0.2.31:8081 g")).toBe(
      `ilbadm: cannot add 192.0.2.31 to g: ${ADD_TEXTS["E-BADPORT"]}\n`,
    );
  });

  test.each([
    ["any", "ANY"],
    ["all", "ALL"],
    ["80", "80"],
  ])("ILB-245 hc-port=%s shows as %s", async (word, shown) => {
    const host = await base();
    await setUp(host, CHECK, createRule({ health: health(word) }));
    expect(await outputOf(host, "show-rule -p -o hc-name,hc-port")).toBe(`h:${shown}\n`);
  });

  test.each([
    ["0", "illegal number for hcport 0"],
    ["65536", "illegal number for hcport 65536"],
    ["http", "hc-port: invalid value  - refer to ilbadm(8)"],
  ])("ILB-245 hc-port=%s is refused", async (word, text) => {
    expect(await refused({ health: health(word) }, CHECK)).toBe(`ilbadm: ${text}\n`);
  });

  test("ILB-246 hc-port needs hc-name", async () => {
    expect(await refused({ health: "-h hc-port=80" })).toBe(
      "ilbadm: invalid/incompatible keywords - refer to ilbadm(8)\n",
    );
  });

  test("ILB-291 ALL probes at most 1024 ports", async () => {
    const nat = { method: "type=h", health: health("ALL") };
    expect(await refused({ ...nat, port: "1-2000" }, CHECK)).toBe(EINVAL);
    const host = await base();
    await setUp(
      host,
      CHECK,
      createRule({ ...nat, port: "1-1024", group: "empty" }),
      "add-server -s server=192.0.2.1 empty",
    );
  });
});

test("ILB-093 the health check must exist", async () => {
  expect(await refused({ health: "-h hc-name=nosuch" })).toBe("ilbadm: missing healthcheck info\n");
});

test("ILB-094 a tcp test needs a TCP rule and a udp test a UDP rule", async () => {
  const text = "ilbadm: protocol used in rule and health check does not match\n";
  const checks = ["create-hc -h hc-test=TCP t", "create-hc -h hc-test=udp u", "create-hc -h hc-test=/x e"];
  expect(await refused({ more: ",protocol=udp", health: "-h hc-name=t" }, ...checks)).toBe(text);
  expect(await refused({ health: "-h hc-name=u" }, ...checks)).toBe(text);
  await setUp(await base(), ...checks, createRule({ health: "-h hc-name=e" }));
  await setUp(await base(), ...checks, createRule({ health: "-h hc-name=T" }));
});

test("ILB-095 pmask alone makes the rule sticky", async () => {
  expect((await created({ method: "type=d,pmask=24" })).stickyMask).toBe(24);
  expect((await created({ method: "type=d,pmask=/24" })).stickyMask).toBe(24);
});

test("ILB-096 -p alone means single clients", async () => {
  expect((await created({ flags: "-p" })).stickyMask).toBe(32);
  expect((await created({ flags: "-p", vip: "2001:db8::1", group: "v6" })).stickyMask).toBe(128);
});

test("ILB-097 pmask fits the family, 0 included", async () => {
  const text = "ilbadm: invalid pmask provided (AF mismatch?)\n";
  expect(await refused({ method: "type=d,pmask=33" })).toBe(text);
  expect(await refused({ method: "type=d,pmask=129", vip: "2001:db8::1", group: "v6" })).toBe(text);
  expect((await created({ method: "type=d,pmask=0" })).stickyMask).toBe(0);
});

test("ILB-244 pmask is a number", async () => {
  for (const mask of ["x", "/", "//24", "-1", "24x"]) {
    expect(await refused({ method: `type=d,pmask=${mask}` })).toBe("ilbadm: invalid pmask provided\n");
  }
});

test("ILB-098 explicit zeros are the defaults", async () => {
  const outputs = [];
  for (const timers of ["", "-t conn-drain=0,nat-timeout=0,persist-timeout=0"]) {
    const host = await base();
    await setUp(host, createRule({ method: "type=h,pmask=24", timers }));
    outputs.push([await outputOf(host, "show-rule -f"), await outputOf(host, "export-config")]);
  }
  expect(outputs[1]).toEqual(outputs[0]);
});

test.each(["conn-drain", "nat-timeout", "persist-timeout"])("ILB-099 %s is 0 to 4294967295", async (timer) => {
  await created({ timers: `-t ${timer}=4294967295` });
  for (const value of ["4294967296", "-1", "1.5", "5s"]) {
    expect(await refused({ timers: `-t ${timer}=${value}` })).toBe(
      `ilbadm: ${timer}: invalid value  - refer to ilbadm(8)\n`,
    );
  }
});

test("ILB-100 a service name is its port, an unknown one is refused", async () => {
  expect((await created({ port: "telnet" })).ports).toEqual({ min: 23, max: 23 });
  expect(await refused({ port: "nosuch" })).toBe("ilbadm: port: servicename does not exist in nameservices\n");
});

test.each([
  ["0", "0"],
  ["65536", "65536"],
  ["90-80", "80"],
  ["80-80", "80"],
])("ILB-101 port=%s is refused", async (port, fault) => {
  expect(await refused({ port })).toBe(`ilbadm: invalid port value ${fault} specified\n`);
});

test.each(["icmp", "6", "nosuch"])("ILB-102 protocol=%s is refused", async (protocol) => {
  expect(await refused({ more: `,protocol=${protocol}` })).toBe(EINVAL);
});

test("ILB-236 the name of a service is looked up for the rule's protocol first", async () => {
  const host = await base();
  host.services.set("odd", { tcp: 1000, udp: 2000 });
  await setUp(host, createRule({ port: "odd", more: ",protocol=udp" }), createRule({ port: "odd", name: "r2" }));
  expect(host.config().rules.map((rule) => rule.ports.min)).toEqual([2000, 1000]);
});

test("ILB-241 TCP is the default protocol", async () => {
  expect((await created()).protocol).toBe("tcp");
  expect((await created({ more: ",protocol=UDP" })).protocol).toBe("udp");
});

test("ILB-242 one proxy address shows as a range of one and can be imported", async () => {
  const host = await base();
  await setUp(host, createRule({ method: "type=n,proxy-src=203.0.113.5" }));
  expect(await outputOf(host, "show-rule -p -o proxy-src")).toBe("203.0.113.5-203.0.113.5\n");
  const text = await outputOf(host, "export-config");
  expect(text).toContain("proxy-src=203.0.113.5-203.0.113.5 ");
  const other = new FakeHost();
  await ilbadm(other, "import-config", { input: text });
  expect(await outputOf(other, "export-config")).toBe(text);
});

test("ILB-243 proxy-src is in order and of one /64", async () => {
  expect(await refused({ method: "type=n,proxy-src=203.0.113.5-203.0.113.1" })).toBe(EINVAL);
  expect(
    await refused({
      method: "type=n,proxy-src=2001:db8::ffff:ffff:ffff:ffff-2001:db8:0:1::1",
      vip: "2001:db8::1",
      group: "v6",
    }),
  ).toBe(EINVAL);
  expect(await refused({ method: "type=n,proxy-src=203.0.113.5-2001:db8::1" })).toBe("ilbadm: IP address mismatch\n");
});

test("ILB-247 a rule for all ports shows and exports 1-65535", async () => {
  const host = await base();
  await setUp(host, createRule({ port: "1-65535" }));
  expect(await outputOf(host, "show-rule -p -o port")).toBe("1-65535\n");
  expect(await outputOf(host, "export-config")).toContain("port=1-65535,");
});

test.each(["", "-x", "_x", ".x", "a b", "a,b", "a=b", "a:b", "ä"])("ILB-228 '%s' names nothing new", async (name) => {
  const host = await base();
  const config = host.config();
  const rule = createRule()
    .split(" ")
    .filter((word) => word !== "");
  for (const words of [
    [...rule.slice(0, -1), "--", name],
    ["create-sg", "--", name],
    ["create-hc", "-h", "hc-test=ping", "--", name],
  ]) {
    expect(await errorOf(host, words)).toBe(EINVAL);
  }
  expect(host.config()).toBe(config);
});

test("ILB-228 letters, digits, underscore, hyphen and dot make names", async () => {
  await created({ name: "RULE-all" });
  await hostWith("create-sg webgroup_v6", "create-sg 0.x");
});

const TWO = [createRule({ name: "a" }), createRule({ name: "b", port: "81" })];

test("ILB-103 delete-rule stops at the first failure", async () => {
  const host = await base();
  await setUp(host, ...TWO);
  expect(await errorOf(host, "delete-rule a nosuch b")).toBe("ilbadm: specified rule does not exist\n");
  expect(host.config().rules.map((rule) => rule.name)).toEqual(["b"]);
});

test("ILB-104 delete-rule -a deletes all, names beside it do not matter", async () => {
  for (const line of ["delete-rule -a", "delete-rule -a nosuch"]) {
    const host = await base();
    await setUp(host, ...TWO, line);
    expect(host.config().rules).toEqual([]);
  }
});

test("ILB-105 delete-rule wants to know which", async () => {
  expect(await errorOf(new FakeHost(), "delete-rule")).toBe("ilbadm: usage: delete-rule -a | name\n");
});

test("ILB-106 enable-rule and disable-rule without names switch all, as one change", async () => {
  const host = await base();
  await setUp(host, ...TWO, "enable-rule");
  expect(host.config().rules.map((rule) => rule.enabled)).toEqual([true, true]);
  expect(host.audit.at(-1)).toBe("enable-rule");
  await setUp(host, "disable-rule");
  expect(host.config().rules.map((rule) => rule.enabled)).toEqual([false, false]);
});

test("ILB-107 enable-rule reports each unknown name and goes on", async () => {
  const host = await base();
  await setUp(host, ...TWO);
  expect(await errorOf(host, "enable-rule nosuch a x b")).toBe(
    "ilbadm: nosuch: specified rule does not exist\nilbadm: x: specified rule does not exist\n",
  );
  expect(host.config().rules.map((rule) => rule.enabled)).toEqual([true, true]);
});

test("ILB-109 a change that cannot be saved leaves nothing", async () => {
  const host = await base();
  const config = host.config();
  const text = "a failure occurred while trying to update persistent config. Panic?";
  host.failNext = { ok: false, failure: { code: "E-CFG", text } };
  expect(await errorOf(host, createRule())).toBe(`ilbadm: ${text}\n`);
  expect(host.config()).toBe(config);
  await setUp(host, createRule({ name: "other" }));
});

test("ILB-254 switching what is so already, or nothing at all, succeeds without effect", async () => {
  const host = await base();
  await setUp(host, "enable-rule", "disable-rule", "delete-rule -a", createRule({ flags: "-e" }));
  const config = host.config();
  await setUp(host, "enable-rule r1", "enable-rule");
  expect(host.config()).toBe(config);
});

test("ILB-257 rule, group and health check go one after the other and may come again at once", async () => {
  const host = new FakeHost();
  const lines = [
    "create-hc -h hc-test=tcp hc1",
    "create-sg -s server=192.0.2.10 sg1",
    createRule({ flags: "-e", method: "type=h", health: "-h hc-name=hc1" }),
  ];
  await setUp(host, ...lines, "delete-rule -a", "delete-sg sg1", "delete-hc hc1");
  expect(host.config()).toMatchObject({ rules: [], groups: [], healthChecks: [] });
  await setUp(host, ...lines);
});

test("ILB-301 timers without effect are accepted and shown as given", async () => {
  const host = await base();
  await setUp(host, createRule({ timers: "-t conn-drain=30,nat-timeout=31,persist-timeout=32" }));
  expect(await outputOf(host, "show-rule -p -o conn-drain,nat-timeout,persist-timeout")).toBe("30:31:32\n");
});
