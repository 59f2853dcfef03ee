/**
 * Commands as frozen plain data: what text, JSON and import lines become, with all names resolved. A `Change` is one
 * atomic step from one Config to the next; a subcommand with several operands is a row of Changes. A `Query` changes
 * nothing. Every kind is the long name of its subcommand.
 */
import type { ExplainedPacket } from "../engine/explanation.ts";
import type { Address } from "../model/address.ts";
import type { Judging, PortRange, Rule, TestOptions } from "../model/config.ts";
import type { FactValue, HostRole, PolicyMode } from "../model/netbackup.ts";
import type { FlowQuestion } from "../netbackup/question.ts";

/** What a caller must be allowed to do. `config` does not imply `enable`. */
export type Right = "show" | "enable" | "config";

/** A server as it is added: one address, its ports or null for those of each rule. */
export interface NewServer {
  readonly address: Address;
  readonly ports: PortRange | null;
}

/** A rule as it is to be made; what it refers to is named. */
export interface CreateRule extends Omit<Rule, "id" | "groupId" | "healthCheckId"> {
  readonly kind: "create-rule";
  readonly group: string;
  readonly healthCheck: string | null;
}

/** `name` null: all rules, as one change. */
export interface RuleChange {
  readonly kind: "delete-rule" | "enable-rule" | "disable-rule";
  readonly name: string | null;
}

export interface CreateServerGroup {
  readonly kind: "create-servergroup";
  readonly name: string;
  readonly servers: readonly NewServer[];
}

export interface DeleteServerGroup {
  readonly kind: "delete-servergroup";
  readonly name: string;
}

export interface AddServer {
  readonly kind: "add-server";
  readonly group: string;
  readonly server: NewServer;
  /** Past the guard against translating NetBackup's ports. */
  readonly forced: boolean;
}

export interface RemoveServer {
  readonly kind: "remove-server";
  readonly group: string;
  /** Server ID, `_GROUP.N`. */
  readonly serverId: string;
}

export interface ServerChange {
  readonly kind: "enable-server" | "disable-server";
  readonly serverId: string;
}

export interface CreateHealthCheck {
  readonly kind: "create-healthcheck";
  readonly name: string;
  /** As the user spelled it: tcp, udp, ping, an absolute path; HTTP, HTTPS, GRPC, DNS or a URL. */
  readonly test: string;
  /** Of a test that talks; absent: none were given. */
  readonly options?: TestOptions;
  readonly timeoutSeconds: number;
  readonly count: number;
  readonly intervalSeconds: number;
  readonly defaultPing: boolean;
  /** Absent: nothing was said. */
  readonly judging?: Judging;
}

export interface DeleteHealthCheck {
  readonly kind: "delete-healthcheck";
  readonly name: string;
}

/** A port of NetBackup that the site sets: a service of the catalogue, or a range that only the site can name. */
export interface SetPort {
  readonly kind: "set-port";
  /** Id of the service or window. */
  readonly name: string;
  /** null: what the guide says. */
  readonly ports: PortRange | null;
}

/** A NetBackup host, or all hosts behind a prefix. */
export interface CreateHost {
  readonly kind: "create-host";
  readonly name: string;
  /** Bits behind the prefix are 0. */
  readonly address: Address;
  readonly prefixLength: number;
  readonly roles: readonly HostRole[];
  /** By id, in the order in which they were said. */
  readonly facts: readonly (readonly [name: string, value: FactValue])[];
}

export interface DeleteHost {
  readonly kind: "delete-host";
  readonly name: string;
}

export interface SetPolicy {
  readonly kind: "set-policy";
  /** null: as it is. */
  readonly mode: PolicyMode | null;
  /** Switches, features and settings by their full names; `unknown` takes a fact back. */
  readonly settings: readonly (readonly [name: string, value: string])[];
}

export type Change =
  | CreateRule
  | RuleChange
  | CreateServerGroup
  | DeleteServerGroup
  | AddServer
  | RemoveServer
  | ServerChange
  | CreateHealthCheck
  | DeleteHealthCheck
  | SetPort
  | CreateHost
  | DeleteHost
  | SetPolicy;

/** What `-o` and `-p` chose. `fields` are canonical (as headers print them). */
export interface Output {
  readonly fields: readonly string[];
  readonly parsable: boolean;
}

export interface ShowRule {
  readonly kind: "show-rule";
  /** null: both. */
  readonly enabled: boolean | null;
  /** `-f`: one line per field. Then `output.fields` are all fields. */
  readonly full: boolean;
  readonly output: Output;
  readonly names: readonly string[];
}

export interface ShowServerGroup {
  readonly kind: "show-servergroup";
  /** null: one line per server in the manual's form. */
  readonly output: Output | null;
  readonly names: readonly string[];
}

