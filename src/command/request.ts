/**
 * A request: what somebody said, as syntax. Values are parsed by their codecs, names of hosts and services are still
 * names. Text (text.ts) and JSON (json.ts) make requests; bind.ts makes commands of them.
 */
import { ok, type Result } from "../model/result.ts";
import { failure, keyFailure } from "./errors.ts";
import { type AnyKey, type FlagOption, KEYS, type KeySpec, type TextOption } from "./options.ts";
import type { SubcommandSpec } from "./spec.ts";
import type { Parsed, Resolver, ValueError } from "./values.ts";

/** One value of a key. */
export interface Given {
  /** What errors name: the key as it was typed, or the element itself in a list. */
  readonly label: string;
  readonly parsed: unknown;
}

export interface Request {
  readonly spec: SubcommandSpec;
  readonly flags: ReadonlySet<FlagOption>;
  readonly texts: ReadonlyMap<TextOption, string>;
  readonly values: ReadonlyMap<AnyKey, readonly Given[]>;
  readonly operands: readonly string[];
}

/** The failure of a value, with its label where the text wants one. */
export function valueFailure(label: string, key: AnyKey, error: ValueError): Result<never> {
  const text = error.keyed
    ? keyFailure(label, key.property, error.code, ...error.args)
    : { ...failure(error.code, ...error.args), field: key.property };
  return { ok: false, failure: text };
}

/** Reads one value. */
export function parseValue(label: string, key: AnyKey, text: string): Result<Given> {
  const parsed: Parsed<unknown> = key.codec.parse(text);
  return parsed.ok ? ok(Object.freeze({ label, parsed: parsed.value })) : valueFailure(label, key, parsed.error);
}

const finish = <V>(key: KeySpec<V>, given: Given): V =>
  key.codec.finish === undefined ? (given.parsed as V) : key.codec.finish(given.parsed);

/** The value of a key, undefined when it was not given. Only of a request without names. */
export function getValue<V>(request: Request, key: KeySpec<V>): V | undefined {
  const given = request.values.get(key)?.at(-1);
  return given && finish(key, given);
}

/** Every value of a list key, in order. Only of a request without names. */
export function getValues<V>(request: Request, key: KeySpec<V>): V[] {
  return (request.values.get(key) ?? []).map((given) => finish(key, given));
}

/** Whether a name stands in the request that only the daemon can look up. */
export function hasNames(request: Request): boolean {
  for (const [key, list] of request.values) {
    if (list.some((given) => key.codec.hasNames?.(given.parsed))) return true;
  }
  return false;
}

/** The same request with every name looked up, in the order in which they were given. */
export async function lookUpNames(request: Request, resolver: Resolver): Promise<Result<Request>> {
  if (!hasNames(request)) return ok(request);
  const protocol = getValue(request, KEYS.protocol) ?? "tcp";
  const values = new Map<AnyKey, readonly Given[]>();
  for (const [key, list] of request.values) {
    const { lookUp } = key.codec;
    if (lookUp === undefined) {
      values.set(key, list);
      continue;
    }
    const found: Given[] = [];
    for (const given of list) {
      const parsed = await lookUp(given.parsed, resolver, protocol);
      if (!parsed.ok) return valueFailure(given.label, key, parsed.error);
      found.push({ label: given.label, parsed: parsed.value });
    }
    values.set(key, found);
  }
  return ok(Object.freeze({ ...request, values }));
}

/** Complains about too few or too many operands, as the subcommand's row says. */
export function checkOperands(request: Request): Result<void> {
  const { min, max, tooFew, tooMany } = request.spec.operands;
  if (request.operands.length < min) return { ok: false, failure: tooFew() };
  if (request.operands.length > max) return { ok: false, failure: tooMany() };
  return ok(undefined);
}
