import { describe, expect, test } from "bun:test";
import { metricsText } from "../../src/http/metrics.ts";
import { type Family, parseExposition } from "../support/prometheus.ts";
import { TestApp } from "./support.ts";

/** Beyond what a double can hold. */
const HUGE = 18_446_744_073_709_551_000n;
const figure = (family: Family | undefined, labels: Record<string, string>): bigint | undefined =>
  family?.samples.find((sample) => Bun.deepEquals(sample.labels, labels))?.value;

describe("the strict reader", () => {
  test.each([
    ["no HELP", "# TYPE a gauge\na 1\n"],
    ["no TYPE", "# HELP a x\na 1\n"],
    ["a counter without _total", "# HELP a x\n# TYPE a counter\na 1\n"],
    ["a sample twice", '# HELP a x\n# TYPE a gauge\na{b="1"} 1\na{b="1"} 2\n'],
    ["a family in two parts", "# HELP a x\n# TYPE a gauge\na 1\n# HELP b x\n# TYPE b gauge\na 2\n"],
    ["an unescaped quote", '# HELP a x\n# TYPE a gauge\na{b="""} 1\n'],
    ["floating point", "# HELP a x\n# TYPE a gauge\na 1e3\n"],
    ["no last newline", "# HELP a x\n# TYPE a gauge\na 1"],
  ])("refuses %s", (_name, text) => {
    expect(() => parseExposition(text)).toThrow();
  });
});

describe("/metrics", () => {
  test("is a page that a strict reader takes, with a sample for every rule, server, reason, worker and device", async () => {
    const app = await TestApp.start();
    await app.run(
      "create-servergroup -s server=192.0.2.1,192.0.2.2 sg",
      "create-healthcheck -h hc-test=tcp,hc-timeout=1,hc-count=1,hc-interval=5 hc",
      "create-rule -e -i vip=198.51.100.1,port=80 -m type=HALF-NAT -h hc-name=hc -o servergroup=sg r1",
      "create-rule -i vip=198.51.100.1,port=81 -m type=HALF-NAT -o servergroup=sg r2",
      "disable-server _sg.1",
    );
    const answer = await app.ask("/metrics");
    expect(answer.headers.get("content-type")).toBe("text/plain; version=0.0.4; charset=utf-8");
    const families = parseExposition(await answer.text());
    expect(figure(families.get("ilb_build_info"), { version: "1.2.3" })).toBe(1n);
    expect(families.get("ilb_rule_enabled")?.samples).toEqual([
      { labels: { rule: "r1" }, value: 1n },
      { labels: { rule: "r2" }, value: 0n },
    ]);
    expect(figure(families.get("ilb_server_enabled"), { server: "_sg.1" })).toBe(0n);
    expect(families.get("ilb_server_packets_total")?.samples).toHaveLength(4);
    expect(figure(families.get("ilb_server_health"), { rule: "r1", server: "_sg.0", status: "un-init" })).toBe(1n);
  });

  test("the end of a certificate is a sample of the server that showed it, and of nobody else", async () => {
    const app = await TestApp.start();
    await app.run(
      "create-servergroup -s server=192.0.2.1,192.0.2.2 sg",
      "create-healthcheck -h hc-test=HTTPS hc",
      "create-rule -e -i vip=198.51.100.1,port=443 -m type=HALF-NAT -h hc-name=hc -o servergroup=sg r1",
    );
    const host = app.controller.hostFor({ name: "root", rights: new Set() });
    const [first, second] = host.healthResults!();
    const text = metricsText({
      version: "x",
      ready: true,
      config: app.controller.config(),
      health: [{ ...first!, certificateUntilMs: Date.UTC(2027, 0, 1) + 999 }, second!],
      sample: host.statistics(),
      counters: app.world.engine.counters(),
      ports: [],
      workers: [],
    });
    const family = parseExposition(text).get("ilb_server_certificate_end_seconds");
    expect(family?.samples).toEqual([{ labels: { rule: "r1", server: "_sg.0" }, value: 1_798_761_600n }]);
  });

  test("counters are whole beyond 2^53, and labels may hold anything", async () => {
    const app = await TestApp.start();
    const port = '"\\\n';
    const text = metricsText({
      version: "x",
      ready: true,
      config: app.controller.config(),
      health: [],
      sample: { takenAtMs: 0, rules: [] },
      counters: { ...app.world.engine.counters(), reasons: [0n, HUGE] },
      ports: [{ name: port, counters: { rxFrames: HUGE } }],
      workers: [0, 1].map(() => ({
        packetsIn: HUGE,
        handedOver: 1n,
        takenOver: 2n,
        flows: 3,
        flowsExpired: 4n,
        flowsEvicted: 5n,
      })),
    });
    const families = parseExposition(text);
    expect(figure(families.get("ilb_port_rx_frames_total"), { interface: port })).toBe(HUGE);
    expect(figure(families.get("ilb_worker_packets_total"), { worker: "1" })).toBe(HUGE);
    expect(figure(families.get("ilb_worker_flows_evicted_total"), { worker: "0" })).toBe(5n);
    expect(families.get("ilb_packets_total")?.samples.map(({ value }) => value)).toEqual([0n, HUGE]);
  });
});
