/**
 * What a packet engine is, seen from outside: tables go in as one value, frames go in and out in batches, counters come
 * out. The WebAssembly engine and the plain TypeScript reference implement the same interface, and the contract suite
 * runs on both. The hot loop of a worker does not use this face (it calls the WebAssembly exports on shared memory);
 * replay, explain and tests do.
 */

import { type Reason, VERDICT_NAMES, Verdict } from "../gen/layout.ts";
import type { Address } from "../model/address.ts";
import type { Algorithm, PortRange, Protocol, RuleType } from "../model/config.ts";
import type { PolicyFigures, PolicyTables } from "./policy.ts";

/** Where a server (or a client) is reached: the answer of the kernel's route and neighbour tables. */
export interface NextHop {
  /** `unresolved`: the route is known, the neighbour does not answer (yet). `none`: no route. */
  readonly state: "resolved" | "unresolved" | "none";
  /** Index of the egress port, meaningful unless state is `none`. */
  readonly port: number;
  /** 6 bytes each; ignored on layer-3 ports. */
  readonly destinationMac: Uint8Array;
  readonly sourceMac: Uint8Array;
  /** Layer-3 MTU in bytes of the route (or of the interface). */
  readonly mtu: number;
}

/** One attached device. */
export interface Port {
  /** `ethernet`: frames begin with a MAC header. `ip`: frames begin with the IP header (TUN); the kernel routes and steps TTL. */
  readonly kind: "ethernet" | "ip";
  readonly mac: Uint8Array;
  /** Layer-3 MTU in bytes. */
  readonly mtu: number;
  /** Source of ICMP errors that the box sends on this port; null when the port has no address of the family. */
  readonly address4: Address | null;
  readonly address6: Address | null;
}

/** One server instance. Immutable for the life of `id`. */
export interface ImageServer {
  readonly id: number;
  readonly address: Address;
  readonly ports: PortRange | null;
  /** Index for setNextHop. Servers with the same address share one. */
  readonly nextHop: number;
}

/** A server's place in one rule. */
export interface ImageMember {
  /** Index into TableImage.servers. */
  readonly server: number;
  /** Rises with every server added to the rule; members are sorted by it, ascending (specification E.5). */
  readonly insertSequence: number;
  /** Rises with every time a server of the rule became effective; null: gets no new flows. */
  readonly enabledSequence: number | null;
}

/** One rule. All but `enabled` and `members` is immutable for the life of `id`. */
export interface ImageRule {
  readonly id: number;
  /** 0..maxRules-1; the place of the rule's counters. Reused only when every worker has left the images that named it. */
  readonly slot: number;
  readonly vip: Address;
  /** The VIP is an address of this box: see the PASS rules of ICMP and SYN+ACK. */
  readonly vipIsLocal: boolean;
  readonly protocol: Protocol;
  readonly ports: PortRange;
  readonly type: RuleType;
  readonly algorithm: Algorithm;
  readonly proxySource: { readonly first: Address; readonly last: Address } | null;
  readonly stickyMask: number | null;
  /** Defaults filled in. */
  readonly natTimeoutMs: number;
  readonly persistTimeoutMs: number;
  readonly enabled: boolean;
  /** Creation order: ICMP counters go to the highest rule of a VIP. */
  readonly sequence: number;
  readonly members: readonly ImageMember[];
}

/** Flows of (rule, server) end at `deadlineMs` (engine clock) at the latest; absent pairs have no deadline. */
export interface ImageDrain {
  readonly ruleId: number;
  readonly serverId: number;
  readonly deadlineMs: number;
}

/**
 * What the kernel must leave to the engine, as address and port intervals without overlap inside one (match, address,
 * protocol). `destination` entries match packets to a VIP (or a proxy address), `source` entries packets from a server.
 */
