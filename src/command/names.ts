/** Names of new objects: how long they may be and which characters they may hold. Looking names up is model/lookup.ts. */
import { ok, type Result } from "../model/result.ts";
import { type ErrorCode, failed } from "./errors.ts";

export type Named = "rule" | "servergroup" | "healthcheck";

const LIMITS: Readonly<Record<Named, { readonly maxLength: number; readonly tooLong: ErrorCode }>> = {
  rule: { maxLength: 19, tooLong: "E-RULENAME" },
  servergroup: { maxLength: 14, tooLong: "E-SGNAME" },
  healthcheck: { maxLength: 19, tooLong: "E-HCNAME" },
};

/** Import files have no quoting, and `,` `=` `:` have meanings of their own, so names hold none of these. */
const ALLOWED = /^[A-Za-z0-9][A-Za-z0-9_.-]*$/;

/** Length alone, which is judged before anything is asked of the configuration. Characters are UTF-16 units. */
export function checkNameLength(kind: Named, name: string): Result<void> {
  const { maxLength, tooLong } = LIMITS[kind];
  return name.length <= maxLength ? ok(undefined) : failed(tooLong, name, String(maxLength));
}

/** Everything about the name of an object that is to be created. */
export function checkNewName(kind: Named, name: string): Result<void> {
  const length = checkNameLength(kind, name);
  if (!length.ok) return length;
  return ALLOWED.test(name) ? ok(undefined) : failed("E-EINVAL");
}
