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
import { BODY_LIMIT, JSON_TYPE, MSGPACK_TYPE, preferred, readValue, stringify, textResponse } from "./body.ts";
import { DASHBOARD_FILES, dashboardResponse } from "./dashboard.ts";
import { addEndpoint, closePaths, describe } from "./endpoint.ts";
import { answerObject, answerStream, lineRequest, NDJSON_TYPE } from "./ilbadm.ts";
import { METRICS_TYPE, metricsText } from "./metrics.ts";
import {
  DOCUMENT_OPERATION,
  documentOf,
  HEALTH_OPERATION,
  LINE_OPERATION,
  METRICS_OPERATION,
  READY_OPERATION,
} from "./openapi.ts";
import { isCrossSite } from "./origin.ts";
import { httpFailure, problemResponse } from "./problem.ts";
import { registerResources } from "./resources.ts";
import { type RefusalAudit, rightCheck } from "./rights.ts";
import type { Service } from "./service.ts";

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
  const parts: RouteParts = { service, refusals: service.refusals };
  app.use(async (c, next) => refusedAtTheDoor(parts, c.req.raw, c.env.caller) ?? next());
  for (const path of Object.keys(DASHBOARD_FILES)) app.get(path, () => dashboardResponse(path));
  registerOverview(app, service);
  registerIlbadm(app, parts);
  registerResources(app, parts);
  closePaths(app);
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

/** What no path answers: another site's page that would change something, and readers without the right to read. */
function refusedAtTheDoor({ refusals }: RouteParts, request: Request, caller: Caller): Response | null {
  const { method } = request;
  const { pathname } = new URL(request.url);
  if (isCrossSite(request)) {
    refusals.record(caller, `${method} ${pathname}`, "E-ORIGIN");
    return problemResponse(request, httpFailure("E-ORIGIN", "requests from pages of other sites change nothing"));
  }
  const reads = method === "GET" || method === "HEAD";
  if (!reads || OPEN_PATHS.includes(pathname)) return null;
  const mayShow = rightCheck(caller, refusals)("show", `${method} ${pathname}`);
  return mayShow ? null : problemResponse(request, failure("E-AUTH"));
}

/** Paths about the daemon itself. Watchers may add what they like to these, so they have no guards. */
function registerOverview(app: App, service: Service): void {
  app.get("/healthz", describe(HEALTH_OPERATION), (c) => c.text("ok\n"));
  app.get("/readyz", describe(READY_OPERATION), (c) =>
    service.isReady() ? c.text("ready\n") : c.text("not ready\n", 503),
  );
  app.get("/metrics", describe(METRICS_OPERATION), (c) => {
    const host = service.hostFor(c.env.caller, c.req.raw.signal);
    const text = metricsText({
      version: service.version,
      ready: service.isReady(),
      config: host.config(),
      health: host.healthResults?.() ?? [],
      sample: host.statistics(),
      counters: service.counters(),
      ports: service.ports(),
      workers: service.workers(),
    });
    return textResponse(text, METRICS_TYPE);
  });
  let document: Promise<unknown> | null = null;
  addEndpoint(app, "GET", "/v1/openapi.json", DOCUMENT_OPERATION, async () => {
    document ??= documentOf(app, service.version);
    return textResponse(stringify(await document), JSON_TYPE);
  });
}

function registerIlbadm(app: App, { service, refusals }: RouteParts): void {
  addEndpoint(app, "POST", "/v1/ilbadm", LINE_OPERATION, async (c) => {
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
    return answerObject(request, argv, hostFor(request.signal), withInput);
  });
}
