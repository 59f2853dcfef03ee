/**
 * Which flows two ends need, by the catalogue and what is known of them: the answer behind show-flows, and what a policy
 * is compiled from. Pure. It knows roles, versions and facts; addresses and packets are for others.
 */
import type { PortRange, Protocol } from "../model/config.ts";
import type { FactValue, NetBackupHost, NetBackupState, SiteFacts, SitePorts } from "../model/netbackup.ts";
import { CATALOGUE, choicesOf, rolesIncluded, servicesOf } from "./catalogue.ts";
import { conditionWords, type Facts, judge, list } from "./condition.ts";
import type { Expression, Flow, Service } from "./schema.ts";
import { compareVersions } from "./version.ts";

/** How much a flow is needed, from most to least. */
export const NEEDS = ["required", "compat", "conditional", "optional", "disputed", "not-needed"] as const;
export type Need = (typeof NEEDS)[number];

/** A host as flows see it: roles, included ones too, each with its version if that is known, and its facts. */
export interface End {
  readonly roles: readonly { readonly role: string; readonly version: string | null }[];
  readonly facts: Readonly<Record<string, FactValue>>;
}

/** What holds for every pair of ends. */
export interface Site extends SiteFacts {
  readonly ports: SitePorts;
}

/** One flow between two ends with one protocol. The source begins the connection. */
export interface FlowAnswer {
  readonly flow: Flow;
  /** Roles of the catalogue's row at this end that fit; null where the row names none. */
  readonly source: string | null;
  readonly destination: string;
  /** The source stands on the row's right side: it was turned round, as either end may begin. */
  readonly isReversed: boolean;
  /** null where the flow has no service but ports that only the site knows. */
  readonly service: Service | null;
  readonly protocol: Protocol;
  /** Destination ports; null: unresolved, the site has to name them first. */
  readonly ports: PortRange | null;
  readonly need: Need;
  /** What it hangs on, in words; null: nothing. */
  readonly condition: string | null;
}

const DOMAIN_ROLE = "netbackup-domain";
/** Hosts that replicate images between domains: with a domain named they belong to it. */
const REPLICATING_ROLES: readonly string[] = ["media-server", "dedup-storage-server", "dedup-client"];

/** An end of these roles; included roles have the version of the role that includes them. */
export function makeEnd(
  roles: readonly { readonly role: string; readonly version: string | null }[],
  facts: Readonly<Record<string, FactValue>> = {},
): End {
  const all = roles.flatMap(({ role, version }) =>
    [...rolesIncluded(role)].map((included) => ({ role: included, version })),
  );
  const replicating = all.find(({ role }) => REPLICATING_ROLES.includes(role));
  if (facts.domain !== undefined && replicating !== undefined)
    all.push({ role: DOMAIN_ROLE, version: replicating.version });
  return { roles: all, facts };
}

/** A bound host as an end. */
export const endOf = (host: NetBackupHost): End => makeEnd(host.roles, host.facts);

/** What a site has said, as far as flows go by it. */
export const siteOf = ({ features, settings, ports }: NetBackupState): Site => ({ features, settings, ports });

interface Candidate {
  readonly role: string | null;
  readonly version: string | null;
}

/** How an end stands on one side of a row. A null end may be any of the roles, of unknown version. */
function candidates(end: End | null, roles: readonly string[]): readonly Candidate[] {
  if (roles.length === 0) return (end?.roles ?? [{ version: null }]).map(({ version }) => ({ role: null, version }));
  if (end === null) return [{ role: roles.join(","), version: null }];
  return end.roles.filter(({ role }) => roles.includes(role));
}

function factsOf(source: End | null, from: Candidate, destination: End | null, to: Candidate, site: Site): Facts {
  const ofEnd = (end: End | null, { version }: Candidate, name: string): FactValue | undefined =>
    name === "version" ? (version ?? undefined) : end?.facts[name];
  return (fact) => {
    const dot = fact.indexOf(".");
    const name = fact.slice(dot + 1);
    switch (fact.slice(0, dot)) {
      case "source":
        return ofEnd(source, from, name);
      case "destination":
        return ofEnd(destination, to, name);
      case "feature":
        return site.features[name];
      default:
        return site.settings[name];
    }
  };
}

const versionLimits = (service: Service | null): Expression[] => [
  ...(service?.before === undefined ? [] : [{ fact: "either.version", op: "lt" as const, value: service.before }]),
  ...(service?.since === undefined ? [] : [{ fact: "either.version", op: "ge" as const, value: service.since }]),
];

/** Versions that need the flow; of a member of a service group, those that the service is for. */
function versionsOf(flow: Flow, service: Service | null): Expression | null {
  const limits = flow.serviceGroup === undefined ? [] : versionLimits(service);
  const members = [...(flow.whenVersion === undefined ? [] : [flow.whenVersion]), ...limits];
  return members.length === 0 ? null : members.length === 1 ? members[0]! : { all: members };
}

/** Which ends are known to be old enough to use the compatible service, in words; null: none, or another service. */
function oldEnds(service: Service | null, from: Candidate, to: Candidate): string | null {
  const { compat } = CATALOGUE;
  if (service?.id !== compat.service) return null;
  const isOld = ({ version }: Candidate): boolean => version !== null && compareVersions(version, compat.before) < 0;
  const [source, destination] = [isOld(from), isOld(to)];
  if (!source && !destination) return null;
  const ends = source && destination ? "both ends" : source ? "source" : "destination";
  return `${ends} older than ${compat.before}`;
}

type Judged = Pick<FlowAnswer, "need" | "condition">;
const sentence = (...parts: readonly (string | null)[]): string | null =>
  parts.filter((part) => part !== null).join("; ") || null;