export interface InterestEntry {
  readonly match: "destination" | "source";
  readonly address: Address;
  readonly protocol: Protocol;
  readonly ports: PortRange;
}
export interface Interest {
  readonly entries: readonly InterestEntry[];
  /** Addresses whose ICMP (ICMPv6 without types 130..137 and 143) and whose later fragments belong to the engine. */
  readonly vips: readonly Address[];
  /** Addresses from which later fragments belong to the engine: NAT and HALF-NAT servers. */
  readonly servers: readonly Address[];
  /** Proxy addresses: ICMP errors and later fragments to them belong to the engine. */
  readonly proxies: readonly Address[];
  /**
   * Addresses of the box. What guarded servers send from guarded ports to the ports of the box's health probes at these
   * (PROBE_FIRST_PORT..PROBE_LAST_PORT) is the kernel's, never the engine's.
   */
  readonly own: readonly Address[];
}

/** Everything that decides about packets, complete and read-only. */
export interface TableImage {
  /** Rises by one with every publication; never 0. */
  readonly generation: number;
  readonly servers: readonly ImageServer[];
  readonly rules: readonly ImageRule[];
  readonly drains: readonly ImageDrain[];
  readonly interest: Interest;
  /** The flow policy; absent: none is in force. Another object is another policy. */
  readonly policy?: PolicyTables;
}

/** struct virtio_net_hdr, host order. A plain frame has all fields 0. */
export interface VnetHeader {
  readonly flags: number;
  readonly gsoType: number;
  readonly hdrLen: number;
  readonly gsoSize: number;
  readonly csumStart: number;
  readonly csumOffset: number;
}

export interface FrameIn {
  readonly bytes: Uint8Array;
  readonly port: number;
  readonly vnet?: VnetHeader;
  /** The frame carried a VLAN tag that the kernel moved into the auxiliary data. */
  readonly vlan?: boolean;
}

export type Direction = "none" | "client-to-server" | "server-to-client";
export type FlowState = "none" | "new" | "found";

/** What users are told: a packet that the kernel has anyhow passes like one that is given back to it. */
export function verdictName(verdict: Verdict): string {
  return VERDICT_NAMES[verdict === Verdict.Ignore ? Verdict.Pass : verdict] ?? String(verdict);
}

/** A frame that leaves. */
export interface FrameOut {
  readonly bytes: Uint8Array;
  readonly port: number;
  readonly vnet: VnetHeader;
}

export interface Outcome {
  readonly verdict: Verdict;
  readonly reason: Reason;
  /** 0 when none. */
  readonly ruleId: number;
  readonly serverId: number;
  readonly direction: Direction;
  readonly flow: FlowState;
  /** What is sent because of this frame, in order: the frame itself, its fragments, or an answer. Empty for PASS, DROP, IGNORE. */
  readonly out: readonly FrameOut[];
  /**
   * Frames that had waited and are given back to the kernel now, as they were received but for padding: fragments whose
   * first one this frame is; with the first frame of a batch also those for which no first one has come.
   */
  readonly passed: readonly FrameOut[];
}

/** The counters of a rule, 64 bit each. The only list of their names. */
export const RULE_COUNTER_NAMES = [
  "packetsNotProcessed",
  "bytesNotProcessed",
  "packetsDropped",
  "bytesDropped",
  "icmpEchoProcessed",
  "icmpDropped",
  "icmpTooBigProcessed",
  "icmpTooBigDropped",
  "packetsNoMemory",
  "bytesNoMemory",
  "packetsNoPort",
  "bytesNoPort",
] as const;
export type RuleCounterName = (typeof RULE_COUNTER_NAMES)[number];

export interface RuleCounters extends Readonly<Record<RuleCounterName, bigint>> {
  readonly ruleId: number;
}

/** A rule that has seen nothing. */
export const zeroRuleCounters = (ruleId: number): RuleCounters =>
  ({ ruleId, ...Object.fromEntries(RULE_COUNTER_NAMES.map((name) => [name, 0n])) }) as unknown as RuleCounters;

