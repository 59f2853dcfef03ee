/**
 * What can be measured on a side of the laboratory, each meter with what has to run on the servers for it. Every meter
 * throws when what arrived is not what was sent: a wrong result is no result.
 */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { type Side, VIP } from "./side.ts";

const ROOT = join(import.meta.dir, "../..");
const SOURCE = join(ROOT, "bench/native/traffic.c");
const TRAFFIC = join(ROOT, "build/bench/traffic");

export const IPERF_PORT = 5201;
export const UDP_PORT = 9;
export const ECHO_PORT = 7;
export const HTTP_PORT = 80;
const STATUS_PORT = 81;

/** Builds bench/native/traffic.c when its program is missing or older. @throws with the compiler's words. */
export async function buildTraffic(): Promise<void> {
  const [source, program] = [Bun.file(SOURCE), Bun.file(TRAFFIC)];
  if ((await program.exists()) && program.lastModified >= source.lastModified) return;
  mkdirSync(join(ROOT, "build/bench"), { recursive: true });
  const flags = ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-D_GNU_SOURCE"];
  const done = Bun.spawnSync([process.env.CC ?? "gcc", ...flags, "-o", TRAFFIC, SOURCE], { stderr: "pipe" });
  if (done.exitCode !== 0) throw new Error(`${SOURCE} does not compile: ${done.stderr.toString()}`);
}

// ---- bulk TCP ------------------------------------------------------------------------------------------------------

export async function startIperf(side: Side): Promise<void> {
  for (const name of side.lab.names.servers)
    await side.lab.start(name, ["iperf3", "-s", "-p", String(IPERF_PORT), "--forceflush"]).line(/Server listening/);
}

interface IperfReport {
  readonly error?: string;
  readonly end?: { readonly sum_received?: { readonly bits_per_second: number } };
}

/** Gigabits per second that the server received. */
export async function bulkRate(side: Side, streams: number, milliseconds: number): Promise<number> {
  const seconds = Math.max(1, Math.round(milliseconds / 1000));
  const words = `iperf3 -c ${VIP} -p ${IPERF_PORT} -t ${seconds} -P ${streams} -J`.split(" ");
  const report = JSON.parse(await side.lab.must(side.lab.names.client, words)) as IperfReport;
  const bits = report.end?.sum_received?.bits_per_second ?? 0;
  if (bits <= 0) throw new Error(`iperf3 measured nothing: ${report.error ?? "no byte was received"}`);
  return bits / 1e9;
}

// ---- datagrams -----------------------------------------------------------------------------------------------------

/** Where the count of arrived datagrams is kept: before the servers' kernels work on them, which would take processor time. */
const COUNTER = "table netdev bench";

export async function countArrivals(side: Side): Promise<void> {
  for (const [index, name] of side.lab.names.servers.entries())
    await side.lab.must(name, [
      "nft",
      `${COUNTER} {
        counter arrived { }
        chain ingress {
          type filter hook ingress device eth0 priority filter
          ip daddr ${side.serverAddress(index)} udp dport ${UDP_PORT} ip length 46 counter name arrived drop
        }
      }`,
    ]);
}

async function arrived(side: Side): Promise<number> {
  let packets = 0;
  for (const name of side.lab.names.servers) {
    const text = await side.lab.must(name, ["nft", "list", "counter", "netdev", "bench", "arrived"]);
    packets += Number(/packets (\d+)/.exec(text)?.[1] ?? Number.NaN);
  }
  return packets;
}

interface Sent {
  readonly sent: number;
  readonly seconds: number;
}

/** What datagrams are to be sent. */
interface Burst {
  /** 0: as many as one sender can. */
  readonly perSecond: number;
  readonly milliseconds: number;
  readonly flows?: number;
  readonly senders?: number;
}

/** How long nothing may arrive before nothing is expected any more. */
const SILENCE_MS = 60;

