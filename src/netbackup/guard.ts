/**
 * The guard against translation: NetBackup supports neither NAT nor PAT, so a rule that translates must not carry its
 * ports. Says which port of a rule belongs to NetBackup; what is done about it is for the caller.
 */
import { type Address, widthBits } from "../model/address.ts";
import type { PortRange, Protocol, RuleType } from "../model/config.ts";
import type { NetBackupHost, NetBackupState } from "../model/netbackup.ts";
import { CATALOGUE, rolesIncluded, servicesOf } from "./catalogue.ts";
import { portOf } from "./flows.ts";
import { serviceLabel } from "./labels.ts";
import type { Service } from "./schema.ts";

/** As much of a rule as the guard looks at. */
export interface GuardedRule {
  readonly type: RuleType;
  readonly protocol: Protocol;
  readonly ports: PortRange;
}

/** A port of NetBackup inside a range. */
export interface GuardedPort {
  readonly port: number;
  /** The service's name, one word. */
  readonly service: string;
}

/** Rules that change addresses or ports on the way. */
export const translates = ({ type }: Pick<GuardedRule, "type">): boolean => type !== "DSR";

const SERVICES: Readonly<Record<Service["natGuard"], readonly Service[]>> = {
  port: CATALOGUE.services.filter(({ natGuard }) => natGuard === "port"),
  role: CATALOGUE.services.filter(({ natGuard }) => natGuard === "role"),
};

/** The first port of NetBackup's own inside a range. */
function findGuarded(range: PortRange, protocol: Protocol, state: NetBackupState): GuardedPort | null {
  for (const service of SERVICES.port) {
    if (!service.protocols.includes(protocol)) continue;
    const port = portOf(service, null, state.ports);
    if (port >= range.min && port <= range.max) return { port, service: serviceLabel(service) };
  }
  return null;
}

/**
 * The first port that may not be translated, of the rule's own ports and those of its servers.
 * @param servers their ports are null where they take those of the rule
 */
export function guardedPort(
  rule: GuardedRule,
  servers: readonly { readonly ports: PortRange | null }[],
  state: NetBackupState,
): GuardedPort | null {
  if (!translates(rule)) return null;
  let found = findGuarded(rule.ports, rule.protocol, state);
  for (let i = 0; found === null && i < servers.length; i++) {
    const { ports } = servers[i]!;
    if (ports !== null) found = findGuarded(ports, rule.protocol, state);
  }
  return found;
}

/** Whether the address lies in the host's prefix. */
function holds({ address, prefixLength }: NetBackupHost, candidate: Address): boolean {
  if (address.family !== candidate.family) return false;
  const shift = BigInt(widthBits(address.family) - prefixLength);
  return address.value >> shift === candidate.value >> shift;
}

/** The host that an address belongs to: of several prefixes the longest. */
export function hostOfAddress(hosts: readonly NetBackupHost[], address: Address): NetBackupHost | null {
  let best: NetBackupHost | null = null;
  for (const host of hosts)
    if (holds(host, address) && (best === null || host.prefixLength > best.prefixLength)) best = host;
  return best;
}

/** Services that are listened on at hosts of a role, by the flows that end there. */
function servicesAt(host: NetBackupHost): ReadonlySet<string> {
  const roles = new Set(host.roles.flatMap(({ role }) => [...rolesIncluded(role)]));
  const ends = CATALOGUE.flows.filter(({ from, to, direction }) =>
    [...to, ...(direction === undefined ? [] : from)].some((role) => roles.has(role)),
  );
  return new Set(ends.flatMap((flow) => servicesOf(flow).map(({ id }) => id)));
}

/** A port that many products use, at an address that is known to be NetBackup's. */
export interface RolePort extends GuardedPort {
  readonly host: string;
}

/**
 * The first address of a translating rule that is bound to a role whose flows use an ordinary port of the rule.
 * @param ends addresses with the ports that they answer on: the VIP, and each server
 */
export function rolePort(
  rule: GuardedRule,
  ends: readonly { readonly address: Address; readonly ports: PortRange }[],
  state: NetBackupState,
): RolePort | null {
  if (!translates(rule) || state.hosts.length === 0) return null;
  for (const { address, ports } of ends) {
    const host = hostOfAddress(state.hosts, address);
    if (host === null) continue;
    const services = servicesAt(host);
    for (const service of SERVICES.role) {
      if (!services.has(service.id) || !service.protocols.includes(rule.protocol)) continue;
      const port = portOf(service, null, state.ports);
      if (port >= ports.min && port <= ports.max) return { port, service: serviceLabel(service), host: host.name };
    }
  }
  return null;
}
