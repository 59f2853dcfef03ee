/** `GET /v1/explain?src=...`: what would become of a packet, as `ilbadm explain` tells it, structured. */
import { failure } from "../command/errors.ts";
import { queryFromHttp, ROUTES } from "../command/json.ts";
import { explanationView } from "../command/views.ts";
import type { App, RouteParts } from "./app.ts";
import { valueResponse } from "./body.ts";
import { problemResponse } from "./problem.ts";

const PATH = "/v1/explain";

export function registerExplain(app: App, { service }: RouteParts): void {
  const route = ROUTES.find(({ path }) => path === PATH);
  if (route === undefined) throw new Error(`the grammar has no ${PATH}`);
  app.get(PATH, async (c) => {
    const request = c.req.raw;
    const host = service.hostFor(c.env.caller, request.signal);
    const query = await queryFromHttp(route, c.req.query(), host);
    if (!query.ok) return problemResponse(request, query.failure);
    if (query.value.kind !== "explain" || host.explain === undefined)
      return problemResponse(request, failure("E-UNSUPPORTED", route.subcommand));
    return valueResponse(request, explanationView(host.config(), host.explain(query.value.packet)));
  });
}
