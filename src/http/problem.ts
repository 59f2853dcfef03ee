/**
 * Errors as problem details (RFC 9457): `code` is the stable code of the catalogue, `detail` the text that ilbadm
 * prints, `field` the property or key at fault,
 * `hint` what ilbadm prints behind it. The one place where a failure becomes an HTTP status.
 */
import { httpStatus } from "../command/errors.ts";
import type { Failure } from "../model/result.ts";
import { ANSWER_HEADERS, JSON_TYPE, MSGPACK_TYPE, pack, preferred, stringify } from "./body.ts";

export const PROBLEM_TYPE = "application/problem+json";

/** Codes that only HTTP has; all others come from command/errors.ts. */
const HTTP_STATUS = {
  "E-BODY": 400,
  "E-PARAMETER": 400,
  "E-NOTOKEN": 401,
  "E-HOST": 403,
  "E-ORIGIN": 403,
  "E-NOPATH": 404,
  "E-METHOD": 405,
  "E-NOTACCEPTABLE": 406,
  "E-TIMEOUT": 408,
  "E-PRECONDITION": 412,
  "E-TOOBIG": 413,
  "E-MEDIA": 415,
  "E-NOTREADY": 503,
} as const;
export type HttpCode = keyof typeof HTTP_STATUS;

const TITLES: Readonly<Record<number, string>> = {
  400: "Bad request",
  401: "Unauthorized",
  403: "Forbidden",
  404: "Not found",
  405: "Method not allowed",
  406: "Not acceptable",
  408: "Request timeout",
  409: "Conflict",
  412: "Precondition failed",
  413: "Content too large",
  415: "Unsupported media type",
  500: "Internal error",
  501: "Not implemented",
  502: "Bad gateway",
  503: "Service unavailable",
  507: "Insufficient storage",
};

export const statusOf = (code: string): number =>
  (HTTP_STATUS as Readonly<Record<string, number>>)[code] ?? httpStatus(code);

export interface Problem {
  readonly type: "about:blank";
  readonly title: string;
  readonly status: number;
  readonly code: string;
  readonly detail: string;
  readonly field?: string;
  /** The way out, where ilbadm prints one. */
  readonly hint?: string;
}

/** The problem document of a failure. */
export function problemOf(failure: Failure): Problem {
  const status = statusOf(failure.code);
  const problem = { type: "about:blank", title: TITLES[status] ?? "Error", status, code: failure.code } as const;
  const { text: detail, field, hint } = failure;
  return { ...problem, detail, ...(field === undefined ? {} : { field }), ...(hint === undefined ? {} : { hint }) };
}

/** After these a part of the request is still on its way, and nobody will read it. */
const ENDS_CONNECTION: readonly number[] = [408, 413];

/** The answer for a failure, in JSON or MessagePack. */
export function problemResponse(request: Request, failure: Failure, headers: Record<string, string> = {}): Response {
  const problem = problemOf(failure);
  const packed = preferred(request.headers.get("accept"), [JSON_TYPE, MSGPACK_TYPE]) === MSGPACK_TYPE;
  const all = {
    ...ANSWER_HEADERS,
    ...(ENDS_CONNECTION.includes(problem.status) ? { connection: "close" } : {}),
    ...headers,
    "content-type": packed ? MSGPACK_TYPE : PROBLEM_TYPE,
  };
  return new Response(packed ? pack(problem) : stringify(problem), { status: problem.status, headers: all });
}

/** A failure of HTTP itself. */
export const httpFailure = (code: HttpCode, text: string, field?: string): Failure =>
  field === undefined ? { code, text } : { code, text, field };
