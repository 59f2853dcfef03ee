/**
 * Rows of every show-* but statistics, as text. Listings read one Config, so they are consistent in themselves; they
 * come line by line and are never built up as a whole.
 */
import { type Address, formatAddress, formatBracketed } from "../model/address.ts";
import type { Config, HealthCheck, Rule, ServerGroup } from "../model/config.ts";
import { findGroup, findHealthCheck, findRule, serverId, sortedServers } from "../model/lookup.ts";
import { ok, type Result } from "../model/result.ts";
import {
  GROUP_CELLS,
  type GroupRow,
  HEALTH_CELLS,
  Index,
  RECORD_CELLS,
  RESULT_CELLS,
  RULE_CELLS,
  SERVER_CELLS,
  type ServerRow,
} from "./cells.ts";
import { EMPTY_CELL, Table } from "./columns.ts";
import type {
  Asked,
  Explain,
  ShowHealth,
  ShowRecords,
  ShowRule,
  ShowServer,
  ShowServerGroup,
  ShowStatistics,
  ShowTable,
} from "./command.ts";
import { failed } from "./errors.ts";
import { explanationLines } from "./explain.ts";
import {
  AUDIT_FIELDS,
  type AuditField,
  allFields,
  GROUP_FIELDS,
  type GroupField,
  HEALTH_FIELDS,
  type HealthField,
  HISTORY_FIELDS,
  type HistoryField,
  RESULT_FIELDS,
  type ResultField,
  RULE_FIELDS,
  type RuleField,
  SERVER_FIELDS,
  type ServerField,
} from "./fields.ts";
import type { CommandHost } from "./host.ts";
import { FORCED_LINE } from "./nat-guard.ts";
import { checkFlows, checkServices, listFlows, listServices } from "./netbackup-listings.ts";
import { checkHosts, listHosts, listPolicy, writePolicy } from "./policy-listings.ts";
import { unknownName } from "./suggest.ts";
import { ports } from "./values.ts";

/** Text lines with their newlines; the return value is the failure that ended the listing, if one did. */
export type Listing = AsyncGenerator<string, Result<void>, void>;

/** Names of fields in the multi-line form end at this column. */
const FULL_NAME_WIDTH = 15;

/** Rules in operand order, or all in creation order; ends with a failure at the first name that is unknown. */
function* chooseRules(config: Config, names: readonly string[]): Generator<Rule, Result<void>> {
  if (names.length === 0) yield* config.rules;
  for (const name of names) {
    const rule = findRule(config, name);
    if (rule === undefined) return unknownName("E-ENOENT", name, config.rules);
    yield rule;
  }
  return ok(undefined);
}

function ruleInFull(rule: Rule, index: Index, fields: readonly string[]): string {
  const lines = fields.map((field) => {
    const value = RULE_CELLS[field as RuleField](rule, index);
    return `${field.padStart(FULL_NAME_WIDTH)}: ${value === "" ? EMPTY_CELL : value}\n`;
  });
  if (rule.forced) lines.push(`${FORCED_LINE.name.padStart(FULL_NAME_WIDTH)}: ${FORCED_LINE.value}\n`);
  return lines.join("");
}

async function* listRules(query: ShowRule, config: Config): Listing {
  const index = new Index(config);
  const { fields, parsable } = query.output;
  const table = new Table(RULE_FIELDS, fields, parsable);
  const rules = chooseRules(config, query.names);
  let isFirst = true;
  for (let step = rules.next(); ; step = rules.next()) {
    if (step.done) return step.value;
    const rule = step.value;
    if (query.enabled !== null && rule.enabled !== query.enabled) continue;
    if (query.full) yield (isFirst ? "" : "\n") + ruleInFull(rule, index, fields);
    else {
      if (isFirst) yield table.header(rule.vip.family);
      yield table.row((field) => RULE_CELLS[field as RuleField](rule, index));
    }
    isFirst = false;
  }
}

// Server groups

/** `GROUP: id:ID ADDR[:PORT[-PORT]]`; an empty group has nothing behind `id:`. */
function groupLine({ group, server }: GroupRow): string {
  if (server === null) return `${group.name}: id:\n`;
  const serverPorts = server.ports === null ? "" : `:${ports.print(server.ports)}`;
  return `${group.name}: id:${serverId(group, server)} ${formatBracketed(server.address)}${serverPorts}\n`;
}

const groupRows = (group: ServerGroup): GroupRow[] =>
  group.servers.length === 0 ? [{ group, server: null }] : sortedServers(group).map((server) => ({ group, server }));

function* chooseGroups(config: Config, names: readonly string[]): Generator<ServerGroup, Result<void>> {
  if (names.length === 0) yield* config.groups;
  for (const name of names) {
    const group = findGroup(config, name);
    if (group === undefined) return unknownName("E-SGUNAVAIL", name, config.groups);
    yield group;
  }
  return ok(undefined);
}

