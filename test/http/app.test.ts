import { beforeEach, describe, expect, test } from "bun:test";
import { unpack } from "msgpackr";
import type { Caller } from "../../src/control/caller.ts";
import type { Controller } from "../../src/control/controller.ts";
import { HealthEvents } from "../../src/control/health-events.ts";
import { type EngineCounters, zeroPairCounters } from "../../src/engine/engine.ts";
import { type App, createApp } from "../../src/http/app.ts";
import { RefusalAudit } from "../../src/http/rights.ts";
import { FakeWorld, settled } from "../control/fakes.ts";

const ADMIN: Caller = { name: "root", rights: new Set(["show", "enable", "config"]) };
const READER: Caller = { name: "reader", rights: new Set(["show"]) };
const OPERATOR: Caller = { name: "operator", rights: new Set(["show", "enable"]) };
const NOBODY: Caller = { name: "nobody", rights: new Set() };
/** Beyond what a double can hold. */
const HUGE = 18_446_744_073_709_551_000n;

let world: FakeWorld;
let controller: Controller;
let app: App;
let errors: string[];

beforeEach(async () => {
  world = new FakeWorld();
  controller = world.controller();
  await controller.start();
  errors = [];
  const counters = (): EngineCounters => ({
    rules: [],
    fragmentsIn: 0n,
    fragmentsDropped: 0n,
    packetsIn: HUGE,
    reasons: [0n, 3n, HUGE],
    pairs: controller.config().rules.flatMap((rule) =>
      controller.config().groups.flatMap((group) =>
        group.servers.map((server) => ({
          ...zeroPairCounters(rule.id, server.id),
          packets: HUGE,
          bytes: 7n,
          flows: 2,
        })),
      ),
    ),
  });
  world.engine.counters = counters;
  app = createApp({
    version: "1.2.3",
    log: { debug() {}, info() {}, warn() {}, error: (message) => errors.push(message) },
    hostFor: (caller, gone) => controller.hostFor(caller, gone),
    healthEvents: new HealthEvents(1),
    refusals: new RefusalAudit((caller, command, code) => controller.auditRefusal(caller, command, code)),
    counters,
    ports: () => [{ name: "eth0", counters: { rxFrames: HUGE } }],
    workers: () => [
      { packetsIn: HUGE, flows: 3, handedOver: 5n, takenOver: 0n, flowsExpired: 0n, flowsEvicted: 0n },
      { packetsIn: 2n, flows: 1, handedOver: 0n, takenOver: 5n, flowsExpired: 0n, flowsEvicted: 0n },
    ],
    isReady: () => true,
  });
});

interface Ask {
  caller?: Caller;
  method?: string;
  body?: unknown;
  raw?: string | Uint8Array<ArrayBuffer>;
  type?: string;
  accept?: string;
}
const ask = async (path: string, { caller = ADMIN, method, body, raw, type, accept }: Ask = {}): Promise<Response> =>
  app.request(
    path,
    {
      method: method ?? (body === undefined && raw === undefined ? "GET" : "POST"),
      headers: {
        ...(body === undefined && type === undefined ? {} : { "content-type": type ?? "application/json" }),
        ...(accept === undefined ? {} : { accept }),
      },
      ...(body === undefined && raw === undefined ? {} : { body: raw ?? JSON.stringify(body) }),
    },
    { caller },
  );
const json = async (path: string, options?: Ask): Promise<unknown> => (await ask(path, options)).json();

const GROUP = { name: "sg1", servers: ["192.0.2.10:80", "192.0.2.11"] };
const RULE = { name: "r1", vip: "198.51.100.10", port: "80", type: "HALF-NAT", servergroup: "sg1", enabled: true };
async function createBoth(): Promise<void> {
  expect((await ask("/v1/servergroups", { body: GROUP })).status).toBe(201);
  expect((await ask("/v1/rules", { body: RULE })).status).toBe(201);
}

