/**
 * Rules, groups, servers, health checks, statistics and table entries as plain values for JSON and MessagePack, and the
 * zod schemas that describe them. Property names are the keys of the command line and, for counters, the column names in
 * lower case. Addresses are canonical text, unbracketed. Counters are bigint here (see `stringify` in json.ts).
 */
import { z } from "zod";
import type { FlowSnapshot, StickySnapshot } from "../engine/engine.ts";
import { formatAddress } from "../model/address.ts";
import type { Config, HealthCheck, PortRange, Rule, Server, ServerGroup } from "../model/config.ts";
import { effectiveTimers, groupOf, healthCheckOf, rulesOfGroup, serverId, sortedServers } from "../model/lookup.ts";
import type { HealthResult, RuleSample, StatisticsSample } from "./host.ts";
import { valueSchema } from "./schema.ts";
import { type AnyKey, KEYS, type KeySpec, OPTIONS } from "./spec.ts";
import { RULE_COUNTERS, SERVER_COUNTERS } from "./statistics.ts";
import { ports as portsCodec } from "./values.ts";

/** A 64-bit counter: a decimal string in JSON, an integer in MessagePack. */
const counter = z
  .string()
  .regex(/^[0-9]+$/)
  .describe("64-bit counter; decimal string in JSON, integer in MessagePack");
const portText = z.string().nullable().describe("N or N-M; null: the ports of each rule");
const time = z.string().describe("RFC 3339 time");

const shown = <V>(key: KeySpec<V>, value: V | null): unknown =>
  value === null ? null : (key.codec.toJson?.(value) ?? key.codec.print(value));

/** Properties of keys, for schemas. */
const keyShape = (keys: readonly AnyKey[], nullable: readonly AnyKey[]): Record<string, z.ZodType> =>
  Object.fromEntries(
    keys.map((key) => {
      const schema = valueSchema(key);
      return [key.property, nullable.includes(key) ? schema.nullable() : schema];
    }),
  );

const RULE_KEYS: readonly AnyKey[] = [
  ...OPTIONS.incoming.keys,
  ...OPTIONS.method.keys,
  ...OPTIONS.ruleHealth.keys,
  ...OPTIONS.timers.keys,
  ...OPTIONS.outgoing.keys,
];

const ruleSchema = z.object({
  name: z.string(),
  enabled: z.boolean(),
  ...keyShape(RULE_KEYS, [KEYS.proxySource, KEYS.stickyMask, KEYS.healthCheck, KEYS.healthCheckPort]),
  servers: z.array(z.string()).describe("server IDs, ascending by address"),
});

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
    servers: sortedServers(group).map((server) => serverId(group, server)),
  };
}

const serverSchema = z.object({
  id: z.string().describe("server ID, _GROUP.N"),
  servergroup: z.string(),
  address: z.string(),
  port: portText,
  enabled: z.boolean(),
  rules: z.array(z.string()).describe("rules that use it"),
});

const portOf = (range: PortRange | null): string | null => (range === null ? null : portsCodec.print(range));

/** A server with the names of the rules that use it. */
export function serverView(config: Config, group: ServerGroup, server: Server): z.infer<typeof serverSchema> {
  return {
    id: serverId(group, server),
    servergroup: group.name,
    address: formatAddress(server.address),
    port: portOf(server.ports),
    enabled: server.enabled,
    rules: rulesOfGroup(config, group.id).map((rule) => rule.name),
  };
}

const groupSchema = z.object({
  name: z.string(),
  servers: z.array(serverSchema).describe("ascending by address"),
});

/** A server group with its servers. */
export function groupView(config: Config, group: ServerGroup): z.infer<typeof groupSchema> {
  return { name: group.name, servers: sortedServers(group).map((server) => serverView(config, group, server)) };
}

/** How JSON spells `-n`; the row of the option says so. */
const DEFAULT_PING = OPTIONS.noDefaultPing.json?.property ?? OPTIONS.noDefaultPing.letter;

const healthCheckSchema = z.object({
  name: z.string(),
  ...keyShape(OPTIONS.test.keys, []),
  [DEFAULT_PING]: z.boolean(),
});

/** A health check. */
export function healthCheckView(check: HealthCheck): Record<string, unknown> {
  return {
    name: check.name,
    [KEYS.test.property]: check.test.text,
    [KEYS.testTimeout.property]: check.timeoutSeconds,
    [KEYS.testCount.property]: check.count,
    [KEYS.testInterval.property]: check.intervalSeconds,
    [DEFAULT_PING]: check.defaultPing,
  };
}

const resultSchema = z.object({
  rule: z.string(),
  healthcheck: z.string(),
  server: z.string(),
  status: z.enum(["un-init", "alive", "dead", "unreach", "disabled"]),
  fail: z.int(),
  last: time,
  next: time.nullable(),
  rtt: z.int().describe("microseconds, 0: unknown"),
});

