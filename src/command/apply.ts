/**
 * (Config, Change) -> Config or the reason why not. Pure, and the only place where rules of validity live; port
 * compatibility and addresses have files of their own. Checks come in the order of the specification, and the first one
 * that fails is reported. Nothing here waits, prints, resolves names or knows who asks.
 */

import { formatAddress } from "../model/address.ts";
import type { Config, HealthCheck, HealthTest, Rule, Server, ServerGroup } from "../model/config.ts";
import { testKindOf } from "../model/health-test.ts";
import { groupLists, ruleLists, serverLists } from "../model/indexes.ts";
import {
  findGroup,
  findHealthCheck,
  findRule,
  findServer,
  findServerByAddress,
  findServerInGroup,
  groupFamily,
  hasNumber,
  rulesOfGroup,
  rulesOfService,
} from "../model/lookup.ts";
import { fail, ok, type Result } from "../model/result.ts";
import { translates } from "../netbackup/guard.ts";
import { withPort } from "../netbackup/ports.ts";
import { isServerAddress, isValidProxySource, isVirtualAddress } from "./address-rules.ts";
import { createHost, deleteHost, setPolicy } from "./apply-policy.ts";
import type {
  AddServer,
  Change,
  CreateHealthCheck,
  CreateRule,
  CreateServerGroup,
  NewServer,
  RuleChange,
  ServerChange,
  SetPort,
} from "./command.ts";
import { errorText, failed, failure } from "./errors.ts";
import type { ChangeContext } from "./host.ts";
import { checkNewName } from "./names.ts";
import { checkAddedServer, checkRule } from "./nat-guard.ts";
import { checkAddedServerPorts, checkRulePorts, overlaps } from "./port-rules.ts";
import { unknownName } from "./suggest.ts";

/** Server numbers are 0..999. */
const SERVER_NUMBERS = 1000;

const freeze = <T extends object>(value: T): T => Object.freeze(value);

/** The same Config with other lists; `created` when an id was taken. */
function next(config: Config, part: Partial<Config>, created = false): Result<Config> {
  return ok(freeze({ ...config, ...part, nextId: config.nextId + (created ? 1 : 0) }));
}

const without = <T extends { readonly id: number }>(list: readonly T[], id: number): readonly T[] =>
  list.filter((candidate) => candidate.id !== id);

// Rules

function createRule(config: Config, change: CreateRule): Result<Config> {
  const name = checkNewName("rule", change.name);
  if (!name.ok) return name;
  if (findRule(config, change.name)) return failed("E-DUPRULE");
  const group = findGroup(config, change.group);
  if (group === undefined) return unknownName("E-SGUNAVAIL", change.group, config.groups);
  for (const server of group.servers) {
    const ports = checkRulePorts(change, server.ports);
    if (!ports.ok) return ports;
  }
  const family = groupFamily(config, group);
  if (family !== null && family !== change.vip.family) return failed("E-MISMATCHSG");
  const check = change.healthCheck === null ? null : findHealthCheck(config, change.healthCheck);
  if (check === undefined) return unknownName("E-NOHCINFO", change.healthCheck ?? "", config.healthChecks);
  if (check !== null && !suits(check.test, change.protocol)) return failed("E-HCMISMATCH");
  if (check !== null && change.type === "DSR" && check.test.kind === "dns" && change.protocol === "udp")
    return failed("E-HCDSR", check.name);
  if (!isVirtualAddress(change.vip)) return failed("E-EINVAL");
  if (change.proxySource !== null && !isValidProxySource(change.proxySource)) return failed("E-EINVAL");
  for (const rule of rulesOfService(config, change.vip, change.protocol))
    if (overlaps(rule, change)) return failed("E-EEXIST");
  const guarded = checkRule(config.netbackup, change, group.servers);
  if (!guarded.ok) return guarded;
  const rule = freeze(makeRule(config.nextId, change, group.id, check?.id ?? null));
  return next(config, { rules: ruleLists.append(config.rules, rule) }, true);
}

/** tcp and udp tests need a rule of that protocol, NBU and what talks over TCP a TCP rule; the others fit both. */
const suits = ({ kind }: HealthTest, protocol: Rule["protocol"]): boolean => {
  if (kind === "ping" || kind === "external" || kind === "dns") return true;
  return protocol === (kind === "udp" ? "udp" : "tcp");
};

function makeRule(id: number, change: CreateRule, groupId: number, healthCheckId: number | null): Rule {
  const { kind, group, healthCheck, ...same } = change;
  // The guard never looks at rules that translate nothing.
  return { ...same, id, groupId, healthCheckId, forced: change.forced && translates(change) };
}

function deleteRule(config: Config, { name }: RuleChange): Result<Config> {
  if (name === null) return config.rules.length === 0 ? ok(config) : next(config, { rules: [] });
  const rule = findRule(config, name);
  if (rule === undefined) return unknownName("E-ENORULE", name, config.rules);
  return next(config, { rules: ruleLists.remove(config.rules, rule.id) });
}

