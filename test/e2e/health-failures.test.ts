/**
 * Every way in which a server can fail, side by side under traffic: clients of healthy servers notice nothing of the
 * others, those of a failing one only until it is found out, and afterwards everybody is where they were.
 */
import { describe, expect, test } from "bun:test";
import type { LoadReport } from "../../src/lab/jobs.ts";
import { type Lab, SERVER_PORT } from "../../src/lab/lab.ts";
import type { LabOptions } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun, isFullRun } from "../support/capabilities.ts";
import {
  FAMILIES,
  labOptionsFor,
  type RuleType,
  serverPortOf,
  TEST_TIMEOUT_MS,
  targetOf,
  VIP_PORT,
  vipOf,
  withLab,
} from "../support/e2e.ts";
import { createCheckedRule, reachStates, serving, statesOf } from "../support/health.ts";

/** A server that answers late while the file is there. Arguments: ID, port, file, addresses. */
const MOODY = `
import http.server, os, socket, sys, threading, time
name, port, flag = sys.argv[1], int(sys.argv[2]), sys.argv[3]
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        if os.path.exists(flag): time.sleep(2)
        body = (name + "\\n").encode()
        self.send_response(200)
        self.send_header("x-server", name)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *words): pass
class Server(http.server.ThreadingHTTPServer):
    def __init__(self, address):
        self.address_family = socket.AF_INET6 if ":" in address else socket.AF_INET
        super().__init__((address, port), Handler)
for address in sys.argv[4:]:
    threading.Thread(target=Server(address).serve_forever).start()
print("ready", flush=True)
`;

const firewall = (port: number, verdict: string): string =>
  `nft add table inet wall; nft add chain inet wall in "{ type filter hook input priority 0; }"; nft add rule inet wall in tcp dport ${port} ${verdict}`;
const OPEN = "nft delete table inet wall";

/** In the order of addresses: s1 and s2 stay healthy. What an HTTP test and a TCP test find. */
const FOUND = [
  ["alive", "alive"],
  ["alive", "alive"],
  ["dead", "dead"], // killed
  ["dead", "alive"], // frozen: its kernel still accepts
  ["dead", "dead"], // new connections dropped
  ["dead", "dead"], // refused by ICMP
  ["dead", "dead"], // refused by reset
  ["dead", "alive"], // answers later than hc-timeout
  ["unreach", "unreach"], // off the wire
] as const;
const HEALTHY = ["s1", "s2"];
const ALIVE = FOUND.map(() => "alive");

interface Farm {
  fail(): Promise<void>;
  recover(): Promise<void>;
}

async function startFarm(lab: Lab, port: number, vip: string | null): Promise<Farm> {
  const { names, addresses } = lab;
  const flag = `${lab.directory}/slow`;
  const moody = [addresses.server(7), ...(vip === null ? [] : [vip])];
  const starting = [0, 1, 2, 3, 4, 5, 6, 8].map((index) => lab.startServer(index, port));
  await lab.start(names.servers[7]!, ["python3", "-c", MOODY, "s8", String(port), flag, ...moody]).line(/^ready$/);
  const running = await Promise.all(starting);
  const sh = (index: number, script: string) => lab.must(names.servers[index]!, ["sh", "-ec", script]);
  return {
    async fail() {
      await Promise.all([
        running[2]!.stop("SIGKILL"),
        process.kill(running[3]!.pid, "SIGSTOP"),
        sh(4, firewall(port, "tcp flags syn drop")),
        sh(5, firewall(port, "reject with icmpx port-unreachable")),
        sh(6, firewall(port, "reject with tcp reset")),
        Bun.write(flag, ""),
        // Or its IPv6 address would be gone for good.
        sh(8, "echo 1 > /proc/sys/net/ipv6/conf/eth0/keep_addr_on_down; ip link set eth0 down"),
      ]);
    },
    async recover() {
      process.kill(running[3]!.pid, "SIGCONT");
      await Promise.all([
        lab.startServer(2, port),
        ...[4, 5, 6].map((index) => sh(index, OPEN)),
        Bun.file(flag).delete(),
        sh(8, `ip link set eth0 up; ip route replace default via ${addresses.boxBack}`),
      ]);
    },
  };
}

/** Waits until so many more requests have been answered or have failed. */
async function more(reports: () => readonly LoadReport[], count: number): Promise<void> {
  for (const wanted = reports().length + count; reports().length < wanted; ) await Bun.sleep(50);
}

