/** Engine contract: TTL, MTU, next hops: what happens on the way out. */
import { expect, test } from "bun:test";
import { Reason, Verdict } from "../../../src/gen/layout.ts";
import { addressText } from "../../support/addresses.ts";

import {
  arriving,
  BOX_CLIENT_SIDE,
  CLIENT_SIDE,
  hopOf,
  onlyPacket,
  SERVER_SIDE,
  TUN,
} from "../../support/engine-bench.ts";
import { onePort } from "../../support/image-builder.ts";
import { concat, ipv4 } from "../../support/packet-builder.ts";
import { decodeEthernet, decodeIpv4, faults, headerChecksumState } from "../../support/packet-decoder.ts";

import { type Ground, isOpen, pairCounters, reasonOf, ruleCounters } from "./ground.ts";

export function leaving(ground: Ground): void {
  const { family, numbers, ip, headerBytes, host, bench, ruleOf, tcpPacket, udpPacket, established } = ground;
  const { VIP, CLIENT, SERVERS, one } = ground;
  /** Bytes of the packet that an error of the box quotes at most: it stays within 576 or 1280 (RFC 1812, RFC 4443). */
  const quotedAtMost = family === 4 ? 576 - 28 : 1280 - 48;
  const boxClientSide = ip(addressText(BOX_CLIENT_SIDE));
  test("TTL 1 is answered with time exceeded from the box and opens no flow", () => {
    const world = bench([ruleOf({ members: one })]);
    const packet = tcpPacket({ ttl: 1 });
    const outcome = world.send(arriving(packet));
    expect(reasonOf(outcome)).toEqual([Verdict.Reply, Reason.TimeExceededSent]);
    const error = onlyPacket(outcome);
    expect(faults(decodeEthernet(outcome.out[0]!.bytes).payload)).toEqual([]);
    expect([host(error.source), host(error.destination)]).toEqual([host(boxClientSide), host(CLIENT)]);
    expect([error.icmp!.type, error.icmp!.code, error.icmp!.payload]).toEqual([...numbers.timeExceeded, packet]);
    expect(isOpen(world)).toBe(false);
    expect(pairCounters(world, 101).packets).toBe(0n);
  });

  test("on an IP port the kernel steps the TTL, so the engine does not", () => {
    const world = bench([ruleOf({ members: one })]);
    world.engine.setNextHop(0, hopOf(0, { port: TUN }));
    const request = onlyPacket(world.send(arriving(tcpPacket({ ttl: 1 }), TUN)), "ip");
    expect([request.ttl, headerChecksumState(request) === "bad"]).toEqual([1, false]);
  });

  test("what came in by an IP port goes back there, whatever the server's next hop: the kernel routes it", () => {
    const world = bench([ruleOf({ members: one })]);
    world.engine.setNextHop(0, hopOf(0, { state: "none" }));
    for (const flags of ["S", "A"]) {
      const outcome = world.send(arriving(tcpPacket({ flags }), TUN));
      expect([outcome.verdict, outcome.out[0]!.port]).toEqual([Verdict.Forward, TUN]);
      expect(onlyPacket(outcome, "ip").destination).toEqual(SERVERS[0]!.address);
    }
  });

  test("only DSR leaves an IP port by the server's own next hop, which no kernel can be told", () => {
    const world = bench([ruleOf({ type: "DSR", members: one })]);
    const outcome = world.send(arriving(tcpPacket(), TUN));
    expect(outcome.out[0]!.port).toBe(SERVER_SIDE);
    expect(decodeEthernet(outcome.out[0]!.bytes).destination).toEqual(hopOf(0).destinationMac);
    expect(host(onlyPacket(outcome).destination)).toBe(host(VIP));
  });

  test("too big is answered with the egress MTU when it may not be cut: IPv4 with DF, IPv6 always", () => {
    const world = bench([ruleOf({ members: one })]);
    world.engine.setNextHop(0, hopOf(0, { mtu: 1400 }));
    const packet = tcpPacket({
      flags: "PA",
      payload: new Uint8Array(1381 - headerBytes),
      ipv4: { dontFragment: true },
    });
    const outcome = world.send(arriving(packet));
    expect(reasonOf(outcome)).toEqual([Verdict.Reply, Reason.TooBigSent]);
    const error = onlyPacket(outcome);
    expect([error.icmp!.type, error.icmp!.code, error.icmp!.rest]).toEqual([...numbers.tooBig, 1400]);
    expect(error.icmp!.payload).toEqual(packet.subarray(0, quotedAtMost));
    expect(faults(decodeEthernet(outcome.out[0]!.bytes).payload)).toEqual([]);
  });

  test("a super-packet is measured by its segments, not by its length", () => {
    const world = bench([ruleOf({ members: one })]);
    const packet = tcpPacket({ checksum: "partial", payload: new Uint8Array(9_000), ipv4: { dontFragment: true } });
    const vnet = {
      flags: 1,
      gsoType: family === 4 ? 1 : 4,
      hdrLen: 34 + headerBytes,
      gsoSize: 1480 - headerBytes,
      csumStart: 14 + headerBytes,
      csumOffset: 16,
    };
    expect(world.send(arriving(packet, CLIENT_SIDE, vnet)).verdict).toBe(Verdict.Forward);
    expect(world.send(arriving(packet, CLIENT_SIDE, { ...vnet, gsoSize: 1481 - headerBytes })).reason).toBe(
      Reason.TooBigSent,
    );
  });

  if (family === 4)
    test("too big without DF leaves in fragments that a host puts together again", () => {
      const world = bench([ruleOf({ protocol: "udp", ports: onePort(53), members: one })]);
      world.engine.setNextHop(0, hopOf(0, { mtu: 600 }));
      const payload = Uint8Array.from({ length: 1300 }, (_, i) => i);
      for (const checksum of ["good", "partial"] as const) {
        const vnet = {
          flags: checksum === "partial" ? 1 : 0,
          gsoType: 0,
          hdrLen: 0,
          gsoSize: 0,
          csumStart: 34,
          csumOffset: 6,
        };
        const outcome = world.send(arriving(udpPacket({ payload, checksum }), CLIENT_SIDE, vnet));
        expect(reasonOf(outcome)).toEqual([Verdict.Forward, Reason.FragmentsMade]);
        const parts = outcome.out.map((frame) => decodeIpv4(decodeEthernet(frame.bytes).payload));
        expect(
          parts.map((part) => [part.fragmentOffset, part.body.length, part.moreFragments, headerChecksumState(part)]),
        ).toEqual([
          [0, 576, true, "good"],
          [576, 576, true, "good"],
          [1152, 156, false, "good"],
        ]);
        const whole = ipv4({ ...parts[0]!, moreFragments: false, payload: concat(...parts.map((part) => part.body)) });
        expect(faults(whole)).toEqual([]);
        expect(decodeIpv4(whole).udp!.payload).toEqual(payload);
      }
    });

  test("without a resolved next hop a packet is dropped, counted by reason only, and opens no flow", () => {
    const world = bench([ruleOf({ members: one })]);
    const expectDrop = (hop: Parameters<typeof hopOf>[1], reason: Reason): void => {
      world.engine.setNextHop(0, hopOf(0, hop));
      expect(reasonOf(world.send(arriving(tcpPacket())))).toEqual([Verdict.Drop, reason]);
    };
    expectDrop({ state: "unresolved" }, Reason.NextHopUnresolved);
    expectDrop({ state: "none" }, Reason.NoRoute);
    expectDrop({ port: 9 }, Reason.NoEgressPort);
    expect(isOpen(world)).toBe(false);
    expect(ruleCounters(world).packetsDropped).toBe(0n);
  });

  test("a packet of a known flow is dropped while its server is not reached, whatever the last port was", () => {
    const world = bench([ruleOf({ members: one })]);
    established(world);
    const reasonWith = (hop: Parameters<typeof hopOf>[1]): Reason => {
      world.engine.setNextHop(0, hopOf(0, hop));
      return world.send(arriving(tcpPacket({ flags: "A", sequence: 101, acknowledgement: 501 }))).reason;
    };
    expect(reasonWith({})).toBe(Reason.FlowFound);
    for (const port of [0, SERVER_SIDE]) {
      expect(reasonWith({ state: "none", port })).toBe(Reason.NoRoute);
      expect(reasonWith({ state: "unresolved", port })).toBe(Reason.NextHopUnresolved);
    }
    expect(reasonWith({ port: 9 })).toBe(Reason.NoEgressPort);
    expect(reasonWith({})).toBe(Reason.FlowFound);
  });

  test("answers follow the client to the port and MAC address of its last packet", () => {
    const world = bench([ruleOf({ members: one })]);
    const { fromServer } = established(world);
    world.send(arriving(tcpPacket({ flags: "A" }), TUN));
    const outcome = fromServer({ flags: "A", sequence: 501, acknowledgement: 101 });
    expect(outcome.out[0]!.port).toBe(TUN);
    expect(onlyPacket(outcome, "ip").ttl).toBe(64);
  });
}
