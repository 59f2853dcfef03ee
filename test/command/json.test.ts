/** JSON bodies and views: what the resources under /v1 read and show. */
import { describe, expect, test } from "bun:test";
import { z } from "zod";
import { fromHttp, requestSchema, stringify } from "../../src/command/json.ts";
import { perform } from "../../src/command/run.ts";
import { ROUTES, type Route, SUBCOMMANDS } from "../../src/command/spec.ts";
import { VIEW_SCHEMAS } from "../../src/command/view-schemas.ts";
import * as views from "../../src/command/views.ts";
import { parseAddress } from "../../src/model/address.ts";
import { FakeHost, setUp } from "../support/fake-host.ts";

const route = (method: Route["method"], path: string): Route => {
  const found = ROUTES.find((candidate) => candidate.method === method && candidate.path === path);
  if (found === undefined) throw new Error(`no route ${method} ${path}`);
  return found;
};
const CREATE = route("POST", "/v1/rules");
const BODY = { name: "r1", vip: "198.51.100.1", port: 80, type: "DSR", servergroup: "sg1" };

const read = (body: unknown, on = CREATE, values = {}) => fromHttp(on, values, body, new FakeHost());

async function failureOf(body: unknown, on = CREATE, values = {}) {
  const result = await read(body, on, values);
  if (result.ok) throw new Error("accepted");
  const { code, text, field } = result.failure;
  return [code, text, field];
}

test("a body means what the command line means, defaults included", async () => {
  const result = await read({ ...BODY, enabled: true, "hc-name": null, pmask: 24 });
  expect(result).toMatchObject({
    ok: true,
    value: [
      { kind: "create-rule", name: "r1", enabled: true, stickyMask: 24, algorithm: "roundrobin", healthCheck: null },
    ],
  });
});

test("values may be text or numbers, names are looked up", async () => {
  const result = await read({ ...BODY, port: "telnet", sticky: true, "conn-drain": "30" });
  expect(result).toMatchObject({
    ok: true,
    value: [{ ports: { min: 23, max: 23 }, stickyMask: 32, connDrainSeconds: 30 }],
  });
});

test.each([
  [{ ...BODY, vipp: 1 }, ["E-KEYWORD", "bad keyword vipp", "vipp"]],
  [{ ...BODY, vip: "x" }, ["E-ADDRESS", "vip: address is invalid", "vip"]],
  [{ ...BODY, vip: "" }, ["E-NOVALUE", "vip: missing value", "vip"]],
  [{ ...BODY, port: 0 }, ["E-PORT", "invalid port value 0 specified", "port"]],
  [{ ...BODY, port: [80] }, ["E-VALUE", "port: invalid value  - refer to ilbadm(8)", "port"]],
  [{ ...BODY, port: 80.5 }, ["E-VALUE", "port: invalid value  - refer to ilbadm(8)", "port"]],
  [{ ...BODY, port: undefined }, ["E-VALUE", "port: invalid value  - refer to ilbadm(8)", "port"]],
  [{ ...BODY, port: null }, ["E-MISSING", "port: missing", "port"]],
  [{ ...BODY, enabled: "yes" }, ["E-VALUE", "enabled: invalid value  - refer to ilbadm(8)", "enabled"]],
  [{ ...BODY, name: 5 }, ["E-VALUE", "name: invalid value  - refer to ilbadm(8)", "name"]],
  [{ ...BODY, type: null }, ["E-NOTYPE", "lbalg or type is unspecified", "type"]],
  [{ ...BODY, servergroup: null }, ["E-NOGROUP", "servergroup name missing", "servergroup"]],
  [{ ...BODY, "proxy-src": "203.0.113.1" }, ["E-PROXY", "proxy-src: proxy-src not allowed", "proxy-src"]],
  ["text", ["E-SYNTAX", "syntax failure - refer to ilbadm(8)", undefined]],
  [null, ["E-SYNTAX", "syntax failure - refer to ilbadm(8)", undefined]],
])("%j is refused with code, text and field", async (body, expected) => {
  expect(await failureOf(body)).toEqual(expected);
});

test("a body without a name lacks its operand", async () => {
  expect((await failureOf({ ...BODY, name: undefined }))[0]).toBe("E-VALUE");
  const { name: _, ...nameless } = BODY;
  expect((await failureOf(nameless))[0]).toBe("E-MANDATORY");
});

