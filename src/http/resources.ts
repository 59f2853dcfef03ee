/**
 * The resources under /v1, made from the rows of the one grammar (command/spec.ts): a changing request becomes Changes
 * through command/json.ts, a reading one is a view of command/views.ts. Only the paths of GET are listed here, because
 * a view is chosen per path.
 */
import { failure } from "../command/errors.ts";
import type { CommandHost } from "../command/host.ts";
import { fromHttp, ROUTES } from "../command/json.ts";
import { perform } from "../command/run.ts";
import type { Route } from "../command/spec.ts";
import {
  flowView,
  groupView,
  healthCheckView,
  recordView,
  resultView,
  ruleView,
  serverView,
  stickyView,
} from "../command/views.ts";
import type { Config } from "../model/config.ts";
import { findGroup, findHealthCheck, findRule, findServer, groupOf, sortedServers } from "../model/lookup.ts";
import type { Failure } from "../model/result.ts";
import type { App, RouteParts } from "./app.ts";
import { BODY_LIMIT, readValue, valueResponse } from "./body.ts";
import { type Page, pageOf, readPaging } from "./paging.ts";
import { httpFailure, problemResponse } from "./problem.ts";
import { rightCheck } from "./rights.ts";

type PathValues = Readonly<Record<string, string>>;
/** An object, or null when there is none of that name. */
type ReadOne = (host: CommandHost, values: PathValues) => unknown;
/** The items of a list, in listing order; null when what holds the list does not exist. */
type ReadList = (host: CommandHost, values: PathValues) => Iterable<unknown> | null;

const ONE: Readonly<Record<string, { readonly read: ReadOne; readonly missing: Failure }>> = {
  "/v1/rules/{name}": {
    read: (host, { name }) =>
      withConfig(host, (config) => mapFound(findRule(config, name!), (rule) => ruleView(config, rule))),
    missing: failure("E-ENOENT"),
  },
  "/v1/servergroups/{name}": {
    read: (host, { name }) =>
      withConfig(host, (config) => mapFound(findGroup(config, name!), (group) => groupView(config, group))),
    missing: failure("E-SGUNAVAIL"),
  },
  "/v1/servers/{id}": {
    read: (host, { id }) =>
      withConfig(host, (config) =>
        mapFound(findServer(config, id!), ({ group, server }) => serverView(config, group, server)),
      ),
    missing: failure("E-ENOENT"),
  },
  "/v1/healthchecks/{name}": {
    read: (host, { name }) => mapFound(findHealthCheck(host.config(), name!), healthCheckView),
    missing: failure("E-ENOENT"),
  },
};

const LISTS: Readonly<Record<string, ReadList>> = {
  "/v1/rules": (host) => withConfig(host, (config) => config.rules.map((rule) => ruleView(config, rule))),
  "/v1/servergroups": (host) => withConfig(host, (config) => config.groups.map((group) => groupView(config, group))),
  "/v1/servergroups/{name}/servers": (host, { name }) =>
    withConfig(host, (config) =>
      mapFound(findGroup(config, name!), (group) =>
        sortedServers(group).map((server) => serverView(config, group, server)),
      ),
    ),
  "/v1/servers": (host) =>
    withConfig(host, (config) =>
      config.rules.flatMap((rule) => {
        const group = groupOf(config, rule);
        return sortedServers(group).map((server) => ({ ...serverView(config, group, server), rule: rule.name }));
      }),
    ),
  "/v1/healthchecks": (host) => host.config().healthChecks.map(healthCheckView),
  "/v1/hc-results": (host) =>
    withConfig(host, (config) => (host.healthResults?.() ?? []).flatMap((result) => resultView(config, result) ?? [])),
  "/v1/audit": (host) => mapLazily(host.records?.("audit", null) ?? [], recordView),
  "/v1/history": (host) => mapLazily(host.records?.("history", null) ?? [], recordView),
  "/v1/nat": (host) => mapLazily(host.natEntries(), flowView),
  "/v1/persist": (host) =>
    withConfig(host, (config) => mapLazily(host.persistEntries(), (entry) => stickyView(config, entry))),
};

/** Paths that other modules serve, though the grammar names them. */
const ELSEWHERE: readonly string[] = ["/v1/explain", "/v1/statistics", "/v1/statistics/stream", "/v1/config"];

