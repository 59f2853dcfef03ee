/**
 * Synthetic frames for the warm-up: everyday traffic, and one of each of the other things that a packet can be. Makes frames
 * and nothing else. Sums are left out, nobody reads them.
 */
import { NAT_PORT_FIRST } from "../gen/layout.ts";
import type { Address, Family } from "../model/address.ts";
import type { FrameIn, VnetHeader } from "./engine.ts";

/** Addresses by their last 32 bits; those of IPv6 are 2001:db8::/96 and the number. */
export const CLIENT = 0xc6336401; // 198.51.100.1
export const SERVER = 0xc0000201; // 192.0.2.1
export const VIP = 0xcb007101; // 203.0.113.1
/** Two of them. */
export const PROXY = VIP + 1;
const ROUTER = 0xc6336463; // 198.51.100.99
const STRANGER = VIP + 100;
const NETWORK6 = 0x20010db8n << 96n;

/** One of the addresses above. */
export const addressOf = (family: Family, value: number): Address => ({
  family,
  value: BigInt(value >>> 0) + (family === 6 ? NETWORK6 : 0n),
});

/** What a rule of the warm-up is good for, by its port (warm-up-tables.ts). */
export const PORT = { halfNat: 80, nat: 81, dsr: 82, sticky: 83, hashed: 84, disabled: 85, empty: 86 } as const;
/** Ports of devices: one with MAC headers, one without. */
export const ETHERNET = 0;
export const BARE = 1;

const [ICMP, TCP, UDP, ICMP6] = [1, 6, 17, 58];
export const [FIN, SYN, RST, ACK] = [1, 2, 4, 16];
const ETHERTYPE: Readonly<Record<Family, number>> = { 4: 0x0800, 6: 0x86dd };
/** First port of clients. */
const CLIENT_PORT = 1024;

/** Frames of an everyday batch that open connections to a HALF-NAT rule; whoever sends it gives each a port that is new. */
export const OPENINGS: readonly number[] = [1, 13, 25, 37, 49];
/** Where their source port is. */
export const OPENING_PORT_AT: Readonly<Record<Family, number>> = { 4: 14 + 20, 6: 14 + 40 };

interface Ends {
  readonly source: number;
  readonly destination: number;
}

interface Header {
  readonly ttl?: number;
  /** `offset` in units of eight bytes (RFC 791, RFC 8200). */
  readonly fragment?: { readonly offset: number; readonly more: boolean; readonly id: number };
  readonly doNotFragment?: boolean;
  /** Options (IPv4) or a hop-by-hop header (IPv6). */
  readonly hasOptions?: boolean;
}

function bytesOf(length: number, write: (data: DataView) => void): Uint8Array {
  const bytes = new Uint8Array(length);
  write(new DataView(bytes.buffer));
  return bytes;
}

function joined(...parts: readonly Uint8Array[]): Uint8Array {
  const bytes = new Uint8Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    bytes.set(part, at);
    at += part.length;
  }
  return bytes;
}

function ipv4(protocol: number, { source, destination }: Ends, body: Uint8Array, header: Header): Uint8Array {
  const { ttl = 64, fragment, doNotFragment = false, hasOptions = false } = header;
  const headerLength = hasOptions ? 24 : 20;
  const head = bytesOf(headerLength, (data) => {
    data.setUint8(0, 0x40 | (headerLength / 4));
    data.setUint16(2, headerLength + body.length);
    data.setUint16(4, fragment?.id ?? 0);
    data.setUint16(6, (doNotFragment ? 0x4000 : 0) | (fragment?.more ? 0x2000 : 0) | (fragment?.offset ?? 0));
    data.setUint8(8, ttl);
    data.setUint8(9, protocol);
    data.setUint32(12, source);
    data.setUint32(16, destination);
    // Router alert (RFC 2113), which fragments have to carry too.
    if (hasOptions) data.setUint32(20, 0x94040000);
  });
  return joined(head, body);
}

