/**
 * The configuration as a value: what an administrator asked for, nothing that was observed.
 * Every object is frozen; a change makes a new Config (command/apply.ts). Lists are readonly by type only, because
 * frozen arrays cost the JavaScript engine a factor of 30 (docs/decisions/0009). Imports nothing but other values.
 *
 * `id`s are positive integers that are never used twice in the life of a state directory (taken from `nextId`), so a
 * deleted and re-created object of the same name is a different object to counters, flows and history.
 */
import type { Address } from "./address.ts";
import { type NetBackupState, NO_NETBACKUP } from "./netbackup.ts";

export type Protocol = "tcp" | "udp";
export type Algorithm = "roundrobin" | "hash-ip" | "hash-ip-port" | "hash-ip-vip";
/** `NAT` is full NAT. Spelled as show-rule and export-config print it. */
export type RuleType = "DSR" | "NAT" | "HALF-NAT";

/** Inclusive, 1..65535, min <= max. A single port has min == max. */
export interface PortRange {
  readonly min: number;
  readonly max: number;
}

export interface Server {
  readonly id: number;
  /** The N of the server ID `_GROUP.N`, 0..999, unique in the group. */
  readonly number: number;
  readonly address: Address;
  /** null: the server takes the ports of each rule. */
  readonly ports: PortRange | null;
  readonly enabled: boolean;
}

export interface ServerGroup {
  readonly id: number;
  readonly name: string;
  /** The number handed out last, the start of the next search (specification A.2). */
  readonly lastNumber: number;
  /** In the order in which they were added. Listings sort by address. */
  readonly servers: readonly Server[];
}

/** Tests that talk with a server in its own protocol: additions to those of the original. */
export type TalkKind = "http" | "https" | "grpc" | "dns";

/** Of one number, min == max. */
export interface StatusRange {
  readonly min: number;
  readonly max: number;
}

/** What a test that talks asks for, as far as it was said; absent: the default of model/health-test.ts. */
export interface TestOptions {
  /** Path and query of the request. */
  readonly path?: string;
  /** HTTP status codes of a healthy server, at least one range. */
  readonly status?: readonly StatusRange[];
  /** Name of the site, for the Host field and for TLS. */
  readonly host?: string;
  /** GRPC over TLS. */
  readonly tls?: boolean;
  /** The certificate has to be valid. */
  readonly verify?: boolean;
  /** GRPC: whose health; absent: the server's. */
  readonly service?: string;
  /** DNS: the name asked for. */
  readonly query?: string;
  /** DNS: the type asked for, `A` for one. */
  readonly queryType?: string;
}

export interface HealthTest {
  readonly kind: "tcp" | "udp" | "ping" | "nbu" | "external" | TalkKind;
  readonly text: string;
  /** Absent: none were given. */
  readonly options?: TestOptions;
}

/** How results are judged, as far as it was said: additions. Absent: as the original does (model/health-judging.ts). */
export interface Judging {
  /** Checks in a row that have to succeed before a server that is out comes back. */
  readonly rise?: number;
  /** Checks in a row that have to fail before a server is taken out. */
  readonly fall?: number;
  /** Whether a server takes new flows before its first result. */
  readonly initial?: "up" | "down";
  /** When fewer percent of a rule's servers than these would remain, all are kept. */
  readonly panicPercent?: number;
  /** Whether a server that refuses or leaves unanswered what clients send is checked at once. */
  readonly passive?: boolean;
}

export interface HealthCheck {
  readonly id: number;
  readonly name: string;
  /** `text` is the test as the user spelled it. */
  readonly test: HealthTest;
  readonly timeoutSeconds: number;
  readonly count: number;
  readonly intervalSeconds: number;
  readonly defaultPing: boolean;
  /** Absent: nothing was said. */
  readonly judging?: Judging;
}

export interface Rule {
  readonly id: number;
  readonly name: string;
  readonly enabled: boolean;
  readonly vip: Address;
  readonly protocol: Protocol;
  readonly ports: PortRange;
  readonly algorithm: Algorithm;
  readonly type: RuleType;
  /** Full NAT only: the inclusive range of proxy source addresses. */
  readonly proxySource: { readonly first: Address; readonly last: Address } | null;
  /** Prefix length of client stickiness, null when the rule is not sticky. */
  readonly stickyMask: number | null;
  readonly groupId: number;
  readonly healthCheckId: number | null;
  /** null exactly when healthCheckId is null. */
  readonly healthCheckPort: "ANY" | "ALL" | number | null;
  /** Seconds as given; 0 means the default (drain: none; nat: 120 TCP, 60 UDP; persist: 60). */
  readonly connDrainSeconds: number;
  readonly natTimeoutSeconds: number;
  readonly persistTimeoutSeconds: number;
  /** Made in spite of the guard against translating NetBackup's ports. */
  readonly forced: boolean;
}

/** All lists in creation order. */
export interface Config {
  readonly nextId: number;
  readonly groups: readonly ServerGroup[];
  readonly healthChecks: readonly HealthCheck[];
  readonly rules: readonly Rule[];
  /** What was said about NetBackup around the box. */
  readonly netbackup: NetBackupState;
}

export const EMPTY_CONFIG: Config = Object.freeze({
  nextId: 1,
  groups: Object.freeze([]),
  healthChecks: Object.freeze([]),
  rules: Object.freeze([]),
  netbackup: NO_NETBACKUP,
});
