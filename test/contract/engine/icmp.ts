/** Engine contract: ICMP to a VIP. */
import { expect, test } from "bun:test";
import { Reason, Verdict } from "../../../src/gen/layout.ts";

import { arriving, BOX_MACS, CLIENT_MAC, CLIENT_SIDE, onlyPacket, TUN } from "../../support/engine-bench.ts";
import { onePort } from "../../support/image-builder.ts";
import { decodeEthernet, decodeIp, faults, headerChecksumState } from "../../support/packet-decoder.ts";

import { type Ground, isOpen, pairCounters, reasonOf, ruleCounters } from "./ground.ts";

export function icmp(ground: Ground): void {
  const { family, numbers, host, bench, ruleOf, tcpPacket, icmpPacket, tooBig, server } = ground;
  const { VIP, CLIENT, PROXY, ROUTER, one } = ground;
  const [tooBigType, tooBigCode] = numbers.tooBig;

  test("ILB-175 an echo request to a VIP is answered from the VIP with TTL or hop limit 64", () => {
    const world = bench([ruleOf({ enabled: false })]);
    const request = { type: numbers.echo, rest: 0x00070001, payload: Uint8Array.of(1, 2, 3) };
    const outcome = world.send(arriving(icmpPacket(request, { ttl: 1 })));
    expect(reasonOf(outcome)).toEqual([Verdict.Reply, Reason.EchoAnswered]);
    const reply = onlyPacket(outcome);
    expect([host(reply.source), host(reply.destination), reply.ttl]).toEqual([host(VIP), host(CLIENT), 64]);
    expect(reply.icmp).toMatchObject({ ...request, type: numbers.echoReply, code: 0 });
    expect(faults(decodeEthernet(outcome.out[0]!.bytes).payload)).toEqual([]);
    expect(decodeEthernet(outcome.out[0]!.bytes)).toMatchObject({ destination: CLIENT_MAC, source: BOX_MACS[0] });
    expect(ruleCounters(world)).toMatchObject({ icmpEchoProcessed: 1n, packetsNotProcessed: 0n });
    expect(pairCounters(world, 101).packets).toBe(0n);
  });

  test("ILB-294 a disabled rule answers echo requests and counts TCP as not processed, on either kind of port", () => {
    const world = bench([ruleOf({ enabled: false })]);
    for (const port of [CLIENT_SIDE, TUN]) {
      const reply = onlyPacket(
        world.send(arriving(icmpPacket({ type: numbers.echo }), port)),
        port === TUN ? "ip" : "ethernet",
      );
      expect([reply.icmp!.type, reply.ttl]).toEqual([numbers.echoReply, 64]);
      world.send(arriving(tcpPacket(), port));
    }
    expect(ruleCounters(world)).toMatchObject({ icmpEchoProcessed: 2n, packetsNotProcessed: 2n });
  });

  test("ICMP to a VIP counts for its most recently created rule", () => {
    const rules = [ruleOf({ sequence: 2 }), ruleOf({ id: 2, slot: 1, ports: onePort(81), sequence: 1 })];
    const world = bench(rules);
    world.send(arriving(icmpPacket({ type: numbers.echo })));
    expect([ruleCounters(world, 1).icmpEchoProcessed, ruleCounters(world, 2).icmpEchoProcessed]).toEqual([1n, 0n]);
  });

  // Echo reply, redirect, timestamp; echo reply, node information query (RFC 4620), a type that nobody has assigned.
  test.each(family === 4 ? [0, 5, 13] : [129, 139, 199])(
    "ILB-176 ICMP of type %i to a VIP is dropped and counted",
    (type) => {
      const world = bench([ruleOf()]);
      const outcome = world.send(arriving(icmpPacket({ type })));
      expect(reasonOf(outcome)).toEqual([Verdict.Drop, Reason.IcmpToVip]);
      expect(ruleCounters(world).icmpDropped).toBe(1n);
    },
  );

  test("a truncated ICMP message to a VIP is dropped and counted", () => {
    const world = bench([ruleOf()]);
    const cut = (message: Uint8Array): Uint8Array => message.subarray(0, 7);
    const outcome = world.send(arriving(icmpPacket({ type: numbers.echo }, {}, cut)));
    expect(reasonOf(outcome)).toEqual([Verdict.Drop, Reason.IcmpTruncated]);
    expect(ruleCounters(world).icmpDropped).toBe(1n);
  });

  test.each(["HALF-NAT", "NAT"] as const)("ILB-177 too big for a %s flow is translated for its server", (type) => {
    const world = bench([ruleOf({ type, members: one })]);
    const request = onlyPacket(world.send(arriving(tcpPacket())));
    const outcome = world.send(arriving(tooBig()));
    expect(reasonOf(outcome)).toEqual([Verdict.Forward, Reason.TooBigTranslated]);
    const error = onlyPacket(outcome);
    expect(faults(decodeEthernet(outcome.out[0]!.bytes).payload)).toEqual([]);
    expect(host(error.source)).toBe(type === "NAT" ? host(PROXY) : host(ROUTER));
    expect([server(error), error.icmp!.type, error.icmp!.code, error.icmp!.rest]).toEqual([
      "192.0.2.10",
      tooBigType,
      tooBigCode,
      1400,
    ]);
    const quoted = decodeIp(error.icmp!.payload, true);
    expect([host(quoted.source), host(quoted.destination)]).toEqual(["192.0.2.10", host(request.source)]);
    expect(headerChecksumState(quoted)).not.toBe("bad");
    expect([...quoted.body.subarray(0, 4)]).toEqual([
      0,
      80,
      request.tcp!.sourcePort >> 8,
      request.tcp!.sourcePort & 255,
    ]);
    expect(ruleCounters(world)).toMatchObject({ icmpTooBigProcessed: 1n, icmpTooBigDropped: 0n });
    expect(pairCounters(world, 101).packets).toBe(1n);
  });

  test("E.8 too big refreshes its flow", () => {
    const world = bench([ruleOf({ members: one })]);
    world.send(arriving(tcpPacket()));
    world.wait(100_000);
    world.send(arriving(tooBig()));
    world.wait(40_000);
    expect(isOpen(world)).toBe(true);
  });

  test("ILB-177 eight quoted bytes of transport header are enough, seven are not", () => {
    const world = bench([ruleOf({ members: one })]);
    world.send(arriving(tcpPacket()));
    expect(world.send(arriving(tooBig(8))).reason).toBe(Reason.TooBigTranslated);
    expect(world.send(arriving(tooBig(7))).reason).toBe(Reason.TooBigUnknown);
  });

  test("ILB-178 too big for an unknown flow is dropped and counted", () => {
    const world = bench([ruleOf({ members: one })]);
    expect(reasonOf(world.send(arriving(tooBig())))).toEqual([Verdict.Drop, Reason.TooBigUnknown]);
    expect(ruleCounters(world)).toMatchObject({ icmpTooBigDropped: 1n, icmpDropped: 0n });
  });

  test("a VIP of the box itself: echo replies, errors of no flow and SYN+ACK go back to the kernel uncounted", () => {
    const world = bench([ruleOf({ vipIsLocal: true, members: one })]);
    const passed = [
      world.send(arriving(icmpPacket({ type: numbers.echoReply }))),
      world.send(arriving(tooBig())),
      world.send(arriving(icmpPacket({ type: numbers.timeExceeded[0], payload: new Uint8Array(28) }))),
      world.send(arriving(tcpPacket({ flags: "SA" }))),
    ];
    expect(passed.map(reasonOf)).toEqual([
      [Verdict.Pass, Reason.LocalIcmp],
      [Verdict.Pass, Reason.LocalIcmp],
      [Verdict.Pass, Reason.LocalIcmp],
      [Verdict.Pass, Reason.LocalSynAck],
    ]);
    const { ruleId: _, ...counts } = ruleCounters(world);
    expect(Object.values(counts).every((count) => count === 0n)).toBe(true);
    expect(world.send(arriving(icmpPacket({ type: numbers.echo }))).reason).toBe(Reason.EchoAnswered);
    world.send(arriving(tcpPacket()));
    expect(world.send(arriving(tooBig())).reason).toBe(Reason.TooBigTranslated);
  });

  if (family === 6) {
    test.each([130, 131, 132, 133, 134, 135, 136, 137, 143])(
      "E.8 ICMPv6 of type %i, which keeps a link alive, is the host's, whatever it is sent to",
      (type) => {
        const world = bench([ruleOf({ type: "NAT" })]);
        for (const to of [VIP, PROXY]) {
          const outcome = world.send(arriving(icmpPacket({ type, payload: new Uint8Array(16) }, { to, ttl: 255 })));
          expect(reasonOf(outcome)).toEqual([Verdict.Ignore, Reason.Unguarded]);
        }
        expect(ruleCounters(world).icmpDropped).toBe(0n);
      },
    );

    test("E.1 an echo reply has flow label 0 and the traffic class of the request", () => {
      const world = bench([ruleOf()]);
      const ipv6 = { flowLabel: 0x12345, trafficClass: 0xb8 };
      const outcome = world.send(arriving(icmpPacket({ type: 128 }, { ipv6 })));
      expect([...decodeEthernet(outcome.out[0]!.bytes).payload.subarray(0, 4)]).toEqual([0x6b, 0x80, 0, 0]);
    });
  }
}
