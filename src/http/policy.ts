/** `/v1/netbackup/policy`: the flow policy with its counters, and as text for other firewalls. Changing it is a row of the grammar. */
import { failure } from "../command/errors.ts";
import { queryFromHttp } from "../command/json.ts";
import { policyView, writePolicy } from "../command/policy-listings.ts";
import type { Route } from "../command/spec.ts";
import type { App, RouteParts } from "./app.ts";
import { TEXT_TYPE, textResponse, valueResponse } from "./body.ts";
import { addEndpoint } from "./endpoint.ts";
import { policyExportOperation, resourceOperation } from "./openapi.ts";
import { problemResponse } from "./problem.ts";

export function registerPolicy(app: App, { service }: RouteParts, route: Route): void {
  const operation = resourceOperation([route], { view: "netbackup-policy", isList: false });
  addEndpoint(app, "GET", route.path, operation, async (c) => {
    const host = service.hostFor(c.env.caller, c.req.raw.signal);
    return valueResponse(c.req.raw, await policyView(host.config(), host));
  });
}

export function registerPolicyExport(app: App, { service }: RouteParts, route: Route): void {
  addEndpoint(app, "GET", route.path, policyExportOperation(route), async (c) => {
    const request = c.req.raw;
    const host = service.hostFor(c.env.caller, request.signal);
    const query = await queryFromHttp(route, c.req.query(), host);
    if (!query.ok) return problemResponse(request, query.failure);
    if (query.value.kind !== "export-policy")
      return problemResponse(request, failure("E-UNSUPPORTED", route.subcommand));
    let text = "";
    for await (const piece of writePolicy(query.value, host.config())) text += piece;
    return textResponse(text, `${TEXT_TYPE}; charset=utf-8`);
  });
}