describe("resources", () => {
  test("POST creates, GET shows, PATCH switches, DELETE removes", async () => {
    const made = await ask("/v1/servergroups", { body: GROUP });
    expect([made.status, made.headers.get("location")]).toEqual([201, "/v1/servergroups/sg1"]);
    expect((await ask("/v1/rules", { body: RULE })).status).toBe(201);
    expect(await json("/v1/rules/R1")).toMatchObject({ name: "r1", enabled: true, servers: ["_sg1.0", "_sg1.1"] });
    const off = await ask("/v1/rules/r1", { method: "PATCH", body: { enabled: false } });
    expect([off.status, await off.text()]).toEqual([204, ""]);
    expect(await json("/v1/rules/r1")).toMatchObject({ enabled: false });
    expect((await ask("/v1/servers/_sg1.0", { method: "PATCH", body: { enabled: false } })).status).toBe(204);
    expect(await json("/v1/servers/_sg1.0")).toMatchObject({ enabled: false, rules: ["r1"] });
    expect((await ask("/v1/servergroups/sg1/servers", { body: { servers: ["192.0.2.12"] } })).status).toBe(201);
    expect((await ask("/v1/servers/_sg1.1", { method: "DELETE" })).status).toBe(204);
    expect(await json("/v1/servergroups/sg1/servers")).toMatchObject({ items: [{ id: "_sg1.0" }, { id: "_sg1.2" }] });
    expect((await ask("/v1/rules/r1", { method: "DELETE" })).status).toBe(204);
    expect((await ask("/v1/servergroups/sg1", { method: "DELETE" })).status).toBe(204);
    expect(await json("/v1/rules")).toEqual({ items: [], next: null });
  });

  test("a refusal is a problem with code, field and the text that ilbadm prints, and nothing changes", async () => {
    await createBoth();
    const before = controller.config();
    const cases: [string, Ask, number, string, string | undefined][] = [
      ["/v1/rules", { body: RULE }, 409, "E-DUPRULE", undefined],
      ["/v1/rules", { body: { ...RULE, name: "r2", vip: "web.example" } }, 400, "E-ADDRESS", "vip"],
      ["/v1/rules", { body: { ...RULE, name: "r2", colour: "red" } }, 400, expect.any(String) as never, "colour"],
      ["/v1/rules/nosuch", { method: "DELETE" }, 404, "E-ENORULE", undefined],
      ["/v1/rules/nosuch", {}, 404, "E-ENOENT", undefined],
      ["/v1/servergroups/sg1", { method: "DELETE" }, 409, "E-SGINUSE", undefined],
      ["/v1/rules/r1", { method: "PATCH", body: { enabled: "no" } }, 400, "E-VALUE", "enabled"],
      ["/v1/rules/r1", { method: "PATCH", body: { enabled: true, name: "x" } }, 400, "E-KEYWORD", "name"],
      ["/v1/rules", { raw: "{", type: "application/json" }, 400, "E-BODY", undefined],
      ["/v1/rules", { raw: "a=b", type: "application/x-www-form-urlencoded" }, 415, "E-MEDIA", undefined],
      ["/v1/rules/r1", { method: "PUT", body: {} }, 405, "E-METHOD", undefined],
      ["/v1/nosuch", {}, 404, "E-NOPATH", undefined],
    ];
    for (const [path, options, status, code, field] of cases) {
      const answer = await ask(path, options);
      expect(answer.headers.get("content-type")).toBe("application/problem+json");
      const problem = (await answer.json()) as Record<string, unknown>;
      expect({ path, ...problem }).toMatchObject({ path, status, code, ...(field === undefined ? {} : { field }) });
      expect(answer.status).toBe(status);
      expect(typeof problem.detail).toBe("string");
    }
    expect(controller.config()).toBe(before);
    const detail = (await json("/v1/rules", { body: RULE })) as { detail: string };
    expect(detail.detail).toBe("specified rule name already exists");
  });

  test("lists come in pages that join to the whole", async () => {
    const servers = Array.from({ length: 25 }, (_, i) => `192.0.2.${i + 1}`);
    await ask("/v1/servergroups", { body: { name: "big", servers } });
    const seen: string[] = [];
    let cursor = "";
    do {
      const page = (await json(`/v1/servergroups/big/servers?limit=10${cursor}`)) as {
        items: { address: string }[];
        next: string | null;
      };
      seen.push(...page.items.map((item) => item.address));
      cursor = page.next === null ? "" : `&cursor=${page.next}`;
    } while (cursor !== "");
    expect(seen).toEqual(servers);
    for (const query of ["limit=0", "limit=x", "limit=10001", "cursor=-1", "page=2"])
      expect((await ask(`/v1/rules?${query}`)).status).toBe(400);
  });
});

