import type { EngineLimits, Outcome, PairCounters, RuleCounters } from "../../../src/engine/engine.ts";
import { addressText, ip } from "../../support/addresses.ts";
import {
  answerTo,
  arriving,
  type Bench,
  CLIENT,
  onlyPacket,
  SERVER_SIDE,
  SERVERS,
  tcpPacket,
  VIP,
} from "../../support/engine-bench.ts";
import { membersOf, type RuleSpec } from "../../support/image-builder.ts";
import { icmp4, ipv4, PROTOCOL_ICMP } from "../../support/packet-builder.ts";
import type { Decoded } from "../../support/packet-decoder.ts";

export type MakeBench = (rules: readonly RuleSpec[], limits?: Partial<EngineLimits>) => Bench;

export const server = (packet: Decoded): string => addressText(packet.destination);
/** Opens one flow per client port from 40000 on and names the servers that the packets went to. */
export function serversOf(world: Bench, count: number, first = 40000): string[] {
  return Array.from({ length: count }, (_, i) => {
    const outcome = world.send(arriving(tcpPacket({ sourcePort: first + i })));
    return server(onlyPacket(outcome));
  });
}
export const ruleCounters = (world: Bench, id = 1): RuleCounters =>
  world.engine.counters().rules.find((one) => one.ruleId === id)!;
export function pairCounters(world: Bench, serverId: number, ruleId = 1): PairCounters {
  const found = world.engine.counters().pairs.find((one) => one.ruleId === ruleId && one.serverId === serverId);
  return found ?? { ruleId, serverId, packets: 0n, bytes: 0n, flows: 0 };
}
export const reasonOf = ({ verdict, reason }: Outcome): readonly number[] => [verdict, reason];
export const one = membersOf(SERVERS.slice(0, 1));

/** Opens a connection and answers it. */
export function established(world: Bench): {
  request: Decoded;
  fromServer: (spec: Parameters<typeof answerTo>[1]) => Outcome;
} {
  const request = onlyPacket(world.send(arriving(tcpPacket({ sequence: 100 }))));
  const fromServer = (spec: Parameters<typeof answerTo>[1]): Outcome =>
    world.send(arriving(answerTo(request, spec), SERVER_SIDE));
  fromServer({ flags: "SA", sequence: 500, acknowledgement: 101 });
  return { request, fromServer };
}
export const isOpen = (world: Bench): boolean => world.engine.flows().length > 0;

export const icmpPacket = (message: Uint8Array, spec: { from?: string; to?: string; ttl?: number } = {}): Uint8Array =>
  ipv4({
    source: ip(spec.from ?? "203.0.113.200"),
    destination: spec.to === undefined ? VIP : ip(spec.to),
    protocol: PROTOCOL_ICMP,
    payload: message,
    ...(spec.ttl === undefined ? {} : { ttl: spec.ttl }),
  });

/** Fragmentation needed about a packet that VIP port 80 sent to the client. */
export function tooBig(quotedBytes = 48): Uint8Array {
  const ends = { from: VIP, to: CLIENT, sourcePort: 80, destinationPort: 40000 };
  const quoted = tcpPacket({ ...ends, flags: "PA", payload: new Uint8Array(1400), ipv4: { dontFragment: true } });
  return icmpPacket(icmp4({ type: 3, code: 4, rest: 1400, payload: quoted.subarray(0, quotedBytes) }), {
    from: "203.0.113.77",
  });
}
