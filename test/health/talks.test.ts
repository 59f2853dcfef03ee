/** Tests that talk, against real servers on this machine: what each finds, in which words, and that nothing of them is left. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { createSocket } from "node:dgram";
import http2 from "node:http2";
import { type AddressInfo, createServer, type Server, type Socket } from "node:net";
import { systemClock } from "../../src/control/clock.ts";
import type { Outcome } from "../../src/health/check.ts";
import type { CheckPlan } from "../../src/health/plan.ts";
import { SystemProber } from "../../src/health/system-prober.ts";
import type { HealthTest, Protocol, TestOptions } from "../../src/model/config.ts";
import { testKindOf } from "../../src/model/health-test.ts";
import { PROBE_PORTS } from "../../src/native/probe.ts";
import { SILENT } from "../control/fakes.ts";
import { ip } from "../support/addresses.ts";
import { Authority, type Certificate, hasOpenssl } from "../support/certificates.ts";
import { noSocketBut, socketsOf } from "../support/sockets.ts";
import { NO_WAYS } from "./script.ts";

const HERE = "127.0.0.1";
let prober: SystemProber;
let authority: Authority | undefined;

beforeAll(() => {
  if (hasOpenssl) authority = new Authority();
});
afterAll(() => authority?.close());
beforeEach(() => {
  prober = new SystemProber(systemClock(), SILENT, NO_WAYS, authority?.cert);
});
const closers: (() => void)[] = [];
afterEach(() => {
  prober.close();
  for (const close of closers.splice(0)) close();
});

interface Asked {
  readonly options?: TestOptions;
  readonly protocol?: Protocol;
  readonly timeoutSeconds?: number;
  readonly server?: string;
}

function planOf(text: string, { options, protocol = "tcp", timeoutSeconds = 20, server = HERE }: Asked): CheckPlan {
  const kind = testKindOf(text);
  if (kind === null) throw new Error(`${text} is no test`);
  const healthTest: HealthTest = { kind, text, ...(options && { options }) };
  return {
    ruleId: 1,
    serverId: 2,
    check: { id: 3, name: "h1", test: healthTest, timeoutSeconds, count: 1, intervalSeconds: 60, defaultPing: false },
    type: "HALF-NAT",
    protocol,
    vip: ip("198.51.100.10"),
    server: ip(server),
    ports: { min: 80, max: 80 },
    port: "ANY",
    isEnabled: true,
  };
}

const ask = (text: string, port: number, asked: Asked = {}): Promise<Outcome> =>
  new Promise((resolve) => {
    prober.start(planOf(text, asked), { kind: "test", port }, resolve);
  });
const failure = (reason: string): Outcome => ({ kind: "failure", reason });
const success = { kind: "success", rttMicroseconds: expect.any(Number) };

/** A web server that answers `status`, and notes what it was asked. */
function web(status: number, certificate?: Certificate) {
  const seen: { port: number; host: string | null; path: string; method: string }[] = [];
  const server = Bun.serve({
    port: 0,
    hostname: HERE,
    ...(certificate && { tls: certificate }),
    fetch(request, self) {
      const { pathname, search } = new URL(request.url);
      const port = self.requestIP(request)?.port ?? 0;
      seen.push({ port, host: request.headers.get("host"), path: pathname + search, method: request.method });
      return new Response("x".repeat(300_000), { status, headers: { location: "/elsewhere" } });
    },
  });
  closers.push(() => void server.stop(true));
  return { port: server.port!, seen };
}

