/** The dashboard's address in the user's network: what it lets through to the daemon's socket, and what not. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type DashboardProxy, startDashboardProxy } from "../../src/demo/proxy.ts";

const directory = mkdtempSync(join(tmpdir(), "ilb-proxy-"));
const socket = join(directory, "ilbd.sock");
let daemon: ReturnType<typeof Bun.serve>;
let proxy: DashboardProxy;

beforeAll(() => {
  daemon = Bun.serve({
    unix: socket,
    fetch: async (request) => {
      const { pathname, search } = new URL(request.url);
      if (pathname === "/stream") {
        return new Response(
          new ReadableStream({
            async start(controller) {
              controller.enqueue("data: 1\n\n");
              await new Promise((resolve) => request.signal.addEventListener("abort", resolve));
              controller.close();
            },
          }),
          { headers: { "content-type": "text/event-stream" } },
        );
      }
      const seen = {
        method: request.method,
        pathname,
        search,
        body: await request.text(),
        cookie: request.headers.get("cookie"),
      };
      return Response.json(seen, { status: pathname === "/missing" ? 404 : 200 });
    },
  });
  proxy = startDashboardProxy("127.0.0.1", 0, socket);
});

afterAll(async () => {
  await proxy.stop();
  await daemon.stop(true);
  rmSync(directory, { recursive: true, force: true });
});

const get = (path: string, init: RequestInit = {}) => fetch(`${proxy.url}${path}`, { redirect: "manual", ...init });

describe("the dashboard proxy", () => {
  test("reading goes through as it is, status and query included", async () => {
    expect(await (await get("v1/rules?limit=2")).json()).toMatchObject({
      method: "GET",
      pathname: "/v1/rules",
      search: "?limit=2",
    });
    expect((await get("missing")).status).toBe(404);
  });

  test("events arrive while the stream is open", async () => {
    const reply = await get("stream");
    const reader = reply.body!.getReader();
    expect(new TextDecoder().decode((await reader.read()).value)).toBe("data: 1\n\n");
    await reader.cancel();
  });

  test("a name that merely points here is refused", async () => {
    expect((await get("", { headers: { host: "attacker.example:9080" } })).status).toBe(421);
    expect((await get("", { headers: { host: "localhost:9080" } })).status).toBe(200);
  });

  test("changing needs the session that the link opens, once", async () => {
    const change = (cookie?: string) =>
      get("v1/rules", { method: "POST", body: "{}", headers: cookie === undefined ? {} : { cookie } });
    expect((await change()).status).toBe(403);
    expect((await change("ilb-demo=guess")).status).toBe(403);
    const opened = await fetch(proxy.link, { redirect: "manual" });
    expect(opened.status).toBe(303);
    const cookie = opened.headers.get("set-cookie") ?? "";
    expect(cookie).toContain("HttpOnly");
    expect(cookie).toContain("SameSite=Strict");
    expect((await fetch(proxy.link, { redirect: "manual" })).status).toBe(403);
    const done = await change(cookie.split(";")[0] ?? "");
    expect(await done.json()).toMatchObject({ method: "POST", body: "{}", cookie: null });
  });

  test("while no daemon listens it says so", async () => {
    const early = startDashboardProxy("127.0.0.1", 0, join(directory, "nobody.sock"));
    expect((await fetch(early.url)).status).toBe(503);
    await early.stop();
  });

  test("an address that is taken is an error at once", () => {
    expect(() => startDashboardProxy("127.0.0.1", Number(new URL(proxy.url).port), socket)).toThrow();
  });
});
