/**
 * What every packet engine must do, case by case, from the numbered requirements of the specification. Runs on the
 * WebAssembly engine and on the reference alike; random traffic is the differential test's business.
 */
import { afterEach, describe, expect, test } from "bun:test";
import type { EngineLimits, Outcome, PacketEngine, PairCounters, RuleCounters } from "../../src/engine/engine.ts";
import { Reason, Verdict } from "../../src/gen/layout.ts";
import { addressText, ip } from "../support/addresses.ts";
import {
  answerTo,
  arriving,
  Bench,
  BOX_CLIENT_SIDE,
  BOX_MACS,
  CLIENT,
  CLIENT_MAC,
  CLIENT_SIDE,
  hopOf,
  onlyPacket,
  PROXY,
  ruleOf,
  SERVER_SIDE,
  SERVERS,
  serverMac,
  TUN,
  tcpPacket,
  udpPacket,
  VIP,
} from "../support/engine-bench.ts";
import { membersOf, onePort, type RuleSpec } from "../support/image-builder.ts";
import { concat, fragmentIpv4, icmp4, ipv4, PROTOCOL_ICMP, PROTOCOL_UDP, udp } from "../support/packet-builder.ts";
import {
  type Decoded,
  decodeEthernet,
  decodeIpv4,
  faults,
  headerChecksumState,
  transportChecksumState,
} from "../support/packet-decoder.ts";

export const CONTRACT_LIMITS: EngineLimits = { maxFlows: 70_000, maxRules: 32, maxPairs: 256, maxSticky: 256 };

/** @param make a fresh engine, whose hash keys and port order are its own affair. */
export function engineContract(name: string, make: (limits: EngineLimits) => PacketEngine): void {
  describe(`packet engine contract: ${name}`, () => {
    const open: PacketEngine[] = [];
    const bench = (rules: readonly RuleSpec[], limits: Partial<EngineLimits> = {}): Bench => {
      const engine = make({ ...CONTRACT_LIMITS, ...limits });
      open.push(engine);
      return new Bench(engine, rules);
    };
    afterEach(() => {
      for (const engine of open.splice(0)) engine.close();
    });
    rewriting(bench);
    choosing(bench);
    tracking(bench);
    icmp(bench);
    leaving(bench);
    refusing(bench);
    counting(bench);
  });
}

type MakeBench = (rules: readonly RuleSpec[], limits?: Partial<EngineLimits>) => Bench;

const server = (packet: Decoded): string => addressText(packet.destination);
/** Opens one flow per client port from 40000 on and names the servers that the packets went to. */
function serversOf(world: Bench, count: number, first = 40000): string[] {
  return Array.from({ length: count }, (_, i) => {
    const outcome = world.send(arriving(tcpPacket({ sourcePort: first + i })));
    return server(onlyPacket(outcome));
  });
}
const ruleCounters = (world: Bench, id = 1): RuleCounters =>
  world.engine.counters().rules.find((one) => one.ruleId === id)!;
function pairCounters(world: Bench, serverId: number, ruleId = 1): PairCounters {
  const found = world.engine.counters().pairs.find((one) => one.ruleId === ruleId && one.serverId === serverId);
  return found ?? { ruleId, serverId, packets: 0n, bytes: 0n, flows: 0 };
}
const reasonOf = ({ verdict, reason }: Outcome): readonly number[] => [verdict, reason];
const one = membersOf(SERVERS.slice(0, 1));

