/** What holds for every path: methods, media types, parameters, bodies, pages, origins. */
import { beforeEach, describe, expect, test } from "bun:test";
import { pack } from "msgpackr";
import { BODY_LIMIT, readBytes } from "../../src/http/body.ts";
import { MAX_DEPTH, unpack } from "../../src/http/msgpack.ts";
import { TestApp } from "./support.ts";

let app: TestApp;
beforeEach(async () => {
  app = await TestApp.start();
});

const JSON_BODY = { "content-type": "application/json" };
const PACKED_BODY = { "content-type": "application/msgpack" };

describe("methods", () => {
  test("every path answers OPTIONS with Allow, and 405 with Allow for what it does not have", async () => {
    const paths: [string, string, string][] = [
      ["/v1/rules", "DELETE, GET, HEAD, OPTIONS, POST", "PUT"],
      ["/v1/rules/x", "DELETE, GET, HEAD, OPTIONS, PATCH", "POST"],
      ["/v1/servers/_a.0", "DELETE, GET, HEAD, OPTIONS, PATCH", "PUT"],
      ["/v1/config", "GET, HEAD, OPTIONS, PUT", "DELETE"],
      ["/v1/ilbadm", "OPTIONS, POST", "GET"],
      ["/v1/statistics/stream", "GET, HEAD, OPTIONS", "POST"],
      ["/v1/openapi.json", "GET, HEAD, OPTIONS", "PATCH"],
      ["/metrics", "GET, HEAD, OPTIONS", "POST"],
      ["/healthz", "GET, HEAD, OPTIONS", "TRACE"],
      ["/", "GET, HEAD, OPTIONS", "DELETE"],
    ];
    for (const [path, allow, missing] of paths) {
      const options = await app.ask(path, { method: "OPTIONS" });
      expect([path, options.status, options.headers.get("allow")]).toEqual([path, 204, allow]);
      const refused = await app.ask(path, { method: missing });
      expect([path, refused.status, refused.headers.get("allow")]).toEqual([path, 405, allow]);
      expect(await refused.json()).toMatchObject({ code: "E-METHOD" });
    }
    expect((await app.ask("/nowhere", { method: "OPTIONS" })).status).toBe(404);
  });

  test("HEAD has the headers of GET and no body", async () => {
    for (const path of ["/v1/rules", "/v1/config", "/metrics", "/healthz"]) {
      const [head, get] = [await app.ask(path, { method: "HEAD" }), await app.ask(path)];
      expect([head.status, head.headers.get("content-type")]).toEqual([200, get.headers.get("content-type")]);
      expect(await head.text()).toBe("");
    }
  });
});

