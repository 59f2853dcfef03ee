/** `GET /v1/explain?src=...`: what would become of a packet, as `ilbadm explain` tells it, structured. */
import { failure } from "../command/errors.ts";
import { queryFromHttp } from "../command/json.ts";
import type { Route } from "../command/spec.ts";
import { explanationView } from "../command/views.ts";
import type { App, RouteParts } from "./app.ts";
import { valueResponse } from "./body.ts";
import { addEndpoint, type Operation } from "./endpoint.ts";
import { problemResponse } from "./problem.ts";

/** @param operation what the path answers, from openapi.ts */
export function registerExplain(app: App, { service }: RouteParts, route: Route, operation: Operation): void {
  addEndpoint(app, "GET", route.path, operation, async (c) => {
    const request = c.req.raw;
    const host = service.hostFor(c.env.caller, request.signal);
    const query = await queryFromHttp(route, c.req.query(), host);
    if (!query.ok) return problemResponse(request, query.failure);
    if (query.value.kind !== "explain" || host.explain === undefined)
      return problemResponse(request, failure("E-UNSUPPORTED", route.subcommand));
    return valueResponse(request, explanationView(host.config(), host.explain(query.value.packet)));
  });
}
