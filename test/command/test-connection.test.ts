/** test-connection as a command: what it prints, with which status, what is wrong with its words, and who may. */
import { expect, test } from "bun:test";
import { complete } from "../../src/command/complete.ts";
import { EMPTY_CONFIG } from "../../src/model/config.ts";
import { NO_NETBACKUP } from "../../src/model/netbackup.ts";
import { errorOf, FakeHost, ilbadm } from "../support/fake-host.ts";

/** A host whose name is known, with ports that answer. */
function media(answers: Readonly<Record<number, "connected" | "refused" | "unreachable">>): FakeHost {
  const host = new FakeHost();
  host.hosts.set("media1", "192.0.2.20");
  for (const [port, answer] of Object.entries(answers)) host.answers.set(Number(port), answer);
  return host;
}

test("NBU-027 NBU-030 NBU-031 the steps, the way and the hint are printed as the example has them", async () => {
  const host = media({ 1556: "refused", 13724: "connected" });
  expect(await ilbadm(host, "test-connection -w 3 media1")).toMatchObject({
    exit: 0,
    stderr: "",
    stdout: `STEP    LOCAL                 REMOTE                RESULT       USEC
PBX     192.0.2.5:40924       192.0.2.20:1556       refused      1000
VNETD   192.0.2.5:40926       192.0.2.20:13724      connected    1000
media1 via VNETD
hint: expected PBX. Check Connect Options (Client Attributes, firewall settings, Default Connect Options) and that pbx_exchange is listening.
`,
  });
});

test("NBU-029 rows come as their steps end, so that a silent port keeps nobody in the dark", async () => {
  const host = media({ 13724: "connected" });
  const { chunks } = await ilbadm(host, "test-conn -w 3 media1");
  expect(chunks.map(({ stdout }) => stdout?.split("\n").length)).toEqual([3, 2, 3]);
  expect(host.tried.map(({ timeoutMs }) => timeoutMs)).toEqual([1000, 1000]);
});

test("NBU-030 nothing answers: none, status 1, and nothing on standard error", async () => {
  const host = media({ 1556: "refused", 13724: "unreachable", 13782: "refused" });
  const { exit, stdout, stderr } = await ilbadm(host, "test-connection media1");
  expect([exit, stderr]).toEqual([1, ""]);
  expect(stdout.split("\n").slice(2)).toEqual([
    "VNETD   --                    192.0.2.20:13724      unreachable  1000",
    "DAEMON  192.0.2.5:40928       192.0.2.20:13782      refused      1000",
    "media1 via none",
    "",
  ]);
});

test("NBU-027 -t names the daemon, in any spelling and on the site's port; -a goes on", async () => {
  const config = {
    ...EMPTY_CONFIG,
    netbackup: { ...NO_NETBACKUP, ports: { services: { nbcssc: 5700 }, windows: {} } },
  };
  const host = new FakeHost(config);
  host.answers.set(1556, "connected");
  const { stdout } = await ilbadm(host, "test-connection -p -o step,remote -a -t NBCSSC [2001:DB8::20]");
  expect(stdout).toBe(
    "PBX:[2001\\:db8\\:\\:20]\\:1556\nVNETD:[2001\\:db8\\:\\:20]\\:13724\nDAEMON:[2001\\:db8\\:\\:20]\\:5700\n",
  );
  expect(host.looked).toEqual([]);
});

test("an IPv6 host has columns as wide as its addresses", async () => {
  const host = media({ 1556: "connected" });
  const { stdout } = await ilbadm(host, "test-connection 2001:db8::20");
  expect(stdout).toBe(
    `${"STEP    LOCAL".padEnd(56)}${"REMOTE".padEnd(48)}RESULT       USEC
${"PBX     [2001:db8::5]:40924".padEnd(56)}${"[2001:db8::20]:1556".padEnd(48)}connected    1000
2001:db8::20 via PBX
`,
  );
});

test("NBU-052 -O finds the first pair of which both ports answer, and says when there is none", async () => {
  const some = media({ 80: "connected", 443: "refused", 8181: "connected", 8443: "connected" });
  const found = await ilbadm(some, "test-connection -O media1");
  expect([found.exit, found.stdout.trimEnd().split("\n").slice(1)]).toEqual([
    0,
    [
      "HTTP    192.0.2.5:40924       192.0.2.20:80         connected    1000",
      "HTTPS   192.0.2.5:40926       192.0.2.20:443        refused      1000",
      "HTTP    192.0.2.5:40928       192.0.2.20:8181       connected    1000",
      "HTTPS   192.0.2.5:40930       192.0.2.20:8443       connected    1000",
      "media1 via 8181/8443",
    ],
  ]);
  const none = await ilbadm(media({ 80: "connected" }), "test-connection -O -w 6 media1");
  expect([none.exit, none.stdout.trimEnd().split("\n").at(-1)]).toEqual([1, "media1: no pair available"]);
});

