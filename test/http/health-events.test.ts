/** Changes of health on the stream of statistics, in metrics and in the document. */
import { describe, expect, test } from "bun:test";
import type { HealthEvent } from "../../src/control/health-events.ts";
import { HealthEvents } from "../../src/control/health-events.ts";
import { zeroPairCounters } from "../../src/engine/engine.ts";
import { metricsText } from "../../src/http/metrics.ts";
import { HEALTH_EVENT_SCHEMA } from "../../src/http/statistics.ts";
import { type Family, parseExposition } from "../support/prometheus.ts";
import { FIRST_EVENT, TestApp } from "./support.ts";

const dead = (server: string): HealthEvent => ({
  atMs: 1_700_000_000_000,
  kind: "status",
  rule: "r1",
  server,
  from: "alive",
  to: "dead",
  reason: "timeout after 2 s",
  text: `health of ${server} in r1: alive -> dead (timeout after 2 s)`,
});

/** A stream of server-sent events as a client takes it apart. */
async function follow(app: TestApp, headers: Record<string, string> = {}) {
  const answer = await app.ask("/v1/statistics/stream?interval=60", { headers });
  const reader = answer
    .body!.pipeThrough(new TextDecoderStream() as never)
    .getReader() as ReadableStreamDefaultReader<string>;
  let rest = "";
  return {
    /** Type and data of the next event, and its id. */
    async next(): Promise<{ type: string; id: string | undefined; data: Record<string, unknown> }> {
      while (!rest.includes("\n\n")) {
        const { value, done } = await reader.read();
        if (done) throw new Error("the stream has ended");
        rest += value;
      }
      const [event] = rest.split("\n\n", 1) as [string];
      rest = rest.slice(event.length + 2);
      const fields = Object.fromEntries(event.split("\n").map((line) => line.split(/: (.*)/s, 2)));
      return { type: fields.event ?? "message", id: fields.id, data: JSON.parse(fields.data) };
    },
    leave: () => reader.cancel(),
  };
}

describe("statistics/stream", () => {
  test("health events come as they happen, typed and numbered, and do not disturb the interval", async () => {
    const app = await TestApp.start();
    const stream = await follow(app);
    expect((await stream.next()).type).toBe("message");
    const asked = stream.next();
    app.healthEvents.add([dead("_sg1.0"), dead("_sg1.1")]);
    const first = await asked;
    expect(first).toMatchObject({ type: "health", id: String(FIRST_EVENT) });
    expect(HEALTH_EVENT_SCHEMA.parse(first.data)).toEqual({
      time: "2023-11-14T22:13:20.000Z",
      kind: "status",
      rule: "r1",
      server: "_sg1.0",
      from: "alive",
      to: "dead",
      reason: "timeout after 2 s",
      text: "health of _sg1.0 in r1: alive -> dead (timeout after 2 s)",
    });
    expect(await stream.next()).toMatchObject({
      type: "health",
      id: String(FIRST_EVENT + 1),
      data: { server: "_sg1.1" },
    });
    let came = false;
    const statistics = stream.next().finally(() => {
      came = true;
    });
    await app.world.clock.advance(59_999);
    expect(came).toBe(false);
    await app.world.clock.advance(1);
    expect((await statistics).type).toBe("message");
    await stream.leave();
  });

  test("who comes later gets statistics first, then what is still known; Last-Event-ID leaves out what he has", async () => {
    const app = await TestApp.start();
    app.healthEvents.add([dead("_sg1.0"), dead("_sg1.1")]);
    const stream = await follow(app);
    const types = [await stream.next(), await stream.next(), await stream.next()].map(({ type, id }) => [type, id]);
    expect(types).toEqual([
      ["message", undefined],
      ["health", String(FIRST_EVENT)],
      ["health", String(FIRST_EVENT + 1)],
    ]);
    await stream.leave();
    const again = await follow(app, { "last-event-id": String(FIRST_EVENT) });
    expect((await again.next()).type).toBe("message");
    expect((await again.next()).id).toBe(String(FIRST_EVENT + 1));
    await again.leave();
    const strange = await follow(app, { "last-event-id": "what" });
    await strange.next();
    expect((await strange.next()).id).toBe(String(FIRST_EVENT));
    await strange.leave();
  });

  test("nobody waits any more when the reader has left", async () => {
    const app = await TestApp.start();
    const stream = await follow(app);
    await stream.next();
    await stream.leave();
    app.healthEvents.add([dead("_sg1.0")]);
    await app.world.clock.advance(120_000);
    expect(app.errors).toEqual([]);
  });

  test("the document has the shape of the events", async () => {
    const app = await TestApp.start();
    const document = (await app.json("/v1/openapi.json")) as {
      components: { schemas: Record<string, { required: string[] }> };
      paths: Record<
        string,
        { get: { responses: Record<string, { description: string }>; parameters: { name: string }[] } }
      >;
    };
    expect(document.components.schemas["health-event"]!.required).toContain("reason");
    const { responses, parameters } = document.paths["/v1/statistics/stream"]!.get;
    expect(responses["200"]!.description).toContain("health-event");
    expect(parameters.map(({ name }) => name)).toContain("Last-Event-ID");
  });
});

