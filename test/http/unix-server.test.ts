import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Caller } from "../../src/control/caller.ts";
import { readBytes } from "../../src/http/body.ts";
import { problemResponse } from "../../src/http/problem.ts";
import { listenUnix, type RunningServer, type UnixServerOptions } from "../../src/http/unix-server.ts";
import { SILENT } from "../control/fakes.ts";

let directory: string;
let path: string;
let server: RunningServer | null;
const caller: Caller = { name: "who", rights: new Set(["show"]) };

const listen = async (
  handler: UnixServerOptions["handler"],
  identify = (): Caller => caller,
  extra: Partial<UnixServerOptions> = {},
): Promise<RunningServer> => {
  const started = await listenUnix({ path, identify, handler, log: SILENT, ...extra });
  if (!started.ok) throw new Error(started.failure.text);
  server = started.value;
  return server;
};
const get = (url: string, init: RequestInit = {}): Promise<Response> =>
  fetch(`http://localhost${url}`, { ...init, unix: path } as BunFetchRequestInit);

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), "ilb-unix-"));
  path = join(directory, "s");
  server = null;
});
afterEach(async () => {
  await server?.stop();
  rmSync(directory, { recursive: true, force: true });
});

describe("identity", () => {
  test("belongs to the connection: no header can change it, and several requests of one connection share it", async () => {
    let asked = 0;
    await listen(
      (request, who) => new Response(`${who.name} ${request.headers.get("x-caller") ?? "-"}`),
      () => {
        asked++;
        return { name: `connection ${asked}`, rights: new Set() };
      },
    );
    const child = Bun.spawn(["curl", "-s", "--unix-socket", path, "-H", "X-Caller: root", "http://h/a", "http://h/b"], {
      stdout: "pipe",
    });
    expect(await new Response(child.stdout).text()).toBe("connection 1 rootconnection 1 root");
    expect(asked).toBe(1);
  });

  test("a connection whose peer the kernel does not name is closed without an answer", async () => {
    await listen(
      () => new Response("never"),
      () => {
        throw new Error("no");
      },
    );
    await expect(get("/")).rejects.toThrow();
  });
});

describe("requests and answers", () => {
  test("connections that come before they may be answered wait, and are answered then", async () => {
    const held = Promise.withResolvers<void>();
    let asked = 0;
    await listen(
      () => new Response(`answer ${++asked}`),
      () => caller,
      { heldBack: held.promise },
    );
    const answers = [get("/"), get("/")].map(async (answer) => (await answer).text());
    // Connecting works meanwhile.
    await new Promise<void>((resolve) => connect(path, resolve));
    expect(asked).toBe(0);
    held.resolve();
    expect((await Promise.all(answers)).sort()).toEqual(["answer 1", "answer 2"]);
  });

  test("a server that stops before it has answered anybody leaves no socket behind", async () => {
    const { stop } = await listen(() => new Response(), undefined, { heldBack: new Promise(() => undefined) });
    await stop();
    expect(existsSync(path)).toBe(false);
    await listen(() => new Response("next"));
    expect(await (await get("/")).text()).toBe("next");
  });

  test("a body of several MiB arrives whole, an answer of several MiB too", async () => {
    await listen(async (request) => new Response(await request.arrayBuffer()));
    const sent = new Uint8Array(5 * 1024 * 1024).map((_, i) => (i * 31) & 255);
    const back = new Uint8Array(await (await get("/", { method: "POST", body: sent })).arrayBuffer());
    expect(Buffer.compare(back, sent)).toBe(0);
  });

  test("the handler's signal and the body's cancel fire when the client goes away", async () => {
    const gone = Promise.withResolvers<void>();
    const cancelled = Promise.withResolvers<void>();
    await listen((request) => {
      request.signal.addEventListener("abort", () => gone.resolve());
      return new Response(
        new ReadableStream({
          start: (controller) => controller.enqueue(new TextEncoder().encode("first")),
          cancel: () => cancelled.resolve(),
        }),
      );
    });
    const leave = new AbortController();
    const answer = await get("/", { signal: leave.signal });
    expect(new TextDecoder().decode((await answer.body!.getReader().read()).value)).toBe("first");
    leave.abort();
    await Promise.all([gone.promise, cancelled.promise]);
  });

  test("a body that comes after its request has been refused is forgotten, and the connection goes on", async () => {
    await listen(async (request) => {
      await request.body?.cancel();
      return new Response(`answered ${request.method}.`);
    });
    const both = Promise.withResolvers<void>();
    let received = "";
    const client = await Bun.connect({
      unix: path,
      socket: {
        open: (socket) => void socket.write("POST / HTTP/1.1\r\nhost: h\r\ncontent-length: 6\r\n\r\nab"),
        data(socket, bytes) {
          received += bytes.toString();
          if (received.includes("answered GET.")) both.resolve();
          else if (received.includes("answered POST.")) socket.write("cdefGET / HTTP/1.1\r\nhost: h\r\n\r\n");
        },
        close: () => both.resolve(),
        error() {},
      },
    });
    await both.promise;
    client.end();
    expect(received).toContain("answered GET.");
  });

  test("a client that sends all of a body before it listens gets the refusal of one that is too large", async () => {
    await listen(async (request) => {
      const read = await readBytes(request, { bytes: 1000, ms: 20_000 });
      return read.ok ? new Response("taken") : problemResponse(request, read.failure);
    });
    const script = `import socket, sys
connection = socket.socket(socket.AF_UNIX)
connection.connect(sys.argv[1])
size = int(sys.argv[2])
connection.sendall(b"POST / HTTP/1.1\\r\\nhost: h\\r\\ncontent-length: %d\\r\\n\\r\\n" % size)
connection.sendall(bytes(size))
print(connection.recv(12).decode())`;
    for (const bytes of [1001, 2_000_000, 20_000_000]) {
      const client = Bun.spawn(["python3", "-c", script, path, String(bytes)], { stdout: "pipe", stderr: "pipe" });
      const said = await Promise.all([new Response(client.stdout).text(), new Response(client.stderr).text()]);
      expect([bytes, ...said]).toEqual([bytes, "HTTP/1.1 413\n", ""]);
    }
  });

  test("what the handler throws is a 500 without words", async () => {
    await listen(() => {
      throw new Error("secret");
    });
    const answer = await get("/");
    expect([answer.status, await answer.text()]).toEqual([500, ""]);
  });

  test("a request that is no HTTP ends the connection and nothing else", async () => {
    await listen(() => new Response("ok"));
    const closed = Promise.withResolvers<void>();
    await Bun.connect({
      unix: path,
      socket: {
        open: (socket) => void socket.write("\x00\xff garbage\r\n\r\n"),
        data() {},
        close: () => closed.resolve(),
        error() {},
      },
    });
    await closed.promise;
    expect(await (await get("/")).text()).toBe("ok");
  });
});

