/** Whether the guard keeps a packet from the kernel for us (decision record 0005), where that is not told by a rule. */
import { swap16 } from "./address";
import { ENDPOINT_OWN, ENDPOINT_PROXY, ENDPOINT_SERVER, ENDPOINT_VIP, Endpoint, PROBE_FIRST_PORT, PROBE_LAST_PORT, View } from "./gen/layout";
import { guardsIcmp } from "./icmp";
import { guardsDestination, guardsSource } from "./image";
import { icmpOf, TCP, UDP } from "./parse";

/** A later fragment: by its addresses alone. */
export function guardsLater(to: Endpoint | null, from: Endpoint | null): bool {
  if (to && to.flags & (ENDPOINT_VIP | ENDPOINT_PROXY)) return true;
  return from != null && (from.flags & ENDPOINT_SERVER) != 0;
}

/** A first fragment still shows its ports, and the guard goes by them. */
export function guardsFirst(packet: View, to: Endpoint | null, from: Endpoint | null): bool {
  if (packet.protocol == icmpOf(packet)) return guardsIcmp(to, packet);
  if (packet.protocol != TCP && packet.protocol != UDP) return false;
  if (packet.headAvailable < packet.headerLength + 4) return false;
  const isTcp = packet.protocol == TCP;
  if (to && guardsDestination(to, isTcp, swap16(load<u16>(packet.layer4, 2)))) return true;
  return guardsFrom(from, to, isTcp, swap16(load<u16>(packet.layer4)), swap16(load<u16>(packet.layer4, 2)));
}

/** What a server sends from a port that we balance, unless it answers a health probe of the box. */
export function guardsFrom(from: Endpoint | null, to: Endpoint | null, isTcp: bool, sourcePort: u32, destinationPort: u32): bool {
  if (from == null || !guardsSource(from, isTcp, sourcePort)) return false;
  const isProbed = to != null && (to.flags & ENDPOINT_OWN) != 0;
  return !isProbed || destinationPort < PROBE_FIRST_PORT || destinationPort > PROBE_LAST_PORT;
}

/** Any fragment. */
export function guardsFragment(packet: View, to: Endpoint | null, from: Endpoint | null): bool {
  return packet.fragmentOffset ? guardsLater(to, from) : guardsFirst(packet, to, from);
}
