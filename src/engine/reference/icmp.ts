/** ICMP that the engine answers or translates (specification E.8, RFC 792, RFC 4443). Looks nothing up and counts nothing. */
import type { Address, Family } from "../../model/address.ts";
import type { Protocol } from "../../model/config.ts";
import type { Compat, FrameOut } from "../engine.ts";
import { mendHeader, mendIcmp, mendTransport, setAddresses } from "./checksum.ts";
import { type Arrival, leaveWhole, steppedCopy, type Way, wayBack } from "./egress.ts";
import { type Flow, reversed, type Tuple } from "./flows.ts";
import { get16, getAddress, ICMP, ICMP6, type Ip, put16, TCP, type Transport, UDP, walkExtensions } from "./packet.ts";

/** One family's numbers. */
interface Kinds {
  readonly protocol: number;
  readonly echoRequest: number;
  readonly echoReply: number;
  /** Messages that quote a packet: unreachable, time exceeded, parameter problem, and in ICMPv6 too big. */
  readonly errors: readonly number[];
  readonly isTooBig: (type: number, code: number) => boolean;
  /** The packet has not reached whom it was for; too big is another matter. */
  readonly isUnreachable: (type: number, code: number) => boolean;
  /** Never touched, whoever they are for: multicast listener and neighbour discovery, router messages. */
  readonly isHosts: (type: number) => boolean;
}

export const KINDS: Readonly<Record<Family, Kinds>> = {
  4: {
    protocol: ICMP,
    echoRequest: 8,
    echoReply: 0,
    errors: [3, 11, 12],
    isTooBig: (type, code) => type === 3 && code === 4,
    isUnreachable: (type, code) => type === 3 && code !== 4,
    isHosts: () => false,
  },
  6: {
    protocol: ICMP6,
    echoRequest: 128,
    echoReply: 129,
    errors: [1, 2, 3, 4],
    isTooBig: (type) => type === 2,
    isUnreachable: (type) => type === 1,
    isHosts: (type) => (type >= 130 && type <= 137) || type === 143,
  },
};

/** A packet of the box that answers another one: addresses swapped; TTL or hop limit 64; no flow label; the rest as it was. */
export function turnedRound(ip: Ip): Uint8Array {
  const reply = ip.bytes.slice();
  setAddresses(reply, ip.destination, ip.source);
  reply[ip.ttlAt] = 64;
  if (ip.family === 6) reply.set([reply[1]! & 0xf0, 0, 0], 1);
  mendHeader(ip.bytes, reply);
  return reply;
}

/**
 * The request turned round: same identifier, sequence, data, options. Of a first fragment the checksum covers bytes that
 * are elsewhere; it is mended by what has changed, so they need not be known.
 */
export function echoReply(arrival: Arrival): FrameOut[] {
  const { ip } = arrival;
  const reply = turnedRound(ip);
  reply[ip.headerBytes] = KINDS[ip.family].echoReply;
  mendIcmp(ip.bytes, reply, ip.headerBytes, ip.totalLength);
  return leaveWhole(arrival, reply, wayBack(arrival));
}

/** What an ICMP error says about the packet that it is about. */
export interface Quote {
  readonly protocol: Protocol;
  /** As an answer to the quoted packet would have it. */
  readonly tuple: Tuple;
  /** Where its transport header begins. */
  readonly headerBytes: number;
}

/**
 * Reads the quoted packet. Null when it is not the beginning of a TCP or UDP packet with at least 8 bytes of its transport
 * header, or in IPv6 none that the mode balances.
 */
export function readQuote(quote: Uint8Array, family: Family, compat: Compat): Quote | null {
  if (quote.length < (family === 4 ? 20 : 40) || quote[0]! >> 4 !== family) return null;
  let headerBytes = (quote[0]! & 15) * 4;
  let number = quote[9]!;
  let isLater = (get16(quote, 6) & 0x1fff) !== 0;
  if (family === 6) {
    const walk = walkExtensions(quote);
    if (walk.chain !== "walked" || walk.unbalancedIn.includes(compat)) return null;
    headerBytes = walk.headerBytes;
    number = walk.protocol;
    isLater = walk.fragmentOffset > 0;
  } else if (headerBytes < 20) return null;
  const protocol = number === TCP ? "tcp" : number === UDP ? "udp" : null;
  if (isLater || quote.length < headerBytes + 8 || protocol === null) return null;
  const [sourceAt, destinationAt] = family === 4 ? [12, 16] : [8, 24];
  const sent: Tuple = {
    source: getAddress(quote, sourceAt, family),
    sourcePort: get16(quote, headerBytes),
    destination: getAddress(quote, destinationAt, family),
    destinationPort: get16(quote, headerBytes + 2),
  };
  return { protocol, tuple: reversed(sent), headerBytes };
}

/** An ICMP message where a transport header is asked for: no ports, no TCP, a header of 8 bytes. */
export const messageAsTransport = (ip: Ip): Transport => ({
  sourcePort: 0,
  destinationPort: 0,
  headerBytes: 8,
  tcpFlags: 0,
  sequence: 0,
  acknowledgement: 0,
  payloadBytes: ip.totalLength - ip.headerBytes - 8,
});

/** What an error looks like at the other side of the box. Null leaves an address alone. */
interface Translation {
  readonly source: Address | null;
  readonly destination: Address;
  /** The packet that the error is about, as its sender sent it. */
  readonly about: Tuple;
}

/** The error as the server has to see it: about the packet that the server sent, from the address that it sent to. */
export function towardsServer({ inner, lease }: Flow): Translation {
  // In HALF-NAT the server knows the client, and the router may speak for itself.
  return { source: lease === null ? null : inner.source, destination: inner.destination, about: reversed(inner) };
}

/** The error as the client has to see it: about the packet that the client sent, from the VIP. */
export const towardsClient = ({ outer }: Flow): Translation => ({
  source: outer.destination,
  destination: outer.source,
  about: outer,
});

/** The packet that carries an error on, with all four checksums mended. */
export function translateError(arrival: Arrival, way: Way, quoted: Quote, translation: Translation): Uint8Array {
  const { ip } = arrival;
  const packet = steppedCopy(arrival, way);
  setAddresses(packet, translation.source, translation.destination);
  const quoteAt = ip.headerBytes + 8;
  const before = ip.bytes.subarray(quoteAt, ip.totalLength);
  const quote = packet.subarray(quoteAt, ip.totalLength);
  const { source, sourcePort, destination, destinationPort } = translation.about;
  setAddresses(quote, source, destination);
  const portsAt = quoted.headerBytes;
  put16(quote, portsAt, sourcePort);
  put16(quote, portsAt + 2, destinationPort);
  mendHeader(before, quote);
  // Routers quote as little as 8 bytes: the checksum of TCP may be beyond the end, that of UDP is always there.
  const number = quoted.protocol === "udp" ? UDP : TCP;
  const transportBytes = Math.min(quote.length - portsAt, number === UDP ? 8 : 20);
  if (number === UDP || transportBytes >= 18) mendTransport(before, quote, portsAt, transportBytes, number);
  mendIcmp(ip.bytes, packet, ip.headerBytes, ip.totalLength);
  mendHeader(ip.bytes, packet);
  return packet;
}