describe("JSON and MessagePack", () => {
  test("64-bit counters are whole in both", async () => {
    await createBoth();
    const inJson = (await json("/v1/statistics")) as { packets_in: string; rules: { servers: { pkt_p: string }[] }[] };
    expect(inJson.packets_in).toBe(String(HUGE));
    expect(inJson.rules[0]!.servers[0]!.pkt_p).toBe(String(HUGE));
    const packed = await ask("/v1/statistics", { accept: "application/msgpack" });
    expect(packed.headers.get("content-type")).toBe("application/msgpack");
    const value = unpack(new Uint8Array(await packed.arrayBuffer())) as typeof inJson & { packets_in: bigint };
    expect(BigInt(value.packets_in)).toBe(HUGE);
    expect(String(value.rules[0]!.servers[0]!.pkt_p)).toBe(String(HUGE));
  });

  test("a request in MessagePack does what the same in JSON does", async () => {
    const { pack } = await import("msgpackr");
    const raw = new Uint8Array(pack(GROUP));
    const made = await ask("/v1/servergroups", { raw, type: "application/msgpack", accept: "application/msgpack" });
    expect(made.status).toBe(201);
    expect(unpack(new Uint8Array(await made.arrayBuffer()))).toEqual(await json("/v1/servergroups/sg1"));
    const again = await ask("/v1/servergroups", { raw, type: "application/msgpack", accept: "application/msgpack" });
    expect(unpack(new Uint8Array(await again.arrayBuffer()))).toMatchObject({ code: "E-SGEXISTS", status: 409 });
  });
});

describe("POST /v1/ilbadm", () => {
  test("answers with bytes and status of the command line, as line and as argv", async () => {
    await createBoth();
    const line = await json("/v1/ilbadm", { body: { line: "show-rule  -p -o\tname,rulename" } });
    expect(line).toEqual({ exit: 1, stdout: "", stderr: "ilbadm: unknown output field: name\n" });
    const argv = await json("/v1/ilbadm", { body: { argv: ["show-rule", "-p", "-o", "rulename,vip"] } });
    expect(argv).toEqual({ exit: 0, stdout: "r1:198.51.100.10\n", stderr: "" });
  });

  test("ILB-239 what needs the caller's files or never ends is E-ARGS", async () => {
    const eArgs = { exit: 1, stdout: "", stderr: "ilbadm: invalid/incompatible keywords - refer to ilbadm(8)\n" };
    for (const line of ["export-config /tmp/F", "import-config /tmp/F", "import-config", "show-stats 1"])
      expect(await json("/v1/ilbadm", { body: { line } })).toEqual(eArgs);
  });

  test("import-config reads the input beside the line", async () => {
    const body = { line: "import-config", input: "create-servergroup a\n" };
    expect(await json("/v1/ilbadm", { body })).toEqual({ exit: 0, stdout: "", stderr: "" });
    expect(controller.config().groups.map((group) => group.name)).toEqual(["a"]);
  });

  test("streams pieces as they come", async () => {
    const answer = await ask("/v1/ilbadm", { body: { argv: ["show-stats", "1"] }, accept: "application/x-ndjson" });
    const reader = answer.body!.getReader();
    const first = JSON.parse(new TextDecoder().decode((await reader.read()).value)) as { stdout: string };
    expect(first.stdout).toStartWith("PKT_P   BYTES_P");
    const second = reader.read();
    while (world.clock.pending === 0) await settled();
    await world.clock.advance(1000);
    expect(JSON.parse(new TextDecoder().decode((await second).value))).toMatchObject({ stdout: expect.any(String) });
    await reader.cancel();
  });

  test("a body of another shape is refused by its field", async () => {
    for (const body of [{}, { line: "x", argv: [] }, { argv: [1] }, { line: 5 }, { line: "x", colour: 1 }, []])
      expect((await ask("/v1/ilbadm", { body })).status).toBe(400);
  });
});

