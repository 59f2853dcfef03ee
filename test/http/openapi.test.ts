/**
 * The OpenAPI document: judged by a validator that is not ours, compared with what the application serves, and used to
 * generate a client with a tool that is not ours, which must pass the type checker and drive a real daemon.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { createHash } from "node:crypto";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Validator } from "@seriousme/openapi-schema-validator";
import { generate, HttpClient } from "openapi-typescript-codegen";
import { apiDocument, apiTypesText, formatted } from "../../scripts/api-types.ts";
import { ROUTES } from "../../src/command/spec.ts";
import { Daemon, Place, run } from "../daemon/daemon.ts";
import { TestApp } from "./support.ts";

const ROOT = join(import.meta.dir, "../..");

interface Operation {
  operationId: string;
  description?: string;
  parameters?: { name: string; in: string }[];
  responses: Record<string, unknown>;
}
interface Document {
  openapi: string;
  paths: Record<string, Record<string, Operation>>;
}

describe("the document", () => {
  test("is valid OpenAPI 3.1 for an independent validator", async () => {
    const validator = new Validator();
    const app = await TestApp.start();
    const result = await validator.validate((await app.json("/v1/openapi.json")) as Record<string, unknown>);
    expect(result).toEqual({ valid: true });
    expect(validator.version).toBe("3.1");
  });

  test("names every route of the grammar and of the application, and nothing else", async () => {
    const app = await TestApp.start();
    const document = (await app.json("/v1/openapi.json")) as Document;
    const named = Object.entries(document.paths).flatMap(([path, methods]) =>
      Object.keys(methods).map((method) => `${method.toUpperCase()} ${path}`),
    );
    const static_ = ["/", "/dashboard.css", "/dashboard.js"].map((path) => `GET ${path}`);
    const served = app.app.routes
      .filter((route) => route.method !== "ALL")
      .map((route) => `${route.method} ${route.path.replace(/:([a-z]+)/g, "{$1}")}`)
      .filter((route) => !static_.includes(route));
    expect(new Set(named)).toEqual(new Set(served));
    for (const { method, path } of ROUTES) expect(named).toContain(`${method} ${path}`);
  });

  test("says of each operation which right it needs, and of each path part that it is one", async () => {
    const app = await TestApp.start();
    const document = (await app.json("/v1/openapi.json")) as Document;
    for (const { method, path, right } of ROUTES) {
      const operation = document.paths[path]![method.toLowerCase()]!;
      expect(operation.description).toContain(`\`${right}\``);
      const parts = [...path.matchAll(/\{([a-z]+)\}/g)].map(([, name]) => name!);
      expect((operation.parameters ?? []).filter((part) => part.in === "path").map(({ name }) => name)).toEqual(parts);
    }
  });

  test("says of a property whose option is a refusal what true means", async () => {
    const app = await TestApp.start();
    const document = JSON.stringify(await app.json("/v1/openapi.json"));
    expect(document).toContain('"default-ping":{"description":"ping before the test; default true"');
    expect(document).not.toContain("do not ping");
  });

  test("src/gen/api.ts is what scripts/api-types.ts writes of it", async () => {
    const text = readFileSync(join(ROOT, "src/gen/api.ts"), "utf8");
    expect(text).toBe(formatted(apiTypesText(await apiDocument())));
  });
});

describe("a client generated from the document", () => {
  const place = new Place();
  const token = "only-for-this-test";
  let daemon: Daemon;

  beforeAll(async () => {
    const file = join(place.directory, "tokens");
    const hash = createHash("sha256").update(token).digest("hex");
    writeFileSync(file, `test show,enable,config ${hash}\n`, { mode: 0o600 });
    daemon = await Daemon.start(place, "--listen", "127.0.0.1:0", "--token-file", file);
  });
  afterAll(async () => {
    await daemon.stop();
    place.remove();
  });

  /** Where the tool puts it. */
  const CLIENT = "./client/index";
  const DRIVER = `
import { ApiError, DefaultService as api, OpenAPI } from "${CLIENT}";
OpenAPI.BASE = process.argv[2]!;
OpenAPI.TOKEN = process.argv[3]!;
const say = (value: unknown): void => console.log(JSON.stringify(value));
const group = await api.postServergroups({ requestBody: { name: "sg", servers: ["192.0.2.1:80", "192.0.2.2"] } });
say(group.servers.map((server) => server.id));
const rule = await api.postRules({
  requestBody: { name: "r", vip: "198.51.100.1", port: 80, type: "HALF-NAT", servergroup: "sg", enabled: true },
});
say([rule.name, rule.lbalg, rule["nat-timeout"]]);
await api.patchRulesName({ name: "r", requestBody: { enabled: false } });
const page = await api.getRules({ limit: 1 });
say([page.items.map(({ name, enabled }) => [name, enabled]), page.next]);
const statistics = await api.getStatistics();
say(BigInt(statistics.packets_in) === 0n);
say((await api.postIlbadm({ requestBody: { line: "show-rule -p -o rulename,status" } })).stdout);
say(await api.getConfig({}));
try {
  await api.deleteServergroupsName({ name: "sg" });
} catch (error) {
  if (!(error instanceof ApiError)) throw error;
  say([error.status, error.body.code, error.body.detail]);
}
await api.deleteRulesName({ name: "r" });
await api.deleteServergroupsName({ name: "sg" });
say((await api.getServergroups({})).items);
`;

  test("passes the type checker and drives a real daemon", async () => {
    const directory = join(place.directory, "generated");
    mkdirSync(directory);
    const input = (await (await place.fetch("/v1/openapi.json")).json()) as Record<string, unknown>;
    await generate({ input, output: join(directory, "client"), httpClient: HttpClient.FETCH, useOptions: true });
    writeFileSync(join(directory, "driver.ts"), DRIVER);
    const compilerOptions = {
      strict: true,
      noEmit: true,
      module: "preserve",
      target: "esnext",
      lib: ["esnext", "dom", "dom.iterable"],
      types: ["bun"],
      typeRoots: [join(ROOT, "node_modules/@types")],
      skipLibCheck: true,
    };
    writeFileSync(join(directory, "tsconfig.json"), JSON.stringify({ compilerOptions, files: ["driver.ts"] }));
    const checked = await run([process.execPath, join(ROOT, "node_modules/.bin/tsc"), "-p", directory]);
    expect([checked.stdout, checked.status]).toEqual(["", 0]);

    const driver = [process.execPath, join(directory, "driver.ts"), `http://127.0.0.1:${daemon.tcpPort}`, token];
    const driven = await run(driver);
    expect([driven.stderr, driven.status]).toEqual(["", 0]);
    expect(
      driven.stdout
        .trim()
        .split("\n")
        .map((line) => JSON.parse(line) as unknown),
    ).toEqual([
      ["_sg.0", "_sg.1"],
      ["r", "roundrobin", 120],
      [[["r", false]], null],
      true,
      "r:D\n",
      expect.stringContaining("create-rule -i vip=198.51.100.1,port=80,protocol=tcp"),
      [409, "E-SGINUSE", "cannot remove server group - its in use with other active rules"],
      [],
    ]);
  }, 60_000);
});