describe("PATCH", () => {
  const patch = route("PATCH", "/v1/rules/{name}");

  test("enabled true or false chooses the subcommand, whichever of the two routes matched", async () => {
    for (const candidate of ROUTES.filter((one) => one.method === "PATCH" && one.path === patch.path)) {
      expect(await read({ enabled: true }, candidate, { name: "r" })).toEqual({
        ok: true,
        value: [{ kind: "enable-rule", name: "r" }],
      });
      expect(await read({ enabled: false }, candidate, { name: "r" })).toEqual({
        ok: true,
        value: [{ kind: "disable-rule", name: "r" }],
      });
    }
    expect(await read({ enabled: false }, route("PATCH", "/v1/servers/{id}"), { id: "_a.0" })).toEqual({
      ok: true,
      value: [{ kind: "disable-server", serverId: "_a.0" }],
    });
  });

  test("anything else is refused", async () => {
    expect(await failureOf({ enabled: true, vip: "x" }, patch, { name: "r" })).toEqual([
      "E-KEYWORD",
      "bad keyword vip",
      "vip",
    ]);
    expect((await failureOf({ enabled: "no" }, patch, { name: "r" }))[2]).toBe("enabled");
    expect((await failureOf({}, patch, { name: "r" }))[2]).toBe("enabled");
  });
});

test("DELETE of rules: one, or all of them on the collection", async () => {
  expect(await read(undefined, route("DELETE", "/v1/rules/{name}"), { name: "r" })).toEqual({
    ok: true,
    value: [{ kind: "delete-rule", name: "r" }],
  });
  expect(await read(undefined, route("DELETE", "/v1/rules"))).toEqual({
    ok: true,
    value: [{ kind: "delete-rule", name: null }],
  });
});

test("a server is removed by its ID, whose last dot ends the group's name", async () => {
  expect(await read(undefined, route("DELETE", "/v1/servers/{id}"), { id: "_a.b.7" })).toEqual({
    ok: true,
    value: [{ kind: "remove-server", group: "a.b", serverId: "_a.b.7" }],
  });
});

test("what has not the form of a server ID is no server", async () => {
  expect(await failureOf(undefined, route("DELETE", "/v1/servers/{id}"), { id: "x" })).toEqual([
    "E-SRVUNAVAIL",
    "cannot find specified server",
    undefined,
  ]);
});

test("a test that no import line could carry is refused", async () => {
  const host = new FakeHost();
  for (const path of ["/a,b", "/a b", "/a\nb", "/a\\b"]) {
    const body = { name: "h", "hc-test": path };
    const changes = await fromHttp(route("POST", "/v1/healthchecks"), {}, body, host);
    if (!changes.ok) throw new Error(changes.failure.text);
    expect(await perform(changes.value, host, { right: () => true })).toMatchObject({ failure: { code: "E-EINVAL" } });
  }
});

test("servers of a body are all added or none", async () => {
  const host = new FakeHost();
  await setUp(host, "create-sg -s server=192.0.2.2 sg1");
  const before = host.config();
  const added = await fromHttp(
    route("POST", "/v1/servergroups/{name}/servers"),
    { name: "sg1" },
    { servers: ["192.0.2.1:80", "192.0.2.2-192.0.2.3"] },
    host,
  );
  if (!added.ok) throw new Error(added.failure.text);
  expect(added.value.length).toBe(3);
  const right = () => true;
  expect(await perform(added.value, host, { right })).toMatchObject({
    ok: false,
    failure: { code: "E-EEXIST", text: "cannot add 192.0.2.2 to sg1: object already exists" },
  });
  expect(host.config()).toBe(before);
  expect(await perform(added.value.slice(0, 1), host, { right })).toEqual({ ok: true, value: [] });
  expect(host.audit.at(-1)).toBe("add-server -s server=192.0.2.1:80 sg1");
  expect(await perform(added.value, host, { right: () => false })).toMatchObject({
    ok: false,
    failure: { code: "E-AUTH" },
  });
});

test("every subcommand has a route, and no two routes of one body are the same", () => {
  for (const { long, routes } of Object.values(SUBCOMMANDS)) expect([long, routes.length > 0]).toEqual([long, true]);
  const keys = ROUTES.map(({ method, path, body }) => `${method} ${path} ${JSON.stringify(body)}`);
  expect(new Set(keys).size).toBe(keys.length);
});

test("every body and view becomes JSON Schema", () => {
  for (const one of ROUTES) {
    const schema = requestSchema(one);
    if (schema !== null) expect(z.toJSONSchema(schema)).toMatchObject({ type: "object", additionalProperties: false });
  }
  for (const schema of Object.values(VIEW_SCHEMAS)) expect(z.toJSONSchema(schema)).toHaveProperty("type", "object");
});

