/**
 * How a health probe reaches one particular server of a direct server return rule: the packet goes to the VIP, the frame
 * to the server's next hop, and the answer to an address of this box that is not the VIP. Sends nothing.
 */
import { type Address, isLinkLocal, sameAddress } from "../model/address.ts";
import type { ProbeWay } from "../native/probe.ts";
import type { NetworkWatch } from "./network-watch.ts";
import type { NextHops } from "./next-hops.ts";
import type { ProbeDetours } from "./probe-detours.ts";

/** `failure`: the server cannot be reached; `not-started`: nothing can be said about it. Reasons in words. */
export type ProbeWayAnswer =
  | { readonly kind: "way"; readonly way: ProbeWay }
  | { readonly kind: "failure" | "not-started"; readonly reason: string };

/** How a connection to the VIP on one server is made: by a socket with this mark and source (probe-detours.ts). */
export type ProbeDetourAnswer =
  | { readonly kind: "detour"; readonly mark: number; readonly source: Address }
  | { readonly kind: "failure" | "not-started"; readonly reason: string };

/** @param server its next hop is kept by `nextHops` */
export async function findProbeDetour(
  network: NetworkWatch,
  nextHops: NextHops,
  detours: ProbeDetours,
  server: Address,
  vip: Address,
): Promise<ProbeDetourAnswer> {
  const found = findProbeWay(network, nextHops, server, vip);
  if (found.kind !== "way") return found;
  const { interfaceIndex, source } = found.way;
  const link = network.link(interfaceIndex);
  if (link === null) return { kind: "failure", reason: "no route to the server" };
  try {
    return { kind: "detour", mark: await detours.markFor(vip, link), source };
  } catch (error) {
    return { kind: "not-started", reason: (error as Error).message };
  }
}

/** @param server its next hop is kept by `nextHops` */
export function findProbeWay(network: NetworkWatch, nextHops: NextHops, server: Address, vip: Address): ProbeWayAnswer {
  const found = nextHops.wayTo(server);
  if (found === null) return { kind: "failure", reason: "no route to the server" };
  const { interfaceIndex, mac } = found;
  if (mac === null) return { kind: "failure", reason: "host unreachable" };
  const source = sourceFor(network, interfaceIndex, found.source, vip);
  if (source === null)
    return { kind: "not-started", reason: "this box has no address but the VIP that the server could answer to" };
  return { kind: "way", way: { interfaceIndex, mac, source } };
}

/** The kernel's choice, or else an address of the interface, or of any other; a server takes its VIP for itself. */
function sourceFor(network: NetworkWatch, index: number, preferred: Address | null, vip: Address): Address | null {
  const suits = (address: Address): boolean =>
    address.family === vip.family && !sameAddress(address, vip) && !isLinkLocal(address) && !isLoopback(address);
  if (preferred !== null && suits(preferred)) return preferred;
  const own = network.addresses().filter(({ address }) => suits(address));
  return (own.find((entry) => entry.index === index) ?? own[0])?.address ?? null;
}

const isLoopback = ({ family, value }: Address): boolean => (family === 4 ? value >> 24n === 127n : value === 1n);
