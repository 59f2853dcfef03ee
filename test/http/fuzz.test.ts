/**
 * Random requests against the application and a real daemon: paths, methods, headers, JSON, MessagePack, import text and
 * bytes that are no HTTP at all. Whatever comes, the answer is what the document says (a refusal is a problem document
 * with its status), a refused request leaves the configuration as it was, and nothing is a bug (500).
 * ILB_SEED chooses the sequence; ILB_TEST_FULL runs a million requests.
 */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { pack, unpack } from "msgpackr";
import { Daemon, Place } from "../daemon/daemon.ts";
import { isFullRun } from "../support/capabilities.ts";
import { Random, seedFromEnvironment } from "../support/random.ts";
import { TestApp } from "./support.ts";

const REQUESTS = isFullRun ? 1_000_000 : 4000;
const RAW_REQUESTS = isFullRun ? 20_000 : 300;
/** Objects that are kept at most, so that a long run stays quick. */
const MANY_OBJECTS = 60;

type Json = Record<string, unknown>;
interface Shot {
  readonly method: string;
  readonly path: string;
  readonly headers: Record<string, string>;
  readonly body: Uint8Array<ArrayBuffer> | undefined;
}

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW", "TRACE"];
const NAMES = ["a", "b", "c", "A", "sg", "r1", "_a.0", "_a.1", "_B.0", "", ".", "..", "%2F", "é", "x".repeat(300)];
const PATHS = [
  "rules",
  "rules/{}",
  "servergroups",
  "servergroups/{}",
  "servergroups/{}/servers",
  "servers",
  "servers/{}",
  "healthchecks",
  "healthchecks/{}",
  "hc-results",
  "statistics",
  "nat",
  "persist",
  "audit",
  "history",
  "config",
  "explain",
  "ilbadm",
  "openapi.json",
];
const LINES = [
  "show-rule -f",
  "show-server -p -o all",
  "show-statistics 1 1",
  "export-config",
  "export-config /etc/passwd",
  "create-servergroup -s server=192.0.2.1 a",
  "create-rule -e -i vip=198.51.100.9,port=80 -m type=h -o servergroup=a r1",
  "disable-rule r1",
  "delete-rule -a",
  "import-config -n",
  "rollback 0",
  "help",
  "-V",
];

class Gun {
  constructor(private readonly random: Random) {}

  /** Half of them would be right but for one thing, so that they get past the first check. */
  shot(): Shot {
    return this.random.chance(0.5) ? this.aimed() : this.wild();
  }

  private aimed(): Shot {
    const { random } = this;
    const name = random.of(["a", "b", "c", "r1"]);
    const [method, path, value] = random.weighted<[string, string, unknown]>([
      [3, () => ["POST", "servergroups", { name, servers: [`192.0.2.${random.below(9)}`] }]],
      [3, () => ["POST", "rules", { ...this.rule(), name, vip: "198.51.100.1", port: 80 + random.below(9) }]],
      [2, () => ["POST", `servergroups/${name}/servers`, { servers: [`192.0.2.${random.below(9)}`] }]],
      [2, () => ["PATCH", `rules/${name}`, { enabled: random.chance(0.5) }]],
      [1, () => ["PATCH", `servers/_${name}.0`, { enabled: random.chance(0.5) }]],
      [1, () => ["DELETE", random.of([`rules/${name}`, `servergroups/${name}`, `servers/_${name}.0`, "rules"]), null]],
      [2, () => ["POST", "ilbadm", { line: random.of(LINES) }]],
      [1, () => ["GET", `${random.of(["rules", "servers", "audit"])}?limit=${random.below(3)}`, null]],
      [1, () => ["PUT", "config", `${random.of(LINES)}\n`]],
    ]);
    const headers: Record<string, string> = {};
    if (random.chance(0.1)) headers.accept = this.accept();
    if (random.chance(0.05)) headers["sec-fetch-site"] = random.of(["cross-site", "same-origin"]);
    if (random.chance(0.3)) headers["if-match"] = random.of(['"x"', "*"]);
    const isPacked = random.chance(0.3);
    headers["content-type"] = typeof value === "string" ? "text/plain" : `application/${isPacked ? "msgpack" : "json"}`;
    const encoded =
      typeof value === "string" || !isPacked
        ? new TextEncoder().encode(typeof value === "string" ? value : JSON.stringify(value))
        : pack(value);
    const whole = new Uint8Array(encoded);
    const body = value === null ? undefined : random.chance(0.15) ? this.damaged(whole) : whole;
    return { method, path: `/v1/${path}`, headers, body };
  }

