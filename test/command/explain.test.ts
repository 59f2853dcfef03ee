/** ilbadm explain: words in, words out; and the same over HTTP. The decision itself is test/engine/explain.test.ts's. */
import { describe, expect, test } from "bun:test";
import { unpack } from "msgpackr";
import type { Caller } from "../../src/control/caller.ts";
import type { Controller } from "../../src/control/controller.ts";
import { HealthEvents } from "../../src/control/health-events.ts";
import { NOTHING_LIVE } from "../../src/engine/explain.ts";
import { createApp } from "../../src/http/app.ts";
import { RefusalAudit } from "../../src/http/rights.ts";
import { FakeWorld } from "../control/fakes.ts";
import { ip, mac } from "../support/addresses.ts";
import { errorOf, FakeHost, outputOf, setUp } from "../support/fake-host.ts";

const ADMIN: Caller = { name: "root", rights: new Set(["show", "enable", "config"]) };
const NOBODY: Caller = { name: "nobody", rights: new Set() };
const PACKET = "src=203.0.113.7,dst=198.51.100.10,sport=40000,dport=80";
const QUERY = PACKET.replaceAll(",", "&");

async function worldOf(...lines: string[]): Promise<{ world: FakeWorld; controller: Controller }> {
  const world = new FakeWorld();
  world.kernel.hints = () => [];
  world.live = {
    ...NOTHING_LIVE,
    portCount: 2,
    port: (index) => (index < 2 ? { kind: "ethernet", mac: mac("02:00:00:00:00:01"), mtu: 1500 } : null),
    nextHop: (index) => ({
      state: index === 0 ? "unresolved" : "resolved",
      port: 1,
      destinationMac: mac(`02:01:00:00:00:0${index}`),
      sourceMac: mac("02:00:00:00:00:02"),
      mtu: 1500,
    }),
    stickyOf: (_rule, client) => (client.value === ip("203.0.113.128").value ? { serverId: 4, proxyIndex: 0 } : null),
  };
  const controller = world.controller();
  await controller.start();
  await setUp(controller.hostFor(ADMIN), ...lines);
  return { world, controller };
}

const SERVERS = "create-servergroup -s server=192.0.2.10-192.0.2.12:8080 web";
const rule = (method: string): string =>
  `create-rule -e -i vip=198.51.100.10,port=80 -m ${method} -o servergroup=web www`;

