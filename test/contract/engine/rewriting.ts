/** Engine contract: What leaves the engine and how it was changed: the three rule types, checksums, offloads, ports. */
import { expect, test } from "bun:test";
import { Reason, Verdict } from "../../../src/gen/layout.ts";

import {
  answerTo,
  arriving,
  type Bench,
  BOX_MACS,
  CLIENT_MAC,
  CLIENT_SIDE,
  hopOf,
  onlyPacket,
  SERVER_SIDE,
  serverMac,
  TUN,
} from "../../support/engine-bench.ts";
import { membersOf, onePort } from "../../support/image-builder.ts";
import {
  type ChecksumState,
  type Decoded,
  decodeEthernet,
  faults,
  headerChecksumState,
  transportChecksumState,
} from "../../support/packet-decoder.ts";

import { type Ground, reasonOf } from "./ground.ts";

export function rewriting(ground: Ground): void {
  const {
    family,
    headerBytes,
    ttlAt,
    host,
    bench,
    ruleOf,
    tcpPacket,
    udpPacket,
    server,
    VIP,
    CLIENT,
    PROXY,
    SERVERS,
    one,
  } = ground;
  /** `good` where there is none. */
  const headerSum = (packet: Decoded): ChecksumState => (packet.family === 6 ? "good" : headerChecksumState(packet));

  test("ILB-164 a DSR packet leaves unmodified except TTL and link header", () => {
    const world = bench([ruleOf({ type: "DSR", members: one })]);
    const packet = tcpPacket();
    const outcome = world.send(arriving(packet));
    expect(reasonOf(outcome)).toEqual([Verdict.Forward, Reason.DsrSent]);
    expect(outcome.out[0]!.port).toBe(SERVER_SIDE);
    const frame = decodeEthernet(outcome.out[0]!.bytes);
    expect(frame.destination).toEqual(serverMac(0));
    expect(frame.source).toEqual(BOX_MACS[1]);
    expect(frame.payload[ttlAt]).toBe(63);
    expect(faults(frame.payload)).toEqual([]);
    const unstepped = frame.payload.slice();
    // With the TTL the IPv4 header checksum changes; protocol and hop limit aside, nothing else does.
    unstepped.set(packet.subarray(ttlAt, family === 4 ? 12 : 8), ttlAt);
    expect([...unstepped]).toEqual([...packet]);
    expect(world.engine.flows()).toEqual([]);
  });

  test("ILB-165 half-NAT rewrites the destination of the request and the source of the reply, checksums valid", () => {
    const world = bench([ruleOf({ members: membersOf([{ ...SERVERS[0]!, ports: onePort(8080) }]) })]);
    const request = onlyPacket(world.send(arriving(tcpPacket())));
    expect([host(request.source), request.tcp!.sourcePort]).toEqual([host(CLIENT), 40000]);
    expect([server(request), request.tcp!.destinationPort]).toEqual(["192.0.2.10", 8080]);
    const outcome = world.send(arriving(answerTo(request), SERVER_SIDE));
    const reply = onlyPacket(outcome);
    expect([host(reply.source), reply.tcp!.sourcePort]).toEqual([host(VIP), 80]);
    expect([host(reply.destination), reply.tcp!.destinationPort]).toEqual([host(CLIENT), 40000]);
    for (const packet of [request, reply]) {
      expect([headerSum(packet), transportChecksumState(packet), packet.ttl]).toEqual(["good", "good", 63]);
    }
    expect(outcome.out[0]!.port).toBe(CLIENT_SIDE);
    expect(decodeEthernet(outcome.out[0]!.bytes)).toMatchObject({ destination: CLIENT_MAC, source: BOX_MACS[0] });
    expect(outcome).toMatchObject({ ruleId: 1, serverId: 101, direction: "server-to-client", flow: "found" });
  });

  test("ILB-166 full NAT rewrites both ends of request and reply, checksums valid", () => {
    const world = bench([ruleOf({ type: "NAT", members: one })]);
    const request = onlyPacket(world.send(arriving(tcpPacket())));
    const proxyPort = request.tcp!.sourcePort;
    expect([host(request.source), server(request)]).toEqual([host(PROXY), "192.0.2.10"]);
    expect(proxyPort).toBeGreaterThanOrEqual(4096);
    const reply = onlyPacket(world.send(arriving(answerTo(request), SERVER_SIDE)));
    expect([host(reply.source), host(reply.destination)]).toEqual([host(VIP), host(CLIENT)]);
    expect([reply.tcp!.sourcePort, reply.tcp!.destinationPort]).toEqual([80, 40000]);
    for (const packet of [request, reply]) {
      expect([headerSum(packet), transportChecksumState(packet)]).toEqual(["good", "good"]);
    }
    expect(world.engine.flows()).toEqual([
      {
        protocol: "tcp",
        ruleId: 1,
        serverId: 101,
        client: CLIENT,
        clientPort: 40000,
        vip: VIP,
        vipPort: 80,
        source: PROXY,
        sourcePort: proxyPort,
        server: SERVERS[0]!.address,
        serverPort: 80,
      },
    ]);
  });

  test("ILB-167 a UDP checksum of 0 stays 0", () => {
    for (const type of ["HALF-NAT", "NAT"] as const) {
      const world = bench([ruleOf({ type, protocol: "udp", ports: onePort(53), members: one })]);
      const request = onlyPacket(
        world.send(arriving(udpPacket({ checksum: "none", payload: Uint8Array.of(1, 2, 3) }))),
      );
      expect(request.udp!.checksum).toBe(0);
      const reply = onlyPacket(world.send(arriving(answerTo(request, { checksum: "none" }), SERVER_SIDE)));
      expect(reply.udp!.checksum).toBe(0);
    }
  });

  test("a computed UDP checksum of 0 is sent as 0xffff (RFC 768)", () => {
    const world = bench([ruleOf({ protocol: "udp", ports: onePort(53), members: one })]);
    // Two payload bytes steer the sum of the translated packet to every value; one of them is the one whose sum is 0.
    const probe = onlyPacket(world.send(arriving(udpPacket({ payload: Uint8Array.of(0, 0) }))));
    const payload = Uint8Array.of(probe.udp!.checksum >> 8, probe.udp!.checksum & 255);
    const packet = onlyPacket(world.send(arriving(udpPacket({ payload }))));
    expect(packet.udp!.checksum).toBe(0xffff);
    expect(transportChecksumState(packet)).toBe("good");
  });

  test("a packet with a wrong checksum leaves with a wrong checksum", () => {
    const world = bench([ruleOf({ members: one })]);
    const packet = onlyPacket(world.send(arriving(tcpPacket({ checksum: 0x1234, ipv4: { checksum: 0x4321 } }))));
    expect(transportChecksumState(packet)).toBe("bad");
    if (family === 4) expect(headerChecksumState(packet)).toBe("bad");
  });

  test("a partial checksum stays partial: only the addresses move it", () => {
    const world = bench([ruleOf({ type: "NAT", members: one })]);
    const vnet = { flags: 1, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 14 + headerBytes, csumOffset: 16 };
    const outcome = world.send(arriving(tcpPacket({ checksum: "partial" }), CLIENT_SIDE, vnet));
    const request = onlyPacket(outcome);
    expect(transportChecksumState(request, true)).toBe("partial");
    expect(outcome.out[0]!.vnet).toEqual(vnet);
  });

  test("a super-packet keeps its segment size and gets its offsets moved with the link header", () => {
    const world = bench([ruleOf({ type: "NAT", members: one })]);
    const vnet = {
      flags: 1,
      gsoType: family === 4 ? 1 : 4,
      hdrLen: 34 + headerBytes,
      gsoSize: 1468 - headerBytes,
      csumStart: 14 + headerBytes,
      csumOffset: 16,
    };
    world.engine.setNextHop(0, hopOf(0, { port: TUN }));
    const packet = tcpPacket({ checksum: "partial", payload: new Uint8Array(9_000) });
    const outcome = world.send(arriving(packet, CLIENT_SIDE, vnet));
    expect(outcome.out[0]!.vnet).toEqual({ ...vnet, hdrLen: headerBytes + 20, csumStart: headerBytes });
    expect(outcome.out[0]!.bytes.length).toBe(packet.length);
    const sent = onlyPacket(outcome, "ip");
    expect([transportChecksumState(sent, true), sent.ttl]).toEqual(["partial", 64]);
  });

  if (family === 4)
    test("IPv4 options stay and the transport header is found behind them", () => {
      const world = bench([ruleOf({ members: one })]);
      const options = Uint8Array.of(0x94, 4, 0, 0);
      const packet = onlyPacket(world.send(arriving(tcpPacket({ ipv4: { options } }))));
      expect([packet.options, server(packet)]).toEqual([options, "192.0.2.10"]);
      expect([headerSum(packet), transportChecksumState(packet)]).toEqual(["good", "good"]);
    });

  test("D.2 a range rule shifts ports onto a server range and collapses them onto a single port", () => {
    const range = { min: 5000, max: 5009 };
    const cases = [
      [{ min: 7000, max: 7009 }, 7003],
      [onePort(6000), 6000],
      [null, 5003],
    ] as const;
    for (const [ports, expected] of cases) {
      const world = bench([ruleOf({ ports: range, members: membersOf([{ ...SERVERS[0]!, ports }]) })]);
      const request = onlyPacket(world.send(arriving(tcpPacket({ destinationPort: 5003 }))));
      expect(request.tcp!.destinationPort).toBe(expected);
      const reply = onlyPacket(world.send(arriving(answerTo(request), SERVER_SIDE)));
      expect([host(reply.source), reply.tcp!.sourcePort]).toEqual([host(VIP), 5003]);
    }
  });

  const collapsed = {
    id: 2,
    ports: { min: 5000, max: 5009 },
    members: membersOf([{ ...SERVERS[0]!, ports: onePort(6000) }]),
  };
  /** The server ports that one packet each from new client ports is sent to. */
  const portsOf = (world: Bench, first: number, flags: readonly string[]): number[] =>
    flags.map((flag, i) => {
      const packet = tcpPacket({ sourcePort: first + i, destinationPort: 5007, flags: flag });
      return onlyPacket(world.send(arriving(packet))).tcp!.destinationPort;
    });

  test("connections to collapsed ports reach the server's port when the first packet was of one that was there before a restart", () => {
    expect(portsOf(bench([ruleOf(collapsed)]), 40_000, ["A", "S", "S"])).toEqual([6000, 6000, 6000]);
  });

  test("connections to collapsed ports reach the server's port when a forgotten rule's place was taken", () => {
    const old = ruleOf({ id: 1, ports: { min: 5000, max: 5009 }, members: one });
    const world = bench([old]);
    expect(portsOf(world, 40_000, ["S", "S"])).toEqual([5007, 5007]);
    for (const port of [40_000, 40_001])
      world.send(arriving(tcpPacket({ sourcePort: port, destinationPort: 5007, flags: "R" })));
    world.publish([ruleOf(collapsed)], [], [old]);
    for (let i = 0; i < 4; i++) world.wait(15_000);
    expect(portsOf(world, 41_000, ["A", "S", "S"])).toEqual([6000, 6000, 6000]);
  });

  test("one client tuple to every port of a range makes as many flows, each answered from its port", () => {
    const world = bench([ruleOf({ ports: { min: 5000, max: 5009 }, type: "NAT", members: one })]);
    for (let port = 5000; port <= 5009; port++) {
      const request = onlyPacket(world.send(arriving(tcpPacket({ destinationPort: port }))));
      const reply = onlyPacket(world.send(arriving(answerTo(request), SERVER_SIDE)));
      expect(reply.tcp!.sourcePort).toBe(port);
    }
    expect(world.engine.flows().length).toBe(10);
  });
}