  private wild(): Shot {
    const { random } = this;
    const [type, body] = this.body();
    const method = random.of(METHODS);
    const headers: Record<string, string> = {};
    if (random.chance(0.9)) headers["content-type"] = type;
    if (random.chance(0.4)) headers.accept = this.accept();
    if (random.chance(0.05)) headers.origin = random.of(["http://evil.example", "null", "http://localhost"]);
    if (random.chance(0.05)) headers["if-match"] = random.of(['"x"', "*", "", '"a", "b"']);
    if (random.chance(0.05)) headers["content-encoding"] = random.of(["gzip", "identity", ""]);
    if (random.chance(0.05)) headers[`x-${random.below(100)}`] = this.text();
    return { method, path: this.path(), headers, body: method === "GET" || method === "HEAD" ? undefined : body };
  }

  private path(): string {
    const { random } = this;
    if (random.chance(0.05)) return `/${this.text()}`;
    const filled = random.of(PATHS).replace("{}", () => random.of(NAMES));
    const query = random.chance(0.3) ? `?${this.query()}` : "";
    return `/v1/${filled}${query}`;
  }

  private query(): string {
    const { random } = this;
    const names = ["limit", "cursor", "preserve", "dryRun", "name", "src", "dst", "sport", "dport", "__proto__", "%00"];
    const values = ["1", "0", "-1", "1.2", "true", "yes", "", "192.0.2.1", "a", "%", "9".repeat(50)];
    return Array.from({ length: random.between(1, 4) }, () => `${random.of(names)}=${random.of(values)}`).join("&");
  }

  private accept(): string {
    return this.random.of([
      "application/json",
      "application/msgpack",
      "application/x-ndjson",
      "*/*",
      "text/html",
      ";q=,,",
      "application/*;q=0",
    ]);
  }

  private body(): [type: string, body: Uint8Array<ArrayBuffer>] {
    const { random } = this;
    const encode = (text: string) => new Uint8Array(new TextEncoder().encode(text));
    return random.weighted<[string, Uint8Array<ArrayBuffer>]>([
      [6, () => ["application/json", encode(JSON.stringify(this.value()))]],
      [3, () => ["application/msgpack", new Uint8Array(pack(this.value()))]],
      [2, () => ["application/msgpack", this.damaged(new Uint8Array(pack(this.value())))]],
      [2, () => ["application/json", this.damaged(encode(JSON.stringify(this.value())))]],
      [2, () => ["text/plain", encode(`${random.of(LINES)}\n${random.of(LINES)}\n`)]],
      [1, () => [this.text(), this.bytes()]],
      [1, () => ["application/msgpack", this.bytes()]],
    ]);
  }

  private bytes(): Uint8Array<ArrayBuffer> {
    return new Uint8Array(this.random.bytes(this.random.below(40)));
  }

  private damaged(bytes: Uint8Array<ArrayBuffer>): Uint8Array<ArrayBuffer> {
    const { random } = this;
    if (bytes.length > 0 && random.chance(0.5)) return bytes.slice(0, random.below(bytes.length));
    for (let left = random.between(1, 3); left > 0 && bytes.length > 0; left--)
      bytes[random.below(bytes.length)] = random.below(256);
    return bytes;
  }

  private value(): unknown {
    const { random } = this;
    return random.weighted<unknown>([
      [
        3,
        () => ({ name: random.of(NAMES), servers: this.some(["192.0.2.1", "192.0.2.2:80", "2001:db8::1", 5, null]) }),
      ],
      [3, () => this.rule()],
      [2, () => ({ enabled: random.of([true, false, null, "yes"]) })],
      [2, () => ({ line: random.of(LINES) })],
      [
        2,
        () => ({ argv: this.some(random.of(LINES).split(" ")), ...(random.chance(0.3) ? { input: this.text() } : {}) }),
      ],
      [
        1,
        () => ({
          name: random.of(NAMES),
          "hc-test": random.of(["tcp", "/bin/true", 7]),
          "hc-timeout": 1,
          "hc-count": 1,
          "hc-interval": random.below(9),
        }),
      ],
      [1, () => this.junk(0)],
    ]);
  }

