/** NetBackup's names in rules and servers, and the guard against translating its ports. */
import { describe, expect, test } from "bun:test";
import { fromHttp, ROUTES } from "../../src/command/json.ts";
import { perform } from "../../src/command/run.ts";
import { type Config, EMPTY_CONFIG } from "../../src/model/config.ts";
import { type NetBackupState, NO_NETBACKUP } from "../../src/model/netbackup.ts";
import { errorOf, FakeHost, ilbadm, outputOf, setUp } from "../support/fake-host.ts";

const REASON = "NetBackup does not support NAT or PAT (TECH15006); use type=DSR, or -F to";

const withState = (state: Partial<NetBackupState>): Config => ({
  ...EMPTY_CONFIG,
  netbackup: { ...NO_NETBACKUP, ...state },
});

/** A host with group sg of two servers without ports and group pbx of one on 1556. */
async function base(state: Partial<NetBackupState> = {}): Promise<FakeHost> {
  const host = new FakeHost(withState(state));
  await setUp(host, "create-sg -s server=10.0.0.9,10.0.0.10 sg", "create-sg -s server=10.0.0.11:1556 pbx");
  return host;
}

const rule = (port: string, type: string, extra = "", group = "sg"): string =>
  `create-rule ${extra} -i vip=10.0.0.1,port=${port} -m lbalg=hip,type=${type}${type === "NAT" ? ",proxy-src=10.0.0.2" : ""} -o servergroup=${group} r1`;

async function refusal(host: FakeHost, line: string): Promise<string> {
  const before = host.config();
  const text = await errorOf(host, line);
  expect(host.config()).toBe(before);
  return text;
}

const portOf = (host: FakeHost) => host.config().rules[0]?.ports;

describe("names", () => {
  test("NBU-004 a rule takes a NetBackup name, and show-rule prints its number", async () => {
    const host = await base();
    await setUp(host, rule("VERITAS_PBX", "DSR"));
    expect(await outputOf(host, "show-rule -p -o PORT r1")).toBe("1556\n");
  });

  test.each([
    ["pbx", 1556],
    ["Veritas-PBX", 1556],
    ["VNETD", 13724],
    ["vrts_at_port", 2821],
  ])("NBU-005 port=%s is %d: case does not matter, and - and _ are alike", async (name, port) => {
    const host = await base();
    await setUp(host, rule(name, "DSR"));
    expect(portOf(host)).toEqual({ min: port, max: port });
  });

  test("NBU-004 a server takes a NetBackup name behind its address", async () => {
    const host = new FakeHost();
    await setUp(host, "create-sg -s server=10.0.0.9:vnetd,10.0.0.10:pd-dld sg");
    expect(host.config().groups[0]?.servers.map(({ ports }) => ports?.min)).toEqual([13724, 10087]);
  });

  test("NBU-004 hc-port stays numeric", async () => {
    const host = await base();
    await setUp(host, "create-hc -h hc-test=tcp,hc-timeout=3,hc-count=2,hc-interval=10 hc1");
    expect(await refusal(host, rule("80", "DSR", "-h hc-name=hc1,hc-port=pbx"))).toContain("hc-port: invalid value");
  });

  test("NBU-006 the services file wins over the catalogue, and one warning names both numbers", async () => {
    const host = await base();
    host.services.set("vnetd", { tcp: 9999 });
    const { exit, stderr } = await ilbadm(host, rule("VNETD", "DSR"));
    expect([exit, stderr]).toEqual([
      0,
      "ilbadm: warning: VNETD is port 9999 in the services file; NetBackup's VNETD is 13724\n",
    ]);
    expect(portOf(host)).toEqual({ min: 9999, max: 9999 });
    const text = "create-sg s1\nadd-server -s server=10.0.0.5:vnetd s1\nadd-server -s server=10.0.0.6:vnetd s1\n";
    const imported = await ilbadm(host, "import-config", { input: text });
    expect([imported.exit, imported.stderr.split("\n").length - 1]).toEqual([0, 1]);
  });

  test("NBU-006 no warning where file and catalogue agree", async () => {
    const host = await base();
    host.services.set("pbx", { tcp: 1556 });
    await setUp(host, rule("pbx", "DSR"));
  });

  test("NBU-007 a name with a protocol that its service does not have is an error", async () => {
    expect(await refusal(await base(), rule("vnetd,protocol=udp", "DSR"))).toBe("ilbadm: port: VNETD is TCP only\n");
    const host = await base();
    host.services.set("vnetd", { udp: 4000 });
    const { exit } = await ilbadm(host, rule("vnetd,protocol=udp", "DSR"));
    expect([exit, portOf(host)?.min]).toEqual([0, 4000]);
  });

  test("NBU-008 digits-digits is a range, any other token with a hyphen is a name", async () => {
    const host = await base();
    await setUp(host, rule("2821-2830", "DSR"), "delete-rule r1", rule("vrts-at-port", "DSR"));
    expect(portOf(host)).toEqual({ min: 2821, max: 2821 });
  });

  test("NBU-006 an unknown name fails as before", async () => {
    expect(await refusal(await base(), rule("no-such-service", "DSR"))).toBe(
      "ilbadm: port: servicename does not exist in nameservices\n",
    );
  });

  test("NBU-009 the export holds numbers", async () => {
    const host = await base();
    await setUp(host, rule("pbx", "DSR"));
    expect(await outputOf(host, "export-config")).toContain("port=1556");
  });

  test("NBU-050 a port that the site has changed is what its name stands for", async () => {
    const host = await base({ ports: { services: { nbcssc: 5700 }, windows: {} } });
    await setUp(host, rule("cloudstore", "DSR"));
    expect(portOf(host)).toEqual({ min: 5700, max: 5700 });
  });
});

