/** What every field of every listing prints, as text; an empty text is an empty value. Layout is columns.ts. */
import { type Address, formatAddress, widthBits } from "../model/address.ts";
import type { Config, HealthCheck, Rule, Server, ServerGroup } from "../model/config.ts";
import { effectiveTimers, serverId, sortedServers } from "../model/lookup.ts";
import { UNKNOWN_CELL } from "./columns.ts";
import type {
  AuditField,
  GroupField,
  HealthField,
  HistoryField,
  ResultField,
  RuleField,
  ServerField,
} from "./fields.ts";
import type { HealthResult, LogRecord } from "./host.ts";
import { utterJudging } from "./judging-options.ts";
import type { AnyKey } from "./options.ts";
import { timeStamp } from "./statistics.ts";
import { utterTestOptions } from "./test-options.ts";
import { addressRange, algorithm, healthCheckPort, ports, prefixLength, ruleType } from "./values.ts";

/** Objects of a Config by id, made once per listing. */
export class Index {
  readonly groups: ReadonlyMap<number, ServerGroup>;
  readonly checks: ReadonlyMap<number, HealthCheck>;

  constructor(config: Config) {
    this.groups = new Map(config.groups.map((group) => [group.id, group]));
    this.checks = new Map(config.healthChecks.map((check) => [check.id, check]));
  }

  groupOf(rule: Rule): ServerGroup {
    const group = this.groups.get(rule.groupId);
    if (group === undefined) throw new Error(`rule ${rule.name} names the missing group id ${rule.groupId}`);
    return group;
  }
}

const onOff = (enabled: boolean): string => (enabled ? "E" : "D");

export const RULE_CELLS: Readonly<Record<RuleField, (rule: Rule, index: Index) => string>> = {
  RULENAME: (rule) => rule.name,
  STATUS: (rule) => onOff(rule.enabled),
  PORT: (rule) => ports.print(rule.ports),
  PROTOCOL: (rule) => rule.protocol.toUpperCase(),
  LBALG: (rule) => algorithm.print(rule.algorithm),
  TYPE: (rule) => ruleType.print(rule.type),
  "PROXY-SRC": (rule) => (rule.proxySource === null ? "" : addressRange.print(rule.proxySource)),
  PMASK: (rule) => (rule.stickyMask === null ? "" : prefixLength.print(rule.stickyMask)),
  "HC-NAME": (rule, index) => index.checks.get(rule.healthCheckId ?? 0)?.name ?? "",
  "HC-PORT": (rule) => (rule.healthCheckPort === null ? "" : healthCheckPort.print(rule.healthCheckPort)),
  "CONN-DRAIN": (rule) => String(effectiveTimers(rule).connDrain),
  "NAT-TIMEOUT": (rule) => String(effectiveTimers(rule).natTimeout),
  "PERSIST-TIMEOUT": (rule) => String(effectiveTimers(rule).persistTimeout),
  SERVERGROUP: (rule, index) => index.groupOf(rule).name,
  VIP: (rule) => formatAddress(rule.vip),
  SERVERS: (rule, index) => {
    const group = index.groupOf(rule);
    return sortedServers(group)
      .map((server) => serverId(group, server))
      .join(",");
  },
};

/** One row of show-servergroup: a server, or a group without any. */
export interface GroupRow {
  readonly group: ServerGroup;
  readonly server: Server | null;
}

const portCell = (server: Server | null, end: "min" | "max"): string =>
  server === null || server.ports === null ? "" : String(server.ports[end]);

export const GROUP_CELLS: Readonly<Record<GroupField, (row: GroupRow) => string>> = {
  sgname: ({ group }) => group.name,
  serverID: ({ group, server }) => (server === null ? "" : serverId(group, server)),
  minport: ({ server }) => portCell(server, "min"),
  maxport: ({ server }) => portCell(server, "max"),
  IP_address: ({ server }) => (server === null ? "" : formatAddress(server.address)),
};

