/** What the text and the options of a health test mean: its kind, and what is asked for. Pure; probes nothing. */
import { parseAddress } from "./address.ts";
import type { HealthTest, StatusRange, TalkKind, TestOptions } from "./config.ts";

/** RFC 1123 section 2.1, with `_` as found in practice; up to 253 characters. */
const HOST_NAME =
  /^(?=.{1,253}$)(?:[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)(?:\.[A-Za-z0-9_](?:[A-Za-z0-9_-]{0,61}[A-Za-z0-9_])?)*$/;
/** Origin form (RFC 9112 section 3.2.1): visible ASCII. No comma and no backslash, which a line of a file could not carry. */
const PATH = /^\/(?:(?![#,\\])[!-~])*$/;
const MAX_PATH_LENGTH = 1024;
const URL = /^(https?):\/\/([^/?#]*)(.*)$/i;

const BUILT_IN = ["tcp", "udp", "ping", "nbu", "http", "https", "grpc", "dns"] as const;

/** Host and path of a test that was given as a URL. */
export interface UrlParts {
  readonly kind: "http" | "https";
  /** Without brackets. */
  readonly host: string;
  readonly path: string;
}

/** Why a text is no URL of a test: `port`: it names a port; `invalid`: anything else. */
export type UrlRefusal = "port" | "invalid";

/** @returns the parts of `http://HOST[/PATH]`, why not, or null for what does not begin like a URL */
export function parseTestUrl(text: string): UrlParts | UrlRefusal | null {
  const match = URL.exec(text);
  if (match === null) return null;
  const [, scheme, authority, rest] = match as unknown as [string, string, string, string];
  const path = rest.startsWith("/") ? rest : `/${rest}`;
  const bracketed = /^\[([^\]]*)\](:.*)?$/.exec(authority);
  const [host, suffix] = bracketed
    ? [bracketed[1] as string, bracketed[2]]
    : (/^([^:]*)(:.*)?$/.exec(authority)?.slice(1) ?? ["", undefined]);
  if (bracketed ? parseAddress(host as string)?.family !== 6 : !isHost(host as string)) return "invalid";
  if (suffix !== undefined) return "port";
  if (!isRequestPath(path)) return "invalid";
  return { kind: scheme.toLowerCase() as UrlParts["kind"], host: host as string, path };
}

/** A host name or an address, IPv6 without brackets. */
export const isHost = (text: string): boolean => parseAddress(text) !== null || HOST_NAME.test(text);

/** Whether a request can ask for it: path and query, no fragment. */
export const isRequestPath = (text: string): boolean => text.length <= MAX_PATH_LENGTH && PATH.test(text);

/** The kind that the text of `hc-test` names; null: none. Whether a program is there is for others to say. */
export function testKindOf(text: string): HealthTest["kind"] | null {
  const word = BUILT_IN.find((kind) => kind === text.toLowerCase());
  if (word !== undefined) return word;
  const url = parseTestUrl(text);
  if (url !== null) return typeof url === "string" ? null : url.kind;
  // An import line could not carry blanks and commas; a backslash at its end would join lines.
  return text.startsWith("/") && !/[\s\\,]/.test(text) ? "external" : null;
}

/** Types of records that a DNS test may ask for. */
export const RECORD_TYPES = ["A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "SRV", "TXT"] as const;
export type RecordType = (typeof RECORD_TYPES)[number];

/** Tests that talk. */
export const isTalk = (kind: HealthTest["kind"]): kind is TalkKind =>
  kind === "http" || kind === "https" || kind === "grpc" || kind === "dns";

const DEFAULT_STATUS: readonly StatusRange[] = Object.freeze([Object.freeze({ min: 200, max: 399 })]);

/** What to ask, all defaults filled in. */
export type Question =
  | {
      readonly kind: "http";
      readonly path: string;
      readonly status: readonly StatusRange[];
      /** null: the server's own address stands for it. */
      readonly host: string | null;
      readonly tls: TlsQuestion | null;
    }
  | { readonly kind: "grpc"; readonly service: string; readonly host: string | null; readonly tls: TlsQuestion | null }
  | { readonly kind: "dns"; readonly name: string; readonly type: string };

export interface TlsQuestion {
  readonly verify: boolean;
}

/** @returns null for a test that does not talk */
export function questionOf(test: HealthTest): Question | null {
  const { kind, text } = test;
  const options: TestOptions = test.options ?? {};
  const tls = { verify: options.verify ?? false };
  if (kind === "http" || kind === "https") {
    const url = parseTestUrl(text);
    const parts = url !== null && typeof url !== "string" ? url : null;
    return {
      kind: "http",
      path: parts?.path ?? options.path ?? "/",
      status: options.status ?? DEFAULT_STATUS,
      host: parts?.host ?? options.host ?? null,
      tls: kind === "https" ? tls : null,
    };
  }
  if (kind === "grpc")
    return { kind, service: options.service ?? "", host: options.host ?? null, tls: options.tls ? tls : null };
  if (kind === "dns") return { kind, name: options.query ?? ".", type: options.queryType ?? "A" };
  return null;
}
