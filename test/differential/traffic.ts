/**
 * Random traffic that forms real conversations: clients open, send, close, reset and come back with the same port;
 * servers answer the packets that really reached them. Around them routers complain, pings come in, strangers pass by,
 * and any frame may be damaged (mutate.ts).
 */
import type { FrameIn, Outcome, Port, VnetHeader } from "../../src/engine/engine.ts";
import { Verdict } from "../../src/gen/layout.ts";
import type { Address, Family } from "../../src/model/address.ts";
import type { Protocol } from "../../src/model/config.ts";
import { ip, mac } from "../support/addresses.ts";
import type { RuleSpec } from "../support/image-builder.ts";
import {
  arpRequest,
  authenticationExtension,
  type ChecksumChoice,
  concat,
  type Ends,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  type ExtensionHeader,
  ethernet,
  fragmentExtension,
  fragmentIpv4,
  fragmentIpv6,
  type IcmpSpec,
  icmp4,
  icmp6,
  ipv4,
  ipv6,
  optionsExtension,
  PROTOCOL_ICMP,
  PROTOCOL_ICMP6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  routingExtension,
  tcp,
  udp,
} from "../support/packet-builder.ts";
import type { Random } from "../support/random.ts";
import { mutate } from "./mutate.ts";
import { packetOf } from "./output-check.ts";
import { CLIENT_PORT, ofFamily, PROXIES, SERVER_PORT, SERVERS, TUN_PORT, VIPS } from "./world.ts";

const LARGEST_CONVERSATION_COUNT = 60;
const CLIENT_MACS = [mac("02:0c:00:00:00:01"), mac("02:0c:00:00:00:02")];
const BOX_MACS = [mac("02:00:00:00:00:01"), mac("02:00:00:00:00:02")];

/** One side's view of a connection. */
interface Side {
  source: Address;
  sourcePort: number;
  destination: Address;
  destinationPort: number;
}

interface Conversation {
  readonly protocol: Protocol;
  client: Side;
  /** As the server sees itself: known once a packet has reached it. */
  server: Side | null;
  clientSequence: number;
  serverSequence: number;
  opened: boolean;
  port: number;
  macIndex: number;
  /** Frames in the batch that is being made, so that their outcomes can be learnt from. */
  pending: number[];
}

/** What a packet carries beyond its ends. */
interface Contents {
  readonly flags?: string;
  readonly sequence?: number;
  readonly acknowledgement?: number;
}

const PLAIN_VNET: VnetHeader = { flags: 0, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 };

/**
 * `busy`: many short conversations. `steady`: few that live long and seldom end, so that the clock can run past their
 * time-outs while they are in use.
 */
export type Temper = "busy" | "steady";

export class Traffic {
  readonly #random: Random;
  readonly #temper: Temper;
  readonly #conversations: Conversation[] = [];
  #rules: readonly RuleSpec[] = [];
  /** Fragments that are still to come, with the number of frames that go before each. */
  readonly #onTheWay: { frame: FrameIn; wait: number }[] = [];

  constructor(random: Random, temper: Temper) {
    this.#random = random;
    this.#temper = temper;
  }

