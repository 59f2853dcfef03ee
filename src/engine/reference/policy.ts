/**
 * The flow policy of the reference engine (docs/packet-path.md, "Policy"): lists searched from the front, nothing
 * remembered between packets but what is counted.
 */
import {
  POLICY_COUNTERS,
  POLICY_MESSAGE,
  POLICY_NO_FLOW,
  POLICY_NO_PORTS,
  POLICY_REFUSED,
  Reason,
} from "../../gen/layout.ts";
import type { Address } from "../../model/address.ts";
import {
  type PolicyFigures,
  type PolicyPair,
  type PolicyTables,
  REFUSALS,
  type Refusal,
  type RefusedTuple,
  refusedKey,
} from "../policy.ts";
import { KINDS } from "./icmp.ts";
import { ACK, get16, type Ip, isMapped, SYN, TCP, UDP } from "./packet.ts";

/** What the policy says about a packet: nothing, that it belongs to a counter, or why not. */
type Judgement = "untouched" | { readonly counter: number } | { readonly refusal: Refusal };

const REASONS: Readonly<Record<Refusal, Reason>> = {
  "no-flow": Reason.PolicyNoFlow,
  "reserved-source": Reason.PolicyReservedSource,
  "reply-is-syn": Reason.PolicyReplyIsSyn,
  outside: Reason.PolicyOutside,
};

/** Destination unreachable, source quench, redirect, time exceeded, parameter problem; ICMPv6 errors are below 128. */
const ERRORS4: readonly number[] = [3, 4, 5, 11, 12];
/** Router and neighbour solicitations and advertisements, redirect (RFC 4861). */
const NEIGHBOUR6: readonly number[] = [133, 134, 135, 136, 137];

/** The class of an address: that of the longest prefix that holds it, 0 when none does. */
export function kindOf({ hosts }: PolicyTables, address: Address): number {
  if (isMapped(address)) return 0;
  let best: { bits: number; kind: number } = { bits: -1, kind: 0 };
  for (const { prefix, bits, kind } of hosts) {
    const rest = BigInt((address.family === 4 ? 32 : 128) - bits);
    const holds = prefix.family === address.family && prefix.value >> rest === address.value >> rest;
    if (holds && bits > best.bits) best = { bits, kind };
  }
  return best.kind;
}

const pairOf = ({ pairs }: PolicyTables, from: number, to: number): PolicyPair | undefined =>
  pairs.find((pair) => pair.from === from && pair.to === to);

/** The counter of the first flow that fits, undefined when none does. */
function flowTo(tables: PolicyTables, from: number, to: number, protocol: number, port: number): number | undefined {
  const name = protocol === TCP ? "tcp" : "udp";
  const fits = pairOf(tables, from, to)?.flows.find(
    (flow) => flow.protocol === name && flow.ports.min <= port && port <= flow.ports.max,
  );
  return fits?.flow;
}

interface Ports {
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly opens: boolean;
}

/** Ends of a packet that opens a flow. */
export interface FirstPacket {
  readonly protocol: "tcp" | "udp";
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
}

/** Ports, and whether the segment opens a connection; null when the packet does not show that. */
function portsOf(ip: Ip): Ports | null {
  const data = ip.bytes.subarray(ip.headerBytes, ip.totalLength);
  const least = ip.protocol === TCP ? 14 : 4;
  if ((ip.protocol !== TCP && ip.protocol !== UDP) || ip.fragmentOffset > 0 || data.length < least) return null;
  const opens = ip.protocol === TCP && (data[13]! & SYN) !== 0 && (data[13]! & ACK) === 0;
  return { sourcePort: get16(data, 0), destinationPort: get16(data, 2), opens };
}

/** The type of an ICMP message, null when the packet shows none. */
function messageOf(ip: Ip): number | null {
  const shows = ip.protocol === KINDS[ip.family].protocol && ip.fragmentOffset === 0 && ip.totalLength > ip.headerBytes;
  return shows ? ip.bytes[ip.headerBytes]! : null;
}

const isEcho = ({ family }: Ip, type: number): boolean =>
  type === KINDS[family].echoRequest || type === KINDS[family].echoReply;

const isSignal = ({ family }: Ip, type: number): boolean =>
  family === 4 ? ERRORS4.includes(type) : type < 128 || NEIGHBOUR6.includes(type);

