/**
 * What commands need from the daemon, and nothing more. The controller implements it; command/ never imports control/.
 */
import type { FlowSnapshot, Placed, StickySnapshot } from "../engine/engine.ts";
import type { ExplainedPacket, Explanation } from "../engine/explanation.ts";
import type { Address, Family } from "../model/address.ts";
import type { Config, Protocol } from "../model/config.ts";
import type { Result } from "../model/result.ts";
import type { Change } from "./command.ts";

/** What apply() must know beside the Config. */
export interface ChangeContext {
  /** Server numbers of a group that must not be given out: removed servers that still hold connection entries. */
  drainingNumbers(groupId: number): ReadonlySet<number>;
  /**
   * What stands at the absolute path of an external health test, for the daemon's user. `unusable`: not executable, or
   * no regular file. `forbidden`: root would run it, and whoever asks is not root. Absent: taken for executable.
   */
  externalTest?(path: string): "executable" | "missing" | "unusable" | "forbidden";
}

/** One row of show-hc-result. */
export interface HealthResult {
  readonly ruleId: number;
  readonly serverId: number;
  readonly status: "un-init" | "alive" | "dead" | "unreach" | "disabled";
  readonly fail: number;
  /** Wall clock, milliseconds since the epoch. */
  readonly lastAtMs: number;
  /** null when disabled. */
  readonly nextAtMs: number | null;
  /** Smoothed round-trip time in microseconds, 0: unknown. */
  readonly rttMicroseconds: number;
  /** The last failure in words, null after a success or without any. */
  readonly reason?: string | null;
  /** Until when the certificate is valid that the server showed last, wall clock; null: none was seen. */
  readonly certificateUntilMs?: number | null;
  /** Of NBU tests: the first step that answers, `none`: none does; null: not known, or another test. */
  readonly via?: string | null;
  /** Failing, and still offered: too few servers of the rule would remain (hc-panic). Absent: no. */
  readonly isKept?: boolean;
  /** Changes of status that results have brought, and checks that passive signals have asked for; absent: 0. */
  readonly transitions?: number;
  readonly prompted?: number;
}

/** One record of the audit log or of the history, as their listings show it. */
export interface LogRecord {
  /** Rises with time. Of a record of the history: what rollback names. */
  readonly id: number;
  /** Wall clock, milliseconds since the epoch. */
  readonly atMs: number;
  readonly who: string;
  /** Canonical command line. */
  readonly command: string;
  /** `ok` or the code of the failure. Changes in the history all succeeded. */
  readonly result: string;
}

/** Connections that a server holds now in a rule. */
export interface FlowCount {
  readonly ruleId: number;
  readonly serverId: number;
  readonly flows: number;
}

/** How an attempt to connect has ended. */
export interface Connected {
  /** `unreachable`: somebody on the way, or this machine, says that it cannot be reached. */
  readonly result: "connected" | "refused" | "timeout" | "unreachable";
  /** Where it came from; null: it never had an address. */
  readonly local: { readonly address: Address; readonly port: number } | null;
  readonly microseconds: number;
}

/** Makes TCP connections from this machine for one test, sends nothing over them and ends them at once. */
export interface Connector {
  /**
   * Not before the attempt before has ended. Rejects when the caller has gone.
   * @returns E-NBCONNECT when nothing is known of the target because something is missing here
   */
  connect(target: Address, port: number, timeoutMs: number): Promise<Result<Connected>>;
  /** Milliseconds of a clock that never goes back. */
  nowMs(): number;
  /** To be called once, when the test is over. */
  close(): void;
}

/** What would become of a packet, and the name of the device that it would leave by. */
export interface LocatedExplanation {
  readonly explanation: Explanation;
  /** null: none, or it has no name. */
  readonly egressName: string | null;
}

/** Counters at one moment, only of rules and servers that exist. All 64 bit. */
export interface StatisticsSample {
  /** Wall clock in milliseconds since the epoch when the sample was taken. */
  readonly takenAtMs: number;
  readonly rules: readonly RuleSample[];
}
export interface RuleSample {
  readonly ruleId: number;
  readonly name: string;
  readonly servers: readonly {
    readonly serverId: number;
    readonly name: string;
    readonly packets: bigint;
    readonly bytes: bigint;
  }[];
  readonly packetsNotProcessed: bigint;
  readonly bytesNotProcessed: bigint;
  readonly packetsDropped: bigint;
  readonly bytesDropped: bigint;
  readonly icmpEchoProcessed: bigint;
  readonly icmpDropped: bigint;
  readonly icmpTooBigProcessed: bigint;
  readonly icmpTooBigDropped: bigint;
  readonly packetsNoMemory: bigint;
  readonly bytesNoMemory: bigint;
  readonly packetsNoPort: bigint;
  readonly bytesNoPort: bigint;
}

