/**
 * Rules, groups, servers, health checks, statistics, records and table entries as plain values for JSON and
 * MessagePack. Property names are the keys of the command line and, for counters, the column names in lower case.
 * Addresses are canonical text, unbracketed. Counters are bigint here (see `stringify`). What they look like, as
 * schemas, is view-schemas.ts: the command line program needs the views, and zod would double its start.
 */
import type { FlowSnapshot, StickySnapshot } from "../engine/engine.ts";
import { formatAddress } from "../model/address.ts";
import type { Config, HealthCheck, PortRange, Rule, Server, ServerGroup } from "../model/config.ts";
import {
  effectiveTimers,
  findById,
  groupOf,
  healthCheckOf,
  rulesOfGroup,
  serverId,
  sortedServers,
} from "../model/lookup.ts";
import type { HealthResult, LogRecord, RuleSample, StatisticsSample } from "./host.ts";
import { utterJudging } from "./judging-options.ts";
import { type AnyKey, KEYS, type KeySpec, OPTIONS } from "./options.ts";
import { RULE_COUNTERS, SERVER_COUNTERS } from "./statistics.ts";
import { utterTestOptions } from "./test-options.ts";
import { ports as portsCodec } from "./values.ts";
import type {
  FlowView,
  GroupView,
  ResultView,
  ServerOfGroupView,
  ServerOfRuleView,
  ServerView,
  StickyView,
} from "./view-schemas.ts";

const shown = <V>(key: KeySpec<V>, value: V | null): unknown =>
  value === null ? null : (key.codec.toJson?.(value) ?? key.codec.print(value));

/** The property that says that a rule was forced past the guard against translating NetBackup's ports. */
export const FORCED = OPTIONS.force.json?.property ?? OPTIONS.force.letter;

/** A rule with its defaults filled in and the IDs of its servers. */
export function ruleView(config: Config, rule: Rule): Record<string, unknown> {
  const group = groupOf(config, rule);
  const timers = effectiveTimers(rule);
  return {
    name: rule.name,
    enabled: rule.enabled,
    [KEYS.vip.property]: shown(KEYS.vip, rule.vip),
    [KEYS.port.property]: shown(KEYS.port, rule.ports),
    [KEYS.protocol.property]: shown(KEYS.protocol, rule.protocol),
    [KEYS.algorithm.property]: shown(KEYS.algorithm, rule.algorithm),
    [KEYS.type.property]: shown(KEYS.type, rule.type),
    [KEYS.proxySource.property]: shown(KEYS.proxySource, rule.proxySource),
    [KEYS.stickyMask.property]: shown(KEYS.stickyMask, rule.stickyMask),
    [KEYS.healthCheck.property]: healthCheckOf(config, rule)?.name ?? null,
    [KEYS.healthCheckPort.property]: shown(KEYS.healthCheckPort, rule.healthCheckPort),
    [KEYS.connDrain.property]: timers.connDrain,
    [KEYS.natTimeout.property]: timers.natTimeout,
    [KEYS.persistTimeout.property]: timers.persistTimeout,
    [KEYS.group.property]: group.name,
    [FORCED]: rule.forced,
    servers: sortedServers(group).map((server) => serverId(group, server)),
  };
}

const portOf = (range: PortRange | null): string | null => (range === null ? null : portsCodec.print(range));

/** A server without what uses it. */
export const serverOfGroupView = (group: ServerGroup, server: Server): ServerOfGroupView => ({
  id: serverId(group, server),
  servergroup: group.name,
  address: formatAddress(server.address),
  port: portOf(server.ports),
  enabled: server.enabled,
});

const ruleNames = (config: Config, group: ServerGroup): string[] =>
  Array.from(rulesOfGroup(config, group.id), (rule) => rule.name);

/** A server with the names of the rules that use it. */
export const serverView = (config: Config, group: ServerGroup, server: Server): ServerView => ({
  ...serverOfGroupView(group, server),
  rules: ruleNames(config, group),
});

/** A server as one of the rules that use it has it. */
export const serverOfRuleView = (rule: Rule, group: ServerGroup, server: Server): ServerOfRuleView => ({
  rule: rule.name,
  ...serverOfGroupView(group, server),
});

/** A server group with its servers, and the rules that use them. */
export const groupView = (config: Config, group: ServerGroup): GroupView => ({
  name: group.name,
  rules: ruleNames(config, group),
  servers: sortedServers(group).map((server) => serverOfGroupView(group, server)),
});

/** How JSON spells `-n`; the row of the option says so. */
export const DEFAULT_PING = OPTIONS.noDefaultPing.json?.property ?? OPTIONS.noDefaultPing.letter;

