/**
 * A small fixed world for engine tests by name: one client network, three servers, a box with two Ethernet ports, and
 * short ways to send a packet through an engine and to look at what comes out.
 */
import type { FrameIn, NextHop, Outcome, PacketEngine, Port, TableImage, VnetHeader } from "../../src/engine/engine.ts";
import type { Address } from "../../src/model/address.ts";
import { ip, mac } from "./addresses.ts";
import { imageOf, membersOf, onePort, type RuleSpec, type ServerSpec } from "./image-builder.ts";
import {
  type Ends,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  ethernet,
  type Ipv4Spec,
  type Ipv6Spec,
  ipv4,
  ipv6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  type TcpSpec,
  tcp,
  type UdpSpec,
  udp,
} from "./packet-builder.ts";
import { type Decoded, decodeEthernet, decodeIp } from "./packet-decoder.ts";

export const CLIENT_SIDE = 0;
export const SERVER_SIDE = 1;
export const TUN = 2;
export const VIP = ip("198.51.100.10");
export const CLIENT = ip("203.0.113.200");
export const PROXY = ip("203.0.113.1");
export const SERVER_ADDRESSES: readonly Address[] = [10, 11, 12].map((last) => ip(`192.0.2.${last}`));
export const SERVERS: readonly ServerSpec[] = SERVER_ADDRESSES.map((address, i) => {
  return { id: 101 + i, address, ports: null, nextHop: i };
});
export const CLIENT_MAC = mac("02:0c:00:00:00:01");
export const BOX_MACS = [mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02")] as const;
export const serverMac = (index: number): Uint8Array => mac(`02:0d:00:00:00:0${index + 1}`);
export const BOX_CLIENT_SIDE = ip("203.0.113.254");

/** The IPv6 network of the bench. */
const PREFIX6 = ip("2001:db8::").value;

/**
 * The IPv6 address of the host that has this IPv4 address: 2001:db8::/96 and the four bytes of it, so that both are
 * hashed alike (specification E.5: the last 32 bits) and a mask of n bits covers the same hosts as one of 96 + n.
 */
export const address6Of = ({ value }: Address): Address => ({ family: 6, value: PREFIX6 | value });

const portOf = (kind: Port["kind"], portMac: Uint8Array, address4: Address): Port => ({
  kind,
  mac: portMac,
  mtu: 1500,
  address4,
  address6: address6Of(address4),
});
export const PORTS: readonly Port[] = [
  portOf("ethernet", BOX_MACS[0], BOX_CLIENT_SIDE),
  portOf("ethernet", BOX_MACS[1], ip("192.0.2.254")),
  portOf("ip", new Uint8Array(6), ip("203.0.113.254")),
];

export const hopOf = (index: number, changes: Partial<NextHop> = {}): NextHop => ({
  state: "resolved",
  port: SERVER_SIDE,
  destinationMac: serverMac(index),
  sourceMac: BOX_MACS[1],
  mtu: 1500,
  ...changes,
});

/** A rule of one TCP port 80 on the three servers. */
export function ruleOf(changes: Partial<RuleSpec> = {}): RuleSpec {
  const isNat = changes.type === "NAT";
  return {
    id: 1,
    slot: 0,
    vip: VIP,
    protocol: "tcp",
    ports: onePort(80),
    type: "HALF-NAT",
    proxySource: isNat ? { first: PROXY, last: PROXY } : null,
    members: membersOf(SERVERS),
    ...changes,
  };
}

/** An engine in the small world. */
export class Bench {
  readonly engine: PacketEngine;
  #generation = 0;
  nowMs = 1_000_000;

  constructor(engine: PacketEngine, rules: readonly RuleSpec[]) {
    this.engine = engine;
    for (const [index, port] of PORTS.entries()) engine.setPort(index, port);
    for (const index of SERVERS.keys()) engine.setNextHop(index, hopOf(index));
    this.publish(rules);
  }

  publish(
    rules: readonly RuleSpec[],
    drains: TableImage["drains"] = [],
    past: readonly RuleSpec[] = [],
    own: readonly Address[] = [],
  ): void {
    this.engine.publish(imageOf(++this.#generation, rules, drains, past, own));
  }

  /** Sends one frame. */
  send(frame: FrameIn): Outcome {
    return this.engine.process([frame], this.nowMs)[0]!;
  }

  /** Lets time pass and sweeps at its end. */
  wait(ms: number): void {
    this.nowMs += ms;
    this.engine.sweep(this.nowMs);
  }
}

/** Puts a packet into a frame as it arrives at a port of the box. */
export function arriving(packet: Uint8Array, port = CLIENT_SIDE, vnet?: VnetHeader): FrameIn {
  const source = port === CLIENT_SIDE ? CLIENT_MAC : serverMac(0);
  const etherType = (packet[0] ?? 0) >> 4 === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
  const bytes = port === TUN ? packet : ethernet({ destination: BOX_MACS[port]!, source, etherType, payload: packet });
  return vnet === undefined ? { bytes, port } : { bytes, port, vnet };
}

/** What the IP header of a packet says, beside its ends. */
export interface HeaderFields {
  readonly from?: Address;
  readonly to?: Address;
  /** TTL or hop limit. */
  readonly ttl?: number;
  /** Only for packets of that family. */
  readonly ipv4?: Partial<Ipv4Spec>;
  readonly ipv6?: Partial<Ipv6Spec>;
}

const endsOf = ({ from = CLIENT, to = VIP }: HeaderFields): Ends => ({ source: from, destination: to });

/** A packet of the family of its destination. */
export function ipPacket(fields: HeaderFields, protocol: number, payload: Uint8Array): Uint8Array {
  const ends = endsOf(fields);
  const { ttl } = fields;
  return ends.destination.family === 6
    ? ipv6({ ...ends, nextHeader: protocol, payload, ...(ttl === undefined ? {} : { hopLimit: ttl }), ...fields.ipv6 })
    : ipv4({ ...ends, protocol, payload, ...(ttl === undefined ? {} : { ttl }), ...fields.ipv4 });
}

export interface TcpPacket extends Partial<TcpSpec>, HeaderFields {}

/** A TCP packet, by default a client's SYN from port 40000 to VIP port 80. */
export function tcpPacket(spec: TcpPacket = {}): Uint8Array {
  const segment = tcp({ sourcePort: 40000, destinationPort: 80, flags: "S", ...spec }, endsOf(spec));
  return ipPacket(spec, PROTOCOL_TCP, segment);
}

export interface UdpPacket extends Partial<UdpSpec>, HeaderFields {}

/** A UDP packet, by default a client's from port 40000 to VIP port 53. */
export function udpPacket(spec: UdpPacket = {}): Uint8Array {
  const datagram = udp({ sourcePort: 40000, destinationPort: 53, ...spec }, endsOf(spec));
  return ipPacket(spec, PROTOCOL_UDP, datagram);
}

/** The only packet that left because of a frame, taken apart; throws when it is not exactly one. */
export function onlyPacket(outcome: Outcome, kind: "ethernet" | "ip" = "ethernet"): Decoded {
  if (outcome.out.length !== 1) throw new Error(`${outcome.out.length} frames left, not 1`);
  const { bytes } = outcome.out[0]!;
  return decodeIp(kind === "ethernet" ? decodeEthernet(bytes).payload : bytes);
}

/** Fields of an answer: those of TCP also for UDP, where only payload and checksum count. */
export type AnswerFields = Partial<TcpSpec> & Omit<HeaderFields, "from" | "to">;

/** What the server of a forwarded packet answers with, as its packet. */
export function answerTo(packet: Decoded, spec: AnswerFields = {}): Uint8Array {
  const { tcp: segment, udp: datagram } = packet;
  const ends = { from: packet.destination, to: packet.source };
  const { sourcePort, destinationPort } = (segment ?? datagram)!;
  const ports = { sourcePort: destinationPort, destinationPort: sourcePort };
  return segment === undefined
    ? udpPacket({ ...spec, ...ends, ...ports })
    : tcpPacket({ flags: "SA", ...spec, ...ends, ...ports });
}
