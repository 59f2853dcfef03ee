/**
 * Names that commands may hold in place of numbers: host names by the daemon's resolver, service names by the system's
 * services file and, where a small container has none, by a built-in list (specification B.4).
 */
import { type Address, type Family, formatAddress, parseAddress } from "../model/address.ts";
import type { Protocol } from "../model/config.ts";

export interface NameService {
  /** First address of a host name (of that family, if one is given); null when it does not resolve. */
  resolveHost(name: string, family?: Family): Promise<Address | null>;
  /** Name of an address; null if none. */
  reverseLookup(address: Address): Promise<string | null>;
  /** Port of a service, an entry of `prefer` first, then of the other protocol; null when unknown. */
  resolveService(name: string, prefer: Protocol): Promise<number | null>;
}

const BUILT_IN = `
ftp-data 20/tcp
ftp 21/tcp
ssh 22/tcp
telnet 23/tcp
smtp 25/tcp
domain 53/tcp dns
domain 53/udp dns
tftp 69/udp
http 80/tcp www
pop3 110/tcp
ntp 123/udp
imap 143/tcp
snmp 161/udp
snmp-trap 162/udp
ldap 389/tcp
https 443/tcp
syslog 514/udp
`;

/** Loaded for the first question: a start does not wait for it (docs/decisions/0047). */
const resolver = () => process.getBuiltinModule("node:dns/promises");

/** The machine's own names. @param servicesFile read anew for each question, so that edits count at once */
export function systemNames(servicesFile = "/etc/services"): NameService {
  return {
    async resolveHost(name, family) {
      try {
        const found = await resolver().lookup(name, family === undefined ? {} : { family });
        return parseAddress(found.address);
      } catch {
        return null;
      }
    },
    async reverseLookup(address) {
      try {
        return (await resolver().reverse(formatAddress(address)))[0] ?? null;
      } catch {
        return null;
      }
    },
    async resolveService(name, prefer) {
      const file = await Bun.file(servicesFile)
        .text()
        .catch(() => "");
      return findService(file, name, prefer) ?? findService(BUILT_IN, name, prefer);
    },
  };
}

/** No resolver and no files: the same answers on every machine. Hosts must be numeric; services are the built-in ones. */
export const BUILT_IN_NAMES: NameService = {
  resolveHost: async () => null,
  reverseLookup: async () => null,
  resolveService: async (name, prefer) => findService(BUILT_IN, name, prefer),
};

/** Port of `name` (or alias, exact case as services(5)) in the text of a services file, or null. */
export function findService(services: string, name: string, prefer: Protocol): number | null {
  let other: number | null = null;
  for (const line of services.split("\n")) {
    const [service, portAndProtocol, ...aliases] = line.replace(/#.*/, "").trim().split(/\s+/);
    if (portAndProtocol === undefined || (service !== name && !aliases.includes(name))) continue;
    const match = /^(\d+)\/([a-z]+)$/.exec(portAndProtocol);
    const port = Number(match?.[1]);
    if (!(port >= 1 && port <= 65535)) continue;
    if (match![2] === prefer) return port;
    other ??= port;
  }
  return other;
}