/** Properties of the keys that were given. */
const givenValues = (utterance: readonly (readonly [AnyKey, unknown])[]): Record<string, unknown> =>
  Object.fromEntries(utterance.flatMap(([key, value]) => (value === null ? [] : [[key.property, shown(key, value)]])));

/** A health check, with the additions that were given. */
export function healthCheckView(check: HealthCheck): Record<string, unknown> {
  return {
    name: check.name,
    [KEYS.test.property]: check.test.text,
    [KEYS.testTimeout.property]: check.timeoutSeconds,
    [KEYS.testCount.property]: check.count,
    [KEYS.testInterval.property]: check.intervalSeconds,
    [DEFAULT_PING]: check.defaultPing,
    ...givenValues([...utterTestOptions(check.test.options), ...utterJudging(check.judging)]),
  };
}

/** A health check result; null when its rule or server is gone. */
export function resultView(config: Config, result: HealthResult): ResultView | null {
  const rule = findById(config.rules, result.ruleId);
  const check = rule && healthCheckOf(config, rule);
  const group = rule && groupOf(config, rule);
  const server = group && findById(group.servers, result.serverId);
  if (!rule || !check || !group || !server) return null;
  return {
    rule: rule.name,
    healthcheck: check.name,
    server: serverId(group, server),
    status: result.status,
    fail: result.fail,
    last: new Date(result.lastAtMs).toISOString(),
    next: result.nextAtMs === null ? null : new Date(result.nextAtMs).toISOString(),
    rtt: result.rttMicroseconds,
    reason: result.reason ?? null,
    certificateUntil: result.certificateUntilMs == null ? null : new Date(result.certificateUntilMs).toISOString(),
    via: result.via ?? null,
    kept: result.isKept ?? false,
  };
}

function counters<T>(table: Readonly<Record<string, (item: T) => bigint>>, item: T): Record<string, bigint> {
  return Object.fromEntries(Object.entries(table).map(([field, read]) => [field.toLowerCase(), read(item)]));
}

const ruleSampleView = (rule: RuleSample): Record<string, unknown> => ({
  name: rule.name,
  ...counters(RULE_COUNTERS, rule),
  servers: rule.servers.map((server) => ({ id: server.name, ...counters(SERVER_COUNTERS, server) })),
});

/** One sample of all counters, absolute. */
export function statisticsView(sample: StatisticsSample): Record<string, unknown> {
  return { time: new Date(sample.takenAtMs).toISOString(), rules: sample.rules.map(ruleSampleView) };
}

/** One connection entry. */
export function flowView(flow: FlowSnapshot): FlowView {
  return {
    protocol: flow.protocol,
    client: { address: formatAddress(flow.client), port: flow.clientPort },
    vip: { address: formatAddress(flow.vip), port: flow.vipPort },
    source: { address: formatAddress(flow.source), port: flow.sourcePort },
    server: { address: formatAddress(flow.server), port: flow.serverPort },
  };
}

/** Names by id, for entries by the million. */
interface NamesById {
  readonly rules: ReadonlyMap<number, { readonly name: string; readonly groupId: number }>;
  readonly servers: ReadonlyMap<number, { readonly id: string; readonly groupId: number }>;
}

/** A Config never changes, so its names are gathered once. */
const namesById = new WeakMap<Config, NamesById>();

function namesOf(config: Config): NamesById {
  const known = namesById.get(config);
  if (known !== undefined) return known;
  const rules = new Map(Array.from(config.rules, ({ id, name, groupId }) => [id, { name, groupId }] as const));
  const servers = new Map<number, { id: string; groupId: number }>();
  for (const group of config.groups)
    for (const server of group.servers) servers.set(server.id, { id: serverId(group, server), groupId: group.id });
  const names = { rules, servers };
  namesById.set(config, names);
  return names;
}

/** One stickiness entry; null when its rule or server is gone. */
export function stickyView(config: Config, entry: StickySnapshot): StickyView | null {
  const { rules, servers } = namesOf(config);
  const rule = rules.get(entry.ruleId);
  const server = servers.get(entry.serverId);
  if (rule === undefined || server === undefined || rule.groupId !== server.groupId) return null;
  return { rule: rule.name, client: formatAddress(entry.client), server: server.id };
}

export { explanationView } from "./explain.ts";

/** JSON text of a view; 64-bit counters become decimal strings, so that no reader rounds them. */
export function stringify(view: unknown): string {
  return JSON.stringify(view, (_, value) => (typeof value === "bigint" ? String(value) : value));
}

/** A record of the audit log or of the history. */
export const recordView = ({ id, atMs, who, command, result }: LogRecord): Record<string, unknown> => ({
  id,
  time: new Date(atMs).toISOString(),
  user: who,
  result,
  command,
});