const CASES = [
  { type: "HALF-NAT", io: "packet", family: 4 },
  { type: "NAT", io: "packet", family: 6 },
  { type: "HALF-NAT", io: "tun", family: 6 },
] as const satisfies readonly { type: RuleType; io: "packet" | "tun"; family: 4 | 6 }[];

describe.each(CASES.slice(0, isFullRun ? CASES.length : 1))("$type over $io, IPv$family", ({ type, io, family }) => {
  const isPossible = io === "tun" ? hasTun : hasNamespaces;
  const options: Omit<LabOptions, "tag"> = {
    ...labOptionsFor(type, family),
    servers: FOUND.length,
    clientAddresses: 24,
  };

  test.skipIf(!isPossible)(
    "servers are killed, frozen, firewalled, slowed down and cut off while clients go on: none of a healthy server notices",
    async () => {
      await withLab(options, async (lab) => {
        const port = serverPortOf(type);
        const farm = await startFarm(lab, port, null);
        await lab.startDaemon({ io });
        // Clients stay with their servers, so it is known whom a request that failed was meant for.
        await createCheckedRule(lab, { type, test: "HTTP,hc-path=/", algorithm: "hip", serverPort: port });
        const beside = { type, name: "beside", port: VIP_PORT + 1, makesGroup: false } as const;
        await createCheckedRule(lab, { ...beside, test: "tcp", serverPort: port });
        await reachStates(lab, ALIVE);
        await reachStates(lab, ALIVE, "beside");

        const load = lab.startLoad({ ...targetOf(lab), perSecond: 60, timeoutMs: 10_000 });
        await more(load.reports, 2 * lab.clientAddresses.length);
        const failedAtMs = Date.now();
        await farm.fail();
        await reachStates(
          lab,
          FOUND.map(([byHttp]) => byHttp),
        );
        await reachStates(
          lab,
          FOUND.map(([, byTcp]) => byTcp),
          "beside",
        );
        const foundAtMs = Date.now();
        await more(load.reports, 2 * lab.clientAddresses.length);
        const mendedAtMs = Date.now();
        await farm.recover();
        await reachStates(lab, ALIVE);
        await reachStates(lab, ALIVE, "beside");
        const recoveredAtMs = Date.now();
        await more(load.reports, 2 * lab.clientAddresses.length);

        // In the order in which they began, which is the order of source addresses.
        const reports = (await load.stop()).sort((a, b) => a.atMs - b.atMs);
        const sourceOf = (index: number) => index % lab.clientAddresses.length;
        const homes = reports.slice(0, lab.clientAddresses.length).map(({ server }) => server);
        const within = (fromMs: number, toMs: number) =>
          reports
            .map((report, index) => ({ ...report, home: homes[sourceOf(index)] }))
            .filter(({ atMs }) => atMs >= fromMs && atMs < toMs);

        // What was under way when servers began to fail may have failed with them.
        const ended = within(0, failedAtMs).filter(({ atMs, tookMs }) => atMs + tookMs < failedAtMs);
        for (const quiet of [ended, within(recoveredAtMs, Number.POSITIVE_INFINITY)])
          for (const { server, failure, home } of quiet) expect([failure, server]).toEqual([null, home!]);
        const hurt = reports
          .map((report, index) => ({ ...report, home: homes[sourceOf(index)] }))
          .filter(({ failure }) => failure);
        expect(hurt.filter(({ home }) => HEALTHY.includes(home!))).toEqual([]);
        const settled = within(foundAtMs, mendedAtMs);
        expect(settled.length).toBeGreaterThan(0);
        expect(settled.filter(({ failure }) => failure !== null)).toEqual([]);
        for (const { server } of settled) expect(HEALTHY).toContain(server!);
        for (const { server, home } of within(failedAtMs, mendedAtMs))
          if (HEALTHY.includes(home!)) expect(server).toBe(home!);
      });
    },
    TEST_TIMEOUT_MS,
  );
});

/**
 * Asks again and again over one connection. Arguments: host, port, seconds to wait. Says who answered, and "cut" when
 * nobody does.
 */
