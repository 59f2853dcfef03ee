/** Engine contract: what goes and what is refused when the tables are full, and which want counts when several are. */
import { describe, expect, test } from "bun:test";
import type { Outcome } from "../../../src/engine/engine.ts";
import { Reason } from "../../../src/gen/layout.ts";
import { answerTo, arriving, type Bench, onlyPacket, SERVER_SIDE } from "../../support/engine-bench.ts";
import { membersOf, onePort } from "../../support/image-builder.ts";
import { type Ground, MORE_FLOWS_THAN_PORTS, ruleCounters } from "./ground.ts";

/** Proxy ports of one address towards one server port. */
const ALL_PORTS = 61_438;

export function fullTables(ground: Ground): void {
  const { bench, ruleOf, tcpPacket, udpPacket, ip, mask, host, one, SERVERS, testWhole } = ground;

  /** A segment of the client at a source port. */
  const segment = (world: Bench, sourcePort: number, flags: string): Outcome =>
    world.send(arriving(tcpPacket({ sourcePort, flags })));
  /** Opens; the server answers. @returns what reached the server */
  const answered = (world: Bench, sourcePort: number) => {
    const request = onlyPacket(segment(world, sourcePort, "S"));
    world.send(arriving(answerTo(request, { flags: "SA" }), SERVER_SIDE));
    return request;
  };
  const established = (world: Bench, sourcePort: number) => {
    const request = answered(world, sourcePort);
    segment(world, sourcePort, "A");
    return request;
  };
  const clientPorts = (world: Bench): number[] =>
    world.engine
      .flows()
      .map(({ clientPort }) => clientPort)
      .sort();

  testWhole("a full table gives up closed flows first, the one that closed first before the others", () => {
    const world = bench([ruleOf({ members: one })], { maxFlows: 4 });
    for (const port of [1001, 1002, 1003]) established(world, port);
    segment(world, 1004, "S");
    for (const port of [1002, 1003, 1001]) segment(world, port, "R");
    const left = [1005, 1006, 1007, 1008].map((port) => {
      segment(world, port, "S");
      return clientPorts(world);
    });
    expect(left).toEqual([
      [1001, 1003, 1004, 1005],
      [1001, 1004, 1005, 1006],
      [1004, 1005, 1006, 1007],
      [1005, 1006, 1007, 1008],
    ]);
  });

  testWhole(
    "a full table gives up half-open flows, oldest first, whatever has refreshed them, and no established one",
    () => {
      const world = bench([ruleOf({ members: one })], { maxFlows: 3 });
      for (const port of [1001, 1002]) segment(world, port, "S");
      established(world, 1003);
      segment(world, 1001, "S");
      segment(world, 1004, "S");
      expect(clientPorts(world)).toEqual([1002, 1003, 1004]);
      for (const port of [1005, 1006, 1007]) segment(world, port, "S");
      expect(clientPorts(world)).toEqual([1003, 1006, 1007]);
    },
  );

  testWhole("a flow that was reset while half open is given up although its client has acknowledged since", () => {
    const world = bench([ruleOf({ members: one })], { maxFlows: 2 });
    const request = answered(world, 1001);
    world.send(arriving(answerTo(request, { flags: "RA" }), SERVER_SIDE));
    segment(world, 1001, "A");
    established(world, 1002);
    expect(segment(world, 1003, "S").reason).toBe(Reason.FlowNew);
    expect(clientPorts(world)).toEqual([1002, 1003]);
  });

  testWhole("a server that only answers, or a client that never goes on, establishes no TCP flow", () => {
    const world = bench([ruleOf({ members: one })], { maxFlows: 2 });
    answered(world, 1001);
    answered(world, 1002);
    segment(world, 1001, "S");
    expect(segment(world, 1003, "S").reason).toBe(Reason.FlowNew);
    expect(clientPorts(world)).toEqual([1002, 1003]);
  });

  testWhole("NOMEM: without room for a pair and for a flow the pair is what was wanting, counted once", () => {
    const generations = [1, 2, 3].map((id) =>
      ruleOf({ id, slot: id, members: membersOf(SERVERS.map((server, i) => ({ ...server, id: 100 * id + i }))) }),
    );
    const world = bench([], { maxPairs: 3, maxFlows: 6 });
    for (const [i, rule] of generations.slice(0, 2).entries()) {
      world.publish([rule], [], generations.slice(0, i));
      for (const j of [0, 1, 2]) established(world, 1000 + 3 * i + j);
    }
    world.publish(generations.slice(2), [], generations.slice(0, 2));
    expect(segment(world, 2000, "S").reason).toBe(Reason.NoPairMemory);
    expect(ruleCounters(world, 3)).toMatchObject({ packetsNoMemory: 1n, packetsDropped: 1n, packetsNoPort: 0n });
  });

  testWhole("NOMEM: without room for a flow and for a sticky client the flow is what was wanting, counted once", () => {
    const world = bench([ruleOf({ type: "NAT", members: one, stickyMask: mask(32) })], { maxFlows: 1, maxSticky: 1 });
    established(world, 1001);
    const stranger = world.send(arriving(tcpPacket({ from: ip("203.0.113.77") })));
    expect([stranger.reason, stranger.flow]).toEqual([Reason.NoFlowMemory, "none"]);
    expect(ruleCounters(world)).toMatchObject({ packetsNoMemory: 1n, packetsDropped: 1n, packetsNoPort: 0n });
  });

  testWhole("NOPORT: a port is asked for last: a sticky client too many is told from ports that have run out", () => {
    const rule = ruleOf({ type: "NAT", protocol: "udp", ports: onePort(53), members: one, stickyMask: mask(32) });
    const world = bench([rule], { maxSticky: 1, maxFlows: MORE_FLOWS_THAN_PORTS });
    const packet = (i: number) => arriving(udpPacket({ sourcePort: 1024 + i, checksum: "none" }));
    for (let i = 0; i < ALL_PORTS; i += 64) {
      const count = Math.min(64, ALL_PORTS - i);
      const frames = Array.from({ length: count }, (_, j) => packet(i + j));
      world.engine.process(frames, world.nowMs);
    }
    expect(world.engine.flows().length).toBe(ALL_PORTS);
    const stranger = world.send(arriving(udpPacket({ from: ip("203.0.113.77"), checksum: "none" })));
    expect(stranger.reason).toBe(Reason.NoStickyMemory);
    expect(ruleCounters(world)).toMatchObject({ packetsNoMemory: 1n, packetsNoPort: 0n, packetsDropped: 1n });
    expect(world.send(packet(ALL_PORTS)).reason).toBe(Reason.NoPort);
    expect(ruleCounters(world)).toMatchObject({ packetsNoMemory: 1n, packetsNoPort: 1n, packetsDropped: 2n });
  });

  describe("pools of proxy ports, one for each proxy address and server port", () => {
    /** So many have users at once where maxPairs is 3. */
    const POOLS = 12;
    const rule = ruleOf({
      type: "NAT",
      proxySource: { first: ip("203.0.113.1"), last: ip("203.0.113.10") },
      members: membersOf(SERVERS.slice(0, 2)),
    });
    /** Opens flows, with each server in turn. @returns the proxy addresses that they leave from */
    const proxiesOf = (world: Bench, first: number, count: number): string[] =>
      Array.from({ length: count }, (_, i) => host(onlyPacket(segment(world, first + i, "S")).source));

    testWhole("those without users make room for others, though they are kept for a while", () => {
      const world = bench([rule], { maxPairs: 3 });
      expect(proxiesOf(world, 1000, POOLS).slice(-2)).toEqual(["203.0.113.7", "203.0.113.7"]);
      for (let i = 0; i < POOLS; i++) segment(world, 1000 + i, "R");
      world.wait(15_001);
      expect(clientPorts(world)).toEqual([]);
      const next = ["203.0.113.8", "203.0.113.8", "203.0.113.9", "203.0.113.9", "203.0.113.10", "203.0.113.10"];
      expect(proxiesOf(world, 2000, 6)).toEqual(next);
    });

    testWhole("while all that there is room for have users, addresses that would need another are passed over", () => {
      const world = bench([rule], { maxPairs: 3 });
      proxiesOf(world, 1000, POOLS);
      expect(proxiesOf(world, 2000, 2)).toEqual(["203.0.113.2", "203.0.113.2"]);
      // The only flow of its pool.
      segment(world, 1002, "R");
      world.wait(15_001);
      expect(proxiesOf(world, 3000, 2)).toEqual(["203.0.113.9", "203.0.113.2"]);
    });
  });

  test("a DSR rule needs no flow: its packets go on when the flow table is full", () => {
    const rules = [ruleOf({ members: one }), ruleOf({ id: 2, slot: 1, ports: onePort(81), type: "DSR", members: one })];
    const world = bench(rules, { maxFlows: 1 });
    established(world, 1001);
    expect(world.send(arriving(tcpPacket({ destinationPort: 81 }))).reason).toBe(Reason.DsrSent);
  });
}