  private rule(): Json {
    const { random } = this;
    const rule: Json = {
      name: random.of(NAMES),
      vip: random.of(["198.51.100.1", "2001:db8::99", "x", 1]),
      port: random.of([80, "80-90", "http", 0, -1, 65536, 1e300]),
      type: random.of(["HALF-NAT", "NAT", "DSR", "h"]),
      servergroup: random.of(["a", "b", "sg", "nosuch"]),
    };
    for (const key of ["protocol", "lbalg", "proxy-src", "pmask", "hc-name", "conn-drain", "enabled", "sticky"])
      if (random.chance(0.15)) rule[key] = this.junk(0);
    if (random.chance(0.1)) rule[this.text()] = this.junk(0);
    return rule;
  }

  private some<T>(list: readonly T[]): T[] {
    return list.filter(() => this.random.chance(0.7));
  }

  private junk(depth: number): unknown {
    const { random } = this;
    if (depth < 3 && random.chance(0.3)) return Array.from({ length: random.below(4) }, () => this.junk(depth + 1));
    if (depth < 3 && random.chance(0.3)) return { [this.text()]: this.junk(depth + 1), __proto__: null };
    return random.of<unknown>([
      null,
      true,
      "",
      "tcp",
      "a",
      0,
      -1,
      1.5,
      2 ** 53,
      1e300,
      "\u0000",
      "𝄞",
      "x".repeat(2000),
    ]);
  }

  private text(): string {
    const { random } = this;
    return Array.from({ length: random.below(12) }, () => String.fromCharCode(random.between(33, 126))).join("");
  }
}

/** What is wrong with an answer, or null. @param documented statuses by `METHOD /path/{part}` */
async function objection(
  shot: Shot,
  answer: Response,
  documented: (shot: Shot) => ReadonlySet<string> | null,
): Promise<string | null> {
  const type = answer.headers.get("content-type") ?? "";
  const bytes = new Uint8Array(await answer.arrayBuffer());
  if (answer.status >= 500 && ![501, 507].includes(answer.status)) return `status ${answer.status}`;
  const statuses = documented(shot);
  if (statuses !== null && ![405].includes(answer.status) && !statuses.has(String(answer.status)))
    return `status ${answer.status} is not in the document`;
  if (answer.status < 400) return null;
  if (shot.method === "HEAD") return null;
  const isPacked = type === "application/msgpack";
  if (!isPacked && type !== "application/problem+json") return `a refusal of type ${type}`;
  const problem = (isPacked ? unpack(bytes) : JSON.parse(new TextDecoder().decode(bytes))) as Json;
  if (problem.status !== answer.status || problem.type !== "about:blank") return `problem ${JSON.stringify(problem)}`;
  if (!/^E-[A-Z-]+$/.test(String(problem.code)) || typeof problem.detail !== "string") return "a problem without code";
  if (/\.ts:\d|node_modules/.test(problem.detail)) return `a trace of the program: ${problem.detail}`;
  return null;
}

/** Finds the documented statuses of a request; null where no operation is meant. */
async function documentOf(app: TestApp): Promise<(shot: Shot) => ReadonlySet<string> | null> {
  const { paths } = (await app.json("/v1/openapi.json")) as {
    paths: Record<string, Record<string, { responses: Json }>>;
  };
  const rows = Object.entries(paths).map(([path, operations]) => ({
    pattern: new RegExp(`^${path.replaceAll(".", "\\.").replace(/\{[a-z]+\}/g, "[^/]+")}$`),
    operations,
  }));
  return ({ method, path }) => {
    const { pathname } = new URL(`http://h${path}`);
    const row = rows.find(({ pattern }) => pattern.test(pathname));
    const operation = row?.operations[(method === "HEAD" ? "GET" : method).toLowerCase()];
    return operation === undefined ? null : new Set(Object.keys(operation.responses));
  };
}

