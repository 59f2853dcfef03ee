/**
 * Request -> command: which parts must be there, which go together, what holds by default. These are the checks that
 * need no configuration, in the order of the specification; apply.ts has those that do. The way back, Change ->
 * utterance, is here too, so that each kind's two directions stand side by side.
 */
import { widthBits } from "../model/address.ts";
import { groupNameOfServerId } from "../model/lookup.ts";
import { fail, ok, type Result } from "../model/result.ts";
import { parseSetPort, printSetPort } from "./bind-netbackup.ts";
import { bindCreateHost, bindSetPolicy, hostTexts, policyTexts } from "./bind-policy.ts";
import { bindQuery } from "./bind-query.ts";
import type {
  AddServer,
  Change,
  Command,
  CreateHealthCheck,
  CreateRule,
  CreateServerGroup,
  RemoveServer,
} from "./command.ts";
import { errorText, failed, keyFailure } from "./errors.ts";
import { bindJudging, utterJudging } from "./judging-options.ts";
import { checkNameLength } from "./names.ts";
import { type AnyKey, type FlagOption, KEYS, type KeySpec, OPTIONS, type TextOption } from "./options.ts";
import { checkOperands, getValue, getValues, type Request } from "./request.ts";
import { bindTestOptions, utterTestOptions } from "./test-options.ts";

const missingKey = (key: AnyKey): Result<never> => ({
  ok: false,
  failure: keyFailure(key.key, key.property, "E-MISSING"),
});

const changes = (subcommand: Change["kind"], list: readonly Change[]): Result<Command> =>
  ok(
    Object.freeze({ kind: "changes", subcommand, changes: Object.freeze(list.map((change) => Object.freeze(change))) }),
  );

/** The prefix length that makes the rule sticky; -p alone means single clients. */
function bindStickyMask(request: Request, width: number): Result<number | null> {
  const mask = getValue(request, KEYS.stickyMask);
  if (mask === undefined) return ok(request.flags.has(OPTIONS.sticky) ? width : null);
  return mask <= width ? ok(mask) : failed("E-PMASKRANGE");
}

function checkProxySource(type: string, rule: Pick<CreateRule, "vip" | "proxySource">): Result<void> {
  const proxy = rule.proxySource;
  if (type === "NAT") {
    return proxy?.first.family === rule.vip.family ? ok(undefined) : fieldFailure("E-PROXYFAMILY", KEYS.proxySource);
  }
  if (proxy === null) return ok(undefined);
  const { key, property } = KEYS.proxySource;
  return { ok: false, failure: keyFailure(key, property, "E-PROXY") };
}

const fieldFailure = (code: Parameters<typeof errorText>[0], key: AnyKey): Result<never> =>
  fail(code, errorText(code), key.property);

function bindCreateRule(request: Request): Result<Command> {
  const vip = getValue(request, KEYS.vip);
  const mask = vip && bindStickyMask(request, widthBits(vip.family));
  if (mask?.ok === false) return mask;
  const operands = checkOperands(request);
  if (!operands.ok) return operands;
  const name = request.operands[0] as string;
  const length = checkNameLength("rule", name);
  if (!length.ok) return length;
  if (vip === undefined || mask === undefined) return fieldFailure("E-FAMILY", KEYS.vip);
  const group = getValue(request, KEYS.group);
  if (group === undefined) return fieldFailure("E-NOGROUP", KEYS.group);
  const type = getValue(request, KEYS.type);
  if (type === undefined) return fieldFailure("E-NOTYPE", KEYS.type);
  const ports = getValue(request, KEYS.port);
  if (ports === undefined) return missingKey(KEYS.port);
  const proxySource = getValue(request, KEYS.proxySource) ?? null;
  const proxy = checkProxySource(type, { vip, proxySource });
  if (!proxy.ok) return proxy;
  const healthCheck = getValue(request, KEYS.healthCheck) ?? null;
  const healthCheckPort = getValue(request, KEYS.healthCheckPort);
  if (healthCheck === null && healthCheckPort !== undefined) return fieldFailure("E-ARGS", KEYS.healthCheckPort);
  const rule: CreateRule = {
    kind: "create-rule",
    name,
    enabled: request.flags.has(OPTIONS.enable),
    vip,
    protocol: getValue(request, KEYS.protocol) ?? "tcp",
    ports,
    algorithm: getValue(request, KEYS.algorithm) ?? "roundrobin",
    type,
    proxySource,
    stickyMask: mask.value,
    group,
    healthCheck,
    healthCheckPort: healthCheck === null ? null : (healthCheckPort ?? "ANY"),
    connDrainSeconds: getValue(request, KEYS.connDrain) ?? 0,
    natTimeoutSeconds: getValue(request, KEYS.natTimeout) ?? 0,
    persistTimeoutSeconds: getValue(request, KEYS.persistTimeout) ?? 0,
    forced: request.flags.has(OPTIONS.force),
  };
  return changes("create-rule", [rule]);
}