function ipv6(protocol: number, { source, destination }: Ends, body: Uint8Array, header: Header): Uint8Array {
  const { ttl = 64, fragment, hasOptions = false } = header;
  const extensions: [kind: number, bytes: Uint8Array][] = [];
  if (hasOptions) extensions.push([0, bytesOf(8, (data) => data.setUint16(2, 0x0104))]);
  if (fragment !== undefined)
    extensions.push([
      44,
      bytesOf(8, (data) => {
        data.setUint16(2, (fragment.offset << 3) | (fragment.more ? 1 : 0));
        data.setUint32(4, fragment.id);
      }),
    ]);
  const kinds = [...extensions.map(([kind]) => kind), protocol];
  for (const [index, [, bytes]] of extensions.entries()) bytes[0] = kinds[index + 1]!;
  const payload = joined(...extensions.map(([, bytes]) => bytes), body);
  const head = bytesOf(40, (data) => {
    data.setUint8(0, 0x60);
    data.setUint16(4, payload.length);
    data.setUint8(6, kinds[0]!);
    data.setUint8(7, ttl);
    for (const [at, value] of [
      [8, source],
      [24, destination],
    ] as const) {
      data.setUint32(at, 0x20010db8);
      data.setUint32(at + 12, value);
    }
  });
  return joined(head, payload);
}

function ip(family: Family, protocol: number, ends: Ends, body: Uint8Array, header: Header = {}): Uint8Array {
  return family === 4 ? ipv4(protocol, ends, body, header) : ipv6(protocol, ends, body, header);
}

const onEthernet = (family: Family, packet: Uint8Array, vnet?: VnetHeader): FrameIn => ({
  port: ETHERNET,
  bytes: joined(
    bytesOf(14, (data) => data.setUint16(12, ETHERTYPE[family])),
    packet,
  ),
  ...(vnet && { vnet }),
});

/** Payload: 6 bytes and more. */
function tcp(sourcePort: number, destinationPort: number, flags: number, more = 0): Uint8Array {
  return bytesOf(26 + more, (data) => {
    data.setUint16(0, sourcePort);
    data.setUint16(2, destinationPort);
    data.setUint16(12, 0x5000 | flags);
  });
}

function udp(sourcePort: number, destinationPort: number, more = 0): Uint8Array {
  return bytesOf(26 + more, (data) => {
    data.setUint16(0, sourcePort);
    data.setUint16(2, destinationPort);
    data.setUint16(4, 26 + more);
  });
}

function echo(family: Family): Uint8Array {
  return bytesOf(26, (data) => data.setUint8(0, family === 4 ? 8 : 128));
}

/** The three kinds of ICMP error that the engine tells apart, by the type and code of each family. */
const ERRORS = {
  unreachable: { 4: 0x0301, 6: 0x0104 },
  tooBig: { 4: 0x0304, 6: 0x0200 },
  other: { 4: 0x0b00, 6: 0x0300 },
};

function icmpError(family: Family, kind: keyof typeof ERRORS, quoted: Uint8Array): Uint8Array {
  return joined(
    bytesOf(8, (data) => data.setUint16(0, ERRORS[kind][family])),
    quoted,
  );
}

/**
 * A batch of everyday traffic: UDP and TCP of the three types of rules, both ways, of eight flows each, and among them
 * OPENINGS, an echo request and a stranger. @param round other flows for each of four
 */
export function everydayFrames(family: Family, round: number, count: number): FrameIn[] {
  return Array.from({ length: count }, (_, index) => {
    const isReply = index % 8 >= 6;
    const service = isReply ? PORT.halfNat : PORT.halfNat + ((index >>> 1) % 3);
    const client = CLIENT_PORT + (index >>> 3) + 8 * (round % 4);
    const toVip = { source: CLIENT, destination: VIP };
    if (index === 0) return onEthernet(family, ip(family, family === 4 ? ICMP : ICMP6, toVip, echo(family)));
    const ends = isReply
      ? { source: SERVER, destination: CLIENT }
      : index === 2
        ? { ...toVip, destination: STRANGER }
        : toVip;
    const ports = isReply ? ([service, client] as const) : ([client, service] as const);
    const isTcp = index % 2 === 1;
    return onEthernet(
      family,
      ip(family, isTcp ? TCP : UDP, ends, isTcp ? tcp(...ports, OPENINGS.includes(index) ? SYN : ACK) : udp(...ports)),
    );
  });
}

