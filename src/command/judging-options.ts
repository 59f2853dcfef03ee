/** The keys of how results are judged, one for each property of Judging: taken from a request and said again. */
import type { Judging } from "../model/config.ts";
import { type AnyKey, KEYS, type KeySpec } from "./options.ts";
import { getValue, type Request } from "./request.ts";

const ROWS: { readonly [K in keyof Judging]-?: KeySpec<NonNullable<Judging[K]>> } = {
  rise: KEYS.testRise,
  fall: KEYS.testFall,
  initial: KEYS.testInitial,
  panicPercent: KEYS.testPanic,
  passive: KEYS.testPassive,
};
const PROPERTIES = Object.keys(ROWS) as (keyof Judging)[];

/** What a request gives; undefined: nothing. */
export function bindJudging(request: Request): Judging | undefined {
  const given = PROPERTIES.flatMap((property) => {
    const value = getValue<unknown>(request, ROWS[property]);
    return value === undefined ? [] : [[property, value] as const];
  });
  return given.length === 0 ? undefined : Object.freeze(Object.fromEntries(given));
}

/** Keys and values, in the order of the keys; null: not given. */
export const utterJudging = (judging: Judging | undefined): (readonly [AnyKey, unknown])[] =>
  PROPERTIES.map((property) => [ROWS[property], judging?.[property] ?? null]);
