/**
 * Request -> query: what the listings, statistics, import and export were asked for. Field names are checked here, so
 * that nothing is printed before a wrong one is refused.
 */
import { ok, type Result } from "../model/result.ts";
import { bindShowFlows, bindShowServices } from "./bind-netbackup.ts";
import { readPolicyForm } from "./bind-policy.ts";
import { bindTestConnection } from "./bind-test.ts";
import type { Asked, Change, Command, Output, ShowHealth, ShowStatistics, SubcommandName } from "./command.ts";
import { type ErrorCode, failed, failure, keyFailure } from "./errors.ts";
import {
  AUDIT_FIELDS,
  allFields,
  chooseFields,
  type FieldSet,
  FLOW_CHANGE_DEFAULTS,
  FLOW_FIELDS,
  GROUP_FIELDS,
  HISTORY_FIELDS,
  HOST_FIELDS,
  isExplicit,
  REACH_FIELDS,
  RULE_FIELDS,
  RULE_ITEM_FIELDS,
  SERVER_FIELDS,
  SERVER_ITEM_FIELDS,
  SERVICE_FIELDS,
  STATISTICS_FIELDS,
  VERBOSE_STATISTICS,
} from "./fields.ts";
import { type FlagOption, KEYS, type KeySpec, OPTIONS, type OptionSpec, PACKET_KEYS } from "./options.ts";
import { checkOperands, getValue, type Request } from "./request.ts";
import { failSuggesting } from "./suggest.ts";
import { parseCount } from "./values.ts";

const dash = (option: OptionSpec): string => `-${option.letter}`;

/** `-p` goes with `-o` and explicit fields only. */
function checkParsable(request: Request, explicitCode: ErrorCode): Result<void> {
  if (!request.flags.has(OPTIONS.parsable)) return ok(undefined);
  const fields = request.texts.get(OPTIONS.fields);
  const option = dash(OPTIONS.parsable);
  if (fields === undefined) return failed("E-PARSABLE", option, dash(OPTIONS.fields));
  return isExplicit(fields) ? ok(undefined) : failed(explicitCode, option, dash(OPTIONS.fields));
}

/** The fields of `-o`, or `defaults`. */
function bindFields(request: Request, set: FieldSet, defaults: readonly string[]): Result<Output> {
  const parsable = request.flags.has(OPTIONS.parsable);
  const text = request.texts.get(OPTIONS.fields);
  if (text === undefined) return ok({ fields: defaults, parsable });
  const choice = chooseFields(set, text);
  if (choice.ok) return ok({ fields: Object.freeze(choice.fields), parsable });
  return failSuggesting(failure("E-OUTFIELD", choice.unknown), choice.unknown, allFields(set));
}

function bindOutput(request: Request, set: FieldSet, defaults: readonly string[]): Result<Output> {
  const parsable = checkParsable(request, "E-PARSABLE-ALL");
  return parsable.ok ? bindFields(request, set, defaults) : parsable;
}

const exclusive = (code: ErrorCode, a: OptionSpec, b: OptionSpec): Result<never> => failed(code, dash(a), dash(b));

function bindShowRule(request: Request): Result<Asked> {
  const full = request.flags.has(OPTIONS.full);
  if (full && request.texts.has(OPTIONS.fields)) return exclusive("E-EXCLUSIVE", OPTIONS.fields, OPTIONS.full);
  const output = bindOutput(request, RULE_FIELDS, full ? allFields(RULE_FIELDS) : RULE_FIELDS.defaults);
  if (!output.ok) return output;
  const states = [...request.flags].filter((flag) => flag === OPTIONS.onlyEnabled || flag === OPTIONS.onlyDisabled);
  const last = states.at(-1);
  const enabled = last === undefined ? null : last === OPTIONS.onlyEnabled;
  return ok({ kind: "show-rule", enabled, full, output: output.value, names: request.operands });
}

