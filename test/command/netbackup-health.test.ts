/** hc-test=NBU in commands: spelling, the rules that it suits, and where VIA is shown. */
import { expect, test } from "bun:test";
import { complete } from "../../src/command/complete.ts";
import { SUBCOMMANDS } from "../../src/command/spec.ts";
import { subcommandHelp } from "../../src/command/usage.ts";
import { errorOf, FakeHost, ilbadm, outputOf, setUp } from "../support/fake-host.ts";

const rule = (name: string, protocol: string, check: string) =>
  `create-rule -i vip=198.51.100.10,port=1556,protocol=${protocol} -m lbalg=hip,type=DSR -h hc-name=${check} -o servergroup=sg ${name}`;

async function prepared(): Promise<FakeHost> {
  const host = new FakeHost();
  await setUp(
    host,
    "create-servergroup -s server=192.0.2.20,192.0.2.21 sg",
    "create-healthcheck -h hc-test=NBU,hc-timeout=3,hc-interval=10 hc1",
  );
  return host;
}

test("NBU-032 the test is called NBU in any case and shown as it was spelled; it survives export and import", async () => {
  const host = await prepared();
  await setUp(host, "create-healthcheck -n -h hc-test=nbu hc2", rule("r1", "tcp", "hc1"));
  expect(await outputOf(host, "show-healthcheck")).toBe(
    `HCNAME        TIMEOUT COUNT   INTERVAL DEF_PING TEST
hc1           3       3       10       Y        NBU
hc2           5       3       30       N        nbu
`,
  );
  const text = await outputOf(host, "export-config");
  const other = new FakeHost();
  expect((await ilbadm(other, "import-config", { input: text })).stderr).toBe("");
  expect(await outputOf(other, "export-config")).toBe(text);
  expect(other.config().healthChecks.map((check) => check.test.kind)).toEqual(["nbu", "nbu"]);
});

test("NBU-032 a UDP rule cannot have it, as it cannot have tcp; a TCP rule can, with any hc-port", async () => {
  const host = await prepared();
  await setUp(host, "create-healthcheck -h hc-test=tcp hc3");
  const text = "ilbadm: protocol used in rule and health check does not match\n";
  for (const check of ["hc1", "hc3"]) expect(await errorOf(host, rule("r1", "udp", check))).toBe(text);
  for (const [index, port] of ["ANY", "ALL", "1556"].entries()) {
    const line = rule(`r${index}`, "tcp", `hc1,hc-port=${port}`).replace(".10,", `.1${index},`);
    await setUp(host, line);
  }
  expect(await outputOf(host, "show-rule -p -o hc-port")).toBe("ANY\nALL\n1556\n");
});

test("keys of tests that talk do not go with it, and no other word is it", async () => {
  const host = await prepared();
  expect(await errorOf(host, "create-healthcheck -h hc-test=NBU,hc-path=/ hc4")).toContain("hc-path");
  for (const word of ["NBU2", "netbackup"])
    expect(await errorOf(host, `create-healthcheck -h hc-test=${word} hc4`)).toBe(
      "ilbadm: invalid argument(s) - see man page\n",
    );
});

test("NBU-033 VIA stands in show-hc-result -v and in objects alone", async () => {
  const host = await prepared();
  await setUp(host, rule("r1", "tcp", "hc1"));
  const [group] = host.config().groups;
  const found = [
    { status: "alive", via: "VNETD", reason: null },
    { status: "dead", via: "none", reason: "PBX timeout after 1 s" },
  ] as const;
  host.healthResults = () =>
    found.map((result, index) => ({
      ruleId: host.config().rules[0]!.id,
      serverId: group!.servers[index]!.id,
      fail: 0,
      lastAtMs: 0,
      nextAtMs: null,
      rttMicroseconds: 305,
      ...result,
    }));
  const plain = await outputOf(host, "show-hc-result");
  expect(plain.split("\n")[0]).toBe("RULENAME      HCNAME        SERVERID      STATUS   FAIL LAST     NEXT     RTT");
  expect(plain).not.toContain("VNETD");
  const verbose = (await outputOf(host, "show-hc-result -v")).trimEnd().split("\n");
  expect(verbose.map((line) => line.slice(83))).toEqual([
    "CERT_UNTIL VIA    REASON",
    "--         VNETD  --",
    "--         none   PBX timeout after 1 s",
  ]);
  expect(JSON.parse(await outputOf(host, "show-hc-result --json")).map(({ via }: { via: string }) => via)).toEqual([
    "VNETD",
    "none",
  ]);
});

test("help names it as an addition, completion offers it", () => {
  expect(subcommandHelp(SUBCOMMANDS["create-healthcheck"])).toMatch(/additions: .*NBU/);
  expect(complete(["create-healthcheck", "-h", "hc-test=n"]).candidates.map(({ word }) => word)).toEqual(["NBU"]);
});
