/**
 * Random traffic that forms real conversations: clients open, send, close, reset and come back with the same port;
 * servers answer the packets that really reached them. Around them routers complain, pings come in, strangers pass by,
 * and any frame may be damaged (mutate.ts).
 */
import type { FrameIn, Outcome, Port, VnetHeader } from "../../src/engine/engine.ts";
import { Verdict } from "../../src/gen/layout.ts";
import type { Address } from "../../src/model/address.ts";
import type { Protocol } from "../../src/model/config.ts";
import { ip, mac } from "../support/addresses.ts";
import type { RuleSpec } from "../support/image-builder.ts";
import {
  arpRequest,
  type ChecksumChoice,
  concat,
  type Ends,
  ETHERTYPE_ARP,
  ETHERTYPE_IPV4,
  ethernet,
  fragmentIpv4,
  type Ipv4Spec,
  icmp4,
  ipv4,
  PROTOCOL_ICMP,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  tcp,
  udp,
} from "../support/packet-builder.ts";
import type { Random } from "../support/random.ts";
import { mutate } from "./mutate.ts";
import { packetOf } from "./output-check.ts";
import { CLIENT_PORT, PROXIES, SERVER_PORT, SERVERS, TUN_PORT, VIPS } from "./world.ts";

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
    return random.weighted<FrameIn>([
      [this.#temper === "busy" ? 22 : 2, () => this.#fromClient(this.#opening(), index)],
      [30, () => this.#continue(index)],
      [26, () => this.#answer()],
      [4, () => this.#reuse(index)],
      [3, () => this.#echo()],
      [4, () => this.#tooBig()],
      [2, () => this.#otherIcmp()],
      [2, () => this.#fragment()],
      [4, () => this.#stranger()],
      [1, () => this.#notIp()],
    ]);
  }

  #clientAddress(): Address {
    const random = this.#random;
    if (random.chance(0.02)) return random.of(["0.1.2.3", "127.0.0.1", "224.0.0.5", "255.255.255.255"].map(ip));
    if (random.chance(0.03)) return random.of(SERVERS);
    return ip(`203.0.${random.of([113, 113, 114])}.${random.between(200, 230)}`);
  }

  #opening(): Conversation {
    const random = this.#random;
    const rule = this.#rules.length === 0 ? null : random.of(this.#rules);
    const offRule = random.chance(0.05);
    const destinationPort =
      rule === null || offRule ? random.between(1, 65535) : random.between(rule.ports.min, rule.ports.max);
    const conversation: Conversation = {
      protocol: rule?.protocol ?? "tcp",
      client: {
        source: this.#clientAddress(),
        sourcePort: random.chance(0.7) ? random.between(40000, 40010) : random.between(1, 65535),
        destination: rule?.vip ?? random.of(VIPS),
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
    return Uint8Array.from({ length: size }, (_, i) => start + i * step);
  }

  #ipSpec(ends: Ends, protocol: number, payload: Uint8Array): Ipv4Spec {
    const random = this.#random;
    const options = random.chance(0.04) ? random.of(IP_OPTIONS) : undefined;
    return {
      source: ends.source,
      destination: ends.destination,
      protocol,
      payload,
      ttl: random.chance(0.05) ? random.between(0, 3) : random.of([64, 63, 255]),
      identification: random.below(65536),
      dontFragment: random.chance(0.6),
      typeOfService: random.chance(0.1) ? random.below(256) : 0,
      ...(options === undefined ? {} : { options }),
      ...(random.chance(0.02) ? { checksum: random.below(65536) } : {}),
    };
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
    const packet = ipv4(this.#ipSpec(side, number, segment));
    const linkBytes = port === TUN_PORT ? 0 : 14;
    const headerBytes = (packet[0]! & 15) * 4;
    const transportBytes = protocol === "tcp" ? 20 + options.length : 8;
    const vnet: VnetHeader = partial
      ? {
          flags: 1,
          gsoType: superPacket ? (protocol === "tcp" ? random.of([1, 1, 0x81]) : 5) : 0,
          hdrLen: superPacket ? linkBytes + headerBytes + transportBytes : 0,
          gsoSize: superPacket
            ? random.of([1400, 1500, 580]) - headerBytes - transportBytes + random.between(-2, 2)
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
    return { bytes: ethernet({ destination, source, etherType: ETHERTYPE_IPV4, payload: packet, minimumBytes }), port };
  }

  #icmp(source: Address, destination: Address, message: Uint8Array): FrameIn {
    const packet = ipv4(this.#ipSpec({ source, destination }, PROTOCOL_ICMP, message));
    return this.#onLink(packet, this.#random.of([CLIENT_PORT, SERVER_PORT, TUN_PORT]), CLIENT_MACS[0]!);
  }

  #echo(): FrameIn {
    const random = this.#random;
    const code = random.chance(0.05) ? random.below(256) : 0;
    const checksum = random.chance(0.1) ? { checksum: random.below(65536) } : {};
    const message = icmp4({ type: 8, code, rest: random.next(), payload: this.#payload(), ...checksum });
    return this.#icmp(this.#clientAddress(), random.of([...VIPS, ...PROXIES, ...SERVERS]), message);
  }

  /** What a router between a client and the box would quote: the packet as the VIP sent it. */
  #quote(): Uint8Array {
    const random = this.#random;
    const { protocol, client } = this.#any();
    const ends: Ends = { source: client.destination, destination: client.source };
    const ports = { sourcePort: client.destinationPort, destinationPort: client.sourcePort };
    const payload = random.bytes(40);
    const segment = protocol === "tcp" ? tcp({ ...ports, payload }, ends) : udp({ ...ports, payload }, ends);
    const quoted = ipv4(this.#ipSpec(ends, protocol === "tcp" ? PROTOCOL_TCP : PROTOCOL_UDP, segment));
    const headerBytes = (quoted[0]! & 15) * 4;
    return quoted.subarray(
      0,
      random.of([headerBytes + 8, headerBytes + 8, headerBytes + 18, quoted.length, headerBytes + 7, 12]),
    );
  }

  #tooBig(): FrameIn {
    const random = this.#random;
    const { client } = this.#any();
    const message = icmp4({ type: 3, code: 4, rest: random.of([1400, 576, 0]), payload: this.#quote() });
    const router = random.chance(0.5) ? this.#clientAddress() : ip("203.0.113.77");
    return this.#icmp(router, random.chance(0.9) ? client.destination : random.of(PROXIES), message);
  }

  #otherIcmp(): FrameIn {
    const random = this.#random;
    const type = random.of([0, 3, 4, 5, 11, 12, 13, 14, 17, random.below(256)]);
    const code = random.below(4);
    const payload = random.chance(0.7) ? this.#quote() : random.bytes(random.below(40));
    const message = icmp4({ type, code, rest: 0, payload });
    const cut = random.chance(0.1) ? message.subarray(0, random.below(8)) : message;
    return this.#icmp(this.#clientAddress(), random.of([...VIPS, ...PROXIES]), cut);
  }

  #fragment(): FrameIn {
    const random = this.#random;
    const { protocol, client, server } = this.#any();
    const side = server !== null && random.chance(0.5) ? server : client;
    const ports = { sourcePort: side.sourcePort, destinationPort: side.destinationPort };
    const payload = random.bytes(200);
    const segment = protocol === "tcp" ? tcp({ ...ports, payload }, side) : udp({ ...ports, payload }, side);
    const number = random.chance(0.1) ? random.of([1, 47, 50]) : protocol === "tcp" ? PROTOCOL_TCP : PROTOCOL_UDP;
    const whole = { ...this.#ipSpec(side, number, segment), dontFragment: false };
    const { options: _, ...spec } = whole;
    return this.#onLink(random.of(fragmentIpv4(spec, random.of([28, 84, 124]))), CLIENT_PORT, CLIENT_MACS[0]!);
  }

  /** Traffic between addresses that have, or have nothing, to do with us. */
  #stranger(): FrameIn {
    const random = this.#random;
    const pool = [...VIPS, ...SERVERS, ...PROXIES, ip("203.0.113.250"), ip("192.0.2.99")];
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
          bytes: ethernet({ destination, source, etherType: 0x86dd, payload: random.bytes(60) }),
          port: CLIENT_PORT,
        }),
      ],
    ]);
  }
}

/** Router alert (copied), record route (not copied), no operation, end of list, a broken length. */
const IP_OPTIONS: readonly Uint8Array[] = [
  Uint8Array.of(0x94, 4, 0, 0),
  Uint8Array.of(7, 7, 4, 0, 0, 0, 0),
  Uint8Array.of(1, 1, 0x94, 4, 0, 0, 0, 0),
  Uint8Array.of(1, 0, 0, 0),
  Uint8Array.of(0x88, 0, 1, 2),
  Uint8Array.from({ length: 40 }, (_, i) => (i < 39 ? 1 : 0)),
];
