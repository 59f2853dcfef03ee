/**
 * How paths of /v1 are registered: each method with its OpenAPI operation, which is what the document is made of and
 * what its guards go by. So what the document does not name (a query parameter, a media type) is not accepted.
 */
import type { Handler, MiddlewareHandler } from "hono";
import { describeRoute } from "hono-openapi";
import type { App, AppEnv } from "./app.ts";
import { preferred } from "./body.ts";
import { httpFailure, problemResponse } from "./problem.ts";

/** As much of an OpenAPI operation object as is used here. */
export interface Operation {
  readonly operationId: string;
  readonly summary: string;
  readonly description?: string;
  readonly parameters: readonly Parameter[];
  readonly requestBody?: { readonly required: boolean; readonly content: Content };
  readonly responses: Readonly<Record<string, Answer>>;
}
export interface Parameter {
  readonly name: string;
  readonly in: "path" | "query" | "header";
  readonly required: boolean;
  readonly description?: string;
  readonly schema: JsonSchema;
}
export type Answer = { readonly description: string; readonly content?: Content } | { readonly $ref: string };
/** By media type. */
export type Content = Readonly<Record<string, { readonly schema: JsonSchema }>>;
export type JsonSchema = Readonly<Record<string, unknown>>;
export type Method = "GET" | "POST" | "PUT" | "PATCH" | "DELETE";

/** @param path with parts like `{name}` */
export function addEndpoint(app: App, method: Method, path: string, operation: Operation, handler: Handler<AppEnv>) {
  const pattern = path.replace(/\{([a-z]+)\}/g, ":$1");
  app.on(method, pattern, describe(operation), guard(operation), handler);
}

/** Puts an operation into the document, for a path that is registered without guards. */
export const describe = (operation: Operation): MiddlewareHandler =>
  describeRoute(operation as unknown as Parameters<typeof describeRoute>[0]);

function guard(operation: Operation): MiddlewareHandler<AppEnv> {
  const names = operation.parameters.filter((parameter) => parameter.in === "query").map((parameter) => parameter.name);
  const offered = offeredTypes(operation);
  return async (c, next) => {
    const seen = new Set<string>();
    for (const name of new URL(c.req.url).searchParams.keys()) {
      if (!names.includes(name))
        return problemResponse(c.req.raw, httpFailure("E-PARAMETER", `unknown parameter ${name}`, name));
      if (seen.has(name))
        return problemResponse(c.req.raw, httpFailure("E-PARAMETER", `${name} is given more than once`, name));
      seen.add(name);
    }
    // Where there is only one form it is given, as generated clients ask for JSON everywhere (RFC 9110 section 12.4.1).
    if (offered.length > 1 && preferred(c.req.header("accept") ?? null, offered) === null)
      return problemResponse(c.req.raw, httpFailure("E-NOTACCEPTABLE", `there is only ${offered.join(", ")}`));
    return next();
  };
}

/** Media types of the answers that are no refusal; none where there is nothing to answer. */
function offeredTypes({ responses }: Operation): string[] {
  const successes = Object.entries(responses).filter(([status]) => status.startsWith("2"));
  return successes.flatMap(([, answer]) => ("content" in answer ? Object.keys(answer.content ?? {}) : []));
}

/** To be called when every path is there: what else is asked of a path gets OPTIONS answered, anything else 405. */
export function closePaths(app: App): void {
  const methods = new Map<string, Set<string>>();
  for (const { path, method } of app.routes) {
    if (method !== "ALL") methods.set(path, (methods.get(path) ?? new Set(["OPTIONS"])).add(method));
  }
  for (const [path, there] of methods) {
    if (there.has("GET")) there.add("HEAD");
    const allow = [...there].sort().join(", ");
    app.all(path, (c) => {
      if (c.req.method === "OPTIONS") return new Response(null, { status: 204, headers: { allow } });
      const text = `${c.req.path} has no ${c.req.method}; it has ${allow}`;
      return problemResponse(c.req.raw, httpFailure("E-METHOD", text), { allow });
    });
  }
}