function bindShowServerGroup(request: Request): Result<Asked> {
  const hasFields = request.texts.has(OPTIONS.fields);
  const full = request.flags.has(OPTIONS.allGroupFields);
  if (hasFields && full) return exclusive("E-EXCLUSIVE", OPTIONS.fields, OPTIONS.allGroupFields);
  if (request.flags.has(OPTIONS.byServer) && (hasFields || full)) return failed("E-ARGS");
  const output = bindOutput(request, GROUP_FIELDS, allFields(GROUP_FIELDS));
  if (!output.ok) return output;
  const asTable = hasFields || full || request.flags.has(OPTIONS.verboseGroup);
  return ok({ kind: "show-servergroup", output: asTable ? output.value : null, names: request.operands });
}

function bindShowServer(request: Request): Result<Asked> {
  const output = bindOutput(request, SERVER_FIELDS, SERVER_FIELDS.defaults);
  return output.ok ? ok({ kind: "show-server", output: output.value, names: request.operands }) : output;
}

const bindShowHealth =
  (kind: ShowHealth["kind"], verbose: FlagOption) =>
  ({ flags, operands }: Request): Result<Asked> =>
    ok({ kind, names: operands, ...(flags.has(verbose) && { verbose: true as const }) });

/** The operand COUNT, null without one. */
function bindLimit(request: Request): Result<number | null> {
  const operands = checkOperands(request);
  if (!operands.ok) return operands;
  const text = request.operands[0];
  if (text === undefined) return ok(null);
  const limit = parseCount(text, Number.MAX_VALUE);
  return limit === null || limit < 1 ? failed("E-VALUE") : ok(limit);
}

function bindShowTable(request: Request, kind: "show-nat" | "show-persist"): Result<Asked> {
  const limit = bindLimit(request);
  return limit.ok ? ok({ kind, limit: limit.value }) : limit;
}

function bindShowRecords(request: Request, kind: "show-audit" | "history", set: FieldSet): Result<Asked> {
  const output = bindOutput(request, set, set.defaults);
  if (!output.ok) return output;
  const limit = bindLimit(request);
  return limit.ok ? ok({ kind, output: output.value, limit: limit.value }) : limit;
}

/** A whole number of at least 1, or the complaint with the text as it was typed. */
function bindPositive(text: string | undefined, code: ErrorCode): Result<number | null> {
  if (text === undefined) return ok(null);
  const number = parseCount(text, Number.MAX_SAFE_INTEGER);
  return number === null || number < 1 ? failed(code, text) : ok(number);
}

/** Which options of show-statistics go together, in the order of the specification. */
function checkStatisticsOptions(request: Request): Result<void> {
  const { flags, texts } = request;
  const ofRule = texts.has(OPTIONS.ofRule);
  const ofServer = texts.has(OPTIONS.ofServer);
  const itemize = flags.has(OPTIONS.itemize);
  const verbose = flags.has(OPTIONS.verbose);
  if (ofRule && ofServer) return exclusive("E-EXCLUSIVE", OPTIONS.ofServer, OPTIONS.ofRule);
  if (itemize && !ofRule && !ofServer) return itemizeAlone();
  if (itemize && verbose) return exclusive("E-EXCLUSIVE-ONE", OPTIONS.itemize, OPTIONS.verbose);
  if (flags.has(OPTIONS.delta) && flags.has(OPTIONS.absolute)) {
    return exclusive("E-EXCLUSIVE", OPTIONS.delta, OPTIONS.absolute);
  }
  if (texts.has(OPTIONS.fields) && verbose) return exclusive("E-EXCLUSIVE-ONE", OPTIONS.fields, OPTIONS.verbose);
  return ok(undefined);
}

const itemizeAlone = (): Result<never> =>
  failed("E-ITEMIZE", dash(OPTIONS.itemize), dash(OPTIONS.ofRule), dash(OPTIONS.ofServer));

const TIME = "TIME";

/** The columns of show-statistics, `-t` included. */
function bindStatisticsFields(request: Request): Result<Output> {
  const { flags, texts } = request;
  const itemSet = texts.has(OPTIONS.ofServer) ? SERVER_ITEM_FIELDS : RULE_ITEM_FIELDS;
  const set = flags.has(OPTIONS.itemize) ? itemSet : STATISTICS_FIELDS;
  const stamp = flags.has(OPTIONS.stamp);
  const verbose = stamp ? allFields(STATISTICS_FIELDS) : VERBOSE_STATISTICS;
  const output = bindFields(request, set, flags.has(OPTIONS.verbose) ? verbose : set.defaults);
  if (!output.ok || !stamp || output.value.fields.at(-1) === TIME) return output;
  return ok({ ...output.value, fields: [...output.value.fields, TIME] });
}

