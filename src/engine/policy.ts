/**
 * The flow policy as an engine is told it, and what an engine tells of it: hosts by class, flows that classes may open
 * to each other, counters by number. Knows no roles, names or versions; what the numbers stand for is the compiler's affair.
 */
import { POLICY_REFUSED } from "../gen/layout.ts";
import { type Address, addressKey } from "../model/address.ts";
import type { PortRange, Protocol } from "../model/config.ts";

/** Addresses of one class. The longest prefix that holds an address decides. */
export interface PolicyHost {
  /** Bits beyond `bits` are zero. */
  readonly prefix: Address;
  /** 0..32 or 0..128, of the address's own family. */
  readonly bits: number;
  /** 1..classCount */
  readonly kind: number;
}

/** A flow that may be opened. */
export interface PermittedFlow {
  /** Its counter, 0..POLICY_FLOWS-1. */
  readonly flow: number;
  readonly protocol: Protocol;
  /** Destination ports. */
  readonly ports: PortRange;
}

/** What hosts of one class may open to hosts of another, in the order in which flows are looked through. */
export interface PolicyPair {
  readonly from: number;
  readonly to: number;
  readonly flows: readonly PermittedFlow[];
}

/** A policy in force. Prefixes and pairs occur once each. */
export interface PolicyTables {
  /** `monitor`: what is refused is counted and passes. */
  readonly mode: "monitor" | "enforce";
  /** What becomes of packets of which one end is bound. */
  readonly outside: "pass" | "drop";
  /** `non-reserved`: flows may not begin at ports below 1024. */
  readonly sourcePorts: "any" | "non-reserved";
  readonly hosts: readonly PolicyHost[];
  readonly classCount: number;
  readonly pairs: readonly PolicyPair[];
}

/** Why packets are refused, in the order of their counters. */
export const REFUSALS = ["no-flow", "reserved-source", "reply-is-syn", "outside"] as const;
export type Refusal = (typeof REFUSALS)[number];

/** Packets that were refused for one reason between the same ends. */
export interface RefusedTuple {
  readonly source: Address;
  readonly destination: Address;
  /** IP protocol number. */
  readonly protocol: number;
  /** Ports of the last packet, host order; 0 where it showed none. */
  readonly sourcePort: number;
  readonly destinationPort: number;
  readonly refusal: Refusal;
  readonly packets: bigint;
  /** Engine clock at the last packet, milliseconds, wrapped to 32 bits. */
  readonly lastMs: number;
}

export interface PolicyFigures {
  /** Indexed by POLICY_… counter numbers; the first POLICY_FLOWS are the flows. */
  readonly counters: readonly { readonly packets: bigint; readonly bytes: bigint }[];
  /** At most POLICY_REFUSED, the latest first. */
  readonly refused: readonly RefusedTuple[];
}

/** Which of two refused tuples are one: all but the port that chance picks. */
export function refusedKey(tuple: Omit<RefusedTuple, "packets" | "lastMs">): string {
  const { source, destination, protocol, sourcePort, destinationPort, refusal } = tuple;
  const port = refusal === "reply-is-syn" ? sourcePort : destinationPort;
  return `${addressKey(source)} ${addressKey(destination)} ${protocol} ${refusal} ${port}`;
}

/** The latest of several lists, each the latest first, tuples that are one put together. */
export function latestRefused(tuples: readonly RefusedTuple[]): RefusedTuple[] {
  const known = new Map<string, RefusedTuple>();
  for (const tuple of tuples) {
    const key = refusedKey(tuple);
    const other = known.get(key);
    if (other === undefined) known.set(key, tuple);
    else known.set(key, { ...later(tuple, other), packets: tuple.packets + other.packets });
  }
  return [...known.values()].sort((a, b) => (b.lastMs - a.lastMs) | 0).slice(0, POLICY_REFUSED);
}

/** The clock wraps. */
const later = (a: RefusedTuple, b: RefusedTuple): RefusedTuple => (((a.lastMs - b.lastMs) | 0) > 0 ? a : b);