async function* listGroups(query: ShowServerGroup, config: Config): Listing {
  const table = query.output && new Table(GROUP_FIELDS, query.output.fields, query.output.parsable);
  const groups = chooseGroups(config, query.names);
  let isFirst = true;
  for (let step = groups.next(); ; step = groups.next()) {
    if (step.done) return step.value;
    for (const row of groupRows(step.value)) {
      if (table && isFirst) yield table.header(row.server?.address.family ?? null);
      isFirst = false;
      yield table ? table.row((field) => GROUP_CELLS[field as GroupField](row)) : groupLine(row);
    }
  }
}

// Servers of rules

/** Reverse lookups of one listing, each address once. */
function hostNames(host: CommandHost): (address: Address) => Promise<string> {
  const known = new Map<string, Promise<string>>();
  return (address) => {
    const text = formatAddress(address);
    const name = known.get(text) ?? host.reverseLookup(address).then((found) => found ?? "");
    known.set(text, name);
    return name;
  };
}

async function* listServers(query: ShowServer, config: Config, host: CommandHost): Listing {
  const index = new Index(config);
  const { fields, parsable } = query.output;
  const table = new Table(SERVER_FIELDS, fields, parsable);
  const needed: ServerField = "HOSTNAME";
  const nameOf = fields.includes(needed) ? hostNames(host) : () => Promise.resolve("");
  const rules = chooseRules(config, query.names);
  let isFirst = true;
  for (let step = rules.next(); ; step = rules.next()) {
    if (step.done) return step.value;
    const rule = step.value;
    const group = index.groupOf(rule);
    for (const server of sortedServers(group)) {
      if (isFirst) yield table.header(rule.vip.family);
      isFirst = false;
      const row: ServerRow = { rule, group, server, hostName: await nameOf(server.address) };
      yield table.row((field) => SERVER_CELLS[field as ServerField](row));
    }
  }
}

// Health checks

function* chooseHealthChecks(config: Config, names: readonly string[]): Generator<HealthCheck, Result<void>> {
  if (names.length === 0) yield* config.healthChecks;
  for (const name of names) {
    const check = findHealthCheck(config, name);
    if (check === undefined) return unknownName("E-ENOENT", name, config.healthChecks);
    yield check;
  }
  return ok(undefined);
}

async function* listHealthChecks(query: ShowHealth, config: Config): Listing {
  const fields = query.verbose ? allFields(HEALTH_FIELDS) : HEALTH_FIELDS.defaults;
  const table = new Table(HEALTH_FIELDS, fields, false);
  const checks = chooseHealthChecks(config, query.names);
  let isFirst = true;
  for (let step = checks.next(); ; step = checks.next()) {
    if (step.done) return step.value;
    const check = step.value;
    if (isFirst) yield table.header(null);
    isFirst = false;
    yield table.row((field) => HEALTH_CELLS[field as HealthField](check));
  }
}

/** Rules whose results are asked for: those with a health check, or the named ones, which must have one. */
function* chooseCheckedRules(config: Config, names: readonly string[]): Generator<Rule, Result<void>> {
  if (names.length === 0) yield* config.rules.filter((rule) => rule.healthCheckId !== null);
  for (const name of names) {
    const rule = findRule(config, name);
    if (rule === undefined) return unknownName("E-NOHC", name, config.rules);
    if (rule.healthCheckId === null) return failed("E-NOHC");
    yield rule;
  }
  return ok(undefined);
}

async function* listResults(query: ShowHealth, config: Config, host: CommandHost): Listing {
  if (host.healthResults === undefined) return failed("E-UNSUPPORTED", query.kind);
  const index = new Index(config);
  const results = new Map(host.healthResults().map((result) => [`${result.ruleId} ${result.serverId}`, result]));
  const fields = query.verbose ? allFields(RESULT_FIELDS) : RESULT_FIELDS.defaults;
  const table = new Table(RESULT_FIELDS, fields, false);
  const rules = chooseCheckedRules(config, query.names);
  let isFirst = true;
  for (let step = rules.next(); ; step = rules.next()) {
    if (step.done) return step.value;
    const rule = step.value;
    const group = index.groupOf(rule);
    const check = index.checks.get(rule.healthCheckId ?? 0);
    for (const server of sortedServers(group)) {
      const result = results.get(`${rule.id} ${server.id}`);
      if (check === undefined || result === undefined) continue; // gone since the Config was read
      if (isFirst) yield table.header(null);
      isFirst = false;
      yield table.row((field) => RESULT_CELLS[field as ResultField]({ rule, group, server, check, result }));
    }
  }
}

