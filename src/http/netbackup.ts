/** `GET /v1/netbackup/services` and `/flows`: what show-services and show-flows tell, as objects in pages. */

import type { Query } from "../command/command.ts";
import { failure } from "../command/errors.ts";
import { queryFromHttp } from "../command/json.ts";
import { checkNames } from "../command/listings.ts";
import { flowViews, serviceViews } from "../command/netbackup-listings.ts";
import type { Route } from "../command/spec.ts";
import type { Config } from "../model/config.ts";
import type { App, RouteParts } from "./app.ts";
import { valueResponse } from "./body.ts";
import { addEndpoint, type Operation } from "./endpoint.ts";
import { resourceOperation, type Shown } from "./openapi.ts";
import { inOrder, pageOf, readPaging } from "./paging.ts";
import { problemResponse } from "./problem.ts";

/** The operand of show-services: a name or a port. */
const NAME = "name";

/** What the path answers; services can be asked for by name or port, as operands do. */
function operationOf(route: Route, view: Shown["view"]): Operation {
  const operation = resourceOperation([route], { view, isList: true });
  if (view !== "netbackup-service") return operation;
  const name = {
    name: NAME,
    in: "query" as const,
    required: false,
    description: "names or ports, joined by commas",
    schema: { type: "string" },
  };
  return { ...operation, parameters: [name, ...operation.parameters] };
}

const viewsOf = (query: Query, config: Config): Iterable<unknown> =>
  query.kind === "show-flows"
    ? flowViews(query, config)
    : query.kind === "show-services"
      ? serviceViews(query, config)
      : [];

/** Registers one of the two. */
export function registerNetBackupList(app: App, { service }: RouteParts, route: Route, view: Shown["view"]): void {
  addEndpoint(app, "GET", route.path, operationOf(route, view), async (c) => {
    const request = c.req.raw;
    const host = service.hostFor(c.env.caller, request.signal);
    const { limit, cursor, [NAME]: names, ...asked } = c.req.query();
    const paging = readPaging({ ...(limit !== undefined && { limit }), ...(cursor !== undefined && { cursor }) });
    if (!paging.ok) return problemResponse(request, paging.failure);
    const query = await queryFromHttp(route, asked, host, names?.split(",") ?? []);
    if (!query.ok) return problemResponse(request, query.failure);
    if (query.value.kind === "show-statistics") return problemResponse(request, failure("E-UNSUPPORTED", view));
    const config = host.config();
    const found = checkNames(query.value, config);
    if (!found.ok) return problemResponse(request, found.failure);
    return valueResponse(request, pageOf(inOrder(viewsOf(query.value, config)), paging.value));
  });
}