/** Enabling the enabled and disabling the disabled give the same Config back. */
function switchRule(config: Config, { name, kind }: RuleChange): Result<Config> {
  const enabled = kind === "enable-rule";
  const set = (rule: Rule): Rule => (rule.enabled === enabled ? rule : freeze({ ...rule, enabled }));
  if (name === null) {
    return config.rules.every((rule) => rule.enabled === enabled)
      ? ok(config)
      : next(config, { rules: config.rules.map(set) });
  }
  const rule = findRule(config, name);
  if (rule === undefined) return unknownName("E-ENORULE", name, config.rules);
  return rule.enabled === enabled ? ok(config) : next(config, { rules: ruleLists.replace(config.rules, set(rule)) });
}

// Server groups and servers

function createServerGroup(config: Config, change: CreateServerGroup, context: ChangeContext): Result<Config> {
  const name = checkNewName("servergroup", change.name);
  if (!name.ok) return name;
  if (findGroup(config, change.name)) return failed("E-SGEXISTS");
  const group: ServerGroup = freeze({ id: config.nextId, name: change.name, lastNumber: 0, servers: [] });
  let result = next(config, { groups: groupLists.append(config.groups, group) }, true);
  for (const server of change.servers) {
    if (!result.ok) return result;
    result = addServer(result.value, { group: change.name, server, forced: false }, context);
  }
  return result;
}

function deleteServerGroup(config: Config, name: string): Result<Config> {
  const group = findGroup(config, name);
  if (group === undefined) return unknownName("E-SGUNAVAIL", name, config.groups);
  if (isInUse(config, group)) return failed("E-SGINUSE");
  return next(config, { groups: groupLists.remove(config.groups, group.id) });
}

/** Whether a rule balances to the group. */
function isInUse(config: Config, group: ServerGroup): boolean {
  const [rule] = rulesOfGroup(config, group.id);
  return rule !== undefined;
}

/** The first free number from the last one handed out, round the circle; null when none is free. */
function freeNumber(group: ServerGroup, draining: ReadonlySet<number>): number | null {
  for (let step = 0; step < SERVER_NUMBERS; step++) {
    const number = (group.lastNumber + step) % SERVER_NUMBERS;
    if (!hasNumber(group, number) && !draining.has(number)) return number;
  }
  return null;
}

/** Adds one server. Its failure names server and group, the group as stored if there is one. */
function addServer(config: Config, change: Omit<AddServer, "kind">, context: ChangeContext): Result<Config> {
  const { group: groupName, server } = change;
  const group = findGroup(config, groupName);
  const result = group ? addToGroup(config, group, change, context) : unknownName("E-ENOENT", groupName, config.groups);
  if (result.ok) return result;
  const text = errorText("E-ADD", formatAddress(server.address), group?.name ?? groupName, result.failure.text);
  return { ok: false, failure: { ...result.failure, text } };
}

function addToGroup(
  config: Config,
  group: ServerGroup,
  { server: added, forced }: Pick<AddServer, "server" | "forced">,
  context: ChangeContext,
): Result<Config> {
  const family = groupFamily(config, group);
  if (family !== null && family !== added.address.family) return failed("E-MISMATCHH");
  const number = freeNumber(group, context.drainingNumbers(group.id));
  if (number === null) return failed("E-SGFULL");
  for (const rule of rulesOfGroup(config, group.id)) {
    const ports = checkAddedServerPorts(rule, added.ports);
    if (!ports.ok) return ports;
  }
  if (findServerByAddress(group, added.address)) return failed("E-EEXIST");
  if (!isServerAddress(added.address)) return failed("E-EINVAL");
  const rules = guardedRules(config, group, added, forced);
  if (!rules.ok) return rules;
  const server: Server = freeze({
    id: config.nextId,
    number,
    address: added.address,
    ports: added.ports,
    enabled: true,
  });
  const grown: ServerGroup = freeze({
    ...group,
    lastNumber: number,
    servers: serverLists.append(group.servers, server),
  });
  return next(config, { groups: groupLists.replace(config.groups, grown), rules: rules.value }, true);
}

/** The rules as they are with a server that brings in a port which may not be translated: forced, or the refusal. */
function guardedRules(config: Config, group: ServerGroup, added: NewServer, forced: boolean): Result<Config["rules"]> {
  let { rules } = config;
  for (const rule of rulesOfGroup(config, group.id)) {
    const guarded = checkAddedServer(config.netbackup, rule, added, forced);
    if (!guarded.ok) return guarded;
    if (guarded.value) rules = ruleLists.replace(rules, freeze({ ...rule, forced: true }));
  }
  return ok(rules);
}

