/**
 * The resources under /v1, made from the rows of the one grammar (command/spec.ts): a changing request becomes Changes
 * through command/json.ts, a reading one is a view of command/views.ts. Only what a path shows is listed here, because
 * rows do not say it.
 */
import { findHost } from "../command/apply-policy.ts";
import type { Change } from "../command/command.ts";
import { failure } from "../command/errors.ts";
import type { CommandHost } from "../command/host.ts";
import { fromHttp, ROUTES } from "../command/json.ts";
import { portSettingViews } from "../command/netbackup-listings.ts";
import { hostView } from "../command/policy-listings.ts";
import { lacksRight, perform, remarking } from "../command/run.ts";
import type { Resolver } from "../command/service-names.ts";
import type { Route } from "../command/spec.ts";
import {
  flowView,
  groupView,
  healthCheckView,
  recordView,
  resultView,
  ruleView,
  serverOfGroupView,
  serverOfRuleView,
  serverView,
  stickyView,
} from "../command/views.ts";
import type { Config, Server, ServerGroup } from "../model/config.ts";
import { findGroup, findHealthCheck, findRule, findServer, groupOf, sortedServers } from "../model/lookup.ts";
import type { Failure, Result } from "../model/result.ts";
import type { App, RouteParts } from "./app.ts";
import { BODY_LIMIT, readValue, valueResponse, withWarnings } from "./body.ts";
import { registerExport, registerImport } from "./config.ts";
import { addEndpoint } from "./endpoint.ts";
import { registerExplain } from "./explain.ts";
import { registerNetBackupList } from "./netbackup.ts";
import { registerNetBackupTest } from "./netbackup-test.ts";
import { resourceOperation, type Shown } from "./openapi.ts";
import { inOrder, type ListItem, type Place, pageOf, readPaging } from "./paging.ts";
import { registerPolicy, registerPolicyExport } from "./policy.ts";
import { httpFailure, problemResponse } from "./problem.ts";
import { rightCheck } from "./rights.ts";
import { registerRollback } from "./rollback.ts";
import { registerStatistics, registerStream } from "./statistics-routes.ts";

type PathValues = Readonly<Record<string, string>>;
interface One {
  readonly view: Shown["view"];
  /** null when there is none of that name. */
  read(config: Config, values: PathValues): object | null;
  missing(values: PathValues): Failure;
}
interface List {
  readonly view: Shown["view"];
  /**
   * The items by ascending place; null when what holds the list does not exist.
   * @param after where the caller goes on; leaving out what lies before it is the caller's work, and may be done here
   */
  read(host: CommandHost, config: Config, values: PathValues, after: Place | null): Iterable<ListItem> | null;
}

const ONE: Readonly<Record<string, One>> = {
  "/v1/rules/{name}": {
    view: "rule",
    read: (config, { name }) => mapFound(findRule(config, name!), (rule) => ruleView(config, rule)),
    missing: () => failure("E-ENOENT"),
  },
  "/v1/servergroups/{name}": {
    view: "servergroup",
    read: (config, { name }) => mapFound(findGroup(config, name!), (group) => groupView(config, group)),
    missing: () => failure("E-SGUNAVAIL"),
  },
  "/v1/servers/{id}": {
    view: "server",
    read: (config, { id }) =>
      mapFound(findServer(config, id!), ({ group, server }) => serverView(config, group, server)),
    missing: () => failure("E-ENOENT"),
  },
  "/v1/healthchecks/{name}": {
    view: "healthcheck",
    read: (config, { name }) => mapFound(findHealthCheck(config, name!), healthCheckView),
    missing: () => failure("E-ENOENT"),
  },
  "/v1/netbackup/hosts/{name}": {
    view: "netbackup-host",
    read: (config, { name }) => mapFound(findHost(config, name!), hostView),
    missing: ({ name }) => failure("E-NBHOST", name!),
  },
};