describe("media types", () => {
  test("an Accept that nothing satisfies is 406, and the problem says what there is", async () => {
    const cases: [string, string, number][] = [
      ["/v1/rules", "text/html", 406],
      ["/v1/rules", "application/json;q=0", 406],
      ["/v1/rules", "text/html, */*;q=0.1", 200],
      ["/v1/rules/nosuch", "image/png", 406],
      // Where there is no choice, everybody gets what there is.
      ["/v1/config", "application/json", 200],
      ["/v1/statistics/stream", "application/json", 200],
      ["/metrics", "application/openmetrics-text", 200],
    ];
    for (const [path, accept, status] of cases) {
      const answer = await app.ask(path, { headers: { accept } });
      expect([path, accept, answer.status]).toEqual([path, accept, status]);
      if (status === 406) expect(await answer.json()).toMatchObject({ code: "E-NOTACCEPTABLE" });
      else await answer.body?.cancel();
    }
  });

  test("a body of another type, charset or encoding is 415 and changes nothing", async () => {
    const body = JSON.stringify({ name: "a" });
    for (const headers of [
      { "content-type": "text/plain" },
      { "content-type": "application/x-www-form-urlencoded" },
      { "content-type": "application/json; charset=latin1" },
      { "content-type": "application/json", "content-encoding": "gzip" },
    ])
      expect(await app.refusal("/v1/servergroups", { body, headers })).toEqual([415, "E-MEDIA"]);
    expect(await app.refusal("/v1/config", { method: "PUT", body, headers: JSON_BODY })).toEqual([415, "E-MEDIA"]);
    expect(app.controller.config().groups).toEqual([]);
    const headers = { "content-type": 'application/json; charset="UTF-8"' };
    expect((await app.ask("/v1/servergroups", { body, headers })).status).toBe(201);
  });

  test("a body that is no JSON, no UTF-8 or no MessagePack is 400", async () => {
    for (const body of ["{", "", "nul", new Uint8Array([0x22, 0xff, 0x22]), "[".repeat(200_000)]) {
      const [status] = await app.refusal("/v1/servergroups", { body, headers: JSON_BODY });
      expect(status).toBe(400);
    }
    const latin1 = new Uint8Array([0x23, 0xe9, 0x0a]);
    const headers = { "content-type": "text/plain" };
    expect(await app.refusal("/v1/config", { method: "PUT", body: latin1, headers })).toEqual([400, "E-BODY"]);
    expect(await app.refusal("/v1/servergroups", { body: new Uint8Array([0xc1]), headers: PACKED_BODY })).toEqual([
      400,
      "E-BODY",
    ]);
  });

  test("JSON that is not UTF-8 is refused with its line and byte", async () => {
    const body = Buffer.from('{"name":\n "caf\xe9"}', "latin1");
    const refused = await app.ask("/v1/servergroups", { body, headers: JSON_BODY });
    expect(await refused.json()).toMatchObject({
      status: 400,
      code: "E-BODY",
      detail: "the body: line 2: byte 14 (0xe9) is not UTF-8 - save the text as UTF-8",
    });
  });

  test("answers may not be kept or taken for something else", async () => {
    for (const path of ["/v1/rules", "/v1/nosuch", "/v1/config", "/metrics"]) {
      const { headers } = await app.ask(path);
      expect([headers.get("cache-control"), headers.get("x-content-type-options")]).toEqual(["no-store", "nosniff"]);
    }
  });
});

describe("MessagePack that comes in", () => {
  const refused = (...bytes: number[]): string => {
    const read = unpack(Uint8Array.from(bytes));
    return read.ok ? "taken" : read.failure.text.replace(/^.*: /, "");
  };

  test("is plain data only", () => {
    expect(refused(0xd4, 0x00, 0x00)).toContain("extension types"); // undefined
    expect(refused(0xd6, 0xff, 0, 0, 0, 0)).toContain("extension types"); // timestamp
    expect(refused(0xc4, 1, 0)).toContain("binary data");
    expect(refused(0x81, 0x01, 0xc0)).toBe("keys must be text");
    expect(refused(0xa1, 0xff)).toBe("text must be UTF-8");
    expect(refused(0xc0, 0xc0)).toBe("something follows the value");
    expect(refused(0xc1)).toContain("no meaning");
    expect(refused()).toBe("it ends too early");
    for (const bytes of [
      [0xc0],
      [0xcf, 0, 0, 0, 0, 0, 0, 0, 1],
      [0xd3, 255, 255, 255, 255, 255, 255, 255, 255],
      [0xcb, 0, 0, 0, 0, 0, 0, 0, 0],
    ])
      expect(refused(...bytes)).toBe("taken");
  });

  test("cannot make the daemon allocate what it only announces, nor exhaust its stack", () => {
    expect(refused(0xdd, 0xff, 0xff, 0xff, 0xff)).toBe("it ends too early");
    expect(refused(0xdf, 0xff, 0xff, 0xff, 0xff)).toBe("it ends too early");
    expect(refused(0xdb, 0x7f, 0xff, 0xff, 0xff)).toBe("it ends too early");
    expect(refused(...Array(MAX_DEPTH).fill(0x91), 0xc0)).toBe("taken");
    const deep = unpack(new Uint8Array(1_000_000).fill(0x91));
    expect(deep.ok ? "taken" : deep.failure.text).toContain("nested deeper");
  });

  test("a port as any integer of the format is a port; a map key named __proto__ is an unknown field", async () => {
    await app.run("create-servergroup -s server=192.0.2.1 sg");
    const rule = { name: "r", vip: "198.51.100.1", port: 80n, type: "HALF-NAT", servergroup: "sg" };
    const made = await app.ask("/v1/rules", { body: new Uint8Array(pack(rule)), headers: PACKED_BODY });
    expect(made.status).toBe(201);
    const evil = Buffer.concat([Buffer.from([0x81, 0xa9]), Buffer.from("__proto__"), Buffer.from([0x80])]);
    const [status] = await app.refusal("/v1/rules", { body: new Uint8Array(evil), headers: PACKED_BODY });
    expect(status).toBe(400);
  });
});

