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
  ethernet,
  type Ipv4Spec,
  ipv4,
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

const PORTS: readonly Port[] = [
  { kind: "ethernet", mac: BOX_MACS[0], mtu: 1500, address4: BOX_CLIENT_SIDE, address6: null },
  { kind: "ethernet", mac: BOX_MACS[1], mtu: 1500, address4: ip("192.0.2.254"), address6: null },
  { kind: "ip", mac: new Uint8Array(6), mtu: 1500, address4: ip("203.0.113.254"), address6: null },
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

  publish(rules: readonly RuleSpec[], drains: TableImage["drains"] = [], past: readonly RuleSpec[] = []): void {
    this.engine.publish(imageOf(++this.#generation, rules, drains, past));
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
  const bytes =
    port === TUN
      ? packet
      : ethernet({ destination: BOX_MACS[port]!, source, etherType: ETHERTYPE_IPV4, payload: packet });
  return vnet === undefined ? { bytes, port } : { bytes, port, vnet };
}

export interface TcpPacket extends Partial<TcpSpec> {
  readonly from?: Address;
  readonly to?: Address;
  readonly ipv4?: Partial<Ipv4Spec>;
}

const endsOf = ({ from = CLIENT, to = VIP }: { from?: Address; to?: Address }): Ends => ({
  source: from,
  destination: to,
});

/** A TCP packet, by default a client's SYN from port 40000 to VIP port 80. */
export function tcpPacket(spec: TcpPacket = {}): Uint8Array {
  const ends = endsOf(spec);
  const segment = tcp({ sourcePort: 40000, destinationPort: 80, flags: "S", ...spec }, ends);
  return ipv4({ ...ends, protocol: PROTOCOL_TCP, payload: segment, ...spec.ipv4 });
}

export interface UdpPacket extends Partial<UdpSpec> {
  readonly from?: Address;
  readonly to?: Address;
  readonly ipv4?: Partial<Ipv4Spec>;
}

/** A UDP packet, by default a client's from port 40000 to VIP port 53. */
export function udpPacket(spec: UdpPacket = {}): Uint8Array {
  const ends = endsOf(spec);
  const datagram = udp({ sourcePort: 40000, destinationPort: 53, ...spec }, ends);
  return ipv4({ ...ends, protocol: PROTOCOL_UDP, payload: datagram, ...spec.ipv4 });
}

/** The only packet that left because of a frame, taken apart; throws when it is not exactly one. */
export function onlyPacket(outcome: Outcome, kind: "ethernet" | "ip" = "ethernet"): Decoded {
  if (outcome.out.length !== 1) throw new Error(`${outcome.out.length} frames left, not 1`);
  const { bytes } = outcome.out[0]!;
  return decodeIp(kind === "ethernet" ? decodeEthernet(bytes).payload : bytes);
}

/** What the server of a forwarded packet answers with, as its packet. */
export function answerTo(packet: Decoded, spec: Partial<TcpSpec> & { ipv4?: Partial<Ipv4Spec> } = {}): Uint8Array {
  const { tcp: segment, udp: datagram } = packet;
  const ends = { from: packet.destination, to: packet.source };
  const { sourcePort, destinationPort } = (segment ?? datagram)!;
  const ports = { sourcePort: destinationPort, destinationPort: sourcePort };
  if (segment === undefined) {
    const { checksum, payload } = spec;
    const fields = { ...(checksum === undefined ? {} : { checksum }), ...(payload === undefined ? {} : { payload }) };
    return udpPacket({ ...ends, ...ports, ...fields, ...(spec.ipv4 === undefined ? {} : { ipv4: spec.ipv4 }) });
  }
  return tcpPacket({ flags: "SA", ...ends, ...ports, ...spec });
}