function bindShowStatistics(request: Request): Result<Asked> {
  const { flags, texts } = request;
  const checks = [
    checkStatisticsOptions(request),
    checkParsable(request, "E-PARSABLE-ALL-STATS"),
    checkOperands(request),
  ];
  for (const check of checks) if (!check.ok) return check;
  const interval = bindPositive(request.operands[0], "E-INTERVAL");
  if (!interval.ok) return interval;
  const count = bindPositive(request.operands[1], "E-COUNT");
  if (!count.ok) return count;
  const output = bindStatisticsFields(request);
  if (!output.ok) return output;
  const query: ShowStatistics = {
    kind: "show-statistics",
    output: output.value,
    itemize: flags.has(OPTIONS.itemize),
    rule: texts.get(OPTIONS.ofRule) ?? null,
    server: texts.get(OPTIONS.ofServer) ?? null,
    mode: flags.has(OPTIONS.absolute) ? "absolute" : flags.has(OPTIONS.delta) ? "delta" : "per-second",
    intervalSeconds: interval.value,
    count: count.value,
  };
  return ok(query);
}

/** A value that must be there, or the complaint that it is missing. */
function required<V>(request: Request, key: KeySpec<V>): Result<V> {
  const value = getValue(request, key);
  return value === undefined ? { ok: false, failure: keyFailure(key.key, key.property, "E-MISSING") } : ok(value);
}

function bindExplain(request: Request): Result<Asked> {
  const operands = checkOperands(request);
  if (!operands.ok) return operands;
  const source = required(request, PACKET_KEYS.source);
  if (!source.ok) return source;
  const destination = required(request, PACKET_KEYS.destination);
  if (!destination.ok) return destination;
  const sourcePort = required(request, PACKET_KEYS.sourcePort);
  if (!sourcePort.ok) return sourcePort;
  const destinationPort = required(request, PACKET_KEYS.destinationPort);
  if (!destinationPort.ok) return destinationPort;
  const { key, property } = PACKET_KEYS.destination;
  if (source.value.family !== destination.value.family)
    return { ok: false, failure: keyFailure(key, property, "E-FAMILY") };
  const packet = {
    protocol: getValue(request, KEYS.protocol) ?? "tcp",
    source: source.value,
    sourcePort: sourcePort.value,
    destination: destination.value,
    destinationPort: destinationPort.value,
  };
  return ok({ kind: "explain", packet: Object.freeze(packet) });
}

function bindServices(request: Request): Result<Asked> {
  const output = bindOutput(request, SERVICE_FIELDS, SERVICE_FIELDS.defaults);
  return output.ok ? bindShowServices(request, output.value) : output;
}

function noOperands(request: Request, asked: Asked): Result<Asked> {
  const operands = checkOperands(request);
  return operands.ok ? ok(asked) : operands;
}

function bindShowHosts(request: Request): Result<Asked> {
  const output = bindOutput(request, HOST_FIELDS, HOST_FIELDS.defaults);
  return output.ok ? ok({ kind: "show-host", output: output.value, names: request.operands }) : output;
}

function bindExportPolicy(request: Request): Result<Asked> {
  const file = bindFile(request);
  if (!file.ok) return file;
  const form = readPolicyForm(request.texts.get(OPTIONS.policyForm));
  return form.ok ? ok({ kind: "export-policy", form: form.value, file: file.value }) : form;
}

function bindFile(request: Request): Result<string | null> {
  const operands = checkOperands(request);
  return operands.ok ? ok(request.operands[0] ?? null) : operands;
}

function bindRollback(request: Request): Result<Command> {
  const operands = checkOperands(request);
  if (!operands.ok) return operands;
  const id = parseCount(request.operands[0] as string, Number.MAX_SAFE_INTEGER);
  if (id === null) return failed("E-VALUE");
  return ok({ kind: "rollback", id, dryRun: request.flags.has(OPTIONS.dryRun) });
}

