/** Engine contract: How long flows live. */
import { expect, test } from "bun:test";
import type { Outcome } from "../../../src/engine/engine.ts";
import { Reason, Verdict } from "../../../src/gen/layout.ts";

import { answerTo, arriving, onlyPacket, SERVER_SIDE } from "../../support/engine-bench.ts";
import { onePort, type RuleSpec } from "../../support/image-builder.ts";

import { type Ground, isOpen, ruleCounters } from "./ground.ts";

export function tracking(ground: Ground): void {
  const { ip, host, bench, ruleOf, tcpPacket, udpPacket, server, established, one } = ground;
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

  test("ILB-189 without a drain deadline flows of a disabled or removed server or rule live until they idle out", () => {
    const rule = ruleOf({ members: one });
    const gone: readonly (readonly RuleSpec[])[] = [
      [{ ...rule, members: one.map((member) => ({ ...member, enabledSequence: null })) }],
      [{ ...rule, members: [] }],
      [],
    ];
    for (const rules of gone) {
      const world = bench([rule]);
      established(world);
      world.publish(rules, [], [rule]);
      for (let i = 0; i < 3; i++) {
        world.wait(60_000);
        const data = tcpPacket({ flags: "PA", sequence: 101, acknowledgement: 501 });
        expect(world.send(arriving(data)).reason).toBe(Reason.FlowFound);
      }
      world.wait(135_001);
      expect(isOpen(world)).toBe(false);
    }
  });

  test("ILB-198 while servers come and go no packet of the others is dropped", () => {
    const rule = ruleOf({ algorithm: "hash-ip-port" });
    const world = bench([rule]);
    const opened = Array.from({ length: 30 }, (_, i) => world.send(arriving(tcpPacket({ sourcePort: 40000 + i }))));
    const [first, ...others] = rule.members;
    for (const members of [others, rule.members, [first!, ...others.slice(1)], rule.members]) {
      world.publish([{ ...rule, members }], [], [rule]);
      for (const [i, { serverId }] of opened.entries()) {
        const outcome = world.send(arriving(tcpPacket({ sourcePort: 40000 + i, flags: "A", sequence: 1001 })));
        expect([outcome.reason, outcome.serverId]).toEqual([Reason.FlowFound, serverId]);
      }
    }
    expect(ruleCounters(world).packetsDropped).toBe(0n);
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
    expect(host(reply.source)).toBe("198.51.100.11");
    expect(onlyPacket(world.send(arriving(tcpPacket({ flags: "A" })))).tcp).toBeDefined();
  });
}