function removeServer(config: Config, groupName: string, serverId: string): Result<Config> {
  const group = findGroup(config, groupName);
  const server = group && findServerInGroup(group, serverId);
  if (group === undefined || server === undefined) {
    const code = group === undefined ? "E-SGUNAVAIL" : "E-SRVUNAVAIL";
    return fail(code, errorText("E-REMOVE", serverId, group?.name ?? groupName, errorText(code)));
  }
  const shrunk: ServerGroup = freeze({ ...group, servers: serverLists.remove(group.servers, server.id) });
  return next(config, { groups: groupLists.replace(config.groups, shrunk) });
}

function switchServer(config: Config, { kind, serverId }: ServerChange): Result<Config> {
  if (!serverId.startsWith("_")) return failed("E-SERVERID");
  if (!serverId.includes(".")) return failed("E-EINVAL");
  const found = findServer(config, serverId);
  if (found === undefined) return fail("E-ENOENT", `${errorText("E-ENOENT")}: ${serverId}`);
  const { group, server } = found;
  if (!isInUse(config, group)) return failed("E-ENBSRVR");
  const enabled = kind === "enable-server";
  if (server.enabled === enabled) return ok(config);
  const servers = serverLists.replace(group.servers, freeze({ ...server, enabled }));
  return next(config, { groups: groupLists.replace(config.groups, freeze({ ...group, servers })) });
}

// Health checks

function createHealthCheck(config: Config, change: CreateHealthCheck, context: ChangeContext): Result<Config> {
  const name = checkNewName("healthcheck", change.name);
  if (!name.ok) return name;
  if (findHealthCheck(config, change.name)) return failed("E-EEXIST");
  const test = makeTest(change, context);
  if (!test.ok) return test;
  const { timeoutSeconds, count, intervalSeconds, defaultPing, judging } = change;
  if (timeoutSeconds < 1 || count < 1 || intervalSeconds <= timeoutSeconds * count) return failed("E-EINVAL");
  const check: HealthCheck = freeze({
    id: config.nextId,
    name: change.name,
    test: test.value,
    timeoutSeconds,
    count,
    intervalSeconds,
    defaultPing,
    ...(judging && { judging }),
  });
  return next(config, { healthChecks: [...config.healthChecks, check] }, true);
}

function makeTest({ test: text, options }: CreateHealthCheck, context: ChangeContext): Result<HealthTest> {
  const kind = testKindOf(text);
  if (kind === null) return failed("E-EINVAL");
  if (kind !== "external") return ok(freeze({ kind, text, ...(options && { options }) }));
  const state = context.externalTest?.(text) ?? "executable";
  if (state === "missing") return failed("E-ENOENT");
  if (state === "forbidden") {
    const hint = `only root may name a test that nobody else may execute: chmod o+rx ${text} and its folders`;
    return { ok: false, failure: { ...failure("E-EINVAL"), hint } };
  }
  return state === "unusable" ? failed("E-EINVAL") : ok(freeze({ kind: "external", text }));
}

/** Refused while an enabled rule uses it; disabled rules lose it. */
function deleteHealthCheck(config: Config, name: string): Result<Config> {
  const check = findHealthCheck(config, name);
  if (check === undefined) return unknownName("E-ENOENT", name, config.healthChecks);
  const uses = (rule: Rule): boolean => rule.healthCheckId === check.id;
  if (config.rules.some((rule) => rule.enabled && uses(rule))) return failed("E-INUSE");
  const rules = config.rules.some(uses)
    ? config.rules.map((rule) => (uses(rule) ? freeze({ ...rule, healthCheckId: null, healthCheckPort: null }) : rule))
    : config.rules;
  return next(config, { rules, healthChecks: without(config.healthChecks, check.id) });
}

/** Which names can be set is checked with the request: the catalogue never changes. */
function setPort(config: Config, { name, ports: range }: SetPort): Result<Config> {
  const { netbackup } = config;
  const ports = withPort(netbackup.ports, name, range);
  return ports === netbackup.ports ? ok(config) : next(config, { netbackup: freeze({ ...netbackup, ports }) });
}

/**
 * One atomic step. @returns a new frozen Config, the very same one when the change has no effect, or the failure with
 * the text that ilbadm prints
 */
export function apply(config: Config, change: Change, context: ChangeContext): Result<Config> {
  switch (change.kind) {
    case "create-rule":
      return createRule(config, change);
    case "delete-rule":
      return deleteRule(config, change);
    case "enable-rule":
    case "disable-rule":
      return switchRule(config, change);
    case "create-servergroup":
      return createServerGroup(config, change, context);
    case "delete-servergroup":
      return deleteServerGroup(config, change.name);
    case "add-server":
      return addServer(config, change, context);
    case "remove-server":
      return removeServer(config, change.group, change.serverId);
    case "enable-server":
    case "disable-server":
      return switchServer(config, change);
    case "create-healthcheck":
      return createHealthCheck(config, change, context);
    case "delete-healthcheck":
      return deleteHealthCheck(config, change.name);
    case "set-port":
      return setPort(config, change);
    case "create-host":
      return createHost(config, change);
    case "delete-host":
      return deleteHost(config, change);
    case "set-policy":
      return setPolicy(config, change);
  }
}
