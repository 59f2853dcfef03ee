/**
 * Connection entries of NAT and HALF-NAT flows (specification E.4): two keys per entry, TCP tracking, times, and what a
 * sweep takes away. Knows nothing of rules or frames.
 */
import type { Address } from "../../model/address.ts";
import type { Protocol } from "../../model/config.ts";
import { ACK, addressKey, FIN, RST, SYN, type Transport } from "./packet.ts";
import type { Lease } from "./ports.ts";
import type { StickyEntry } from "./sticky.ts";

/** A sweep may come this much late; until then an entry that is due may still be there. */
export const SWEEP_LAG_MS = 15_000;
/** For this long an entry that has closed still takes packets, whatever sweeps by the way do. */
export const CLOSED_LINGER_MS = 4_000;

/** Where a client's packets come from, and so where its answers go. */
export interface ClientHop {
  readonly port: number;
  /** Null on IP ports. */
  readonly mac: Uint8Array | null;
}

/** A FIN seen in one direction. */
interface Fin {
  /** The sequence number that the FIN itself occupies. */
  readonly sequence: number;
  acknowledged: boolean;
}

/** Traffic of one server in one rule; lives as long as an image or a flow names it. */
export interface Pair {
  readonly ruleId: number;
  readonly serverId: number;
  packets: bigint;
  bytes: bigint;
  flows: number;
  refused: bigint;
  unanswered: bigint;
  drainDeadlineMs: number | null;
  /** Position in the rule's proxy range that the flow before took. */
  proxyIndex: number;
}

/** Source and destination of a packet, with ports in host order. */
export interface Tuple {
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
}

export interface Flow {
  readonly pair: Pair;
  readonly protocol: Protocol;
  /** As the client sends: client to VIP. */
  readonly outer: Tuple;
  /** As the server receives: client or proxy to server. */
  readonly inner: Tuple;
  /** Index for the engine's next hops. */
  readonly nextHop: number;
  readonly timeoutMs: number;
  readonly lease: Lease | null;
  readonly sticky: StickyEntry | null;
  clientHop: ClientHop;
  lastClientMs: number;
  lastServerMs: number | null;
  clientFin: Fin | null;
  serverFin: Fin | null;
  reset: boolean;
  closedAtMs: number | null;
  /** What has been seen of both ends talking to each other. */
  opening: "asked" | "answered" | "established";
}

const tupleKey = (protocol: Protocol, from: Tuple): string =>
  `${protocol} ${addressKey(from.source)} ${from.sourcePort} ${addressKey(from.destination)} ${from.destinationPort}`;

/** The tuple of the answers to packets of `tuple`. */
export const reversed = (tuple: Tuple): Tuple => ({
  source: tuple.destination,
  sourcePort: tuple.destinationPort,
  destination: tuple.source,
  destinationPort: tuple.sourcePort,
});

/** Sequence numbers wrap: a is later than b when the distance from b to a is under half the circle (RFC 9293 3.4). */
const isLater = (a: number, b: number): boolean => a !== b && (a - b) >>> 0 < 0x80000000;

/** Follows FIN, RST and acknowledgements of one TCP segment. */
export function trackTcp(flow: Flow, fromClient: boolean, segment: Transport, nowMs: number): void {
  const own = fromClient ? "clientFin" : "serverFin";
  const peer = fromClient ? "serverFin" : "clientFin";
  const { tcpFlags, sequence, acknowledgement, payloadBytes } = segment;
  const fin = flow[own];
  if (fin !== null && isLater(sequence, (fin.sequence + 1) >>> 0)) flow[own] = null;
  if (tcpFlags & FIN) {
    const finSequence = (sequence + payloadBytes + (tcpFlags & SYN ? 1 : 0)) >>> 0;
    if (flow[own]?.sequence !== finSequence) flow[own] = { sequence: finSequence, acknowledged: false };
  }
  const peerFin = flow[peer];
  if (tcpFlags & ACK && peerFin !== null && isLater(acknowledgement, peerFin.sequence)) peerFin.acknowledged = true;
  if (tcpFlags & RST) flow.reset = true;
  const closed = flow.reset || (flow.clientFin?.acknowledged === true && flow.serverFin?.acknowledged === true);
  flow.closedAtMs = closed ? (flow.closedAtMs ?? nowMs) : null;
}

/**
 * Follows how a flow opens. UDP is established by the server's first answer; TCP when the client then goes on without SYN
 * and RST, for only one that has seen the answer can.
 */
export function trackOpening(flow: Flow, fromClient: boolean, { tcpFlags }: Transport): void {
  if (flow.opening === "established") return;
  if (!fromClient) flow.opening = flow.protocol === "udp" ? "established" : "answered";
  else if (flow.opening === "answered" && !(tcpFlags & (SYN | RST))) flow.opening = "established";
}

/** Counts what a segment of a known flow says about a server from which nothing has come yet. */
export function heedSilence({ pair, opening, protocol }: Flow, fromClient: boolean, { tcpFlags }: Transport): void {
  if (protocol !== "tcp" || opening !== "asked") return;
  const repeatsSyn = fromClient && (tcpFlags & SYN) !== 0 && (tcpFlags & (ACK | RST | FIN)) === 0;
  // A bare RST answers a segment that was no SYN: the server does not know the connection.
  const refusesSyn = !fromClient && (tcpFlags & RST) !== 0 && (tcpFlags & ACK) !== 0;
  if (repeatsSyn) pair.unanswered++;
  if (refusesSyn) pair.refused++;
}