describe("parameters and bodies that nobody asked for", () => {
  test("an unknown or repeated query parameter is refused by name, so that nothing is done more widely than meant", async () => {
    await app.run("create-servergroup -s server=192.0.2.1 sg");
    await app.run("create-rule -i vip=198.51.100.1,port=80 -m type=HALF-NAT -o servergroup=sg r1");
    const { rules } = app.controller.config();
    const wrong: [string, string, string][] = [
      ["DELETE", "/v1/rules?name=nosuch", "name"],
      ["GET", "/v1/rules?offset=3", "offset"],
      ["GET", "/v1/rules?limit=1&limit=2", "limit"],
      ["GET", "/v1/statistics?interval=1", "interval"],
      ["PUT", "/v1/config?dryrun=true", "dryrun"],
      ["PUT", "/v1/config?dryRun=yes", "dryRun"],
      ["GET", "/v1/openapi.json?__proto__=1", "__proto__"],
    ];
    for (const [method, path, field] of wrong)
      expect(await app.refusal(path, { method })).toEqual([400, "E-PARAMETER", field]);
    expect(await app.refusal("/v1/rules", { method: "DELETE", json: { name: "nosuch" } })).toEqual([400, "E-BODY"]);
    expect(app.controller.config().rules).toEqual(rules);
    expect((await app.ask("/v1/rules", { method: "DELETE" })).status).toBe(204);
  });
});

describe("sizes and times of bodies", () => {
  /** Bytes without a length in front, as a chunked body comes. */
  const stream = (pieces: number, piece: Uint8Array): ReadableStream<Uint8Array> => {
    let left = pieces;
    return new ReadableStream({
      pull: (controller) => (left-- > 0 ? controller.enqueue(piece) : controller.close()),
    });
  };

  test("413 beyond 1 MiB, announced or not, and the connection ends", async () => {
    const body = () => stream(17, new Uint8Array(64 * 1024).fill(0x20));
    const answer = await app.ask("/v1/ilbadm", { body: body(), headers: JSON_BODY });
    expect([answer.status, answer.headers.get("connection")]).toEqual([413, "close"]);
    expect(await answer.json()).toMatchObject({ code: "E-TOOBIG", detail: "the body is larger than 1048576 bytes" });
    const exact = `"${"x".repeat(BODY_LIMIT.bytes - 2)}"`;
    expect(await app.refusal("/v1/ilbadm", { body: exact, headers: JSON_BODY })).toEqual([400, "E-BODY"]);
    expect(await app.refusal("/v1/ilbadm", { body: `${exact} `, headers: JSON_BODY })).toEqual([413, "E-TOOBIG"]);
  });

  test("413 beyond 64 MiB of import text, none of which is applied", async () => {
    const line = new TextEncoder().encode("create-servergroup a\n");
    const comment = new Uint8Array(1024 * 1024).fill(0x23);
    let left = 66;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(line),
      pull: (controller) => (left-- > 0 ? controller.enqueue(comment) : controller.close()),
    });
    expect(await app.refusal("/v1/config", { method: "PUT", body })).toEqual([413, "E-TOOBIG"]);
    expect(app.controller.config().groups).toEqual([]);
  });

  test("a body that does not arrive in time is given up, and what made it is told", async () => {
    let cancelled = false;
    const body = new ReadableStream<Uint8Array>({
      start: (controller) => controller.enqueue(new Uint8Array(1)),
      cancel: () => {
        cancelled = true;
      },
    });
    const request = new Request("http://h/", { method: "POST", body, duplex: "half" } as RequestInit);
    const read = await readBytes(request, { bytes: 10, ms: 20 });
    expect(read.ok ? null : read.failure.code).toBe("E-TIMEOUT");
    expect(cancelled).toBe(true);
  });
});

