/** src/client: the typed client that ilbadm uses, over the socket and over TCP, against a real daemon. */
import { afterAll, beforeAll, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Client, createClient, NotReachable } from "../../src/client/client.ts";
import { Daemon, Place } from "../daemon/daemon.ts";

const place = new Place();
let daemon: Daemon;
beforeAll(async () => {
  const file = join(place.directory, "tokens");
  writeFileSync(file, `reader show ${createHash("sha256").update("read-only").digest("hex")}\n`, { mode: 0o600 });
  daemon = await Daemon.start(place, "--listen", "127.0.0.1:0", "--token-file", file);
});
afterAll(async () => {
  await daemon.stop();
  place.remove();
});

const overSocket = (): Client => createClient({ socket: place.socket, url: null, token: null });
const overTcp = (token: string | null): Client =>
  createClient({ socket: null, url: `http://127.0.0.1:${daemon.tcpPort}`, token });

test("answers have the types that the document gives them, refusals too", async () => {
  const { v1 } = overSocket();
  const made = await v1.servergroups.$post({ json: { name: "web", servers: ["192.0.2.1"] } });
  if (made.status !== 201) throw new Error((await made.json()).detail);
  const group = await made.json();
  const first: string | undefined = group.servers[0]?.id;
  expect(first).toBe("_web.0");
  const again = await v1.servergroups.$post({ json: { name: "WEB" } });
  expect(again.status).toBe(409);
  if (again.status === 409) expect((await again.json()).code).toBe("E-SGEXISTS");
  const one = await v1.servergroups[":name"].$get({ param: { name: "Web" } });
  if (one.ok) expect((await one.json()).name).toBe("web");
  const page = await v1.servergroups.$get({ query: { limit: "1" } });
  if (page.ok) expect((await page.json()).items).toHaveLength(1);
  // @ts-expect-error a field that the API does not have
  expect((await v1.servergroups.$post({ json: { name: "x", colour: "red" } })).status).toBe(400);
  // @ts-expect-error a path that the API does not have
  expect((await v1.nosuch.$get()).status).toBe(404);
});

test("over TCP the token decides, and what a reader may not do is refused", async () => {
  expect((await overTcp(null).v1.rules.$get()).status).toBe(401);
  expect((await overTcp("wrong").v1.rules.$get()).status).toBe(401);
  const reader = overTcp("read-only");
  expect((await reader.v1.rules.$get()).status).toBe(200);
  const refused = await reader.v1.rules.$delete();
  expect([refused.status, (await refused.json()) as unknown]).toMatchObject([403, { code: "E-AUTH" }]);
});

test("POST /v1/ilbadm answers with the bytes and the status of ilbadm itself", async () => {
  await place.must("create-servergroup -s server=192.0.2.7:80 same");
  for (const words of [
    "show-servergroup -o all",
    "show-rule nosuch",
    "export-config",
    "show-rule -p",
    "frobnicate",
    "-V",
  ]) {
    const { status, stdout, stderr } = await place.ilbadm(words);
    for (const json of [{ line: words }, { argv: words.split(" ") }]) {
      const answer = await overSocket().v1.ilbadm.$post({ json });
      const { exit, ...output } = (await answer.json()) as { exit: number; stdout: string; stderr: string };
      // The program adds hints of its own behind the first line of an error.
      expect([words, exit, output.stdout]).toEqual([words, status, stdout]);
      expect(output.stderr.split("\n")[0]).toBe(stderr.split("\n")[0]!);
    }
  }
});

test("ILB-239 FILE operands, an import without a body and an INTERVAL without COUNT are E-ARGS over HTTP", async () => {
  const refused = { exit: 1, stdout: "", stderr: "ilbadm: invalid/incompatible keywords - refer to ilbadm(8)\n" };
  for (const line of ["export-config /tmp/F", "import-config /tmp/F", "import-config", "show-statistics 1"]) {
    const answer = await overSocket().v1.ilbadm.$post({ json: { line } });
    expect([line, (await answer.json()) as unknown]).toEqual([line, refused]);
  }
});

test("nobody there is an error of its own", async () => {
  const nobody = createClient({ socket: join(place.directory, "none"), url: null, token: null });
  await expect(nobody.v1.rules.$get()).rejects.toBeInstanceOf(NotReachable);
});

test("ilbadm carries nothing of the server with it", () => {
  const bundle = readFileSync(join(import.meta.dir, "../../dist/ilbadm.js"), "utf8");
  for (const piece of ["Bun.serve", "ZodType", "bun:sqlite", "bun:ffi", "openapi"]) expect(bundle).not.toContain(piece);
});

test("a rollback goes back to the configuration after a change, and a dry run only tells what would change", async () => {
  await place.must("import-config", "create-servergroup a\n");
  await place.must("create-servergroup b");
  const send = (path: string, init: RequestInit = {}) => place.fetch(path, { method: "POST", ...init });
  const records = ((await (await place.fetch("/v1/history")).json()) as { items: { id: number }[] }).items;
  const path = `/v1/history/${records.at(-2)!.id}/rollback`;
  const plan = await send(`${path}?dryRun=true`);
  expect([plan.status, (await plan.json()) as unknown]).toEqual([
    200,
    { changes: [{ change: "remove", kind: "servergroup", name: "b", fields: [] }], connections: [] },
  ]);
  const reader = overTcp("read-only").v1.history[":id"].rollback;
  expect((await reader.$post({ param: { id: `${records.at(-2)!.id}` }, query: {} })).status).toBe(403);
  expect((await reader.$post({ param: { id: "x" }, query: {} })).status).toBe(403);
  expect(await place.must("show-servergroup")).toBe("a: id:\nb: id:\n");
  expect((await send(path)).status).toBe(204);
  expect(await place.must("show-servergroup")).toBe("a: id:\n");
  const unknown = await send("/v1/history/99999/rollback");
  expect([unknown.status, ((await unknown.json()) as { code: string }).code]).toEqual([404, "E-NOCHANGE"]);
  for (const wrong of ["/v1/history/x/rollback", `${path}?dryRun=1`]) expect((await send(wrong)).status).toBe(400);
  const body = { headers: { "content-type": "application/json" }, body: '{"dryRun":true}' };
  expect((await send(path, body)).status).toBe(400);
});
