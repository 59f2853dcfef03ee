/**
 * What `explain` asks and answers: a packet, the live tables as far as it needs them, and the engine's decision with the
 * grounds for it. Types only.
 */
import type { Address } from "../model/address.ts";
import type { Algorithm, PortRange, Protocol, RuleType } from "../model/config.ts";
import type { Direction, FlowSnapshot, FlowState, ImageRule, NextHop } from "./engine.ts";

/** A whole, sound packet with hops left; of TCP a connection's first (SYN). Ports in host order. */
export interface ExplainedPacket {
  readonly protocol: Protocol;
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
}

/** The connection entry that a packet meets. */
export interface LiveFlow {
  readonly flow: FlowSnapshot;
  readonly fromClient: boolean;
  /** RST seen, or FINs of both sides acknowledged. */
  readonly isClosed: boolean;
  /** Index of the server's next hop. */
  readonly nextHop: number;
  /** Where the client's packets come from: egress port and MAC address (6 bytes). */
  readonly client: { readonly port: number; readonly mac: Uint8Array };
}

/** Reads of what the engine remembers and is told, taken while it runs. */
export interface LiveTables {
  flowOf(packet: ExplainedPacket): LiveFlow | null;
  /** The sticky entry of a masked client. `proxyIndex`: position in the rule's proxy range. */
  stickyOf(ruleId: number, client: Address): { readonly serverId: number; readonly proxyIndex: number } | null;
  /** Round robin: the highest insertSequence that may be next for this packet; infinity: a new round begins. */
  turnOf(rule: ImageRule, packet: ExplainedPacket): number;
  /** Proxy addresses handed out so far for a server of a rule, where this packet is concerned. */
  proxyTurnOf(rule: ImageRule, serverId: number, packet: ExplainedPacket): number;
  nextHop(index: number): NextHop;
  /** null: no such port. */
  port(index: number): { readonly kind: "ethernet" | "ip"; readonly mac: Uint8Array; readonly mtu: number } | null;
  readonly portCount: number;
}

/** One server of the rule and what came of it. */
export interface ExplainedServer {
  readonly serverId: number;
  readonly address: Address;
  readonly ports: PortRange | null;
  /**
   * `closed`: takes no new flows (disabled, or down by its health check). `not-its-turn`, `other-hash`: the algorithm
   * gave another. `other-sticky`: the algorithm gave this one, but the client stays with another.
   */
  readonly why: "chosen" | "closed" | "not-its-turn" | "other-hash" | "other-sticky";
}

/** How a server was found. */
export interface ExplainedChoice {
  readonly algorithm: Algorithm;
  /** Null for round robin. `index` of `count` servers in the order of insertion. */
  readonly hash: {
    readonly value: number;
    readonly index: number;
    readonly count: number;
    /** The server at `index` takes no new flows: index among those that do, in the order in which they became so. */
    readonly fallback: { readonly index: number; readonly count: number } | null;
  } | null;
  /** Null for hashes: ids of the servers that take new flows, whose turn it is first. */
  readonly turns: readonly number[] | null;
  /** What the algorithm gives. */
  readonly pickedId: number;
  /** Null for rules that are not sticky. `serverId` null: the client has no entry. */
  readonly sticky: {
    readonly client: Address;
    /** Prefix length that stays of a client's address. */
    readonly mask: number;
    readonly serverId: number | null;
    /** The entry's server takes new flows, so it decides. */
    readonly holds: boolean;
  } | null;
  readonly servers: readonly ExplainedServer[];
}

/** The way out. */
export interface ExplainedEgress {
  readonly state: NextHop["state"];
  readonly port: number;
  /** Null where the port has no link header. */
  readonly destinationMac: Uint8Array | null;
  readonly sourceMac: Uint8Array | null;
  readonly mtu: number;
}

export interface Explanation {
  readonly packet: ExplainedPacket;
  /** Printed names of the engine's verdict and reason, and what the reason means. */
  readonly verdict: string;
  readonly reason: string;
  readonly meaning: string;
  /** 0: none. */
  readonly ruleId: number;
  readonly ruleType: RuleType | null;
  readonly serverId: number;
  readonly direction: Direction;
  readonly flow: FlowState;
  /** The entry that decides; or, when `flow` is not `found`, a closed one that would be replaced. */
  readonly entry: FlowSnapshot | null;
  /** Null when an entry decides, or nothing has to be chosen. */
  readonly choice: ExplainedChoice | null;
  /** The ends of the packet that leaves; `sourcePort` null: a free proxy port. Null when none leaves. */
  readonly leaving: {
    readonly source: Address;
    readonly sourcePort: number | null;
    readonly destination: Address;
    readonly destinationPort: number;
  } | null;
  readonly egress: ExplainedEgress | null;
}