  /** A batch of frames for the rules as they are now. */
  batch(count: number, rules: readonly RuleSpec[]): FrameIn[] {
    this.#rules = rules;
    for (const conversation of this.#conversations) conversation.pending = [];
    return Array.from({ length: count }, (_, i) => {
      const frame = this.#frame(i);
      return this.#random.chance(0.12) ? mutate(frame, this.#random) : frame;
    });
  }

  /** Lets servers know what reached them. */
  learn(outcomes: readonly Outcome[], ports: ReadonlyMap<number, Port>): void {
    for (const conversation of this.#conversations) {
      for (const index of conversation.pending) {
        const outcome = outcomes[index];
        const sent = outcome?.out[0];
        if (outcome?.verdict !== Verdict.Forward || sent === undefined) continue;
        const packet = packetOf(sent, ports.get(sent.port));
        const transport = packet?.tcp ?? packet?.udp;
        if (packet === null || transport === undefined) continue;
        conversation.server = {
          source: packet.destination,
          sourcePort: transport.destinationPort,
          destination: packet.source,
          destinationPort: transport.sourcePort,
        };
      }
    }
  }

  #frame(index: number): FrameIn {
    const random = this.#random;
    for (const one of this.#onTheWay) one.wait--;
    const next = this.#onTheWay.findIndex(({ wait }) => wait <= 0);
    if (next >= 0) return this.#onTheWay.splice(next, 1)[0]!.frame;
    return random.weighted<FrameIn>([
      [this.#temper === "busy" ? 22 : 2, () => this.#fromClient(this.#opening(), index)],
      [30, () => this.#continue(index)],
      [26, () => this.#answer()],
      [4, () => this.#reuse(index)],
      [3, () => this.#echo()],
      [4, () => this.#tooBig()],
      [4, () => this.#otherIcmp()],
      [3, () => this.#fragments()],
      [4, () => this.#stranger()],
      [1, () => this.#notIp()],
    ]);
  }

  #family(): Family {
    return this.#random.chance(0.5) ? 4 : 6;
  }

  #clientAddress(family: Family): Address {
    const random = this.#random;
    if (random.chance(0.02)) return ip(random.of(MARTIANS[family]));
    if (random.chance(0.03)) return random.of(ofFamily(family, SERVERS));
    if (family === 6 && random.chance(0.03)) return ip(`fe80::${random.between(1, 9)}`);
    const last = random.between(200, 230);
    return ip(
      family === 4 ? `203.0.${random.of([113, 113, 114])}.${last}` : `2001:db8:${random.of([7, 7, 8])}::${last}`,
    );
  }

  #opening(): Conversation {
    const random = this.#random;
    const rule = this.#rules.length === 0 ? null : random.of(this.#rules);
    const offRule = random.chance(0.05);
    const destinationPort =
      rule === null || offRule ? random.between(1, 65535) : random.between(rule.ports.min, rule.ports.max);
    const destination = rule?.vip ?? random.of(VIPS);
    const conversation: Conversation = {
      protocol: rule?.protocol ?? "tcp",
      client: {
        source: this.#clientAddress(destination.family),
        sourcePort: random.chance(0.7) ? random.between(40000, 40010) : random.between(1, 65535),
        destination,
        destinationPort,
      },
      server: null,
      clientSequence: random.of([random.next(), 0xfffffff0]),
      serverSequence: random.of([random.next(), 0xfffffff0]),
      opened: false,
      port: random.of([CLIENT_PORT, CLIENT_PORT, CLIENT_PORT, SERVER_PORT, TUN_PORT]),
      macIndex: random.below(CLIENT_MACS.length),
      pending: [],
    };
    if (this.#conversations.length >= LARGEST_CONVERSATION_COUNT) {
      this.#conversations[random.below(this.#conversations.length)] = conversation;
    } else this.#conversations.push(conversation);
    return conversation;
  }

  #any(): Conversation {
    return this.#conversations.length === 0 ? this.#opening() : this.#random.of(this.#conversations);
  }

  #continue(index: number): FrameIn {
    const conversation = this.#any();
    // Clients move between links now and then.
    if (this.#random.chance(0.02)) conversation.port = this.#random.of([CLIENT_PORT, SERVER_PORT, TUN_PORT]);
    if (this.#random.chance(0.02)) conversation.macIndex = this.#random.below(CLIENT_MACS.length);
    return this.#fromClient(conversation, index);
  }

  /** The same tuple opens again. */
  #reuse(index: number): FrameIn {
    const conversation = this.#any();
    conversation.opened = false;
    conversation.clientSequence = this.#random.next();
    return this.#fromClient(conversation, index);
  }

  #flags(conversation: Conversation): string {
    const random = this.#random;
    if (!conversation.opened) {
      conversation.opened = true;
      return random.chance(0.9) ? "S" : random.of(["A", "PA", "SA", "R", "FA", ""]);
    }
    if (this.#temper === "steady" && !random.chance(0.02)) return random.of(["A", "PA"]);
    return random.of([
      "A",
      "A",
      "A",
      "PA",
      "PA",
      "PA",
      "FA",
      "FA",
      "FA",
      "R",
      "RA",
      "S",
      "SA",
      "FPA",
      "SF",
      "AU",
      "AEC",
      "SEC",
    ]);
  }

  #fromClient(conversation: Conversation, index: number): FrameIn {
    conversation.pending.push(index);
    const flags = this.#flags(conversation);
    const payload = this.#payload();
    const sequence = conversation.clientSequence;
    const acknowledgement = conversation.serverSequence;
    conversation.clientSequence = (sequence + payload.length + (/[SF]/.test(flags) ? 1 : 0)) >>> 0;
    const contents = { flags, sequence, acknowledgement };
    const source = CLIENT_MACS[conversation.macIndex]!;
    return this.#transport(conversation.protocol, conversation.client, payload, contents, conversation.port, source);
  }

  #answer(): FrameIn {
    const answered = this.#conversations.filter((conversation) => conversation.server !== null);
    if (answered.length === 0) return this.#stranger();
    const conversation = this.#random.of(answered);
    const isSteady = this.#temper === "steady" && !this.#random.chance(0.02);
    const flags = this.#random.of(
      isSteady ? ["A", "PA"] : ["SA", "A", "A", "PA", "PA", "FA", "FA", "FA", "RA", "R", "S"],
    );
    const payload = this.#payload();
    const sequence = conversation.serverSequence;
    const acknowledgement = conversation.clientSequence;
    conversation.serverSequence = (sequence + payload.length + (/[SF]/.test(flags) ? 1 : 0)) >>> 0;
    const contents = { flags, sequence, acknowledgement };
    const port = this.#random.of([SERVER_PORT, SERVER_PORT, TUN_PORT]);
    return this.#transport(
      conversation.protocol,
      conversation.server!,
      payload,
      contents,
      port,
      mac("02:0d:00:00:00:01"),
    );
  }

  #payload(): Uint8Array {
    const random = this.#random;
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
  #ttl(): number {
    return this.#random.chance(0.05) ? this.#random.between(0, 3) : this.#random.of([64, 63, 255]);
  }

  #chain(): readonly ExtensionHeader[] {
    return this.#random.chance(0.15) ? this.#random.of(CHAINS) : [];
  }

  #packet(ends: Ends, protocol: number, payload: Uint8Array): Uint8Array {
    const random = this.#random;
    const typeOfService = random.chance(0.1) ? random.below(256) : 0;
    if (ends.destination.family === 6) {
      return ipv6({
        ...ends,
        nextHeader: protocol,
        payload,
        hopLimit: this.#ttl(),
        trafficClass: typeOfService,
        flowLabel: random.chance(0.3) ? random.below(1 << 20) : 0,
        extensions: this.#chain(),
      });
    }
    const options = random.chance(0.04) ? random.of(IP_OPTIONS) : undefined;
    return ipv4({
      ...ends,
      protocol,
      payload,
      ttl: this.#ttl(),
      identification: random.below(65536),
      dontFragment: random.chance(0.6),
      typeOfService,
      ...(options === undefined ? {} : { options }),
      ...(random.chance(0.02) ? { checksum: random.below(65536) } : {}),
    });
  }