function judgement(tables: PolicyTables, ip: Ip): Judgement {
  const from = kindOf(tables, ip.source);
  const to = kindOf(tables, ip.destination);
  if (from === 0 && to === 0) return "untouched";
  const message = messageOf(ip);
  if (message !== null && isSignal(ip, message)) return { counter: POLICY_MESSAGE };
  if (from === 0 || to === 0) return tables.outside === "drop" ? { refusal: "outside" } : "untouched";
  if (message !== null && isEcho(ip, message)) return { counter: POLICY_MESSAGE };
  const ports = portsOf(ip);
  if (ports === null) return withoutPorts(tables, ip, from, to);
  return byPorts(tables, from, to, { protocol: ip.protocol, ...ports });
}

/** What a packet between two bound ends comes to by its ports. */
function byPorts(tables: PolicyTables, from: number, to: number, packet: Ports & { protocol: number }): Judgement {
  const forward = flowTo(tables, from, to, packet.protocol, packet.destinationPort);
  const isReserved = tables.sourcePorts === "non-reserved" && packet.sourcePort < 1024;
  if (forward !== undefined && !isReserved) return { counter: forward };
  const answered = flowTo(tables, to, from, packet.protocol, packet.sourcePort);
  if (answered !== undefined && !packet.opens) return { counter: answered };
  if (forward !== undefined) return { refusal: "reserved-source" };
  return { refusal: answered === undefined ? "no-flow" : "reply-is-syn" };
}

/** Why the policy drops the first packet of a TCP connection, or a datagram; null when it does not. */
export function refusalOfFirst(
  tables: PolicyTables,
  { protocol, source, sourcePort, destination, destinationPort }: FirstPacket,
): Reason | null {
  const from = kindOf(tables, source);
  const to = kindOf(tables, destination);
  if (tables.mode !== "enforce" || (from === 0 && to === 0)) return null;
  if (from === 0 || to === 0) return tables.outside === "drop" ? Reason.PolicyOutside : null;
  const isTcp = protocol === "tcp";
  const judged = byPorts(tables, from, to, { protocol: isTcp ? TCP : UDP, sourcePort, destinationPort, opens: isTcp });
  return judged !== "untouched" && "refusal" in judged ? REASONS[judged.refusal] : null;
}

/** Any flow of the protocol between the two, whichever way, lets it pass. */
function withoutPorts(tables: PolicyTables, { protocol }: Ip, from: number, to: number): Judgement {
  const name = protocol === TCP ? "tcp" : protocol === UDP ? "udp" : null;
  const flows = [...(pairOf(tables, from, to)?.flows ?? []), ...(pairOf(tables, to, from)?.flows ?? [])];
  return flows.some((flow) => flow.protocol === name) ? { counter: POLICY_NO_PORTS } : { refusal: "no-flow" };
}

/** Judges, counts, and remembers what was refused. */
export class PolicyJudge {
  readonly #counters = Array.from({ length: POLICY_COUNTERS }, () => ({ packets: 0n, bytes: 0n }));
  /** The latest last. */
  readonly #refused = new Map<string, RefusedTuple>();

  /** The reason for which a packet is dropped, null when it goes on. */
  judge(tables: PolicyTables | undefined, ip: Ip, nowMs: number): Reason | null {
    const judged = tables === undefined ? "untouched" : judgement(tables, ip);
    if (judged === "untouched") return null;
    const isRefused = "refusal" in judged;
    const counter = this.#counters[isRefused ? POLICY_NO_FLOW + REFUSALS.indexOf(judged.refusal) : judged.counter]!;
    counter.packets++;
    counter.bytes += BigInt(ip.totalLength);
    if (!isRefused) return null;
    this.#remember(ip, judged.refusal, nowMs);
    return tables!.mode === "enforce" ? REASONS[judged.refusal] : null;
  }

  #remember(ip: Ip, refusal: Refusal, nowMs: number): void {
    const { sourcePort, destinationPort } = portsOf(ip) ?? { sourcePort: 0, destinationPort: 0 };
    const { source, destination, protocol } = ip;
    const tuple = { source, destination, protocol, sourcePort, destinationPort, refusal };
    const key = refusedKey(tuple);
    const packets = (this.#refused.get(key)?.packets ?? 0n) + 1n;
    this.#refused.delete(key);
    this.#refused.set(key, { ...tuple, packets, lastMs: nowMs >>> 0 });
    for (const oldest of [...this.#refused.keys()].slice(0, -POLICY_REFUSED)) this.#refused.delete(oldest);
  }

  figures(): PolicyFigures {
    return {
      counters: this.#counters.map((counter) => ({ ...counter })),
      refused: [...this.#refused.values()].reverse(),
    };
  }
}