function rewriting(bench: MakeBench): void {
  test("ILB-164 a DSR packet leaves unmodified except TTL and link header", () => {
    const world = bench([ruleOf({ type: "DSR", members: one })]);
    const packet = tcpPacket();
    const outcome = world.send(arriving(packet));
    expect(reasonOf(outcome)).toEqual([Verdict.Forward, Reason.DsrSent]);
    expect(outcome.out[0]!.port).toBe(SERVER_SIDE);
    const frame = decodeEthernet(outcome.out[0]!.bytes);
    expect(frame.destination).toEqual(serverMac(0));
    expect(frame.source).toEqual(BOX_MACS[1]);
    expect(frame.payload[8]).toBe(63);
    expect(faults(frame.payload)).toEqual([]);
    const unstepped = frame.payload.slice();
    unstepped.set(packet.subarray(8, 12), 8);
    expect([...unstepped]).toEqual([...packet]);
    expect(world.engine.flows()).toEqual([]);
  });

  test("ILB-165 half-NAT rewrites the destination of the request and the source of the reply, checksums valid", () => {
    const world = bench([ruleOf({ members: membersOf([{ ...SERVERS[0]!, ports: onePort(8080) }]) })]);
    const request = onlyPacket(world.send(arriving(tcpPacket())));
    expect([addressText(request.source), request.tcp!.sourcePort]).toEqual([addressText(CLIENT), 40000]);
    expect([server(request), request.tcp!.destinationPort]).toEqual(["192.0.2.10", 8080]);
    const outcome = world.send(arriving(answerTo(request), SERVER_SIDE));
    const reply = onlyPacket(outcome);
    expect([addressText(reply.source), reply.tcp!.sourcePort]).toEqual([addressText(VIP), 80]);
    expect([addressText(reply.destination), reply.tcp!.destinationPort]).toEqual([addressText(CLIENT), 40000]);
    for (const packet of [request, reply]) {
      expect([headerChecksumState(packet), transportChecksumState(packet), packet.ttl]).toEqual(["good", "good", 63]);
    }
    expect(outcome.out[0]!.port).toBe(CLIENT_SIDE);
    expect(decodeEthernet(outcome.out[0]!.bytes)).toMatchObject({ destination: CLIENT_MAC, source: BOX_MACS[0] });
    expect(outcome).toMatchObject({ ruleId: 1, serverId: 101, direction: "server-to-client", flow: "found" });
  });

  test("ILB-166 full NAT rewrites both ends of request and reply, checksums valid", () => {
    const world = bench([ruleOf({ type: "NAT", members: one })]);
    const request = onlyPacket(world.send(arriving(tcpPacket())));
    const proxyPort = request.tcp!.sourcePort;
    expect([addressText(request.source), server(request)]).toEqual([addressText(PROXY), "192.0.2.10"]);
    expect(proxyPort).toBeGreaterThanOrEqual(4096);
    const reply = onlyPacket(world.send(arriving(answerTo(request), SERVER_SIDE)));
    expect([addressText(reply.source), addressText(reply.destination)]).toEqual([
      addressText(VIP),
      addressText(CLIENT),
    ]);
    expect([reply.tcp!.sourcePort, reply.tcp!.destinationPort]).toEqual([80, 40000]);
    for (const packet of [request, reply]) {
      expect([headerChecksumState(packet), transportChecksumState(packet)]).toEqual(["good", "good"]);
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

  test("ILB-167 an IPv4 UDP checksum of 0 stays 0", () => {
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
    expect([headerChecksumState(packet), transportChecksumState(packet)]).toEqual(["bad", "bad"]);
  });

  test("a partial checksum stays partial: only the addresses move it", () => {
    const world = bench([ruleOf({ type: "NAT", members: one })]);
    const vnet = { flags: 1, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 34, csumOffset: 16 };
    const outcome = world.send(arriving(tcpPacket({ checksum: "partial" }), CLIENT_SIDE, vnet));
    const request = onlyPacket(outcome);
    expect(transportChecksumState(request, true)).toBe("partial");
    expect(outcome.out[0]!.vnet).toEqual(vnet);
  });

  test("a super-packet keeps its segment size and gets its offsets moved with the link header", () => {
    const world = bench([ruleOf({ type: "NAT", members: one })]);
    const vnet = { flags: 1, gsoType: 1, hdrLen: 54, gsoSize: 1448, csumStart: 34, csumOffset: 16 };
    world.engine.setNextHop(0, hopOf(0, { port: TUN }));
    const packet = tcpPacket({ checksum: "partial", payload: new Uint8Array(9_000) });
    const outcome = world.send(arriving(packet, CLIENT_SIDE, vnet));
    expect(outcome.out[0]!.vnet).toEqual({ ...vnet, hdrLen: 40, csumStart: 20 });
    expect(outcome.out[0]!.bytes.length).toBe(packet.length);
    const sent = onlyPacket(outcome, "ip");
    expect([transportChecksumState(sent, true), sent.ttl]).toEqual(["partial", 64]);
  });

  test("IPv4 options stay and the transport header is found behind them", () => {
    const world = bench([ruleOf({ members: one })]);
    const options = Uint8Array.of(0x94, 4, 0, 0);
    const packet = onlyPacket(world.send(arriving(tcpPacket({ ipv4: { options } }))));
    expect([packet.options, server(packet)]).toEqual([options, "192.0.2.10"]);
    expect([headerChecksumState(packet), transportChecksumState(packet)]).toEqual(["good", "good"]);
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
      expect([addressText(reply.source), reply.tcp!.sourcePort]).toEqual([addressText(VIP), 5003]);
    }
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

function choosing(bench: MakeBench): void {
  test("ILB-179 round robin begins with the server added last", () => {
    expect(serversOf(bench([ruleOf()]), 4)).toEqual(["192.0.2.12", "192.0.2.11", "192.0.2.10", "192.0.2.12"]);
  });

  test("ILB-180 round robin skips a disabled server", () => {
    const members = membersOf(SERVERS).map((member, i) => (i === 1 ? { ...member, enabledSequence: null } : member));
    const served = serversOf(bench([ruleOf({ members })]), 4);
    expect(served).toEqual(["192.0.2.12", "192.0.2.10", "192.0.2.12", "192.0.2.10"]);
  });

  test("ILB-296 a server added in the middle of a turn is served right after the list's end", () => {
    const world = bench([ruleOf()]);
    expect(serversOf(world, 2)).toEqual(["192.0.2.12", "192.0.2.11"]);
    const added = { ...SERVERS[0]!, id: 104, address: ip("192.0.2.13") };
    world.publish([ruleOf({ members: membersOf([...SERVERS, added]) })]);
    expect(serversOf(world, 3, 41000)).toEqual(["192.0.2.10", "192.0.2.13", "192.0.2.12"]);
  });

  test("DSR takes the round robin's turn with every packet", () => {
    const world = bench([ruleOf({ type: "DSR" })]);
    const macs = [1, 2, 3].map(() => world.send(arriving(tcpPacket())).out[0]!.bytes[5]);
    expect(macs).toEqual([3, 2, 1]);
  });

  test("ILB-181 the hashes choose by CRC-32 as published", () => {
    const cases = [
      ["hash-ip", "192.0.2.1", 1025, [1, 2, 1]],
      ["hash-ip", "203.0.113.7", 1025, [0, 0, 0]],
      ["hash-ip-port", "192.0.2.1", 40000, [1, 2, 3]],
      ["hash-ip-port", "203.0.113.7", 1024, [1, 0, 3]],
      ["hash-ip-vip", "192.0.2.1", 1025, [1, 2, 3]],
    ] as const;
    const servers = [...SERVERS, { ...SERVERS[0]!, id: 104, address: ip("192.0.2.13") }];
    for (const [algorithm, client, sourcePort, indexes] of cases) {
      for (const [i, index] of indexes.entries()) {
        const world = bench([ruleOf({ algorithm, members: membersOf(servers.slice(0, i + 2)) })]);
        const packet = onlyPacket(world.send(arriving(tcpPacket({ from: ip(client), sourcePort }))));
        expect(`${algorithm} of ${i + 2}: ${server(packet)}`).toBe(`${algorithm} of ${i + 2}: 192.0.2.${10 + index}`);
      }
    }
  });

  test("ILB-182 ILB-183 clients of a disabled hash server move, by h over the enabled ones; the others stay", () => {
    const clients = Array.from({ length: 30 }, (_, i) => ip(`203.0.113.${i + 1}`));
    const choices = (world: Bench): string[] =>
      clients.map((from, i) => server(onlyPacket(world.send(arriving(tcpPacket({ from, sourcePort: 2000 + i }))))));
    const before = choices(bench([ruleOf({ algorithm: "hash-ip" })]));
    const members = membersOf(SERVERS).map((member, i) => (i === 1 ? { ...member, enabledSequence: null } : member));
    const after = choices(bench([ruleOf({ algorithm: "hash-ip", members })]));
    for (const [i, was] of before.entries()) if (was !== "192.0.2.11") expect(after[i]).toBe(was);
    const moved = new Set(after.filter((_, i) => before[i] === "192.0.2.11"));
    expect([...moved].sort()).toEqual(["192.0.2.10", "192.0.2.12"]);
  });

  test("ILB-295 the enabled list is in the order in which servers became enabled", () => {
    const sequences = [null, 4, 3];
    const members = membersOf(SERVERS).map((member, i) => ({ ...member, enabledSequence: sequences[i]! }));
    const world = bench([ruleOf({ algorithm: "hash-ip", members })]);
    // 203.0.113.7 hashes to an even number that is divisible by 3: server .10, which is disabled, then place 0 of (.12, .11).
    const packet = onlyPacket(world.send(arriving(tcpPacket({ from: ip("203.0.113.7") }))));
    expect(server(packet)).toBe("192.0.2.12");
  });

  test("ILB-191 sticky clients of one prefix share a server", () => {
    const world = bench([ruleOf({ stickyMask: 24 })]);
    const at = (from: string, sourcePort: number): string =>
      server(onlyPacket(world.send(arriving(tcpPacket({ from: ip(from), sourcePort })))));
    expect(at("192.0.2.5", 40000)).toBe("192.0.2.12");
    expect(at("192.0.2.9", 40001)).toBe("192.0.2.12");
    expect(at("203.0.113.5", 40002)).toBe("192.0.2.10");
    expect(world.engine.sticky()).toContainEqual({ ruleId: 1, serverId: 103, client: ip("192.0.2.0") });
  });

  test("ILB-192 a sticky client moves when its server is disabled and stays there afterwards", () => {
    const world = bench([ruleOf({ stickyMask: 32 })]);
    expect(serversOf(world, 1)).toEqual(["192.0.2.12"]);
    const members = membersOf(SERVERS).map((member, i) => (i === 2 ? { ...member, enabledSequence: null } : member));
    world.publish([ruleOf({ stickyMask: 32, members })]);
    const [moved] = serversOf(world, 1, 41000);
    expect(moved).not.toBe("192.0.2.12");
    world.publish([ruleOf({ stickyMask: 32 })]);
    expect(serversOf(world, 3, 42000)).toEqual([moved!, moved!, moved!]);
  });

  test("ILB-193 a sticky entry goes when its last flow has been gone for persist-timeout", () => {
    const world = bench([ruleOf({ type: "NAT", stickyMask: 32, persistTimeoutMs: 30_000 })]);
    serversOf(world, 1);
    world.wait(136_000);
    expect([world.engine.flows().length, world.engine.sticky().length]).toEqual([0, 1]);
    world.wait(46_000);
    expect(world.engine.sticky()).toEqual([]);
  });

  test("ILB-194 sticky entries of two rules are independent", () => {
    const other = ruleOf({ id: 2, slot: 1, ports: onePort(81), stickyMask: 32, members: membersOf([SERVERS[0]!]) });
    const world = bench([ruleOf({ stickyMask: 32 }), other]);
    world.send(arriving(tcpPacket()));
    world.send(arriving(tcpPacket({ destinationPort: 81 })));
    expect(world.engine.sticky().map((entry) => [entry.ruleId, entry.serverId])).toEqual([
      [1, 103],
      [2, 101],
    ]);
  });

  test("ILB-302 DSR refreshes a sticky entry with every packet", () => {
    const world = bench([ruleOf({ type: "DSR", stickyMask: 32, persistTimeoutMs: 30_000 })]);
    for (let i = 0; i < 4; i++) {
      world.send(arriving(tcpPacket()));
      world.wait(20_000);
    }
    expect(world.engine.sticky().length).toBe(1);
    world.wait(26_000);
    expect(world.engine.sticky()).toEqual([]);
  });

  test("proxy addresses rotate per connection and server, beginning with the second", () => {
    const proxySource = { first: ip("203.0.113.1"), last: ip("203.0.113.3") };
    const world = bench([ruleOf({ type: "NAT", proxySource, members: one })]);
    const used = [0, 1, 2, 3].map((i) =>
      addressText(onlyPacket(world.send(arriving(tcpPacket({ sourcePort: 40000 + i })))).source),
    );
    expect(used).toEqual(["203.0.113.2", "203.0.113.3", "203.0.113.1", "203.0.113.2"]);
  });

  test("ILB-298 a TCP and a UDP rule on one proxy address and server never share a proxy port", () => {
    const tcpRule = ruleOf({ type: "NAT", ports: onePort(53), members: one });
    const udpRule = ruleOf({ id: 2, slot: 1, type: "NAT", protocol: "udp", ports: onePort(53), members: one });
    const world = bench([tcpRule, udpRule]);
    for (let i = 0; i < 20; i++) {
      world.send(arriving(tcpPacket({ sourcePort: 40000 + i, destinationPort: 53 })));
      world.send(arriving(udpPacket({ sourcePort: 40000 + i })));
    }
    const ports = world.engine.flows().map((flow) => flow.sourcePort);
    expect([ports.length, new Set(ports).size]).toEqual([40, 40]);
  });

  test("a server used on several ports and on one of them alone never shares a proxy port between the two", () => {
    const range = ruleOf({ type: "NAT", ports: { min: 5000, max: 5009 }, members: one });
    const single = ruleOf({
      id: 2,
      slot: 1,
      vip: ip("198.51.100.11"),
      type: "NAT",
      ports: onePort(5005),
      members: one,
    });
    const world = bench([range, single]);
    for (let i = 0; i < 20; i++) {
      world.send(arriving(tcpPacket({ sourcePort: 40000 + i, destinationPort: 5005 })));
      world.send(arriving(tcpPacket({ sourcePort: 40000 + i, destinationPort: 5005, to: ip("198.51.100.11") })));
    }
    const ports = world.engine.flows().map((flow) => flow.sourcePort);
    expect([ports.length, new Set(ports).size]).toEqual([40, 40]);
  });

  test("ILB-196 port 13724 is passed over also when the ports before it have just been given back", () => {
    const world = bench([ruleOf({ type: "NAT", protocol: "udp", ports: onePort(53), members: one })]);
    const open = (i: number): Outcome => world.send(arriving(udpPacket({ sourcePort: 1024 + i, checksum: "none" })));
    for (let i = 0; i < 13_724 - 4096; i++) open(i);
    world.wait(76_000);
    expect(world.engine.flows()).toEqual([]);
    for (let i = 0; i < 3; i++) open(i);
    expect(world.engine.flows().map((flow) => flow.sourcePort)).not.toContain(13_724);
  });

  test("ILB-195 ILB-196 a proxy address gives 61438 ports, each once, none out of range; then flows are refused", () => {
    const world = bench([ruleOf({ type: "NAT", protocol: "udp", ports: onePort(53), members: one })]);
    const clients = [0, 1].map((i) => ip(`203.0.113.${200 + i}`));
    const packet = (i: number): ReturnType<typeof arriving> =>
      arriving(udpPacket({ from: clients[i >> 15]!, sourcePort: 1024 + (i & 0x7fff), checksum: "none" }));
    for (let i = 0; i < 61_438; i += 64) {
      const count = Math.min(64, 61_438 - i);
      world.engine.process(
        Array.from({ length: count }, (_, j) => packet(i + j)),
        world.nowMs,
      );
    }
    const ports = new Set(world.engine.flows().map((flow) => flow.sourcePort));
    expect([ports.size, Math.min(...ports), Math.max(...ports), ports.has(13724)]).toEqual([
      61_438,
      4096,
      65534,
      false,
    ]);
    const refused = world.send(packet(61_438));
    expect(reasonOf(refused)).toEqual([Verdict.Drop, Reason.NoPort]);
    const bytes = 28n;
    expect(ruleCounters(world)).toMatchObject({
      packetsNoPort: 1n,
      bytesNoPort: bytes,
      packetsDropped: 1n,
      bytesDropped: bytes,
    });
    expect(onlyPacket(world.send(packet(0))).udp).toBeDefined();
    world.wait(76_000);
    expect(world.engine.flows()).toEqual([]);
    expect(world.send(packet(61_438)).reason).toBe(Reason.FlowNew);
  });
}

/** Opens a connection and answers it. */
function established(world: Bench): {
  request: Decoded;
  fromServer: (spec: Parameters<typeof answerTo>[1]) => Outcome;
} {
  const request = onlyPacket(world.send(arriving(tcpPacket({ sequence: 100 }))));
  const fromServer = (spec: Parameters<typeof answerTo>[1]): Outcome =>
    world.send(arriving(answerTo(request, spec), SERVER_SIDE));
  fromServer({ flags: "SA", sequence: 500, acknowledgement: 101 });
  return { request, fromServer };
}
const isOpen = (world: Bench): boolean => world.engine.flows().length > 0;

function tracking(bench: MakeBench): void {
  test("ILB-184 an RST is forwarded and the flow is gone within 15 s", () => {
    const world = bench([ruleOf({ type: "NAT", members: one })]);
    const { fromServer } = established(world);
    expect(fromServer({ flags: "RA", sequence: 501, acknowledgement: 101 }).verdict).toBe(Verdict.Forward);
    world.wait(15_000);
    expect(isOpen(world)).toBe(false);
  });

  test("ILB-185 a flow whose FINs are both acknowledged is gone within 15 s and its port free", () => {
    const world = bench([ruleOf({ type: "NAT", members: one })]);
    const { fromServer } = established(world);
    world.send(arriving(tcpPacket({ flags: "FA", sequence: 101, acknowledgement: 501 })));
    fromServer({ flags: "FA", sequence: 501, acknowledgement: 102 });
    world.wait(15_000);
    expect(isOpen(world)).toBe(true);
    world.send(arriving(tcpPacket({ flags: "A", sequence: 102, acknowledgement: 502 })));
    world.wait(15_000);
    expect(isOpen(world)).toBe(false);
  });

  test("a FIN that is not acknowledged leaves the flow open; data beyond it forgets it", () => {
    const world = bench([ruleOf({ members: one })]);
    const { fromServer } = established(world);
    world.send(arriving(tcpPacket({ flags: "FA", sequence: 101, acknowledgement: 501 })));
    fromServer({ flags: "FA", sequence: 501, acknowledgement: 102 });
    world.send(arriving(tcpPacket({ flags: "PA", sequence: 5000, acknowledgement: 501, payload: Uint8Array.of(1) })));
    world.send(arriving(tcpPacket({ flags: "A", sequence: 5001, acknowledgement: 502 })));
    world.wait(15_000);
    expect(isOpen(world)).toBe(true);
  });

  test("FIN numbers are compared modulo 2^32", () => {
    const world = bench([ruleOf({ members: one })]);
    const { fromServer } = established(world);
    world.send(
      arriving(tcpPacket({ flags: "FA", sequence: 0xfffffff0, payload: new Uint8Array(15), acknowledgement: 501 })),
    );
    fromServer({ flags: "FA", sequence: 0xffffffff, acknowledgement: 0 });
    world.send(arriving(tcpPacket({ flags: "A", sequence: 0, acknowledgement: 0 })));
    world.wait(15_000);
    expect(isOpen(world)).toBe(false);
  });

  test.each([
    ["tcp", 120_000],
    ["udp", 60_000],
  ] as const)("ILB-186 an idle %s flow lives for %i ms and not 15 s longer", (protocol, idleMs) => {
    const world = bench([ruleOf({ protocol, ports: onePort(80), natTimeoutMs: idleMs, members: one })]);
    world.send(arriving(protocol === "tcp" ? tcpPacket() : udpPacket({ destinationPort: 80 })));
    world.wait(idleMs - 1);
    expect(isOpen(world)).toBe(true);
    world.wait(15_002);
    expect(isOpen(world)).toBe(false);
  });

  test("a packet of either direction keeps a flow alive", () => {
    const world = bench([ruleOf({ natTimeoutMs: 20_000, members: one })]);
    const { fromServer } = established(world);
    for (let i = 0; i < 4; i++) {
      world.wait(15_000);
      fromServer({ flags: "A", sequence: 501, acknowledgement: 101 });
    }
    expect(isOpen(world)).toBe(true);
    for (let i = 0; i < 4; i++) {
      world.wait(15_000);
      world.send(arriving(tcpPacket({ flags: "A", sequence: 101, acknowledgement: 501 })));
    }
    expect(isOpen(world)).toBe(true);
  });

  test("ILB-187 a SYN that meets a closed flow gets a new decision and a working connection", () => {
    const world = bench([ruleOf()]);
    const { request, fromServer } = established(world);
    expect(server(request)).toBe("192.0.2.12");
    fromServer({ flags: "RA", sequence: 501, acknowledgement: 101 });
    const outcome = world.send(arriving(tcpPacket({ sequence: 9000 })));
    expect([outcome.flow, server(onlyPacket(outcome))]).toEqual(["new", "192.0.2.11"]);
    const reply = world.send(arriving(answerTo(onlyPacket(outcome)), SERVER_SIDE));
    expect(reply.verdict).toBe(Verdict.Forward);
    expect(world.engine.flows().length).toBe(1);
  });

  test("a SYN that meets an open flow belongs to it", () => {
    const world = bench([ruleOf()]);
    established(world);
    const outcome = world.send(arriving(tcpPacket({ sequence: 100 })));
    expect([outcome.flow, server(onlyPacket(outcome))]).toEqual(["found", "192.0.2.12"]);
  });

  test("a first packet without SYN opens a flow too", () => {
    const outcome = bench([ruleOf()]).send(arriving(tcpPacket({ flags: "PA" })));
    expect([outcome.flow, outcome.reason]).toEqual(["new", Reason.FlowNew]);
  });

  test("ILB-169 a flow goes on when its rule or its server is disabled or gone", () => {
    const rule = ruleOf({ members: one });
    const world = bench([rule]);
    established(world);
    const data = (): Outcome => world.send(arriving(tcpPacket({ flags: "PA", sequence: 101, acknowledgement: 501 })));
    world.publish([{ ...rule, enabled: false }]);
    expect(data().reason).toBe(Reason.FlowFound);
    world.publish([{ ...rule, members: one.map((member) => ({ ...member, enabledSequence: null })) }]);
    expect(data().reason).toBe(Reason.FlowFound);
    world.publish([{ ...rule, members: [] }], [], [rule]);
    expect(data().reason).toBe(Reason.FlowFound);
    world.publish([], [], [rule]);
    expect(data().reason).toBe(Reason.FlowFound);
  });

  test("ILB-188 at the drain deadline a flow ends although it is busy", () => {
    const rule = ruleOf({ members: one });
    const world = bench([rule]);
    established(world);
    world.publish([{ ...rule, members: [] }], [{ ruleId: 1, serverId: 101, deadlineMs: world.nowMs + 30_000 }], [rule]);
    const data = (): Outcome => world.send(arriving(tcpPacket({ flags: "PA", sequence: 101, acknowledgement: 501 })));
    world.wait(29_999);
    expect(data().reason).toBe(Reason.FlowFound);
    world.wait(15_002);
    expect(isOpen(world)).toBe(false);
  });

  test("ILB-190 a server enabled again before its deadline loses no flow", () => {
    const rule = ruleOf({ members: one });
    const world = bench([rule]);
    established(world);
    world.publish([rule], [{ ruleId: 1, serverId: 101, deadlineMs: world.nowMs + 30_000 }]);
    world.wait(10_000);
    world.publish([rule]);
    world.wait(60_000);
    expect(isOpen(world)).toBe(true);
  });

  test("E.3 of two half-NAT flows with equal server-side tuples the newest gets the answers", () => {
    const other = ruleOf({ id: 2, slot: 1, vip: ip("198.51.100.11"), members: one });
    const world = bench([ruleOf({ members: one }), other]);
    const request = onlyPacket(world.send(arriving(tcpPacket())));
    world.send(arriving(tcpPacket({ to: ip("198.51.100.11") })));
    const reply = onlyPacket(world.send(arriving(answerTo(request), SERVER_SIDE)));
    expect(addressText(reply.source)).toBe("198.51.100.11");
    expect(onlyPacket(world.send(arriving(tcpPacket({ flags: "A" })))).tcp).toBeDefined();
  });
}

const icmpPacket = (message: Uint8Array, spec: { from?: string; to?: string; ttl?: number } = {}): Uint8Array =>
  ipv4({
    source: ip(spec.from ?? "203.0.113.200"),
    destination: spec.to === undefined ? VIP : ip(spec.to),
    protocol: PROTOCOL_ICMP,
    payload: message,
    ...(spec.ttl === undefined ? {} : { ttl: spec.ttl }),
  });

/** Fragmentation needed about a packet that VIP port 80 sent to the client. */
function tooBig(quotedBytes = 48): Uint8Array {
  const ends = { from: VIP, to: CLIENT, sourcePort: 80, destinationPort: 40000 };
  const quoted = tcpPacket({ ...ends, flags: "PA", payload: new Uint8Array(1400), ipv4: { dontFragment: true } });
  return icmpPacket(icmp4({ type: 3, code: 4, rest: 1400, payload: quoted.subarray(0, quotedBytes) }), {
    from: "203.0.113.77",
  });
}

function icmp(bench: MakeBench): void {
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

function leaving(bench: MakeBench): void {
  test("TTL 1 is answered with time exceeded from the box and opens no flow", () => {
    const world = bench([ruleOf({ members: one })]);
    const packet = tcpPacket({ ipv4: { ttl: 1 } });
    const outcome = world.send(arriving(packet));
    expect(reasonOf(outcome)).toEqual([Verdict.Reply, Reason.TimeExceededSent]);
    const error = onlyPacket(outcome);
    expect(faults(decodeEthernet(outcome.out[0]!.bytes).payload)).toEqual([]);
    expect([addressText(error.source), addressText(error.destination)]).toEqual([
      addressText(BOX_CLIENT_SIDE),
      addressText(CLIENT),
    ]);
    expect([error.icmp!.type, error.icmp!.code, error.icmp!.payload]).toEqual([11, 0, packet]);
    expect(isOpen(world)).toBe(false);
    expect(pairCounters(world, 101).packets).toBe(0n);
  });

  test("on an IP port the kernel steps the TTL, so the engine does not", () => {
    const world = bench([ruleOf({ members: one })]);
    world.engine.setNextHop(0, hopOf(0, { port: TUN }));
    const request = onlyPacket(world.send(arriving(tcpPacket({ ipv4: { ttl: 1 } }), TUN)), "ip");
    expect([request.ttl, headerChecksumState(request)]).toEqual([1, "good"]);
  });

  test("too big with DF is answered with fragmentation needed and the egress MTU", () => {
    const world = bench([ruleOf({ members: one })]);
    world.engine.setNextHop(0, hopOf(0, { mtu: 1400 }));
    const packet = tcpPacket({ flags: "PA", payload: new Uint8Array(1361), ipv4: { dontFragment: true } });
    const outcome = world.send(arriving(packet));
    expect(reasonOf(outcome)).toEqual([Verdict.Reply, Reason.TooBigSent]);
    const error = onlyPacket(outcome);
    expect([error.icmp!.type, error.icmp!.code, error.icmp!.rest]).toEqual([3, 4, 1400]);
    expect(error.icmp!.payload).toEqual(packet.subarray(0, 548));
    expect(faults(decodeEthernet(outcome.out[0]!.bytes).payload)).toEqual([]);
  });

  test("a super-packet is measured by its segments, not by its length", () => {
    const world = bench([ruleOf({ members: one })]);
    const packet = tcpPacket({ checksum: "partial", payload: new Uint8Array(9_000), ipv4: { dontFragment: true } });
    const vnet = { flags: 1, gsoType: 1, hdrLen: 54, gsoSize: 1460, csumStart: 34, csumOffset: 16 };
    expect(world.send(arriving(packet, CLIENT_SIDE, vnet)).verdict).toBe(Verdict.Forward);
    expect(world.send(arriving(packet, CLIENT_SIDE, { ...vnet, gsoSize: 1461 })).reason).toBe(Reason.TooBigSent);
  });

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

  test("answers follow the client to the port and MAC address of its last packet", () => {
    const world = bench([ruleOf({ members: one })]);
    const { fromServer } = established(world);
    world.send(arriving(tcpPacket({ flags: "A" }), TUN));
    const outcome = fromServer({ flags: "A", sequence: 501, acknowledgement: 101 });
    expect(outcome.out[0]!.port).toBe(TUN);
    expect(onlyPacket(outcome, "ip").ttl).toBe(64);
  });
}

function refusing(bench: MakeBench): void {
  test("ILB-168 a disabled rule passes its packets and counts them", () => {
    const world = bench([ruleOf({ enabled: false })]);
    expect(reasonOf(world.send(arriving(tcpPacket())))).toEqual([Verdict.Pass, Reason.RuleDisabled]);
    expect(ruleCounters(world)).toMatchObject({ packetsNotProcessed: 1n, bytesNotProcessed: 40n });
  });

  test("ILB-170 without a server a packet is dropped silently and counted", () => {
    for (const members of [[], one.map((member) => ({ ...member, enabledSequence: null }))]) {
      const world = bench([ruleOf({ members })]);
      expect(reasonOf(world.send(arriving(tcpPacket())))).toEqual([Verdict.Drop, Reason.NoServer]);
      expect(ruleCounters(world)).toMatchObject({ packetsDropped: 1n, bytesDropped: 40n });
    }
  });

  test("ILB-171 a port of a VIP without rule is left to the kernel", () => {
    const world = bench([ruleOf()]);
    expect(world.send(arriving(tcpPacket({ destinationPort: 81 }))).verdict).toBe(Verdict.Ignore);
    expect(Object.values(ruleCounters(world)).filter((count) => typeof count === "bigint" && count !== 0n)).toEqual([]);
  });

  test("traffic of servers and to proxy addresses that belongs to no flow goes back to the kernel", () => {
    const world = bench([ruleOf({ type: "NAT", members: one })]);
    const fromServer = tcpPacket({
      from: SERVERS[0]!.address,
      sourcePort: 80,
      to: ip("203.0.113.9"),
      destinationPort: 999,
    });
    expect(reasonOf(world.send(arriving(fromServer, SERVER_SIDE)))).toEqual([Verdict.Pass, Reason.ServerTraffic]);
    const toProxy = tcpPacket({ to: PROXY, destinationPort: 5000 });
    expect(reasonOf(world.send(arriving(toProxy)))).toEqual([Verdict.Pass, Reason.ProxyTraffic]);
    expect(world.send(arriving(tcpPacket({ to: ip("203.0.113.9") }))).verdict).toBe(Verdict.Ignore);
  });

  test("ILB-172 a fragment to a VIP is dropped and counted globally only", () => {
    const world = bench([ruleOf({ protocol: "udp", ports: onePort(53) })]);
    const ends = { source: CLIENT, destination: VIP };
    const payload = udp({ sourcePort: 40000, destinationPort: 53, payload: new Uint8Array(100) }, ends);
    const fragments = fragmentIpv4({ ...ends, protocol: PROTOCOL_UDP, payload }, 76);
    for (const fragment of fragments) {
      expect(reasonOf(world.send(arriving(fragment)))).toEqual([Verdict.Drop, Reason.FragmentToVip]);
    }
    const { fragmentsIn, fragmentsDropped } = world.engine.counters();
    expect([fragmentsIn, fragmentsDropped]).toEqual([BigInt(fragments.length), BigInt(fragments.length)]);
    expect(ruleCounters(world).packetsDropped).toBe(0n);
  });

  test("ILB-293 a cut TCP or UDP header is dropped with a reason and counted nowhere else", () => {
    const world = bench([ruleOf(), ruleOf({ id: 2, slot: 1, protocol: "udp", ports: onePort(53) })]);
    const cut = (packet: Uint8Array, bytes: number): Uint8Array => {
      const short = packet.slice(0, bytes);
      short[3] = bytes;
      return short;
    };
    for (const packet of [
      cut(tcpPacket(), 39),
      cut(udpPacket(), 27),
      tcpPacket({ dataOffset: 4 }),
      tcpPacket({ dataOffset: 6 }),
    ]) {
      expect(reasonOf(world.send(arriving(packet)))).toEqual([Verdict.Drop, Reason.MalformedTransport]);
    }
    expect(ruleCounters(world).packetsDropped).toBe(0n);
  });

  test.each([
    ["a frame without room for its link header", new Uint8Array(13), Verdict.Drop, Reason.MalformedLink],
    [
      "a frame with a VLAN tag",
      Uint8Array.from([...new Uint8Array(12), 0x81, 0, 0, 1, 8, 0]),
      Verdict.Ignore,
      Reason.VlanTagged,
    ],
    [
      "an ARP frame",
      Uint8Array.from([...new Uint8Array(12), 8, 6, ...new Uint8Array(28)]),
      Verdict.Ignore,
      Reason.NotIp,
    ],
    ["a cut IPv4 header", Uint8Array.from([...new Uint8Array(12), 8, 0, 0x45]), Verdict.Drop, Reason.MalformedIp],
  ] as const)("%s is told apart", (_, bytes, verdict, reason) => {
    const world = bench([ruleOf()]);
    expect(reasonOf(world.send({ bytes, port: CLIENT_SIDE }))).toEqual([verdict, reason]);
    expect(world.send({ ...arriving(tcpPacket()), vlan: true }).reason).toBe(Reason.VlanTagged);
  });

  test("offload requests that contradict the packet are refused", () => {
    const world = bench([ruleOf()]);
    const vnet = { flags: 1, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 34, csumOffset: 16 };
    const reason = (changes: Partial<typeof vnet>): Reason =>
      world.send(arriving(tcpPacket({ checksum: "partial" }), CLIENT_SIDE, { ...vnet, ...changes })).reason;
    expect(reason({ csumStart: 20 })).toBe(Reason.MalformedOffload);
    expect(reason({ csumOffset: 6 })).toBe(Reason.MalformedOffload);
    expect(reason({ gsoType: 1, gsoSize: 0 })).toBe(Reason.MalformedOffload);
    expect(reason({ gsoType: 99, gsoSize: 1000 })).toBe(Reason.GsoUnknown);
    expect(reason({})).toBe(Reason.FlowNew);
  });

  test("a packet from an address that no host may have opens no flow", () => {
    const world = bench([ruleOf()]);
    for (const from of ["0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"]) {
      expect(world.send(arriving(tcpPacket({ from: ip(from) }))).reason).toBe(Reason.MartianSource);
    }
  });

  test("ILB-297 a flow table that can give nothing up refuses new flows; established ones go on", () => {
    const world = bench([ruleOf({ protocol: "udp", ports: onePort(53), members: one })], { maxFlows: 64 });
    const talk = (sourcePort: number): Outcome => {
      const outcome = world.send(arriving(udpPacket({ sourcePort })));
      if (outcome.verdict !== Verdict.Forward) return outcome;
      // Only a flow that has been answered is safe from being given up.
      world.send(arriving(answerTo(onlyPacket(outcome)), SERVER_SIDE));
      return world.send(arriving(udpPacket({ sourcePort })));
    };
    let refused: Outcome | undefined;
    for (let i = 0; i < 300 && refused === undefined; i++) {
      const outcome = talk(1000 + i);
      if (outcome.verdict === Verdict.Drop) refused = outcome;
    }
    expect(refused?.reason).toBe(Reason.NoFlowMemory);
    expect(ruleCounters(world)).toMatchObject({
      packetsNoMemory: 1n,
      bytesNoMemory: 28n,
      packetsDropped: 1n,
      bytesDropped: 28n,
    });
    expect(world.send(arriving(udpPacket({ sourcePort: 1000 }))).reason).toBe(Reason.FlowFound);
  });
}

function counting(bench: MakeBench): void {
  test("ILB-197 both directions of NAT types count for the server, DSR only the client's", () => {
    for (const type of ["HALF-NAT", "NAT", "DSR"] as const) {
      const world = bench([ruleOf({ type, members: one })]);
      const request = onlyPacket(world.send(arriving(tcpPacket())));
      if (type !== "DSR") world.send(arriving(answerTo(request, { payload: new Uint8Array(10) }), SERVER_SIDE));
      const expected = type === "DSR" ? { packets: 1n, bytes: 40n, flows: 0 } : { packets: 2n, bytes: 90n, flows: 1 };
      expect(pairCounters(world, 101)).toMatchObject(expected);
    }
  });

  test("Ethernet padding does not count as bytes", () => {
    const world = bench([ruleOf({ members: one })]);
    const frame = arriving(tcpPacket());
    const outcome = world.send({ ...frame, bytes: concat(frame.bytes, new Uint8Array(6)) });
    expect(outcome.verdict).toBe(Verdict.Forward);
    expect(pairCounters(world, 101).bytes).toBe(40n);
  });

  test("ILB-274 counters go on through disabling and enabling and begin at 0 for a new rule", () => {
    const rule = ruleOf({ members: [] });
    const world = bench([rule]);
    world.send(arriving(tcpPacket()));
    world.publish([{ ...rule, enabled: false }]);
    world.publish([rule]);
    expect(ruleCounters(world).packetsDropped).toBe(1n);
    world.publish([]);
    world.publish([{ ...rule, id: 7 }]);
    expect(ruleCounters(world, 7).packetsDropped).toBe(0n);
  });

  test("every packet has one reason: they add up to the packets that came in", () => {
    const world = bench([ruleOf({ members: one })]);
    const frames = [
      arriving(tcpPacket()),
      { bytes: new Uint8Array(3), port: CLIENT_SIDE },
      arriving(tcpPacket({ destinationPort: 9 })),
    ];
    world.engine.process(frames, world.nowMs);
    const { packetsIn, reasons } = world.engine.counters();
    expect(packetsIn).toBe(3n);
    expect(reasons.reduce((sum, count) => sum + count, 0n)).toBe(3n);
    expect(reasons.length).toBe(Object.keys(Reason).length);
  });

  test("before a first image nothing belongs to the engine", () => {
    const world = bench([]);
    expect(world.send(arriving(tcpPacket())).verdict).toBe(Verdict.Ignore);
  });
}
