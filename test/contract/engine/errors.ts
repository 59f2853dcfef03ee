/** Engine contract: ICMP and ICMPv6 errors that quote packets, in mode `modern` and in mode `ilb`. */
import { expect, test } from "bun:test";
import type { Outcome } from "../../../src/engine/engine.ts";
import { Reason, Verdict } from "../../../src/gen/layout.ts";
import { arriving, type Bench, CLIENT_SIDE, onlyPacket, SERVER_SIDE, serverMac } from "../../support/engine-bench.ts";
import { membersOf, onePort } from "../../support/image-builder.ts";
import { type Decoded, decodeEthernet, decodeIp, faults } from "../../support/packet-decoder.ts";

import { type Ground, isOpen, pairCounters, reasonOf, ruleCounters } from "./ground.ts";

export function errors(ground: Ground): void {
  const { numbers, bench, benchIlb, ruleOf, tcpPacket, icmpPacket, sentByVip, tooBig, host, ip, mask } = ground;
  const { VIP, CLIENT, PROXY, ROUTER, SERVERS, one } = ground;
  const kinds = [
    ["port unreachable", numbers.portUnreachable],
    ["time exceeded", numbers.timeExceeded],
    ["parameter problem", numbers.parameter],
  ] as const;

  /** An error about a packet that `quoted` is, to its source. */
  const about = (quoted: Uint8Array, [type, code]: readonly [number, number], to = VIP): Uint8Array =>
    icmpPacket({ type, code, payload: quoted }, { from: ROUTER, to });
  const packetOf = (outcome: Outcome): Decoded => {
    expect(faults(decodeEthernet(outcome.out[0]!.bytes).payload)).toEqual([]);
    return onlyPacket(outcome);
  };
  /** The first packet of a flow as the proxy address sent it to the server. */
  const sentToServer = (world: Bench): Uint8Array => {
    const outcome = world.send(arriving(tcpPacket({ payload: new Uint8Array(100) })));
    return decodeEthernet(outcome.out[0]!.bytes).payload;
  };

  test.each(kinds)("modern: %s about a packet of a VIP is translated for its server", (_, [type, code]) => {
    for (const kind of ["HALF-NAT", "NAT"] as const) {
      const world = bench([ruleOf({ type: kind, members: one })]);
      const request = onlyPacket(world.send(arriving(tcpPacket())));
      const outcome = world.send(arriving(about(sentByVip(), [type, code])));
      expect(reasonOf(outcome)).toEqual([Verdict.Forward, Reason.IcmpErrorTranslated]);
      expect(outcome).toMatchObject({ ruleId: 1, serverId: 101, direction: "client-to-server", flow: "found" });
      const error = packetOf(outcome);
      expect([host(error.source), host(error.destination)]).toEqual([
        kind === "NAT" ? host(PROXY) : host(ROUTER),
        "192.0.2.10",
      ]);
      expect([error.icmp!.type, error.icmp!.code]).toEqual([type, code]);
      // What is quoted is what the server sent, with all its checksums.
      expect(faults(error.icmp!.payload)).toEqual([]);
      const quoted = decodeIp(error.icmp!.payload);
      expect([host(quoted.source), host(quoted.destination)]).toEqual(["192.0.2.10", host(request.source)]);
      expect([quoted.tcp!.sourcePort, quoted.tcp!.destinationPort]).toEqual([80, request.tcp!.sourcePort]);
      expect(pairCounters(world, 101).packets).toBe(1n);
      expect(ruleCounters(world)).toMatchObject({ icmpDropped: 0n, icmpTooBigProcessed: 0n, icmpTooBigDropped: 0n });
    }
  });

  test("modern: an error that is no too-big keeps no flow alive", () => {
    const world = bench([ruleOf({ members: one })]);
    world.send(arriving(tcpPacket()));
    world.wait(100_000);
    world.send(arriving(about(sentByVip(), numbers.timeExceeded)));
    world.wait(40_000);
    expect(isOpen(world)).toBe(false);
  });

  const allKinds = [...kinds, ["too big", numbers.tooBig]] as const;
  test.each(
    allKinds.flatMap(([name, kind]) => (["HALF-NAT", "NAT"] as const).map((nat) => [name, nat, kind] as const)),
  )("modern: %s about a %s packet to a server is translated for the client", (_, nat, [type, code]) => {
    const world = bench([ruleOf({ type: nat, members: one })]);
    // In HALF-NAT the packet bears the client's own address, so the message is for him and passes the box by chance.
    const to = nat === "NAT" ? PROXY : CLIENT;
    const outcome = world.send(arriving(about(sentToServer(world), [type, code], to), SERVER_SIDE));
    const isTooBig = type === numbers.tooBig[0] && code === numbers.tooBig[1];
    const reason = isTooBig ? Reason.TooBigTranslated : Reason.IcmpErrorTranslated;
    expect(reasonOf(outcome)).toEqual([Verdict.Forward, reason]);
    expect(outcome).toMatchObject({ ruleId: 1, serverId: 101, direction: "server-to-client", flow: "found" });
    expect(outcome.out[0]!.port).toBe(CLIENT_SIDE);
    const error = packetOf(outcome);
    expect([host(error.source), host(error.destination)]).toEqual([host(VIP), host(CLIENT)]);
    const quoted = decodeIp(error.icmp!.payload);
    expect(faults(error.icmp!.payload)).toEqual([]);
    expect([host(quoted.source), host(quoted.destination)]).toEqual([host(CLIENT), host(VIP)]);
    expect([quoted.tcp!.sourcePort, quoted.tcp!.destinationPort]).toEqual([40000, 80]);
    expect(ruleCounters(world)).toMatchObject({ icmpTooBigProcessed: 0n });
  });

  test.each(allKinds)(
    "modern: %s for DSR goes, untouched, to the server that the quoted tuple selects",
    (_, [type, code]) => {
      const world = bench([ruleOf({ type: "DSR", algorithm: "hash-ip-port" })]);
      const selected = new Set<number>();
      for (let i = 0; i < 12; i++) {
        const sourcePort = 41_000 + i;
        const { serverId } = world.send(arriving(tcpPacket({ sourcePort })));
        const sent = tcpPacket({ from: VIP, to: CLIENT, sourcePort: 80, destinationPort: sourcePort, flags: "PA" });
        const message = about(sent, [type, code]);
        const outcome = world.send(arriving(message));
        expect(outcome).toMatchObject({ verdict: Verdict.Forward, serverId, flow: "none" });
        const { source, destination, icmp } = packetOf(outcome);
        expect([host(source), host(destination), icmp!.payload]).toEqual([host(ROUTER), host(VIP), sent]);
        selected.add(serverId);
      }
      expect(selected.size).toBe(SERVERS.length);
    },
  );

  test("modern: an error about a packet to a server that is no flow, or not for the packet's sender, goes back to the kernel", () => {
    const world = bench([ruleOf({ members: one })]);
    const quoted = sentToServer(world);
    const toServer = { from: CLIENT, to: SERVERS[0]!.address };
    const others = [
      about(tcpPacket({ ...toServer, sourcePort: 5000 }), numbers.tooBig, CLIENT),
      about(quoted, numbers.tooBig, ip("203.0.113.201")),
      about(quoted.subarray(0, ground.headerBytes + 7), numbers.tooBig, CLIENT),
      about(quoted.subarray(0, ground.headerBytes), numbers.timeExceeded, CLIENT),
    ];
    for (const packet of others) {
      expect(reasonOf(world.send(arriving(packet, SERVER_SIDE)))).toEqual([Verdict.Pass, Reason.ServerIcmp]);
    }
  });

  test("what quotes no packet to a server, no whole address, or is no error, never leaves the kernel", () => {
    const world = bench([ruleOf({ members: one }), ruleOf({ id: 2, slot: 1, type: "DSR", ports: onePort(81) })]);
    const quoted = sentToServer(world);
    const others = [
      about(tcpPacket({ from: CLIENT, to: ip("203.0.113.9") }), numbers.tooBig, CLIENT),
      about(tcpPacket({ from: CLIENT, to: VIP }), numbers.tooBig, CLIENT),
      about(quoted.subarray(0, ground.headerBytes - 1), numbers.tooBig, CLIENT),
      about(quoted, [numbers.echoReply, 0], CLIENT),
      about(quoted, [5, 0], CLIENT),
    ];
    for (const packet of others) {
      expect(reasonOf(world.send(arriving(packet, SERVER_SIDE)))).toEqual([Verdict.Ignore, Reason.Unguarded]);
    }
  });

  test("modern: an error of the client about a packet of the VIP, and one of a router about a packet to the server, both of one flow", () => {
    for (const type of ["HALF-NAT", "NAT"] as const) {
      const world = bench([ruleOf({ type, members: one })]);
      const quoted = sentToServer(world);
      const toServer = world.send(arriving(about(sentByVip(), numbers.timeExceeded)));
      const toClient = world.send(
        arriving(about(quoted, numbers.timeExceeded, type === "NAT" ? PROXY : CLIENT), SERVER_SIDE),
      );
      expect([toServer.direction, toClient.direction]).toEqual(["client-to-server", "server-to-client"]);
      expect([toServer.out[0]!.port, toClient.out[0]!.port]).toEqual([SERVER_SIDE, CLIENT_SIDE]);
    }
  });

  test("--compat ilb gives errors about packets to servers back to the kernel, whatever they quote", () => {
    const world = benchIlb([ruleOf({ members: one })]);
    const outcome = world.send(arriving(about(sentToServer(world), numbers.tooBig, CLIENT), SERVER_SIDE));
    expect(reasonOf(outcome)).toEqual([Verdict.Pass, Reason.ServerIcmp]);
  });

  test("an error to a proxy address that quotes no flow goes back to the kernel", () => {
    const world = bench([ruleOf({ type: "NAT", members: one })]);
    const stranger = tcpPacket({ from: PROXY, to: SERVERS[0]!.address, sourcePort: 5000 });
    expect(reasonOf(world.send(arriving(about(stranger, numbers.portUnreachable, PROXY))))).toEqual([
      Verdict.Pass,
      Reason.ProxyIcmp,
    ]);
  });

  test("--compat ilb gives errors to proxy addresses back to the kernel, whatever they quote", () => {
    const world = benchIlb([ruleOf({ type: "NAT", members: one })]);
    const outcome = world.send(arriving(about(sentToServer(world), numbers.portUnreachable, PROXY)));
    expect(reasonOf(outcome)).toEqual([Verdict.Pass, Reason.ProxyIcmp]);
  });

  test.each(kinds)("ILB-176 --compat ilb drops %s to a VIP, also about a flow", (_, kind) => {
    const world = benchIlb([ruleOf({ members: one })]);
    world.send(arriving(tcpPacket()));
    expect(reasonOf(world.send(arriving(about(sentByVip(), kind))))).toEqual([Verdict.Drop, Reason.IcmpToVip]);
    expect(ruleCounters(world).icmpDropped).toBe(1n);
  });

  test("ILB-177 too big for a flow is translated in mode ilb as well", () => {
    const world = benchIlb([ruleOf({ type: "NAT", members: one })]);
    world.send(arriving(tcpPacket()));
    expect(world.send(arriving(tooBig())).reason).toBe(Reason.TooBigTranslated);
    expect(ruleCounters(world).icmpTooBigProcessed).toBe(1n);
  });

  test("ILB-178 --compat ilb drops and counts too big for DSR", () => {
    const world = benchIlb([ruleOf({ type: "DSR", members: one })]);
    expect(reasonOf(world.send(arriving(tooBig())))).toEqual([Verdict.Drop, Reason.TooBigUnknown]);
    expect(ruleCounters(world)).toMatchObject({ icmpTooBigDropped: 1n, icmpDropped: 0n });
  });

  test("modern: an error for DSR goes as it is to the server that the client's packets go to", () => {
    const world = bench([ruleOf({ type: "DSR", algorithm: "hash-ip-port" })]);
    const chosen = world.send(arriving(tcpPacket())).serverId;
    const message = tooBig();
    const outcome = world.send(arriving(message));
    expect(reasonOf(outcome)).toEqual([Verdict.Forward, Reason.TooBigTranslated]);
    expect(outcome).toMatchObject({ ruleId: 1, serverId: chosen, direction: "client-to-server", flow: "none" });
    expect(decodeEthernet(outcome.out[0]!.bytes).destination).toEqual(serverMac(chosen - 101));
    const error = packetOf(outcome);
    expect([error.ttl, error.icmp!.payload]).toEqual([63, decodeIp(message).icmp!.payload]);
    expect(world.send(arriving(about(sentByVip(), numbers.portUnreachable))).reason).toBe(Reason.IcmpErrorTranslated);
    expect(ruleCounters(world)).toMatchObject({ icmpTooBigProcessed: 1n, icmpTooBigDropped: 0n, icmpDropped: 0n });
    expect(pairCounters(world, chosen).packets).toBe(1n);
  });

  test("modern: a sticky DSR client is known by its entry; a round robin tells only when there is no choice", () => {
    const sticky = bench([ruleOf({ type: "DSR", stickyMask: mask(32) })]);
    const chosen = sticky.send(arriving(tcpPacket())).serverId;
    expect(sticky.send(arriving(tooBig())).serverId).toBe(chosen);
    const alone = bench([ruleOf({ type: "DSR", members: one })]);
    expect(alone.send(arriving(tooBig())).reason).toBe(Reason.TooBigTranslated);
    const several = bench([ruleOf({ type: "DSR", members: membersOf(SERVERS) })]);
    expect(several.send(arriving(tooBig())).reason).toBe(Reason.TooBigUnknown);
    expect(several.send(arriving(tcpPacket())).serverId).toBe(103);
    expect(several.engine.sticky()).toEqual([]);
  });

  test("modern: an error about an error, or about nothing that can be read, is dropped and counted", () => {
    const world = bench([ruleOf({ members: one })]);
    world.send(arriving(tcpPacket()));
    const nested = icmpPacket({ type: numbers.timeExceeded[0], payload: sentByVip() }, { from: VIP, to: CLIENT });
    for (const quoted of [nested, sentByVip().subarray(0, 27), new Uint8Array(0)]) {
      expect(world.send(arriving(about(quoted, numbers.portUnreachable))).reason).toBe(Reason.IcmpToVip);
    }
    const lastHop = about(sentByVip(), numbers.portUnreachable);
    lastHop[ground.ttlAt] = 1;
    expect(world.send(arriving(lastHop)).reason).toBe(Reason.TimeExceededUnsent);
    expect(host(ip("203.0.113.77"))).toBe(host(ROUTER));
  });
}
