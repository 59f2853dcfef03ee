/**
 * Names in place of ports: the daemon's services file first, in the spellings that the catalogue of NetBackup's services
 * has for the name, then the catalogue itself. Where both know the name and disagree, the file wins and it is said.
 */
import type { Protocol } from "../model/config.ts";
import { findServiceByToken } from "../netbackup/catalogue.ts";
import { portOf } from "../netbackup/flows.ts";
import { serviceLabel } from "../netbackup/labels.ts";
import type { CommandHost } from "./host.ts";

/** Who looks names up. */
export type Resolver = Pick<CommandHost, "resolveHost" | "resolveService" | "config"> & {
  /** Takes a remark on a name, a line without prefix. */
  remark?(text: string): void;
};

export type ServicePort =
  | { readonly kind: "port"; readonly port: number }
  | { readonly kind: "unknown" }
  /** Known to the catalogue alone, with other protocols; `only` names them. */
  | { readonly kind: "protocol"; readonly service: string; readonly only: string };

/** The name as typed, then as a services file may spell what the catalogue takes for the same name. */
const spellings = (name: string): readonly string[] => {
  const lower = name.toLowerCase();
  return [...new Set([name, lower, lower.replaceAll("_", "-"), lower.replaceAll("-", "_")])];
};

async function inFile(names: readonly string[], resolver: Resolver, prefer: Protocol): Promise<number | null> {
  for (const name of names) {
    const port = await resolver.resolveService(name, prefer);
    if (port !== null) return port;
  }
  return null;
}

/**
 * The port of a service name.
 * @param prefer the protocol whose entry of the file counts first
 * @param protocol the protocol that the port is used with; null: not known here
 */
export async function findServicePort(
  name: string,
  resolver: Resolver,
  prefer: Protocol,
  protocol: Protocol | null,
): Promise<ServicePort> {
  const service = findServiceByToken(name);
  const found = await inFile(service === undefined ? [name] : spellings(name), resolver, prefer);
  if (service === undefined) return found === null ? { kind: "unknown" } : { kind: "port", port: found };
  const port = portOf(service, null, resolver.config().netbackup.ports);
  const label = serviceLabel(service);
  if (found !== null) {
    if (found !== port)
      resolver.remark?.(`warning: ${name} is port ${found} in the services file; NetBackup's ${label} is ${port}`);
    return { kind: "port", port: found };
  }
  if (protocol !== null && !service.protocols.includes(protocol))
    return { kind: "protocol", service: label, only: service.protocols.join(" and ").toUpperCase() };
  return { kind: "port", port };
}
