/**
 * JSON <-> changes, for the resources under /v1. Property names are the keys of the command line (`vip`, `hc-name`,
 * `proxy-src`, ...) and values are read and written by the same codecs; null means "not given"; a property that the
 * subcommand does not have is refused by its name. A body becomes the same request as a command line does, so what may
 * go together, and which error is reported first, is the same.
 *
 * For the HTTP application:
 * - `ROUTES` (spec.ts) has every method and path with its subcommand and the right it needs; `requestSchema(route)` is a
 *   zod schema of its body for OpenAPI, `VIEW_SCHEMAS` (view-schemas.ts) those of the answers.
 * - A changing request: `fromHttp(route, pathValues, body, host)` gives Changes, `perform(changes, host, {right})` (run.ts)
 *   does them, `httpStatus(failure.code)` (errors.ts) is the status of a failure.
 * - A reading request: the functions of views.ts give plain values that fit VIEW_SCHEMAS.
 * - 64-bit counters are bigint in views: MessagePack carries them as integers, `stringify` writes decimal strings.
 */
import { z } from "zod";
import { ok, type Result } from "../model/result.ts";
import { bind, removalOf, utterance } from "./bind.ts";
import { parseSetPort } from "./bind-netbackup.ts";
import type { Change, Query } from "./command.ts";
import { failed, keyFailure } from "./errors.ts";
import type { AnyKey, FlagOption, TextOption } from "./options.ts";
import { type Given, lookUpNames, parseValue, type Request } from "./request.ts";
import { valueSchema } from "./schema.ts";
import { ROUTES, type Route, SUBCOMMANDS, type SubcommandSpec } from "./spec.ts";
import { TEST_BODY } from "./test-body.ts";
import { ports as portsCodec, type Resolver } from "./values.ts";

export { stringify } from "./views.ts";
export { ROUTES };

const PORT_PROPERTY = "port";
/** `{name}` or `{id}` in a path. */
const PATH_PART = /\{([a-z]+)\}/;

const keysOf = (spec: SubcommandSpec): AnyKey[] =>
  spec.options.flatMap((option) => (option.kind === "keys" ? option.keys : []));

type JsonFlag = FlagOption & { readonly json: NonNullable<FlagOption["json"]> };
const flagsOf = (spec: SubcommandSpec): JsonFlag[] =>
  spec.options.filter((option): option is JsonFlag => option.kind === "flag" && option.json !== null);

const textsOf = (spec: SubcommandSpec): TextOption[] =>
  spec.options.filter((option) => option.kind === "text" && option.property !== undefined) as TextOption[];

const hasNameInBody = (route: Route): boolean => !PATH_PART.test(route.path);

const keySchema = (key: AnyKey): z.ZodType => (key.list ? z.array(valueSchema(key)) : valueSchema(key));

const ROLE = z.strictObject({ role: z.string(), version: z.string().nullish() });
const PAIR_VALUE = z.union([z.string(), z.boolean()]);

function textSchema(json: TextOption["json"]): z.ZodType {
  if (json === undefined) return z.string();
  return z.union([
    z.string(),
    json === "roles" ? z.array(z.union([z.string(), ROLE])) : z.record(z.string(), PAIR_VALUE),
  ]);
}

/** The body of a port that is set. */
const PORT_BODY = z.strictObject({
  port: z.union([z.string(), z.int()]).nullable().describe("N, or N-M of a window; null: what the guide says"),
});

function propertiesSchema(route: Route): z.ZodType {
  const spec = SUBCOMMANDS[route.subcommand];
  const shape: Record<string, z.ZodType> = {};
  if (hasNameInBody(route)) {
    const operand = spec.operands.min > 0 ? z.string() : z.string().optional();
    shape[spec.operands.property] = operand.describe(`the ${spec.operands.placeholder.toLowerCase()}`);
  }
  for (const { property, help, placeholder, json } of textsOf(spec))
    shape[property as string] = textSchema(json).nullish().describe(`${help}: ${placeholder}`);
  for (const flag of flagsOf(spec))
    shape[flag.json.property] = z
      .boolean()
      .optional()
      .describe(flag.json.help ?? flag.help);
  for (const key of keysOf(spec)) {
    const help = key.fallback === undefined ? key.help : `${key.help}; default ${key.fallback}`;
    shape[key.property] = keySchema(key).nullish().describe(`${help} (${key.codec.help})`);
  }
  return z.strictObject(shape);
}