describe("ilbadm explain", () => {
  test("round robin: whose turn it is, who is out and why, what leaves and by which device", async () => {
    const { controller } = await worldOf(SERVERS, rule("lbalg=rr,type=HALF-NAT"), "disable-server _web.1");
    const host = controller.hostFor(ADMIN);
    expect(await outputOf(host, `explain -i ${PACKET}`)).toBe(`         PACKET: tcp 203.0.113.7.40000 > 198.51.100.10.80
           RULE: www, HALF-NAT
           FLOW: new
      ALGORITHM: roundrobin, next are _web.2, _web.0
         SERVER: _web.2 192.0.2.12:8080
            NOT: _web.0 192.0.2.10:8080: not-its-turn
            NOT: _web.1 192.0.2.11:8080: disabled
         LEAVES: 203.0.113.7.40000 > 192.0.2.12.8080
         EGRESS: eth1, 02:00:00:00:00:02 > 02:01:00:00:00:02, MTU 1500
        VERDICT: forward, flow-new: opened a flow
`);
    expect(await outputOf(host, `explain -i ${PACKET},protocol=udp`)).toContain("RULE: none\n");
  });

  test("a hash has its value of the specification, index and fallback; a next hop that does not answer is named", async () => {
    const { controller } = await worldOf(SERVERS, rule("lbalg=hip,type=NAT,proxy-src=203.0.113.1-203.0.113.2"));
    const host = controller.hostFor(ADMIN);
    // hash-ip 203.0.113.7: 0xd7b794f0, modulo 3: 0 (specification E.5).
    const text = await outputOf(host, `explain -i ${PACKET}`);
    expect(text).toContain("ALGORITHM: hash-ip, 0xd7b794f0 mod 3 = 0 -> _web.0\n");
    expect(text).toContain("NOT: _web.1 192.0.2.11:8080: other-hash\n");
    expect(text).toContain("EGRESS: eth1, next hop unresolved\n        VERDICT: drop, next-hop-unresolved: ");
    expect(text).not.toContain("LEAVES");
    await setUp(host, "disable-server _web.0");
    const other = await outputOf(host, `explain -i ${PACKET}`);
    expect(other).toContain("mod 3 = 0, that server is out; mod 2 = 0 -> _web.1\n");
    // The rotation begins with the second address (specification E.7).
    expect(other).toContain("LEAVES: 203.0.113.2.(a free port) > 192.0.2.11.8080\n");
  });

  test("a sticky entry overrides the algorithm; a disabled rule passes; no server is said", async () => {
    const { controller } = await worldOf(SERVERS, rule("lbalg=hip,type=HALF-NAT,pmask=25").replace("-e", "-e -p"));
    const host = controller.hostFor(ADMIN);
    expect(await outputOf(host, `explain -i ${PACKET}`)).toContain("STICKY: 203.0.113.0/25 has no entry\n");
    const stuck = await outputOf(host, `explain -i ${PACKET.replace(".7,", ".200,")}`);
    expect(stuck).toContain("STICKY: 203.0.113.128/25 -> _web.2\n         SERVER: _web.2 ");
    await setUp(host, "disable-rule www");
    expect(await outputOf(host, `explain -i ${PACKET}`)).toContain("VERDICT: pass, rule-disabled: ");
    await setUp(host, "enable-rule www", "disable-server _web.0 _web.1 _web.2");
    expect(await outputOf(host, `explain -i ${PACKET}`)).toContain("VERDICT: drop, no-server: ");
  });

  test("an entry decides; a closed one would be replaced", async () => {
    const { world, controller } = await worldOf(SERVERS, rule("lbalg=rr,type=HALF-NAT"));
    const { rules, groups } = controller.config();
    const flow = {
      protocol: "tcp" as const,
      ruleId: rules[0]!.id,
      serverId: groups[0]!.servers[1]!.id,
      client: ip("203.0.113.7"),
      clientPort: 40_000,
      vip: ip("198.51.100.10"),
      vipPort: 80,
      source: ip("203.0.113.7"),
      sourcePort: 40_000,
      server: ip("192.0.2.11"),
      serverPort: 8080,
    };
    const client = { port: 0, mac: mac("02:0c:00:00:00:01") };
    world.live = { ...world.live, flowOf: () => ({ flow, fromClient: true, isClosed: false, nextHop: 1, client }) };
    const host = controller.hostFor(ADMIN);
    const text = await outputOf(host, `explain -i ${PACKET}`);
    expect(text).toContain("FLOW: found\n          ENTRY: 203.0.113.7.40000 > 198.51.100.10.80 >>> ");
    expect(text).toContain("SERVER: _web.1\n");
    world.live = { ...world.live, flowOf: () => ({ flow, fromClient: true, isClosed: true, nextHop: 1, client }) };
    expect(await outputOf(host, `explain -i ${PACKET}`)).toContain("192.0.2.11.8080 (closed, to be replaced)\n");
  });

  test.each([
    ["explain", "src: missing"],
    ["explain -i src=192.0.2.1", "dst: missing"],
    ["explain -i src=192.0.2.1,dst=192.0.2.2", "sport: missing"],
    ["explain -i src=192.0.2.1,dst=192.0.2.2,sport=1", "dport: missing"],
    ["explain -i src=192.0.2.1,dst=2001:db8::1,sport=1,dport=2", "dst: address family is invalid"],
    ["explain -i src=x,dst=192.0.2.2,sport=1,dport=2", "src: address is invalid"],
    ["explain -i sport=0", "invalid port value 0 specified"],
    ["explain -i sport=http", "invalid port value http specified"],
    ["explain -i dport=65536", "invalid port value 65536 specified"],
    ["explain -i protocol=icmp", "invalid argument(s) - see man page"],
    ["explain -i vip=192.0.2.1", "bad keyword vip"],
    [`explain -i ${PACKET} more`, "invalid/incompatible keywords - refer to ilbadm(8)"],
  ])("%s: %s", async (line, text) => {
    expect(await errorOf(new FakeHost(), line)).toBe(`ilbadm: ${text}\n`);
  });

  test("a process without tables says so", async () => {
    expect(await errorOf(new FakeHost(), `explain -i ${PACKET}`)).toBe(
      "ilbadm: explain is not available in this process\n",
    );
  });
});