const LISTS: Readonly<Record<string, List>> = {
  "/v1/rules": {
    view: "rule",
    read: (_host, config) => byId(config.rules, (rule) => ruleView(config, rule)),
  },
  "/v1/servergroups": {
    view: "servergroup",
    read: (_host, config) => byId(config.groups, (group) => groupView(config, group)),
  },
  "/v1/servergroups/{name}/servers": {
    view: "server-of-group",
    read: (_host, config, { name }) =>
      mapFound(findGroup(config, name!), (group) =>
        serverItems(group, [], (server) => serverOfGroupView(group, server)),
      ),
  },
  "/v1/servers": {
    view: "server-of-rule",
    read: (_host, config, _values, after) => serversOfRules(config, after),
  },
  "/v1/healthchecks": {
    view: "healthcheck",
    read: (_host, config) => byId(config.healthChecks, healthCheckView),
  },
  "/v1/hc-results": {
    view: "hc-result",
    read: (host, config) =>
      (host.healthResults?.() ?? [])
        .toSorted((a, b) => a.ruleId - b.ruleId || a.serverId - b.serverId)
        .map((result) => ({ place: [result.ruleId, result.serverId], view: () => resultView(config, result) })),
  },
  "/v1/netbackup/hosts": {
    view: "netbackup-host",
    read: (_host, config) => byId(config.netbackup.hosts, hostView),
  },
  "/v1/netbackup/ports": {
    view: "netbackup-port",
    read: (_host, config) => inOrder(portSettingViews(config)),
  },
  "/v1/audit": { view: "record", read: (host) => recorded(host, "audit") },
  "/v1/history": { view: "record", read: (host) => recorded(host, "history") },
  "/v1/nat": {
    view: "nat",
    read: (host, _config, _values, after) => inTable(host.natEntriesFrom(placeBehind(after)), flowView),
  },
  "/v1/persist": {
    view: "persist",
    read: (host, config, _values, after) =>
      inTable(host.persistEntriesFrom(placeBehind(after)), (entry) => stickyView(config, entry)),
  },
};

/** Paths that are more than a list or an object. */
const SPECIAL: Readonly<Record<string, (app: App, parts: RouteParts, route: Route) => void>> = {
  "GET /v1/explain": (app, parts, route) =>
    registerExplain(app, parts, route, resourceOperation([route], { view: "explanation", isList: false })),
  "GET /v1/netbackup/services": (app, parts, route) => registerNetBackupList(app, parts, route, "netbackup-service"),
  "GET /v1/netbackup/flows": (app, parts, route) => registerNetBackupList(app, parts, route, "netbackup-flow"),
  "GET /v1/netbackup/policy": registerPolicy,
  "GET /v1/netbackup/policy/export": registerPolicyExport,
  "POST /v1/netbackup/test": registerNetBackupTest,
  "GET /v1/statistics": (app, parts, route) =>
    registerStatistics(app, parts, resourceOperation([route], { view: "statistics", isList: false })),
  "GET /v1/statistics/stream": registerStream,
  "GET /v1/config": registerExport,
  "PUT /v1/config": registerImport,
  "POST /v1/history/{id}/rollback": registerRollback,
};

/** Registers every row of the grammar that has a path. Throws for a row that nothing here knows how to show. */
export function registerResources(app: App, parts: RouteParts): void {
  for (const [path, routes] of Map.groupBy(ROUTES, (route) => route.path)) {
    for (const [method, rows] of Map.groupBy(routes, (route) => route.method)) {
      const special = SPECIAL[`${method} ${path}`];
      if (special !== undefined) special(app, parts, rows[0]!);
      else if (method === "GET") registerGet(app, parts, rows[0]!);
      else registerChange(app, parts, rows);
    }
  }
}

function registerGet(app: App, { service }: RouteParts, route: Route): void {
  const { path } = route;
  const [one, list] = [ONE[path], LISTS[path]];
  const view = (one ?? list)?.view;
  if (view === undefined) throw new Error(`no view for GET ${path}`);
  addEndpoint(app, "GET", path, resourceOperation([route], { view, isList: list !== undefined }), (c) => {
    const request = c.req.raw;
    const host = service.hostFor(c.env.caller, request.signal);
    const config = host.config();
    if (one !== undefined) {
      const shown = one.read(config, c.req.param());
      return shown === null ? problemResponse(request, one.missing(c.req.param())) : valueResponse(request, shown);
    }
    const paging = readPaging(c.req.query());
    if (!paging.ok) return problemResponse(request, paging.failure);
    const items = list!.read(host, config, c.req.param(), paging.value.after);
    if (items === null) return problemResponse(request, failure("E-SGUNAVAIL"));
    return valueResponse(request, pageOf(items, paging.value));
  });
}