/** A zod schema of the route's body; null when it has none, or is text. */
export function requestSchema(route: Route): z.ZodType | null {
  if (route.body === null || route.body === "text" || route.body === "query") return null;
  if (route.body === "port") return PORT_BODY;
  if (route.body === "test") return TEST_BODY;
  if (route.body === "properties") return propertiesSchema(route);
  return z.strictObject(Object.fromEntries(Object.keys(route.body).map((property) => [property, z.boolean()])));
}

const invalid = (property: string): Result<never> => ({
  ok: false,
  failure: keyFailure(property, property, "E-VALUE"),
});

/** The text that a codec reads; null when the JSON value has none. */
const asText = (value: unknown): string | null =>
  typeof value === "string" ? value : Number.isSafeInteger(value) ? String(value) : null;

interface Draft {
  readonly flags: Set<FlagOption>;
  readonly texts: Map<TextOption, string>;
  readonly values: Map<AnyKey, readonly Given[]>;
  operands: string[];
}

function readKey(key: AnyKey, value: unknown, draft: Draft): Result<void> {
  const items: unknown[] = key.list && Array.isArray(value) ? value : [value];
  const given: Given[] = [];
  for (const item of items) {
    const text = asText(item);
    if (text === null) return invalid(key.property);
    if (text === "") return { ok: false, failure: keyFailure(key.property, key.property, "E-NOVALUE") };
    const parsed = parseValue(key.property, key, text);
    if (!parsed.ok) return parsed;
    given.push(parsed.value);
  }
  draft.values.set(key, given);
  return ok(undefined);
}

function readFlag(flag: JsonFlag, value: unknown, draft: Draft): Result<void> {
  if (typeof value !== "boolean") return invalid(flag.json.property);
  if (value === flag.json.value) draft.flags.add(flag);
  return ok(undefined);
}

/** One of several words that commas join; null for what would be several, or none. */
const asWord = (value: unknown): string | null =>
  typeof value === "string" && value !== "" && !value.includes(",") ? value : null;

function asRole(value: unknown): string | null {
  const read = ROLE.safeParse(value);
  if (!read.success) return asWord(value);
  const { role, version } = read.data;
  return asWord(version === null || version === undefined ? role : `${role}@${version}`);
}

function asPair([name, value]: [string, unknown]): string | null {
  const read = PAIR_VALUE.safeParse(value);
  return read.success && !name.includes("=") ? asWord(`${name}=${read.data}`) : null;
}

/** The argument that an array or object stands for; null for anything else. */
function joined(option: TextOption, value: unknown): string | null {
  const words =
    option.json === "roles" && Array.isArray(value)
      ? value.map(asRole)
      : option.json === "pairs" && isObject(value)
        ? Object.entries(value).map(asPair)
        : [null];
  return words.includes(null) ? null : words.join(",");
}

/** A parameter is read as an option's argument is. */
function readText(option: TextOption, value: unknown, draft: Draft): Result<void> {
  const text = typeof value === "string" ? value : joined(option, value);
  const isNothing = text === "" && option.json === "pairs" && isObject(value);
  if (isNothing) return ok(undefined);
  if (text === null || text === "") return invalid(option.property ?? option.letter);
  draft.texts.set(option, text);
  return ok(undefined);
}

/** The switches of a query string are words. */
const asBoolean = (value: unknown): unknown => (value === "true" || value === "false" ? value === "true" : value);

