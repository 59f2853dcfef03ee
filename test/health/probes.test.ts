/** Probes over real sockets between two namespaces: what each finds, from which ports, and many at once. */
import { afterAll, afterEach, beforeAll, beforeEach, describe, expect, test } from "bun:test";
import { closeSync } from "node:fs";
import { formatAddress } from "../../src/model/address.ts";
import {
  PROBE_PORTS,
  type ProbeKind,
  type ProbeRequest,
  type ProbeResult,
  ProbeSockets,
} from "../../src/native/probe.ts";
import { Net, type Peer } from "../kernel/support.ts";
import { ip, mac } from "../support/addresses.ts";
import { hasNamespaces } from "../support/capabilities.ts";

const SERVERS = { 4: ip("192.0.2.20"), 6: ip("2001:db8::20") } as const;
const BOX = { 4: ip("192.0.2.1"), 6: ip("2001:db8::1") } as const;
/** On the server's loopback; the box has no route to it. */
const VIPS = { 4: ip("203.0.113.10"), 6: ip("2001:db8:3::10") } as const;
/** On the wire's prefix, but nobody's. */
const NOBODY = { 4: ip("192.0.2.99"), 6: ip("2001:db8::99") } as const;
const OPEN = 8080;
const CLOSED = 8081;
const DROPPED = 8082;
const REJECTED = 8083;
/** Open, but the first packet of each family's address is lost. */
const LOSSY = 8084;
/** All of them drop. */
const FIRST_DEAF = 9000;
const LAST_DEAF = 11_999;
const SILENT_MS = 300;
/** Of what answers: a limit against hanging. */
const LONG_MS = 30_000;

/** Accepts on OPEN and prints the source port of each connection; listens on LOSSY; has a UDP socket on OPEN that never answers. */
const SERVER_PROGRAM = `
import socket, sys, threading
held = []
def say(what):
    sys.stdout.write(f"{what}\\n"); sys.stdout.flush()
def accept(family, address):
    s = socket.create_server((address, ${OPEN}), family=family, backlog=4096)
    say("ready")
    while True:
        c, peer = s.accept()
        say(peer[1])
        c.close()
for family, address in (
    (socket.AF_INET, "192.0.2.20"), (socket.AF_INET6, "2001:db8::20"),
    (socket.AF_INET, "203.0.113.10"), (socket.AF_INET6, "2001:db8:3::10"),
):
    u = socket.socket(family, socket.SOCK_DGRAM); u.bind((address, ${OPEN})); held.append(u)
    held.append(socket.create_server((address, ${LOSSY}), family=family))
    threading.Thread(target=accept, args=(family, address)).start()
`;
const FIREWALL = `nft -f - <<X
table inet wall {
  chain in {
    type filter hook input priority 0
    ip daddr 192.0.2.20 tcp dport ${LOSSY} quota until 50 bytes drop
    ip daddr 203.0.113.10 tcp dport ${LOSSY} quota until 50 bytes drop
    ip6 daddr 2001:db8::20 tcp dport ${LOSSY} quota until 70 bytes drop
    ip6 daddr 2001:db8:3::10 tcp dport ${LOSSY} quota until 70 bytes drop
    tcp dport ${FIRST_DEAF}-${LAST_DEAF} drop
    tcp dport ${DROPPED} drop
    udp dport ${DROPPED} drop
    tcp dport ${REJECTED} reject with icmpx admin-prohibited
    udp dport ${REJECTED} reject
  }
}
X`;

