/** show-services, show-flows and set-port as commands: exact listings, forms, and what is wrong with their words. */
import { describe, expect, test } from "bun:test";
import { complete } from "../../src/command/complete.ts";
import { type Config, EMPTY_CONFIG } from "../../src/model/config.ts";
import { type NetBackupHost, type NetBackupState, NO_NETBACKUP } from "../../src/model/netbackup.ts";
import { errorOf, FakeHost, ilbadm, outputOf, setUp } from "../support/fake-host.ts";

const withState = (state: Partial<NetBackupState>): Config => ({
  ...EMPTY_CONFIG,
  nextId: 1000,
  netbackup: { ...NO_NETBACKUP, ...state },
});

const bound = (
  id: number,
  name: string,
  role: string,
  version: string | null,
  last: number,
  facts: NetBackupHost["facts"] = {},
  prefixLength = 32,
): NetBackupHost => ({
  id,
  name,
  address: { family: 4, value: 0x0a010000n + BigInt(last) },
  prefixLength,
  roles: [{ role, version }],
  facts,
});

const fresh = (): FakeHost => new FakeHost();

describe("show-services", () => {
  test("NBU-048 a table lists its services in order", async () => {
    expect(await outputOf(fresh(), "show-services -t 2-1")).toBe(
      `NAME                 PORT            ALIASES                     TABLES                          VERSIONS GUARD
VERITAS_PBX          1556/tcp        pbx,pbx_exchange            2-1,2-2,2-3,2-4,2-6,2-7,2-8,3-2 all      port
VNETD                13724/tcp       --                          2-1,2-2,2-3,2-4,2-5,2-6,2-7,2-8 all      port
VRTS-AT-PORT         2821/tcp        vxatd,vrts-at               2-1,2-2,2-3,2-4,2-6,2-7,3-2,3-6 <7.1     port
VRTS-AUTH-PORT       4032/tcp        vxazd,vrts-auth             2-1,2-2,2-3                     <7.1     port
`,
    );
  });

  test("NBU-048 a port lists every service on it, a name its own, in any spelling", async () => {
    expect(await outputOf(fresh(), "show-svc -p -o name 443")).toBe("spa\nopscenter-https-1\nhttps\nvCenter\n");
    expect(await outputOf(fresh(), "show-svc -p -o name,port PBX Vrts_At_Port")).toBe(
      "VERITAS_PBX:1556/tcp\nVRTS-AT-PORT:2821/tcp\n",
    );
    expect(await outputOf(fresh(), "show-svc -p -o port dns")).toBe("53/tcp,53/udp\n");
  });

  test("NBU-048 all services are 46, as objects too", async () => {
    expect((await outputOf(fresh(), "show-services -p -o name")).trimEnd().split("\n")).toHaveLength(46);
    const objects = JSON.parse(await outputOf(fresh(), "show-services --json nbcssc"));
    expect(objects).toEqual([
      {
        name: "nbcssc",
        port: 5637,
        protocols: ["tcp"],
        aliases: ["cloudstore"],
        tables: [],
        versions: "all",
        guard: "port",
        title: "CloudStore Service Container (nbcssc)",
      },
    ]);
  });

  test("NBU-048 an unknown name, port or table is refused with near names", async () => {
    expect(await ilbadm(fresh(), "show-services vnet")).toMatchObject({
      exit: 1,
      stdout: "",
      stderr: "ilbadm: no service vnet\nilbadm: hint: near names: vnetd\n",
    });
    expect(await errorOf(fresh(), "show-services 1555")).toBe("ilbadm: no service 1555\n");
    expect(await errorOf(fresh(), "show-services -t 9-9")).toBe("ilbadm: unknown table 9-9\n");
  });
});

const HEADER = "FLOW     SOURCE        DESTINATION   SERVICE      PORT   PROTO  NEED         CONDITION\n";