function bindDeleteRule(request: Request): Result<Command> {
  // With -a names are ignored, as the manual has it.
  if (request.flags.has(OPTIONS.allRules)) return changes("delete-rule", [{ kind: "delete-rule", name: null }]);
  return bindNames(request, (name) => ({ kind: "delete-rule", name }));
}

/** One change per operand. */
function bindNames(request: Request, make: (operand: string) => Change): Result<Command> {
  const operands = checkOperands(request);
  if (!operands.ok) return operands;
  return changes(request.spec.long as Change["kind"], request.operands.map(make));
}

/** One change per operand, or one for all rules without any. */
function bindRuleSwitch(request: Request, kind: "enable-rule" | "disable-rule"): Result<Command> {
  return request.operands.length === 0
    ? changes(kind, [{ kind, name: null }])
    : bindNames(request, (name) => ({ kind, name }));
}

function bindCreateServerGroup(request: Request): Result<Command> {
  const operands = checkOperands(request);
  if (!operands.ok) return operands;
  const name = request.operands[0] as string;
  const length = checkNameLength("servergroup", name);
  if (!length.ok) return length;
  const servers = Object.freeze(getValues(request, KEYS.servers).flat());
  return changes("create-servergroup", [{ kind: "create-servergroup", name, servers }]);
}

/** The one operand and the values of a list key of which at least one is mandatory; else what too few operands say. */
function bindList<V>(request: Request, key: KeySpec<V>): Result<{ operand: string; values: V[] }> {
  const values = getValues(request, key);
  if (values.length === 0) return { ok: false, failure: request.spec.operands.tooFew() };
  const operands = checkOperands(request);
  return operands.ok ? ok({ operand: request.operands[0] as string, values }) : operands;
}

function bindAddServer(request: Request): Result<Command> {
  const bound = bindList(request, KEYS.servers);
  if (!bound.ok) return bound;
  const { operand: group, values } = bound.value;
  const forced = request.flags.has(OPTIONS.forceServer);
  return changes(
    "add-server",
    values.flat().map((server): AddServer => ({ kind: "add-server", group, server, forced })),
  );
}

function bindRemoveServer(request: Request): Result<Command> {
  const bound = bindList(request, KEYS.serverIds);
  if (!bound.ok) return bound;
  const { operand: group, values } = bound.value;
  return changes(
    "remove-server",
    values.map((serverId): RemoveServer => ({ kind: "remove-server", group, serverId })),
  );
}