function bindImport(request: Request): Result<Command> {
  const file = bindFile(request);
  if (!file.ok) return file;
  const { flags } = request;
  const [preserve, dryRun] = [flags.has(OPTIONS.preserve), flags.has(OPTIONS.dryRun)];
  return ok({ kind: "import-config", preserve, dryRun, file: file.value });
}

function bindExport(request: Request): Result<Command> {
  const file = bindFile(request);
  return file.ok ? ok({ kind: "export-config", file: file.value }) : file;
}

const QUERY_BINDERS: { readonly [K in Asked["kind"]]: (request: Request) => Result<Asked> } = {
  "show-rule": bindShowRule,
  "show-statistics": bindShowStatistics,
  "show-servergroup": bindShowServerGroup,
  "show-server": bindShowServer,
  "show-healthcheck": bindShowHealth("show-healthcheck", OPTIONS.verboseChecks),
  "show-hc-result": bindShowHealth("show-hc-result", OPTIONS.verboseResults),
  "show-nat": (request) => bindShowTable(request, "show-nat"),
  "show-persist": (request) => bindShowTable(request, "show-persist"),
  "show-audit": (request) => bindShowRecords(request, "show-audit", AUDIT_FIELDS),
  history: (request) => bindShowRecords(request, "history", HISTORY_FIELDS),
  "show-services": bindServices,
  "show-flows": (request) =>
    bindShowFlows(request, (difference) =>
      bindOutput(request, FLOW_FIELDS, difference ? FLOW_CHANGE_DEFAULTS : FLOW_FIELDS.defaults),
    ),
  "show-host": bindShowHosts,
  "show-policy": (request) =>
    noOperands(request, { kind: "show-policy", verbose: request.flags.has(OPTIONS.verbosePolicy) }),
  "export-policy": bindExportPolicy,
  explain: bindExplain,
};

/** Options that lay out lines, or choose among figures that objects hold all of. */
const OF_LINES: readonly OptionSpec[] = [
  OPTIONS.full,
  OPTIONS.parsable,
  OPTIONS.fields,
  OPTIONS.byServer,
  OPTIONS.allGroupFields,
  OPTIONS.verboseGroup,
  OPTIONS.verbose,
  OPTIONS.verboseResults,
  OPTIONS.verboseChecks,
  OPTIONS.delta,
  OPTIONS.form,
];

/** `--json`, which goes with nothing that lays out lines. */
function bindJson(request: Request): Result<boolean> {
  const json = request.flags.has(OPTIONS.json);
  const given = (option: OptionSpec): boolean =>
    option.kind === "text" ? request.texts.has(option) : option.kind === "flag" && request.flags.has(option);
  const ofLines = json ? OF_LINES.find(given) : undefined;
  return ofLines === undefined ? ok(json) : failed("E-EXCLUSIVE", dash(OPTIONS.json), dash(ofLines));
}

function bindAsked(request: Request, kind: Asked["kind"]): Result<Command> {
  const asked = QUERY_BINDERS[kind](request);
  if (!asked.ok) return asked;
  const json = bindJson(request);
  return json.ok ? ok({ ...asked.value, json: json.value }) : json;
}

function bindTest(request: Request): Result<Command> {
  const output = bindOutput(request, REACH_FIELDS, REACH_FIELDS.defaults);
  if (!output.ok) return output;
  const json = bindJson(request);
  return json.ok ? bindTestConnection(request, output.value, json.value) : json;
}

type QueryName = Exclude<SubcommandName, Change["kind"]>;

/** The command that a request of a reading subcommand means, or of one that replaces the whole configuration. */
export function bindQuery(request: Request): Result<Command> {
  const kind = request.spec.long as QueryName;
  const command = bindKind(request, kind);
  return command.ok ? ok(Object.freeze(command.value)) : command;
}

function bindKind(request: Request, kind: QueryName): Result<Command> {
  switch (kind) {
    case "export-config":
      return bindExport(request);
    case "import-config":
      return bindImport(request);
    case "rollback":
      return bindRollback(request);
    case "test-connection":
      return bindTest(request);
    default:
      return bindAsked(request, kind);
  }
}