describe("configuration", () => {
  const TEXT = "create-servergroup sg1\nadd-server -s server=192.0.2.10 sg1\n";

  test("GET gives export text, PUT imports it as one change, ?preserve=true adds", async () => {
    expect((await ask("/v1/config", { method: "PUT", raw: TEXT, type: "text/plain" })).status).toBe(200);
    expect(await (await ask("/v1/config")).text()).toBe(TEXT);
    const more = { method: "PUT", raw: "create-servergroup b\n", type: "text/plain" };
    expect((await ask("/v1/config?preserve=true", more)).status).toBe(200);
    expect(controller.config().groups.map((group) => group.name)).toEqual(["sg1", "b"]);
    expect((await ask("/v1/config", more)).status).toBe(200);
    expect(controller.config().groups.map((group) => group.name)).toEqual(["b"]);
  });

  test("ILB-160 a wrong line changes nothing and is named", async () => {
    await ask("/v1/config", { method: "PUT", raw: TEXT, type: "text/plain" });
    const before = controller.config();
    const raw = "create-servergroup x\n\nfrobnicate\n";
    const answer = await ask("/v1/config?name=F", { method: "PUT", raw, type: "text/plain" });
    expect(await answer.json()).toMatchObject({
      code: "E-SUBCOMMAND",
      detail: "F: line 3: subcommand is invalid - please refer to ilbadm(8)",
    });
    expect(controller.config()).toBe(before);
  });

  test("unknown parameters and other spellings of preserve are refused", async () => {
    for (const query of ["preserve=yes", "force=true"])
      expect((await ask(`/v1/config?${query}`, { method: "PUT", raw: TEXT, type: "text/plain" })).status).toBe(400);
  });
});

describe("sizes", () => {
  test("bodies over 1 MiB are 413, imports may be larger", async () => {
    const big = "x".repeat(1024 * 1024 + 1);
    for (const path of ["/v1/rules", "/v1/ilbadm"])
      expect((await ask(path, { raw: JSON.stringify({ line: big }), type: "application/json" })).status).toBe(413);
    const comment = `#${"c".repeat(2 * 1024 * 1024)}\ncreate-servergroup a\n`;
    expect((await ask("/v1/config", { method: "PUT", raw: comment, type: "text/plain" })).status).toBe(200);
  });
});

describe("rights", () => {
  test("without the right nothing happens, the answer is 403 E-AUTH, and the refusal is audited", async () => {
    await createBoth();
    const before = controller.config();
    const cases: [Caller, string, Ask][] = [
      [READER, "/v1/rules/r1", { method: "PATCH", body: { enabled: false } }],
      [READER, "/v1/rules", { method: "POST", body: {} }],
      [OPERATOR, "/v1/rules/r1", { method: "DELETE" }],
      [OPERATOR, "/v1/config", { method: "PUT", raw: "", type: "text/plain" }],
      [NOBODY, "/v1/rules", {}],
      [NOBODY, "/v1/openapi.json", {}],
      [NOBODY, "/metrics", {}],
    ];
    for (const [caller, path, options] of cases) {
      world.audits.length = 0;
      const answer = await ask(path, { ...options, caller });
      expect([path, answer.status]).toEqual([path, 403]);
      expect(await answer.json()).toMatchObject({
        code: "E-AUTH",
        detail: "user is not authorized to execute command",
      });
      expect(world.audits).toMatchObject([{ who: caller.name, result: "E-AUTH" }]);
    }
    expect(controller.config()).toBe(before);
    expect((await ask("/v1/rules/r1", { method: "PATCH", body: { enabled: false }, caller: OPERATOR })).status).toBe(
      204,
    );
  });

  test("health, readiness and the dashboard's files need none", async () => {
    for (const path of ["/healthz", "/readyz", "/", "/dashboard.js", "/dashboard.css"])
      expect((await ask(path, { caller: NOBODY })).status).toBe(200);
  });

  test("a flood of refusals is rationed in the audit log and its size noted", async () => {
    for (let i = 0; i < 200; i++) await ask("/v1/rules", { caller: NOBODY });
    expect(world.audits.length).toBeGreaterThanOrEqual(50);
    expect(world.audits.length).toBeLessThan(60);
  });
});