/** Everything else, in an order in which it makes sense. Said again, flows that had closed or were forgotten open anew. */
export function rareFrames(family: Family): FrameIn[] {
  const toVip = { source: CLIENT, destination: VIP };
  const toClient = { source: SERVER, destination: CLIENT };
  const icmp = family === 4 ? ICMP : ICMP6;
  const frame = (protocol: number, ends: Ends, body: Uint8Array, header?: Header, vnet?: VnetHeader): FrameIn =>
    onEthernet(family, ip(family, protocol, ends, body, header), vnet);
  const lifeOf = (port: number): FrameIn[] => [
    frame(TCP, toVip, tcp(port, PORT.halfNat, SYN)),
    frame(TCP, toClient, tcp(PORT.halfNat, port, SYN | ACK)),
    frame(TCP, toVip, tcp(port, PORT.halfNat, ACK)),
    frame(TCP, toVip, tcp(port, PORT.halfNat, FIN | ACK)),
    frame(TCP, toClient, tcp(PORT.halfNat, port, FIN | ACK)),
    frame(TCP, toVip, tcp(port, PORT.halfNat, ACK)),
  ];
  const refused = [
    frame(TCP, toVip, tcp(1090, PORT.halfNat, SYN)),
    frame(TCP, toClient, tcp(PORT.halfNat, 1090, RST | ACK)),
  ];
  const throughProxy = [
    frame(TCP, toVip, tcp(1091, PORT.nat, SYN)),
    frame(UDP, toVip, udp(1092, PORT.nat)),
    ...[0, 1, 2, 3].flatMap((place) =>
      [PROXY, PROXY + 1].map((proxy) =>
        frame(UDP, { source: SERVER, destination: proxy }, udp(PORT.nat, NAT_PORT_FIRST + place)),
      ),
    ),
  ];
  const choices = [PORT.sticky, PORT.hashed, PORT.disabled, PORT.empty].flatMap((port) => [
    frame(UDP, toVip, udp(1093, port)),
    frame(TCP, toVip, tcp(1094, port, SYN)),
    frame(UDP, { source: CLIENT + 7, destination: VIP }, udp(1093, port)),
  ]);
  return [
    ...lifeOf(1095),
    ...refused,
    ...throughProxy,
    ...choices,
    ...errors(family, (ends, body) => frame(icmp, ends, body)),
    ...fragments(family, frame),
    ...misfits(family, frame),
    ...bare(family),
  ];
}

type MakeFrame = (protocol: number, ends: Ends, body: Uint8Array, header?: Header, vnet?: VnetHeader) => FrameIn;

/** ICMP errors about what each end of a flow has sent, of all types of rules, and about nothing that is known. */
function errors(family: Family, frame: (ends: Ends, body: Uint8Array) => FrameIn): FrameIn[] {
  const kinds = ["unreachable", "tooBig", "other"] as const;
  const about = (ends: Ends, body: Uint8Array, to: Ends): FrameIn[] =>
    kinds.map((kind) => frame(to, icmpError(family, kind, ip(family, UDP, ends, body))));
  const fromRouter = (destination: number): Ends => ({ source: ROUTER, destination });
  return [
    ...about({ source: VIP, destination: CLIENT }, udp(PORT.halfNat, CLIENT_PORT), fromRouter(VIP)),
    ...about({ source: VIP, destination: CLIENT }, udp(PORT.dsr, CLIENT_PORT), fromRouter(VIP)),
    ...about({ source: VIP, destination: STRANGER }, udp(9, 9), fromRouter(VIP)),
    ...about({ source: CLIENT, destination: SERVER }, udp(CLIENT_PORT, PORT.halfNat), fromRouter(CLIENT)),
    ...about({ source: PROXY + 1, destination: SERVER }, udp(NAT_PORT_FIRST, PORT.nat), fromRouter(PROXY + 1)),
  ];
}