describe("show-flows", () => {
  test("NBU-019 media server at 7.0 and client at 7.5, both ways", async () => {
    const use = "non-default connect options, application backup or client-side deduplication";
    expect(await outputOf(fresh(), "show-flows -b -s media-server@7.0 -d client@7.5")).toBe(
      `${HEADER}T2-3.06  media-server  client        VERITAS_PBX  1556   tcp    required     -
T2-3.07  media-server  client        VNETD        13724  tcp    compat       source older than 7.0.1; required if the client is resilient
T2-4.03  client        media-server  VERITAS_PBX  1556   tcp    conditional  ${use}
T2-4.04  client        media-server  VNETD        13724  tcp    conditional  ${use}; the client is resilient
P2.11.01 client        media-server  portmapper   111    tcp    conditional  granular restore (GRT)
P2.11.02 client        media-server  nbfsd        7394   tcp    conditional  granular restore (GRT)
`,
    );
  });

  const ids = async (words: string, host = fresh()) =>
    (await outputOf(host, `show-fl -p -o flow,port,need ${words}`)).trimEnd().split("\n");

  test("NBU-019 the other worked examples", async () => {
    expect(await ids("-b -s master-server@7.5 -d media-server@7.5")).toEqual([
      "T2-2.02:1556:required",
      "T2-3.01:1556:required",
    ]);
    expect(await ids("-b -s master-server@7.5 -d media-server@7.0")).toEqual([
      "T2-2.02:1556:required",
      "T2-2.03:13724:required",
      "T2-3.01:1556:required",
      "T2-3.02:13724:required",
    ]);
    expect(await ids("-s master-server@7.0.1 -d vxss-server@7.0.1")).toEqual([
      "T2-2.10:2821:required",
      "T2-2.11:4032:required",
    ]);
    expect(await outputOf(fresh(), "show-flows -s master-server@7.1 -d vxss-server@7.1")).toBe("");
    expect(await ids("-a -s master-server@7.1 -d vxss-server@7.1")).toEqual([
      "T2-2.10:2821:not-needed",
      "T2-2.11:4032:not-needed",
    ]);
    expect(await ids("-s media-server@7.5 -d client@7.5 -c destination.resilient=true")).toEqual([
      "T2-3.06:1556:required",
      "T2-3.07:13724:required",
    ]);
    const esx = "-s vmware-backup-host -d esx-host -c setting.vmware-transport=san,feature.restore-through-esx=false";
    expect(await outputOf(fresh(), `show-flows ${esx}`)).toBe("");
    const console = "-s rm-console -d appliance-ipmi -c destination.model=5230,destination.console_mode=encrypted";
    expect(await ids(console)).toEqual([
      "T3-3.11:7582:required",
      "T3-3.12:5124:required",
      "T3-3.13:5127:required",
      "P3.3.01:7528:disputed",
    ]);
  });

  test("without roles every flow of a table is listed", async () => {
    expect(await ids("-t 2-5")).toEqual(["T2-5.01:13720:required", "T2-5.02:13724:required", "T2-5.03:13724:required"]);
    expect(await ids("-t 2.9 -s ndmp-filer")).toEqual(["P2.9.02:?:conditional", "P2.9.03:?:conditional"]);
  });

  test("CSV is quoted by RFC 4180 and JSON has the same records", async () => {
    const words = "-s media-server@7.0 -d client@7.5 -t 2-3";
    const csv = await outputOf(fresh(), `show-flows -x csv ${words}`);
    expect(csv).toBe(
      "flow,source,destination,service,port,proto,need,condition\r\n" +
        "T2-3.06,media-server,client,VERITAS_PBX,1556,tcp,required,\r\n" +
        "T2-3.07,media-server,client,VNETD,13724,tcp,compat,source older than 7.0.1; required if the client is resilient\r\n",
    );
    expect(await outputOf(fresh(), "show-flows -x csv -t 2.9 -s media-server")).toContain(
      ',"local NDMP, remote NDMP or 3-way NDMP"\r\n',
    );
    const json = await outputOf(fresh(), `show-flows -x json ${words}`);
    expect(json).toBe(await outputOf(fresh(), `show-flows --json ${words}`));
    expect(JSON.parse(json)[0]).toEqual({
      flow: "T2-3.06",
      source: "media-server",
      destination: "client",
      service: "VERITAS_PBX",
      port: "1556",
      protocol: "tcp",
      need: "required",
      condition: null,
      alternatives: null,
    });
  });

  const site = (oldVersion: string): NetBackupHost[] => [
    bound(1, "master1", "master-server", "7.5", 10),
    bound(2, "media1", "media-server", oldVersion, 20),
    bound(3, "media2", "media-server", "7.5", 21),
    bound(4, "clients", "client", "7.5", 0x100, { resilient: false }, 24),
  ];

  test("NBU-051 an upgrade takes exactly the VNETD lines of its host away", async () => {
    const host = new FakeHost(withState({ hosts: site("7.0") }));
    const lines = await outputOf(host, "show-flows -H -u media1@7.5");
    expect(lines.split("\n")[0]).toStartWith("CHANGE FLOW");
    const changed = (await outputOf(host, "show-flows -H -u media1@7.5 -p -o change,flow,source,destination,port"))
      .trimEnd()
      .split("\n");
    expect(changed).toEqual([
      "-:T2-2.03:master1:media1:13724",
      "-:T2-3.02:media1:master1:13724",
      "-:T2-3.05:media1:media2:13724",
      "-:T2-3.07:media1:clients:13724",
      "-:T2-3.05:media2:media1:13724",
      "-:T2-4.04:clients:media1:13724",
    ]);
    expect(await outputOf(new FakeHost(withState({ hosts: site("7.5") })), "show-flows -H -u media1@7.5")).toBe("");
  });

  test("NBU-051 all bound hosts are listed by name, and a downgrade adds lines", async () => {
    const host = new FakeHost(withState({ hosts: site("7.5") }));
    expect(await ids("-H -t 2-2", host)).toHaveLength(3);
    const added = await outputOf(host, "show-flows -H -u media1@7.0 -p -o change,flow");
    expect(added.match(/^\+/gm)).toHaveLength(6);
  });

  test("what the site has said holds, and the question comes on top", async () => {
    const host = new FakeHost(withState({ features: { grt: true } }));
    expect(await ids("-s client@7.5 -d media-server@7.5 -t 2.11", host)).toEqual([
      "P2.11.01:111:required",
      "P2.11.02:7394:required",
    ]);
    expect(await outputOf(host, "show-flows -s client -d media-server -t 2.11 -c feature.grt=false")).toBe("");
  });

  test.each([
    ["-s master-servr", "unknown role master-servr", "near names: master-server"],
    ["-s client@seven", "seven is no version: numbers joined by dots are, such as 7.0.1", null],
    ["-c destination.resilent=true", "unknown fact destination.resilent", "near names: destination.resilient"],
    ["-c destination.resilient=maybe", "destination.resilient=maybe: true or false expected", null],
    ["-c setting.vmware-transport=fast", "setting.vmware-transport=fast: san, hotadd, nbd or nbdssl expected", null],
    ["-c grt", "grt: NAME=VALUE expected", null],
    ["-t 2-9", "unknown table 2-9", null],
    ["-x xml", "unknown form xml: table, csv, json are known", null],
    ["-u m1@7.5", "option -u requires -H", null],
    ["-H -s client", "options -H and -s are mutually exclusive", null],
    ["-H -u m1", "m1: HOST@VERSION expected", null],
    ["-H -u m1@7.5", "no host m1", null],
    ["-H -c source.resilient=true", "source.resilient is a fact of an end: bound hosts have their own", null],
  ])("NBU-023 show-flows %s is refused", async (words, text, hint) => {
    const { exit, stdout, stderr } = await ilbadm(fresh(), `show-flows ${words}`);
    expect([exit, stdout, stderr.split("\n")[0]]).toEqual([1, "", `ilbadm: ${text}`]);
    if (hint !== null) expect(stderr).toContain(hint);
  });

  test("completion offers roles, tables, facts and forms", () => {
    const words = (...line: string[]) => complete(line).candidates.map(({ word }) => word);
    expect(words("show-flows", "-s", "media")).toEqual(["media-server"]);
    expect(words("show-flows", "-t", "3-")).toEqual(["3-1", "3-2", "3-3", "3-4", "3-5", "3-6"]);
    expect(words("show-flows", "-c", "feature.grt=true,destination.mod")).toEqual(["destination.model="]);
    expect(words("show-flows", "-x", "")).toEqual(["table", "csv", "json"]);
  });
});