/** The rules of the catalogue in their order; the first that fits says the need. */
function needOf(flow: Flow, service: Service | null, from: Candidate, to: Candidate, facts: Facts): Judged {
  const versions = versionsOf(flow, service);
  const use = flow.when === undefined ? ({ truth: true, rest: null } as const) : judge(flow.when, facts);
  const version = versions === null ? ({ truth: true, rest: null } as const) : judge(versions, facts);
  const useWords = use.rest === null ? null : conditionWords(use.rest);
  const versionWords = version.rest === null ? null : conditionWords(version.rest);
  if (use.truth === false) return { need: "not-needed", condition: unmet(flow.when) };
  if (flow.requirement === "disputed") return { need: "disputed", condition: useWords };
  if (flow.requirement === "optional") return { need: "optional", condition: useWords };
  if (flow.kind === "listener")
    return { need: "conditional", condition: sentence("the guide names no source", useWords) };
  if (use.truth === true && version.truth === true) return { need: "required", condition: null };
  const old = oldEnds(service, from, to);
  if (use.truth === true && old !== null)
    return { need: "compat", condition: sentence(old, versionWords && `required if ${versionWords}`) };
  if (version.truth !== false) return { need: "conditional", condition: sentence(useWords, versionWords) };
  if (old !== null) return { need: "conditional", condition: sentence(useWords, old) };
  return { need: "not-needed", condition: unmet(versions ?? undefined) };
}

const unmet = (expression: Expression | undefined): string | null =>
  expression === undefined ? null : `only with: ${conditionWords(expression)}`;

/** The port of a service in a flow, as the site has it. */
export function portOf(service: Service, flowId: string | null, ports: SitePorts): number {
  const changed = ports.services[service.id];
  const { configurable } = service;
  if (changed === undefined || configurable === undefined) return service.port;
  const applies = configurable.flows === "all" || (flowId !== null && configurable.flows.includes(flowId));
  return applies ? changed : service.port;
}

const single = (port: number): PortRange => ({ min: port, max: port });

/** The other choices of a group, so that an answer shows the group as a whole. */
function alternativesWords(group: string, ports: SitePorts): string {
  const choices = choicesOf(group).map((flows) =>
    flows.map((flow) => servicesOf(flow).map((service) => portOf(service, flow.id, ports))).join("/"),
  );
  return `one of ${group}: ${list(choices, "or")}`;
}

const unresolvedWords = (window: string): string => `unresolved: set-port ${window}=LOW-HIGH`;

interface Found extends Judged {
  readonly from: Candidate;
  readonly to: Candidate;
}

/** Of two answers the one that is needed more; the first when they are alike. */
function stronger(a: Found | null, b: Found | null): Found | null {
  if (a === null || b === null) return a ?? b;
  return NEEDS.indexOf(b.need) < NEEDS.indexOf(a.need) ? b : a;
}

/** The strongest answer of one flow in one direction for one service; null: the ends do not stand in its row. */
function answerFor(
  flow: Flow,
  service: Service | null,
  source: End | null,
  destination: End | null,
  isReversed: boolean,
  site: Site,
): Found | null {
  const [left, right] = isReversed ? [flow.to, flow.from] : [flow.from, flow.to];
  let best: Found | null = null;
  for (const from of candidates(source, left))
    for (const to of candidates(destination, right)) {
      const judged = needOf(flow, service, from, to, factsOf(source, from, destination, to, site));
      best = stronger(best, { ...judged, from, to });
    }
  return best;
}

/** Whether the end can stand on a side of a row; most rows are about others, and this is asked of every row. */
const fits = (end: End | null, roles: readonly string[]): boolean =>
  end === null || roles.length === 0 || end.roles.some(({ role }) => roles.includes(role));

const concerns = ({ from, to, direction }: Flow, source: End | null, destination: End | null): boolean =>
  (fits(source, from) && fits(destination, to)) ||
  (direction !== undefined && fits(source, to) && fits(destination, from));

function answersOf(flow: Flow, source: End | null, destination: End | null, site: Site): FlowAnswer[] {
  const services = flow.window === undefined ? servicesOf(flow) : [null];
  const group = flow.alternatives === undefined ? null : alternativesWords(flow.alternatives, site.ports);
  const window = flow.window === undefined ? null : (site.ports.windows[flow.window] ?? null);
  const unresolved = flow.window !== undefined && window === null ? unresolvedWords(flow.window) : null;
  return services.flatMap((service) => {
    const forward = answerFor(flow, service, source, destination, false, site);
    const backward = flow.direction === undefined ? null : answerFor(flow, service, source, destination, true, site);
    const found = stronger(forward, backward);
    if (found === null) return [];
    const isReversed = found !== forward;
    return flow.protocols.map((protocol) => ({
      flow,
      source: found.from.role,
      destination: found.to.role ?? "",
      isReversed,
      service,
      protocol,
      ports: service === null ? window : single(portOf(service, flow.id, site.ports)),
      need: found.need,
      condition: sentence(found.condition, group, found.need === "not-needed" ? null : unresolved),
    }));
  });
}

/**
 * Every flow that `source` may begin towards `destination`, needed or not, in the catalogue's order.
 * Flows of which either end may begin are among the answers of both directions.
 * @param source null: any role, with nothing known of it
 */
export const flowsBetween = (source: End | null, destination: End | null, site: Site): FlowAnswer[] =>
  CATALOGUE.flows.flatMap((flow) =>
    concerns(flow, source, destination) ? answersOf(flow, source, destination, site) : [],
  );