/** A server that does to each connection what it is told. */
async function raw(serve: (socket: Socket) => void): Promise<{ port: number; server: Server; open: Set<Socket> }> {
  const open = new Set<Socket>();
  const server = createServer((socket) => {
    open.add(socket);
    socket.on("close", () => open.delete(socket));
    socket.on("error", () => {});
    serve(socket);
  });
  await new Promise<void>((resolve) => server.listen(0, HERE, resolve));
  closers.push(() => {
    for (const socket of open) socket.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, server, open };
}

/** A port on which nobody listens: below those that the kernel hands out, and no service that anybody runs. */
const CLOSED_PORT = 1;

describe("HTTP", () => {
  test("asks for the path, from a probe port, under the server's address", async () => {
    const { port, seen } = web(200);
    expect(await ask("HTTP", port, { options: { path: "/health?deep=1" } })).toEqual(success as Outcome);
    expect(seen).toEqual([
      { port: expect.any(Number), host: `${HERE}:${port}`, path: "/health?deep=1", method: "GET" },
    ]);
    expect(seen[0]!.port).toBeGreaterThanOrEqual(PROBE_PORTS.min);
    expect(seen[0]!.port).toBeLessThanOrEqual(PROBE_PORTS.max);
  });

  test("asks under the name that was given, or that the URL has", async () => {
    const { port, seen } = web(200);
    await ask("HTTP", port, { options: { host: "www.example.com" } });
    await ask("http://shop.example.com/up", port);
    expect(seen.map(({ host, path }) => [host, path])).toEqual([
      ["www.example.com", "/"],
      ["shop.example.com", "/up"],
    ]);
  });

  test.each([200, 204, 302, 399])("status %d is a healthy server's; redirects are not followed", async (status) => {
    const { port, seen } = web(status);
    expect(await ask("HTTP", port)).toEqual(success as Outcome);
    expect(seen).toHaveLength(1);
  });

  test("other statuses fail, unless they are asked for", async () => {
    const { port } = web(503);
    expect(await ask("HTTP", port)).toEqual(failure("HTTP 503"));
    const status = [
      { min: 200, max: 299 },
      { min: 503, max: 503 },
    ];
    expect(await ask("HTTP", port, { options: { status } })).toEqual(success as Outcome);
  });

  test("over IPv6 too", async () => {
    const server = Bun.serve({ port: 0, hostname: "::1", fetch: () => new Response("") });
    closers.push(() => void server.stop(true));
    expect(await ask("HTTP", server.port!, { server: "::1" })).toEqual(success as Outcome);
  });

  test("says that nobody listens", async () => {
    expect(await ask("HTTP", CLOSED_PORT)).toEqual(failure("connection refused"));
  });

  test("takes a server that says nothing, or drips, for late", async () => {
    const { port: silent } = await raw(() => {});
    const { port: dripping } = await raw((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n");
      const timer = setInterval(() => socket.write("x: y\r\n"), 50);
      socket.on("close", () => clearInterval(timer));
    });
    const asked = { timeoutSeconds: 0.3 };
    expect(await Promise.all([ask("HTTP", silent, asked), ask("HTTP", dripping, asked)])).toEqual([
      failure("timeout after 0.3 s"),
      failure("timeout after 0.3 s"),
    ]);
  });

  test.each([
    ["garbage", "\u0000\u0001garbage\r\n\r\n", "malformed HTTP answer"],
    ["SSH", "SSH-2.0-OpenSSH_9.6\r\n", "malformed HTTP answer"],
    ["nothing", "", "connection closed without an answer"],
    ["half a line", "HTTP/1.1 2", "connection closed without an answer"],
  ])("a server that answers %s and closes is not healthy", async (_, bytes, words) => {
    const { port } = await raw((socket) => socket.end(bytes));
    expect(await ask("HTTP", port)).toEqual(failure(words));
  });

  test("endless header fields are cut off", async () => {
    const { port, open } = await raw((socket) => {
      socket.write("HTTP/1.1 200 OK\r\n");
      const line = `${"x".repeat(1000)}: y\r\n`.repeat(20);
      const more = (): void => {
        while (socket.writable && socket.write(line));
      };
      socket.on("drain", more);
      more();
    });
    expect(await ask("HTTP", port)).toMatchObject({ kind: "failure" });
    while (open.size > 0) await Bun.sleep(5);
  });

  test("endless interim answers are cut off", async () => {
    const { port } = await raw((socket) => {
      const more = (): void => {
        while (socket.writable && socket.write("HTTP/1.1 103 Early Hints\r\n\r\n".repeat(100)));
      };
      socket.on("drain", more);
      more();
    });
    expect(await ask("HTTP", port)).toEqual(failure("no answer in 64 KiB"));
  });

  test("a reset in the middle is said", async () => {
    const { port } = await raw((socket) => socket.once("data", () => socket.resetAndDestroy()));
    expect(await ask("HTTP", port)).toMatchObject({ kind: "failure", reason: expect.stringMatching(/^connection /) });
  });

  test("a hundred that hang, of all kinds, are left after hc-timeout, with nothing of them left, and block nobody", async () => {
    const { port, open } = await raw(() => {});
    const { port: healthy } = web(200);
    const before = socketsOf();
    const hang = (text: string, options: TestOptions = {}) =>
      Array.from({ length: 20 }, () => ask(text, port, { timeoutSeconds: 0.3, options }));
    const kinds = [hang("HTTP"), hang("HTTPS"), hang("GRPC"), hang("GRPC", { tls: true }), hang("DNS", { query: "." })];
    const hanging = kinds.flat();
    expect(await ask("HTTP", healthy)).toEqual(success as Outcome);
    expect(new Set((await Promise.all(hanging)).map((outcome) => JSON.stringify(outcome)))).toEqual(
      new Set([JSON.stringify(failure("timeout after 0.3 s"))]),
    );
    while (open.size > 0) await Bun.sleep(5);
    await noSocketBut(before);
  });

  test("cancelled ones end without an outcome, at any stage", async () => {
    const { port, open } = await raw(() => {});
    const before = socketsOf();
    const outcomes: Outcome[] = [];
    const cancels = Array.from({ length: 20 }, () =>
      prober.start(planOf("HTTP", {}), { kind: "test", port }, (outcome) => outcomes.push(outcome)),
    );
    for (const cancel of cancels.slice(0, 10)) cancel();
    while (open.size < 10) await Bun.sleep(5);
    for (const cancel of cancels) cancel();
    while (open.size > 0) await Bun.sleep(5);
    await noSocketBut(before);
    expect(outcomes).toEqual([]);
  });
});

describe.skipIf(!hasOpenssl)("HTTPS (needs openssl)", () => {
  const verify = { verify: true };

  test("takes any certificate, and tells until when it is valid", async () => {
    const { port } = web(200, authority!.issue("DNS:a.example", 30, false));
    const outcome = await ask("HTTPS", port);
    expect(outcome).toMatchObject({ kind: "success" });
    const { certificateUntilMs = 0 } = outcome as { certificateUntilMs?: number };
    expect(Math.round((certificateUntilMs - Date.now()) / 86_400_000)).toBe(30);
  });

  test("tells it of an expired one too", async () => {
    const { port } = web(503, authority!.issue("DNS:a.example", -1));
    const outcome = await ask("HTTPS", port);
    expect(outcome).toMatchObject(failure("HTTP 503"));
    expect((outcome as { certificateUntilMs?: number }).certificateUntilMs).toBeLessThan(Date.now());
  });

  test("with hc-tls-verify the certificate must be the name's, of a known issuer, and in its time", async () => {
    const good = web(200, authority!.issue(`DNS:a.example,IP:${HERE}`, 30));
    expect(await ask("https://a.example/", good.port, { options: verify })).toMatchObject({ kind: "success" });
    expect(await ask("HTTPS", good.port, { options: verify })).toMatchObject({ kind: "success" });
    expect(await ask("https://b.example/", good.port, { options: verify })).toMatchObject(
      failure("certificate is not for b.example"),
    );
    const selfSigned = web(200, authority!.issue("DNS:a.example", 30, false));
    expect(await ask("https://a.example/", selfSigned.port, { options: verify })).toMatchObject(
      failure("certificate is self-signed"),
    );
    const yesterday = () => new Date(Date.now() - 86_400_000).toISOString().slice(0, 10);
    const earlier = yesterday();
    const expired = web(200, authority!.issue("DNS:a.example", -1));
    // Midnight may pass while it is made.
    const reasons = [earlier, yesterday()].map((day) => `certificate expired ${day}`);
    const outcome = await ask("https://a.example/", expired.port, { options: verify });
    expect(outcome).toMatchObject({ kind: "failure" });
    expect(reasons).toContain((outcome as { reason: string }).reason);
  });

  test("a server without TLS is not healthy, nor one that says nothing", async () => {
    const { port } = web(200);
    expect(await ask("HTTPS", port)).toEqual(failure("TLS handshake failed (wrong version number)"));
    const { port: silent } = await raw(() => {});
    expect(await ask("HTTPS", silent, { timeoutSeconds: 0.3 })).toEqual(failure("timeout after 0.3 s"));
    const { port: closing } = await raw((socket) => socket.end());
    expect(await ask("HTTPS", closing)).toMatchObject({ kind: "failure" });
  });
});

/** grpc.health.v1.Health over HTTP/2, written from the protocol's description. */
async function grpc(statusOf: (service: string) => number | { code: number }, certificate?: Certificate) {
  const seen: { path: unknown; authority: unknown; service: string }[] = [];
  const server = certificate ? http2.createSecureServer({ ...certificate }) : http2.createServer();
  server.on("stream", (stream: http2.ServerHttp2Stream, headers: http2.IncomingHttpHeaders) => {
    const parts: Buffer[] = [];
    stream.on("data", (part: Buffer) => parts.push(part));
    stream.on("error", () => {});
    stream.on("end", () => {
      const message = Buffer.concat(parts).subarray(5);
      const service = message.length === 0 ? "" : message.subarray(message[1]! < 0x80 ? 2 : 3).toString();
      seen.push({ path: headers[":path"], authority: headers[":authority"], service });
      const status = statusOf(service);
      const fields = { ":status": 200, "content-type": "application/grpc" };
      if (typeof status !== "number") {
        stream.respond({ ...fields, "grpc-status": String(status.code) }, { endStream: true });
        return;
      }
      stream.respond(fields, { waitForTrailers: true });
      stream.on("wantTrailers", () => stream.sendTrailers({ "grpc-status": "0" }));
      stream.end(Buffer.from(status === 0 ? [0, 0, 0, 0, 0] : [0, 0, 0, 0, 2, 0x08, status]));
    });
  });
  const sessions = new Set<http2.ServerHttp2Session>();
  server.on("session", (session) => {
    sessions.add(session);
    session.on("error", () => {});
    session.on("close", () => sessions.delete(session));
  });
  await new Promise<void>((resolve) => server.listen(0, HERE, resolve));
  closers.push(() => {
    for (const session of sessions) session.destroy();
    server.close();
  });
  return { port: (server.address() as AddressInfo).port, seen, sessions };
}

describe("GRPC", () => {
  test("a serving server is healthy, and asked as the protocol says", async () => {
    const { port, seen } = await grpc(() => 1);
    expect(await ask("GRPC", port)).toEqual(success as Outcome);
    expect(seen).toEqual([{ path: "/grpc.health.v1.Health/Check", authority: `${HERE}:${port}`, service: "" }]);
  });

  test("the service that was given is asked for, however long its name", async () => {
    const long = `a.${"x".repeat(200)}`;
    const { port, seen } = await grpc((service) => (service === long ? 1 : 2));
    expect(await ask("GRPC", port, { options: { service: long } })).toEqual(success as Outcome);
    expect(await ask("GRPC", port, { options: { service: "other" } })).toEqual(failure("NOT_SERVING"));
    expect(seen.map(({ service }) => service)).toEqual([long, "other"]);
  });

  test("other answers are said", async () => {
    const { port } = await grpc((service) => (service === "a" ? 0 : service === "b" ? { code: 5 } : { code: 12 }));
    expect(await ask("GRPC", port, { options: { service: "a" } })).toEqual(failure("UNKNOWN"));
    expect(await ask("GRPC", port, { options: { service: "b" } })).toEqual(failure("gRPC NOT_FOUND"));
    expect(await ask("GRPC", port, { options: { service: "c" } })).toEqual(failure("gRPC UNIMPLEMENTED"));
  });

  test.skipIf(!hasOpenssl)("over TLS, agreed on by ALPN (needs openssl)", async () => {
    const certificate = authority!.issue("DNS:cart.example", 30);
    const { port, seen } = await grpc(() => 1, certificate);
    const options = { tls: true, verify: true, host: "cart.example" };
    const outcome = await ask("GRPC", port, { options });
    expect(outcome).toEqual({ ...success, certificateUntilMs: expect.any(Number) } as Outcome);
    expect(seen.map(({ authority: name }) => name)).toEqual(["cart.example"]);
    const { port: old } = web(200, certificate);
    expect(await ask("GRPC", old, { options })).toMatchObject(failure("the server speaks no HTTP/2"));
  });

  test("servers of something else are not healthy, and every connection is closed", async () => {
    const before = socketsOf();
    const { port: plain, seen } = web(200);
    expect(await ask("GRPC", plain)).toMatchObject({ kind: "failure" });
    expect(seen).toEqual([]);
    const { port: garbage, open } = await raw((socket) => socket.write("x".repeat(100_000)));
    expect(await ask("GRPC", garbage)).toMatchObject({ kind: "failure" });
    const { port: closing } = await raw((socket) => socket.end());
    expect(await ask("GRPC", closing)).toMatchObject({ kind: "failure" });
    const { port: silent } = await raw(() => {});
    expect(await ask("GRPC", silent, { timeoutSeconds: 0.3 })).toEqual(failure("timeout after 0.3 s"));
    while (open.size > 0) await Bun.sleep(5);
    for (const close of closers.splice(0)) close();
    await noSocketBut(before);
  });

  test("a server that takes no requests (GOAWAY) is not healthy", async () => {
    // Frames by hand (RFC 9113 sections 6.5 and 6.8): SETTINGS, then GOAWAY with the last stream 0 and NO_ERROR.
    const settings = [0, 0, 0, 4, 0, 0, 0, 0, 0];
    const goaway = [0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    const { port } = await raw((socket) =>
      socket.once("data", () => socket.write(Buffer.from([...settings, ...goaway]))),
    );
    const outcome = await ask("GRPC", port);
    expect(outcome).toEqual(failure("the server takes no requests (GOAWAY)"));
  });
});

/** Answers every question with a code, over UDP and TCP on one port. */
async function dns(code: number, change: (answer: Buffer) => Buffer | null = (answer) => answer) {
  const seen: { from: number; question: string }[] = [];
  const answerTo = (query: Buffer): Buffer | null => {
    const answer = Buffer.from(query);
    answer.writeUInt16BE(0x8180 | code, 2);
    return change(answer);
  };
  const { port } = await raw((socket) =>
    socket.on("data", (bytes: Buffer) => {
      seen.push({ from: socket.remotePort ?? 0, question: bytes.subarray(14).toString("latin1") });
      const answer = answerTo(bytes.subarray(2));
      if (answer === null) return;
      const length = Buffer.alloc(2);
      length.writeUInt16BE(answer.length);
      // In two pieces, as TCP may deliver it.
      socket.write(length);
      socket.write(answer);
    }),
  );
  const socket = createSocket("udp4");
  socket.on("message", (bytes, peer) => {
    seen.push({ from: peer.port, question: bytes.subarray(12).toString("latin1") });
    const answer = answerTo(bytes);
    if (answer) socket.send(answer, peer.port, peer.address);
  });
  await new Promise<void>((resolve) => socket.bind(port, HERE, resolve));
  closers.push(() => socket.close());
  return { port, seen };
}

describe.each(["udp", "tcp"] as const)("DNS over %s", (protocol) => {
  const options = { query: "www.example.com", queryType: "AAAA" };

  test("a server that answers is healthy; it was asked the question, from a probe port", async () => {
    const { port, seen } = await dns(0);
    expect(await ask("DNS", port, { protocol, options })).toEqual(success as Outcome);
    expect(seen).toEqual([
      { from: expect.any(Number), question: "\u0003www\u0007example\u0003com\u0000\u0000\u001c\u0000\u0001" },
    ]);
    expect(seen[0]!.from).toBeGreaterThanOrEqual(PROBE_PORTS.min);
    expect(seen[0]!.from).toBeLessThanOrEqual(PROBE_PORTS.max);
  });

  test("the root is asked for as such", async () => {
    const { port, seen } = await dns(0);
    expect(await ask("DNS", port, { protocol, options: { query: ".", queryType: "NS" } })).toEqual(success as Outcome);
    expect(seen.map(({ question }) => question)).toEqual(["\u0000\u0000\u0002\u0000\u0001"]);
  });

  test.each([
    [2, "DNS SERVFAIL"],
    [3, "DNS NXDOMAIN"],
    [5, "DNS REFUSED"],
    [15, "DNS error 15"],
  ])("code %d is said: %s", async (code, words) => {
    const { port } = await dns(code);
    expect(await ask("DNS", port, { protocol, options })).toEqual(failure(words));
  });

  test("nobody listens, or nobody answers", async () => {
    expect(await ask("DNS", CLOSED_PORT, { protocol, options })).toEqual(failure("connection refused"));
    const { port } = await dns(0, () => null);
    expect(await ask("DNS", port, { protocol, options, timeoutSeconds: 0.3 })).toEqual(failure("timeout after 0.3 s"));
  });

  test("answers to other questions count for nothing", async () => {
    const { port } = await dns(0, (answer) => {
      answer.writeUInt16BE(answer.readUInt16BE(0) ^ 1, 0);
      return answer;
    });
    const [words, limit] =
      protocol === "udp" ? ["timeout after 0.3 s", { timeoutSeconds: 0.3 }] : ["malformed DNS answer", {}];
    expect(await ask("DNS", port, { protocol, options, ...limit })).toEqual(failure(words));
  });
});
