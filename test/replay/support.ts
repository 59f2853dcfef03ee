/** Captures in, captures and verdicts out: runs the real program in a directory of its own. */
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { type Capture, LINKTYPE_ETHERNET, type PcapStyle, readCapture, writePcap } from "../../src/device/pcap.ts";
import { type Finished, ILBD, run } from "../daemon/daemon.ts";
import { ip, mac } from "../support/addresses.ts";
import { ETHERTYPE_IPV4, ethernet, ipv4, PROTOCOL_TCP, PROTOCOL_UDP, tcp, udp } from "../support/packet-builder.ts";
import "../support/wasm-engine.ts"; // builds the engine when it is older than its sources

export const CLIENT_MAC = "02:0c:00:00:00:01";
export const START_NS = 1_800_000_000_000_000_000n;

export interface Verdict {
  readonly n: number;
  readonly verdict: string;
  readonly reason: string;
  readonly rule: string | null;
  readonly server: string | null;
  readonly direction: string;
  readonly flow: string;
  readonly out: number;
}

export interface Packet {
  readonly timeNs: bigint;
  readonly bytes: Uint8Array;
  readonly originalLength?: number;
}

/** A packet so many milliseconds after the first. */
export const at = (milliseconds: number, bytes: Uint8Array): Packet => ({
  timeNs: START_NS + BigInt(Math.round(milliseconds * 1e6)),
  bytes,
});

/** `ADDRESS:PORT` taken apart. */
function end(text: string): { address: ReturnType<typeof ip>; port: number } {
  const [address = "", port = ""] = text.split(":");
  return { address: ip(address), port: Number(port) };
}

export interface SegmentSpec {
  readonly flags?: string;
  readonly ttl?: number;
  readonly payload?: Uint8Array;
  readonly sequence?: number;
}

/** An IPv4 packet with a TCP segment. */
export function tcpPacket(
  from: string,
  to: string,
  { flags = "S", ttl = 64, payload, sequence }: SegmentSpec = {},
): Uint8Array {
  const [source, destination] = [end(from), end(to)];
  const ends = { source: source.address, destination: destination.address };
  const spec = { sourcePort: source.port, destinationPort: destination.port, flags };
  const segment = tcp(
    { ...spec, ...(payload === undefined ? {} : { payload }), ...(sequence === undefined ? {} : { sequence }) },
    ends,
  );
  return ipv4({ ...ends, protocol: PROTOCOL_TCP, payload: segment, ttl, dontFragment: true });
}

/** An IPv4 packet with a UDP datagram. */
export function udpPacket(from: string, to: string, payload = new Uint8Array(8)): Uint8Array {
  const [source, destination] = [end(from), end(to)];
  const ends = { source: source.address, destination: destination.address };
  const datagram = udp({ sourcePort: source.port, destinationPort: destination.port, payload }, ends);
  return ipv4({ ...ends, protocol: PROTOCOL_UDP, payload: datagram });
}

/** An Ethernet frame of a client around an IPv4 packet. */
export const framed = (packet: Uint8Array, sourceMac = CLIENT_MAC): Uint8Array =>
  ethernet({
    source: mac(sourceMac),
    destination: mac("02:aa:aa:aa:aa:aa"),
    etherType: ETHERTYPE_IPV4,
    payload: packet,
  });

/** One run of the program in its own directory. */
export class Replay {
  readonly directory = mkdtempSync(join(tmpdir(), "ilb-replay-"));
  readonly config = this.path("config");
  readonly in = this.path("in.pcap");
  readonly out = this.path("out.pcap");
  readonly verdictsFile = this.path("v.jsonl");

  constructor(config: string, packets: readonly Packet[], style: Partial<PcapStyle> = {}) {
    writeFileSync(this.config, config);
    writeFileSync(this.in, writePcap(packets, { linkType: LINKTYPE_ETHERNET, ...style }));
  }

  path(name: string): string {
    return join(this.directory, name);
  }

  /** Runs with all files named and further words. */
  run(...words: string[]): Promise<Finished> {
    const files = ["--config", this.config, "--in", this.in, "--out", this.out, "--verdicts", this.verdictsFile];
    return run([ILBD, "replay", ...files, ...words]);
  }

  /** Runs and must succeed silently but for `stdout`. */
  async must(...words: string[]): Promise<string> {
    const { status, stdout, stderr } = await this.run(...words);
    if (status !== 0 || stderr !== "") throw new Error(`status ${status}: ${stderr}`);
    return stdout;
  }

  sent(): Capture {
    const capture = readCapture(readFileSync(this.out), this.out);
    if (!capture.ok) throw new Error(capture.failure.text);
    return capture.value;
  }

  verdicts(): Verdict[] {
    const lines = readFileSync(this.verdictsFile, "utf8").split("\n");
    if (lines.pop() !== "") throw new Error("the last line has no newline");
    return lines.map((line) => JSON.parse(line) as Verdict);
  }

  wroteNothing(): boolean {
    return !existsSync(this.out) && !existsSync(this.verdictsFile);
  }

  remove(): void {
    rmSync(this.directory, { recursive: true, force: true });
  }
}

export const CLIENT = "203.0.113.200";
export const VIP = "198.51.100.10";
/** Three servers. */
export const WEB = "create-servergroup -s server=192.0.2.10-192.0.2.12:8080 web\n";
/** A rule `www` over them. */
export const HALF_NAT = `${WEB}create-rule -e -i vip=${VIP},port=80 -m lbalg=rr,type=HALF-NAT -o servergroup=web www\n`;

/** The client's opening of a connection to the rule. */
export const syn = (port: number): Uint8Array => framed(tcpPacket(`${CLIENT}:${port}`, `${VIP}:80`));

const open: Replay[] = [];

/** A Replay that removeReplays() takes away. */
export function replayOf(...parts: ConstructorParameters<typeof Replay>): Replay {
  const replay = new Replay(...parts);
  open.push(replay);
  return replay;
}

/** For afterEach. */
export function removeReplays(): void {
  for (const replay of open.splice(0)) replay.remove();
}
