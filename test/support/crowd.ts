/** Typed access to test/e2e/crowd.py: many real TCP connections inside a laboratory. */
import { expect } from "bun:test";
import type { Lab, Running } from "../../src/lab/lab.ts";
import type { Family } from "../../src/lab/topology.ts";
import { listenAddresses, type RuleType, serverPortOf } from "./e2e.ts";

const CROWD = new URL("../e2e/crowd.py", import.meta.url).pathname;

/** Far more than a crowd takes for one word of command. */
const PATIENCE_MS = 100_000;

/** What became of a word of command, over all connections. */
export interface CrowdReport {
  /** Connections by the server that answered. */
  readonly answered: Readonly<Record<string, number>>;
  /** Connections that another server answered than the first time. */
  readonly moved: number;
  /** One line per failed connection; after 20 only how many more. */
  readonly failures: readonly string[];
}

/** Starts a line server named `id` and waits until it listens. @param address one or more, joined by commas. */
export async function startLineServer(lab: Lab, namespace: string, id: string, address: string, port: number) {
  const running = lab.start(namespace, ["python3", CROWD, "serve", id, address, String(port)]);
  await running.line(/^ready$/);
  return running;
}

/** A line server in every server's namespace, where rules of `type` look for it. */
export async function startLineServers(lab: Lab, type: RuleType, families: readonly Family[]): Promise<void> {
  await Promise.all(
    lab.names.servers.map((name, index) =>
      startLineServer(lab, name, `s${index + 1}`, listenAddresses(lab, type, index, families), serverPortOf(type)),
    ),
  );
}

export interface Crowd {
  /** Opens what is not open yet, and lets every connection exchange a line with its server. */
  ask(): Promise<CrowdReport>;
  /** Closes every connection, from this end first. */
  close(): Promise<void>;
}

/** What one process may hold: below the usual limits of open files for those who may not lift them. */
const CONNECTIONS_PER_PROCESS = 8_000;

/** A crowd of `count` connections to `target` from the client's namespace; ask() opens them. */
export function startCrowd(
  lab: Lab,
  target: { readonly host: string; readonly port: number; readonly from: readonly string[] },
  count: number,
): Crowd {
  const processes = Math.ceil(count / CONNECTIONS_PER_PROCESS);
  const parts = Array.from({ length: processes }, (_, index) => {
    const share = Math.floor(count / processes) + (index < count % processes ? 1 : 0);
    const words = ["hold", target.host, String(target.port), String(share), target.from.join(",")];
    return lab.start(lab.names.client, ["python3", CROWD, ...words], "pipe");
  });
  let answers = 0;
  const command = async (word: string): Promise<CrowdReport> => {
    answers++;
    for (const part of parts) part.type(word);
    const lines = await Promise.all(parts.map((part) => nthLine(part, answers)));
    return sumOf(lines.map((line) => JSON.parse(line) as CrowdReport));
  };
  return {
    ask: () => command("ask"),
    close: async () => {
      await command("close");
      for (const part of parts) part.endInput();
      await Promise.all(parts.map((part) => part.exited));
    },
  };
}

function sumOf(reports: readonly CrowdReport[]): CrowdReport {
  const answered: Record<string, number> = {};
  for (const report of reports) {
    for (const [server, count] of Object.entries(report.answered)) answered[server] = (answered[server] ?? 0) + count;
  }
  const moved = reports.reduce((sum, report) => sum + report.moved, 0);
  return { answered, moved, failures: reports.flatMap((report) => report.failures) };
}

/** Waits for the n-th line of standard output, counted from 1. */
async function nthLine(running: Running, n: number): Promise<string> {
  const givenUpMs = Date.now() + PATIENCE_MS;
  for (;;) {
    const lines = running.output().split("\n");
    if (lines.length > n) return lines[n - 1] ?? "";
    const hasEnded = await Promise.race([running.exited.then(() => true), Bun.sleep(10).then(() => false)]);
    if (hasEnded) throw new Error(`the crowd ended: ${running.errors()}`);
    if (Date.now() > givenUpMs) throw new Error(`the crowd did not answer within ${PATIENCE_MS} ms`);
  }
}

/** Which end closes its half of a connection first. */
export type Closer = "client" | "server";

/** Connects `rounds` times in a row from the same `ports` source ports, one line each. */
export async function churn(
  lab: Lab,
  target: { readonly host: string; readonly port: number; readonly from: readonly string[] },
  options: { readonly rounds: number; readonly firstPort: number; readonly ports: number; readonly closer: Closer },
): Promise<Omit<CrowdReport, "moved">> {
  const { rounds, firstPort, ports, closer } = options;
  const source = target.from[0] ?? "";
  const words = ["churn", target.host, target.port, rounds, source, firstPort, ports, closer].map(String);
  return JSON.parse(await lab.must(lab.names.client, ["python3", CROWD, ...words])) as CrowdReport;
}

/** Every connection was answered, by the server that answered first, and every server answers some. */
export function expectCrowdServed(report: CrowdReport, count: number, servers: number): void {
  expect(report.failures).toEqual([]);
  expect(report.moved).toBe(0);
  expect(Object.values(report.answered).reduce((sum, answers) => sum + answers, 0)).toBe(count);
  expect(Object.keys(report.answered)).toHaveLength(servers);
}

/** How many flows show-nat lists. @param vip of this VIP only */
export async function flowCount(lab: Lab, vip = ""): Promise<number> {
  return (await lab.configure("show-nat")).split("\n").filter((line) => line.includes(` > ${vip}`)).length;
}