/** Traffic of one server in one rule, both directions. */
export interface PairCounters {
  readonly ruleId: number;
  readonly serverId: number;
  readonly packets: bigint;
  readonly bytes: bigint;
  /** Connection entries alive now. */
  readonly flows: number;
  /** New connections that the server refused: with RST, or somebody in its place with ICMP unreachable. */
  readonly refused: bigint;
  /** SYNs that clients sent again because the server had not answered. */
  readonly unanswered: bigint;
}

/** A server in a rule. */
export interface PairIds {
  readonly ruleId: number;
  readonly serverId: number;
}

/** How often a server in a rule has given one worker reason to doubt it: refused and unanswered, modulo 2^32. */
export interface PairSignals extends PairIds {
  readonly count: number;
}

/** A server in a rule that has seen nothing. */
export const zeroPairCounters = (ruleId: number, serverId: number): PairCounters => ({
  ruleId,
  serverId,
  packets: 0n,
  bytes: 0n,
  flows: 0,
  refused: 0n,
  unanswered: 0n,
});

export interface EngineCounters {
  readonly packetsIn: bigint;
  /** Indexed by Reason; sums to packetsIn. */
  readonly reasons: readonly bigint[];
  readonly rules: readonly RuleCounters[];
  readonly pairs: readonly PairCounters[];
  readonly fragmentsIn: bigint;
  readonly fragmentsDropped: bigint;
}

/** One connection entry as show-nat lists it. Ports in host order. */
export interface FlowSnapshot {
  readonly protocol: Protocol;
  readonly ruleId: number;
  readonly serverId: number;
  readonly client: Address;
  readonly clientPort: number;
  readonly vip: Address;
  readonly vipPort: number;
  /** Full NAT: proxy address and port. Half-NAT: the client again. */
  readonly source: Address;
  readonly sourcePort: number;
  readonly server: Address;
  readonly serverPort: number;
}

export interface StickySnapshot {
  readonly ruleId: number;
  readonly serverId: number;
  /** Client address with the rule's mask applied. */
  readonly client: Address;
}

/** How fragments, ICMP errors and IPv6 extension headers are treated: docs/packet-path.md. */
/** What one worker has done, all since the start but `flows`, which are alive. */
export interface WorkerFigures {
  readonly packetsIn: bigint;
  /** Frames given to the workers that own their flows, and taken from others. */
  readonly handedOver: bigint;
  readonly takenOver: bigint;
  readonly flows: number;
  readonly flowsExpired: bigint;
  /** Half-open flows given up because the table was full. */
  readonly flowsEvicted: bigint;
}

/**
 * An entry of a table that changes while it is listed, and its place. The place is the entry's own as long as the entry
 * lives, and listings go by ascending places, so a listing can go on behind a place without repeating or leaving out
 * what was there all the time.
 */
export interface Placed<T> {
  readonly place: number;
  readonly entry: T;
}

export type Compat = "ilb" | "modern";

/** Sizes fixed at start. */
export interface EngineLimits {
  readonly maxFlows: number;
  readonly maxRules: number;
  readonly maxPairs: number;
  readonly maxSticky: number;
}

export interface PacketEngine {
  readonly name: string;
  /** Takes effect before the next process(). Throws only for a limit (ImageTooLarge); then nothing has changed. */
  publish(image: TableImage): void;
  setPort(index: number, port: Port): void;
  setNextHop(index: number, hop: NextHop): void;
  /** @param frames at most 64, in order of arrival. @param nowMs engine clock, milliseconds, never goes back. */
  process(frames: readonly FrameIn[], nowMs: number): Outcome[];
  /** One complete expiry sweep of all tables at `nowMs`. */
  sweep(nowMs: number): void;
  counters(): EngineCounters;
  flows(): FlowSnapshot[];
  sticky(): StickySnapshot[];
  /** What the flow policy counted and refused. */
  policy(): PolicyFigures;
  close(): void;
}

/** The image does not fit the sizes fixed at start; the command that needed it fails with E-NOMEM. */
export class ImageTooLarge extends Error {
  override readonly name = "ImageTooLarge";
}
