/**
 * Random traffic that forms real conversations: clients open, send, close, reset and come back with the same port;
 * servers answer the packets that really reached them. Around them routers complain, pings come in, strangers pass by,
 * and any frame may be damaged (mutate.ts). The packets themselves are made in packet-maker.ts and the files beside it.
 */
import type { FrameIn, Outcome, Port } from "../../src/engine/engine.ts";
import { Verdict } from "../../src/gen/layout.ts";
import type { Protocol } from "../../src/model/config.ts";
import { mac } from "../support/addresses.ts";
import type { RuleSpec } from "../support/image-builder.ts";
import type { Random } from "../support/random.ts";
import { fragments } from "./fragment-traffic.ts";
import { echo, otherIcmp, type Sent, tooBig } from "./icmp-traffic.ts";
import { mutate } from "./mutate.ts";
import { notIp, stranger } from "./noise.ts";
import { packetOf } from "./output-check.ts";
import { clientMac, PacketMaker, type Side } from "./packet-maker.ts";
import { CLIENT_PORT, SERVER_PORT, TUN_PORT, VIPS } from "./world.ts";

/** How many conversations go on at once at most, and how many MAC addresses clients come from. */
const CROWDS: Readonly<Record<Temper, { readonly conversations: number; readonly macs: number }>> = {
  busy: { conversations: 60, macs: 2 },
  steady: { conversations: 60, macs: 2 },
  crowded: { conversations: 5_000, macs: 400 },
};

/** How likely an opening is, beside the weights of #frame. */
const OPENINGS: Readonly<Record<Temper, number>> = { busy: 22, steady: 2, crowded: 120 };

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

/**
 * `busy`: many short conversations. `steady`: few that live long and seldom end, so that the clock can run past their
 * time-outs while they are in use. `crowded`: so many that tables fill up.
 */
export type Temper = "busy" | "steady" | "crowded";

export class Traffic {
  readonly #random: Random;
  readonly #make: PacketMaker;
  readonly #temper: Temper;
  /** How likely the first packet of a conversation opens it; after a restart of the box many are of older ones. */
  readonly #opensFirst: number;
  readonly #conversations: Conversation[] = [];
  #rules: readonly RuleSpec[] = [];
  /** Fragments that are still to come, with the number of frames that go before each. */
  readonly #onTheWay: { frame: FrameIn; wait: number }[] = [];

  constructor(random: Random, temper: Temper) {
    this.#random = random;
    this.#make = new PacketMaker(random);
    this.#temper = temper;
    this.#opensFirst = random.of([0.9, 0.9, 0.5]);
  }

  /** A batch of frames for the rules as they are now. */
  batch(count: number, rules: readonly RuleSpec[]): FrameIn[] {
    this.#rules = rules;
    for (const conversation of this.#conversations) conversation.pending = [];
    // Now and then a whole batch has run out of hops, so that the box runs out of errors to send.
    this.#make.hasFewHops = this.#random.chance(0.004);
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
      [OPENINGS[this.#temper], () => this.#fromClient(this.#opening(), index)],
      [30, () => this.#continue(index)],
      [26, () => this.#answer()],
      [4, () => this.#reuse(index)],
      [3, () => echo(this.#make)],
      [4, () => tooBig(this.#make, this.#sent())],
      [4, () => otherIcmp(this.#make, this.#sent())],
      [3, () => this.#fragments()],
      [4, () => stranger(this.#make)],
      [1, () => notIp(this.#make)],
    ]);
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
        source: this.#make.clientAddress(destination.family),
        sourcePort: random.chance(0.7) ? random.between(40000, 40010) : random.between(1, 65535),
        destination,
        destinationPort,
      },
      server: null,
      clientSequence: random.of([random.next(), 0xfffffff0]),
      serverSequence: random.of([random.next(), 0xfffffff0]),
      opened: false,
      port: random.of([CLIENT_PORT, CLIENT_PORT, CLIENT_PORT, SERVER_PORT, TUN_PORT]),
      macIndex: random.below(CROWDS[this.#temper].macs),
      pending: [],
    };
    if (this.#conversations.length >= CROWDS[this.#temper].conversations) {
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
    if (this.#random.chance(0.02)) conversation.macIndex = this.#random.below(CROWDS[this.#temper].macs);
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
      return random.chance(this.#opensFirst) ? "S" : random.of(["A", "PA", "SA", "R", "FA", ""]);
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
    const payload = this.#make.payload();
    const sequence = conversation.clientSequence;
    const acknowledgement = conversation.serverSequence;
    conversation.clientSequence = (sequence + payload.length + (/[SF]/.test(flags) ? 1 : 0)) >>> 0;
    const contents = { flags, sequence, acknowledgement };
    const source = clientMac(conversation.macIndex);
    return this.#make.transport(
      conversation.protocol,
      conversation.client,
      payload,
      contents,
      conversation.port,
      source,
    );
  }

  #answer(): FrameIn {
    const answered = this.#conversations.filter((conversation) => conversation.server !== null);
    if (answered.length === 0) return stranger(this.#make);
    const conversation = this.#random.of(answered);
    const isSteady = this.#temper === "steady" && !this.#random.chance(0.02);
    const flags = this.#random.of(
      isSteady ? ["A", "PA"] : ["SA", "A", "A", "PA", "PA", "FA", "FA", "FA", "RA", "R", "S"],
    );
    const payload = this.#make.payload();
    const sequence = conversation.serverSequence;
    const acknowledgement = conversation.clientSequence;
    conversation.serverSequence = (sequence + payload.length + (/[SF]/.test(flags) ? 1 : 0)) >>> 0;
    const contents = { flags, sequence, acknowledgement };
    const port = this.#random.of([SERVER_PORT, SERVER_PORT, TUN_PORT]);
    return this.#make.transport(
      conversation.protocol,
      conversation.server!,
      payload,
      contents,
      port,
      mac("02:0d:00:00:00:01"),
    );
  }

  /** A packet that somebody sent: a VIP to a client, or a proxy address (or a client) to a server. */
  #sent(): Sent {
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

  /** The first fragment now, more later. */
  #fragments(): FrameIn {
    const random = this.#random;
    const { protocol, client, server, port } = random.chance(0.3) ? this.#opening() : this.#any();
    const fromServer = server !== null && random.chance(0.4);
    const frames = fragments(this.#make, protocol, fromServer ? server : client).map((part) => {
      const from = random.chance(0.95) ? (fromServer ? SERVER_PORT : port) : TUN_PORT;
      return this.#make.onLink(part, from, clientMac(0));
    });
    for (const [i, frame] of frames.slice(1).entries())
      this.#onTheWay.push({ frame, wait: random.below(3) + i * random.below(4) });
    return frames[0]!;
  }
}