export function registerResources(app: App, parts: RouteParts): void {
  const byPath = Map.groupBy(ROUTES, (route) => route.path);
  for (const [path, routes] of byPath) {
    const pattern = path.replace(/\{([a-z]+)\}/g, ":$1");
    for (const [method, rows] of Map.groupBy(routes, (route) => route.method)) {
      if (ELSEWHERE.includes(path)) continue;
      if (method === "GET") registerGet(app, parts, path, pattern);
      else registerChange(app, parts, pattern, method, rows);
    }
    registerOtherMethods(app, pattern, routes);
  }
}

function registerGet(app: App, { service }: RouteParts, path: string, pattern: string): void {
  const one = ONE[path];
  const list = LISTS[path];
  if (one === undefined && list === undefined) throw new Error(`no view for GET ${path}`);
  app.get(pattern, (c) => {
    const request = c.req.raw;
    const host = service.hostFor(c.env.caller, request.signal);
    if (one !== undefined) {
      const view = one.read(host, c.req.param());
      return view === null ? problemResponse(request, one.missing) : valueResponse(request, view);
    }
    const paging = readPaging(c.req.query());
    if (!paging.ok) return problemResponse(request, paging.failure);
    const items = list!(host, c.req.param());
    if (items === null) return problemResponse(request, failure("E-SGUNAVAIL"));
    const page: Page = pageOf(items, paging.value);
    return valueResponse(request, page);
  });
}

function registerChange(
  app: App,
  { service, refusals }: RouteParts,
  pattern: string,
  method: string,
  rows: readonly Route[],
): void {
  app.on(method, pattern, async (c) => {
    const request = c.req.raw;
    const body = await readValue(request, BODY_LIMIT);
    if (!body.ok) return problemResponse(request, body.failure);
    const route = routeForBody(rows, body.value);
    if (route === null) return problemResponse(request, unknownBody(rows));
    const host = service.hostFor(c.env.caller, request.signal);
    const right = rightCheck(c.env.caller, refusals);
    const changes = await fromHttp(route, c.req.param(), body.value, host);
    if (!changes.ok) {
      // Who may not do it learns nothing about how it would be said rightly.
      const allowed = right(route.right, `${method} ${c.req.path}`);
      return problemResponse(request, allowed ? changes.failure : failure("E-AUTH"));
    }
    const done = await perform(changes.value, host, { right });
    if (!done.ok) return problemResponse(request, done.failure);
    return answerDone(request, method, c.req.path, body.value);
  });
}

/** 201 with the place of what was made, 204 otherwise. */
function answerDone(request: Request, method: string, path: string, body: unknown): Response {
  if (method !== "POST") return new Response(null, { status: 204 });
  const name = (body as { name?: unknown }).name;
  const location = typeof name === "string" ? `${path}/${encodeURIComponent(name)}` : path;
  return valueResponse(request, { location }, 201, { location });
}

/** Among rows of one method and path the one that the body selects; the only one needs no selecting. */
function routeForBody(rows: readonly Route[], body: unknown): Route | null {
  if (rows.length === 1) return rows[0]!;
  const found = rows.find((row) => typeof row.body === "object" && row.body !== null && sameBody(row.body, body));
  return found ?? null;
}

function sameBody(wanted: Readonly<Record<string, boolean>>, body: unknown): boolean {
  if (typeof body !== "object" || body === null) return false;
  const keys = Object.keys(wanted);
  return (
    Object.keys(body).length === keys.length &&
    keys.every((key) => (body as Record<string, unknown>)[key] === wanted[key])
  );
}

function unknownBody(rows: readonly Route[]): Failure {
  const wanted = rows.map((row) => JSON.stringify(row.body)).join(" or ");
  return httpFailure("E-BODY", `the body must be ${wanted}`);
}

function registerOtherMethods(app: App, pattern: string, routes: readonly Route[]): void {
  const allowed = [...new Set(routes.map((route) => route.method))];
  app.all(pattern, (c) => {
    const text = `${c.req.path} has no ${c.req.method}; it has ${allowed.join(", ")}`;
    return problemResponse(c.req.raw, httpFailure("E-METHOD", text), { allow: allowed.join(", ") });
  });
}

const withConfig = <T>(host: CommandHost, read: (config: Config) => T): T => read(host.config());
const mapFound = <T, V>(found: T | undefined, view: (item: T) => V): V | null =>
  found === undefined ? null : view(found);

/** Views of an endless-looking iterable, made only as far as the page needs; null views are left out. */
function* mapLazily<T>(items: Iterable<T>, view: (item: T) => unknown): Generator<unknown> {
  for (const item of items) {
    const shown = view(item);
    if (shown !== null) yield shown;
  }
}
