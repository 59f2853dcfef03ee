/**
 * JSON <-> commands, for the resources under /v1. Property names are the keys of the command line (`vip`, `hc-name`,
 * `proxy-src`, ...), values are read and written by the same codecs; null means "not given"; a property that the
 * subcommand does not have is refused by its name.
 *
 * For the HTTP application:
 * - `ROUTES` has every (method, path) with its subcommand and the right it needs; `requestSchema(route)` is a zod schema
 *   of its body for OpenAPI, `VIEW_SCHEMAS` those of the answers.
 * - A changing request: `fromHttp(route, pathValues, body, host)` gives Changes, `perform(changes, host, {right})` does them.
 * - A reading request: the functions of views.ts give plain values that fit VIEW_SCHEMAS.
 * - 64-bit counters are bigint in views: MessagePack carries them as integers, `stringify` (JSON) as decimal strings.
 */
import type { z } from "zod";
import type { Result } from "../model/result.ts";
import type { Change } from "./command.ts";
import type { CommandHost } from "./host.ts";
import type { Route } from "./spec.ts";

export declare const ROUTES: readonly Route[];
export declare function requestSchema(route: Route): z.ZodType | null;
export declare const VIEW_SCHEMAS: Readonly<Record<string, z.ZodType>>;
/** @param pathValues the values of the `{...}` parts of the path */
export declare function fromHttp(
  route: Route,
  pathValues: Readonly<Record<string, string>>,
  body: unknown,
  host: Pick<CommandHost, "resolveHost" | "resolveService">,
): Promise<Result<readonly Change[]>>;
export declare function toHttp(change: Change): { method: string; path: string; body: Record<string, unknown> | null };
export declare function stringify(view: unknown): string;
