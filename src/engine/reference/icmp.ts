/** ICMP that the engine answers or translates (specification E.8, RFC 792). Looks nothing up and counts nothing. */
import type { Protocol } from "../../model/config.ts";
import type { FrameOut } from "../engine.ts";
import { mendHeader, mendIcmp, mendTransport, setAddresses } from "./checksum.ts";
import { type Arrival, leaveWhole, steppedCopy, type Way, wayBack } from "./egress.ts";
import type { Flow, Tuple } from "./flows.ts";
import { get16, get32, type Ipv4, put16, TCP, type Transport, UDP } from "./packet.ts";

/** ICMP messages that quote a packet: unreachable, time exceeded, parameter problem (RFC 792). */
export const ERROR_TYPES: readonly number[] = [3, 11, 12];

/** The request turned round: same identifier, sequence, data and options, TTL 64. */
export function echoReply(arrival: Arrival): FrameOut[] {
  const { ip } = arrival;
  const reply = Uint8Array.from(ip.bytes);
  setAddresses(reply, ip.destination, ip.source);
  reply[8] = 64;
  reply[ip.headerBytes] = 0;
  mendHeader(ip.bytes, reply);
  mendIcmp(ip.bytes, reply, ip.headerBytes, ip.totalLength);
  return leaveWhole(arrival, reply, wayBack(arrival));
}

/**
 * Whom the packet quoted in an ICMP error was from, seen as a client's packet: source and destination swapped. Null when
 * it is not the beginning of a TCP or UDP packet with at least 8 bytes of its transport header.
 */
export function quotedTuple(quote: Uint8Array): { protocol: Protocol; tuple: Tuple } | null {
  if (quote.length < 20 || quote[0]! >> 4 !== 4) return null;
  const headerBytes = (quote[0]! & 15) * 4;
  const isWhole = headerBytes >= 20 && quote.length >= headerBytes + 8 && (get16(quote, 6) & 0x1fff) === 0;
  const protocol = quote[9] === TCP ? "tcp" : quote[9] === UDP ? "udp" : null;
  if (!isWhole || protocol === null) return null;
  const tuple: Tuple = {
    source: { family: 4, value: BigInt(get32(quote, 16)) },
    sourcePort: get16(quote, headerBytes + 2),
    destination: { family: 4, value: BigInt(get32(quote, 12)) },
    destinationPort: get16(quote, headerBytes),
  };
  return { protocol, tuple };
}

/** An ICMP message where a transport header is asked for: no ports, no TCP, a header of 8 bytes. */
export const messageAsTransport = (ip: Ipv4): Transport => ({
  sourcePort: 0,
  destinationPort: 0,
  headerBytes: 8,
  tcpFlags: 0,
  sequence: 0,
  acknowledgement: 0,
  payloadBytes: ip.totalLength - ip.headerBytes - 8,
});

/** The error as the server has to see it: about the packet that the server sent, from the address that it sent to. */
export function translateTooBig(arrival: Arrival, flow: Flow, way: Way): Uint8Array {
  const { ip } = arrival;
  const packet = steppedCopy(arrival, way);
  const { inner, outer } = flow;
  const isFullNat = flow.lease !== null;
  setAddresses(packet, isFullNat ? inner.source : null, inner.destination);
  const quoteAt = ip.headerBytes + 8;
  const before = ip.bytes.subarray(quoteAt, ip.totalLength);
  const quote = packet.subarray(quoteAt, ip.totalLength);
  setAddresses(quote, inner.destination, isFullNat ? inner.source : null);
  const portsAt = (quote[0]! & 15) * 4;
  put16(quote, portsAt, inner.destinationPort);
  put16(quote, portsAt + 2, isFullNat ? inner.sourcePort : outer.sourcePort);
  mendHeader(before, quote);
  // Routers quote as little as 8 bytes: the checksum of TCP may be beyond the end, that of UDP is always there.
  const transportBytes = Math.min(quote.length - portsAt, quote[9] === UDP ? 8 : 20);
  if (quote[9] === UDP || transportBytes >= 18) mendTransport(before, quote, portsAt, transportBytes, quote[9]!);
  mendIcmp(ip.bytes, packet, ip.headerBytes, ip.totalLength);
  mendHeader(ip.bytes, packet);
  return packet;
}
