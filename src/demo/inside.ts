/**
 * What happens inside the demo's sandbox: builds the laboratory, starts `ilbd` and the servers, configures by `ilbadm`,
 * sends requests through the VIP and reports. Prints for people; nothing parses it but the tests.
 */
import type { JobResult, LoadSummary } from "../lab/jobs.ts";
import { Lab, SERVER_PORT } from "../lab/lab.ts";
import { PROXY_SOURCES, ROUTED_VIP, serverAddress } from "../lab/topology.ts";
import type { DemoOptions, DemoType } from "./options.ts";

const SERVERS = 3;
const VIP_PORT = 80;
const FILE_BYTES = 100 * 1024 * 1024;
const REQUEST_TIMEOUT_MS = 10_000;

/** What a type needs: servers that can answer for the VIP, their port, and an algorithm. */
function planOf(type: DemoType) {
  // Direct server return leaves ports as they are and keeps no connection entries, so only an algorithm that depends
  // on the client alone sends all packets of a connection to one server.
  if (type === "DSR") return { serverPort: VIP_PORT, method: "lbalg=hash-ip-port,type=DSR" };
  const proxy = type === "NAT" ? `,proxy-src=${PROXY_SOURCES}` : "";
  return { serverPort: SERVER_PORT, method: `lbalg=roundrobin,type=${type}${proxy}` };
}

function say(text = ""): void {
  process.stdout.write(`${text}\n`);
}

/** Prints and runs one `ilbadm` command. @throws when it fails. */
async function ilbadm(lab: Lab, ...words: string[]): Promise<string> {
  say(`$ ilbadm ${words.join(" ")}`);
  const done = await lab.ilbadm(words);
  if (done.stderr !== "") say(done.stderr.trimEnd());
  if (done.exitCode !== 0) throw new Error(`ilbadm ${words[0]} failed with status ${done.exitCode}`);
  return done.stdout;
}

/** Prints a command's first lines. */
async function show(lab: Lab, lines: number, ...words: string[]): Promise<void> {
  const all = (await ilbadm(lab, ...words)).trimEnd().split("\n");
  for (const line of all.slice(0, lines)) say(line);
  if (all.length > lines) say(`... and ${all.length - lines} more`);
}

function printTable(ids: readonly string[], result: JobResult): void {
  const total = Object.values(result.answered).reduce((sum, count) => sum + count, 0);
  const row = (...cells: readonly string[]) =>
    say(
      cells
        .map((cell, index) => cell.padEnd([20, 16, 10, 8][index] ?? 0))
        .join("")
        .trimEnd(),
    );
  say();
  row("SERVERID", "ADDRESS", "ANSWERED", "SHARE");
  for (const [index, id] of ids.entries()) {
    const count = result.answered[id] ?? 0;
    row(id, serverAddress(index), String(count), total === 0 ? "--" : `${((100 * count) / total).toFixed(1)} %`);
  }
  say();
  say(`${total} requests answered, ${result.failures.length} failed`);
  for (const failure of result.failures.slice(0, 5)) say(`  ${failure}`);
}

