/** `POST /v1/netbackup/test`: what test-connection finds, as one object when the test is over. */

import { lacksRight, testHost } from "../command/run.ts";
import type { Route } from "../command/spec.ts";
import { testFromBody } from "../command/test-body.ts";
import { testView } from "../command/test-connection.ts";
import type { App, RouteParts } from "./app.ts";
import { BODY_LIMIT, readValue, valueResponse } from "./body.ts";
import { addEndpoint } from "./endpoint.ts";
import { testOperation } from "./openapi.ts";
import { problemResponse } from "./problem.ts";
import { rightCheck } from "./rights.ts";

export function registerNetBackupTest(app: App, { service, refusals }: RouteParts, route: Route): void {
  addEndpoint(app, "POST", route.path, testOperation(route), async (c) => {
    const request = c.req.raw;
    const body = await readValue(request, BODY_LIMIT);
    if (!body.ok) return problemResponse(request, body.failure);
    const right = rightCheck(c.env.caller, refusals);
    const test = testFromBody(body.value);
    if (!test.ok) {
      // Who may not do it learns nothing about how it would be said rightly.
      const allowed = right(route.right, `POST ${c.req.path}`);
      return problemResponse(request, allowed ? test.failure : lacksRight(route.right));
    }
    const host = service.hostFor(c.env.caller, request.signal);
    const found = await testHost(test.value, host, { right });
    if (!found.ok) return problemResponse(request, found.failure);
    return valueResponse(request, testView(test.value, found.value));
  });
}
