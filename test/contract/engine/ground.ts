/**
 * What the contract cases stand on: the small world of engine-bench.ts in one address family. Hosts are called by their
 * IPv4 address in both; in IPv6 the host 192.0.2.10 has the address 2001:db8::192.0.2.10, which is hashed alike.
 */
import { test } from "bun:test";
import {
  type Compat,
  type EngineLimits,
  type Outcome,
  type PacketEngine,
  type PairCounters,
  type RuleCounters,
  zeroPairCounters,
} from "../../../src/engine/engine.ts";
import type { Address, Family } from "../../../src/model/address.ts";
import { addressText, ip as parse } from "../../support/addresses.ts";
import {
  type AnswerFields,
  address6Of,
  answerTo,
  arriving,
  Bench,
  type HeaderFields,
  onlyPacket,
  ipPacket as plainIpPacket,
  ruleOf as plainRuleOf,
  tcpPacket as plainTcpPacket,
  udpPacket as plainUdpPacket,
  SERVER_SIDE,
  SERVERS as SERVERS4,
  type TcpPacket,
  type UdpPacket,
} from "../../support/engine-bench.ts";
import { type MemberSpec, membersOf, type RuleSpec, type ServerSpec } from "../../support/image-builder.ts";
import { type IcmpSpec, icmp4, icmp6, PROTOCOL_ICMP, PROTOCOL_ICMP6 } from "../../support/packet-builder.ts";
import type { Decoded } from "../../support/packet-decoder.ts";

/** Room for a flow of each of the 61438 ports of a proxy address, and for some more. */
export const MORE_FLOWS_THAN_PORTS = 70_000;

export type MakeEngine = (limits: Partial<EngineLimits>, compat: Compat) => PacketEngine;

/** Numbers of messages that both families know under different ones (RFC 792, RFC 4443). */
const ICMP_NUMBERS = {
  4: {
    protocol: PROTOCOL_ICMP,
    echo: 8,
    echoReply: 0,
    tooBig: [3, 4],
    portUnreachable: [3, 3],
    timeExceeded: [11, 0],
    parameter: [12, 0],
  },
  6: {
    protocol: PROTOCOL_ICMP6,
    echo: 128,
    echoReply: 129,
    tooBig: [2, 0],
    portUnreachable: [1, 4],
    timeExceeded: [3, 0],
    parameter: [4, 0],
  },
} as const;

/** One connection that has been opened and answered. */
export interface Established {
  readonly request: Decoded;
  readonly fromServer: (spec: AnswerFields) => Outcome;
}

export class Ground {
  readonly family: Family;
  readonly numbers: (typeof ICMP_NUMBERS)[Family];
  readonly VIP: Address;
  readonly CLIENT: Address;
  readonly PROXY: Address;
  /** An address of a router on the clients' side. */
  readonly ROUTER: Address;
  readonly SERVERS: readonly ServerSpec[];
  /** The first server alone. */
  readonly one: readonly MemberSpec[];
  /** Bytes of an IP header without options or extensions. */
  readonly headerBytes: number;
  /** Where TTL or hop limit stands in it. */
  readonly ttlAt: number;
  /** The engine is one worker: round robin has one turn, and all proxy ports and held fragments are in one place. */
  readonly isWhole: boolean;
  /** `test`, or nothing where the case is about an engine of one worker. */
  readonly testWhole: (name: string, run: () => void) => void;
  readonly #make: MakeEngine;