/** Sends, and waits until nothing more arrives. `prompt`: how many had arrived when the last one had been sent. */
async function burst(side: Side, { perSecond, milliseconds, flows = 64, senders = 1 }: Burst) {
  const { lab } = side;
  const { client } = lab.names;
  const mac = (await lab.must(lab.names.box, ["cat", "/sys/class/net/front/address"])).trim();
  const before = await arrived(side);
  const words = ["send", "eth0", lab.clientAddresses[0]!, VIP, String(UDP_PORT), mac];
  const runs = Array.from({ length: senders }, () =>
    lab.must(client, [TRAFFIC, ...words, String(flows), String(perSecond), String(milliseconds)]),
  );
  const sent = (await Promise.all(runs)).map((text) => JSON.parse(text) as Sent);
  const total = sent.reduce((sum, one) => sum + one.sent, 0);
  const prompt = (await arrived(side)) - before;
  let [count, changedMs] = [prompt, performance.now()];
  while (count < total && performance.now() - changedMs < SILENCE_MS) {
    const now = (await arrived(side)) - before;
    if (now !== count) changedMs = performance.now();
    count = now;
  }
  if (count > total) throw new Error(`${count} datagrams arrived, ${total} were sent`);
  if (count === 0) throw new Error("no datagram arrived");
  return { sent: total, prompt, arrived: count, seconds: Math.max(...sent.map(({ seconds }) => seconds)) };
}

/** Fewer lost datagrams than this share is none: a shared machine takes a core away now and then. */
const LOSS = 0.002;
/** What may still be under way when the last one has been sent: else a buffer holds the rate, not the box. */
const BACKLOG = 0.05;
/** Halvings of the search. */
const STEPS = 5;

/**
 * The highest rate of one sender of 60-byte frames in 64 flows at which none is lost, thousands per second. First as fast
 * as the sender can; if that is too fast, a search between nothing and what arrived then.
 */
export async function lossFreeRate(side: Side, milliseconds: number): Promise<number> {
  const stepMs = Math.max(100, Math.round(milliseconds / (STEPS + 1)));
  const isClean = (run: Awaited<ReturnType<typeof burst>>) =>
    run.arrived >= run.sent * (1 - LOSS) && run.prompt >= run.sent * (1 - BACKLOG);
  const flatOut = await burst(side, { perSecond: 0, milliseconds: stepMs });
  if (isClean(flatOut)) return flatOut.sent / flatOut.seconds / 1e3;
  let [clean, lossy] = [0, flatOut.sent / flatOut.seconds];
  for (let step = 0; step < STEPS; step++) {
    const perSecond = Math.round((clean + lossy) / 2);
    const run = await burst(side, { perSecond, milliseconds: stepMs });
    if (isClean(run)) clean = run.sent / run.seconds;
    else lossy = perSecond;
  }
  if (clean === 0) throw new Error(`datagrams are lost even at ${Math.round(lossy)} per second`);
  return clean / 1e3;
}

/** What arrives, thousands per second, while two senders send as much as they can. */
export async function saturatedRate(side: Side, milliseconds: number): Promise<number> {
  const run = await burst(side, { perSecond: 0, milliseconds, senders: 2 });
  return run.prompt / run.seconds / 1e3;
}

// ---- round trips ---------------------------------------------------------------------------------------------------

export async function startEcho(side: Side): Promise<void> {
  for (const name of side.lab.names.servers)
    await side.lab.start(name, [TRAFFIC, "echo", "0.0.0.0", String(ECHO_PORT)]).line(/^ready$/);
}

/** Microseconds. */
export interface RoundTrips {
  readonly p50: number;
  readonly p99: number;
}

/** One datagram at a time, each compared with its echo. */
export async function roundTrips(side: Side, milliseconds: number): Promise<RoundTrips> {
  const words = [TRAFFIC, "pingpong", VIP, String(ECHO_PORT), String(milliseconds)];
  const report = JSON.parse(await side.lab.must(side.lab.names.client, words)) as RoundTrips & { lost: number };
  if (report.lost > 0) throw new Error(`${report.lost} datagrams came back wrong or not at all`);
  return report;
}

