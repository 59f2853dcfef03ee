import { afterEach, beforeEach, describe, expect, test } from "bun:test";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import type { Caller } from "../../src/control/caller.ts";
import { listenUnix, type RunningServer, type UnixServerOptions } from "../../src/http/unix-server.ts";
import { SILENT } from "../control/fakes.ts";

let directory: string;
let path: string;
let server: RunningServer | null;
const caller: Caller = { name: "who", rights: new Set(["show"]) };

const listen = async (
  handler: UnixServerOptions["handler"],
  identify = (): Caller => caller,
): Promise<RunningServer> => {
  const started = await listenUnix({ path, identify, handler, log: SILENT });
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
