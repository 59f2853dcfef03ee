/**
 * The port catalogue of data/netbackup.json, indexed: services, roles and flows of NetBackup 7.x as its ports guide has
 * them. The one source of NetBackup port numbers. It knows nothing of hosts, settings or overrides of a site.
 */
import data from "../../data/netbackup.json";
import type { Catalogue, Flow, Role, Service } from "./schema.ts";

/** The file as it is. A test holds it against the schema. */
export const CATALOGUE = data as unknown as Catalogue;

/** What names are compared by: no case, `-` and `_` alike. */
export const foldToken = (text: string): string => text.toLowerCase().replaceAll("_", "-");

const byToken = <T extends { readonly tokens: readonly string[] }>(list: readonly T[]): ReadonlyMap<string, T> =>
  new Map(list.flatMap((item) => item.tokens.map((token) => [foldToken(token), item])));
const byId = <T extends { readonly id: string }>(list: readonly T[]): ReadonlyMap<string, T> =>
  new Map(list.map((item) => [item.id, item]));

const SERVICE_TOKENS = byToken(CATALOGUE.services);
const ROLE_TOKENS = byToken(CATALOGUE.roles);
const SERVICES = byId(CATALOGUE.services);
const ROLES = byId(CATALOGUE.roles);
const FLOWS = byId(CATALOGUE.flows);

/** Services whose ports are registered for them: nothing else may use these. */
export const REGISTERED_SERVICES: readonly Service[] = CATALOGUE.services.filter((service) => service.ianaRegistered);

/** The service that a name stands for, in any spelling. */
export const findServiceByToken = (text: string): Service | undefined => SERVICE_TOKENS.get(foldToken(text));
/** The role that a name stands for, in any spelling. */
export const findRoleByToken = (text: string): Role | undefined => ROLE_TOKENS.get(foldToken(text));
/** The flow of an id, in any case. */
export const findFlow = (id: string): Flow | undefined =>
  FLOWS.get(id) ?? CATALOGUE.flows.find((flow) => flow.id.toLowerCase() === id.toLowerCase());

/** Every name of a role, for hints. */
export const ROLE_NAMES: readonly string[] = CATALOGUE.roles.flatMap((role) => role.tokens);

/** The service of an id that the catalogue itself uses. Throws for any other, which the tests of the file rule out. */
export function serviceOf(id: string): Service {
  const service = SERVICES.get(id);
  if (service === undefined) throw new Error(`the catalogue has no service ${id}`);
  return service;
}

/** The role itself and every role whose flows it has as well, each once. */
export function rolesIncluded(roleId: string): ReadonlySet<string> {
  const included = new Set<string>();
  const visit = (id: string): void => {
    if (included.has(id)) return;
    included.add(id);
    for (const parent of ROLES.get(id)?.kindOf ?? []) visit(parent);
  };
  visit(roleId);
  return included;
}

/** The services of a flow: the one that it names, or those of its group; none where only the site knows the ports. */
export function servicesOf(flow: Flow): readonly Service[] {
  if (flow.service !== undefined) return [serviceOf(flow.service)];
  const group = CATALOGUE.serviceGroups.find(({ id }) => id === flow.serviceGroup);
  return (group?.services ?? []).map(serviceOf);
}

/**
 * The members of a group of alternatives, by what is chosen together: each inner list is one choice.
 * Flows with the same condition belong together (a pair of web ports).
 */
export function choicesOf(group: string): readonly (readonly Flow[])[] {
  const members = CATALOGUE.flows.filter((flow) => flow.alternatives === group);
  return [...Map.groupBy(members, (flow) => JSON.stringify(flow.when ?? null)).values()];
}