describe.skipIf(!hasNamespaces)("probes", () => {
  let net: Net;
  let server: Peer;
  let sockets: ProbeSockets;
  let boxInterface: number;

  beforeAll(async () => {
    net = new Net("box", "peer");
    net.cable("box:eth0", "peer:eth0", ["02:00:00:00:00:0b", "02:00:00:00:00:0c"]);
    net.sh("box", "ip address add 192.0.2.1/24 dev eth0; ip address add 2001:db8::1/64 nodad dev eth0");
    net.sh("peer", "ip address add 192.0.2.20/24 dev eth0; ip address add 2001:db8::20/64 nodad dev eth0");
    net.sh("peer", "ip address add 203.0.113.10/32 dev lo; ip address add 2001:db8:3::10/128 nodad dev lo");
    net.sh("peer", "sysctl -qw net.ipv4.icmp_ratelimit=0 net.ipv6.icmp.ratelimit=0");
    net.sh("peer", FIREWALL);
    server = net.start("peer", "python3", "-c", SERVER_PROGRAM);
    for (let sockets = 0; sockets < 4; sockets++) expect(await server.line()).toBe("ready");
    boxInterface = Number(net.sh("box", "cat /sys/class/net/eth0/ifindex"));
  });
  afterAll(() => net?.close());
  beforeEach(() => {
    sockets = new ProbeSockets(512);
  });
  afterEach(() => sockets.close());

  /** All results, by order of the requests. Sockets belong to the namespace in which they are made. */
  function probe(...requests: ProbeRequest[]): Promise<ProbeResult[]> {
    return net.inside("box", async () => {
      const results: ProbeResult[] = [];
      let left = requests.length;
      requests.forEach((request, index) => {
        sockets.start(request, (result) => {
          results[index] = result;
          left--;
        });
      });
      for (const until = performance.now() + 60_000; left > 0 && performance.now() < until; await Bun.sleep(2))
        sockets.poll();
      return results;
    });
  }
  const ask = (kind: ProbeKind, port: number, target = SERVERS[4], timeoutMs = SILENT_MS): ProbeRequest => ({
    kind,
    target,
    port,
    timeoutMs,
  });

  describe.each([4, 6] as const)("over IPv%d", (family) => {
    const at = SERVERS[family];

    test("a server that answers: ping and TCP succeed with a round-trip time", async () => {
      const results = await probe(ask("ping", 0, at, LONG_MS), ask("tcp", OPEN, at, LONG_MS));
      await server.line();
      for (const result of results) {
        expect(result).toMatchObject({ kind: "success", code: "" });
        expect(result.rttMicroseconds).toBeGreaterThan(0);
        expect(result.rttMicroseconds).toBeLessThan(LONG_MS * 1000);
      }
    });

    test("a closed TCP port is refused, a filtered one silent, a rejected one unreachable", async () => {
      const [closed, dropped, rejected] = await probe(
        ask("tcp", CLOSED, at, LONG_MS),
        ask("tcp", DROPPED, at),
        ask("tcp", REJECTED, at, LONG_MS),
      );
      expect(closed).toEqual({ kind: "failure", code: "ECONNREFUSED", rttMicroseconds: 0 });
      expect(dropped).toEqual({ kind: "failure", code: "ETIMEDOUT", rttMicroseconds: 0 });
      expect(rejected).toMatchObject({ kind: "failure", code: family === 4 ? "EHOSTUNREACH" : "EACCES" });
    });

    test("a connection tells where it comes from, the server's answer whatever it is, and one without a way tells nothing", async () => {
      const [open, closed, dropped] = await probe(
        ask("connect", OPEN, at, LONG_MS),
        ask("connect", CLOSED, at, LONG_MS),
        ask("connect", DROPPED, at),
      );
      await server.line();
      closeSync(open!.connection!);
      for (const result of [open, closed, dropped]) {
        expect(formatAddress(result!.local!.address)).toBe(formatAddress(BOX[family]));
        expect(result!.local!.port).toBeGreaterThanOrEqual(PROBE_PORTS.min);
        expect(result!.local!.port).toBeLessThanOrEqual(PROBE_PORTS.max);
      }
      expect([open, closed, dropped].map((result) => result?.code)).toEqual(["", "ECONNREFUSED", "ETIMEDOUT"]);
      const [lost] = await probe(ask("connect", OPEN, VIPS[family], LONG_MS));
      expect(lost).toEqual({ kind: "failure", code: "ENETUNREACH", rttMicroseconds: 0 });
    });

    test("ILB-216 UDP succeeds in silence and fails at a port unreachable", async () => {
      const [silent, dropped, closed, rejected] = await probe(
        ask("udp", OPEN, at),
        ask("udp", DROPPED, at),
        ask("udp", CLOSED, at, LONG_MS),
        ask("udp", REJECTED, at, LONG_MS),
      );
      for (const result of [silent, dropped]) expect(result).toEqual({ kind: "success", code: "", rttMicroseconds: 0 });
      for (const result of [closed, rejected]) expect(result).toMatchObject({ kind: "failure", code: "ECONNREFUSED" });
    });

    test("an address that nobody has: ping and TCP fail", async () => {
      const results = await probe(ask("ping", 0, NOBODY[family]), ask("tcp", OPEN, NOBODY[family]));
      for (const { kind, code } of results) {
        expect(kind).toBe("failure");
        expect(["ETIMEDOUT", "EHOSTUNREACH"]).toContain(code);
      }
    });

    test("an address without a route fails at once", async () => {
      const nowhere = ip(family === 4 ? "198.51.100.1" : "2001:db8:ffff::1");
      const results = await probe(
        ask("tcp", OPEN, nowhere, LONG_MS),
        ask("udp", OPEN, nowhere, LONG_MS),
        ask("ping", 0, nowhere, LONG_MS),
      );
      for (const result of results) expect(result).toMatchObject({ kind: "failure", code: "ENETUNREACH" });
    });

    test("pings need no raw socket where the system allows datagram ones", async () => {
      net.sh("box", 'sysctl -qw net.ipv4.ping_group_range="0 0"');
      expect(await probe(ask("ping", 0, at, LONG_MS))).toMatchObject([{ kind: "success" }]);
      expect(net.sh("box", `cat /proc/net/${family === 4 ? "icmp" : "icmp6"} | wc -l`).trim()).not.toBe("1");
      net.sh("box", 'sysctl -qw net.ipv4.ping_group_range="1 0"');
    });
  });

  describe.each([4, 6] as const)("in frames past the routing, over IPv%d", (family) => {
    const direct = (kind: ProbeKind, port: number, timeoutMs = LONG_MS): ProbeRequest => ({
      ...ask(kind, port, VIPS[family], timeoutMs),
      way: { interfaceIndex: boxInterface, mac: mac("02:00:00:00:00:0c"), source: BOX[family] },
    });

    test.each([false, true])("each test finds what a socket would; the VIP is the box's too: %p", async (isLocal) => {
      const own = `${formatAddress(VIPS[family])}/${family === 4 ? 32 : 128}`;
      if (isLocal) net.sh("box", `ip address add ${own} dev lo`);
      const results = await probe(
        direct("ping", 0),
        direct("tcp", OPEN),
        direct("tcp", CLOSED),
        direct("tcp", DROPPED, SILENT_MS),
        direct("tcp", REJECTED),
        direct("udp", OPEN, SILENT_MS),
        direct("udp", CLOSED),
      );
      if (isLocal) net.sh("box", `ip address del ${own} dev lo`);
      expect(results.map(({ kind, code }) => code || kind)).toEqual([
        "success",
        "success",
        "ECONNREFUSED",
        "ETIMEDOUT",
        family === 4 ? "EHOSTUNREACH" : "EACCES",
        "success",
        "ECONNREFUSED",
      ]);
      for (const { rttMicroseconds } of results.slice(0, 2)) expect(rttMicroseconds).toBeGreaterThan(0);
      // Reset before it was established: the server's program never saw it.
      expect(net.sh("peer", "ss -Htan state established 'sport = :8080'").trim()).toBe("");
    });
  });

  describe.each([4, 6] as const)("TCP in packets of our own that the kernel routes, over IPv%d", (family) => {
    const routed = (port: number, timeoutMs = LONG_MS): ProbeRequest => ({
      ...ask("tcp", port, SERVERS[family], timeoutMs),
      source: BOX[family],
    });

    test("it finds what a socket would, and the server is left with no connection", async () => {
      const results = await probe(routed(OPEN), routed(CLOSED), routed(DROPPED, SILENT_MS), routed(REJECTED));
      expect(results.map(({ kind, code }) => code || kind)).toEqual([
        "success",
        "ECONNREFUSED",
        "ETIMEDOUT",
        family === 4 ? "EHOSTUNREACH" : "EACCES",
      ]);
      expect(results[0]?.rttMicroseconds).toBeGreaterThan(0);
      expect(net.sh("peer", "ss -Htan state connected 'sport = :8080'").trim()).toBe("");
    });

    test("an address that nobody has is unreachable or silent; one without a route fails at once", async () => {
      const nowhere = ip(family === 4 ? "198.51.100.1" : "2001:db8:ffff::1");
      const [nobody, unrouted] = await probe(
        { ...routed(OPEN, SILENT_MS), target: NOBODY[family] },
        { ...routed(OPEN), target: nowhere },
      );
      expect(["ETIMEDOUT", "EHOSTUNREACH"]).toContain(nobody?.code ?? "");
      expect(unrouted).toMatchObject({ kind: "failure", code: "ENETUNREACH" });
    });
  });

  test.each([
    ["past the routing", true],
    ["by the routing", false],
  ])("a SYN that was lost is repeated within the attempt, %s", async (_, isDirect) => {
    for (const family of [4, 6] as const) {
      const target = isDirect ? VIPS[family] : SERVERS[family];
      const way = { interfaceIndex: boxInterface, mac: mac("02:00:00:00:00:0c"), source: BOX[family] };
      const request = { ...ask("tcp", LOSSY, target, LONG_MS), ...(isDirect ? { way } : { source: BOX[family] }) };
      // Which of the two was answered cannot be told, so there is no round-trip time.
      expect(await probe(request)).toEqual([{ kind: "success", code: "", rttMicroseconds: 0 }]);
    }
  });

  test("more probes of our own wait at once than there are source ports", async () => {
    const many = new ProbeSockets(4096);
    const codes = new Map<string, number>();
    await net.inside("box", async () => {
      for (let port = FIRST_DEAF; port <= LAST_DEAF; port++)
        many.start({ ...ask("tcp", port), source: BOX[4] }, ({ code }) => codes.set(code, (codes.get(code) ?? 0) + 1));
      for (many.poll(); many.active > 0; many.poll()) await Bun.sleep(5);
    });
    many.close();
    expect([...codes]).toEqual([["ETIMEDOUT", LAST_DEAF - FIRST_DEAF + 1]]);
  });

  test("source ports are 2048 to 4095, a new one each time, and none that somebody holds", async () => {
    const holder = net.start(
      "box",
      "python3",
      "-c",
      'import socket, sys\nheld = [socket.create_server(("", port)) for port in range(2050, 2060)]\nprint("ready", flush=True)\nsys.stdin.read()',
    );
    await holder.line();
    const results = await probe(...Array.from({ length: 40 }, () => ask("tcp", OPEN, SERVERS[4], LONG_MS)));
    expect(results.every(({ kind }) => kind === "success")).toBe(true);
    const ports = [];
    for (let index = 0; index < 40; index++) ports.push(Number(await server.line()));
    expect(new Set(ports).size).toBe(40);
    for (const port of ports) expect(port >= 2048 && port <= 4095 && !(port >= 2050 && port < 2060)).toBe(true);
    await holder.kill();
  });

  test("a connection that was established leaves nothing behind", async () => {
    await probe(...Array.from({ length: 5 }, () => ask("tcp", OPEN, SERVERS[4], LONG_MS)));
    for (let index = 0; index < 5; index++) await server.line();
    expect(net.sh("box", "ss -Htan state all 'dport = :8080'").trim()).toBe("");
  });

  test("100 probes that hang keep nobody waiting", async () => {
    const hanging = Array.from({ length: 100 }, () => ask("tcp", DROPPED, SERVERS[4], 60_000));
    await net.inside("box", async () => {
      for (const request of hanging) sockets.start(request, () => undefined);
      sockets.poll();
    });
    expect(sockets.active).toBe(100);
    expect(await probe(ask("tcp", OPEN, SERVERS[4], LONG_MS), ask("ping", 0, SERVERS[4], LONG_MS))).toMatchObject([
      { kind: "success" },
      { kind: "success" },
    ]);
    await server.line();
    expect(sockets.active).toBe(100);
  });

  /** The server's kernel answers within microseconds, unless nobody lets it. */
  const IN_TIME_MS = 1000;

  test("who looks late takes nobody for dead that answered in time", async () => {
    const results: ProbeResult[] = [];
    await net.inside("box", async () => {
      const ways = [ask("ping", OPEN, SERVERS[4], IN_TIME_MS), ask("tcp", OPEN, SERVERS[4], IN_TIME_MS)];
      for (const request of [...ways, { ...ask("tcp", OPEN, SERVERS[4], IN_TIME_MS), source: BOX[4] }])
        sockets.start(request, (one) => results.push(one));
      sockets.poll();
      const accepted = server.line();
      await accepted;
      await Bun.sleep(IN_TIME_MS + 100); // past the deadline: being late is what this is about
      sockets.poll();
    });
    expect(results.map(({ kind }) => kind)).toEqual(["success", "success", "success"]);
    for (const { rttMicroseconds } of results) expect(rttMicroseconds).toBeLessThan(IN_TIME_MS * 1000);
  });

  test("a cancelled probe gives no result and its place is free", async () => {
    let told = 0;
    await net.inside("box", async () => {
      const cancelled = sockets.start(ask("tcp", DROPPED, SERVERS[4], 60_000), () => told++);
      sockets.poll();
      cancelled?.();
      sockets.start(ask("tcp", DROPPED, SERVERS[4], 60_000), () => told++)?.(); // before it was sent
    });
    await probe(ask("ping", 0, SERVERS[4], LONG_MS));
    expect([told, sockets.active]).toEqual([0, 0]);
  });

  test("of several that wait to be sent the rest is sent when one is cancelled", async () => {
    const found: string[] = [];
    await net.inside("box", async () => {
      const [first] = [OPEN, CLOSED, OPEN].map((port, index) =>
        sockets.start(ask("tcp", port, SERVERS[4], LONG_MS), ({ kind }) => found.push(`${index} ${kind}`)),
      );
      first?.();
      for (sockets.poll(); sockets.active > 0; sockets.poll()) await Bun.sleep(2);
    });
    await server.line();
    expect(found.sort()).toEqual(["1 failure", "2 success"]);
  });

  test("a prober that is full says so and goes on when there is room", async () => {
    const small = new ProbeSockets(1);
    expect(small.start(ask("tcp", DROPPED), () => undefined)).not.toBeNull();
    expect(small.start(ask("tcp", DROPPED), () => undefined)).toBeNull();
    small.close();
  });
});