describe("what watches over us", () => {
  test("/metrics is Prometheus text with whole counters", async () => {
    await createBoth();
    const answer = await ask("/metrics");
    expect(answer.headers.get("content-type")).toStartWith("text/plain; version=0.0.4");
    const text = await answer.text();
    for (const line of text.trim().split("\n"))
      expect(line).toMatch(/^(# (HELP|TYPE) [a-z_0-9]+ .+|[a-z_0-9]+(\{[a-z]+="[^"]*"(,[a-z]+="[^"]*")*\})? \d+)$/);
    expect(text).toContain(`ilb_server_packets_total{rule="r1",server="_sg1.0"} ${HUGE}\n`);
    expect(text).toContain("ilb_flows 4\n");
    expect(text).toContain(`ilb_port_rx_frames_total{interface="eth0"} ${HUGE}\n`);
  });

  test("statistics/stream sends an event at once and then one per interval", async () => {
    const answer = await ask("/v1/statistics/stream?interval=5");
    expect(answer.headers.get("content-type")).toBe("text/event-stream");
    const reader = answer.body!.getReader();
    const read = async () => new TextDecoder().decode((await reader.read()).value);
    expect(JSON.parse((await read()).slice("data: ".length))).toMatchObject({ packets_in: String(HUGE), rules: [] });
    let came = false;
    const second = read().finally(() => {
      came = true;
    });
    await world.clock.advance(4999);
    expect(came).toBe(false);
    await world.clock.advance(1);
    expect(await second).toStartWith("data: {");
    await reader.cancel();
    expect((await ask("/v1/statistics/stream?interval=0")).status).toBe(400);
  });

  test("a bug is a 500 without a stack for the client and with one for the log", async () => {
    world.engine.flowsFrom = () => {
      throw new TypeError("secret");
    };
    const answer = await ask("/v1/nat");
    expect(answer.status).toBe(500);
    expect(await answer.text()).not.toContain("secret");
    expect(errors).toEqual(["request failed"]);
  });

  test("the dashboard loads nothing from elsewhere and runs no inline code", async () => {
    const answer = await ask("/");
    expect(answer.headers.get("content-security-policy")).toContain("default-src 'none'");
    const page = await answer.text();
    expect(page).not.toMatch(/https?:\/\//);
    expect(page).not.toMatch(/<script(?![^>]* src=)/);
    const script = await (await ask("/dashboard.js")).text();
    expect(script).not.toContain("innerHTML");
  });
});

describe("openapi.json", () => {
  interface Operation {
    operationId: string;
    parameters?: { name: string; in: string }[];
    responses: Record<string, unknown>;
  }
  interface Document {
    openapi: string;
    paths: Record<string, Record<string, Operation>>;
    components: { schemas: Record<string, unknown> };
  }
  const METHODS = ["get", "post", "put", "patch", "delete"];

  test("is 3.1, every reference leads somewhere, every path part has its parameter, ids are unique", async () => {
    const document = (await json("/v1/openapi.json")) as Document;
    expect(document.openapi).toBe("3.1.0");
    const references = [...JSON.stringify(document).matchAll(/"\$ref":"#\/components\/schemas\/([^"]+)"/g)];
    expect(references.length).toBeGreaterThan(10);
    for (const [, name] of references) expect(document.components.schemas).toHaveProperty([name!]);
    const ids: string[] = [];
    for (const [path, methods] of Object.entries(document.paths)) {
      const parts = [...path.matchAll(/\{([a-z]+)\}/g)].map(([, name]) => name!);
      for (const [method, operation] of Object.entries(methods)) {
        expect(METHODS).toContain(method);
        const inPath = (operation.parameters ?? []).filter((parameter) => parameter.in === "path");
        expect(inPath.map((parameter) => parameter.name)).toEqual(parts);
        expect(Object.keys(operation.responses).length).toBeGreaterThan(0);
        ids.push(operation.operationId);
      }
    }
    expect(new Set(ids).size).toBe(ids.length);
  });

  test("every path in it is served, and nothing under /v1 is served that it does not name", async () => {
    const document = (await json("/v1/openapi.json")) as Document;
    for (const [path, methods] of Object.entries(document.paths)) {
      for (const method of Object.keys(methods)) {
        const answer = await ask(path.replace(/\{[a-z]+\}/g, "x"), { method: method.toUpperCase() });
        const text = answer.status === 404 ? await answer.text() : "";
        if (answer.status !== 404) await answer.body?.cancel();
        expect([method, path, text.includes("E-NOPATH"), answer.status === 405]).toEqual([method, path, false, false]);
      }
    }
    const served = app.routes.filter((route) => route.path.startsWith("/v1/") && route.method !== "ALL");
    for (const route of served) {
      const path = route.path.replace(/:([a-z]+)/g, "{$1}");
      expect(document.paths[path]).toHaveProperty(route.method.toLowerCase());
    }
  });
});