/** In order and out of order, both ways, of flows and of pings. */
function fragments(family: Family, frame: MakeFrame): FrameIn[] {
  const [first, last] = [
    (id: number) => ({ offset: 0, more: true, id }),
    (id: number) => ({ offset: 4, more: false, id }),
  ];
  const head = udp(CLIENT_PORT, PORT.halfNat, 6);
  const tail = new Uint8Array(16);
  const both = [
    { source: CLIENT, destination: VIP, body: head },
    { source: SERVER, destination: CLIENT, body: udp(PORT.halfNat, CLIENT_PORT, 6) },
    { source: SERVER, destination: PROXY, body: udp(9, 9, 6) },
    { source: CLIENT, destination: STRANGER, body: udp(9, 9, 6) },
  ];
  const icmp = family === 4 ? ICMP : ICMP6;
  const ping = joined(echo(family), new Uint8Array(6));
  return [
    ...both.flatMap((ends, index) => [
      frame(UDP, ends, ends.body, { fragment: first(index) }),
      frame(UDP, ends, tail, { fragment: last(index) }),
      frame(UDP, ends, tail, { fragment: last(index + 16) }),
      frame(UDP, ends, ends.body, { fragment: first(index + 16) }),
    ]),
    frame(icmp, { source: CLIENT, destination: VIP }, tail, { fragment: last(32) }),
    frame(icmp, { source: CLIENT, destination: VIP }, ping, { fragment: first(32) }),
    // Its first one never comes.
    frame(UDP, { source: CLIENT, destination: VIP }, tail, { fragment: last(33) }),
  ];
}

/** What has run out of hops, is too large, has options, wants offloads or is nothing at all. */
function misfits(family: Family, frame: MakeFrame): FrameIn[] {
  const toVip = { source: CLIENT, destination: VIP };
  const layer4 = 14 + (family === 4 ? 20 : 40);
  const offload = (gsoType: number, csumOffset: number): VnetHeader => ({
    flags: 1,
    gsoType,
    hdrLen: layer4 + 20,
    gsoSize: gsoType === 0 ? 0 : 1000,
    csumStart: layer4,
    csumOffset,
  });
  const large = udp(CLIENT_PORT, PORT.halfNat, 1600);
  return [
    frame(UDP, toVip, udp(CLIENT_PORT, PORT.halfNat), { ttl: 1 }),
    frame(UDP, toVip, large, { doNotFragment: true }),
    frame(UDP, toVip, large),
    frame(UDP, toVip, large, { hasOptions: true }),
    frame(UDP, toVip, large, {}, offload(0, 6)),
    frame(UDP, toVip, udp(CLIENT_PORT, PORT.halfNat), { hasOptions: true }),
    frame(UDP, toVip, udp(CLIENT_PORT, PORT.halfNat), {}, offload(0, 6)),
    frame(TCP, toVip, tcp(CLIENT_PORT, PORT.halfNat, ACK, 3000), {}, offload(family === 4 ? 1 : 4, 16)),
    frame(TCP, toVip, tcp(1096, PORT.halfNat, SYN), {}, offload(0, 16)),
    frame(UDP, { source: SERVER, destination: STRANGER }, udp(PORT.halfNat, 9)),
    frame(47, toVip, new Uint8Array(8)),
    { port: ETHERNET, bytes: new Uint8Array(14) },
  ];
}

/** By a device without MAC headers. */
function bare(family: Family): FrameIn[] {
  const packets = [
    ip(family, UDP, { source: CLIENT, destination: VIP }, udp(1097, PORT.halfNat)),
    ip(family, UDP, { source: SERVER, destination: CLIENT }, udp(PORT.halfNat, 1097)),
    ip(family, TCP, { source: CLIENT, destination: VIP }, tcp(1098, PORT.dsr, SYN)),
  ];
  return packets.map((bytes) => ({ port: BARE, bytes }));
}