function readProperty(route: Route, property: string, value: unknown, draft: Draft): Result<void> {
  const spec = SUBCOMMANDS[route.subcommand];
  if (property === spec.operands.property && route.body === "properties" && hasNameInBody(route)) {
    if (typeof value !== "string") return invalid(property);
    draft.operands = [value];
    return ok(undefined);
  }
  const text = textsOf(spec).find((candidate) => candidate.property === property);
  if (text !== undefined) return value === null ? ok(undefined) : readText(text, value, draft);
  const key = keysOf(spec).find((candidate) => candidate.property === property);
  const flag = flagsOf(spec).find((candidate) => candidate.json.property === property);
  if (key === undefined && flag === undefined) return unknownProperty(property);
  if (value === null) return ok(undefined);
  if (key !== undefined) return readKey(key, value, draft);
  return readFlag(flag as JsonFlag, route.body === "query" ? asBoolean(value) : value, draft);
}

function unknownProperty(property: string): Result<never> {
  const refusal = failed("E-KEYWORD", property);
  return refusal.ok ? refusal : { ok: false, failure: { ...refusal.failure, field: property } };
}

const isObject = (value: unknown): value is Record<string, unknown> =>
  typeof value === "object" && value !== null && !Array.isArray(value);

/** A body of keys and flags as a request. */
function readBody(route: Route, operands: string[], body: unknown): Result<Request> {
  const draft: Draft = { flags: new Set(), texts: new Map(), values: new Map(), operands };
  if (route.body === "properties" || route.body === "query") {
    if (!isObject(body)) return failed("E-SYNTAX");
    for (const [property, value] of Object.entries(body)) {
      const read = readProperty(route, property, value, draft);
      if (!read.ok) return read;
    }
  }
  return ok({ spec: SUBCOMMANDS[route.subcommand], ...draft });
}

/** A body of fixed properties selects among the routes of one method and path (enable or disable). */
function selectRoute(route: Route, body: unknown): Result<Route> {
  if (route.body === null || typeof route.body === "string") return ok(route);
  if (!isObject(body)) return failed("E-SYNTAX");
  const wanted = Object.keys(route.body);
  const extra = Object.keys(body).find((property) => !wanted.includes(property));
  if (extra !== undefined) return unknownProperty(extra);
  const siblings = ROUTES.filter((other) => other.method === route.method && other.path === route.path);
  const chosen = siblings.find((other) =>
    wanted.every((name) => (other.body as Record<string, unknown>)[name] === body[name]),
  );
  return chosen ? ok(chosen) : invalid(wanted.find((name) => typeof body[name] !== "boolean") ?? (wanted[0] as string));
}

/**
 * The changes that a request on a changing route asks for.
 * @param pathValues the values of the `{...}` parts of the path, decoded
 * @param body the parsed JSON or MessagePack body; ignored where the route has none
 * @returns the failure with `field` set where a property is at fault
 */
export async function fromHttp(
  route: Route,
  pathValues: Readonly<Record<string, string>>,
  body: unknown,
  resolver: Resolver,
): Promise<Result<readonly Change[]>> {
  const chosen = selectRoute(route, body);
  if (!chosen.ok) return chosen;
  const part = PATH_PART.exec(route.path)?.[1];
  const operands = part === undefined ? [] : [pathValues[part] ?? ""];
  const { subcommand } = chosen.value;
  if (subcommand === "set-port") return setPortFromHttp(operands[0] as string, body);
  if (subcommand === "remove-server") {
    const removal = removalOf(operands[0] as string);
    return removal.ok ? ok([removal.value]) : removal;
  }
  if (subcommand === "delete-rule") return ok([{ kind: subcommand, name: operands[0] ?? null }]);
  const request = readBody(chosen.value, operands, body);
  const named = request.ok ? await lookUpNames(request.value, resolver) : request;
  const command = named.ok ? bind(named.value) : named;
  if (!command.ok) return command;
  if (command.value.kind !== "changes") throw new Error(`${route.method} ${route.path} changes nothing`);
  return ok(command.value.changes);
}