test("only the latest events are kept, and numbers rise beyond the life of a daemon", async () => {
  const events = new HealthEvents(5000);
  events.add(Array.from({ length: 150 }, (_, index) => dead(`_sg1.${index}`)));
  const known = events.since(0);
  expect(known).toHaveLength(100);
  expect([known[0]!.id, known[99]!.id]).toEqual([5050, 5149]);
  await events.until(0, new AbortController().signal);
  const gone = new AbortController();
  const waiting = events.until(5149, gone.signal);
  gone.abort();
  await waiting;
});

test("/metrics has what health checks have found and what clients have met, for every server of every rule", async () => {
  const app = await TestApp.start();
  await app.run(
    "create-servergroup -s server=192.0.2.1,192.0.2.2 sg",
    "create-healthcheck -h hc-test=tcp,hc-timeout=1,hc-count=1,hc-interval=5,hc-panic=60 hc",
    "create-rule -e -i vip=198.51.100.1,port=80 -m type=HALF-NAT -h hc-name=hc -o servergroup=sg r1",
    "create-rule -e -i vip=198.51.100.1,port=81 -m type=HALF-NAT -h hc-name=hc -o servergroup=sg r2",
  );
  const config = app.controller.config();
  const [r1, r2] = config.rules.map(({ id }) => id) as [number, number];
  const [s1, s2] = config.groups[0]!.servers.map(({ id }) => id) as [number, number];
  const result = { lastAtMs: 0, nextAtMs: 1, status: "alive", fail: 0, rttMicroseconds: 70 } as const;
  const families = parseExposition(
    metricsText({
      version: "x",
      ready: true,
      config,
      health: [
        { ...result, ruleId: r1, serverId: s1 },
        { ...result, ruleId: r1, serverId: s2, status: "dead", fail: 4, isKept: true, transitions: 3, prompted: 2 },
        { ...result, ruleId: r2, serverId: s1 },
      ],
      sample: app.controller.hostFor({ name: "root", rights: new Set() }).statistics(),
      counters: {
        ...app.world.engine.counters(),
        pairs: [{ ...zeroPairCounters(r1, s2), refused: 7n, unanswered: 9n }],
      },
      ports: [],
      workers: [],
    }),
  );
  const value = (family: string, labels: Record<string, string>): bigint | undefined =>
    (families.get(family) as Family | undefined)?.samples.find((one) => Bun.deepEquals(one.labels, labels))?.value;
  const failing = { rule: "r1", server: "_sg.1" };
  expect(value("ilb_rule_panic", { rule: "r1" })).toBe(1n);
  expect(value("ilb_rule_panic", { rule: "r2" })).toBe(0n);
  expect(value("ilb_server_health", { ...failing, status: "dead" })).toBe(1n);
  expect(value("ilb_server_health_failures", failing)).toBe(4n);
  expect(value("ilb_server_health_rtt_microseconds", failing)).toBe(70n);
  expect(value("ilb_server_health_transitions_total", failing)).toBe(3n);
  expect(value("ilb_server_health_prompted_checks_total", failing)).toBe(2n);
  expect(value("ilb_server_health_kept", failing)).toBe(1n);
  expect(value("ilb_server_refused_connections_total", failing)).toBe(7n);
  expect(value("ilb_server_repeated_syns_total", failing)).toBe(9n);
  expect(value("ilb_server_refused_connections_total", { rule: "r2", server: "_sg.0" })).toBe(0n);
});