export interface ServerRow extends GroupRow {
  readonly server: Server;
  readonly rule: Rule;
  readonly hostName: string;
}

export const SERVER_CELLS: Readonly<Record<ServerField, (row: ServerRow) => string>> = {
  SERVERID: ({ group, server }) => serverId(group, server),
  ADDRESS: ({ server }) => formatAddress(server.address),
  PORT: ({ server }) => (server.ports === null ? UNKNOWN_CELL : ports.print(server.ports)),
  RULENAME: ({ rule }) => rule.name,
  STATUS: ({ server }) => onOff(server.enabled),
  SERVERGROUP: ({ group }) => group.name,
  HOSTNAME: ({ hostName }) => hostName,
};

/** `hc-path=/health,hc-rise=2`; empty when nothing was given (null). */
const printGiven = (given: readonly (readonly [AnyKey, unknown])[]): string =>
  given
    .filter(([, value]) => value !== null)
    .map(([key, value]) => `${key.key}=${key.codec.print(value)}`)
    .join(",");

export const HEALTH_CELLS: Readonly<Record<HealthField, (check: HealthCheck) => string>> = {
  HCNAME: (check) => check.name,
  TIMEOUT: (check) => String(check.timeoutSeconds),
  COUNT: (check) => String(check.count),
  INTERVAL: (check) => String(check.intervalSeconds),
  DEF_PING: (check) => (check.defaultPing ? "Y" : "N"),
  TEST: (check) => check.test.text,
  OPTIONS: ({ test, judging }) => printGiven([...utterTestOptions(test.options), ...utterJudging(judging)]),
};

const pad = (number: number): string => String(number).padStart(2, "0");

/** Local `HH:MM:SS`. */
function timeOfDay(atMs: number): string {
  const date = new Date(atMs);
  return `${pad(date.getHours())}:${pad(date.getMinutes())}:${pad(date.getSeconds())}`;
}

/** UTC `YYYY-MM-DD`, as certificates have it. */
const dayOf = (atMs: number): string => new Date(atMs).toISOString().slice(0, 10);
/** The last failure in words, and whether the server is offered all the same. */
const reasonOf = ({ reason, isKept }: HealthResult): string =>
  [reason ?? "", isKept ? "kept: too few would remain" : ""].filter((part) => part !== "").join("; ");

export interface ResultRow extends GroupRow {
  readonly server: Server;
  readonly rule: Rule;
  readonly check: HealthCheck;
  readonly result: HealthResult;
}

export const RESULT_CELLS: Readonly<Record<ResultField, (row: ResultRow) => string>> = {
  RULENAME: ({ rule }) => rule.name,
  HCNAME: ({ check }) => check.name,
  SERVERID: ({ group, server }) => serverId(group, server),
  STATUS: ({ result }) => result.status,
  FAIL: ({ result }) => String(result.fail),
  LAST: ({ result }) => timeOfDay(result.lastAtMs),
  NEXT: ({ result }) => (result.nextAtMs === null ? "" : timeOfDay(result.nextAtMs)),
  RTT: ({ result }) => String(result.rttMicroseconds),
  CERT_UNTIL: ({ result: { certificateUntilMs } }) => (certificateUntilMs == null ? "" : dayOf(certificateUntilMs)),
  VIA: ({ result }) => result.via ?? "",
  REASON: ({ result }) => reasonOf(result),
};

export const RECORD_CELLS: Readonly<Record<AuditField | HistoryField, (record: LogRecord) => string>> = {
  ID: ({ id }) => String(id),
  TIME: ({ atMs }) => timeStamp(atMs),
  USER: ({ who }) => who,
  RESULT: ({ result }) => result,
  COMMAND: ({ command }) => command,
};

/** `ADDR/LEN`; a whole address stands alone. */
export const printPrefix = (address: Address, prefixLength: number): string =>
  prefixLength === widthBits(address.family) ? formatAddress(address) : `${formatAddress(address)}/${prefixLength}`;
