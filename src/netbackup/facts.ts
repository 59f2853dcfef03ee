/**
 * Facts as they are said: `destination.resilient=true`, `feature.grt=false`, `setting.vmware-transport=san`. Which facts
 * there are, and what values they take, is in the catalogue.
 */
import type { FactValue, SiteFacts } from "../model/netbackup.ts";
import { CATALOGUE } from "./catalogue.ts";
import { list } from "./condition.ts";
import { parseVersion } from "./version.ts";

/** How a fact is read. `expected` says in words what it takes. */
export interface FactKind {
  /** Full name: `source.`, `destination.`, `feature.` or `setting.` and the id. */
  readonly name: string;
  readonly expected: string;
  /** null: not a value of it. */
  parse(text: string): FactValue | null;
}

const parseBoolean = (text: string): boolean | null => {
  const lower = text.toLowerCase();
  return lower === "true" || lower === "false" ? lower === "true" : null;
};
const BOOLEAN = { expected: "true or false", parse: parseBoolean };
const VERSION = { expected: "a version such as 7.0.1", parse: parseVersion };
const MODEL = { expected: "a model of four digits", parse: (text: string) => (/^[0-9]{4}$/.test(text) ? text : null) };
const NAME = {
  expected: "a name of letters, digits, '.', '_' and '-'",
  parse: (text: string) => (/^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$/.test(text) ? text : null),
};
const oneOf = (values: readonly string[]) => ({
  expected: list(values, "or"),
  parse: (text: string) => values.find((value) => value === text.toLowerCase()) ?? null,
});

type Reader = Pick<FactKind, "expected" | "parse">;
const KINDS: Readonly<Record<string, Reader>> = { boolean: BOOLEAN, version: VERSION, model: MODEL, name: NAME };

/** Facts of a host beside role and version, by id. */
export const HOST_FACTS: ReadonlyMap<string, FactKind> = new Map(
  CATALOGUE.facts.map(({ id, kind, values }): [string, FactKind] => [
    id,
    { name: id, ...(values === undefined ? KINDS[kind]! : oneOf(values)) },
  ]),
);

/** Features and settings of a site, by full name. */
export const SITE_FACTS: ReadonlyMap<string, FactKind> = new Map(
  [
    ...CATALOGUE.features.map(({ id }): FactKind => ({ name: `feature.${id}`, ...BOOLEAN })),
    ...CATALOGUE.settings.map(
      ({ id, values }): FactKind => ({ name: `setting.${id}`, ...(values === undefined ? BOOLEAN : oneOf(values)) }),
    ),
  ].map((fact) => [fact.name, fact]),
);

const ENDS = ["source", "destination"] as const;

/** Facts of a question: of both ends and of the site, by full name. */
export const QUESTION_FACTS: ReadonlyMap<string, FactKind> = new Map([
  ...ENDS.flatMap((end) =>
    [{ ...VERSION, name: "version" }, ...HOST_FACTS.values()].map((fact): [string, FactKind] => {
      const name = `${end}.${fact.name}`;
      return [name, { ...fact, name }];
    }),
  ),
  ...SITE_FACTS,
]);

/** One assignment. */
export type Fact = readonly [name: string, value: FactValue];

/** Why facts are refused, for the caller to say in its words. */
export type FactError =
  | { readonly kind: "syntax"; readonly word: string }
  | { readonly kind: "unknown"; readonly word: string }
  | { readonly kind: "value"; readonly word: string; readonly expected: string };

/** A fact of the set by its full name, or, of the site, by its id alone; in any case. */
function findFact(facts: ReadonlyMap<string, FactKind>, text: string): FactKind | undefined {
  const wanted = text.toLowerCase();
  return facts.get(wanted) ?? facts.get(`feature.${wanted}`) ?? facts.get(`setting.${wanted}`);
}

/** `name=value,...`; of a name that stands twice the last value holds. */
export function parseFacts(
  facts: ReadonlyMap<string, FactKind>,
  text: string,
): { readonly ok: true; readonly facts: readonly Fact[] } | { readonly ok: false; readonly error: FactError } {
  const found = new Map<string, FactValue>();
  for (const word of text.split(",")) {
    const equals = word.indexOf("=");
    if (equals < 1) return { ok: false, error: { kind: "syntax", word } };
    const fact = findFact(facts, word.slice(0, equals));
    if (fact === undefined) return { ok: false, error: { kind: "unknown", word: word.slice(0, equals) } };
    const value = fact.parse(word.slice(equals + 1));
    if (value === null) return { ok: false, error: { kind: "value", word, expected: fact.expected } };
    found.set(fact.name, value);
  }
  return { ok: true, facts: [...found] };
}

/** What the facts say of one end. */
export const factsOfEnd = (facts: readonly Fact[], end: (typeof ENDS)[number]): Readonly<Record<string, FactValue>> =>
  Object.fromEntries(
    facts.filter(([name]) => name.startsWith(`${end}.`)).map(([name, value]) => [name.slice(end.length + 1), value]),
  );

/** The site with what the facts say of it on top. */
export function siteWith<S extends SiteFacts>(site: S, facts: readonly Fact[]): S {
  const of = (scope: string): [string, FactValue][] =>
    facts.filter(([name]) => name.startsWith(scope)).map(([name, value]) => [name.slice(scope.length), value]);
  return {
    ...site,
    features: { ...site.features, ...(Object.fromEntries(of("feature.")) as Record<string, boolean>) },
    settings: { ...site.settings, ...Object.fromEntries(of("setting.")) },
  };
}
