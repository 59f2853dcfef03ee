/**
 * The keys of tests that talk (HTTP, HTTPS, GRPC, DNS), one for each property of TestOptions: which tests have them, how
 * they are taken from a request and how they are said again.
 */
import type { HealthTest, TestOptions } from "../model/config.ts";
import { parseTestUrl, testKindOf } from "../model/health-test.ts";
import { ok, type Result } from "../model/result.ts";
import { failed, keyFailure } from "./errors.ts";
import { type AnyKey, KEYS, type KeySpec } from "./options.ts";
import { getValue, type Request } from "./request.ts";

type Kind = HealthTest["kind"];

interface Row<V> {
  readonly key: KeySpec<V>;
  readonly kinds: readonly Kind[];
}

const ROWS: { readonly [K in keyof TestOptions]-?: Row<NonNullable<TestOptions[K]>> } = {
  path: { key: KEYS.testPath, kinds: ["http", "https"] },
  status: { key: KEYS.testStatus, kinds: ["http", "https"] },
  host: { key: KEYS.testHost, kinds: ["http", "https", "grpc"] },
  tls: { key: KEYS.testTls, kinds: ["grpc"] },
  verify: { key: KEYS.testVerify, kinds: ["https", "grpc"] },
  service: { key: KEYS.testService, kinds: ["grpc"] },
  query: { key: KEYS.testQuery, kinds: ["dns"] },
  queryType: { key: KEYS.testQueryType, kinds: ["dns"] },
};
const PROPERTIES = Object.keys(ROWS) as (keyof TestOptions)[];

/** A failure that names a key. */
const refused = (key: AnyKey, ...why: [Parameters<typeof keyFailure>[2], ...string[]]): Result<never> => ({
  ok: false,
  failure: keyFailure(key.key, key.property, ...why),
});

/** What a URL says already, and options without their test. */
function judge(text: string, options: TestOptions): Result<void> {
  const url = parseTestUrl(text);
  if (url === "port") return refused(KEYS.test, "E-URLPORT");
  // A text that is no test at all is for apply to refuse.
  const kind = testKindOf(text);
  if (kind === null) return ok(undefined);
  for (const property of PROPERTIES) {
    const { key, kinds } = ROWS[property];
    if (options[property] === undefined) continue;
    if (!kinds.includes(kind)) return refused(key, "E-TESTKEY", kinds.map((name) => name.toUpperCase()).join(", "));
    if (url !== null && (property === "path" || property === "host")) return refused(key, "E-URLKEY");
  }
  if (kind === "grpc" && options.verify !== undefined && !options.tls) return failed("E-ARGS");
  if (kind === "dns" && options.query === undefined) return refused(KEYS.testQuery, "E-MISSING");
  return ok(undefined);
}

/** The options that a request gives for the test `text`; undefined: none. Or what does not go together. */
export function bindTestOptions(request: Request, text: string): Result<TestOptions | undefined> {
  const given = PROPERTIES.flatMap((property) => {
    const value = getValue<unknown>(request, ROWS[property].key);
    return value === undefined ? [] : [[property, value] as const];
  });
  const options: TestOptions = Object.freeze(Object.fromEntries(given));
  const judged = judge(text, options);
  if (!judged.ok) return judged;
  return ok(given.length === 0 ? undefined : options);
}

/** Keys and values of the options, in the order of the keys. */
export function utterTestOptions(options: TestOptions | undefined): (readonly [AnyKey, unknown])[] {
  return PROPERTIES.map((property) => [ROWS[property].key, options?.[property] ?? null]);
}
