/** Engine contract: Which server, which proxy address, which proxy port. */
import { expect, test } from "bun:test";
import type { Outcome } from "../../../src/engine/engine.ts";
import { Reason, Verdict } from "../../../src/gen/layout.ts";

import { arriving, type Bench, onlyPacket, type TcpPacket } from "../../support/engine-bench.ts";
import { membersOf, onePort } from "../../support/image-builder.ts";

import { type Ground, MORE_FLOWS_THAN_PORTS, reasonOf, ruleCounters } from "./ground.ts";

export function choosing(ground: Ground): void {
  const { ip, host, mask, headerBytes, bench, ruleOf, tcpPacket, udpPacket, server, serversOf, SERVERS, one } = ground;
  const { isWhole, testWhole } = ground;
  testWhole("ILB-179 round robin begins with the server added last", () => {
    expect(serversOf(bench([ruleOf()]), 4)).toEqual(["192.0.2.12", "192.0.2.11", "192.0.2.10", "192.0.2.12"]);
  });

  testWhole(
    "openings of one batch take their turns as if they had come one by one, whatever comes between them",
    () => {
      const world = bench([ruleOf(), ruleOf({ id: 2, slot: 2, ports: onePort(81), algorithm: "hash-ip-port" })]);
      const opening = (fields: TcpPacket) => arriving(tcpPacket(fields));
      // The pairs exist from now on; the turn is the first one's again.
      for (const sourcePort of [39_001, 39_002, 39_003]) world.send(opening({ sourcePort }));
      const again = opening({ sourcePort: 40_001 });
      const frames = [
        again,
        opening({ sourcePort: 40_002 }),
        // Takes no turn, as its flow is there by now.
        again,
        opening({ sourcePort: 40_003 }),
        opening({ sourcePort: 40_010, destinationPort: 81 }),
        // Takes one on the longer way.
        arriving(tcpPacket({ flags: "A", sourcePort: 40_004 })),
        opening({ sourcePort: 40_005 }),
        opening({ sourcePort: 40_006, ttl: 1 }),
        opening({ sourcePort: 40_007 }),
      ];
      const outcomes = world.engine.process(frames, world.nowMs);
      expect(outcomes.map(({ reason }) => reason)).toEqual(
        frames.map((_, i) => (i === 2 ? Reason.FlowFound : i === 7 ? Reason.TimeExceededSent : Reason.FlowNew)),
      );
      const served = outcomes.flatMap((outcome, i) => (i === 4 || i === 7 ? [] : [server(onlyPacket(outcome))]));
      const turn = ["192.0.2.12", "192.0.2.11", "192.0.2.10"];
      // The packet whose time has run out has had its turn too.
      expect(served).toEqual([turn[0]!, turn[1]!, turn[0]!, turn[2]!, turn[0]!, turn[1]!, turn[0]!]);
    },
  );

  testWhole("ILB-180 round robin skips a disabled server", () => {
    const members = membersOf(SERVERS).map((member, i) => (i === 1 ? { ...member, enabledSequence: null } : member));
    const served = serversOf(bench([ruleOf({ members })]), 4);
    expect(served).toEqual(["192.0.2.12", "192.0.2.10", "192.0.2.12", "192.0.2.10"]);
  });

  testWhole("ILB-296 a server added in the middle of a turn is served right after the list's end", () => {
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
    const world = bench([ruleOf({ stickyMask: mask(24) })]);
    const at = (from: string, sourcePort: number): string =>
      server(onlyPacket(world.send(arriving(tcpPacket({ from: ip(from), sourcePort })))));
    expect(at("192.0.2.5", 40000)).toBe("192.0.2.12");
    expect(at("192.0.2.9", 40001)).toBe("192.0.2.12");
    // The turn goes on; another worker has a turn of its own.
    if (isWhole) expect(at("203.0.113.5", 40002)).toBe("192.0.2.10");
    expect(world.engine.sticky()).toContainEqual({ ruleId: 1, serverId: 103, client: ip("192.0.2.0") });
  });

  test("ILB-192 a sticky client moves when its server is disabled and stays there afterwards", () => {
    const world = bench([ruleOf({ stickyMask: mask(32) })]);
    expect(serversOf(world, 1)).toEqual(["192.0.2.12"]);
    const members = membersOf(SERVERS).map((member, i) => (i === 2 ? { ...member, enabledSequence: null } : member));
    world.publish([ruleOf({ stickyMask: mask(32), members })]);
    const [moved] = serversOf(world, 1, 41000);
    expect(moved).not.toBe("192.0.2.12");
    world.publish([ruleOf({ stickyMask: mask(32) })]);
    expect(serversOf(world, 3, 42000)).toEqual([moved!, moved!, moved!]);
  });

  test("ILB-193 a sticky entry goes when its last flow has been gone for persist-timeout", () => {
    const world = bench([ruleOf({ type: "NAT", stickyMask: mask(32), persistTimeoutMs: 30_000 })]);
    serversOf(world, 1);
    world.wait(136_000);
    expect([world.engine.flows().length, world.engine.sticky().length]).toEqual([0, 1]);
    world.wait(46_000);
    expect(world.engine.sticky()).toEqual([]);
  });

  test("ILB-194 sticky entries of two rules are independent", () => {
    const other = ruleOf({
      id: 2,
      slot: 1,
      ports: onePort(81),
      stickyMask: mask(32),
      members: membersOf([SERVERS[0]!]),
    });
    const world = bench([ruleOf({ stickyMask: mask(32) }), other]);
    world.send(arriving(tcpPacket()));
    world.send(arriving(tcpPacket({ destinationPort: 81 })));
    expect(world.engine.sticky().map((entry) => [entry.ruleId, entry.serverId])).toEqual([
      [1, 103],
      [2, 101],
    ]);
  });

  test("ILB-302 DSR refreshes a sticky entry with every packet", () => {
    const world = bench([ruleOf({ type: "DSR", stickyMask: mask(32), persistTimeoutMs: 30_000 })]);
    for (let i = 0; i < 4; i++) {
      world.send(arriving(tcpPacket()));
      world.wait(20_000);
    }
    expect(world.engine.sticky().length).toBe(1);
    world.wait(26_000);
    expect(world.engine.sticky()).toEqual([]);
  });

  testWhole("proxy addresses rotate per connection and server, beginning with the second", () => {
    const proxySource = { first: ip("203.0.113.1"), last: ip("203.0.113.3") };
    const world = bench([ruleOf({ type: "NAT", proxySource, members: one })]);
    const used = [0, 1, 2, 3].map((i) =>
      host(onlyPacket(world.send(arriving(tcpPacket({ sourcePort: 40000 + i })))).source),
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

  testWhole(
    "a pool gives every port that the server's common pool has not, however many of those lie in its way",
    () => {
      const udp = { type: "NAT", protocol: "udp", members: one } as const;
      const range = ruleOf({ ...udp, ports: { min: 5000, max: 5009 } });
      const single = ruleOf({ ...udp, id: 2, slot: 1, vip: ip("198.51.100.11"), ports: onePort(5005) });
      const world = bench([range, single]);
      const open = (i: number, to: string): Outcome =>
        world.send(arriving(udpPacket({ sourcePort: 1024 + i, to: ip(to), destinationPort: 5005, checksum: "none" })));
      for (let i = 0; i < 300; i++) open(i, "198.51.100.10");
      const outcome = open(300, "198.51.100.11");
      expect(outcome.reason).toBe(Reason.FlowNew);
      const ports = world.engine.flows().map((flow) => flow.sourcePort);
      expect([ports.length, new Set(ports).size]).toEqual([301, 301]);
    },
  );

  test("ILB-196 port 13724 is passed over also when the ports before it have just been given back", () => {
    const world = bench([ruleOf({ type: "NAT", protocol: "udp", ports: onePort(53), members: one })]);
    const open = (i: number): Outcome => world.send(arriving(udpPacket({ sourcePort: 1024 + i, checksum: "none" })));
    for (let i = 0; i < 13_724 - 4096; i++) open(i);
    world.wait(76_000);
    expect(world.engine.flows()).toEqual([]);
    for (let i = 0; i < 3; i++) open(i);
    expect(world.engine.flows().map((flow) => flow.sourcePort)).not.toContain(13_724);
  });

  testWhole(
    "ILB-195 ILB-196 a proxy address gives 61438 ports, each once, none out of range; then flows are refused",
    () => {
      const world = bench([ruleOf({ type: "NAT", protocol: "udp", ports: onePort(53), members: one })], {
        maxFlows: MORE_FLOWS_THAN_PORTS,
      });
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
      const bytes = BigInt(headerBytes + 8);
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
    },
  );
}