export interface ShowServer {
  readonly kind: "show-server";
  readonly output: Output;
  readonly names: readonly string[];
}

export interface ShowHealth {
  readonly kind: "show-healthcheck" | "show-hc-result";
  readonly names: readonly string[];
  /** All columns, those that the original does not have too. */
  readonly verbose?: true;
}

export interface ShowTable {
  readonly kind: "show-nat" | "show-persist";
  /** null: every entry. */
  readonly limit: number | null;
}

export interface ShowStatistics {
  readonly kind: "show-statistics";
  readonly output: Output;
  readonly itemize: boolean;
  readonly rule: string | null;
  /** Server ID. */
  readonly server: string | null;
  /** Later samples: change per second, change per interval, or totals. */
  readonly mode: "per-second" | "delta" | "absolute";
  /** null: one sample. */
  readonly intervalSeconds: number | null;
  /** Samples to take; null with an interval: endless. */
  readonly count: number | null;
}

export interface Explain {
  readonly kind: "explain";
  readonly packet: ExplainedPacket;
}

/** Records of what was done: every command with its result, or the changes that can be gone back to. */
export interface ShowRecords {
  readonly kind: "show-audit" | "history";
  readonly output: Output;
  /** The newest so many; null: all. */
  readonly limit: number | null;
}

/** Services of the NetBackup catalogue. */
export interface ShowServices {
  readonly kind: "show-services";
  /** null: of every table. */
  readonly table: string | null;
  readonly output: Output;
  /** Names or ports; none: all. */
  readonly names: readonly string[];
}

/** How flows are printed. */
export type FlowForm = "table" | "csv" | "json";

export interface ShowFlows {
  readonly kind: "show-flows";
  readonly question: FlowQuestion;
  readonly form: FlowForm;
  readonly output: Output;
}

export interface ShowHosts {
  readonly kind: "show-host";
  readonly output: Output;
  readonly names: readonly string[];
}

export interface ShowPolicy {
  readonly kind: "show-policy";
  /** With flows, their counters and what was refused. */
  readonly verbose: boolean;
}

/** How a policy is written. */
export type PolicyForm = "nft" | "csv" | "json" | "table" | "config";

export interface ExportPolicy {
  readonly kind: "export-policy";
  readonly form: PolicyForm;
  /** Opened by the caller's process, never by the daemon; null: standard output. */
  readonly file: string | null;
}

/** What a reading subcommand asks for. */
export type Asked =
  | ShowRule
  | ShowServerGroup
  | ShowServer
  | ShowHealth
  | ShowTable
  | ShowStatistics
  | ShowRecords
  | ShowServices
  | ShowFlows
  | ShowHosts
  | ShowPolicy
  | ExportPolicy
  | Explain;

/** A question and the form of its answer. `json`: objects instead of lines. */
export type Query = Asked & { readonly json: boolean };

export interface ExportConfig {
  readonly kind: "export-config";
  /** Opened by the caller's process, never by the daemon; null: standard output. */
  readonly file: string | null;
}

export interface ImportConfig {
  readonly kind: "import-config";
  readonly preserve: boolean;
  /** Tell what would change and change nothing. */
  readonly dryRun: boolean;
  readonly file: string | null;
}

/** set-port with the port of a file, which the caller's process reads. */
export interface PortFile {
  readonly kind: "port-file";
  readonly file: string;
}

/** Opens connections to a host of NetBackup, one after the other, and tells which were answered. */
export interface TestConnection {
  readonly kind: "test-connection";
  /** Name or address, IPv6 without brackets. */
  readonly host: string;
  /** Id of the service whose daemon is the last step; null: the one that the guide names. */
  readonly service: string | null;
  /** For all of it. */
  readonly seconds: number;
  /** Go on behind the first answer. */
  readonly all: boolean;
  /** The web ports of OpsCenter instead. */
  readonly webPairs: boolean;
  readonly output: Output;
  readonly json: boolean;
}

/** Back to the configuration as it was after a change of the history; 0: before the first. */
export interface Rollback {
  readonly kind: "rollback";
  readonly id: number;
  readonly dryRun: boolean;
}

/** A bound command line: the changes of a changing subcommand, or the one thing that a reading subcommand asks. */
export type Command =
  | { readonly kind: "changes"; readonly subcommand: Change["kind"]; readonly changes: readonly Change[] }
  | Query
  | ExportConfig
  | ImportConfig
  | PortFile
  | TestConnection
  | Rollback;

/** All subcommands by their long names. */
export type SubcommandName =
  | Change["kind"]
  | Query["kind"]
  | ExportConfig["kind"]
  | ImportConfig["kind"]
  | TestConnection["kind"]
  | Rollback["kind"];