const CONVERSATION = `
import http.client, sys, time
talk = http.client.HTTPConnection(sys.argv[1], int(sys.argv[2]), timeout=int(sys.argv[3]))
talk.connect()
hold = talk.sock
while True:
    try:
        talk.request("GET", "/")
        print(talk.getresponse().read().decode().strip(), flush=True)
    except OSError:
        print("cut", flush=True)
        break
    if talk.sock is not hold: sys.exit("another connection")
    time.sleep(0.1)
`;

describe.skipIf(!hasNamespaces)("connections of a server that is found dead", () => {
  test(
    "ILB-209 they go on; with conn-drain they end when it has passed",
    async () => {
      await withLab({ servers: 1 }, async (lab) => {
        await lab.startServer(0);
        await lab.startDaemon();
        await createCheckedRule(lab, { type: "HALF-NAT", test: "tcp" });
        const drained = { name: "drained", port: VIP_PORT + 1, makesGroup: false, timers: "conn-drain=1" } as const;
        await createCheckedRule(lab, { type: "HALF-NAT", test: "tcp", ...drained });
        await reachStates(lab, ["alive"]);
        await reachStates(lab, ["alive"], "drained");
        const talk = (port: number, seconds: number) =>
          lab.start(lab.names.client, ["python3", "-c", CONVERSATION, vipOf(lab), `${port}`, `${seconds}`]);
        const [kept, cut] = [talk(VIP_PORT, 60), talk(VIP_PORT + 1, 2)];
        await Promise.all([kept.line(/^s1$/), cut.line(/^s1$/)]);
        await lab.must(lab.names.servers[0]!, ["sh", "-ec", firewall(SERVER_PORT, "tcp flags syn drop")]);
        await reachStates(lab, ["dead"]);
        await reachStates(lab, ["dead"], "drained");
        await cut.line(/^cut$/);
        const before = kept.output().length;
        while (kept.output().length < before + 10) await Bun.sleep(20);
        expect(kept.output()).toMatch(/^(s1\n)+$/);
      });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-219 a server disabled while dead, and a rule: back and healthy they are used at once and stay in",
    async () => {
      await withLab({ servers: 2 }, async (lab) => {
        await lab.startServer(0);
        const victim = await lab.startServer(1);
        await lab.startDaemon();
        await createCheckedRule(lab, { type: "HALF-NAT", test: "tcp" });
        await reachStates(lab, ["alive", "alive"]);
        await victim.stop("SIGKILL");
        await reachStates(lab, ["alive", "dead"]);
        await lab.configure("disable-server", "_web.1");
        expect(await statesOf(lab)).toEqual(["alive", "disabled"]);
        await lab.startServer(1);
        await lab.configure("enable-server", "_web.1");
        expect(await statesOf(lab)).toEqual(["alive", "un-init"]);
        await reachStates(lab, ["alive", "alive"]);
        const audit = await lab.configure("show-audit");
        expect(audit.match(/health of _web\.1 in www: /g)).toHaveLength(1);
      });
    },
    TEST_TIMEOUT_MS,
  );
});

describe.skipIf(!hasNamespaces)("one-armed, the VIP being the box's only address", () => {
  test.each(FAMILIES.slice(0, isFullRun ? 2 : 1).map((family) => ({ family })))(
    "over IPv$family: answers to probes, ICMP errors too, come back to the VIP, and no statistics count them",
    async ({ family }) => {
      await withLab({ topology: "one-armed", families: [family] }, async (lab) => {
        await lab.startServer(0);
        const victim = await lab.startServer(1);
        await lab.startServer(2);
        await lab.startDaemon();
        await createCheckedRule(lab, { type: "HALF-NAT", test: "udp", protocol: "udp" });
        await createCheckedRule(lab, { type: "HALF-NAT", test: "tcp", name: "beside", makesGroup: false });
        await reachStates(lab, ["alive", "alive", "alive"]);
        await reachStates(lab, ["alive", "alive", "alive"], "beside");
        await victim.stop("SIGKILL");
        await reachStates(lab, ["alive", "dead", "alive"]);
        await reachStates(lab, ["alive", "dead", "alive"], "beside");
        expect(await lab.configure("show-audit")).toContain("alive -> dead (port unreachable)");
        const counted = await lab.configure("show-statistics", "-p", "-o", "PKT_P,PKT_U,PKT_D,ICMP_P,ICMP_D");
        expect(counted).toBe("0:0:0:0:0\n");
        expect(await serving(lab)).toEqual(["s1", "s3"]);
      });
    },
    TEST_TIMEOUT_MS,
  );
});
