/**
 * Engine contract: the engine clock is 32 bits of milliseconds inside an engine and goes round after 49 days. Whatever
 * has a time is begun just before that and looked at after it.
 */
import { expect, test } from "bun:test";
import { Reason } from "../../../src/gen/layout.ts";
import { arriving, type Bench, SERVER_SIDE } from "../../support/engine-bench.ts";
import { onePort, type RuleSpec } from "../../support/image-builder.ts";
import { type Ground, isOpen } from "./ground.ts";
import { piecesOn } from "./pieces.ts";

const ROUND_MS = 2 ** 32;

export function clock(ground: Ground): void {
  const { bench, ruleOf, tcpPacket, udpPacket, established, one, testWhole } = ground;
  const { fragmentsOf } = piecesOn(ground);
  const dns = (changes: Partial<RuleSpec> = {}) =>
    ruleOf({ protocol: "udp", ports: onePort(53), members: one, ...changes });
  /** A world whose clock goes round in `leftMs`. */
  const late = (rules: readonly RuleSpec[], leftMs: number): Bench => {
    const world = bench(rules);
    world.nowMs = ROUND_MS - leftMs;
    return world;
  };

  test("flows idle out, and busy ones do not, while the clock goes round", () => {
    const world = late([dns()], 30_000);
    world.send(arriving(udpPacket()));
    world.send(arriving(udpPacket({ sourcePort: 40001 })));
    world.wait(59_000);
    expect(world.engine.flows().length).toBe(2);
    expect(world.send(arriving(udpPacket())).reason).toBe(Reason.FlowFound);
    world.wait(17_000);
    expect(world.engine.flows().map(({ clientPort }) => clientPort)).toEqual([40000]);
    world.wait(60_000);
    expect(isOpen(world)).toBe(false);
  });

  test("a closed flow goes, and its port is free for a new one, while the clock goes round", () => {
    const world = late([ruleOf({ type: "NAT", members: one })], 1_000);
    const { fromServer } = established(world);
    fromServer({ flags: "RA", sequence: 501, acknowledgement: 101 });
    world.nowMs += 3_000;
    expect(world.send(arriving(tcpPacket({ sequence: 9_000 }))).reason).toBe(Reason.FlowNew);
    world.wait(15_000);
    expect(world.engine.flows().length).toBe(1);
  });

  test("a sticky entry lives its time while the clock goes round", () => {
    const world = late([dns({ stickyMask: ground.mask(24), persistTimeoutMs: 60_000 })], 90_000);
    world.send(arriving(udpPacket()));
    world.wait(76_000);
    expect([isOpen(world), world.engine.sticky().length]).toEqual([false, 1]);
    world.wait(44_000);
    expect(world.engine.sticky().length).toBe(1);
    world.wait(32_000);
    expect(world.engine.sticky()).toEqual([]);
  });

  test("a drain deadline beyond the end of the clock comes when it should", () => {
    const rule = ruleOf({ members: one });
    const world = late([rule], 10_000);
    established(world);
    const deadlineMs = world.nowMs + 30_000;
    world.publish([{ ...rule, members: [] }], [{ ruleId: 1, serverId: 101, deadlineMs }], [rule]);
    world.wait(29_000);
    expect(isOpen(world)).toBe(true);
    world.wait(16_001);
    expect(isOpen(world)).toBe(false);
  });

  test("fragments wait and are remembered as long as ever while the clock goes round", () => {
    const world = late([dns()], 500);
    const [first, second, third] = fragmentsOf() as [Uint8Array, Uint8Array, Uint8Array];
    world.send(arriving(second));
    world.nowMs += 999;
    expect(world.send(arriving(first)).out.length).toBe(2);
    world.nowMs = ROUND_MS + 499 + 4_999;
    expect(world.send(arriving(third)).reason).toBe(Reason.FragmentTranslated);
    world.nowMs += 1;
    expect(world.send(arriving(third)).reason).toBe(Reason.FragmentHeld);
    world.nowMs += 1_000;
    const again = fragmentsOf({ identification: 5 })[1]!;
    expect(world.send(arriving(again)).reason).toBe(Reason.FragmentHeld);
    expect(world.engine.counters().fragmentsDropped).toBe(1n);
  });

  test("what was remembered of a fragment does not come back when the clock has gone round once", () => {
    const world = bench([dns()]);
    const [first, second] = fragmentsOf() as [Uint8Array, Uint8Array];
    world.send(arriving(first));
    world.wait(6_000);
    world.nowMs += ROUND_MS - 6_000;
    expect(world.send(arriving(second)).reason).toBe(Reason.FragmentHeld);
  });

  testWhole("errors of the box keep their rate while the clock goes round", () => {
    const world = late([ruleOf({ members: one })], 15);
    const dying = (): number => world.send(arriving(tcpPacket({ ttl: 1 }))).reason;
    for (let i = 0; i < 64; i++) expect(dying()).toBe(Reason.TimeExceededSent);
    expect(dying()).toBe(Reason.TimeExceededUnsent);
    world.nowMs += 20;
    expect([dying(), dying(), dying()]).toEqual([
      Reason.TimeExceededSent,
      Reason.TimeExceededSent,
      Reason.TimeExceededUnsent,
    ]);
  });

  test("a proxy port that is free again is used again after the clock has gone round", () => {
    const world = late([dns({ type: "NAT" })], 40_000);
    world.send(arriving(udpPacket()));
    world.wait(76_000);
    expect(isOpen(world)).toBe(false);
    world.wait(40_000);
    expect(world.send(arriving(udpPacket())).reason).toBe(Reason.FlowNew);
    const [flow] = world.engine.flows();
    const answer = udpPacket({
      from: flow!.server,
      to: flow!.source,
      sourcePort: flow!.serverPort,
      destinationPort: flow!.sourcePort,
    });
    expect(world.send(arriving(answer, SERVER_SIDE)).reason).toBe(Reason.FlowFound);
  });
}
