/** Engine contract: ICMP to a VIP. */
import { expect, test } from "bun:test";
import { Reason, Verdict } from "../../../src/gen/layout.ts";
import { addressText } from "../../support/addresses.ts";
import {
  arriving,
  BOX_MACS,
  CLIENT,
  CLIENT_MAC,
  onlyPacket,
  PROXY,
  ruleOf,
  tcpPacket,
  VIP,
} from "../../support/engine-bench.ts";
import { onePort } from "../../support/image-builder.ts";
import { icmp4 } from "../../support/packet-builder.ts";
import { decodeEthernet, decodeIpv4, faults, headerChecksumState } from "../../support/packet-decoder.ts";

import {
  icmpPacket,
  isOpen,
  type MakeBench,
  one,
  pairCounters,
  reasonOf,
  ruleCounters,
  server,
  tooBig,
} from "./common.ts";

export function icmp(bench: MakeBench): void {
  test("ILB-175 an echo request to a VIP is answered from the VIP with TTL 64", () => {
    const world = bench([ruleOf({ enabled: false })]);
    const message = icmp4({ type: 8, rest: 0x00070001, payload: Uint8Array.of(1, 2, 3) });
    const outcome = world.send(arriving(icmpPacket(message, { ttl: 1 })));
    expect(reasonOf(outcome)).toEqual([Verdict.Reply, Reason.EchoAnswered]);
    const reply = onlyPacket(outcome);
    expect([addressText(reply.source), addressText(reply.destination), reply.ttl]).toEqual([
      addressText(VIP),
      addressText(CLIENT),
      64,
    ]);
    expect(reply.icmp).toMatchObject({ type: 0, code: 0, rest: 0x00070001, payload: Uint8Array.of(1, 2, 3) });
    expect(faults(decodeEthernet(outcome.out[0]!.bytes).payload)).toEqual([]);
    expect(decodeEthernet(outcome.out[0]!.bytes)).toMatchObject({ destination: CLIENT_MAC, source: BOX_MACS[0] });
    expect(ruleCounters(world)).toMatchObject({ icmpEchoProcessed: 1n, packetsNotProcessed: 0n });
    expect(pairCounters(world, 101).packets).toBe(0n);
  });

  test("ICMP to a VIP counts for its most recently created rule", () => {
    const rules = [ruleOf({ sequence: 2 }), ruleOf({ id: 2, slot: 1, ports: onePort(81), sequence: 1 })];
    const world = bench(rules);
    world.send(arriving(icmpPacket(icmp4({ type: 8 }))));
    expect([ruleCounters(world, 1).icmpEchoProcessed, ruleCounters(world, 2).icmpEchoProcessed]).toEqual([1n, 0n]);
  });

  test.each([
    ["echo reply", 0],
    ["redirect", 5],
    ["timestamp", 13],
  ] as const)("ILB-176 ICMP %s to a VIP is dropped and counted", (_, type) => {
    const world = bench([ruleOf()]);
    expect(reasonOf(world.send(arriving(icmpPacket(icmp4({ type })))))).toEqual([Verdict.Drop, Reason.IcmpToVip]);
    expect(ruleCounters(world).icmpDropped).toBe(1n);
  });

  test("a truncated ICMP message to a VIP is dropped and counted", () => {
    const world = bench([ruleOf()]);
    const outcome = world.send(arriving(icmpPacket(icmp4({ type: 8 }).subarray(0, 7))));
    expect(reasonOf(outcome)).toEqual([Verdict.Drop, Reason.IcmpTruncated]);
    expect(ruleCounters(world).icmpDropped).toBe(1n);
  });

  test.each(["HALF-NAT", "NAT"] as const)(
    "ILB-177 fragmentation needed for a %s flow is translated for its server",
    (type) => {
      const world = bench([ruleOf({ type, members: one })]);
      const request = onlyPacket(world.send(arriving(tcpPacket())));
      const outcome = world.send(arriving(tooBig()));
      expect(reasonOf(outcome)).toEqual([Verdict.Forward, Reason.TooBigTranslated]);
      const error = onlyPacket(outcome);
      expect(faults(decodeEthernet(outcome.out[0]!.bytes).payload)).toEqual([]);
      expect(addressText(error.source)).toBe(type === "NAT" ? addressText(PROXY) : "203.0.113.77");
      expect([server(error), error.icmp!.type, error.icmp!.code, error.icmp!.rest]).toEqual(["192.0.2.10", 3, 4, 1400]);
      const quoted = decodeIpv4(error.icmp!.payload, true);
      expect([addressText(quoted.source), addressText(quoted.destination)]).toEqual([
        "192.0.2.10",
        addressText(request.source),
      ]);
      expect(headerChecksumState(quoted)).toBe("good");
      expect([...quoted.body.subarray(0, 4)]).toEqual([
        0,
        80,
        request.tcp!.sourcePort >> 8,
        request.tcp!.sourcePort & 255,
      ]);
      expect(ruleCounters(world)).toMatchObject({ icmpTooBigProcessed: 1n, icmpTooBigDropped: 0n });
      expect(pairCounters(world, 101).packets).toBe(1n);
    },
  );

  test("E.8 fragmentation needed refreshes its flow", () => {
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
    expect(world.send(arriving(tooBig(28))).reason).toBe(Reason.TooBigTranslated);
    expect(world.send(arriving(tooBig(27))).reason).toBe(Reason.TooBigUnknown);
  });

  test("ILB-178 fragmentation needed for an unknown flow is dropped and counted", () => {
    const world = bench([ruleOf({ members: one })]);
    expect(reasonOf(world.send(arriving(tooBig())))).toEqual([Verdict.Drop, Reason.TooBigUnknown]);
    expect(ruleCounters(world)).toMatchObject({ icmpTooBigDropped: 1n, icmpDropped: 0n });
  });

  test("a VIP of the box itself: echo replies, errors of no flow and SYN+ACK go back to the kernel uncounted", () => {
    const world = bench([ruleOf({ vipIsLocal: true, members: one })]);
    const passed = [
      world.send(arriving(icmpPacket(icmp4({ type: 0 })))),
      world.send(arriving(tooBig())),
      world.send(arriving(icmpPacket(icmp4({ type: 11, payload: new Uint8Array(28) })))),
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
    expect(world.send(arriving(icmpPacket(icmp4({ type: 8 })))).reason).toBe(Reason.EchoAnswered);
    world.send(arriving(tcpPacket()));
    expect(world.send(arriving(tooBig())).reason).toBe(Reason.TooBigTranslated);
  });
}