describe("the guard", () => {
  test.each(["NAT", "HALF-NAT"])("NBU-010 a rule of type %s on 1556 is refused", async (type) => {
    expect(await refusal(await base(), rule("1556", type))).toBe(
      `ilbadm: rule r1: port 1556 (VERITAS_PBX): ${REASON} create the rule anyway\n`,
    );
  });

  test("NBU-011 a port inside a range is seen, and one on the side of the servers", async () => {
    expect(await refusal(await base(), rule("1550-1560", "HALF-NAT"))).toContain("port 1556 (VERITAS_PBX)");
    expect(await refusal(await base(), rule("8000", "HALF-NAT", "", "pbx"))).toContain("port 1556 (VERITAS_PBX)");
  });

  test("NBU-012 udp rules are not refused for services of tcp, and are for those of udp", async () => {
    const host = await base();
    await setUp(host, rule("1556,protocol=udp", "HALF-NAT"));
    const dld = await base();
    await setUp(dld, rule("10087,protocol=udp", "HALF-NAT"));
  });

  test("NBU-013 DSR is never refused", async () => {
    const host = await base();
    await setUp(host, rule("1-65535", "DSR"));
  });

  test("NBU-014 -F makes the rule, and it is shown, exported and imported again", async () => {
    const host = await base();
    await setUp(host, rule("1556", "HALF-NAT", "-F"));
    expect(await outputOf(host, "show-rule -f r1")).toEndWith("\n      NAT-GUARD: forced\n");
    const text = await outputOf(host, "export-config");
    expect(text).toContain("create-rule -F -i vip=10.0.0.1,port=1556");
    const copy = new FakeHost();
    const { exit, stderr } = await ilbadm(copy, "import-config", { input: text });
    expect([exit, stderr, copy.config().rules[0]?.forced]).toEqual([0, "", true]);
    expect((await ilbadm(copy, "import-config", { input: text.replace("-F ", "") })).stderr).toBe(
      `ilbadm: -: line ${text.split("\n").findIndex((line) => line.includes("-F")) + 1}: rule r1: port 1556 (VERITAS_PBX): ${REASON} create the rule anyway\n`,
    );
  });

  test("NBU-014 a rule that is not forced has no more lines than the manual's", async () => {
    const host = await base();
    await setUp(host, rule("80", "HALF-NAT"));
    expect((await outputOf(host, "show-rule -f r1")).split("\n")).toHaveLength(17);
    await setUp(host, "delete-rule r1", rule("1556", "DSR", "-F"));
    expect(await outputOf(host, "show-rule -f r1")).not.toContain("NAT-GUARD");
  });

  test("NBU-015 add-server brings no such port into a rule that translates, unless it is forced", async () => {
    const host = await base();
    await setUp(host, "create-sg -s server=10.0.0.20:8000 mixed", rule("8000", "HALF-NAT", "", "mixed"));
    const line = "add-server -s server=10.0.0.21:pbx mixed";
    expect(await refusal(host, line)).toBe(
      `ilbadm: cannot add 10.0.0.21 to mixed: rule r1: port 1556 (VERITAS_PBX): ${REASON} add the server anyway\n`,
    );
    await setUp(host, line.replace(" -s", " -F -s"));
    expect(host.config().rules[0]?.forced).toBe(true);
    const copy = new FakeHost();
    expect((await ilbadm(copy, "import-config", { input: await outputOf(host, "export-config") })).exit).toBe(0);
  });

  test("NBU-016 an import with a refused line changes nothing and names the line", async () => {
    const host = await base();
    const before = host.config();
    const input = `create-sg -s server=10.1.0.1 more\n\n${rule("13724", "HALF-NAT", "", "more")}\n`;
    const { exit, stderr } = await ilbadm(host, "import-config -p f.cf", { input, inputName: "f.cf" });
    expect([exit, stderr]).toEqual([
      1,
      `ilbadm: f.cf: line 3: rule r1: port 13724 (VNETD): ${REASON} create the rule anyway\n`,
    ]);
    expect(host.config()).toBe(before);
  });

  test("NBU-017 ordinary ports are never refused, and without hosts there is no message", async () => {
    for (const port of ["80", "443", "22", "111", "5000-5009"]) {
      const host = await base();
      await setUp(host, rule(port, "HALF-NAT"));
    }
  });

  test("NBU-017 an ordinary port warns at an address that is bound to a role that uses it", async () => {
    const bound = {
      id: 900,
      name: "spa1",
      address: { family: 4 as const, value: 0x0a000000n },
      prefixLength: 24,
      roles: [{ role: "puredisk-server", version: null }],
      facts: {},
    };
    const host = await base({ hosts: [bound] });
    const { exit, stderr } = await ilbadm(host, rule("443", "HALF-NAT"));
    expect([exit, stderr]).toEqual([
      0,
      "ilbadm: warning: rule r1: port 443 (spa): NetBackup does not support NAT or PAT (TECH15006); host spa1 has a role that uses it\n",
    ]);
    const other = await base({ hosts: [{ ...bound, address: { family: 4, value: 0x0b000000n } }] });
    await setUp(other, rule("443", "HALF-NAT"));
    const unused = await base({ hosts: [bound] });
    await setUp(unused, rule("25", "HALF-NAT"));
  });

  test("NBU-018 warn makes the rule with a warning, off without", async () => {
    const host = await base({ natGuard: "warn" });
    const { exit, stderr } = await ilbadm(host, rule("1556", "HALF-NAT"));
    expect([exit, stderr]).toEqual([
      0,
      "ilbadm: warning: rule r1: port 1556 (VERITAS_PBX): NetBackup does not support NAT or PAT (TECH15006)\n",
    ]);
    await setUp(await base({ natGuard: "off" }), rule("1556", "HALF-NAT"));
  });

  test.each([
    ["warn", rule("1556", "HALF-NAT")],
    ["off", rule("1550-1560", "NAT")],
    ["off", rule("8000", "HALF-NAT", "", "pbx")],
  ] as const)("NBU-014 what nat-guard=%s let pass unforced is exported with -F: %s", async (natGuard, line) => {
    const host = await base({ natGuard });
    await ilbadm(host, line);
    expect(host.config().rules[0]?.forced).toBe(false);
    expect(await outputOf(host, "show-rule -f r1")).not.toContain("NAT-GUARD");
    const text = await outputOf(host, "export-config");
    expect(text).toContain("create-rule -F -i");
    const elsewhere = new FakeHost();
    expect(await ilbadm(elsewhere, "import-config", { input: text })).toMatchObject({
      exit: 0,
      stdout: "",
      stderr: "",
    });
    expect(await outputOf(elsewhere, "export-config")).toBe(text);
    expect(await ilbadm(host, "import-config -n", { input: text })).toMatchObject({ exit: 0, stdout: "", stderr: "" });
  });

  test("NBU-014 a rule whose port became NetBackup's after it was made is exported with -F", async () => {
    const host = await base();
    await setUp(host, rule("5700", "HALF-NAT"));
    expect(await outputOf(host, "export-config")).not.toContain("-F");
    await setUp(host, "set-port nbcssc=5700");
    const text = await outputOf(host, "export-config");
    expect(text).toContain("create-rule -F -i");
    await setUp(host, "delete-rule r1", "delete-sg sg", "delete-sg pbx");
    expect(await ilbadm(host, "import-config", { input: text })).toMatchObject({ exit: 0, stdout: "", stderr: "" });
  });

  test("NBU-014 a rule on a port that set-port has given up is exported with -F for boxes that know the default", async () => {
    const host = await base();
    await setUp(host, "set-port nbcssc=5700", rule("5637", "HALF-NAT"));
    expect(host.config().rules[0]?.forced).toBe(false);
    const text = await outputOf(host, "export-config");
    expect(text).toContain("create-rule -F -i");
    const elsewhere = new FakeHost();
    const imported = await ilbadm(elsewhere, "import-config", { input: text });
    expect(imported).toMatchObject({ exit: 0, stdout: "", stderr: "" });
    expect(await outputOf(elsewhere, "export-config")).toBe(text);
    // Here nothing is the matter with it.
    expect(await outputOf(host, "show-rule -f r1")).not.toContain("NAT-GUARD");
  });

  test("NBU-013 DSR rules on such ports are exported without -F", async () => {
    const host = await base({ natGuard: "off" });
    await setUp(host, rule("1-65535", "DSR"));
    expect(await outputOf(host, "export-config")).not.toContain("-F");
  });

  test("NBU-018 a warning is said once for a rule, of an import and of several servers too", async () => {
    const host = await base({ natGuard: "warn" });
    const warned =
      "ilbadm: warning: rule r1: port 1556 (VERITAS_PBX): NetBackup does not support NAT or PAT (TECH15006)\n";
    const input = `create-sg -s server=10.1.0.1 in\n${rule("1550-1560", "HALF-NAT", "", "in")}\nadd-server -s server=10.1.0.2 in\n`;
    expect((await ilbadm(host, "import-config -p", { input })).stderr).toBe(warned);
    expect((await ilbadm(host, "add-server -s server=10.1.0.3-10.1.0.9 in")).stderr).toBe(warned);
    const dry = await ilbadm(host, "import-config -n -p", { input: "create-sg other\n" });
    expect([dry.exit, dry.stderr]).toEqual([2, ""]);
  });

  test("NBU-018 the API refuses and forces with the same text", async () => {
    const host = await base();
    const route = ROUTES.find(({ method, path }) => method === "POST" && path === "/v1/rules")!;
    const body = { name: "r1", vip: "10.0.0.1", port: "pbx", type: "HALF-NAT", servergroup: "sg" };
    const post = async (sent: object) => {
      const changes = await fromHttp(route, {}, sent, host);
      if (!changes.ok) throw new Error(changes.failure.text);
      return perform(changes.value, host, { right: () => true });
    };
    const refused = await post(body);
    expect(refused.ok ? null : refused.failure).toMatchObject({
      code: "E-NATGUARD",
      text: `rule r1: port 1556 (VERITAS_PBX): ${REASON} create the rule anyway`,
    });
    expect((await post({ ...body, forced: true })).ok).toBe(true);
  });

  test("an import in place of the configuration leaves what was said about NetBackup alone", async () => {
    const host = await base({ natGuard: "warn", mode: "monitor" });
    const { netbackup } = host.config();
    await ilbadm(host, "import-config", { input: "create-sg other\n" });
    expect(host.config().netbackup).toBe(netbackup);
  });
});
