/** iperf3 inside a laboratory: servers everywhere, transfers of a number of bytes, its figures as numbers. */
import type { Lab } from "../../src/lab/lab.ts";
import { FAMILIES, listenAddresses, type Protocol, type RuleType } from "./e2e.ts";

/** UDP is paced, far below what any machine loses by itself. */
const UDP_BITS_PER_SECOND = 20_000_000;
const UDP_PAYLOAD_BYTES = 1_200;
/** Between two transfers an iperf3 server is busy for a moment, and closes the socket that it listens on. */
const CONNECT_LIMIT_MS = 60_000;

/**
 * One iperf3 server on each of the addresses where a server of `type` listens. With one for any address, datagrams of
 * direct server return would be answered from the server's own address instead of the VIP.
 */
export async function startIperfServers(lab: Lab, type: RuleType, port: number): Promise<void> {
  const argv = ["iperf3", "--server", "--forceflush", "--port", String(port), "--bind"];
  const start = (name: string, address: string) => lab.start(name, [...argv, address]).line(/listening/);
  await Promise.all(
    lab.names.servers.flatMap((name, index) =>
      listenAddresses(lab, type, index, FAMILIES)
        .split(",")
        .map((address) => start(name, address)),
    ),
  );
}

export interface TransferOrder {
  readonly host: string;
  readonly port: number;
  readonly source: string;
  readonly protocol: Protocol;
  /** Over all connections. */
  readonly bytes: number;
  readonly streams: number;
  /** The server sends. */
  readonly isReverse: boolean;
}

export interface Transfer {
  readonly sentBytes: number;
  readonly receivedBytes: number;
  /** TCP segments that were sent again. */
  readonly repeats: number;
  /** UDP datagrams that came out of order. */
  readonly outOfOrder: number;
  /** UDP datagrams before the last one received that did not come: what comes after iperf3's end is not counted. */
  readonly missing: number;
}

interface Sum {
  readonly bytes: number;
  readonly retransmits?: number;
}

interface Output {
  readonly error?: string;
  readonly end: {
    readonly sum_sent: Sum;
    readonly sum_received: Sum;
    readonly streams: readonly { readonly udp?: { readonly out_of_order: number; readonly lost_packets: number } }[];
  };
}

async function run(lab: Lab, argv: readonly string[]): Promise<Output> {
  return JSON.parse((await lab.exec(lab.names.client, argv)).stdout) as Output;
}

/** Moves bytes from the client's namespace. @throws what iperf3 says when it fails */
export async function transfer(lab: Lab, order: TransferOrder): Promise<Transfer> {
  const { host, port, source, protocol, bytes, streams, isReverse } = order;
  const words = ["--client", host, "--port", port, "--bind", source, "--bytes", bytes, "--parallel", streams, "--json"];
  const udp = protocol === "udp" ? ["--udp", "--bitrate", UDP_BITS_PER_SECOND, "--length", UDP_PAYLOAD_BYTES] : [];
  const argv = ["iperf3", ...words, ...udp, ...(isReverse ? ["--reverse"] : [])].map(String);
  let output = await run(lab, argv);
  const untilMs = performance.now() + CONNECT_LIMIT_MS;
  while (/unable to connect|server is busy/.test(output.error ?? "") && performance.now() < untilMs)
    output = await run(lab, argv);
  if (output.error !== undefined) throw new Error(`${argv.join(" ")}: ${output.error}`);
  const { sum_sent, sum_received, streams: perStream } = output.end;
  return {
    sentBytes: sum_sent.bytes,
    receivedBytes: sum_received.bytes,
    repeats: sum_sent.retransmits ?? 0,
    outOfOrder: perStream.reduce((sum, stream) => sum + (stream.udp?.out_of_order ?? 0), 0),
    missing: perStream.reduce((sum, stream) => sum + (stream.udp?.lost_packets ?? 0), 0),
  };
}
