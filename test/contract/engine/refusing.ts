/** Engine contract: What is passed, dropped and refused, and counters. */
import { expect, test } from "bun:test";
import type { Outcome } from "../../../src/engine/engine.ts";
import { Reason, Verdict } from "../../../src/gen/layout.ts";
import { ip as parseAddress } from "../../support/addresses.ts";
import {
  address6Of,
  answerTo,
  arriving,
  type Bench,
  CLIENT_SIDE,
  hopOf,
  onlyPacket,
  SERVER_SIDE,
} from "../../support/engine-bench.ts";
import { membersOf, onePort } from "../../support/image-builder.ts";
import { concat } from "../../support/packet-builder.ts";
import { type Ground, pairCounters, reasonOf, ruleCounters } from "./ground.ts";

export function refusing(ground: Ground): void {
  const { family, ip, bench, ruleOf, tcpPacket, udpPacket, headerBytes, PROXY, SERVERS, one } = ground;
  const bareTcpBytes = BigInt(headerBytes + 20);
  const bareUdpBytes = BigInt(headerBytes + 8);
  test("ILB-168 a disabled rule passes its packets and counts them", () => {
    const world = bench([ruleOf({ enabled: false })]);
    expect(reasonOf(world.send(arriving(tcpPacket())))).toEqual([Verdict.Pass, Reason.RuleDisabled]);
    expect(ruleCounters(world)).toMatchObject({ packetsNotProcessed: 1n, bytesNotProcessed: bareTcpBytes });
  });

  test("ILB-170 without a server a packet is dropped silently and counted", () => {
    for (const members of [[], one.map((member) => ({ ...member, enabledSequence: null }))]) {
      const world = bench([ruleOf({ members })]);
      expect(reasonOf(world.send(arriving(tcpPacket())))).toEqual([Verdict.Drop, Reason.NoServer]);
      expect(ruleCounters(world)).toMatchObject({ packetsDropped: 1n, bytesDropped: bareTcpBytes });
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

  test("answers of a server to health probes of the box are left to the kernel, at its own addresses and probe ports only", () => {
    const own = ip("203.0.113.9");
    const world = bench([]);
    const rules = [ruleOf({ members: one }), ruleOf({ id: 2, slot: 1, protocol: "udp", members: one })];
    world.publish(rules, [], [], [own]);
    const answer = (destinationPort: number, to = own, sourcePort = 80, make = tcpPacket) =>
      reasonOf(world.send(arriving(make({ from: SERVERS[0]!.address, sourcePort, to, destinationPort }), SERVER_SIDE)));
    const [left, taken] = [
      [Verdict.Ignore, Reason.Unguarded],
      [Verdict.Pass, Reason.ServerTraffic],
    ];
    for (const port of [2048, 3000, 4095]) {
      expect(answer(port)).toEqual(left);
      expect(answer(port, own, 80, udpPacket)).toEqual(left);
    }
    for (const port of [2047, 4096, 1, 65535]) expect(answer(port)).toEqual(taken);
    expect(answer(3000, ip("203.0.113.8"))).toEqual(taken);
  });

  test("a port of a rule whose VIP is the box's only address stays the rule's, also among the probe ports", () => {
    const world = bench([]);
    const rule = ruleOf({ vipIsLocal: true, ports: onePort(3000), members: one });
    world.publish([rule], [], [], [rule.vip]);
    const packet = tcpPacket({ from: ip("203.0.113.7"), sourcePort: 80, to: rule.vip, destinationPort: 3000 });
    expect(reasonOf(world.send(arriving(packet)))).toEqual([Verdict.Forward, Reason.FlowNew]);
  });

  test.each([
    ["the VIP and the port of the rule", () => ({ from: ground.VIP, sourcePort: 80 })],
    ["the server that it is sent to", () => ({ from: SERVERS[0]!.address, sourcePort: 80 })],
    ["port 0", () => ({ sourcePort: 0 })],
  ])("a client that gives itself out for %s is one like any other, and its flow ends up nowhere else", (_, source) => {
    const world = bench([ruleOf({ members: one })]);
    const request = onlyPacket(world.send(arriving(tcpPacket({ ...source(), flags: "S" }))));
    expect(request.destination).toEqual(SERVERS[0]!.address);
    const answer = world.send(arriving(answerTo(request, { flags: "SA" }), SERVER_SIDE));
    expect([answer.reason, answer.out[0]!.port]).toEqual([Reason.FlowFound, CLIENT_SIDE]);
    for (let i = 0; i < 2; i++)
      expect(world.send(arriving(tcpPacket({ ...source(), flags: "A" }))).reason).toBe(Reason.FlowFound);
    expect(world.engine.flows().length).toBe(1);
  });

  ground.testWhole(
    "a client that gives itself out for a VIP with which the server talks itself takes nothing from that flow",
    () => {
      const other = ip("198.51.100.11");
      const [server, second] = SERVERS;
      const rules = [ruleOf({ members: one }), ruleOf({ id: 2, slot: 1, vip: other, members: membersOf([second!]) })];
      const world = bench(rules);
      const asServer = (flags: string) => tcpPacket({ from: server!.address, to: other, sourcePort: 80, flags });
      const asVip = (flags: string) => tcpPacket({ from: other, sourcePort: 80, flags });
      const sentTo = (packet: Uint8Array, port?: number) => onlyPacket(world.send(arriving(packet, port))).destination;
      expect(sentTo(asServer("S"), SERVER_SIDE)).toEqual(second!.address);
      expect(sentTo(asVip("S"))).toEqual(server!.address);
      expect(sentTo(asVip("A"))).toEqual(server!.address);
      expect(sentTo(asServer("A"), SERVER_SIDE)).toEqual(second!.address);
      expect(ruleCounters(world)).toMatchObject({ packetsDropped: 0n, packetsNoMemory: 0n });
      // The server's flow ends: what it sends from there is nobody's answer.
      world.send(arriving(asServer("R"), SERVER_SIDE));
      world.wait(15_001);
      expect(world.engine.flows().length).toBe(1);
      const late = world.send(arriving(asServer("A"), SERVER_SIDE));
      expect([late.reason, late.serverId]).toEqual([Reason.FlowNew, second!.id]);
    },
  );

  if (family === 4)
    test("an IPv6 packet to the IPv4-mapped address of a VIP is nobody's, also right behind openings of that VIP", () => {
      const world = bench([ruleOf({ members: one })]);
      world.send(arriving(tcpPacket({ sourcePort: 39_000 })));
      const disguised = tcpPacket({
        from: address6Of(ground.CLIENT),
        to: { family: 6, value: 0xffff_0000_0000n | ground.VIP.value },
        sourcePort: 40_001,
      });
      const frames = [tcpPacket({ sourcePort: 40_000 }), disguised, tcpPacket({ sourcePort: 40_002 })].map((packet) =>
        arriving(packet),
      );
      const outcomes = world.engine.process(frames, world.nowMs);
      expect(outcomes.map(({ reason }) => reason)).toEqual([Reason.FlowNew, Reason.Unguarded, Reason.FlowNew]);
      expect(world.engine.flows().length).toBe(3);
    });

  test("TTL 0 is over like TTL 1, also of a flow that is open, and takes nothing from the byte beside it", () => {
    const world = bench([ruleOf({ members: one })]);
    ground.established(world);
    world.send(arriving(tcpPacket({ flags: "A" })));
    for (const ttl of [0, 1])
      expect(world.send(arriving(tcpPacket({ flags: "A", ttl }))).reason).toBe(Reason.TimeExceededSent);
    expect(onlyPacket(world.send(arriving(tcpPacket({ flags: "A", ttl: 2 })))).ttl).toBe(1);
  });

  test("ILB-293 a cut TCP or UDP header is dropped with a reason and counted nowhere else", () => {
    const world = bench([ruleOf(), ruleOf({ id: 2, slot: 1, protocol: "udp", ports: onePort(53) })]);
    const cut = (packet: Uint8Array, bytes: number): Uint8Array => {
      const short = packet.slice(0, headerBytes + bytes);
      if (family === 4) short[3] = short.length;
      else short[5] = bytes;
      return short;
    };
    for (const packet of [
      cut(tcpPacket(), 19),
      cut(udpPacket(), 7),
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
    const vnet = { flags: 1, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 14 + headerBytes, csumOffset: 16 };
    const reason = (changes: Partial<typeof vnet>): Reason =>
      world.send(arriving(tcpPacket({ checksum: "partial" }), CLIENT_SIDE, { ...vnet, ...changes })).reason;
    expect(reason({ csumStart: 20 })).toBe(Reason.MalformedOffload);
    expect(reason({ csumOffset: 6 })).toBe(Reason.MalformedOffload);
    expect(reason({ gsoType: family === 4 ? 1 : 4, gsoSize: 0 })).toBe(Reason.MalformedOffload);
    expect(reason({ gsoType: family === 4 ? 4 : 1, gsoSize: 1000 })).toBe(Reason.GsoUnknown);
    expect(reason({ gsoType: 99, gsoSize: 1000 })).toBe(Reason.GsoUnknown);
    expect(reason({})).toBe(Reason.FlowNew);
  });

  const martians = (
    family === 4
      ? ["0.0.0.1", "127.0.0.1", "224.0.0.1", "255.255.255.255"]
      : ["::", "::1", "ff02::1", "::ffff:c000:201"]
  ).map(parseAddress);
  test("a packet from an address that no host may have opens no flow", () => {
    const world = bench([ruleOf()]);
    for (const from of martians) {
      expect(world.send(arriving(tcpPacket({ from }))).reason).toBe(Reason.MartianSource);
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
      bytesNoMemory: bareUdpBytes,
      packetsDropped: 1n,
      bytesDropped: bareUdpBytes,
    });
    expect(world.send(arriving(udpPacket({ sourcePort: 1000 }))).reason).toBe(Reason.FlowFound);
  });
}

export function counting(ground: Ground): void {
  const { SERVERS, bench, ruleOf, tcpPacket, headerBytes, one, family, ip, mask, testWhole, udpPacket } = ground;
  const bareTcpBytes = BigInt(headerBytes + 20);
  test("ILB-197 both directions of NAT types count for the server, DSR only the client's", () => {
    for (const type of ["HALF-NAT", "NAT", "DSR"] as const) {
      const world = bench([ruleOf({ type, members: one })]);
      const request = onlyPacket(world.send(arriving(tcpPacket())));
      if (type !== "DSR") world.send(arriving(answerTo(request, { payload: new Uint8Array(10) }), SERVER_SIDE));
      const expected =
        type === "DSR"
          ? { packets: 1n, bytes: bareTcpBytes, flows: 0 }
          : { packets: 2n, bytes: 2n * bareTcpBytes + 10n, flows: 1 };
      expect(pairCounters(world, 101)).toMatchObject(expected);
    }
  });

  test("Ethernet padding does not count as bytes", () => {
    const world = bench([ruleOf({ members: one })]);
    const frame = arriving(tcpPacket());
    const outcome = world.send({ ...frame, bytes: concat(frame.bytes, new Uint8Array(6)) });
    expect(outcome.verdict).toBe(Verdict.Forward);
    expect(pairCounters(world, 101).bytes).toBe(bareTcpBytes);
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

  test("a packet to a VIP whose rule is gone while its flows drain goes back to the kernel uncounted", () => {
    const rule = ruleOf({ members: one });
    const world = bench([rule]);
    world.send(arriving(tcpPacket()));
    world.publish([], [], [rule]);
    const stranger = world.send(arriving(tcpPacket({ sourcePort: 41_000 })));
    expect(reasonOf(stranger)).toEqual([Verdict.Pass, Reason.RuleGone]);
    expect(stranger).toMatchObject({ ruleId: 0, serverId: 0, flow: "none" });
    expect(world.send(arriving(tcpPacket({ flags: "A" }))).reason).toBe(Reason.FlowFound);
  });

  testWhole("NOMEM: without room for one more server in use a packet is dropped and counted, flows go on", () => {
    // Servers of rules that are gone are in use as long as their flows; engines keep some room for them.
    const generations = [1, 2, 3].map((id) =>
      ruleOf({ id, slot: id, members: membersOf(SERVERS.map((server, i) => ({ ...server, id: 100 * id + i }))) }),
    );
    const world = bench([], { maxPairs: 3 });
    const outcomes = generations.flatMap((rule, i) => {
      world.publish([rule], [], generations.slice(0, i));
      return [0, 1, 2].map((j) => world.send(arriving(tcpPacket({ sourcePort: 40_000 + 3 * i + j }))));
    });
    const refused = outcomes.findIndex(({ reason }) => reason !== Reason.FlowNew);
    expect(refused).toBeGreaterThanOrEqual(3);
    expect(outcomes.slice(refused).map(reasonOf)).toEqual(
      outcomes.slice(refused).map(() => [Verdict.Drop, Reason.NoPairMemory]),
    );
    expect(outcomes[8]).toMatchObject({ ruleId: 3, flow: "none" });
    expectNoMemory(world, 3, 3n);
    expect(world.send(arriving(tcpPacket({ flags: "A" }))).reason).toBe(Reason.FlowFound);
  });

  testWhole(
    "NOMEM: without room for one more sticky client a packet is dropped and counted, known clients go on",
    () => {
      const world = bench([ruleOf({ members: one, stickyMask: mask(32) })], { maxSticky: 2 });
      const clients = ["203.0.113.5", "203.0.113.6", "203.0.113.7"].map(ip);
      expect(clients.map((from) => world.send(arriving(tcpPacket({ from }))).reason)).toEqual([
        Reason.FlowNew,
        Reason.FlowNew,
        Reason.NoStickyMemory,
      ]);
      expectNoMemory(world);
      expect(world.send(arriving(tcpPacket({ from: clients[0]!, sourcePort: 41_000 }))).reason).toBe(Reason.FlowNew);
    },
  );

  const expectNoMemory = (world: Bench, rule = 1, packets = 1n): void => {
    const bytes = packets * BigInt(tcpPacket().length);
    expect(ruleCounters(world, rule)).toMatchObject({
      packetsNoMemory: packets,
      bytesNoMemory: bytes,
      packetsDropped: packets,
      bytesDropped: bytes,
    });
  };

  test("too big is no longer complained about when the box has said so too often", () => {
    const world = bench([ruleOf({ members: one })]);
    world.engine.setNextHop(0, hopOf(0, { mtu: 1_300 }));
    const big = tcpPacket({ payload: new Uint8Array(1_400), ipv4: { dontFragment: true } });
    const reasons = Array.from({ length: 130 }, () => world.send(arriving(big)).reason);
    const sent = reasons.filter((reason) => reason === Reason.TooBigSent).length;
    expect([reasons[0], reasons.at(-1)]).toEqual([Reason.TooBigSent, Reason.TooBigUnsent]);
    // Each worker has 64.
    expect(sent % 64).toBe(0);
    expect(world.engine.flows()).toEqual([]);
  });

  if (family === 4)
    testWhole(
      "a packet whose fragments find no room in the batch is dropped as it came, the next batch has room again",
      () => {
        const world = bench([ruleOf({ protocol: "udp", ports: onePort(53), members: one })]);
        world.engine.setNextHop(0, hopOf(0, { mtu: 600 }));
        const frames = Array.from({ length: 23 }, (_, i) =>
          arriving(udpPacket({ sourcePort: 40_000 + i, payload: new Uint8Array(1_300) })),
        );
        const outcomes = world.engine.process(frames, world.nowMs);
        // Three fragments each, of a pool of 64.
        expect(
          outcomes.slice(0, 21).every(({ reason, out }) => reason === Reason.FragmentsMade && out.length === 3),
        ).toBe(true);
        expect(outcomes.slice(21).map(reasonOf)).toEqual([
          [Verdict.Drop, Reason.MadePoolFull],
          [Verdict.Drop, Reason.MadePoolFull],
        ]);
        expect(world.engine.flows().length).toBe(21);
        expect(world.send(frames[22]!).reason).toBe(Reason.FragmentsMade);
      },
    );

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