describe("GET /v1/explain", () => {
  async function appOf(): Promise<(query: string, caller?: Caller, accept?: string) => Promise<Response>> {
    const { world, controller } = await worldOf(SERVERS, rule("lbalg=hip,type=HALF-NAT"), "disable-server _web.0");
    const app = createApp({
      version: "1",
      log: { debug() {}, info() {}, warn() {}, error() {} },
      hostFor: (caller, gone) => controller.hostFor(caller, gone),
      healthEvents: new HealthEvents(1),
      refusals: new RefusalAudit(() => undefined),
      counters: () => world.engine.counters(),
      ports: () => [],
      workers: () => [],
      isReady: () => true,
    });
    return async (query, caller = ADMIN, accept = "application/json") =>
      app.request(`/v1/explain?${query}`, { headers: { accept } }, { caller });
  }

  test("the same, structured, in JSON and MessagePack", async () => {
    const ask = await appOf();
    const answer = await (await ask(QUERY)).json();
    expect(answer).toEqual({
      packet: {
        protocol: "tcp",
        source: { address: "203.0.113.7", port: 40_000 },
        destination: { address: "198.51.100.10", port: 80 },
      },
      verdict: "forward",
      reason: "flow-new",
      meaning: "opened a flow",
      rule: "www",
      type: "HALF-NAT",
      server: "_web.1",
      direction: "client-to-server",
      flow: "new",
      entry: null,
      choice: {
        algorithm: "hash-ip",
        hash: { value: "0xd7b794f0", index: 0, count: 3, fallback: { index: 0, count: 2 } },
        turns: null,
        picked: "_web.1",
        sticky: null,
        servers: [
          { id: "_web.0", address: "192.0.2.10", port: "8080", why: "disabled" },
          { id: "_web.1", address: "192.0.2.11", port: "8080", why: "chosen" },
          { id: "_web.2", address: "192.0.2.12", port: "8080", why: "other-hash" },
        ],
      },
      leaving: { source: { address: "203.0.113.7", port: 40_000 }, destination: { address: "192.0.2.11", port: 8080 } },
      egress: {
        device: "eth1",
        nexthop: "resolved",
        source: "02:00:00:00:00:02",
        destination: "02:01:00:00:00:01",
        mtu: 1500,
      },
    });
    const packed = await ask(QUERY, ADMIN, "application/msgpack");
    expect(unpack(new Uint8Array(await packed.arrayBuffer()))).toEqual(answer);
  });

  test("mistakes are named with their parameter, and the right show is needed", async () => {
    const ask = await appOf();
    const missing = await ask("src=192.0.2.1");
    expect([missing.status, await missing.json()]).toMatchObject([400, { code: "E-MISSING", field: "dst" }]);
    expect(await (await ask(`${QUERY}&name=x`)).json()).toMatchObject({ code: "E-PARAMETER", field: "name" });
    expect((await ask(QUERY, NOBODY)).status).toBe(403);
  });
});