/** The body of a port setting: `port` alone. */
function setPortFromHttp(name: string, body: unknown): Result<readonly Change[]> {
  if (!isObject(body)) return failed("E-SYNTAX");
  const extra = Object.keys(body).find((property) => property !== PORT_PROPERTY);
  if (extra !== undefined) return unknownProperty(extra);
  const port = body[PORT_PROPERTY];
  const text = port === null ? "default" : asText(port);
  if (text === null) return invalid(PORT_PROPERTY);
  const change = parseSetPort(`${name}=${text}`);
  return change.ok ? ok([change.value]) : change;
}

/** A parameter of a route whose request is its query string. */
export interface QueryParameter {
  readonly name: string;
  readonly required: boolean;
  readonly help: string;
  readonly schema: z.ZodType;
}

/** The parameters of a route, none when its query string says nothing. */
export function queryParameters(route: Route): QueryParameter[] {
  if (route.body !== "query") return [];
  const spec = SUBCOMMANDS[route.subcommand];
  return [
    ...keysOf(spec).map((key) => ({
      name: key.property,
      required: key.fallback === undefined,
      help: key.fallback === undefined ? key.help : `${key.help}; default ${key.fallback}`,
      schema: valueSchema(key),
    })),
    ...flagsOf(spec).map(({ json, help }) => ({
      name: json.property,
      required: false,
      help,
      schema: z.enum(["true", "false"]),
    })),
    ...textsOf(spec).map(({ property, help, placeholder }) => ({
      name: property as string,
      required: false,
      help: `${help}: ${placeholder}`,
      schema: z.string(),
    })),
  ];
}

/** What a request with a query string asks for. @param operands of the command, if it has any @returns the failure with `field` set where a parameter is at fault */
export async function queryFromHttp(
  route: Route,
  parameters: Readonly<Record<string, string>>,
  resolver: Resolver,
  operands: readonly string[] = [],
): Promise<Result<Query>> {
  const request = readBody(route, [...operands], parameters);
  const named = request.ok ? await lookUpNames(request.value, resolver) : request;
  const command = named.ok ? bind(named.value) : named;
  if (!command.ok) return command;
  const { kind } = command.value;
  if (
    kind === "port-file" ||
    kind === "changes" ||
    kind === "export-config" ||
    kind === "import-config" ||
    kind === "test-connection" ||
    kind === "rollback"
  )
    throw new Error(`${route.method} ${route.path} is no query`);
  return ok(command.value);
}

function printValue(key: AnyKey, value: unknown): unknown {
  const { toJson, print } = key.codec;
  const one = (item: unknown): unknown => (toJson ? toJson(item) : print(item));
  return key.list ? (value as unknown[]).map(one) : one(value);
}

/** What to send to get a change. @returns a path with its parts filled in and percent-encoded; body null: none */
export function toHttp(change: Change): {
  method: Route["method"];
  path: string;
  body: Record<string, unknown> | null;
} {
  const said = utterance(change);
  const spec = SUBCOMMANDS[change.kind];
  if (change.kind === "set-port")
    return {
      method: "PUT",
      path: `/v1/netbackup/ports/${encodeURIComponent(change.name)}`,
      body: { [PORT_PROPERTY]: change.ports === null ? null : portsCodec.print(change.ports) },
    };
  const operand = change.kind === "remove-server" ? change.serverId : said.operands[0];
  const route = spec.routes.find(
    ({ path, body }) => body === "properties" || PATH_PART.test(path) === (operand !== undefined),
  );
  if (route === undefined) throw new Error(`${change.kind} of all rules has no resource`);
  const path = route.path.replace(PATH_PART, () => encodeURIComponent(operand ?? ""));
  if (route.body !== "properties")
    return { method: route.method, path, body: route.body as Record<string, boolean> | null };
  const body: Record<string, unknown> =
    hasNameInBody(route) && operand !== undefined ? { [spec.operands.property]: operand } : {};
  for (const [text, value] of said.texts) body[text.property as string] = value;
  for (const flag of flagsOf(spec)) if (said.flags.has(flag)) body[flag.json.property] = flag.json.value;
  for (const [key, value] of said.values) body[key.property] = printValue(key, value);
  return { method: route.method, path, body };
}
