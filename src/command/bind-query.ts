/**
 * Request -> query: what the listings, statistics, import and export were asked for. Field names are checked here, so
 * that nothing is printed before a wrong one is refused.
 */
import { ok, type Result } from "../model/result.ts";
import type { Change, Command, Output, ShowStatistics, SubcommandName } from "./command.ts";
import { type ErrorCode, failed, keyFailure } from "./errors.ts";
import {
  allFields,
  chooseFields,
  type FieldSet,
  GROUP_FIELDS,
  isExplicit,
  RULE_FIELDS,
  RULE_ITEM_FIELDS,
  SERVER_FIELDS,
  SERVER_ITEM_FIELDS,
  STATISTICS_FIELDS,
  VERBOSE_STATISTICS,
} from "./fields.ts";
import { checkOperands, getValue, type Request } from "./request.ts";
import { KEYS, type KeySpec, OPTIONS, type OptionSpec, PACKET_KEYS } from "./spec.ts";
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
  return choice.ok ? ok({ fields: Object.freeze(choice.fields), parsable }) : failed("E-OUTFIELD", choice.unknown);
}

function bindOutput(request: Request, set: FieldSet, defaults: readonly string[]): Result<Output> {
  const parsable = checkParsable(request, "E-PARSABLE-ALL");
  return parsable.ok ? bindFields(request, set, defaults) : parsable;
}

const exclusive = (code: ErrorCode, a: OptionSpec, b: OptionSpec): Result<never> => failed(code, dash(a), dash(b));

function bindShowRule(request: Request): Result<Command> {
  const full = request.flags.has(OPTIONS.full);
  if (full && request.texts.has(OPTIONS.fields)) return exclusive("E-EXCLUSIVE", OPTIONS.fields, OPTIONS.full);
  const output = bindOutput(request, RULE_FIELDS, full ? allFields(RULE_FIELDS) : RULE_FIELDS.defaults);
  if (!output.ok) return output;
  const states = [...request.flags].filter((flag) => flag === OPTIONS.onlyEnabled || flag === OPTIONS.onlyDisabled);
  const last = states.at(-1);
  const enabled = last === undefined ? null : last === OPTIONS.onlyEnabled;
  return ok({ kind: "show-rule", enabled, full, output: output.value, names: request.operands });
}

function bindShowServerGroup(request: Request): Result<Command> {
  const hasFields = request.texts.has(OPTIONS.fields);
  const full = request.flags.has(OPTIONS.allGroupFields);
  if (hasFields && full) return exclusive("E-EXCLUSIVE", OPTIONS.fields, OPTIONS.allGroupFields);
  if (request.flags.has(OPTIONS.byServer) && (hasFields || full)) return failed("E-ARGS");
  const output = bindOutput(request, GROUP_FIELDS, allFields(GROUP_FIELDS));
  if (!output.ok) return output;
  const asTable = hasFields || full || request.flags.has(OPTIONS.verboseGroup);
  return ok({ kind: "show-servergroup", output: asTable ? output.value : null, names: request.operands });
}

function bindShowServer(request: Request): Result<Command> {
  const output = bindOutput(request, SERVER_FIELDS, SERVER_FIELDS.defaults);
  return output.ok ? ok({ kind: "show-server", output: output.value, names: request.operands }) : output;
}

function bindShowTable(request: Request, kind: "show-nat" | "show-persist"): Result<Command> {
  const operands = checkOperands(request);
  if (!operands.ok) return operands;
  const text = request.operands[0];
  if (text === undefined) return ok({ kind, limit: null });
  const limit = parseCount(text, Number.MAX_VALUE);
  return limit === null || limit < 1 ? failed("E-VALUE") : ok({ kind, limit });
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

function bindShowStatistics(request: Request): Result<Command> {
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

function bindExplain(request: Request): Result<Command> {
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

function bindFile(request: Request): Result<string | null> {
  const operands = checkOperands(request);
  return operands.ok ? ok(request.operands[0] ?? null) : operands;
}

type QueryName = Exclude<SubcommandName, Change["kind"]>;

const QUERY_BINDERS: { readonly [K in QueryName]: (request: Request) => Result<Command> } = {
  "show-rule": bindShowRule,
  "show-statistics": bindShowStatistics,
  "show-servergroup": bindShowServerGroup,
  "show-server": bindShowServer,
  "show-healthcheck": (request) => ok({ kind: "show-healthcheck", names: request.operands }),
  "show-hc-result": (request) => ok({ kind: "show-hc-result", names: request.operands }),
  "show-nat": (request) => bindShowTable(request, "show-nat"),
  "show-persist": (request) => bindShowTable(request, "show-persist"),
  explain: bindExplain,
  "export-config": (request) => {
    const file = bindFile(request);
    return file.ok ? ok({ kind: "export-config", file: file.value }) : file;
  },
  "import-config": (request) => {
    const file = bindFile(request);
    const preserve = request.flags.has(OPTIONS.preserve);
    return file.ok ? ok({ kind: "import-config", preserve, file: file.value }) : file;
  },
};

/** The command that a request of a reading subcommand (or of import-config) means. */
export function bindQuery(request: Request): Result<Command> {
  const command = QUERY_BINDERS[request.spec.long as QueryName](request);
  return command.ok ? ok(Object.freeze(command.value)) : command;
}