describe("pages", () => {
  interface Page {
    items: { name?: string; address?: string; rule?: string; id?: string }[];
    next: string | null;
  }

  test("what is added or removed between two pages makes nothing else appear twice or not at all", async () => {
    for (let i = 0; i < 10; i++) await app.run(`create-servergroup g${i}`);
    const first = (await app.json("/v1/servergroups?limit=4")) as Page;
    expect(first.items.map(({ name }) => name)).toEqual(["g0", "g1", "g2", "g3"]);
    await app.run("delete-servergroup g0", "delete-servergroup g3", "delete-servergroup g5", "create-servergroup g10");
    const rest = (await app.json(`/v1/servergroups?limit=10&cursor=${first.next}`)) as Page;
    expect(rest).toMatchObject({ items: ["g4", "g6", "g7", "g8", "g9", "g10"].map((name) => ({ name })), next: null });
  });

  test("a row of the servers names its one rule, so that a listing does not grow with the square of the rules", async () => {
    await app.run("create-servergroup -s server=192.0.2.9 sg");
    for (const rule of ["r1", "r2"])
      await app.run(`create-rule -i vip=198.51.100.1,port=80${rule[1]} -m type=HALF-NAT -o servergroup=sg ${rule}`);
    const server = { id: "_sg.0", servergroup: "sg", address: "192.0.2.9", port: null, enabled: true };
    expect(((await app.json("/v1/servers")) as Page).items as unknown).toEqual([
      { rule: "r1", ...server },
      { rule: "r2", ...server },
    ]);
    expect((await app.json("/v1/servers/_sg.0")) as unknown).toEqual({ ...server, rules: ["r1", "r2"] });
  });

  test("servers come by address, over rules and pages of any size", async () => {
    const addresses = ["192.0.2.9", "192.0.2.10", "192.0.2.100", "192.0.2.200"];
    await app.run(`create-servergroup -s server=${addresses.toReversed().join(",")} sg`);
    for (const rule of ["r1", "r2"])
      await app.run(`create-rule -i vip=198.51.100.1,port=80${rule[1]} -m type=HALF-NAT -o servergroup=sg ${rule}`);
    for (const limit of [1, 2, 3, 5, 8, 100]) {
      const seen: Page["items"] = [];
      let cursor: string | null = "";
      while (cursor !== null) {
        const page = (await app.json(`/v1/servers?limit=${limit}${cursor && `&cursor=${cursor}`}`)) as Page;
        seen.push(...page.items);
        cursor = page.next;
      }
      expect(seen.map(({ rule, address }) => `${rule} ${address}`)).toEqual(
        ["r1", "r2"].flatMap((rule) => addresses.map((address) => `${rule} ${address}`)),
      );
    }
  });

  test("a page of the connection table begins where the last one ended, and reads no further than it must", async () => {
    const asked: number[] = [];
    let read = 0;
    const entry = {
      protocol: "tcp",
      ruleId: 1,
      serverId: 1,
      client: { family: 4, value: 1n },
      clientPort: 1,
      vip: { family: 4, value: 2n },
      vipPort: 80,
      source: { family: 4, value: 1n },
      sourcePort: 1,
      server: { family: 4, value: 3n },
      serverPort: 80,
    } as const;
    app.world.engine.flowsFrom = function* (from: number) {
      asked.push(from);
      for (let place = from; ; place += 3) {
        read++;
        yield { place, entry };
      }
    };
    const first = (await app.json("/v1/nat?limit=2")) as Page;
    expect([first.items.length, first.next]).toEqual([2, "3"]);
    await app.json(`/v1/nat?limit=2&cursor=${first.next}`);
    expect([asked, read]).toEqual([[0, 4], 6]);
  });

  test("a cursor or limit that no page gave is refused", async () => {
    for (const query of [
      "limit=0",
      "limit=1e3",
      "limit=10001",
      "limit=",
      "cursor=",
      "cursor=-1",
      "cursor=1.2.3.4.5",
      "cursor=x",
    ])
      expect((await app.refusal(`/v1/rules?${query}`)).slice(0, 2)).toEqual([400, "E-PARAMETER"]);
  });
});