  #transport(
    protocol: Protocol,
    side: Side,
    payload: Uint8Array,
    contents: Contents,
    port: number,
    source: Uint8Array,
  ): FrameIn {
    const random = this.#random;
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
    const packet = this.#packet(side, number, segment);
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
    return { ...this.#onLink(packet, port, source), vnet };
  }

  #onLink(packet: Uint8Array, port: number, source: Uint8Array): FrameIn {
    if (port === TUN_PORT) return { bytes: packet, port };
    const minimumBytes = this.#random.chance(0.5) ? 60 : 0;
    const destination = BOX_MACS[port]!;
    const etherType = packet[0]! >> 4 === 6 ? ETHERTYPE_IPV6 : ETHERTYPE_IPV4;
    return { bytes: ethernet({ destination, source, etherType, payload: packet, minimumBytes }), port };
  }

  /** A message in a packet. @param change of the finished message. */
  #icmp(
    source: Address,
    destination: Address,
    spec: IcmpSpec,
    change: (message: Uint8Array) => Uint8Array = (message) => message,
  ): FrameIn {
    const ends = { source, destination };
    const isIpv6 = destination.family === 6;
    const message = change(isIpv6 ? icmp6(spec, ends) : icmp4(spec));
    const packet = this.#packet(ends, isIpv6 ? PROTOCOL_ICMP6 : PROTOCOL_ICMP, message);
    return this.#onLink(packet, this.#random.of([CLIENT_PORT, SERVER_PORT, TUN_PORT]), CLIENT_MACS[0]!);
  }

  #echo(): FrameIn {
    const random = this.#random;
    const destination = random.of([...VIPS, ...PROXIES, ...SERVERS]);
    const code = random.chance(0.05) ? random.below(256) : 0;
    const checksum = random.chance(0.1) ? { checksum: random.below(65536) } : {};
    const spec = {
      type: destination.family === 4 ? 8 : 128,
      code,
      rest: random.next(),
      payload: this.#payload(),
      ...checksum,
    };
    return this.#icmp(this.#clientAddress(destination.family), destination, spec);
  }

  /** What a router would quote of a packet that went from `side.source`. */
  #quote(protocol: Protocol, side: Side): Uint8Array {
    const random = this.#random;
    const payload = random.bytes(40);
    const segment = protocol === "tcp" ? tcp({ ...side, payload }, side) : udp({ ...side, payload }, side);
    const quoted = this.#packet(side, protocol === "tcp" ? PROTOCOL_TCP : PROTOCOL_UDP, segment);
    const headerBytes = quoted.length - segment.length;
    return quoted.subarray(
      0,
      random.of([headerBytes + 8, headerBytes + 8, headerBytes + 18, quoted.length, headerBytes + 7, 12]),
    );
  }

  /** A packet that somebody sent: a VIP to a client, or a proxy address (or a client) to a server. */
  #sent(): { protocol: Protocol; side: Side } {
    const { protocol, client, server } = this.#any();
    const answered = server === null || this.#random.chance(0.6) ? client : server;
    const side: Side = {
      source: answered.destination,
      sourcePort: answered.destinationPort,
      destination: answered.source,
      destinationPort: answered.sourcePort,
    };
    return { protocol, side };
  }

  #tooBig(): FrameIn {
    const random = this.#random;
    const { protocol, side } = this.#sent();
    const { family } = side.source;
    const payload = this.#quote(protocol, side);
    const kind = family === 4 ? { type: 3, code: 4 } : { type: 2, code: random.of([0, 0, 0, 1]) };
    const router = random.chance(0.5)
      ? this.#clientAddress(family)
      : ip(family === 4 ? "203.0.113.77" : "2001:db8:7::77");
    const destination = random.chance(0.9) ? side.source : random.of(ofFamily(family, PROXIES));
    return this.#icmp(router, destination, { ...kind, rest: random.of([1400, 1280, 576, 0]), payload });
  }

  #otherIcmp(): FrameIn {
    const random = this.#random;
    const { protocol, side } = this.#sent();
    const { family } = side.source;
    const type = random.of([...ICMP_TYPES[family], random.below(256)]);
    const code = random.below(4);
    const payload = random.chance(0.8) ? this.#quote(protocol, side) : random.bytes(random.below(40));
    const destination = random.chance(0.6) ? side.source : random.of(ofFamily(family, [...VIPS, ...PROXIES]));
    const cut = random.chance(0.1) ? random.below(8) : null;
    const change = (message: Uint8Array): Uint8Array => (cut === null ? message : message.subarray(0, cut));
    return this.#icmp(this.#clientAddress(family), destination, { type, code, rest: 0, payload }, change);
  }

  /** A datagram or segment in fragments, in order or not, some of them lost, others twice. The first frame now, more later. */
  #fragments(): FrameIn {
    const random = this.#random;
    const { protocol, client, server, port } = random.chance(0.3) ? this.#opening() : this.#any();
    const fromServer = server !== null && random.chance(0.4);
    const side = fromServer ? server : client;
    const payload = random.bytes(random.of([100, 200, 1200, 3000]));
    const contents = { flags: random.of(["A", "PA", "PA", "S", "FA"]), payload };
    const { family } = side.destination;
    const isEcho = random.chance(0.15);
    const echo = { type: family === 4 ? 8 : 128, code: 0, rest: random.next(), payload };
    const ping = family === 4 ? icmp4(echo) : icmp6(echo, side);
    const plain = protocol === "tcp" ? tcp({ ...side, ...contents }, side) : udp({ ...side, payload }, side);
    const segment = isEcho ? ping : plain;
    const usual = protocol === "tcp" ? PROTOCOL_TCP : PROTOCOL_UDP;
    const icmp = family === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMP6;
    const others = [PROTOCOL_ICMP, PROTOCOL_ICMP6, 47, 50];
    const number = isEcho ? icmp : random.chance(0.1) ? random.of(others) : usual;
    // Few numbers, so that packets meet the memory of those before.
    const identification = random.chance(0.7) ? random.below(65536) : random.below(3);
    const size = random.of([124, 580, 1400, 1500]);
    const isTwisted = random.chance(0.5);
    const parts =
      side.destination.family === 4
        ? fragmentIpv4(
            { ...side, protocol: number, payload: segment, ttl: this.#ttl(), identification },
            random.chance(0.2) ? 28 : size,
          )
        : fragmentIpv6(
            { ...side, nextHeader: number, payload: segment, hopLimit: this.#ttl(), extensions: this.#chain() },
            identification,
            size,
          );
    const frames = parts.slice(0, 24).map((part) => {
      const from = random.chance(0.95) ? (fromServer ? SERVER_PORT : port) : TUN_PORT;
      return this.#onLink(part, from, CLIENT_MACS[0]!);
    });
    if (isTwisted) frames.sort(() => random.below(3) - 1);
    const kept = frames.filter(() => !random.chance(0.05));
    if (random.chance(0.1) && kept.length > 0) kept.push(random.of(kept));
    const [first, ...rest] = kept.length === 0 ? frames : kept;
    for (const [i, frame] of rest.entries())
      this.#onTheWay.push({ frame, wait: random.below(3) + i * random.below(4) });
    return first!;
  }

  /** Traffic between addresses that have, or have nothing, to do with us. */
  #stranger(): FrameIn {
    const random = this.#random;
    const family = this.#family();
    const pool = ofFamily(family, [...VIPS, ...SERVERS, ...PROXIES, ...STRANGERS]);
    const interesting = [80, 53, 443, 8080, 5003, 7003, 4096, 13724, 65535, random.between(1, 65535)];
    const side: Side = {
      source: random.of(pool),
      sourcePort: random.of(interesting),
      destination: random.of(pool),
      destinationPort: random.of(interesting),
    };
    const contents = { flags: random.of(["S", "SA", "A", "R"]) };
    return this.#transport(
      random.of(["tcp", "udp"]),
      side,
      this.#payload(),
      contents,
      random.below(3),
      CLIENT_MACS[1]!,
    );
  }

  #notIp(): FrameIn {
    const random = this.#random;
    const destination = BOX_MACS[0]!;
    const source = CLIENT_MACS[0]!;
    return random.weighted<FrameIn>([
      [
        1,
        () => ({
          bytes: ethernet({
            destination,
            source,
            etherType: ETHERTYPE_ARP,
            payload: arpRequest(source, ip("203.0.113.9"), VIPS[0]!),
          }),
          port: CLIENT_PORT,
        }),
      ],
      [1, () => ({ bytes: random.bytes(random.below(80)), port: random.below(3) })],
      [
        1,
        () => ({
          bytes: ethernet({ destination, source, etherType: random.of([0x86dd, 0x88cc]), payload: random.bytes(60) }),
          port: CLIENT_PORT,
        }),
      ],
    ]);
  }
}

const MARTIANS = {
  4: ["0.1.2.3", "127.0.0.1", "224.0.0.5", "255.255.255.255"],
  6: ["::", "::1", "ff02::1", "::ffff:c000:20a"],
} as const;

const STRANGERS: readonly Address[] = [
  ...["203.0.113.250", "192.0.2.99"],
  ...["2001:db8:7::250", "2001:db8:2::99", "fe80::99", "ff02::fb", "::ffff:c633:640a"],
].map(ip);

/** Errors, what answers them, and what keeps links alive. */
const ICMP_TYPES = {
  4: [0, 3, 3, 4, 5, 11, 11, 12, 12, 13, 14, 17],
  6: [1, 1, 2, 3, 3, 4, 4, 129, 130, 131, 132, 133, 134, 135, 136, 137, 139, 143],
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
  Uint8Array.from({ length: 40 }, (_, i) => (i < 39 ? 1 : 0)),
];