describe("views", () => {
  /** What a reader of JSON gets. */
  const asJson = (view: unknown) => JSON.parse(stringify(view));
  const fits = (name: keyof typeof VIEW_SCHEMAS, view: unknown) => {
    const checked = VIEW_SCHEMAS[name].safeParse(asJson(view));
    expect(checked.error?.issues ?? []).toEqual([]);
  };
  const ip = (text: string) => parseAddress(text)!;

  async function configured(): Promise<FakeHost> {
    const host = new FakeHost();
    await setUp(
      host,
      "create-hc -n -h hc-test=tcp hc1",
      "create-sg -s server=192.0.2.11:80,192.0.2.10 sg1",
      "create-rule -e -i vip=198.51.100.1,port=80 -m type=NAT,proxy-src=203.0.113.1 -h hc-name=hc1,hc-port=80 -o sg=sg1 r1",
    );
    return host;
  }

  test("a rule is shown with defaults filled in", async () => {
    const host = await configured();
    const view = views.ruleView(host.config(), host.config().rules[0]!);
    fits("rule", view);
    expect(view).toEqual({
      name: "r1",
      enabled: true,
      vip: "198.51.100.1",
      port: "80",
      protocol: "tcp",
      lbalg: "roundrobin",
      type: "NAT",
      "proxy-src": "203.0.113.1-203.0.113.1",
      pmask: null,
      "hc-name": "hc1",
      "hc-port": 80,
      "conn-drain": 0,
      "nat-timeout": 120,
      "persist-timeout": 0,
      servergroup: "sg1",
      forced: false,
      servers: ["_sg1.1", "_sg1.0"],
    });
  });

  test("a group of a thousand servers under hundreds of rules names each rule once, not for each server", async () => {
    const host = await configured();
    for (let i = 0; i < 50; i++)
      await setUp(
        host,
        `create-rule -i vip=198.51.100.99,port=${3000 + i} -m type=HALF-NAT -o servergroup=sg1 named${i}`,
      );
    const text = stringify(views.groupView(host.config(), host.config().groups[0]!));
    expect(text.split('"named7"')).toHaveLength(2);
  });

  test("a rule that is shown can be created from what is shown, but for its servers", async () => {
    const host = await configured();
    const { servers: _, ...view } = views.ruleView(host.config(), host.config().rules[0]!);
    await setUp(host, "delete-rule r1");
    const changes = await fromHttp(CREATE, {}, asJson(view), host);
    if (!changes.ok) throw new Error(changes.failure.text);
    expect((await perform(changes.value, host, { right: () => true })).ok).toBe(true);
    const { servers: __, ...again } = views.ruleView(host.config(), host.config().rules[0]!);
    expect(again).toEqual(view);
  });

  test("groups, servers and health checks", async () => {
    const host = await configured();
    const config = host.config();
    const group = views.groupView(config, config.groups[0]!);
    fits("servergroup", group);
    expect(group).toEqual({
      name: "sg1",
      rules: ["r1"],
      servers: [
        { id: "_sg1.1", servergroup: "sg1", address: "192.0.2.10", port: null, enabled: true },
        { id: "_sg1.0", servergroup: "sg1", address: "192.0.2.11", port: "80", enabled: true },
      ],
    });
    const [server] = config.groups[0]!.servers;
    const one = views.serverView(config, config.groups[0]!, server!);
    fits("server", one);
    expect(one.rules).toEqual(["r1"]);
    const check = views.healthCheckView(config.healthChecks[0]!);
    fits("healthcheck", check);
    expect(check).toEqual({
      name: "hc1",
      "hc-test": "tcp",
      "hc-timeout": 5,
      "hc-count": 3,
      "hc-interval": 30,
      "default-ping": false,
    });
  });

  test("counters beyond 2^53 are decimal strings in JSON", async () => {
    const host = await configured();
    host.countServer("r1", "_sg1.0", 18446744073709551615n, 2n);
    const view = views.statisticsView(host.statistics());
    fits("statistics", view);
    expect(stringify(view)).toContain('"pkt_p":"18446744073709551615","bytes_p":"2"');
  });

  test("flows, stickiness and health results; what is gone is null", async () => {
    const host = await configured();
    const config = host.config();
    const ruleId = config.rules[0]!.id;
    const serverId = config.groups[0]!.servers[0]!.id;
    const address = ip("192.0.2.1");
    const flow = views.flowView({
      protocol: "tcp",
      ruleId,
      serverId,
      client: address,
      clientPort: 1,
      vip: address,
      vipPort: 2,
      source: address,
      sourcePort: 3,
      server: ip("2001:db8::1"),
      serverPort: 4,
    });
    fits("nat", flow);
    expect(flow.server).toEqual({ address: "2001:db8::1", port: 4 });
    const sticky = views.stickyView(config, { ruleId, serverId, client: address });
    fits("persist", sticky);
    expect(views.stickyView(config, { ruleId: 999, serverId, client: address })).toBeNull();
    const result = {
      ruleId,
      serverId,
      status: "alive",
      fail: 0,
      lastAtMs: 0,
      nextAtMs: null,
      rttMicroseconds: 5,
    } as const;
    fits("hc-result", views.resultView(config, result));
    expect(views.resultView(config, { ...result, serverId: 999 })).toBeNull();
  });
});