/** The first part: everything up to the answer whether it works. */
async function prove(lab: Lab, options: DemoOptions, startedMs: number, ids: readonly string[]): Promise<boolean> {
  const plan = planOf(options.type);
  await lab.startServers(plan.serverPort, ids);
  const daemon = await lab.startDaemon({ io: options.io });
  say(`${await daemon.line(/^ilbd ready /)}  (${((Date.now() - startedMs) / 1000).toFixed(1)} s after the start)`);
  say();

  const servers = ids.map((_, index) => `${serverAddress(index)}:${plan.serverPort}`).join(",");
  await ilbadm(lab, "create-servergroup", "-s", `server=${servers}`, "web");
  const incoming = `vip=${ROUTED_VIP},port=${VIP_PORT},protocol=tcp`;
  await ilbadm(lab, "create-rule", "-e", "-i", incoming, "-m", plan.method, "-o", "servergroup=web", "www");
  say((await ilbadm(lab, "show-rule")).trimEnd());

  say();
  say(`${options.requests} requests from ${lab.clientAddresses.length} clients to http://${ROUTED_VIP}/ ...`);
  const target = { host: ROUTED_VIP, port: VIP_PORT, from: lab.clientAddresses };
  const result = await lab.client({
    kind: "requests",
    ...target,
    count: options.requests,
    concurrency: 16,
    timeoutMs: REQUEST_TIMEOUT_MS,
  });
  printTable(ids, result);

  const beganMs = Date.now();
  const file = await lab.client({
    kind: "downloads",
    ...target,
    count: 1,
    concurrency: 1,
    bytes: FILE_BYTES,
    timeoutMs: 60_000,
  });
  const seconds = (Date.now() - beganMs) / 1000;
  const fileArrived = file.failures.length === 0;
  say(
    fileArrived
      ? `a file of 100 MB arrived byte for byte in ${seconds.toFixed(1)} s`
      : `a file of 100 MB: ${file.failures[0]}`,
  );

  say();
  await show(lab, 3, "show-statistics");
  say();
  await show(lab, 4, "show-nat");

  const idle = ids.filter((id) => (result.answered[id] ?? 0) === 0);
  if (idle.length > 0) say(`servers without a single request: ${idle.join(", ")}`);
  return result.failures.length === 0 && idle.length === 0 && fileArrived;
}

/** The second part: requests go on, with a line about them now and then, until `stopped`. */
async function keepGoing(lab: Lab, stopped: Promise<void>): Promise<void> {
  const target = { host: ROUTED_VIP, port: VIP_PORT, from: lab.clientAddresses };
  const load = lab.startSummedLoad({ ...target, perSecond: 50, timeoutMs: REQUEST_TIMEOUT_MS });
  const print = ({ answered, failed }: LoadSummary) => say(`${answered} more requests answered, ${failed} failed`);
  const timer = setInterval(() => print(load.summary()), 10_000);
  await stopped;
  clearInterval(timer);
  print(await load.stop());
}

/**
 * Runs the demo inside the sandbox.
 * @param directory where the parent expects the daemon's socket.
 * @param stopped resolves when the user wants to end.
 * @returns the exit status.
 */
export async function runInside(
  options: DemoOptions,
  directory: string,
  startedMs: number,
  stopped: Promise<void>,
): Promise<number> {
  let isStopping = false;
  void stopped.then(() => {
    isStopping = true;
  });
  const ids = Array.from({ length: SERVERS }, (_, index) => `_web.${index}`);
  let lab: Lab | null = null;
  try {
    say(
      `Building a laboratory: a client, the load balancer (${options.type}, ${options.io}) and ${SERVERS} servers, each a network namespace.`,
    );
    lab = await Lab.create({
      tag: "demo",
      directory,
      servers: SERVERS,
      ...(options.type === "DSR" ? { serverVip: ROUTED_VIP } : {}),
    });
    const work = prove(lab, options, startedMs, ids);
    const isProven = await Promise.race([work, stopped.then(() => null)]);
    if (isProven === null) {
      work.catch(() => {});
      return 130;
    }
    say();
    say(isProven ? "Every request was answered, and every server served." : "The demo FAILED.");
    if (isProven && !options.once) {
      say(READY_FOR_DASHBOARD);
      await keepGoing(lab, stopped);
    }
    return isProven ? 0 : 1;
  } catch (error) {
    if (isStopping) return 130;
    const text = error instanceof Error ? error.message : String(error);
    // A daemon that does not start has said why in one line of its own, behind what else it logged.
    process.stderr.write(`ilbd demo: ${/\bilbd: (.+)$/.exec(text)?.[1] ?? text}\n`);
    return 1;
  } finally {
    await lab?.close();
  }
}

/** The line after which the parent prints where the dashboard is. */
export const READY_FOR_DASHBOARD = "Traffic goes on until Ctrl-C.";
