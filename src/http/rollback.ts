/** `POST /v1/history/{id}/rollback`: back to the configuration after a change; with `?dryRun=true` only what would change. */
import { keyFailure } from "../command/errors.ts";
import { lacksRight, rollBack } from "../command/run.ts";
import type { Route } from "../command/spec.ts";
import { parseCount } from "../command/values.ts";
import type { App, RouteParts } from "./app.ts";
import { BODY_LIMIT, readValue, valueResponse } from "./body.ts";
import { addEndpoint } from "./endpoint.ts";
import { rollbackOperation } from "./openapi.ts";
import { httpFailure, problemResponse } from "./problem.ts";
import { rightCheck } from "./rights.ts";

export function registerRollback(app: App, { service, refusals }: RouteParts, route: Route): void {
  addEndpoint(app, "POST", route.path, rollbackOperation(route), async (c) => {
    const request = c.req.raw;
    const { dryRun = "false" } = c.req.query();
    if (dryRun !== "true" && dryRun !== "false")
      return problemResponse(request, httpFailure("E-PARAMETER", "dryRun must be true or false", "dryRun"));
    const id = parseCount(c.req.param("id") ?? "", Number.MAX_SAFE_INTEGER);
    const right = rightCheck(c.env.caller, refusals);
    // Who may not do it learns nothing about how it would be said rightly.
    if (id === null)
      return problemResponse(
        request,
        right(route.right, `POST ${c.req.path}`) ? keyFailure("id", "id", "E-VALUE") : lacksRight(route.right),
      );
    const body = await readValue(request, BODY_LIMIT);
    if (!body.ok) return problemResponse(request, body.failure);
    if (body.value !== null) return problemResponse(request, httpFailure("E-BODY", "POST of this path takes no body"));
    const command = { kind: "rollback", id, dryRun: dryRun === "true" } as const;
    const host = service.hostFor(c.env.caller, request.signal);
    const done = await rollBack(command, host, { right });
    if (!done.ok) return problemResponse(request, done.failure);
    return done.value === null ? new Response(null, { status: 204 }) : valueResponse(request, done.value);
  });
}
