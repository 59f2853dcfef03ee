/** Hosts and the flow policy over HTTP: the same results and errors as the command line (NBU-053). */
import { expect, test } from "bun:test";
import { unpack } from "msgpackr";
import type { Caller } from "../../src/control/caller.ts";
import { TestApp } from "./support.ts";

const READER: Caller = { name: "reader", rights: new Set(["show"]) };
const HOSTS = "/v1/netbackup/hosts";
const POLICY = "/v1/netbackup/policy";

test("NBU-053 hosts are bound, shown and unbound as resources, with the errors of the command line", async () => {
  const app = await TestApp.start();
  const body = { name: "media1", address: "10.1.0.20", roles: "media-server@7.5,client", facts: "resilient=true" };
  const made = await app.ask(HOSTS, { json: body });
  const media = {
    name: "media1",
    address: "10.1.0.20",
    roles: [
      { role: "media-server", version: "7.5" },
      { role: "client", version: null },
    ],
    facts: { resilient: true },
  };
  expect([made.status, made.headers.get("location"), await made.json()]).toEqual([201, `${HOSTS}/media1`, media]);
  expect(await app.json(`${HOSTS}/media1`)).toEqual(media);
  expect(await app.json(HOSTS)).toMatchObject({ items: [media] });
  const packed = await app.ask(HOSTS, { headers: { accept: "application/msgpack" } });
  expect(unpack(new Uint8Array(await packed.arrayBuffer()))).toMatchObject({ items: [media] });

  expect(await app.refusal(HOSTS, { json: body })).toEqual([409, "E-NBDUPHOST"]);
  expect(await app.refusal(HOSTS, { json: { ...body, name: "x" } })).toEqual([409, "E-NBBOUND"]);
  expect(await app.refusal(HOSTS, { json: { ...body, name: "y", roles: "nobody" } })).toEqual([
    400,
    "E-NBROLE",
    "roles",
  ]);
  expect(await app.refusal(HOSTS, { json: { ...body, name: "y", address: "10.1" } })).toEqual([
    400,
    "E-NBADDRESS",
    "address",
  ]);
  expect(await app.refusal(HOSTS, { json: body, caller: READER })).toEqual([403, "E-AUTH"]);
  expect(await app.refusal(`${HOSTS}/other`, { method: "DELETE" })).toEqual([404, "E-NBHOST"]);
  expect((await app.ask(`${HOSTS}/media1`, { method: "DELETE" })).status).toBe(204);
  expect(app.controller.config().netbackup.hosts).toEqual([]);
});

test("NBU-053 what GET shows of a host and of the settings can be sent as it is", async () => {
  const app = await TestApp.start();
  for (const roles of ["media-server@7.5,client", ["media-server@7.5", "client"], null])
    for (const facts of ["resilient=true", { resilient: true }, null]) {
      if (roles !== null)
        expect((await app.ask(HOSTS, { json: { name: "h", address: "10.1.0.20", roles, facts } })).status).toBe(201);
      else await app.run("create-host -a 10.1.0.20 -r media-server@7.5,client h");
      const shown = (await app.json(`${HOSTS}/h`)) as object;
      expect(shown).toMatchObject({
        roles: [
          { role: "media-server", version: "7.5" },
          { role: "client", version: null },
        ],
      });
      expect((await app.ask(`${HOSTS}/h`, { method: "DELETE" })).status).toBe(204);
      const again = await app.ask(HOSTS, { json: shown });
      expect([again.status, await again.json()]).toEqual([201, shown]);
      expect((await app.ask(`${HOSTS}/h`, { method: "DELETE" })).status).toBe(204);
    }
  await app.run("set-policy -c outside=drop,permit=P3.3.01");
  const { settings } = (await app.json(POLICY)) as { settings: object };
  await app.run("set-policy -c outside=pass,permit=none");
  expect((await app.ask(POLICY, { method: "PATCH", json: { settings } })).status).toBe(204);
  expect(await app.json(POLICY)).toMatchObject({ settings });
});

test("NBU-053 roles and facts that say nothing, or more than one thing in a place, are refused by their name", async () => {
  const app = await TestApp.start();
  const body = { name: "h", address: "10.1.0.20", roles: "client" };
  const refused: [object, string][] = [
    [{ roles: [] }, "roles"],
    [{ roles: [""] }, "roles"],
    [{ roles: [7] }, "roles"],
    [{ roles: ["client,media-server"] }, "roles"],
    [{ roles: [{ role: "client" }, { version: "7.5" }] }, "roles"],
    [{ roles: [{ role: "client", size: 1 }] }, "roles"],
    [{ roles: { role: "client" } }, "roles"],
    [{ facts: ["resilient=true"] }, "facts"],
    [{ facts: { resilient: null } }, "facts"],
    [{ facts: { domain: "a,resilient=true" } }, "facts"],
    [{ facts: { "domain=a,resilient": true } }, "facts"],
    [{ address: ["10.1.0.20"] }, "address"],
  ];
  for (const [change, field] of refused)
    expect([change, await app.refusal(HOSTS, { json: { ...body, ...change } })]).toEqual([
      change,
      [400, "E-VALUE", field],
    ]);
});

test("NBU-053 a host that is not bound is missing in the words of show-host", async () => {
  const app = await TestApp.start();
  const missing = await app.ask(`${HOSTS}/nosuch`);
  expect([missing.status, await missing.json()]).toMatchObject([404, { code: "E-NBHOST", detail: "no host nosuch" }]);
});

test("NBU-053 the policy is set, told and written as the command line does it", async () => {
  const app = await TestApp.start();
  await app.run(
    "create-host -a 10.1.0.10 -r master-server@7.5 master1",
    "create-host -a 10.1.0.20 -r media-server@7.5 media1",
  );
  const set = { mode: "enforce", settings: "outside=drop,undecided=deny" };
  expect((await app.ask(POLICY, { method: "PATCH", json: set })).status).toBe(204);
  expect(app.controller.config().netbackup).toMatchObject({ mode: "enforce", outside: "drop", undecided: "deny" });
  expect(app.world.image!.policy).toMatchObject({ mode: "enforce", outside: "drop" });
  const told = (await app.json(POLICY, { caller: READER })) as { flows: { flow: string }[] };
  expect(told).toMatchObject({ mode: "enforce", hosts: 2, unresolved: [], refused: [], settings: { outside: "drop" } });
  expect(told.flows.map(({ flow }) => flow)).toContain("T2-2.02");
  expect(await app.refusal(POLICY, { method: "PATCH", json: { mode: "on" } })).toEqual([400, "E-NBMODE"]);
  expect(await app.refusal(POLICY, { method: "PATCH", json: { settings: "outside=no" } })).toEqual([
    400,
    "E-NBVALUE",
    "settings",
  ]);
  expect(await app.refusal(POLICY, { method: "PATCH", json: set, caller: READER })).toEqual([403, "E-AUTH"]);
  for (const form of ["nft", "csv", "json", "table", "config"]) {
    const text = await (await app.ask(`${POLICY}/export?form=${form}`, { caller: READER })).text();
    const line = (await app.json("/v1/ilbadm", { json: { line: `export-policy -x ${form}` } })) as { stdout: string };
    expect(text).toBe(line.stdout);
    expect(text.length).toBeGreaterThan(40);
  }
  expect(await app.refusal(`${POLICY}/export?form=xml`)).toEqual([400, "E-NBFORM", "form"]);
});
