/** What the guard keeps from the kernel, so that the engine alone has it (specification E.1, src/kernel/guard.ts). */
import { KINDS } from "./icmp.ts";
import { getAddress, type Ip, TCP, UDP } from "./packet.ts";
import type { Tables } from "./tables.ts";

/** ICMPv6 that keeps a link alive. */
export const isHosts = (ip: Ip): boolean =>
  ip.totalLength > ip.headerBytes && KINDS[ip.family].isHosts(ip.bytes[ip.headerBytes]!);

/** The rules for later fragments. */
export const isGuardedByAddress = ({ source, destination }: Ip, tables: Tables): boolean =>
  tables.isGuardedVip(destination) || tables.isProxy(destination) || tables.isGuardedServer(source);

/** The type of an ICMP message; -1 when not even that is there. */
const typeOf = (ip: Ip): number => (ip.totalLength > ip.headerBytes ? ip.bytes[ip.headerBytes]! : -1);

const isError = (ip: Ip): boolean => KINDS[ip.family].errors.includes(typeOf(ip));

/** Of what is sent to proxy addresses, ICMP errors and nothing else: the box answers its own pings. */
export const isErrorToProxy = (ip: Ip, tables: Tables): boolean => isError(ip) && tables.isProxy(ip.destination);

/** Where the destination stands in the IP header that an ICMP error quotes behind its own eight bytes. */
const QUOTED_DESTINATION_AT = { 4: 8 + 16, 6: 8 + 24 } as const;

/** ICMP errors, to whatever address, about packets to servers of NAT and HALF-NAT. Nothing else of the quote is looked at. */
export function isErrorAboutServer(ip: Ip, tables: Tables): boolean {
  const at = ip.headerBytes + QUOTED_DESTINATION_AT[ip.family];
  const bytes = ip.family === 4 ? 4 : 16;
  return isError(ip) && at + bytes <= ip.totalLength && tables.isGuardedServer(getAddress(ip.bytes, at, ip.family));
}

/** Whole packets and first fragments by their ports or as ICMP, later fragments by their addresses. */
export function isGuarded(ip: Ip, tables: Tables): boolean {
  if (ip.fragmentOffset > 0) return isGuardedByAddress(ip, tables);
  const data = ip.bytes.subarray(ip.headerBytes, ip.totalLength);
  if (ip.protocol === KINDS[ip.family].protocol) {
    // ICMPv6 is told apart by its type; where there is none the guard lets go.
    if (isHosts(ip) || (ip.family === 6 && data.length === 0)) return false;
    return tables.isGuardedVip(ip.destination) || isErrorToProxy(ip, tables) || isErrorAboutServer(ip, tables);
  }
  if ((ip.protocol !== TCP && ip.protocol !== UDP) || data.length < 4) return false;
  const protocol = ip.protocol === TCP ? "tcp" : "udp";
  const sourcePort = data[0]! * 256 + data[1]!;
  const destinationPort = data[2]! * 256 + data[3]!;
  const { source, destination } = ip;
  if (tables.guardsDestination(destination, protocol, destinationPort)) return true;
  return tables.guardsSource({ source, sourcePort, destination, destinationPort }, protocol);
}
