/**
 * `--json` of the show commands: the objects that HTTP gives, as an array with one object on a line, or, of statistics,
 * one object per sample. Names are looked up before anything is printed, so that what is printed is whole.
 */
import type { Config } from "../model/config.ts";
import { findGroup, findHealthCheck, findRule, findServer, groupOf, sortedServers } from "../model/lookup.ts";
import { ok, type Result } from "../model/result.ts";
import type { Asked, Query, ShowHealth, ShowRule, ShowServer, ShowStatistics } from "./command.ts";
import { failed } from "./errors.ts";
import type { CommandHost, RuleSample } from "./host.ts";
import { checkNames, type Listing } from "./listings.ts";
import { flowViews, serviceViews } from "./netbackup-listings.ts";
import { Pace } from "./pace.ts";
import { hostViews, policyView } from "./policy-listings.ts";
import { checkStatisticsNames, takeSamples } from "./statistics.ts";
import {
  explanationView,
  flowView,
  groupView,
  healthCheckView,
  recordView,
  resultView,
  ruleView,
  serverOfRuleView,
  statisticsView,
  stickyView,
  stringify,
} from "./views.ts";

/** The objects that a query asks for; null ones are gone since the Config was read. */
type Objects = Iterable<object | null>;

function* first(items: Objects, limit: number | null): Objects {
  let left = limit ?? Number.POSITIVE_INFINITY;
  for (const item of items) {
    if (left <= 0) return;
    if (item === null) continue;
    left--;
    yield item;
  }
}

function* mapped<T>(items: Iterable<T>, view: (item: T) => object | null): Objects {
  for (const item of items) yield view(item);
}

const named = <T>(names: readonly string[], all: readonly T[], find: (name: string) => T | undefined): T[] =>
  names.length === 0 ? [...all] : names.flatMap((name) => find(name) ?? []);

const rulesOf = ({ names }: { readonly names: readonly string[] }, config: Config) =>
  named(names, config.rules, (name) => findRule(config, name));

const ruleObjects = (query: ShowRule, config: Config): Objects =>
  mapped(
    rulesOf(query, config).filter((rule) => query.enabled === null || rule.enabled === query.enabled),
    (rule) => ruleView(config, rule),
  );

/** One by one: rules times servers may be a million. */
function* serverObjects(query: ShowServer, config: Config): Objects {
  for (const rule of rulesOf(query, config)) {
    const group = groupOf(config, rule);
    for (const server of sortedServers(group)) yield serverOfRuleView(rule, group, server);
  }
}

function* resultObjects(query: ShowHealth, config: Config, host: CommandHost): Objects {
  const results = Map.groupBy(host.healthResults?.() ?? [], (result) => result.ruleId);
  for (const rule of rulesOf(query, config)) {
    const ofRule = new Map(results.get(rule.id)?.map((result) => [result.serverId, result]));
    for (const server of sortedServers(groupOf(config, rule))) {
      const result = ofRule.get(server.id);
      if (result !== undefined) yield resultView(config, result);
    }
  }
}

function objectsOf(query: Exclude<Asked, ShowStatistics>, config: Config, host: CommandHost): Objects {
  switch (query.kind) {
    case "show-rule":
      return ruleObjects(query, config);
    case "show-servergroup":
      return mapped(
        named(query.names, config.groups, (name) => findGroup(config, name)),
        (group) => groupView(config, group),
      );
    case "show-server":
      return serverObjects(query, config);
    case "show-healthcheck":
      return named(query.names, config.healthChecks, (name) => findHealthCheck(config, name)).map(healthCheckView);
    case "show-hc-result":
      return resultObjects(query, config, host);
    case "show-nat":
      return first(mapped(host.natEntries(), flowView), query.limit);
    case "show-persist":
      return first(
        mapped(host.persistEntries(), (entry) => stickyView(config, entry)),
        query.limit,
      );
    case "show-audit":
    case "history":
      return mapped(host.records?.(query.kind === "history" ? "history" : "audit", query.limit) ?? [], recordView);
    case "show-services":
      return serviceViews(query, config);
    case "show-flows":
      return flowViews(query, config);
    case "show-host":
      return hostViews(query.names, config);
    case "show-policy":
    case "export-policy":
    case "explain":
      return [];
  }
}

/** Whether this process can tell at all. */
function isSupported(query: Asked, host: CommandHost): boolean {
  if (query.kind === "show-hc-result") return host.healthResults !== undefined;
  if (query.kind === "show-audit" || query.kind === "history") return host.records !== undefined;
  return query.kind !== "explain" || host.explain !== undefined;
}

/**
 * The answer to a query as JSON text.
 * @param shown the configuration to show; null: the running one, at each sample of statistics the one of that moment
 */
export async function* listJson(query: Query, shown: Config | null, host: CommandHost): Listing {
  if (query.kind === "show-statistics") return yield* statisticsJson(query, host, shown);
  const config = shown ?? host.config();
  const found = checkNames(query, config);
  if (!found.ok) return found;
  if (!isSupported(query, host)) return failed("E-UNSUPPORTED", query.kind);
  if (query.kind === "explain" && host.explain !== undefined) {
    yield `${stringify(explanationView(config, host.explain(query.packet)))}\n`;
    return ok(undefined);
  }
  if (query.kind === "show-policy") {
    yield `${stringify(await policyView(config, host))}\n`;
    return ok(undefined);
  }
  let isFirst = true;
  const pace = new Pace();
  for (const item of objectsOf(query, config, host)) {
    if (item === null) continue;
    await pace.breathe();
    yield (isFirst ? "[\n" : ",\n") + stringify(item);
    isFirst = false;
  }
  yield isFirst ? "[]\n" : "\n]\n";
  return ok(undefined);
}

/** Samples, each an object on a line, absolute, of the rule or server asked for. */
async function* statisticsJson(query: ShowStatistics, host: CommandHost, shown: Config | null): Listing {
  for await (const sample of takeSamples(query, host)) {
    const current = shown ?? host.config();
    const found: Result<void> = checkStatisticsNames(query, current);
    if (!found.ok) return found;
    const rules = sample.rules.flatMap((rule) => ofInterest(query, rule, current));
    yield `${stringify(statisticsView({ ...sample, rules }))}\n`;
  }
  return ok(undefined);
}

/** The rule with the servers asked for; none when it was not asked for. */
function ofInterest(query: ShowStatistics, rule: RuleSample, config: Config): RuleSample[] {
  if (query.rule !== null && findRule(config, query.rule)?.id !== rule.ruleId) return [];
  if (query.server === null) return [rule];
  const wanted = findServer(config, query.server)?.server.id;
  const servers = rule.servers.filter((server) => server.serverId === wanted);
  return servers.length === 0 ? [] : [{ ...rule, servers }];
}
