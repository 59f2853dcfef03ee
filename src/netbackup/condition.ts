/**
 * Conditions of the catalogue, judged with three truth values and said in words. What is not known stays open and is
 * handed back, so that an answer can say what it hangs on.
 */
import type { FactValue } from "../model/netbackup.ts";
import { CATALOGUE } from "./catalogue.ts";
import type { Comparison, Expression } from "./schema.ts";
import { compareVersions } from "./version.ts";

/** Facts by their full name (`destination.resilient`, `feature.grt`); undefined: not known. */
export type Facts = (name: string) => FactValue | undefined;

/** `truth` null: open, and `rest` is what it hangs on: the parts that are not decided. */
export type Judgement =
  | { readonly truth: boolean; readonly rest: null }
  | { readonly truth: null; readonly rest: Expression };

const decided = (truth: boolean): Judgement => ({ truth, rest: null });
const open = (rest: Expression): Judgement => ({ truth: null, rest });

const END = "either.";
const ENDS = ["source.", "destination."] as const;

/** Whether `model` fits a pattern in which x stands for any digit. */
const fitsModel = (model: string, pattern: string): boolean =>
  model.length === pattern.length &&
  [...pattern].every((c, i) => (c === "x" ? /[0-9]/.test(model[i]!) : c === model[i]));

/** Whether a fact of one end is as a comparison wants it. Throws for `differs`, which takes two ends. */
export function compare({ op, value }: Comparison, known: FactValue): boolean {
  const text = String(known);
  switch (op) {
    case "lt":
      return compareVersions(text, String(value)) < 0;
    case "le":
      return compareVersions(text, String(value)) <= 0;
    case "gt":
      return compareVersions(text, String(value)) > 0;
    case "ge":
      return compareVersions(text, String(value)) >= 0;
    case "eq":
      return text === String(value);
    case "in":
      return Array.isArray(value) && value.includes(text);
    case "matches":
      return Array.isArray(value) && value.some((pattern) => fitsModel(text, pattern));
    case "differs":
      throw new Error("differs compares both ends");
  }
}

function judgeEither(comparison: Comparison, facts: Facts): Judgement {
  const name = comparison.fact.slice(END.length);
  const known = ENDS.map((end) => facts(end + name));
  if (comparison.op === "differs") {
    const [source, destination] = known;
    return source === undefined || destination === undefined ? open(comparison) : decided(source !== destination);
  }
  if (known.some((value) => value !== undefined && compare(comparison, value))) return decided(true);
  const unknown = ENDS.filter((_end, i) => known[i] === undefined);
  if (unknown.length === 0) return decided(false);
  return open(unknown.length === 2 ? comparison : { ...comparison, fact: unknown[0] + name });
}

/** Judges by the facts that are known. */
export function judge(expression: Expression, facts: Facts): Judgement {
  if ("all" in expression) return judgeMembers(expression.all, facts, false);
  if ("any" in expression) return judgeMembers(expression.any, facts, true);
  if ("not" in expression) {
    const inner = judge(expression.not, facts);
    return inner.truth === null ? open({ not: inner.rest }) : decided(!inner.truth);
  }
  if (expression.fact.startsWith(END)) return judgeEither(expression, facts);
  const known = facts(expression.fact);
  return known === undefined ? open(expression) : decided(compare(expression, known));
}

/** @param decisive the truth value of one member that decides the whole: true for `any`, false for `all` */
function judgeMembers(members: readonly Expression[], facts: Facts, decisive: boolean): Judgement {
  const rests: Expression[] = [];
  for (const member of members) {
    const { truth, rest } = judge(member, facts);
    if (truth === decisive) return decided(decisive);
    if (truth === null) rests.push(rest);
  }
  if (rests.length === 0) return decided(!decisive);
  if (rests.length === 1) return open(rests[0]!);
  return open(decisive ? { any: rests } : { all: rests });
}

// In words

const END_WORDS: Readonly<Record<string, string>> = {
  source: "source",
  destination: "destination",
  either: "either end",
};
const ORDER_WORDS: Partial<Record<Comparison["op"], string>> = {
  lt: "older than",
  le: "not newer than",
  gt: "newer than",
  ge: "not older than",
};

/** `a`, `a or b`, `a, b or c`. */
export function list(items: readonly string[], conjunction: "and" | "or"): string {
  const last = items.at(-1) ?? "";
  return items.length < 2 ? last : `${items.slice(0, -1).join(", ")} ${conjunction} ${last}`;
}

function comparisonWords({ fact, op, value }: Comparison): string {
  const dot = fact.indexOf(".");
  const [scope, name] = [fact.slice(0, dot), fact.slice(dot + 1)];
  const end = END_WORDS[scope];
  const order = ORDER_WORDS[op];
  if (end !== undefined && name === "version") return `${end} ${order ?? op} ${String(value)}`;
  const named = end === undefined ? (scope === "feature" ? CATALOGUE.features : CATALOGUE.settings) : CATALOGUE.facts;
  const words = named.find(({ id }) => id === name)?.words ?? fact;
  if (order !== undefined) return words.replace("{}", `${order} ${String(value)}`);
  return words.replace("{}", Array.isArray(value) ? list(value, "or") : String(value));
}

const isCompound = (expression: Expression): boolean => "all" in expression || "any" in expression;

/** The condition as an administrator would say it. */
export function conditionWords(expression: Expression): string {
  if ("not" in expression) return `not ${conditionWords(expression.not)}`;
  if (!("all" in expression || "any" in expression)) return comparisonWords(expression);
  const isAll = "all" in expression;
  const members = isAll ? expression.all : expression.any;
  const conjunction = isAll ? "and" : "or";
  const words = members.map(conditionWords);
  return members.some(isCompound) ? words.join(`, ${conjunction} `) : list(words, conjunction);
}