test("NBU-053 as an object it says the same", async () => {
  const host = media({ 1556: "unreachable", 13724: "connected" });
  const { exit, stdout } = await ilbadm(host, "test-connection --json media1");
  expect([exit, JSON.parse(stdout)]).toEqual([
    0,
    {
      host: "media1",
      address: "192.0.2.20",
      via: "VNETD",
      hint: expect.stringContaining("expected PBX"),
      steps: [
        {
          step: "PBX",
          local: null,
          remote: { address: "192.0.2.20", port: 1556 },
          result: "unreachable",
          microseconds: 1000,
        },
        {
          step: "VNETD",
          local: { address: "192.0.2.5", port: 40926 },
          remote: { address: "192.0.2.20", port: 13724 },
          result: "connected",
          microseconds: 1000,
        },
      ],
    },
  ]);
});

test("NBU-055 it needs the right config, is audited in its canonical spelling, and changes nothing", async () => {
  const host = media({ 1556: "connected" });
  const before = host.config();
  expect(await errorOf(host, "test-conn media1", { right: (right) => right !== "config" })).toContain("not authorized");
  expect([host.tried, host.audit]).toEqual([[], []]);
  await ilbadm(host, "test-conn -t BPRD -w 09 media1");
  expect(host.audit).toEqual(["test-connection -t bprd media1"]);
  expect(host.config()).toBe(before);
});

test.each([
  ["test-connection", "ilbadm: usage: ilbadm test-connection"],
  ["test-connection a b", "ilbadm: invalid/incompatible keywords"],
  ["test-connection -w 0 media1", "ilbadm: 0: 1 to 20 seconds expected"],
  ["test-connection -w 21 media1", "ilbadm: 21: 1 to 20 seconds expected"],
  ["test-connection -w 1.5 media1", "ilbadm: 1.5: 1 to 20 seconds expected"],
  ["test-connection -t bpdc media1", "ilbadm: no service bpdc\nilbadm: hint: "],
  ["test-connection -t snmp-trap media1", "ilbadm: snmp-trap is UDP only"],
  ["test-connection -O -t bpcd media1", "ilbadm: options -O and -t are mutually exclusive"],
  ["test-connection -p media1", "ilbadm: option -p requires -o"],
  ["test-connection -p -o all media1", "ilbadm: option -p requires explicit field names for -o"],
  ["test-connection -o port media1", "ilbadm: unknown output field: port"],
  ["test-connection --json -o step media1", "ilbadm: options --json and -o are mutually exclusive"],
  ["test-connection media_1! ", "ilbadm: media_1! is neither a host name nor an address"],
  ["test-connection [192.0.2.20]", "ilbadm: [192.0.2.20] is neither a host name nor an address"],
  ["test-connection nowhere", "ilbadm: the name nowhere has no address"],
])("what is wrong is said, and nobody is asked: %s", async (line, text) => {
  const host = media({});
  const { exit, stdout, stderr } = await ilbadm(host, line);
  expect([exit, stdout]).toEqual([1, ""]);
  expect(stderr).toStartWith(text);
  expect(host.tried).toEqual([]);
  expect(host.freeTests).toBe(1);
});

test("too many tests at once are refused in words, and a file cannot hold one", async () => {
  const host = media({});
  host.freeTests = 0;
  expect(await errorOf(host, "test-connection media1")).toBe(
    "ilbadm: too many connections are being tested, try again in a moment\n",
  );
  const { exit, stderr } = await ilbadm(host, "import-config", { input: "test-connection media1\n" });
  expect(exit).toBe(1);
  expect(stderr).toContain("test-connection from import file not allowed");
  expect(host.tried).toEqual([]);
});

test("completion offers the daemons and the fields", () => {
  const words = (...line: string[]) => complete(line).candidates.map(({ word }) => word);
  expect(words("test-connection", "-t", "b")).toEqual(["BPCD", "BPRD"]);
  expect(words("test-connection", "-o", "step,r")).toEqual(["remote", "result"]);
  expect(words("test-con")).toEqual(["test-connection"]);
});