function registerChange(app: App, { service, refusals }: RouteParts, rows: readonly Route[]): void {
  const [route] = rows as [Route];
  const { method, path } = route;
  if (method === "GET") throw new Error(`${path}: GET changes nothing`);
  const shown = method === "POST" ? shownWhenMade(path) : null;
  addEndpoint(app, method, path, resourceOperation(rows, shown), async (c) => {
    const request = c.req.raw;
    const body = await readValue(request, BODY_LIMIT);
    if (!body.ok) return problemResponse(request, body.failure);
    const host = service.hostFor(c.env.caller, request.signal);
    const right = rightCheck(c.env.caller, refusals);
    const remarks = new Set<string>();
    const changes = await changesOf(route, c.req.param(), body.value, remarking(host, remarks));
    if (!changes.ok) {
      // Who may not do it learns nothing about how it would be said rightly.
      const allowed = right(route.right, `${method} ${c.req.path}`);
      return problemResponse(request, allowed ? changes.failure : lacksRight(route.right));
    }
    const states: [Config, Config][] = [];
    const done = await perform(changes.value, recording(host, states), { right });
    if (!done.ok) return problemResponse(request, done.failure);
    if (method !== "POST") return new Response(null, { status: 204 });
    const { location, view } = made(path, c.req.param(), body.value, states[0]!);
    return valueResponse(request, withWarnings(view, [...remarks, ...done.value]), 201, { location });
  });
}

/** What a body says where none belongs would be lost, and with it what the caller meant to restrict. */
async function changesOf(
  route: Route,
  values: PathValues,
  body: unknown,
  resolver: Resolver,
): Promise<Result<readonly Change[]>> {
  if (route.body === null && body !== null)
    return { ok: false, failure: httpFailure("E-BODY", `${route.method} of this path takes no body`) };
  return fromHttp(route, values, body, resolver);
}

/** The same host, which remembers the configuration before and after each change that it accepts. */
function recording(host: CommandHost, states: [Config, Config][]): CommandHost {
  return {
    ...host,
    transact: (audit, change) =>
      host.transact(audit, async (before, context) => {
        const changed = await change(before, context);
        if (changed.ok) states.push([before, changed.value]);
        return changed;
      }),
  };
}

const isServers = (path: string): boolean => path.endsWith("/servers");

function shownWhenMade(path: string): Shown {
  if (isServers(path)) return { view: "server-of-group", isList: true };
  const one = ONE[`${path}/{name}`];
  if (one === undefined) throw new Error(`no view of what POST ${path} makes`);
  return { view: one.view, isList: false };
}

/** What a POST has made, as the configuration was right after it, and where it is. */
function made(
  path: string,
  values: PathValues,
  body: unknown,
  [before, after]: [Config, Config],
): { location: string; view: object } {
  if (isServers(path)) {
    const group = findGroup(after, values.name!)!;
    const added = sortedServers(group).filter((server) => server.id >= before.nextId);
    const items = added.map((server) => serverOfGroupView(group, server));
    return { location: path.replace("{name}", encodeURIComponent(group.name)), view: { items } };
  }
  const { name } = body as { name: string };
  return { location: `${path}/${encodeURIComponent(name)}`, view: ONE[`${path}/{name}`]!.read(after, { name })! };
}

const mapFound = <T, V>(found: T | undefined, view: (item: T) => V): V | null =>
  found === undefined ? null : view(found);

/** Objects in the order in which they were made, which is that of their ids. */
const byId = <T extends { readonly id: number }>(objects: readonly T[], view: (object: T) => unknown): ListItem[] =>
  objects.map((object) => ({ place: [object.id], view: () => view(object) }));

/** The servers of a group in listing order, by address; ids tell those with one address apart. */
function serverItems(group: ServerGroup, prefix: Place, view: (server: Server) => unknown): ListItem[] {
  const placeOf = ({ address, id }: Server): Place => [...prefix, address.family, address.value, id];
  return sortedServers(group).map((server) => ({
    place: placeOf(server),
    view: () => view(server),
  }));
}

/** The servers of every rule from that on in which the page before ended; no further than they are asked for. */
function* serversOfRules(config: Config, after: Place | null): Generator<ListItem> {
  for (const rule of config.rules) {
    if (after !== null && rule.id < Number(after[0])) continue;
    const group = groupOf(config, rule);
    yield* serverItems(group, [rule.id], (server) => serverOfRuleView(rule, group, server));
  }
}

/** Records, oldest first. Ids rise with time, and the oldest records go first. */
function* recorded(host: CommandHost, kind: "audit" | "history"): Generator<ListItem> {
  for (const record of host.records?.(kind, null) ?? []) yield { place: [record.id], view: () => recordView(record) };
}

const placeBehind = (after: Place | null): number => (after === null ? 0 : Number(after[0]) + 1);

/** Entries of a table of the engine, one by one as they are asked for. */
function* inTable<T>(
  entries: Iterable<{ readonly place: number; readonly entry: T }>,
  view: (entry: T) => unknown,
): Generator<ListItem> {
  for (const { place, entry } of entries) yield { place: [place], view: () => view(entry) };
}
