/** What the guard keeps from the kernel, so that the engine alone has it (specification E.1, src/kernel/guard.ts). */
import { KINDS } from "./icmp.ts";
import { type Ip, TCP, UDP } from "./packet.ts";
import type { Tables } from "./tables.ts";

/** ICMPv6 that keeps a link alive. */
export const isHosts = (ip: Ip): boolean =>
  ip.totalLength > ip.headerBytes && KINDS[ip.family].isHosts(ip.bytes[ip.headerBytes]!);

/** The rules for later fragments. */
export const isGuardedByAddress = ({ source, destination }: Ip, tables: Tables): boolean =>
  tables.isGuardedVip(destination) || tables.isProxy(destination) || tables.isGuardedServer(source);

/** Of what is sent to proxy addresses, ICMP errors and nothing else: the box answers its own pings. */
export function isErrorToProxy(ip: Ip, tables: Tables): boolean {
  const type = ip.totalLength > ip.headerBytes ? ip.bytes[ip.headerBytes]! : -1;
  return KINDS[ip.family].errors.includes(type) && tables.isProxy(ip.destination);
}

/** Whole packets and first fragments by their ports or as ICMP, later fragments by their addresses. */
export function isGuarded(ip: Ip, tables: Tables): boolean {
  if (ip.fragmentOffset > 0) return isGuardedByAddress(ip, tables);
  const data = ip.bytes.subarray(ip.headerBytes, ip.totalLength);
  if (ip.protocol === KINDS[ip.family].protocol) {
    // ICMPv6 is told apart by its type; where there is none the guard lets go.
    if (isHosts(ip) || (ip.family === 6 && data.length === 0)) return false;
    return tables.isGuardedVip(ip.destination) || isErrorToProxy(ip, tables);
  }
  if ((ip.protocol !== TCP && ip.protocol !== UDP) || data.length < 4) return false;
  const protocol = ip.protocol === TCP ? "tcp" : "udp";
  const toUs = tables.guardsDestination(ip.destination, protocol, data[2]! * 256 + data[3]!);
  return toUs || tables.guardsSource(ip.source, protocol, data[0]! * 256 + data[1]!);
}
