/**
 * What health checks cost: a thousand servers, each checked every second by a connection behind the default ping, all
 * alive. The servers' kernel works on a thread of its own (NAPI on a veth), so that its time is not taken for ours.
 */
import { readdirSync, readFileSync } from "node:fs";
import { Lab } from "../../src/lab/lab.ts";
import { ROUTED_VIP } from "../../src/lab/topology.ts";
import type { BenchContext, BenchRow, BenchSides } from "../row.ts";

const SERVERS = 1000;
const PORT = 8001;
/** Checks are 1 to 3 s apart, 2 s on average: two rules over the same servers make one a second. */
const CHECK = "hc-test=tcp,hc-timeout=1,hc-count=1,hc-interval=2";
const RULES = ["a", "b"] as const;
/** A window in which every check is met, and the programs of the main thread are compiled before the first. */
const WINDOW_MS = 4000;
const SETTLING_MS = 8000;

/** Addresses for benchmarks (RFC 2544, appendix C.2.2). */
const addressOf = (index: number): string => `198.18.${index >> 8}.${index & 255}`;

const ACCEPTOR = `
import socket
listener = socket.create_server(("", ${PORT}), backlog=4096)
print("ready", flush=True)
while True: listener.accept()[0].close()
`;

/** Processor time of each thread of a process so far, nanoseconds. */
function threadsNs(pid: number): Map<string, number> {
  const threads = new Map<string, number>();
  for (const task of readdirSync(`/proc/${pid}/task`)) {
    try {
      threads.set(task, Number(readFileSync(`/proc/${pid}/task/${task}/schedstat`, "utf8").split(" ")[0]));
    } catch {
      // The thread has ended meanwhile.
    }
  }
  return threads;
}

/** Per cent of a core that a process takes. A thread that ends meanwhile takes its count with it, and is left out. */
async function load(pid: number, milliseconds: number): Promise<number> {
  const [before, startMs] = [threadsNs(pid), performance.now()];
  await Bun.sleep(milliseconds);
  let usedNs = 0;
  for (const [task, ns] of threadsNs(pid)) usedNs += ns - (before.get(task) ?? 0);
  return (usedNs / 1e6 / (performance.now() - startMs)) * 100;
}

/** Commands of ip(8), one a line. */
async function batch(lab: Lab, namespace: string, lines: readonly string[]): Promise<void> {
  const done = await lab.exec(namespace, ["ip", "-batch", "-"], lines.join("\n"));
  if (done.exitCode !== 0) throw new Error(`ip -batch: ${done.stderr.trim()}`);
}

/** The servers, all in one namespace, on a wire of their own to the box. */
async function connect(lab: Lab): Promise<void> {
  const { box } = lab.names;
  const server = lab.names.servers[0]!;
  await lab.must(box, ["ip", "link", "del", "back"]);
  const wire = `ip link del eth0 2>/dev/null; ip link add dev eth0 type veth peer name back netns ${box}
    ip link set eth0 up; ip address add ${lab.addresses.server(0)}/24 dev eth0
    ethtool -K eth0 gro on; echo 1 > /sys/class/net/eth0/threaded`;
  await lab.must(server, ["sh", "-c", wire]);
  // Segments that are not to be cut go to the thread.
  const near = `ethtool -K back tso off; ip link set back up; ip address add ${lab.addresses.boxBack}/24 dev back
    ip route add 198.18.0.0/22 dev back`;
  await lab.must(box, ["sh", "-ec", near]);
  await lab.must(server, ["ip", "route", "replace", "default", "via", lab.addresses.boxBack]);
  const addresses = Array.from({ length: SERVERS }, (_, index) => `address add ${addressOf(index)}/32 dev eth0`);
  await batch(lab, server, addresses);
  // The kernel keeps some thousand neighbours of all namespaces together; permanent ones do not count.
  const mac = (await lab.must(server, ["cat", "/sys/class/net/eth0/address"])).trim();
  const neighbours = Array.from(
    { length: SERVERS },
    (_, index) => `neighbour add ${addressOf(index)} lladdr ${mac} dev back nud permanent`,
  );
  await batch(lab, lab.names.box, neighbours);
  await lab.start(server, ["python3", "-c", ACCEPTOR]).line(/^ready$/);
}

async function configure(lab: Lab): Promise<void> {
  const members = Array.from({ length: SERVERS }, (_, index) => `${addressOf(index)}:${PORT}`);
  await lab.configure("create-servergroup", "-s", `server=${members.join(",")}`, "web");
  await lab.configure("create-healthcheck", "-h", CHECK, "hc1");
  for (const [index, rule] of RULES.entries()) {
    const incoming = `vip=${ROUTED_VIP},port=${80 + index}`;
    const method = ["-m", "type=HALF-NAT", "-h", "hc-name=hc1", "-o", "servergroup=web"];
    await lab.configure("create-rule", "-i", incoming, ...method, rule);
  }
}

/** @throws unless every server is alive in both rules */
async function expectAlive(lab: Lab): Promise<void> {
  for (const rule of RULES) {
    const alive = (await lab.configure("show-hc-result", rule)).split("\n").filter((line) => / alive /.test(line));
    if (alive.length !== SERVERS) throw new Error(`${alive.length} of ${SERVERS} servers are alive in rule ${rule}`);
  }
}

async function setup(context: BenchContext): Promise<BenchSides> {
  const lab = await Lab.create({ tag: "bench", servers: 1 });
  try {
    await connect(lab);
    const { pid } = await lab.startDaemon({ io: "packet" });
    await configure(lab);
    const windowMs = context.quick ? WINDOW_MS / 2 : WINDOW_MS;
    await Bun.sleep(context.quick ? windowMs : SETTLING_MS);
    const idle = await load(pid, windowMs);
    for (const rule of RULES) await lab.configure("enable-rule", rule);
    await Bun.sleep(context.quick ? WINDOW_MS : SETTLING_MS);
    await expectAlive(lab);
    return {
      ours: async () => {
        const share = await load(pid, windowMs);
        await expectAlive(lab);
        return Math.max(0, share - idle);
      },
      parts: () => ({ idle }),
      close: () => lab.close(),
    };
  } catch (error) {
    await lab.close();
    throw error;
  }
}

export default {
  id: "health.probes.1k",
  unit: "% of a core",
  better: "lower",
  peerName: null,
  what: "processor time of the whole daemon above that without checks: 1000 servers, each pinged and connected to once a second",
  setup,
} satisfies BenchRow;