describe("set-port", () => {
  test("NBU-049 a port that the guide calls configurable is set, listed, exported by nothing, and given back", async () => {
    const host = fresh();
    await setUp(host, "set-port nbcssc=5700");
    expect(host.audit.at(-1)).toBe("set-port nbcssc=5700");
    expect(await outputOf(host, "show-services -p -o port cloudstore")).toBe("5700/tcp\n");
    expect(await outputOf(host, "show-services -p -o name 5700")).toBe("nbcssc\n");
    expect(await outputOf(host, "show-flows -p -o port -t 3.6")).toBe("5700\n");
    expect(await outputOf(host, "export-config")).toBe("");
    await setUp(host, "set-port CLOUDSTORE=default");
    expect(host.config().netbackup.ports).toEqual({ services: {}, windows: {} });
  });

  test("NBU-049 another exchange port touches T3-2.03 alone, and no name", async () => {
    const host = fresh();
    await setUp(host, "set-port pbx=1600");
    expect(await outputOf(host, "show-flows -p -o flow,port -t 3-2 -s opscenter-server -d master-server")).toBe(
      "T3-2.03:1600\n",
    );
    expect(await outputOf(host, "show-services -p -o port pbx")).toBe("1556/tcp\n");
  });

  test("NBU-044 the window is set as a range, and its flows have ports", async () => {
    const host = fresh();
    await setUp(host, "set-port server-port-window=5000-5100 smtp=2525");
    expect(await outputOf(host, "show-flows -p -o flow,port -t 2.9 -s filer")).toBe(
      "P2.9.02:5000-5100\nP2.9.03:5000-5100\n",
    );
    expect(host.config().netbackup.ports.services).toEqual({ smtp: 2525 });
  });

  test.each([
    ["vnetd=9999", "the port of VNETD cannot be set: the guide does not call it configurable"],
    ["vnet=9999", "no service vnet"],
    ["nbcssc=0", "invalid port value 0 specified"],
    ["nbcssc=65536", "invalid port value 65536 specified"],
    ["nbcssc=http", "invalid port value http specified"],
    ["nbcssc=1-2", "invalid port value 1-2 specified"],
    ["nbcssc=", "invalid port value  specified"],
    ["nbcssc", "nbcssc: NAME=VALUE expected"],
    ["SERVER_PORT_WINDOW=5000", "SERVER_PORT_WINDOW takes LOW-HIGH, not 5000"],
    ["SERVER_PORT_WINDOW=5100-5000", "invalid port value 5000 specified"],
    ["SERVER_PORT_WINDOW=5000-70000", "invalid port value 70000 specified"],
    ["smtp=26 vnetd=1", "the port of VNETD cannot be set: the guide does not call it configurable"],
  ])("NBU-049 set-port %s is refused and nothing changes", async (words, text) => {
    const host = fresh();
    expect(await errorOf(host, `set-port ${words}`)).toBe(`ilbadm: ${text}\n`);
    expect(host.config()).toBe(EMPTY_CONFIG);
  });

  const conf = (host: FakeHost, input: string) => ilbadm(host, "set-port -f cloudstore.conf", { input });

  test("NBU-050 cloudstore.conf sets the port", async () => {
    const host = fresh();
    expect(
      await conf(host, "# by hand\r\n\r\n[other]\r\nCSSC_PORT=1\r\n[nbcssc]\r\n cssc_port = 5700 \r\n"),
    ).toMatchObject({
      exit: 0,
      stdout: "",
      stderr: "",
    });
    expect(host.config().netbackup.ports.services).toEqual({ nbcssc: 5700 });
    expect(host.audit.at(-1)).toBe("set-port nbcssc=5700");
  });

  test("NBU-050 without the key the default holds, with a notice; of several the last, with a warning", async () => {
    const host = fresh();
    await setUp(host, "set-port nbcssc=5700");
    expect((await conf(host, "[NBCSSC]\n")).stderr).toBe(
      "ilbadm: notice: cloudstore.conf has no CSSC_PORT in [NBCSSC]; 5637 holds\n",
    );
    expect(host.config().netbackup.ports.services).toEqual({});
    expect((await conf(host, "[NBCSSC]\nCSSC_PORT=1\nCSSC_PORT=2\n")).stderr).toBe(
      "ilbadm: warning: CSSC_PORT stands in line 2 and 3; the last holds\n",
    );
    expect(host.config().netbackup.ports.services).toEqual({ nbcssc: 2 });
  });

  test.each([
    ["[NBCSSC]\n\nCSSC_PORT=0\n", 3, "CSSC_PORT must be 1 to 65535, not 0"],
    ["[NBCSSC]\nCSSC_PORT=65536\n", 2, "CSSC_PORT must be 1 to 65535, not 65536"],
    ["[NBCSSC]\nCSSC_PORT=56x7\n", 2, "CSSC_PORT must be 1 to 65535, not 56x7"],
    ["[NBCSSC]\nCSSC_PORT=\n", 2, "CSSC_PORT must be 1 to 65535, not nothing"],
    ["; c\n[NBCSSC\n", 2, "the section has no ]"],
    ["[NBCSSC]\nCSSC_PORT 5700\n", 2, "neither a section nor KEY=VALUE"],
  ])("NBU-050 a mistake names the line and changes nothing", async (input, line, reason) => {
    const host = fresh();
    const { exit, stderr } = await conf(host, input);
    expect([exit, stderr]).toEqual([1, `ilbadm: cloudstore.conf: line ${line}: ${reason}\n`]);
    expect(host.config()).toBe(EMPTY_CONFIG);
  });

  test("NBU-050 only the caller's process reads a file: a line of an import cannot", async () => {
    const host = fresh();
    const { exit, stderr } = await ilbadm(host, "import-config", { input: "set-port -f /etc/passwd\n" });
    expect([exit, stderr]).toEqual([1, "ilbadm: -: line 1: invalid/incompatible keywords - refer to ilbadm(8)\n"]);
  });

  test("NBU-047 an import may set ports, and leaves them alone otherwise", async () => {
    const host = fresh();
    await ilbadm(host, "import-config", { input: "set-port smtp=2525\n" });
    await ilbadm(host, "import-config", { input: "create-sg s\n" });
    expect(host.config().netbackup.ports.services).toEqual({ smtp: 2525 });
  });

  test("NBU-055 setting a port needs the right config, reading none but show", async () => {
    const refused: string[] = [];
    const right = (needed: string) => {
      refused.push(needed);
      return needed === "show";
    };
    expect((await ilbadm(fresh(), "set-port smtp=26", { right })).exit).toBe(1);
    for (const line of ["show-services", "show-flows"]) expect((await ilbadm(fresh(), line, { right })).exit).toBe(0);
    expect(refused).toEqual(["config", "show", "show"]);
  });
});
