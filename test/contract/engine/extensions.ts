/** Engine contract: IPv6 headers: extension headers in either mode, addresses that nobody balances, what stays untouched. */
import { expect, test } from "bun:test";
import { Reason, Verdict } from "../../../src/gen/layout.ts";
import { ip as parse } from "../../support/addresses.ts";
import { arriving, CLIENT_SIDE, onlyPacket, SERVER_SIDE } from "../../support/engine-bench.ts";
import {
  authenticationExtension,
  type ExtensionHeader,
  fragmentExtension,
  optionsExtension,
  routingExtension,
} from "../../support/packet-builder.ts";
import { decodeEthernet, transportChecksumState } from "../../support/packet-decoder.ts";

import { type Ground, reasonOf, ruleCounters } from "./ground.ts";

const HOP_BY_HOP = optionsExtension(0);
const DESTINATION = optionsExtension(60);
const many = (count: number): ExtensionHeader[] => new Array<ExtensionHeader>(count).fill(DESTINATION);

export function extensions(ground: Ground): void {
  if (ground.family === 4) return;
  const { bench, benchIlb, ruleOf, tcpPacket, icmpPacket, server, ip, VIP, SERVERS, one } = ground;
  const withChain = (...extensions: ExtensionHeader[]): Uint8Array => tcpPacket({ ipv6: { extensions } });

  test("ILB-174 behind a hop-by-hop header TCP is balanced in both modes, and the header stays", () => {
    for (const world of [bench([ruleOf({ type: "NAT", members: one })]), benchIlb([ruleOf({ members: one })])]) {
      const packet = onlyPacket(world.send(arriving(withChain(HOP_BY_HOP))));
      expect([server(packet), transportChecksumState(packet), packet.ttl]).toEqual(["192.0.2.10", "good", 63]);
      expect([...packet.options]).toEqual([6, ...HOP_BY_HOP.body]);
    }
  });

  test.each([
    ["a fragment header", [fragmentExtension(0, true, 1)], 1n],
    ["the header of an atomic fragment", [fragmentExtension(0, false, 1)], 0n],
    ["the fragment header of a later fragment", [fragmentExtension(1, false, 1)], 1n],
    ["a routing header", [routingExtension(0)], 0n],
    ["destination options", [DESTINATION], 0n],
    ["two hop-by-hop headers", [HOP_BY_HOP, HOP_BY_HOP], 0n],
  ] as const)("ILB-173 --compat ilb passes a packet with %s to the kernel", (_, chain, fragmentsIn) => {
    const world = benchIlb([ruleOf({ members: one })]);
    expect(reasonOf(world.send(arriving(withChain(...chain))))).toEqual([Verdict.Pass, Reason.ExtensionHeader]);
    expect(world.engine.counters()).toMatchObject({ fragmentsIn, fragmentsDropped: 0n });
    const elsewhere = tcpPacket({ to: ip("203.0.113.9"), ipv6: { extensions: chain } });
    expect(world.send(arriving(elsewhere)).verdict).toBe(Verdict.Ignore);
  });

  test.each([
    ["destination options", [DESTINATION]],
    ["a routing header whose route has been gone", [routingExtension(0)]],
    ["an atomic fragment", [fragmentExtension(0, false, 1)]],
    ["eight headers", many(8)],
    ["512 bytes of headers", [optionsExtension(60, 64)]],
  ] as const)("modern balances a packet with %s", (_, chain) => {
    const world = bench([ruleOf({ type: "NAT", members: one })]);
    const packet = onlyPacket(world.send(arriving(withChain(...chain))));
    expect([server(packet), transportChecksumState(packet)]).toEqual(["192.0.2.10", "good"]);
  });

  test.each([
    ["an authentication header, which nobody else can sign", [authenticationExtension()]],
    ["a route that it still has to go", [routingExtension(1)]],
  ] as const)("modern passes a packet with %s", (_, chain) => {
    const world = bench([ruleOf()]);
    expect(reasonOf(world.send(arriving(withChain(...chain))))).toEqual([Verdict.Pass, Reason.ExtensionHeader]);
    const fromServer = {
      from: SERVERS[0]!.address,
      sourcePort: 80,
      to: ip("203.0.113.9"),
      ipv6: { extensions: chain },
    };
    expect(world.send(arriving(tcpPacket(fromServer), SERVER_SIDE)).reason).toBe(Reason.ExtensionHeader);
  });

  test.each([
    ["nine headers", many(9)],
    ["more than 512 bytes of headers", [HOP_BY_HOP, optionsExtension(60, 64)]],
    // Both faults at once: what comes first in the walk decides.
    [
      "more than 512 bytes with a second fragment header",
      [fragmentExtension(0, false, 1), optionsExtension(60, 63), fragmentExtension(0, false, 1)],
    ],
  ] as const)("%s are dropped when they come to a VIP, and nobody's otherwise", (_, chain) => {
    for (const world of [bench([ruleOf()]), benchIlb([ruleOf()])]) {
      expect(reasonOf(world.send(arriving(withChain(...chain))))).toEqual([Verdict.Drop, Reason.HeaderChain]);
      const elsewhere = tcpPacket({ to: ip("203.0.113.9"), ipv6: { extensions: chain } });
      expect(world.send(arriving(elsewhere)).reason).toBe(Reason.Unguarded);
    }
  });

  test("a header that goes beyond the packet, and a second fragment header, are malformed", () => {
    const world = bench([ruleOf()]);
    const tooLong = withChain(DESTINATION);
    tooLong[41] = 200;
    const twice = withChain(fragmentExtension(0, false, 1), fragmentExtension(0, false, 1));
    for (const packet of [tooLong, twice, withChain(DESTINATION).subarray(0, 39)]) {
      expect(reasonOf(world.send(arriving(packet)))).toEqual([Verdict.Drop, Reason.MalformedIp]);
    }
  });

  test("E.1 traffic class and flow label stay", () => {
    const world = bench([ruleOf({ members: one })]);
    const outcome = world.send(arriving(tcpPacket({ ipv6: { trafficClass: 0xb8, flowLabel: 0x12345 } })));
    expect([...decodeEthernet(outcome.out[0]!.bytes).payload.subarray(0, 4)]).toEqual([0x6b, 0x81, 0x23, 0x45]);
  });

  test("E.1 link-local and multicast destinations are never balanced, whatever a rule says", () => {
    for (const vip of ["fe80::1", "ff02::1"].map(parse)) {
      const world = bench([ruleOf({ vip })]);
      expect(world.send(arriving(tcpPacket({ to: vip }))).verdict).toBe(Verdict.Ignore);
      expect(world.send(arriving(icmpPacket({ type: 128 }, { to: vip }))).verdict).toBe(Verdict.Ignore);
    }
  });

  test("a client with a link-local address is served", () => {
    const world = bench([ruleOf({ members: one })]);
    expect(world.send(arriving(tcpPacket({ from: parse("fe80::9") }))).reason).toBe(Reason.FlowNew);
  });

  test("ICMP of IPv4 over IPv6 is nobody's", () => {
    const world = bench([ruleOf()]);
    const packet = icmpPacket({ type: 8 });
    packet[6] = 1;
    expect(world.send(arriving(packet)).reason).toBe(Reason.Unguarded);
    expect(ruleCounters(world).icmpDropped).toBe(0n);
  });

  test("a checksum that the device is to make is found behind extension headers", () => {
    const world = bench([ruleOf({ type: "NAT", members: one })]);
    const vnet = { flags: 1, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 14 + 40 + 8, csumOffset: 16 };
    const packet = tcpPacket({ checksum: "partial", to: VIP, ipv6: { extensions: [HOP_BY_HOP] } });
    const outcome = world.send(arriving(packet, CLIENT_SIDE, vnet));
    expect(transportChecksumState(onlyPacket(outcome), true)).toBe("partial");
    expect(outcome.out[0]!.vnet).toEqual(vnet);
    const atFixedHeader = { ...vnet, csumStart: 14 + 40 };
    expect(world.send(arriving(packet, CLIENT_SIDE, atFixedHeader)).reason).toBe(Reason.MalformedOffload);
  });
}
