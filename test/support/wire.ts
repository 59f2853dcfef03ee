/** Typed access to test/e2e/wire.py: packets made by hand inside a laboratory. */
import type { Lab, Running } from "../../src/lab/lab.ts";

const WIRE = new URL("../e2e/wire.py", import.meta.url).pathname;

/** Where packets go. */
export interface WireTarget {
  readonly host: string;
  readonly port: number;
}

async function run<T>(lab: Lab, words: readonly (string | number)[], input?: string): Promise<T> {
  const done = await lab.exec(lab.names.client, ["python3", WIRE, ...words.map(String)], input);
  if (done.exitCode !== 0) throw new Error(`wire.py ${words.join(" ")}: ${done.stderr.trim()}`);
  return JSON.parse(done.stdout) as T;
}

/** One datagram from each of `ports` source ports of every source; nothing answers them. @returns how many */
export async function flood(
  lab: Lab,
  target: WireTarget,
  sources: readonly string[],
  firstPort: number,
  ports: number,
): Promise<number> {
  const words = ["flood", target.host, target.port, sources.join(","), firstPort, ports];
  return (await run<{ sent: number }>(lab, words)).sent;
}

/** Starts a UDP server that answers in fragments cut by hand. @param addresses joined by commas */
export async function startFragmentServer(
  lab: Lab,
  namespace: string,
  id: string,
  addresses: string,
  port: number,
  mtu = 1_500,
): Promise<Running> {
  const running = lab.start(namespace, ["python3", WIRE, "answer", id, addresses, String(port), String(mtu)]);
  await running.line(/^ready$/);
  return running;
}

/** A message of `bytes`, and which of its fragments leave, in which order. */
export interface Cut {
  readonly bytes: number;
  readonly order: readonly number[];
}

export interface Request extends Cut {
  /** Names it, and chooses its bytes. */
  readonly number: number;
  readonly answer: Cut;
  /** No answer can come: a fragment is missing on one of the two ways. */
  readonly silent?: boolean;
}

export interface ExchangeReport {
  /** Server by request number. */
  readonly answered: Readonly<Record<string, string>>;
  /** Whatever came that is no right answer. */
  readonly wrong: readonly string[];
  readonly missing: readonly number[];
}

/** Sends all requests in one go from one port and waits for what must be answered. */
export function exchange(
  lab: Lab,
  target: WireTarget,
  from: { readonly address: string; readonly port: number },
  requests: readonly Request[],
  mtu = 1_500,
): Promise<ExchangeReport> {
  const words = ["exchange", target.host, target.port, from.address, from.port, mtu];
  return run(lab, words, requests.map((request) => `${JSON.stringify(request)}\n`).join(""));
}

/** A request and an answer that need no fragments. */
export function shortRequest(number: number): Request {
  return { number, bytes: 200, order: [0], answer: { bytes: 200, order: [0] } };
}

/** What came back to a probe. */
export interface ProbeAnswer {
  readonly from: string;
  readonly kind: "answer" | "error";
  readonly type: number;
  readonly code: number;
  /** The probe as it was sent, IP header first, in hexadecimal. */
  readonly sent: string;
  /** Errors only: the last word of the ICMP header, what is quoted (hexadecimal), whether the ICMP checksum holds. */
  readonly mtu?: number;
  readonly quote?: string;
  readonly quoteSummed?: boolean;
}

export interface Probe extends WireTarget {
  readonly kind: "udp" | "tcp" | "echo";
  readonly source: string;
  /** TTL or hop limit. */
  readonly ttl: number;
  /** Of the whole packet. */
  readonly bytes: number;
  /** Above 1: as many at once, and every answer is waited for. */
  readonly count?: number;
}

/** What came back to one kind of probe, and how long sending and waiting took. */
export interface Probed {
  readonly answers: readonly ProbeAnswer[];
  readonly tookMs: number;
}

/** Sends hand-made packets that may not be fragmented, one kind after the other. @returns what came, in the same order */
export function probe(lab: Lab, probes: readonly Probe[]): Promise<Probed[]> {
  return run(lab, ["probe"], probes.map((one) => `${JSON.stringify(one)}\n`).join(""));
}