function bindCreateHealthCheck(request: Request): Result<Command> {
  const operands = checkOperands(request);
  if (!operands.ok) return operands;
  const name = request.operands[0] as string;
  const length = checkNameLength("healthcheck", name);
  if (!length.ok) return length;
  const test = getValue(request, KEYS.test);
  if (test === undefined) return missingKey(KEYS.test);
  const defaultPing = !request.flags.has(OPTIONS.noDefaultPing);
  if (!defaultPing && test.toLowerCase() === "ping") return failed("E-NOPING");
  const options = bindTestOptions(request, test);
  if (!options.ok) return options;
  const judging = bindJudging(request);
  const check: CreateHealthCheck = {
    kind: "create-healthcheck",
    name,
    test,
    ...(options.value && { options: options.value }),
    timeoutSeconds: getValue(request, KEYS.testTimeout) ?? defaultOf(KEYS.testTimeout),
    count: getValue(request, KEYS.testCount) ?? defaultOf(KEYS.testCount),
    intervalSeconds: getValue(request, KEYS.testInterval) ?? defaultOf(KEYS.testInterval),
    defaultPing,
    ...(judging && { judging }),
  };
  return changes("create-healthcheck", [check]);
}

/** The default that the key's row gives. */
function defaultOf<V>(key: KeySpec<V>): V {
  const parsed = key.codec.parse(key.fallback ?? "");
  if (!parsed.ok) throw new Error(`the default of ${key.key} is not a value of it`);
  return parsed.value as V;
}

const oneChange = (change: Result<Change>): Result<Command> =>
  change.ok ? changes(change.value.kind, [change.value]) : change;

type ChangeBinders = { readonly [K in Change["kind"]]: (request: Request) => Result<Command> };

/** One change per operand, or the port of a file. */
function bindSetPort(request: Request): Result<Command> {
  const file = request.texts.get(OPTIONS.portFile);
  if (file !== undefined)
    return request.operands.length > 0 ? failed("E-ARGS") : ok(Object.freeze({ kind: "port-file", file }));
  if (request.operands.length === 0) return { ok: false, failure: request.spec.operands.tooFew() };
  const list: Change[] = [];
  for (const operand of request.operands) {
    const change = parseSetPort(operand);
    if (!change.ok) return change;
    list.push(change.value);
  }
  return changes("set-port", list);
}

const CHANGE_BINDERS: ChangeBinders = {
  "create-host": (request) => oneChange(bindCreateHost(request)),
  "delete-host": (request) => bindNames(request, (name) => ({ kind: "delete-host", name })),
  "set-policy": (request) => oneChange(bindSetPolicy(request)),
  "set-port": bindSetPort,
  "create-rule": bindCreateRule,
  "delete-rule": bindDeleteRule,
  "enable-rule": (request) => bindRuleSwitch(request, "enable-rule"),
  "disable-rule": (request) => bindRuleSwitch(request, "disable-rule"),
  "create-servergroup": bindCreateServerGroup,
  "delete-servergroup": (request) => bindNames(request, (name) => ({ kind: "delete-servergroup", name })),
  "add-server": bindAddServer,
  "remove-server": bindRemoveServer,
  "enable-server": (request) => bindNames(request, (serverId) => ({ kind: "enable-server", serverId })),
  "disable-server": (request) => bindNames(request, (serverId) => ({ kind: "disable-server", serverId })),
  "create-healthcheck": bindCreateHealthCheck,
  "delete-healthcheck": (request) => bindNames(request, (name) => ({ kind: "delete-healthcheck", name })),
};

const isChange = (kind: string): kind is Change["kind"] => kind in CHANGE_BINDERS;

/** The command that a request without names means, or the first thing wrong with it. */
export function bind(request: Request): Result<Command> {
  const kind = request.spec.long;
  return isChange(kind) ? CHANGE_BINDERS[kind](request) : bindQuery(request);
}

/** A change taken apart again: what has to be said to get it. Printers put it into text or JSON. */
export interface Utterance {
  readonly kind: Change["kind"];
  readonly flags: ReadonlySet<FlagOption>;
  /** Values by key; of a list key, the list. */
  readonly values: ReadonlyMap<AnyKey, unknown>;
  readonly texts: ReadonlyMap<TextOption, string>;
  readonly operands: readonly string[];
}

const NO_TEXTS: ReadonlyMap<TextOption, string> = new Map();