  constructor(family: Family, make: MakeEngine, isWhole = true) {
    this.family = family;
    this.isWhole = isWhole;
    this.testWhole = isWhole ? test : () => undefined;
    this.#make = make;
    this.numbers = ICMP_NUMBERS[family];
    this.headerBytes = family === 4 ? 20 : 40;
    this.ttlAt = family === 4 ? 8 : 7;
    this.VIP = this.ip("198.51.100.10");
    this.CLIENT = this.ip("203.0.113.200");
    this.PROXY = this.ip("203.0.113.1");
    this.ROUTER = this.ip("203.0.113.77");
    this.SERVERS = SERVERS4.map((server) => ({ ...server, address: this.#own(server.address) }));
    this.one = membersOf(this.SERVERS.slice(0, 1));
  }

  #own(address: Address): Address {
    return this.family === 4 ? address : address6Of(address);
  }

  /** The address of a host, called by its IPv4 address. */
  ip = (host: string): Address => this.#own(parse(host));

  /** The name of a host; an address that is none of the world's is spelled out. */
  host = (address: Address): string => {
    const short: Address = { family: 4, value: address.value & 0xffffffffn };
    const isOwn = address.family === this.family && this.#own(short).value === address.value;
    return isOwn ? addressText(short) : addressText(address);
  };

  /** A prefix length of an IPv4 address, as long as covers the same hosts here. */
  mask = (bits: number): number => (this.family === 4 ? bits : 96 + bits);

  /** A fresh engine in the small world. */
  bench = (rules: readonly RuleSpec[], limits: Partial<EngineLimits> = {}, compat: Compat = "modern"): Bench =>
    new Bench(this.#make(limits, compat), rules);

  /** The same in mode `ilb`. */
  benchIlb = (rules: readonly RuleSpec[]): Bench => this.bench(rules, {}, "ilb");

  ruleOf = (changes: Partial<RuleSpec> = {}): RuleSpec => {
    const proxySource = changes.type === "NAT" ? { first: this.PROXY, last: this.PROXY } : null;
    return plainRuleOf({ vip: this.VIP, proxySource, members: membersOf(this.SERVERS), ...changes });
  };

  tcpPacket = (spec: TcpPacket = {}): Uint8Array => plainTcpPacket({ from: this.CLIENT, to: this.VIP, ...spec });
  udpPacket = (spec: UdpPacket = {}): Uint8Array => plainUdpPacket({ from: this.CLIENT, to: this.VIP, ...spec });

  /** An ICMP or ICMPv6 message, by default from the client to the VIP. `raw` changes the finished message. */
  icmpPacket = (
    message: IcmpSpec,
    fields: HeaderFields = {},
    raw: (bytes: Uint8Array) => Uint8Array = (bytes) => bytes,
  ): Uint8Array => {
    const ends = { from: this.CLIENT, to: this.VIP, ...fields };
    const bytes = this.family === 4 ? icmp4(message) : icmp6(message, { source: ends.from, destination: ends.to });
    return plainIpPacket(ends, this.numbers.protocol, raw(bytes));
  };

  /** A packet that VIP port 80 sent to the client, as a router may quote it. */
  sentByVip = (payloadBytes = 200): Uint8Array =>
    this.tcpPacket({
      from: this.VIP,
      to: this.CLIENT,
      sourcePort: 80,
      destinationPort: 40000,
      flags: "PA",
      payload: new Uint8Array(payloadBytes),
      ipv4: { dontFragment: true },
    });

  /** Fragmentation needed or packet too big about sentByVip(). @param quotedBytes of transport header and data. */
  tooBig = (quotedBytes = 28): Uint8Array => {
    const [type, code] = this.numbers.tooBig;
    const payload = this.sentByVip(1400).subarray(0, this.headerBytes + quotedBytes);
    return this.icmpPacket({ type, code, rest: 1400, payload }, { from: this.ROUTER });
  };

  /** The name of the host that a packet is for. */
  server = (packet: Decoded): string => this.host(packet.destination);

  /** Opens one flow per client port from `first` on and names the servers that the packets went to. */
  serversOf = (world: Bench, count: number, first = 40000): string[] =>
    Array.from({ length: count }, (_, i) => {
      const outcome = world.send(arriving(this.tcpPacket({ sourcePort: first + i })));
      return this.server(onlyPacket(outcome));
    });

  /** Opens a connection and answers it. */
  established = (world: Bench): Established => {
    const request = onlyPacket(world.send(arriving(this.tcpPacket({ sequence: 100 }))));
    const fromServer = (spec: AnswerFields): Outcome => world.send(arriving(answerTo(request, spec), SERVER_SIDE));
    fromServer({ flags: "SA", sequence: 500, acknowledgement: 101 });
    return { request, fromServer };
  };
}

export const ruleCounters = (world: Bench, id = 1): RuleCounters =>
  world.engine.counters().rules.find((one) => one.ruleId === id)!;

export function pairCounters(world: Bench, serverId: number, ruleId = 1): PairCounters {
  const found = world.engine.counters().pairs.find((one) => one.ruleId === ruleId && one.serverId === serverId);
  return found ?? zeroPairCounters(ruleId, serverId);
}

export const reasonOf = ({ verdict, reason }: Outcome): readonly number[] => [verdict, reason];
export const isOpen = (world: Bench): boolean => world.engine.flows().length > 0;
