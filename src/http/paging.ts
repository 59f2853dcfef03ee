/**
 * Pages of lists: `?limit=&cursor=`. A cursor is the number of items before the page, which is all that a listing
 * without a snapshot can promise: items that come or go between two pages shift those behind them.
 */
import { type Failure, fail, ok, type Result } from "../model/result.ts";

export interface Paging {
  readonly limit: number;
  readonly skip: number;
}
export interface Page {
  readonly items: readonly unknown[];
  /** The cursor of the next page, null at the end. */
  readonly next: string | null;
}

export const DEFAULT_LIMIT = 1000;
export const MAX_LIMIT = 10_000;
const PARAMETERS = ["limit", "cursor"];

/** @param query all query parameters; others than limit and cursor are refused */
export function readPaging(query: Readonly<Record<string, string>>): Result<Paging> {
  const stray = Object.keys(query).find((name) => !PARAMETERS.includes(name));
  if (stray !== undefined) return refuse(`unknown parameter ${stray}`, stray);
  const limit = wholeNumber(query.limit, DEFAULT_LIMIT);
  if (limit === null || limit < 1 || limit > MAX_LIMIT) return refuse(`limit must be 1 to ${MAX_LIMIT}`, "limit");
  const skip = wholeNumber(query.cursor, 0);
  if (skip === null) return refuse("cursor must be one that a page gave", "cursor");
  return ok({ limit, skip });
}

/** Reads no further than one item beyond the page. */
export function pageOf(list: Iterable<unknown>, { limit, skip }: Paging): Page {
  const items: unknown[] = [];
  let index = 0;
  for (const item of list) {
    if (index++ < skip) continue;
    if (items.length === limit) return { items, next: String(skip + limit) };
    items.push(item);
  }
  return { items, next: null };
}

const wholeNumber = (text: string | undefined, otherwise: number): number | null => {
  if (text === undefined) return otherwise;
  return /^\d{1,12}$/.test(text) ? Number(text) : null;
};

const refuse = (text: string, field: string): { readonly ok: false; readonly failure: Failure } =>
  fail("E-BODY", text, field) as { ok: false; failure: Failure };
