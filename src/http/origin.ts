/**
 * Requests that a browser makes because of somebody else's page. Whoever browses on the machine of an ilbd has its
 * rights on the socket's proxy or on a loopback port without being asked, so such a page could use them. It cannot read
 * an answer (no CORS header is ever sent); here it is kept from changing anything.
 */

const READS: readonly string[] = ["GET", "HEAD", "OPTIONS"];

/**
 * Whether a page of another origin may be behind a request that is no mere read. One that carries a bearer token is not:
 * no browser adds that by itself.
 */
export function isCrossSite(request: Request): boolean {
  const { headers, method } = request;
  if (READS.includes(method) || headers.has("authorization")) return false;
  const site = headers.get("sec-fetch-site");
  if (site !== null && site !== "same-origin" && site !== "none") return true;
  const origin = headers.get("origin");
  return origin !== null && hostOf(origin) !== (headers.get("host") ?? "").toLowerCase();
}

/** Host and port of an origin; null for `null` and anything else that is none. */
function hostOf(origin: string): string | null {
  return /^https?:\/\/([^/]+)$/.exec(origin.toLowerCase())?.[1] ?? null;
}
