/**
 * Finding things in a Config, and what follows from it: names without case, server IDs, listing order, defaults filled
 * in. Reads only.
 */
import { type Address, addressKey, compareAddresses, type Family } from "./address.ts";
import type { Config, HealthCheck, PortRange, Protocol, Rule, Server, ServerGroup } from "./config.ts";
import { foldName, groupLists, placeFrom, ruleLists, serverLists } from "./indexes.ts";

/** Equal without regard to ASCII case. */
export const sameName = (a: string, b: string): boolean => a === b || foldName(a) === foldName(b);

/** The object of this id in any list of a Config; all stand in order of rising ids, so none is walked. */
export function findById<T extends { readonly id: number }>(list: readonly T[], id: number): T | undefined {
  const item = list[placeFrom(list, id)];
  return item?.id === id ? item : undefined;
}

export function findRule(config: Config, name: string): Rule | undefined {
  return ruleLists.of(config.rules).byName.get(foldName(name));
}

export function findGroup(config: Config, name: string): ServerGroup | undefined {
  return groupLists.of(config.groups).byName.get(foldName(name));
}

/** The server of the group with this address. */
export function findServerByAddress(group: ServerGroup, address: Address): Server | undefined {
  return serverLists.of(group.servers).byAddress.get(addressKey(address));
}

/** Whether a server of the group has the number. */
export const hasNumber = (group: ServerGroup, number: number): boolean =>
  serverLists.of(group.servers).byNumber.has(number);

/** Rules with this VIP and protocol, in creation order. */
export function rulesOfService(config: Config, vip: Address, protocol: Protocol): Iterable<Rule> {
  return ruleLists.of(config.rules).ofService(vip, protocol);
}

export function findHealthCheck(config: Config, name: string): HealthCheck | undefined {
  return config.healthChecks.find((check) => sameName(check.name, name));
}

/** The group of a rule. Throws for a Config that names a missing group, which apply never makes. */
export function groupOf(config: Config, rule: Rule): ServerGroup {
  const group = groupLists.of(config.groups).byId.get(rule.groupId);
  if (group === undefined) throw new Error(`rule ${rule.name} names the missing group id ${rule.groupId}`);
  return group;
}

/** The health check of a rule, undefined when it has none. */
export function healthCheckOf(config: Config, rule: Rule): HealthCheck | undefined {
  return rule.healthCheckId === null ? undefined : findById(config.healthChecks, rule.healthCheckId);
}

/** Rules that use the group, in creation order. */
export function rulesOfGroup(config: Config, groupId: number): Iterable<Rule> {
  return ruleLists.of(config.rules).ofGroup(groupId);
}

/** `_GROUP.N`, as stored. */
export function serverId(group: ServerGroup, server: Server): string {
  return `_${group.name}.${server.number}`;
}

/** Server `_GROUP.N` of the group; case does not matter in the name, N has one spelling. */
export function findServerInGroup(group: ServerGroup, id: string): Server | undefined {
  const dot = id.lastIndexOf(".");
  if (dot < 1 || !id.startsWith("_") || !sameName(id.slice(1, dot), group.name)) return undefined;
  const number = id.slice(dot + 1);
  const server = serverLists.of(group.servers).byNumber.get(Number(number));
  return server !== undefined && String(server.number) === number ? server : undefined;
}

/** The group's name in a server ID `_GROUP.N` (N follows the last dot), null when the text has no such form. */
export function groupNameOfServerId(id: string): string | null {
  const dot = id.lastIndexOf(".");
  return id.startsWith("_") && dot > 0 ? id.slice(1, dot) : null;
}

/** The group and the server of an ID, undefined when there is none. */
export function findServer(config: Config, id: string): { group: ServerGroup; server: Server } | undefined {
  const name = groupNameOfServerId(id);
  const group = name === null ? undefined : findGroup(config, name);
  const server = group && findServerInGroup(group, id);
  return group && server ? { group, server } : undefined;
}

const sorted = new WeakMap<readonly Server[], readonly Server[]>();

/** Ascending by address, the order of every listing. Sorted once for every list of servers. */
export function sortedServers(group: ServerGroup): readonly Server[] {
  let servers = sorted.get(group.servers);
  if (servers === undefined) {
    servers = [...group.servers].sort((a, b) => compareAddresses(a.address, b.address));
    sorted.set(group.servers, servers);
  }
  return servers;
}

/** Family of the group's servers, or, while it is empty, of the rules that use it; null when nothing decides it yet. */
export function groupFamily(config: Config, group: ServerGroup): Family | null {
  const [rule] = rulesOfGroup(config, group.id);
  const decides: Address | undefined = group.servers[0]?.address ?? rule?.vip;
  return decides?.family ?? null;
}

/** How many ports a range holds. */
export const portCount = (ports: PortRange): number => ports.max - ports.min + 1;

/** Seconds that apply: defaults filled in where the rule's type makes use of the timer, else the value given. */
export function effectiveTimers(rule: Rule): { connDrain: number; natTimeout: number; persistTimeout: number } {
  const nat = rule.type === "DSR" ? 0 : rule.protocol === "tcp" ? 120 : 60;
  const persist = rule.stickyMask === null ? 0 : 60;
  return {
    connDrain: rule.connDrainSeconds,
    natTimeout: rule.natTimeoutSeconds || nat,
    persistTimeout: rule.persistTimeoutSeconds || persist,
  };
}