/** Milliseconds from the start of `ilbd run`, with a configuration that it has, to the first answer of a server. */
export async function startToFirstPacket(side: Side): Promise<number> {
  await side.stopDaemon();
  const { lab } = side;
  const client = lab.start(lab.names.client, [TRAFFIC, "first", VIP, String(ECHO_PORT), "500", "20000"]);
  await client.line(/^ready$/);
  const startedMs = performance.timeOrigin + performance.now();
  side.startDaemon();
  const { atMs } = JSON.parse(await client.line(/^\{/)) as { atMs: number };
  await client.exited;
  return atMs - startedMs;
}

// ---- HTTP ----------------------------------------------------------------------------------------------------------

export async function startNginx(side: Side): Promise<void> {
  const { lab } = side;
  for (const name of lab.names.servers) {
    const file = join(lab.directory, `nginx-${name}.conf`);
    const places = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
      .map((place) => `${place}_temp_path ${lab.directory}/nginx-${place};`)
      .join(" ");
    writeFileSync(
      file,
      `user root; daemon off; worker_processes 1; worker_rlimit_nofile 20000; pid ${file}.pid; error_log stderr crit;
       events { worker_connections 8192; }
       http {
         access_log off; keepalive_requests 100000000; ${places}
         server { listen ${HTTP_PORT} backlog=8192; location / { return 200 "0123456789\n"; } }
         server { listen ${STATUS_PORT}; location / { stub_status; } }
       }`,
    );
    lab.start(name, ["nginx", "-e", "stderr", "-c", file]);
    const listening = `until ss -Hltn 'sport = ${STATUS_PORT}' | grep -q . ; do :; done`;
    await lab.must(name, ["timeout", "10", "sh", "-c", listening]);
  }
}

/** Requests that the servers have answered so far, per server. */
async function answered(side: Side): Promise<number[]> {
  const counts: number[] = [];
  for (const name of side.lab.names.servers) {
    const text = await side.lab.must(name, ["curl", "-sS", `http://127.0.0.1:${STATUS_PORT}/`]);
    counts.push(Number(/^ *\d+ \d+ (\d+)/m.exec(text)?.[1] ?? Number.NaN));
  }
  return counts;
}

const CONNECTIONS = 32;

/** Requests per second, thousands. @param connections `kept`: 32 for all; `new`: one for each */
export async function requestRate(side: Side, connections: "kept" | "new", milliseconds: number): Promise<number> {
  const seconds = Math.max(1, Math.round(milliseconds / 1000));
  const before = await answered(side);
  const close = connections === "new" ? ["-H", "Connection: close"] : [];
  const words = ["wrk", "-t1", `-c${CONNECTIONS}`, `-d${seconds}s`, ...close, `http://${VIP}:${HTTP_PORT}/`];
  const text = await side.lab.must(side.lab.names.client, words);
  const after = await answered(side);
  const requests = Number(/(\d+) requests in/.exec(text)?.[1] ?? 0);
  const perSecond = Number(/Requests\/sec: +([\d.]+)/.exec(text)?.[1] ?? 0);
  const wrong = /Non-2xx.*|Socket errors.*/.exec(text)?.[0];
  if (wrong !== undefined) throw new Error(`wrk: ${wrong}`);
  if (requests === 0 || perSecond === 0) throw new Error(`wrk measured nothing: ${text}`);
  const shares = after.map((count, index) => count - before[index]!);
  const total = shares.reduce((sum, share) => sum + share, 0);
  if (total < requests) throw new Error(`${requests} requests were answered, the servers know of ${total}`);
  if (shares.some((share) => share < total / shares.length / 4))
    throw new Error(`the servers did not share the work: ${shares.join(", ")} requests`);
  return perSecond / 1e3;
}