describe("clients that take their time, or too much", () => {
  /** Opens a connection and writes; resolves with what came back when the other side ends it. */
  const dawdle = async (text: string): Promise<string> => {
    const closed = Promise.withResolvers<string>();
    let answer = "";
    await Bun.connect({
      unix: path,
      socket: {
        open: (socket) => void socket.write(text),
        data: (_socket, bytes) => {
          answer += bytes.toString();
        },
        close: () => closed.resolve(answer),
        error() {},
      },
    });
    return closed.promise;
  };

  test("a connection that asks nothing, half a request or nothing more is ended, one that is being answered is not", async () => {
    const slow = Promise.withResolvers<Response>();
    await listen((request) => (request.url.endsWith("/slow") ? slow.promise : new Response("done")), undefined, {
      requestTimeoutMs: 1000,
    });
    const answering = dawdle("GET /slow HTTP/1.1\r\nHost: h\r\n\r\n");
    const [silent, half, done, unread] = await Promise.all([
      dawdle(""),
      dawdle("GET / HTTP/1.1\r\nHost: h\r\n"),
      dawdle("GET / HTTP/1.1\r\nHost: h\r\n\r\n"),
      // A body that nobody reads holds the connection no longer than that either.
      dawdle("POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 9\r\n\r\nhalf"),
    ]);
    expect([silent, half]).toEqual(["", ""]);
    for (const answered of [done, unread]) expect(answered).toContain("done");
    // The answer under way has been waited for as long as anything else at least.
    await dawdle("");
    slow.resolve(new Response("at last"));
    expect(await answering).toContain("at last");
  });

  test("one user without the right to configure has 64 connections at most and keeps nobody else out", async () => {
    let uid = 1000;
    const rights = (): Caller["rights"] => new Set(uid === 0 ? ["show", "config"] : ["show"]);
    await listen(
      (_request, who) => new Response(who.name),
      () => ({ name: `uid ${uid}`, rights: rights() }),
    );
    const open = await Promise.all(
      Array.from({ length: 64 }, () => Bun.connect({ unix: path, socket: { data() {}, error() {} } })),
    );
    await expect(get("/")).rejects.toThrow();
    for (uid of [1001, 0])
      expect(await (await get("/", { headers: { connection: "close" } })).text()).toBe(`uid ${uid}`);
    for (const socket of open) socket.end();
  });
});

test("request targets of every form come to the path that they name, whatever host they name", async () => {
  await listen((request) => new Response(new URL(request.url).pathname + new URL(request.url).search));
  const ask = async (target: string): Promise<string> => {
    const answer = Promise.withResolvers<string>();
    await Bun.connect({
      unix: path,
      socket: {
        open: (socket) => void socket.write(`GET ${target} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n`),
        data: (_socket, bytes) => answer.resolve(bytes.toString().split("\r\n\r\n")[1] ?? ""),
        error() {},
      },
    });
    return answer.promise;
  };
  expect(await ask("/v1/rules?limit=1")).toContain("/v1/rules?limit=1");
  expect(await ask("//evil.example/v1")).toContain("//evil.example/v1");
  expect(await ask("http://evil.example/v1/rules")).toContain("/v1/rules");
  expect(await ask("http://[")).toContain("/");
});

describe("the socket file", () => {
  test("goes away with the server, but not when somebody else has put another in its place", async () => {
    const first = await listen(() => new Response("first"));
    await first.stop();
    expect(existsSync(path)).toBe(false);
    const second = await listen(() => new Response("second"));
    rmSync(path);
    writeFileSync(path, "somebody's");
    await second.stop();
    expect(existsSync(path)).toBe(true);
    server = null;
  });

  test("a path that is too long is refused by name", async () => {
    path = join(directory, "x".repeat(120));
    const started = await listenUnix({ path, identify: () => caller, handler: () => new Response(), log: SILENT });
    expect(started.ok ? "" : started.failure.text).toContain("is longer than 107 bytes");
  });
});