/** Packets and bytes (IP total lengths). */
export interface PolicyCount {
  readonly packets: bigint;
  readonly bytes: bigint;
}

/** Packets that were refused for one reason between the same ends. */
export interface RefusedPackets {
  readonly source: Address;
  readonly destination: Address;
  /** IP protocol number. */
  readonly protocol: number;
  /** null: the packets showed none, or it is not the one that tells. */
  readonly sourcePort: number | null;
  readonly destinationPort: number | null;
  readonly refusal: string;
  readonly packets: bigint;
  /** Wall clock of the last one, milliseconds since the epoch. */
  readonly lastAtMs: number;
}

export interface PolicyCounts {
  /** By flow id; absent: nothing. */
  readonly flows: ReadonlyMap<string, PolicyCount>;
  readonly message: PolicyCount;
  readonly noPorts: PolicyCount;
  /** By reason, all of them. */
  readonly refusals: ReadonlyMap<string, PolicyCount>;
  /** The last 64, the latest first. */
  readonly refused: readonly RefusedPackets[];
}

export interface CommandHost {
  /** The running configuration. */
  config(): Config;
  /**
   * One atomic change. `change` is called once, with the newest Config, when its turn comes; changes never overlap,
   * also when it takes its time.
   * Resolves after the change is published to the engine and saved, or with the failure that `change`, the engine
   * (E-NOMEM) or the database (E-CFG) gave; then nothing has changed.
   * @param audit the canonical command line, for audit log and history.
   */
  transact(
    audit: string,
    change: (config: Config, context: ChangeContext) => Result<Config> | Promise<Result<Config>>,
  ): Promise<Result<void>>;
  /** The same context as transact gives, for checks that change nothing. */
  changeContext(): ChangeContext;
  statistics(): StatisticsSample;
  /** Results of health checks of rules that exist, in any order. Absent: this process runs no health checks. */
  healthResults?(): readonly HealthResult[];
  /** Connections by rule and server, also of those that were deleted. Absent: this process has none. */
  flowCounts?(): Iterable<FlowCount>;
  /** The newest `limit` records (null: all), oldest first, read as they are taken. Absent: nothing is recorded here. */
  records?(kind: "audit" | "history", limit: number | null): Iterable<LogRecord>;
  /**
   * The configuration as it was after change `id` of the history (0: before the first), made from `current` by undoing
   * what came later. Fails with E-NOCHANGE when the history does not reach there. Absent: there is no history here.
   */
  configAfter?(id: number, current: Config): Result<Config>;
  /** Remarks on a change that was made, for standard error (one line each, without prefix). */
  hints?(change: Change): readonly string[];
  /** Connection entries, lazily, so that a listing of millions is never built in memory. */
  natEntries(): Iterable<FlowSnapshot>;
  persistEntries(): Iterable<StickySnapshot>;
  /** The same by ascending place, beginning with place `place`, for listings that go on later. */
  natEntriesFrom(place: number): Iterable<Placed<FlowSnapshot>>;
  persistEntriesFrom(place: number): Iterable<Placed<StickySnapshot>>;
  /** What would become of a packet now; nothing changes. Absent: this process has no tables. */
  explain?(packet: ExplainedPacket): LocatedExplanation;
  /** For one test of a path; null: too many are under way. Absent: this process connects to nobody. */
  connector?(): Connector | null;
  /** First address of a host name, by the daemon's resolver; null when it does not resolve. */
  resolveHost(name: string, family?: Family): Promise<Address | null>;
  /** Name of an address, null if none. */
  reverseLookup(address: Address): Promise<string | null>;
  /** Port of a service name: services file first, then the built-in list; null when unknown. */
  resolveService(name: string, prefer: Protocol): Promise<number | null>;
  /** What the flow policy let pass and refused, in the engine and in the kernel. Absent: this process has neither. */
  policyCounts?(): Promise<PolicyCounts>;
  /** Waits that long (injected clock); rejects when the caller has gone. */
  sleep(milliseconds: number): Promise<void>;
}
