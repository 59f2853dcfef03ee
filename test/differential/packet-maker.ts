/**
 * Packets and frames of the random traffic: addresses, sizes, options, extension headers, checksums and offload requests
 * as they come, right in themselves. Damage is mutate.ts.
 */
import type { FrameIn, VnetHeader } from "../../src/engine/engine.ts";
import type { Address, Family } from "../../src/model/address.ts";
import type { Protocol } from "../../src/model/config.ts";
import { ip, mac } from "../support/addresses.ts";
import {
  authenticationExtension,
  type ChecksumChoice,
  concat,
  type Ends,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  type ExtensionHeader,
  ethernet,
  fragmentExtension,
  ipv4,
  ipv6,
  optionsExtension,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  routingExtension,
  tcp,
  udp,
} from "../support/packet-builder.ts";
import type { Random } from "../support/random.ts";
import { ofFamily, SERVERS, TUN_PORT } from "./world.ts";

/** MAC addresses that clients, or the router before them, have. */
export const clientMac = (index: number): Uint8Array => Uint8Array.of(2, 12, 0, 0, index >> 8, index + 1);
export const BOX_MACS = [mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02")];

/** One side's view of a connection. */
export interface Side {
  source: Address;
  sourcePort: number;
  destination: Address;
  destinationPort: number;
}

/** What a packet carries beyond its ends. */
export interface Contents {
  readonly flags?: string;
  readonly sequence?: number;
  readonly acknowledgement?: number;
}

const PLAIN_VNET: VnetHeader = { flags: 0, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 };

export class PacketMaker {
  readonly random: Random;
  /** Nearly everything has a TTL of 1. */
  hasFewHops = false;

  constructor(random: Random) {
    this.random = random;
  }

  family(): Family {
    return this.random.chance(0.5) ? 4 : 6;
  }

  clientAddress(family: Family): Address {
    const random = this.random;
    if (random.chance(0.02)) return ip(random.of(MARTIANS[family]));
    if (random.chance(0.03)) return random.of(ofFamily(family, SERVERS));
    if (family === 6 && random.chance(0.03)) return ip(`fe80::${random.between(1, 9)}`);
    const last = random.between(200, 230);
    return ip(
      family === 4 ? `203.0.${random.of([113, 113, 114])}.${last}` : `2001:db8:${random.of([7, 7, 8])}::${last}`,
    );
  }

  payload(): Uint8Array {
    const random = this.random;
    const size = random.weighted([
      [40, () => 0],
      [40, () => random.below(64)],
      [10, () => random.between(500, 600)],
      [8, () => random.between(1300, 1480)],
      [1, () => random.between(1481, 5000)],
    ]);
    // Cheap filling: a random start and step.
    const start = random.below(256);
    const step = random.below(256);
    const payload = new Uint8Array(size);
    for (let i = 0; i < size; i++) payload[i] = start + i * step;
    return payload;
  }

  /** TTL or hop limit. */
  ttl(): number {
    if (this.hasFewHops && this.random.chance(0.9)) return 1;
    return this.random.chance(0.05) ? this.random.between(0, 3) : this.random.of([64, 63, 255]);
  }

  chain(): readonly ExtensionHeader[] {
    if (!this.random.chance(0.15)) return [];
    return this.random.chance(0.7) ? this.random.of(CHAINS) : this.#randomChain();
  }

  #randomChain(): ExtensionHeader[] {
    const { random } = this;
    const count = random.weighted([
      [6, () => random.between(1, 3)],
      [1, () => random.between(4, 10)],
    ]);
    return Array.from({ length: count }, () =>
      random.weighted<ExtensionHeader>([
        [2, () => optionsExtension(0, random.of([1, 1, 2, 8]))],
        [3, () => optionsExtension(60, random.of([1, 1, 2, 8, 30]))],
        [2, () => routingExtension(random.of([0, 0, 1, 255]))],
        [1, () => ({ kind: 51, body: Uint8Array.of(random.below(8), ...random.bytes(random.of([6, 10, 18, 22]))) })],
        [1, () => fragmentExtension(0, random.chance(0.3), random.below(3))],
      ]),
    );
  }

  packet(ends: Ends, protocol: number, payload: Uint8Array): Uint8Array {
    const random = this.random;
    const typeOfService = random.chance(0.1) ? random.below(256) : 0;
    if (ends.destination.family === 6) {
      return ipv6({
        ...ends,
        nextHeader: protocol,
        payload,
        hopLimit: this.ttl(),
        trafficClass: typeOfService,
        flowLabel: random.chance(0.3) ? random.below(1 << 20) : 0,
        extensions: this.chain(),
      });
    }
    const options = random.chance(0.04)
      ? random.chance(0.7)
        ? random.of(IP_OPTIONS)
        : random.bytes(random.between(1, 40))
      : undefined;
    return ipv4({
      ...ends,
      protocol,
      payload,
      ttl: this.ttl(),
      identification: random.below(65536),
      dontFragment: random.chance(0.6),
      typeOfService,
      ...(options === undefined ? {} : { options }),
      ...(random.chance(0.02) ? { checksum: random.below(65536) } : {}),
    });
  }

  transport(
    protocol: Protocol,
    side: Side,
    payload: Uint8Array,
    contents: Contents,
    port: number,
    source: Uint8Array,
  ): FrameIn {
    const random = this.random;
    const partial = random.chance(0.1);
    const superPacket = partial && random.chance(0.2);
    const data = superPacket ? concat(payload, new Uint8Array(random.between(1, 6000))) : payload;
    const checksum: ChecksumChoice = partial
      ? "partial"
      : random.weighted<ChecksumChoice>([
          [90, () => "good"],
          [4, () => "none"],
          [4, () => random.of([0, 0xffff, 1, random.below(65536)])],
        ]);
    const options = random.chance(0.2) ? random.bytes(4 * random.between(1, 10)) : new Uint8Array(0);
    const { sourcePort, destinationPort } = side;
    const segment =
      protocol === "tcp"
        ? tcp({ sourcePort, destinationPort, ...contents, payload: data, options, checksum }, side)
        : udp({ sourcePort, destinationPort, payload: data, checksum }, side);
    const number = protocol === "tcp" ? PROTOCOL_TCP : PROTOCOL_UDP;
    const packet = this.packet(side, number, segment);
    const linkBytes = port === TUN_PORT ? 0 : 14;
    const headerBytes = packet.length - segment.length;
    const gsoTcp = side.destination.family === 4 ? 1 : 4;
    const transportBytes = protocol === "tcp" ? 20 + options.length : 8;
    const vnet: VnetHeader = partial
      ? {
          flags: 1,
          gsoType: superPacket ? (protocol === "tcp" ? random.of([gsoTcp, gsoTcp, gsoTcp | 0x80]) : 5) : 0,
          hdrLen: superPacket ? linkBytes + headerBytes + transportBytes : 0,
          gsoSize: superPacket
            ? Math.max(1, random.of([1400, 1500, 580]) - headerBytes - transportBytes + random.between(-2, 2))
            : 0,
          csumStart: linkBytes + headerBytes,
          csumOffset: protocol === "tcp" ? 16 : 6,
        }
      : { ...PLAIN_VNET, flags: random.chance(0.05) ? 2 : 0 };
    return { ...this.onLink(packet, port, source), vnet };
  }

  onLink(packet: Uint8Array, port: number, source: Uint8Array): FrameIn {
    if (port === TUN_PORT) return { bytes: packet, port };
    const minimumBytes = this.random.chance(0.5) ? 60 : 0;
    const destination = BOX_MACS[port]!;
    const etherType = packet[0]! >> 4 === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
    return { bytes: ethernet({ destination, source, etherType, payload: packet, minimumBytes }), port };
  }
}

