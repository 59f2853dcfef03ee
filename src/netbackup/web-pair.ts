/** The pair of web ports that OpsCenter takes: the first of its row of which both are free. */
import { CATALOGUE, serviceOf } from "./catalogue.ts";

export interface WebPair {
  /** Its number, as `setting.opscenter-web-pair` takes it. */
  readonly index: number;
  readonly http: number;
  readonly https: number;
}

/** The pairs in the order in which they are tried. */
export const WEB_PAIRS: readonly WebPair[] = CATALOGUE.webPairs.map(({ index, http, https }) => ({
  index,
  http: serviceOf(http).port,
  https: serviceOf(https).port,
}));

/** What is said when every pair has a port in use. */
export const NO_WEB_PAIR = "no pair available";

/** The first pair of which neither port is in use; null: there is none. */
export const selectWebPair = (inUse: ReadonlySet<number>): WebPair | null =>
  WEB_PAIRS.find(({ http, https }) => !inUse.has(http) && !inUse.has(https)) ?? null;
