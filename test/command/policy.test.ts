/** Hosts and the flow policy as commands: what they print, what is wrong with their words, and what is written for others. */
import { describe, expect, test } from "bun:test";
import { EMPTY_CONFIG } from "../../src/model/config.ts";
import { policyOf } from "../../src/netbackup/policy.ts";
import { errorOf, FakeHost, ilbadm, outputOf } from "../support/fake-host.ts";

const MASTER = "create-host -a 10.1.0.10 -r master-server@7.5 master1";
const MEDIA = "create-host -a 10.1.0.20 -r media-server@7.5 media1";
const CLIENTS = "create-host -a 10.2.0.0/16 -r client@7.5 -c resilient=false clients";

async function boxWith(...lines: readonly string[]): Promise<FakeHost> {
  const host = new FakeHost();
  for (const line of lines) expect(await ilbadm(host, line)).toMatchObject({ exit: 0, stderr: "" });
  return host;
}
/** `FLOW SOURCE>DESTINATION PORT` of everything that is permitted. */
async function permitted(host: FakeHost): Promise<string[]> {
  const records = JSON.parse(await outputOf(host, "export-policy -x json")) as Record<string, string>[];
  return records.map(({ flow, source, destination, port }) => `${flow} ${source}>${destination} ${port}`);
}

describe("hosts", () => {
  test("NBU-034 prefixes of both families, several roles, versions and facts are bound and listed", async () => {
    const host = await boxWith(
      MASTER,
      CLIENTS,
      "create-hst -a 2001:db8::7/64 -r media-server@7.0.1,client -c domain=east,model=5230 six",
    );
    expect(await outputOf(host, "show-host")).toBe(
      `NAME            ADDRESS                 ROLES                                   FACTS
master1         10.1.0.10               master-server@7.5                       --
clients         10.2.0.0/16             client@7.5                              resilient=false
six             2001:db8::/64           media-server@7.0.1,client               domain=east,model=5230
`,
    );
    expect(await outputOf(host, "show-host -p -o roles,address six")).toBe(
      "media-server@7.0.1,client:2001\\:db8\\:\\:/64\n",
    );
    expect(JSON.parse(await outputOf(host, "show-hst --json CLIENTS"))).toEqual([
      {
        name: "clients",
        address: "10.2.0.0/16",
        roles: [{ role: "client", version: "7.5" }],
        facts: { resilient: false },
      },
    ]);
    expect(await ilbadm(host, "delete-host clients")).toMatchObject({ exit: 0 });
    expect(host.config().netbackup.hosts.map(({ name }) => name)).toEqual(["master1", "six"]);
  });

  test.each([
    ["create-host -a 10.0.0.1 -r mastr-server x", "unknown role mastr-server"],
    ["create-host -a 10.0.0.1 -r client@seven x", "seven is no version: numbers joined by dots are, such as 7.0.1"],
    ["create-host -a 10.0.0.1 -r client,client@7.5 x", "role client is named twice"],
    ["create-host -a 10.0.0.256 -r client x", "10.0.0.256 is no address or prefix"],
    ["create-host -a 10.0.0.0/33 -r client x", "10.0.0.0/33 is no address or prefix"],
    ["create-host -a 10.0.0.1 -r client -c resilent=true x", "unknown fact resilent"],
    ["create-host -a 10.0.0.1 -r client -c resilient=maybe x", "resilient=maybe: true or false expected"],
    [
      "create-host -a 10.0.0.1 -r client a,b",
      "a,b is no name for a host: up to 63 letters, digits, '.', '_' and '-' are",
    ],
    ["create-host -a 10.9.0.9 -r client MASTER1", "host MASTER1 exists already"],
    ["create-host -a 10.1.0.10/32 -r client other", "10.1.0.10 is bound to host master1 already"],
    ["delete-host nobody", "no host nobody"],
    ["show-host nobody", "no host nobody"],
    ["set-policy enforced", "unknown mode enforced: off, monitor and enforce are known"],
    ["set-policy -c outsde=drop", "unknown fact outsde"],
    ["set-policy -c outside=reject", "outside=reject: pass or drop expected"],
    ["set-policy -c permit=T9-1.01", "permit=T9-1.01: flow ids joined by +, such as T3-6.10, or none expected"],
    ["export-policy -x xml", "unknown form xml: nft, csv, json, table, config are known"],
  ])("bad input: %s", async (line, text) => {
    const host = await boxWith(MASTER);
    const before = host.config();
    expect(await errorOf(host, line)).toStartWith(`ilbadm: ${text}`);
    expect(host.config()).toBe(before);
  });
});