const MARTIANS = {
  4: ["0.1.2.3", "127.0.0.1", "224.0.0.5", "255.255.255.255"],
  6: ["::", "::1", "ff02::1", "::ffff:c000:20a"],
} as const;

const HOP_BY_HOP = optionsExtension(0);
const DESTINATION = optionsExtension(60);
/** Chains that are balanced in one mode or the other, too long ones and too many. */
const CHAINS: readonly (readonly ExtensionHeader[])[] = [
  [HOP_BY_HOP],
  [optionsExtension(0, 3)],
  [DESTINATION],
  [HOP_BY_HOP, DESTINATION],
  [DESTINATION, HOP_BY_HOP],
  [HOP_BY_HOP, HOP_BY_HOP],
  [routingExtension(0)],
  [HOP_BY_HOP, routingExtension(1)],
  [authenticationExtension()],
  [fragmentExtension(0, false, 7)],
  [DESTINATION, fragmentExtension(0, false, 7), DESTINATION],
  new Array<ExtensionHeader>(8).fill(DESTINATION),
  new Array<ExtensionHeader>(9).fill(DESTINATION),
  [optionsExtension(60, 64)],
  [HOP_BY_HOP, optionsExtension(60, 64)],
];

/** Router alert (copied), record route (not copied), no operation, end of list, a broken length. */
const IP_OPTIONS: readonly Uint8Array[] = [
  Uint8Array.of(0x94, 4, 0, 0),
  Uint8Array.of(7, 7, 4, 0, 0, 0, 0),
  Uint8Array.of(1, 1, 0x94, 4, 0, 0, 0, 0),
  Uint8Array.of(1, 0, 0, 0),
  Uint8Array.of(0x88, 0, 1, 2),
  // A length beyond the end; no room for a length.
  Uint8Array.of(0x94, 5, 0, 0),
  Uint8Array.of(1, 1, 1, 0x94),
  Uint8Array.from({ length: 40 }, (_, i) => (i < 39 ? 1 : 0)),
];