/** A client that begins anew with the ports of a connection that has ended. */
export function opensAnew({ flow, fromClient }: { flow: Flow; fromClient: boolean }, { tcpFlags }: Transport): boolean {
  const isPureSyn = (tcpFlags & (SYN | ACK | RST | FIN)) === SYN;
  return fromClient && isPureSyn && flow.closedAtMs !== null;
}

/** The last time that a packet of either direction passed. */
const lastSeenMs = (flow: Flow): number => Math.max(flow.lastClientMs, flow.lastServerMs ?? 0);

export class FlowTable {
  readonly #limit: number;
  readonly #all = new Set<Flow>();
  readonly #byOuter = new Map<string, Flow>();
  readonly #byInner = new Map<string, Flow>();
  /** Which flows may be given up, in the order in which they came to be so. */
  readonly #closed = new Set<Flow>();
  readonly #halfOpen = new Set<Flow>();
  /** Called with every flow that has gone. */
  readonly #onRemoved: (flow: Flow, nowMs: number) => void;

  constructor(limit: number, onRemoved: (flow: Flow, nowMs: number) => void) {
    this.#limit = limit;
    this.#onRemoved = onRemoved;
  }

  /** The flow of a packet and its direction; the client's key comes first. */
  find(protocol: Protocol, packet: Tuple): { flow: Flow; fromClient: boolean } | null {
    const fromClient = this.#byOuter.get(tupleKey(protocol, packet));
    if (fromClient !== undefined) return { flow: fromClient, fromClient: true };
    const fromServer = this.#byInner.get(tupleKey(protocol, reversed(packet)));
    return fromServer === undefined ? null : { flow: fromServer, fromClient: false };
  }

  /** The flow that a packet from a server belongs to, whatever it may be as a client's packet. */
  ofServer(protocol: Protocol, packet: Tuple): Flow | undefined {
    return this.#byInner.get(tupleKey(protocol, reversed(packet)));
  }

  /** Whether one more flow fits, now or after one is given up: closed ones first, then half-open ones. */
  hasRoom(): boolean {
    return this.#all.size < this.#limit || this.#leastWorthy() !== undefined;
  }

  #leastWorthy(): Flow | undefined {
    const [closed] = this.#closed;
    const [halfOpen] = this.#halfOpen;
    return closed ?? halfOpen;
  }

  /** A packet of the flow has been followed: says anew whether it may be given up. */
  rank(flow: Flow): void {
    const isClosed = flow.closedAtMs !== null;
    const isHalfOpen = !isClosed && flow.opening !== "established";
    // One that stays what it is keeps its place.
    if (isClosed) this.#closed.add(flow);
    else this.#closed.delete(flow);
    if (isHalfOpen) this.#halfOpen.add(flow);
    else this.#halfOpen.delete(flow);
  }

  /**
   * Adds a flow; call hasRoom first. Of two flows with one server-side key the newest has it; one that is what another
   * flow's client sends has that flow's client.
   */
  add(flow: Flow, nowMs: number): void {
    if (this.#all.size >= this.#limit) {
      const victim = this.#leastWorthy();
      if (victim === undefined) throw new Error("flow table full");
      this.remove(victim, nowMs);
    }
    this.#all.add(flow);
    this.rank(flow);
    this.#byOuter.set(tupleKey(flow.protocol, flow.outer), flow);
    if (!this.#byOuter.has(tupleKey(flow.protocol, reversed(flow.inner))))
      this.#byInner.set(tupleKey(flow.protocol, flow.inner), flow);
  }

  remove(flow: Flow, nowMs: number): void {
    const outer = tupleKey(flow.protocol, flow.outer);
    const inner = tupleKey(flow.protocol, flow.inner);
    this.#all.delete(flow);
    this.#closed.delete(flow);
    this.#halfOpen.delete(flow);
    if (this.#byOuter.get(outer) === flow) this.#byOuter.delete(outer);
    if (this.#byInner.get(inner) === flow) this.#byInner.delete(inner);
    this.#onRemoved(flow, nowMs);
  }

  /** Takes away what has closed, drained or been idle longer than its timeout. */
  sweep(nowMs: number): void {
    for (const flow of [...this.#all]) {
      const drained = flow.pair.drainDeadlineMs !== null && nowMs >= flow.pair.drainDeadlineMs;
      const idle = nowMs - lastSeenMs(flow) > flow.timeoutMs;
      if (flow.closedAtMs !== null || drained || idle) this.remove(flow, nowMs);
    }
  }

  all(): Flow[] {
    return [...this.#all];
  }

  /** When a flow may go at the earliest, and when it must be gone after a sweep. */
  static dueMs(flow: Flow): { from: number; until: number } {
    const idle = lastSeenMs(flow) + flow.timeoutMs;
    const drain = flow.pair.drainDeadlineMs ?? Number.POSITIVE_INFINITY;
    const closed = flow.closedAtMs ?? Number.POSITIVE_INFINITY;
    const from = Math.min(idle, drain, closed + CLOSED_LINGER_MS);
    return { from, until: Math.min(idle, drain, closed) + SWEEP_LAG_MS };
  }
}