// Engine tables

const PROTOCOL_WIDTH = 4;
const endpoint = (address: Address, port: number): string => `${formatAddress(address)}.${port}`;

async function* listConnections(query: ShowTable, host: CommandHost): Listing {
  let left = query.limit ?? Number.POSITIVE_INFINITY;
  for (const flow of host.natEntries()) {
    if (left-- <= 0) break;
    const client = endpoint(flow.client, flow.clientPort);
    const vip = endpoint(flow.vip, flow.vipPort);
    const source = endpoint(flow.source, flow.sourcePort);
    const server = endpoint(flow.server, flow.serverPort);
    yield `${flow.protocol.toUpperCase().padStart(PROTOCOL_WIDTH)}: ${client} > ${vip} >>> ${source} > ${server}\n`;
  }
  return ok(undefined);
}

async function* listPersistence(query: ShowTable, config: Config, host: CommandHost): Listing {
  const rules = new Map(config.rules.map((rule) => [rule.id, rule.name]));
  const servers = new Map(config.groups.flatMap((group) => group.servers).map((server) => [server.id, server.address]));
  let left = query.limit ?? Number.POSITIVE_INFINITY;
  for (const entry of host.persistEntries()) {
    const rule = rules.get(entry.ruleId);
    const server = servers.get(entry.serverId);
    if (rule === undefined || server === undefined) continue; // orphaned
    if (left-- <= 0) break;
    yield `${rule}: ${formatAddress(entry.client)} --> ${formatAddress(server)}\n`;
  }
  return ok(undefined);
}

// Records

/** Audit log or history, oldest first. */
async function* listRecords({ kind, output, limit }: ShowRecords, host: CommandHost): Listing {
  if (host.records === undefined) return failed("E-UNSUPPORTED", kind);
  const isHistory = kind === "history";
  const table = new Table(isHistory ? HISTORY_FIELDS : AUDIT_FIELDS, output.fields, output.parsable);
  let isFirst = true;
  for (const record of host.records(isHistory ? "history" : "audit", limit)) {
    if (isFirst) yield table.header(null);
    isFirst = false;
    yield table.row((field) => RECORD_CELLS[field as AuditField | HistoryField](record));
  }
  return ok(undefined);
}

async function* listExplanation({ kind, packet }: Explain, config: Config, host: CommandHost): Listing {
  if (host.explain === undefined) return failed("E-UNSUPPORTED", kind);
  for (const [name, text] of explanationLines(config, host.explain(packet)))
    yield `${name.padStart(FULL_NAME_WIDTH)}: ${text}\n`;
  return ok(undefined);
}

/** The listing that a query asks for, of `config`. */
export function list(query: Exclude<Asked, ShowStatistics>, config: Config, host: CommandHost): Listing {
  switch (query.kind) {
    case "show-rule":
      return listRules(query, config);
    case "show-servergroup":
      return listGroups(query, config);
    case "show-server":
      return listServers(query, config, host);
    case "show-healthcheck":
      return listHealthChecks(query, config);
    case "show-hc-result":
      return listResults(query, config, host);
    case "show-nat":
      return listConnections(query, host);
    case "show-persist":
      return listPersistence(query, config, host);
    case "show-audit":
    case "history":
      return listRecords(query, host);
    case "show-services":
      return listServices(query, config);
    case "show-flows":
      return listFlows(query, config);
    case "show-host":
      return listHosts(query, config);
    case "show-policy":
      return listPolicy(query, config, host);
    case "export-policy":
      return writePolicy(query, config);
    case "explain":
      return listExplanation(query, config, host);
  }
}

/** Runs a generator to its end for its verdict alone. */
function verdict(items: Generator<unknown, Result<void>>): Result<void> {
  for (;;) {
    const step = items.next();
    if (step.done) return step.value;
  }
}

/** Whether everything that a listing names is there, without listing it: what import must know before it commits. */
export function checkNames(query: Exclude<Asked, ShowStatistics>, config: Config): Result<void> {
  switch (query.kind) {
    case "show-rule":
    case "show-server":
      return verdict(chooseRules(config, query.names));
    case "show-servergroup":
      return verdict(chooseGroups(config, query.names));
    case "show-healthcheck":
      return verdict(chooseHealthChecks(config, query.names));
    case "show-hc-result":
      return verdict(chooseCheckedRules(config, query.names));
    case "show-nat":
    case "show-persist":
    case "show-audit":
    case "history":
    case "explain":
      return ok(undefined);
    case "show-services":
      return checkServices(query, config);
    case "show-flows":
      return checkFlows(query, config);
    case "show-host":
      return checkHosts(query, config);
    case "show-policy":
    case "export-policy":
      return ok(undefined);
  }
}
