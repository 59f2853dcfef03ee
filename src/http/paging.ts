/**
 * Pages of lists: `?limit=&cursor=`. A cursor is the place of the last item of the page before; places are an item's own
 * as long as it lives, so what comes or goes between two pages makes no other item appear twice or not at all.
 */
import { fail, ok, type Result } from "../model/result.ts";

/** Where an item stands in its list: compared number by number. */
export type Place = readonly (bigint | number)[];

export interface ListItem {
  readonly place: Place;
  /** Made only for items of the page; null: the item is gone and is left out. */
  view(): unknown;
}
export interface Paging {
  readonly limit: number;
  /** null: from the beginning. */
  readonly after: Place | null;
}
export interface Page {
  readonly items: readonly unknown[];
  /** The cursor of the next page, null at the end. */
  readonly next: string | null;
}

export const DEFAULT_LIMIT = 1000;
export const MAX_LIMIT = 10_000;

/** The longest place (rule, family, address, server) in decimal fits. */
const CURSOR = /^\d{1,39}(\.\d{1,39}){0,3}$/;

/** @param query `limit` and `cursor` as they came, if they came */
export function readPaging(query: Readonly<Record<string, string>>): Result<Paging> {
  const { limit: limitText = String(DEFAULT_LIMIT), cursor } = query;
  const limit = /^\d{1,5}$/.test(limitText) ? Number(limitText) : 0;
  if (limit < 1 || limit > MAX_LIMIT) return fail("E-PARAMETER", `limit must be 1 to ${MAX_LIMIT}`, "limit");
  if (cursor === undefined) return ok({ limit, after: null });
  if (!CURSOR.test(cursor)) return fail("E-PARAMETER", "cursor must be one that a page gave", "cursor");
  return ok({ limit, after: cursor.split(".").map(BigInt) });
}

/** Items of a list that has no places of its own: by their number. */
export function* inOrder(views: Iterable<unknown>): Generator<ListItem> {
  let place = 0;
  for (const view of views) yield { place: [place++], view: () => view };
}

/** @param list by ascending place; read no further than one item beyond the page */
export function pageOf(list: Iterable<ListItem>, { limit, after }: Paging): Page {
  const items: unknown[] = [];
  let last: Place = [];
  for (const { place, view } of list) {
    if (after !== null && comparePlaces(place, after) <= 0) continue;
    const shown = view();
    if (shown === null) continue;
    if (items.length === limit) return { items, next: last.join(".") };
    items.push(shown);
    last = place;
  }
  return { items, next: null };
}

function comparePlaces(a: Place, b: Place): number {
  for (let index = 0; index < Math.max(a.length, b.length); index++) {
    const [left = -1, right = -1] = [a[index], b[index]];
    if (left !== right && BigInt(left) !== BigInt(right)) return left < right ? -1 : 1;
  }
  return 0;
}