const utter = (
  kind: Change["kind"],
  operands: readonly string[],
  values: readonly (readonly [AnyKey, unknown])[] = [],
  flags: readonly (FlagOption | false)[] = [],
): Utterance => ({
  kind,
  operands,
  texts: NO_TEXTS,
  values: new Map(values.filter(([, value]) => value !== null)),
  flags: new Set(flags.filter((flag) => flag !== false)),
});

/** Timers are said only where they differ from the default 0. */
const given = (seconds: number): number | null => (seconds === 0 ? null : seconds);

function utterCreateRule(rule: CreateRule): Utterance {
  return utter(
    rule.kind,
    [rule.name],
    [
      [KEYS.vip, rule.vip],
      [KEYS.port, rule.ports],
      [KEYS.protocol, rule.protocol],
      [KEYS.algorithm, rule.algorithm],
      [KEYS.type, rule.type],
      [KEYS.proxySource, rule.proxySource],
      [KEYS.stickyMask, rule.stickyMask],
      [KEYS.healthCheck, rule.healthCheck],
      [KEYS.healthCheckPort, rule.healthCheckPort],
      [KEYS.connDrain, given(rule.connDrainSeconds)],
      [KEYS.natTimeout, given(rule.natTimeoutSeconds)],
      [KEYS.persistTimeout, given(rule.persistTimeoutSeconds)],
      [KEYS.group, rule.group],
    ],
    [rule.enabled && OPTIONS.enable, rule.stickyMask !== null && OPTIONS.sticky, rule.forced && OPTIONS.force],
  );
}

function utterCreateHealthCheck(check: CreateHealthCheck): Utterance {
  return utter(
    check.kind,
    [check.name],
    [
      [KEYS.test, check.test],
      [KEYS.testTimeout, check.timeoutSeconds],
      [KEYS.testCount, check.count],
      [KEYS.testInterval, check.intervalSeconds],
      ...utterTestOptions(check.options),
      ...utterJudging(check.judging),
    ],
    [!check.defaultPing && OPTIONS.noDefaultPing],
  );
}

const utterGroup = (group: CreateServerGroup): Utterance =>
  utter(
    group.kind,
    [group.name],
    group.servers.length === 0 ? [] : [[KEYS.servers, group.servers.map((server) => [server])]],
  );

/** Takes a change apart. bind of what is said gives the same change (a law that tests hold). */
export function utterance(change: Change): Utterance {
  switch (change.kind) {
    case "create-rule":
      return utterCreateRule(change);
    case "delete-rule":
      return change.name === null ? utter(change.kind, [], [], [OPTIONS.allRules]) : utter(change.kind, [change.name]);
    case "enable-rule":
    case "disable-rule":
      return utter(change.kind, change.name === null ? [] : [change.name]);
    case "create-servergroup":
      return utterGroup(change);
    case "add-server":
      return utter(
        change.kind,
        [change.group],
        [[KEYS.servers, [[change.server]]]],
        [change.forced && OPTIONS.forceServer],
      );
    case "remove-server":
      return utter(change.kind, [change.group], [[KEYS.serverIds, [change.serverId]]]);
    case "enable-server":
    case "disable-server":
      return utter(change.kind, [change.serverId]);
    case "create-healthcheck":
      return utterCreateHealthCheck(change);
    case "set-port":
      return utter(change.kind, [printSetPort(change)]);
    case "create-host":
      return { ...utter(change.kind, [change.name]), texts: hostTexts(change) };
    case "set-policy":
      return { ...utter(change.kind, change.mode === null ? [] : [change.mode]), texts: policyTexts(change) };
    case "delete-host":
    case "delete-servergroup":
    case "delete-healthcheck":
      return utter(change.kind, [change.name]);
  }
}

/** The removal of a server by its ID alone: the group is part of the ID. Text of another form is no server's ID. */
export function removalOf(serverId: string): Result<RemoveServer> {
  const group = groupNameOfServerId(serverId);
  return group === null ? failed("E-SRVUNAVAIL") : ok({ kind: "remove-server", group, serverId });
}