describe("pages of other sites", () => {
  const GROUP = { name: "a" };
  const cases: [string, Record<string, string>, number][] = [
    ["another origin", { origin: "http://evil.example", host: "localhost:9080" }, 403],
    ["no origin that can be named", { origin: "null", host: "localhost:9080" }, 403],
    ["another port of the same host", { origin: "http://localhost:8000", host: "localhost:9080" }, 403],
    ["what the browser calls cross-site", { "sec-fetch-site": "cross-site" }, 403],
    ["what the browser calls same-site", { "sec-fetch-site": "same-site" }, 403],
    [
      "its own origin",
      { origin: "http://localhost:9080", host: "localhost:9080", "sec-fetch-site": "same-origin" },
      201,
    ],
    ["no browser", {}, 201],
    ["a bearer token, which no browser adds by itself", { origin: "http://x", authorization: "Bearer x" }, 201],
  ];
  test.each(cases)("%s", async (_name, headers, status) => {
    const answer = await app.ask("/v1/servergroups", { json: GROUP, headers });
    expect(answer.status).toBe(status);
    if (status === 403) {
      expect(await answer.json()).toMatchObject({ code: "E-ORIGIN" });
      expect(app.controller.config().groups).toEqual([]);
      expect(app.world.audits).toMatchObject([{ command: "POST /v1/servergroups", result: "E-ORIGIN" }]);
    }
    expect(answer.headers.has("access-control-allow-origin")).toBe(false);
  });
});

describe("what a POST has made", () => {
  test("is answered as GET shows it, with its place", async () => {
    const group = { name: "sg", servers: ["192.0.2.2", "192.0.2.1:80"] };
    const made = await app.ask("/v1/servergroups", { json: group });
    expect(made.headers.get("location")).toBe("/v1/servergroups/sg");
    expect(await made.json()).toEqual(await app.json("/v1/servergroups/sg"));
    const added = await app.ask("/v1/servergroups/SG/servers", { json: { servers: ["192.0.2.9", "192.0.2.7"] } });
    expect(added.headers.get("location")).toBe("/v1/servergroups/sg/servers");
    expect(await added.json()).toMatchObject({ items: [{ id: "_sg.3" }, { id: "_sg.2" }] });
    const check = { name: "hc", "hc-test": "tcp", "hc-timeout": 1, "hc-count": 2, "hc-interval": 5 };
    const checked = await app.ask("/v1/healthchecks", { json: check });
    expect(await checked.json()).toEqual(await app.json("/v1/healthchecks/hc"));
  });
});

