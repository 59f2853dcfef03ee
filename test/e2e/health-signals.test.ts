/**
 * Passive signals and the panic threshold with a real daemon, whose checks are an hour apart: what is found here is found
 * because clients have met it.
 */
import { describe, expect, test } from "bun:test";
import { type Lab, SERVER_PORT } from "../../src/lab/lab.ts";
import { withPort } from "../../src/lab/topology.ts";
import { hasNamespaces } from "../support/capabilities.ts";
import { TEST_TIMEOUT_MS, targetOf, VIP_PORT, vipOf, withLab } from "../support/e2e.ts";

const RARE = "hc-test=tcp,hc-timeout=1,hc-count=1,hc-interval=3600,hc-panic=50";

async function createRule(lab: Lab, type: "NAT" | "HALF-NAT"): Promise<void> {
  const { addresses } = lab;
  const servers = lab.names.servers.map((_, index) => withPort(addresses.server(index), SERVER_PORT)).join(",");
  const proxy = type === "NAT" ? `,proxy-src=${addresses.proxySources}` : "";
  await lab.configure("create-servergroup", "-s", `server=${servers}`, "web");
  await lab.configure("create-healthcheck", "-h", RARE, "hc1");
  await lab.configure(
    ...["create-rule", "-e", "-i", `vip=${vipOf(lab)},port=${VIP_PORT}`],
    ...["-m", `lbalg=rr,type=${type}${proxy}`, "-h", "hc-name=hc1", "-o", "servergroup=web", "www"],
  );
}

/** STATUS of each server in the order of addresses. */
async function states(lab: Lab): Promise<string> {
  const lines = (await lab.configure("show-hc-result", "www")).trimEnd().split("\n").slice(1);
  return lines.map((line) => line.trim().split(/ +/)[3]).join(" ");
}

/**
 * Clients try, and give up soon, until checks have found that. The test's own time limit ends it. Healthy servers are
 * `un-init` or, when one was late on a busy machine and a client has asked it again, checked and `alive`.
 */
async function reachByTraffic(lab: Lab, wanted: RegExp): Promise<void> {
  while (!wanted.test(await states(lab)))
    await lab.client({ kind: "requests", ...targetOf(lab), count: 6, concurrency: 6, timeoutMs: 2500 });
}

/** Reads the stream of statistics until `count` health events of failures have come. @returns their texts */
async function healthEvents(lab: Lab, count: number): Promise<string[]> {
  const answer = await fetch("http://ilbd/v1/statistics/stream", { unix: lab.socket });
  const texts: string[] = [];
  let rest = "";
  for await (const piece of answer.body!.pipeThrough(new TextDecoderStream() as never) as AsyncIterable<string>) {
    const events = (rest + piece).split("\n\n");
    rest = events.pop()!;
    for (const event of events.filter((one) => one.startsWith("event: health\n"))) {
      const { text } = JSON.parse(event.slice(event.indexOf("data: ") + "data: ".length)) as { text: string };
      if (!text.includes("-> alive")) texts.push(text);
    }
    if (texts.length >= count) break;
  }
  return texts;
}

const CASES = [
  {
    type: "HALF-NAT",
    family: 4,
    wall: "reject with icmpx type port-unreachable",
    does: "answers with ICMP",
    reason: "port unreachable|connection refused",
    signal: "refused_connections",
  },
  {
    type: "NAT",
    family: 6,
    wall: "drop",
    does: "is silent",
    reason: "timeout after 1 s",
    signal: "repeated_syns",
  },
] as const;

describe.skipIf(!hasNamespaces)("checks an hour apart", () => {
  test.each(CASES)(
    "$type over IPv$family: a server that refuses clients is checked and out at once, and one that $does; then the rule panics",
    async ({ type, family, wall, reason, signal }) => {
      await withLab({ families: [family] }, async (lab) => {
        await lab.startServer(0);
        const victim = await lab.startServer(1);
        await lab.startServer(2);
        await lab.startDaemon();
        await createRule(lab, type);
        const healthy = await lab.client({ kind: "requests", ...targetOf(lab), count: 12, concurrency: 3 });
        expect(healthy.failures).toEqual([]);
        expect(await states(lab)).toBe("un-init un-init un-init");

        await victim.stop("SIGKILL");
        await reachByTraffic(lab, /^(un-init|alive) dead (un-init|alive)$/);
        const after = await lab.client({ kind: "requests", ...targetOf(lab), count: 12, concurrency: 3 });
        expect(after.failures).toEqual([]);
        expect(Object.keys(after.answered).sort()).toEqual(["s1", "s3"]);

        const filter = `nft add table inet wall; nft add chain inet wall in "{ type filter hook input priority 0; }"; nft add rule inet wall in tcp dport ${SERVER_PORT} tcp flags syn ${wall}`;
        await lab.must(lab.names.servers[2]!, ["sh", "-ec", filter]);
        await reachByTraffic(lab, /^(un-init|alive) dead dead$/);
        // One of three would remain: all are kept, and clients meet the failing ones again.
        const kept = await lab.configure("show-hc-result", "-v", "www");
        expect(kept.match(/kept: too few would remain/g)).toHaveLength(2);
        const panicking = await lab.client({
          ...{ kind: "requests", ...targetOf(lab), count: 6, concurrency: 6, timeoutMs: 1500 },
        });
        expect(panicking.failures.length).toBeGreaterThan(0);
        // Whoever comes to the stream now still hears of it.
        const told = await healthEvents(lab, 3);
        expect(told).toEqual([
          expect.stringMatching(/^health of _web\.1 in www: (un-init|alive) -> dead/),
          expect.stringMatching(/^health of _web\.2 in www: (un-init|alive) -> dead/),
          expect.stringMatching(/^health in www: 2 of 3 servers fail/),
        ]);
        const metrics = await (await fetch("http://ilbd/metrics", { unix: lab.socket })).text();
        expect(metrics).toContain('ilb_rule_panic{rule="www"} 1\n');
        expect(metrics).toMatch(/ilb_server_refused_connections_total\{rule="www",server="_web\.1"\} [1-9]/);
        expect(metrics).toMatch(new RegExp(`ilb_server_${signal}_total\\{rule="www",server="_web\\.2"\\} [1-9]`));
        const audit = await lab.configure("show-audit");
        expect(audit).toMatch(/health of _web\.1 in www: (un-init|alive) -> dead \(connection refused\)/);
        expect(audit).toMatch(new RegExp(`health of _web\\.2 in www: (un-init|alive) -> dead \\((${reason})\\)`));
        expect(audit).toMatch(/health in www: 2 of 3 servers fail, all are kept \(hc-panic=50\)/);
      });
    },
    TEST_TIMEOUT_MS,
  );
});
