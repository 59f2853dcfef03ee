/**
 * How a rule picks a server (specification E.5), port mapping (D.2) and client masks (E.6). The only state is the place
 * of the round robin, which its owner keeps per rule.
 */
import type { Address } from "../../model/address.ts";
import type { PortRange } from "../../model/config.ts";
import type { ImageMember, ImageRule } from "../engine.ts";

/** CRC-32, polynomial 0xEDB88320 reflected, initial 0xFFFFFFFF, without the usual final inversion. Unsigned 32 bits. */
export function crc32(bytes: readonly number[]): number {
  let crc = 0xffffffff;
  for (const byte of bytes) {
    crc ^= byte;
    for (let bit = 0; bit < 8; bit++) crc = crc & 1 ? (crc >>> 1) ^ 0xedb88320 : crc >>> 1;
  }
  return crc >>> 0;
}

/** The last four bytes of an address in network order; of IPv6 only these count. */
function lastFourBytes(address: Address): [number, number, number, number] {
  const value = Number(address.value & 0xffffffffn);
  return [(value >>> 24) & 255, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
}

/** The hash of a hash rule for a client's packet. Ports in host order. */
export function hashOf(
  algorithm: "hash-ip" | "hash-ip-port" | "hash-ip-vip",
  client: Address,
  clientPort: number,
  vip: Address,
): number {
  const a = lastFourBytes(client);
  if (algorithm === "hash-ip") return crc32(a);
  const v = lastFourBytes(vip);
  const high = clientPort >> 8;
  const low = clientPort & 255;
  const mix = algorithm === "hash-ip-port" ? [high, low, high, low] : v;
  return crc32(a.map((byte, i) => byte ^ mix[i]!));
}

/** Where a round robin stands: the insertion sequence of the member served last; null before the first pick. */
export interface Turn {
  last: number | null;
}

const isEnabled = (member: ImageMember): boolean => member.enabledSequence !== null;

/**
 * New servers stand at the head of the circle, so it runs from the newest to the oldest; after the oldest it begins
 * again at whoever is newest by then.
 */
function pickRoundRobin(members: readonly ImageMember[], turn: Turn): ImageMember | null {
  const circle = members.filter(isEnabled).sort((a, b) => b.insertSequence - a.insertSequence);
  const last = turn.last;
  const next = circle.find((member) => last !== null && member.insertSequence < last) ?? circle[0];
  if (next === undefined) return null;
  turn.last = next.insertSequence;
  return next;
}

function pickByHash(members: readonly ImageMember[], hash: number): ImageMember | null {
  const inserted = [...members].sort((a, b) => a.insertSequence - b.insertSequence);
  const first = inserted[hash % Math.max(inserted.length, 1)];
  if (first === undefined || isEnabled(first)) return first ?? null;
  const enabled = members.filter(isEnabled).sort((a, b) => a.enabledSequence! - b.enabledSequence!);
  return enabled.length === 0 ? null : enabled[hash % enabled.length]!;
}

/** The member that the rule's algorithm gives for a client; null when none takes new flows. Moves the turn. */
export function pick(rule: ImageRule, turn: Turn, client: Address, clientPort: number): ImageMember | null {
  if (rule.algorithm === "roundrobin") return pickRoundRobin(rule.members, turn);
  return pickByHash(rule.members, hashOf(rule.algorithm, client, clientPort, rule.vip));
}

/** The same without a turn: null also when it is the turn that would decide. */
export function pickStateless(rule: ImageRule, client: Address, clientPort: number): ImageMember | null {
  if (rule.algorithm !== "roundrobin") return pick(rule, { last: null }, client, clientPort);
  const enabled = rule.members.filter(isEnabled);
  return enabled.length === 1 ? enabled[0]! : null;
}

/** The server's port for a packet to `port` of the rule's range. */
export function mapPort(ruleRange: PortRange, serverPorts: PortRange | null, port: number): number {
  if (serverPorts === null) return port;
  const bothRanges = ruleRange.min < ruleRange.max && serverPorts.min < serverPorts.max;
  return bothRanges ? port - ruleRange.min + serverPorts.min : serverPorts.min;
}

/** The address with all bits behind the first `prefix` cleared. */
export function maskAddress(address: Address, prefix: number): Address {
  const hostBits = BigInt((address.family === 4 ? 32 : 128) - prefix);
  return { family: address.family, value: (address.value >> hostBits) << hostBits };
}
