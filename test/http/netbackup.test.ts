/** What is known of NetBackup over HTTP: the same answers and errors as ilbadm gives. */
import { beforeEach, expect, test } from "bun:test";
import { chmodSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { unpack } from "msgpackr";
import type { Caller } from "../../src/control/caller.ts";
import { TestApp } from "./support.ts";

const READER: Caller = { name: "reader", rights: new Set(["show"]) };

let app: TestApp;
beforeEach(async () => {
  app = await TestApp.start();
});

interface Page {
  readonly items: readonly Record<string, unknown>[];
  readonly next: string | null;
}
const page = async (path: string): Promise<Page> => (await app.json(path, { caller: READER })) as Page;
const shell = async (line: string) =>
  (await app.json("/v1/ilbadm", { json: { line } })) as { stdout: string; stderr: string };

test("NBU-053 services are those of show-services, by table, name and port, in pages", async () => {
  const { stdout } = await shell("show-services --json");
  const all = await page("/v1/netbackup/services");
  expect(all.items).toEqual(JSON.parse(stdout));
  expect((await page("/v1/netbackup/services?table=2-1")).items.map(({ name }) => name)).toEqual([
    "VERITAS_PBX",
    "VNETD",
    "VRTS-AT-PORT",
    "VRTS-AUTH-PORT",
  ]);
  expect((await page("/v1/netbackup/services?name=443,pbx")).items.map(({ port }) => port)).toEqual([
    1556, 443, 443, 443, 443,
  ]);
  const first = await page("/v1/netbackup/services?limit=40");
  const rest = await page(`/v1/netbackup/services?limit=40&cursor=${first.next}`);
  expect([...first.items, ...rest.items]).toEqual([...all.items]);
});

test("NBU-053 flows are those of show-flows, in JSON and MessagePack", async () => {
  const path = "/v1/netbackup/flows?source=media-server@7.0&destination=client@7.5&both=true";
  const { stdout } = await shell("show-flows --json -b -s media-server@7.0 -d client@7.5");
  const shown = await page(path);
  expect(shown.items).toHaveLength(6);
  expect(shown).toEqual({ items: JSON.parse(stdout), next: null });
  const packed = await app.ask(path, { headers: { accept: "application/msgpack" } });
  expect(unpack(new Uint8Array(await packed.arrayBuffer()))).toEqual(shown);
  const facts = "facts=destination.resilient%3Dtrue";
  expect(
    (await page(`/v1/netbackup/flows?source=media&destination=client@7.5&${facts}`)).items.map(({ need }) => need),
  ).toEqual(["required", "required"]);
});

test("NBU-053 what is wrong with a question is said as ilbadm says it, with the parameter", async () => {
  const cases: [query: string, line: string, status: number, field?: string][] = [
    ["source=mastr-server", "-s mastr-server", 400, "source"],
    ["destination=client@x", "-d client@x", 400, "destination"],
    ["facts=feature.gtr%3Dtrue", "-c feature.gtr=true", 400, "facts"],
    ["table=1-1", "-t 1-1", 400, "table"],
    ["upgrades=m@7.5", "-u m@7.5", 400],
    ["hosts=true&upgrades=m@7.5", "-H -u m@7.5", 404],
  ];
  for (const [query, line, status, field] of cases) {
    const problem = (await app.json(`/v1/netbackup/flows?${query}`)) as Record<string, unknown>;
    const { stderr } = await shell(`show-flows ${line}`);
    expect([query, problem.status, problem.field]).toEqual([query, status, field]);
    expect(stderr.split("\n")[0]).toBe(`ilbadm: ${problem.detail}`);
    if (problem.hint !== undefined) expect(stderr).toContain(`hint: ${problem.hint}`);
  }
  expect(await app.refusal("/v1/netbackup/flows?both=perhaps")).toEqual([400, "E-VALUE", "both"]);
  expect(await app.refusal("/v1/netbackup/flows?role=client")).toEqual([400, "E-PARAMETER", "role"]);
  expect(await app.refusal("/v1/netbackup/services?name=vnet")).toEqual([404, "E-NBSERVICE"]);
});

test("NBU-049 NBU-053 a port is set, shown and given back, with the right config, and audited", async () => {
  const put = (name: string, json: unknown, caller?: Caller) =>
    app.ask(`/v1/netbackup/ports/${name}`, { method: "PUT", json, ...(caller && { caller }) });
  expect((await put("cloudstore", { port: 5700 })).status).toBe(204);
  expect((await put("SERVER_PORT_WINDOW", { port: "5000-5100" })).status).toBe(204);
  expect((await page("/v1/netbackup/ports")).items).toEqual([
    { name: "SERVER_PORT_WINDOW", port: "5000-5100", default: null, flows: null },
    { name: "veritas_pbx", port: "1556", default: "1556", flows: ["T3-2.03"] },
    { name: "smtp", port: "25", default: "25", flows: null },
    { name: "snmp-trap", port: "162", default: "162", flows: null },
    { name: "nbcssc", port: "5700", default: "5637", flows: null },
  ]);
  expect((await put("nbcssc", { port: null })).status).toBe(204);
  expect(app.controller.config().netbackup.ports.services).toEqual({});
  const before = app.controller.config();
  expect((await put("smtp", { port: 26 }, READER)).status).toBe(403);
  for (const [name, json, status, code] of [
    ["vnetd", { port: 9999 }, 409, "E-NBFIXED"],
    ["vnet", { port: 9999 }, 404, "E-NBSERVICE"],
    ["smtp", { port: 0 }, 400, "E-PORT"],
    ["smtp", { port: 65536 }, 400, "E-PORT"],
    ["smtp", { port: true }, 400, "E-VALUE"],
    ["smtp", {}, 400, "E-VALUE"],
    ["smtp", { port: 26, why: 1 }, 400, "E-KEYWORD"],
    ["smtp", null, 400, "E-SYNTAX"],
  ] as const) {
    const answer = await put(name, json);
    const problem = (await answer.json()) as { code: string };
    expect([name, json, answer.status, problem.code]).toEqual([name, json, status, code]);
  }
  expect(app.controller.config()).toBe(before);
});

test("NBU-050 cloudstore.conf goes beside the command line", async () => {
  const json = { argv: ["set-port", "-f", "cloudstore.conf"], input: "[NBCSSC]\nCSSC_PORT=5700\n" };
  expect(await app.json("/v1/ilbadm", { json })).toEqual({ exit: 0, stdout: "", stderr: "" });
  expect(app.controller.config().netbackup.ports.services).toEqual({ nbcssc: 5700 });
  expect(await app.json("/v1/ilbadm", { json: { argv: json.argv } })).toMatchObject({ exit: 1, stdout: "" });
});

test("NBU-010 NBU-018 the guard refuses over HTTP as from the shell, and a forced rule says so", async () => {
  await app.run("create-servergroup -s server=192.0.2.10 sg");
  const rule = { name: "r1", vip: "198.51.100.1", port: "veritas_pbx", type: "HALF-NAT", servergroup: "sg" };
  const before = app.controller.config();
  expect(await app.refusal("/v1/rules", { json: rule })).toEqual([409, "E-NATGUARD"]);
  expect(app.controller.config()).toBe(before);
  const made = await app.ask("/v1/rules", { json: { ...rule, forced: true } });
  expect([made.status, await made.json()]).toMatchObject([201, { port: "1556", forced: true }]);
  const add = { servers: ["192.0.2.11:vnetd"] };
  await app.run("create-servergroup -s server=192.0.2.20:8000 other");
  await app.run("create-rule -i vip=198.51.100.2,port=8000 -m type=HALF-NAT -o servergroup=other r2");
  expect(await app.refusal("/v1/servergroups/other/servers", { json: add })).toEqual([409, "E-NATGUARD"]);
  expect((await app.ask("/v1/servergroups/other/servers", { json: { ...add, forced: true } })).status).toBe(201);
});

test("NBU-018 what ilbadm prints on standard error about a change stands in the answer as warnings", async () => {
  await app.run("set-policy -c nat-guard=warn", "create-servergroup -s server=192.0.2.10 sg");
  const reason = "NetBackup does not support NAT or PAT (TECH15006)";
  const rule = { name: "r1", vip: "198.51.100.1", port: 1556, type: "HALF-NAT", servergroup: "sg" };
  const made = (await app.json("/v1/rules", { json: rule })) as { name: string; warnings: string[] };
  expect(made).toMatchObject({ name: "r1", forced: false });
  const warning = `warning: rule r1: port 1556 (VERITAS_PBX): ${reason}`;
  expect(made.warnings).toEqual(["hint about r1", warning]);
  // It is said of the change, not of the rule.
  expect(await app.json("/v1/rules/r1")).not.toHaveProperty("warnings");
  const added = await app.json("/v1/servergroups/sg/servers", { json: { servers: ["192.0.2.11"] } });
  expect(added).toMatchObject({ items: [{ id: "_sg.1" }], warnings: [warning] });
  const plain = await app.json("/v1/rules", { json: { ...rule, name: "r2", port: 80 } });
  const shown = (await app.json("/v1/rules/r2")) as object;
  expect(plain).toEqual({ ...shown, warnings: ["hint about r2"] });
  expect(await app.json("/v1/servergroups", { json: { name: "silent" } })).not.toHaveProperty("warnings");
  const body =
    "create-servergroup in\ncreate-rule -i vip=198.51.100.9,port=13724 -m type=HALF-NAT -o servergroup=in r9\n";
  const imported = await app.json("/v1/config", { method: "PUT", body, headers: { "content-type": "text/plain" } });
  expect(imported).toEqual({ stdout: "", warnings: [`warning: rule r9: port 13724 (VNETD): ${reason}`] });
});

test("a health test that others can write is warned of in the answer that makes the check", async () => {
  const directory = mkdtempSync(join(tmpdir(), "ilb-"));
  try {
    const test = join(directory, "test");
    writeFileSync(test, "#!/bin/sh\n");
    chmodSync(test, 0o777);
    const check = { name: "hc", "hc-test": test, "hc-timeout": 1, "hc-count": 1, "hc-interval": 5 };
    const made = (await app.json("/v1/healthchecks", { json: check })) as { warnings: string[] };
    expect(made.warnings[0]).toStartWith(`warning: ${test} can be written by others`);
  } finally {
    rmSync(directory, { recursive: true });
  }
});