describe("policy", () => {
  test("NBU-036 a 7.5 domain needs the exchange port both ways, and no VNETD", async () => {
    const host = await boxWith(MASTER, MEDIA, "set-policy -c undecided=deny");
    expect(await permitted(host)).toEqual(["T2-2.02 master1>media1 1556", "T2-3.01 media1>master1 1556"]);
  });

  test("NBU-041 a host of another version changes what passes", async () => {
    const host = await boxWith(MASTER, CLIENTS, "set-policy -c undecided=deny enforce");
    expect(await permitted(host)).not.toContain("T2-2.05 master1>clients 13724");
    for (const line of ["delete-host clients", "create-host -a 10.2.0.0/16 -r client@7.0 clients"])
      expect(await ilbadm(host, line)).toMatchObject({ exit: 0 });
    expect(await permitted(host)).toContain("T2-2.05 master1>clients 13724");
  });

  test("NBU-044 flows whose ports only the site knows are unresolved, and told what to set", async () => {
    const host = await boxWith(MEDIA, "create-host -a 10.1.0.30 -r ndmp-filer filer");
    const told = await outputOf(host, "show-policy");
    expect(told).toContain("UNRESOLVED");
    for (const flow of ["P2.9.02", "P2.9.03"])
      expect(told).toMatch(new RegExp(`^${flow.replaceAll(".", "\\.")} .*set-port SERVER_PORT_WINDOW=LOW-HIGH$`, "m"));
    expect(await ilbadm(host, "set-port SERVER_PORT_WINDOW=5000-5100")).toMatchObject({ exit: 0 });
    expect(await outputOf(host, "show-policy")).not.toContain("UNRESOLVED");
    expect((await permitted(host)).some((line) => line.endsWith("5000-5100"))).toBe(true);
  });

  test("NBU-026 disputed flows are not permitted but by their id", async () => {
    const host = await boxWith(
      "create-host -a 10.1.0.40 -r rm-console console",
      "create-host -a 10.1.0.41 -r appliance-ipmi -c model=5230,console_mode=encrypted ipmi",
    );
    const disputed = (await permitted(host)).filter((line) => line.endsWith(" 7528"));
    expect(disputed).toEqual([]);
    const id = /(\S+) .* 7528 /.exec(await outputOf(host, "show-flows -H"))![1]!;
    expect(await ilbadm(host, `set-policy -c permit=${id}`)).toMatchObject({ exit: 0 });
    expect(await permitted(host)).toContain(`${id} console>ipmi 7528`);
  });

  test("NBU-035 the policy is off by default; modes and settings are kept", async () => {
    const host = new FakeHost();
    expect(await outputOf(host, "show-policy")).toStartWith("mode");
    expect(host.config().netbackup.mode).toBe("off");
    await outputOf(host, "set-policy -c outside=drop,source-ports=non-reserved,grt=true monitor");
    expect(host.config().netbackup).toMatchObject({
      mode: "monitor",
      outside: "drop",
      sourcePorts: "non-reserved",
      features: { grt: true },
    });
    await outputOf(host, "set-policy -c feature.grt=unknown");
    expect(host.config().netbackup.features).toEqual({});
    const before = host.config();
    await outputOf(host, "set-policy -c outside=drop monitor");
    expect(host.config()).toBe(before);
  });

  test("NBU-046 CSV, JSON and table carry the same records with flow ids", async () => {
    const host = await boxWith(MASTER, MEDIA, CLIENTS);
    const records = JSON.parse(await outputOf(host, "export-policy -x json")) as Record<string, string | null>[];
    const csv = (await outputOf(host, "export-policy -x csv")).split("\r\n").slice(0, -1);
    expect(csv[0]).toBe(
      "flow,source,sourceAddress,destination,destinationAddress,service,protocol,port,need,condition",
    );
    const quoted = (text: string): string => (/[",]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
    expect(csv.slice(1)).toEqual(
      records.map((record) =>
        Object.values(record)
          .map((value) => quoted(value ?? ""))
          .join(","),
      ),
    );
    const table = (await outputOf(host, "export-policy -x table")).trimEnd().split("\n").slice(1);
    expect(table.map((line) => line.split(/\s+/)[0])).toEqual(records.map(({ flow }) => flow!));
    expect(records.length).toBeGreaterThan(4);
  });

  test("NBU-047 export-policy -x config makes the same hosts, ports and settings again, and export-config none of them", async () => {
    const first = await boxWith(
      MASTER,
      CLIENTS,
      "create-host -a 2001:db8::/48 -r media-server,client@7.0 -c domain=west six",
      "set-port SERVER_PORT_WINDOW=6000-6010",
      "set-port nbcssc=5700",
      "set-policy -c outside=drop,permit=T3-1.01,feature.grt=true,setting.vmware-transport=san enforce",
    );
    const text = await outputOf(first, "export-policy -x config");
    expect(await outputOf(first, "export-config")).toBe("");
    const second = new FakeHost();
    expect(await ilbadm(second, "import-config -p", { input: text })).toMatchObject({ exit: 0, stderr: "" });
    expect(await outputOf(second, "export-policy -x config")).toBe(text);
    expect(policyOf(second.config().netbackup).pairs).toEqual(policyOf(first.config().netbackup).pairs);
    // An import of balancer commands leaves it all alone.
    expect(await ilbadm(second, "import-config", { input: "create-servergroup sg\n" })).toMatchObject({ exit: 0 });
    expect(await outputOf(second, "export-policy -x config")).toBe(text);
  });

  test("NBU-055 changes need the right of create-rule, reading none but show", async () => {
    const deny = { right: (needed: string) => needed === "show" };
    const host = await boxWith(MASTER);
    for (const line of [CLIENTS, "delete-host master1", "set-policy enforce"])
      expect(await ilbadm(host, line, deny)).toMatchObject({
        exit: 1,
        stderr: expect.stringContaining("user is not authorized to execute command"),
      });
    for (const line of ["show-host", "show-policy -v", "export-policy"])
      expect(await ilbadm(host, line, deny)).toMatchObject({ exit: 0 });
    expect(host.config().netbackup).toEqual({ ...EMPTY_CONFIG.netbackup, hosts: host.config().netbackup.hosts });
  });
});
