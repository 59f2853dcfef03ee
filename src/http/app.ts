/**
 * The HTTP application: every path of contract and specification, tied to the daemon by `Service`. The caller comes with
 * each request as `env.caller`, put there by the server that accepted the connection (unix-server.ts, tcp-server.ts),
 * never by anything in the request. No path knows rules of configurations: those live behind command/.
 */
import { Hono } from "hono";
import { failure } from "../command/errors.ts";
import type { CommandHost } from "../command/host.ts";
import type { Caller } from "../control/caller.ts";
import type { Failure } from "../model/result.ts";
import { BODY_LIMIT, JSON_TYPE, MSGPACK_TYPE, preferred, readValue, valueResponse } from "./body.ts";
import { registerConfig } from "./config.ts";
import { DASHBOARD_FILES, dashboardResponse } from "./dashboard.ts";
import { registerExplain } from "./explain.ts";
import { answerStream, answerWhole, lineRequest, NDJSON_TYPE } from "./ilbadm.ts";
import { METRICS_TYPE, metricsText } from "./metrics.ts";
import { openApiDocument } from "./openapi.ts";
import { httpFailure, problemResponse } from "./problem.ts";
import { registerResources } from "./resources.ts";
import { RefusalAudit, rightCheck } from "./rights.ts";
import type { Service } from "./service.ts";
import { registerStatistics } from "./statistics-routes.ts";

export interface AppEnv {
  Bindings: { caller: Caller };
}
export type App = Hono<AppEnv>;

/** What route modules share. */
export interface RouteParts {
  readonly service: Service;
  readonly refusals: RefusalAudit;
}

/** Paths that need no right at all: they say nothing about the configuration. */
export const OPEN_PATHS: readonly string[] = ["/healthz", "/readyz", ...Object.keys(DASHBOARD_FILES)];

export function createApp(service: Service): App {
  const app: App = new Hono<AppEnv>();
  const parts: RouteParts = { service, refusals: new RefusalAudit((...refusal) => service.auditRefusal(...refusal)) };

  app.use(async (c, next) => {
    const readsOnly = c.req.method === "GET" || c.req.method === "HEAD";
    if (!OPEN_PATHS.includes(c.req.path) && readsOnly && !mayShow(parts, c.env.caller, c.req.method, c.req.path))
      return problemResponse(c.req.raw, failure("E-AUTH"));
    return next();
  });
  for (const path of Object.keys(DASHBOARD_FILES)) app.get(path, () => dashboardResponse(path));
  app.get("/healthz", (c) => c.text("ok\n"));
  app.get("/readyz", (c) => (service.isReady() ? c.text("ready\n") : c.text("not ready\n", 503)));
  app.get("/metrics", (c) => {
    const sample = service.hostFor(c.env.caller, c.req.raw.signal).statistics();
    const text = metricsText({
      version: service.version,
      ready: service.isReady(),
      sample,
      counters: service.counters(),
      ports: service.ports(),
    });
    return c.body(text, 200, { "content-type": METRICS_TYPE });
  });
  app.get("/v1/openapi.json", (c) => c.json(openApiDocument(service.version)));
  registerIlbadm(app, parts);
  registerConfig(app, parts);
  registerStatistics(app, parts);
  registerExplain(app, parts);
  registerResources(app, parts);

  app.notFound((c) => problemResponse(c.req.raw, httpFailure("E-NOPATH", `there is nothing at ${c.req.path}`)));
  app.onError((error, c) => {
    service.log.error("request failed", {
      method: c.req.method,
      path: c.req.path,
      reason: error.stack ?? error.message,
    });
    return problemResponse(c.req.raw, failure("E-INTERNAL"));
  });
  return app;
}

const mayShow = ({ refusals }: RouteParts, caller: Caller, method: string, path: string): boolean =>
  rightCheck(caller, refusals)("show", `${method} ${path}`);

function registerIlbadm(app: App, { service, refusals }: RouteParts): void {
  app.post("/v1/ilbadm", async (c) => {
    const request = c.req.raw;
    const refuse = (reason: Failure): Response => problemResponse(request, reason);
    const streams = preferred(request.headers.get("accept"), [JSON_TYPE, MSGPACK_TYPE, NDJSON_TYPE]) === NDJSON_TYPE;
    const body = await readValue(request, BODY_LIMIT);
    if (!body.ok) return refuse(body.failure);
    const line = lineRequest(body.value);
    if (!line.ok) return refuse(line.failure);
    const { argv, input } = line.value;
    const { caller } = c.env;
    const hostFor = (gone: AbortSignal): CommandHost => service.hostFor(caller, gone);
    const right = rightCheck(caller, refusals);
    // A stream is what ilbadm itself asks for: it opens FILE operands and can follow an endless answer.
    const options = { right, origin: streams ? ("shell" as const) : ("http" as const) };
    const withInput = input === undefined ? options : { ...options, input };
    if (streams) return answerStream(request, argv, hostFor, withInput, service.log);
    return valueResponse(request, await answerWhole(argv, hostFor(request.signal), withInput));
  });
}