/** A health check result; null when its rule or server is gone. */
export function resultView(config: Config, result: HealthResult): z.infer<typeof resultSchema> | null {
  const rule = config.rules.find((candidate) => candidate.id === result.ruleId);
  const check = rule && healthCheckOf(config, rule);
  const group = rule && groupOf(config, rule);
  const server = group?.servers.find((candidate) => candidate.id === result.serverId);
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
  };
}

const counterShape = (table: object): Record<string, z.ZodType> =>
  Object.fromEntries(Object.keys(table).map((field) => [field.toLowerCase(), counter]));

const statisticsSchema = z.object({
  time,
  rules: z.array(
    z.object({
      name: z.string(),
      ...counterShape(RULE_COUNTERS),
      servers: z.array(z.object({ id: z.string(), ...counterShape(SERVER_COUNTERS) })),
    }),
  ),
});

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

const endpointSchema = z.object({ address: z.string(), port: z.int() });
const flowSchema = z.object({
  protocol: z.enum(["tcp", "udp"]),
  client: endpointSchema,
  vip: endpointSchema,
  source: endpointSchema.describe("full NAT: proxy address and port; half NAT: the client again"),
  server: endpointSchema,
});

/** One connection entry. */
export function flowView(flow: FlowSnapshot): z.infer<typeof flowSchema> {
  return {
    protocol: flow.protocol,
    client: { address: formatAddress(flow.client), port: flow.clientPort },
    vip: { address: formatAddress(flow.vip), port: flow.vipPort },
    source: { address: formatAddress(flow.source), port: flow.sourcePort },
    server: { address: formatAddress(flow.server), port: flow.serverPort },
  };
}

const stickySchema = z.object({
  rule: z.string(),
  client: z.string().describe("client address with the rule's mask applied"),
  server: z.string().describe("server ID"),
});

/** One stickiness entry; null when its rule or server is gone. */
export function stickyView(config: Config, entry: StickySnapshot): z.infer<typeof stickySchema> | null {
  const rule = config.rules.find((candidate) => candidate.id === entry.ruleId);
  const group = rule && groupOf(config, rule);
  const server = group?.servers.find((candidate) => candidate.id === entry.serverId);
  if (!rule || !group || !server) return null;
  return { rule: rule.name, client: formatAddress(entry.client), server: serverId(group, server) };
}

const openEndpointSchema = z.object({ address: z.string(), port: z.int().nullable() });
const explanationSchema = z.object({
  packet: z.object({ protocol: z.enum(["tcp", "udp"]), source: endpointSchema, destination: endpointSchema }),
  verdict: z.string().describe("ignore, forward, reply, pass or drop"),
  reason: z.string().describe("stable name"),
  meaning: z.string(),
  rule: z.string().nullable(),
  type: z.string().nullable(),
  server: z.string().nullable().describe("server ID"),
  direction: z.enum(["none", "client-to-server", "server-to-client"]),
  flow: z.enum(["none", "new", "found"]),
  entry: z
    .object({
      closed: z.boolean().describe("it is over, and the packet's own flow would replace it"),
      client: endpointSchema,
      vip: endpointSchema,
      source: endpointSchema,
      server: endpointSchema,
    })
    .nullable(),
  choice: z
    .object({
      algorithm: z.string(),
      hash: z
        .object({
          value: z.string(),
          index: z.int(),
          count: z.int(),
          fallback: z.object({ index: z.int(), count: z.int() }).nullable(),
        })
        .nullable(),
      turns: z.array(z.string().nullable()).nullable().describe("round robin: server IDs, the next first"),
      picked: z.string().nullable().describe("what the algorithm gives"),
      sticky: z
        .object({ client: z.string(), mask: z.int(), server: z.string().nullable(), holds: z.boolean() })
        .nullable(),
      servers: z.array(
        z.object({
          id: z.string().nullable(),
          address: z.string(),
          port: z.string().nullable(),
          why: z.enum(["chosen", "disabled", "down", "not-its-turn", "other-hash", "other-sticky"]),
        }),
      ),
    })
    .nullable(),
  leaving: z
    .object({ source: openEndpointSchema.describe("port null: a free proxy port"), destination: endpointSchema })
    .nullable(),
  egress: z
    .object({
      device: z.string().nullable(),
      nexthop: z.enum(["resolved", "unresolved", "none"]),
      source: z.string().nullable(),
      destination: z.string().nullable(),
      mtu: z.int(),
    })
    .nullable(),
});

/** An explanation. */
export { explanationView } from "./explain.ts";

/** Schemas of the views above, by resource. */
export const VIEW_SCHEMAS = Object.freeze({
  rule: ruleSchema,
  servergroup: groupSchema,
  server: serverSchema,
  healthcheck: healthCheckSchema,
  "hc-result": resultSchema,
  statistics: statisticsSchema,
  nat: flowSchema,
  persist: stickySchema,
  explanation: explanationSchema,
});