describe("ETag", () => {
  const put = (body: string, headers: Record<string, string>, query = "") =>
    app.ask(`/v1/config${query}`, { method: "PUT", body, headers: { "content-type": "text/plain", ...headers } });

  test("If-Match lets an import overwrite only the configuration that was read", async () => {
    const before = (await app.ask("/v1/config")).headers.get("etag")!;
    await app.run("create-servergroup meanwhile");
    const late = await put("create-servergroup mine\n", { "if-match": before });
    expect([late.status, ((await late.json()) as { code: string }).code]).toEqual([412, "E-PRECONDITION"]);
    expect((await put("create-servergroup mine\n", { "if-match": before }, "?dryRun=true")).status).toBe(412);
    expect(app.controller.config().groups.map(({ name }) => name)).toEqual(["meanwhile"]);
    const now = (await app.ask("/v1/config")).headers.get("etag")!;
    expect((await put("create-servergroup mine\n", { "if-match": `"x", ${now}` })).status).toBe(200);
    expect(app.controller.config().groups.map(({ name }) => name)).toEqual(["mine"]);
  });

  test("a server that was enabled or disabled in between makes If-Match stale, although the text is the same", async () => {
    await app.run(
      "create-servergroup -s server=192.0.2.1 sg",
      "create-rule -e -i vip=198.51.100.1,port=80 -m lbalg=rr,type=dsr -o servergroup=sg r1",
    );
    const read = async () => {
      const answer = await app.ask("/v1/config");
      return { etag: answer.headers.get("etag")!, text: await answer.text() };
    };
    const enabled = await read();
    await app.run("disable-server _sg.0");
    const disabled = await read();
    expect(disabled.text).toBe(enabled.text);
    expect((await put(enabled.text, { "if-match": enabled.etag })).status).toBe(412);
    expect(app.controller.config().groups[0]!.servers[0]!.enabled).toBe(false);
    expect((await app.ask("/v1/config", { headers: { "if-none-match": enabled.etag } })).status).toBe(200);
    await app.run("enable-server _sg.0");
    expect((await put(enabled.text, { "if-match": disabled.etag })).status).toBe(412);
    expect((await read()).etag).toBe(enabled.etag);
    await app.run("disable-rule r1");
    expect((await put(enabled.text, { "if-match": enabled.etag })).status).toBe(412);
  });

  test("If-None-Match answers 304 while nothing has changed", async () => {
    const etag = (await app.ask("/v1/config")).headers.get("etag")!;
    const again = await app.ask("/v1/config", { headers: { "if-none-match": etag } });
    expect([again.status, await again.text()]).toEqual([304, ""]);
    await app.run("create-servergroup a");
    expect((await app.ask("/v1/config", { headers: { "if-none-match": etag } })).status).toBe(200);
  });

  test("?dryRun=true tells what would change and changes nothing", async () => {
    const answer = await put("create-servergroup mine\n", {}, "?dryRun=true");
    expect(await answer.json()).toEqual({
      changes: [{ change: "add", kind: "servergroup", name: "mine", fields: [] }],
      connections: [],
    });
    expect(app.controller.config().groups).toEqual([]);
  });
});

describe("POST /v1/ilbadm with a long answer", () => {
  /** Enough for an answer that is sent while it is made. */
  const FLOWS = 20_000;

  test("is the same JSON whether it is held or written as the command goes on, and is read only as far as the client reads", async () => {
    let taken = 0;
    const address = (value: number) => ({ family: 4 as const, value: BigInt(value) });
    app.world.engine.flows = function* () {
      for (let i = 0; i < FLOWS; i++) {
        taken++;
        const [client, server] = [address(0xcb007100 + (i % 200)), address(0xc0000201)];
        const ports = { clientPort: 1024 + i, vipPort: 80, sourcePort: 1024 + i, serverPort: 80 };
        yield { protocol: "tcp", ruleId: 1, serverId: 1, client, vip: server, source: client, server, ...ports };
      }
    };
    const ask = () => app.ask("/v1/ilbadm", { json: { line: "show-nat" } });
    const whole = (await (await ask()).json()) as { exit: number; stdout: string; stderr: string };
    expect([whole.exit, whole.stderr, whole.stdout.split("\n").length]).toEqual([0, "", FLOWS + 1]);
    taken = 0;
    const slow = (await ask()).body!.getReader();
    await slow.read();
    expect(taken).toBeLessThan(FLOWS / 2);
    await slow.cancel();
  });
});