test(`${REQUESTS} random requests: documented answers, no bug, refusals change nothing`, async () => {
  const seed = seedFromEnvironment(1);
  console.log(`http fuzz seed ${seed}`);
  const gun = new Gun(new Random(seed));
  const app = await TestApp.start();
  const documented = await documentOf(app);
  const reached = new Set<number>();
  for (let count = 0; count < REQUESTS; count++) {
    const shot = gun.shot();
    const before = app.controller.config();
    const { body, ...rest } = shot;
    let request: Request;
    try {
      request = new Request(`http://localhost${shot.path}`, {
        method: rest.method,
        headers: rest.headers,
        ...(body === undefined ? {} : { body }),
      });
    } catch {
      continue; // no client could send that
    }
    const answer = await app.app.fetch(request, {
      caller: { name: "fuzz", rights: new Set(["show", "enable", "config"]) },
    });
    const wrong = await objection(shot, answer, documented);
    const what = `request ${count} of seed ${seed}: ${shot.method} ${shot.path} ${JSON.stringify(shot.headers)} ${body?.toHex()}`;
    if (wrong !== null) throw new Error(`${wrong}; ${what}`);
    reached.add(answer.status);
    const after = app.controller.config();
    if (answer.status >= 400 && after !== before) throw new Error(`the configuration changed; ${what}`);
    // What was removed is let go of only as time goes by.
    if (count % 100 === 0) await app.world.clock.advance(5000);
    for (const records of [app.world.calls, app.world.audits, app.world.changes]) records.length = 0;
    if (after.rules.length + after.groups.length > MANY_OBJECTS)
      await app.ask("/v1/config", { method: "PUT", body: "", headers: { "content-type": "text/plain" } });
  }
  expect(app.errors).toEqual([]);
  // The shots hit: things were made, changed and refused in every way that a client can cause.
  expect([...reached].sort()).toEqual(expect.arrayContaining([200, 201, 204, 400, 403, 404, 405, 406, 409, 412, 415]));
}, 3_600_000);

describe("a real daemon", () => {
  const place = new Place();
  let daemon: Daemon;
  beforeAll(async () => {
    daemon = await Daemon.start(place, "--listen", "127.0.0.1:0");
  });
  afterAll(async () => {
    await daemon.stop();
    place.remove();
  });

  /** Bytes like those of a request, with some of them wrong. */
  function rawRequest(random: Random): Uint8Array {
    const line = `${random.of(["GET", "POST", "PUT", "G\0T", ""])} ${random.of(["/v1/rules", "/", "*", "http://[", "/%", "x"])} HTTP/${random.of(["1.1", "1.0", "9", "2.0"])}\r\n`;
    const fields = [
      "Host: localhost",
      "Content-Length: 5",
      "Content-Length: 99999999999999999999",
      "Content-Length: -1",
      "Transfer-Encoding: chunked",
      "Content-Type: application/json",
      "Expect: 100-continue",
      "Connection: Upgrade",
      `X: ${"y".repeat(random.below(40_000))}`,
      ": empty",
      "no colon",
    ].filter(() => random.chance(0.3));
    const bytes = new TextEncoder().encode(
      `${line}${fields.join("\r\n")}\r\n\r\n${random.of(["", "hello", "5\r\nhello\r\n0\r\n\r\n", "zz\r\n"])}`,
    );
    for (let left = random.below(4); left > 0; left--) bytes[random.below(bytes.length)] = random.below(256);
    return bytes;
  }

  test(`${RAW_REQUESTS} streams of bytes on the socket and over TCP: it lives, answers others and changes nothing`, async () => {
    const seed = seedFromEnvironment(2);
    console.log(`http raw fuzz seed ${seed}`);
    const random = new Random(seed);
    await place.must("create-servergroup -s server=192.0.2.1 sg");
    const before = await place.must("export-config");
    for (let count = 0; count < RAW_REQUESTS; count++) {
      const socket = { data() {}, error() {}, end() {}, close() {} };
      const target = random.chance(0.5) ? { unix: place.socket } : { hostname: "127.0.0.1", port: daemon.tcpPort };
      const connection = await Bun.connect({ ...target, socket } as Parameters<typeof Bun.connect>[0]);
      connection.write(rawRequest(random));
      connection.flush();
      if (random.chance(0.5)) connection.end();
      else connection.terminate();
    }
    expect(await place.must("export-config")).toBe(before);
    expect((await place.fetch("/healthz")).status).toBe(200);
    expect((await fetch(`http://127.0.0.1:${daemon.tcpPort}/healthz`)).status).toBe(200);
    expect(daemon.child.exitCode).toBeNull();
    expect(daemon.logged).not.toContain("unexpected failure");
  }, 600_000);
});
