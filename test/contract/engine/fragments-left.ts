/** Engine contract: fragments of what is not balanced. They reach the kernel in any order, or are answered; memory for them ends. */
import { expect, test } from "bun:test";
import type { FrameOut } from "../../../src/engine/engine.ts";
import { Reason, Verdict } from "../../../src/gen/layout.ts";
import { arriving, CLIENT_SIDE, SERVER_SIDE, TUN } from "../../support/engine-bench.ts";
import { onePort } from "../../support/image-builder.ts";
import { decodeEthernet } from "../../support/packet-decoder.ts";
import { type Ground, reasonOf, ruleCounters } from "./ground.ts";
import { PAYLOAD, piecesOn } from "./pieces.ts";

/** Orders in which three fragments may come. */
const ORDERS = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
];

export function fragmentsLeft(ground: Ground): void {
  const { bench, benchIlb, ruleOf, udpPacket, host, ip, ttlAt } = ground;
  const { VIP, CLIENT, PROXY, SERVERS, one, testWhole } = ground;
  const { fragmentsOf, echoFragments, sent, reassembled, sendAll, outOf, dropped } = piecesOn(ground);
  const dns = (changes: Parameters<typeof ruleOf>[0] = {}) =>
    ruleOf({ protocol: "udp", ports: onePort(53), members: one, ...changes });
  const local = () => bench([dns({ vipIsLocal: true })]);
  type Three = [Uint8Array, Uint8Array, Uint8Array];
  /** What the kernel gets of packets sent one by one: those that it has anyway, those passed, those given back later. */
  const kernels = (world: ReturnType<typeof bench>, packets: readonly Uint8Array[], port = CLIENT_SIDE): FrameOut[] =>
    packets.flatMap((packet) => {
      const frame = arriving(packet, port);
      const { verdict, passed } = world.send(frame);
      const isKernels = verdict === Verdict.Pass || verdict === Verdict.Ignore;
      const own = { bytes: frame.bytes, port, vnet: passed[0]?.vnet ?? NO_OFFLOAD };
      return [...(isKernels ? [own] : []), ...passed];
    });

  test.each(ORDERS)(
    "modern: a datagram to the box itself, on a port without a rule, reaches the kernel whole in the order %i %i %i",
    (...order) => {
      const world = local();
      const parts = fragmentsOf({ destinationPort: 999 });
      const got = kernels(
        world,
        order.map((i) => parts[i]!),
      );
      expect(got.every(({ port, vnet }) => port === CLIENT_SIDE && vnet.flags === 0)).toBe(true);
      expect(got.map(({ bytes }) => bytes).sort(Buffer.compare)).toEqual(
        parts.map((part) => arriving(part).bytes).sort(Buffer.compare),
      );
      expect(reassembled(got).udp).toMatchObject({ destinationPort: 999, payload: PAYLOAD });
      expect(dropped(world)).toEqual([3n, 0n]);
    },
  );

  test("modern: held fragments of a disabled rule and of a server's own traffic follow the first one to the kernel", () => {
    const disabled = bench([dns({ enabled: false })]);
    const [first, second, third] = fragmentsOf() as Three;
    sendAll(disabled, [third, second]);
    const outcome = disabled.send(arriving(first));
    expect([outcome.reason, outcome.out]).toEqual([Reason.RuleDisabled, []]);
    expect(outcome.passed.map((frame) => sent(frame).fragmentOffset)).toEqual([800, 400]);
    expect(ruleCounters(disabled).packetsNotProcessed).toBe(1n);

    const world = bench([dns({ type: "NAT" })]);
    const own = fragmentsOf({ from: SERVERS[0]!.address, to: ip("203.0.113.9"), sourcePort: 53, destinationPort: 999 });
    expect(reassembled(kernels(world, [...own].reverse(), SERVER_SIDE)).udp!.payload).toEqual(PAYLOAD);
    const toProxy = fragmentsOf({ to: PROXY, destinationPort: 999 });
    expect(reassembled(kernels(world, [...toProxy].reverse())).udp!.payload).toEqual(PAYLOAD);
  });

  test("modern: fragments that came by an IP port go back to it without a link header", () => {
    const world = local();
    const [first, second] = fragmentsOf({ destinationPort: 999 }) as Three;
    world.send(arriving(second, TUN));
    expect(world.send(arriving(first, TUN)).passed).toEqual([{ bytes: second, port: TUN, vnet: NO_OFFLOAD }]);
  });

  testWhole(
    "modern: fragments without a first one reach the kernel after a second, if it serves their destination",
    () => {
      const world = local();
      const [, second, third] = fragmentsOf() as Three;
      expect(sendAll(world, [third, second]).map(({ reason }) => reason)).toEqual([
        Reason.FragmentHeld,
        Reason.FragmentHeld,
      ]);
      world.wait(5_000);
      expect(dropped(world)).toEqual([2n, 0n]);
      // Nothing leaves but with a batch; any packet brings one.
      const { passed, reason } = world.send(arriving(udpPacket({ to: ip("203.0.113.99") })));
      expect(reason).toBe(Reason.Unguarded);
      expect(passed.map((frame) => sent(frame).fragmentOffset)).toEqual([800, 400]);
      expect(world.send(arriving(udpPacket())).passed).toEqual([]);

      const fromServer = bench([dns()]);
      const [, late] = fragmentsOf({ from: SERVERS[0]!.address, to: CLIENT }) as Three;
      fromServer.send(arriving(late, SERVER_SIDE));
      fromServer.nowMs += 1_000;
      expect(fromServer.send(arriving(udpPacket())).passed.map(({ port }) => port)).toEqual([SERVER_SIDE]);
    },
  );

  test("modern: fragments without a first one to a remote VIP or a proxy address are dropped, for the kernel would send them round", () => {
    const world = bench([dns({ type: "NAT" })]);
    const [, toVip] = fragmentsOf() as Three;
    const [, toProxy] = fragmentsOf({ to: PROXY, from: SERVERS[0]!.address }) as Three;
    sendAll(world, [toVip, toProxy]);
    world.wait(1_000);
    expect(world.send(arriving(udpPacket())).passed).toEqual([]);
    expect(dropped(world)).toEqual([1n, 1n]);
  });

  test("modern: what finds no room to wait is the kernel's, if it serves the destination", () => {
    const world = local();
    const later = fragmentsOf({ step: 8 }).slice(1, 19);
    const reasons = sendAll(world, later).map(reasonOf);
    expect(reasons.slice(16)).toEqual([
      [Verdict.Pass, Reason.VipFragment],
      [Verdict.Pass, Reason.VipFragment],
    ]);
    const huge = fragmentsOf({ identification: 2, step: 2_400, payload: new Uint8Array(5_000) })[1]!;
    expect(reasonOf(world.send(arriving(huge)))).toEqual([Verdict.Pass, Reason.VipFragment]);
  });

  test("modern: an echo request in fragments to a remote VIP is answered fragment by fragment and counted once", () => {
    const world = bench([dns()]);
    const outcomes = sendAll(world, echoFragments());
    expect(new Set(outcomes.map(({ verdict, reason }) => `${verdict} ${reason}`))).toEqual(
      new Set([`${Verdict.Reply} ${Reason.EchoAnswered}`]),
    );
    expect(
      outcomes.every(
        ({ ruleId, flow, direction }) => ruleId === 1 && flow === "none" && direction === "client-to-server",
      ),
    ).toBe(true);
    const answer = reassembled(outOf(outcomes));
    expect([host(answer.source), host(answer.destination), answer.icmp!.type]).toEqual([
      host(VIP),
      host(CLIENT),
      ground.numbers.echoReply,
    ]);
    expect(answer.icmp!.rest).toBe(0x00070001);
    for (const frame of outOf(outcomes)) {
      expect([frame.port, sent(frame).ttl]).toEqual([CLIENT_SIDE, 64]);
      expect(decodeEthernet(frame.bytes).destination).toEqual(
        decodeEthernet(arriving(new Uint8Array(20)).bytes).source,
      );
    }
    expect(ruleCounters(world)).toMatchObject({ icmpEchoProcessed: 1n, icmpDropped: 0n });
    expect(dropped(world)[1]).toBe(0n);
  });

  test("modern: fragments of an echo request that come before the first one are answered behind it", () => {
    const world = bench([dns()]);
    const [first, ...others] = echoFragments();
    others.reverse();
    others[0]![ttlAt] = 1;
    expect(sendAll(world, others).every(({ reason }) => reason === Reason.FragmentHeld)).toBe(true);
    const { verdict, reason, out } = world.send(arriving(first!));
    expect([verdict, reason, out.length]).toEqual([Verdict.Reply, Reason.EchoAnswered, 1 + others.length]);
    expect(sent(out[0]!).fragmentOffset).toBe(0);
    expect(reassembled(out).icmp!.type).toBe(ground.numbers.echoReply);
    expect(out.every((frame) => sent(frame).ttl === 64)).toBe(true);
    expect(ruleCounters(world).icmpEchoProcessed).toBe(1n);
  });

  test("modern: an echo request in fragments to a VIP of the box itself is the kernel's, and so are echo replies", () => {
    for (const type of [ground.numbers.echo, ground.numbers.echoReply]) {
      const world = local();
      const parts = echoFragments(9, { source: CLIENT, destination: VIP }, type);
      const outcomes = sendAll(world, [...parts].reverse());
      expect(new Set(outcomes.map(({ reason }) => reason))).toEqual(new Set([Reason.VipFragment]));
      expect(outcomes.every(({ verdict, out }) => verdict === Verdict.Pass && out.length === 0)).toBe(true);
      expect(ruleCounters(world)).toMatchObject({ icmpEchoProcessed: 0n, icmpDropped: 0n });
      expect(dropped(world)[1]).toBe(0n);
    }
  });

  test("modern: other ICMP in fragments to a remote VIP is dropped and counted as fragments only", () => {
    const world = bench([dns()]);
    const parts = echoFragments(9, { source: CLIENT, destination: VIP }, ground.numbers.echoReply);
    expect(new Set(sendAll(world, parts).map(({ reason }) => reason))).toEqual(new Set([Reason.FragmentToVip]));
    expect(dropped(world)).toEqual([BigInt(parts.length), BigInt(parts.length)]);
    const [first, ...others] = echoFragments(10, { source: ip("127.0.0.1"), destination: VIP });
    if (ground.family === 4)
      expect(sendAll(world, [first!, ...others]).map(({ reason }) => reason)).toEqual([
        Reason.MartianSource,
        ...others.map(() => Reason.FragmentToVip),
      ]);
    expect(ruleCounters(world)).toMatchObject({ icmpEchoProcessed: 0n, icmpDropped: 0n });
  });

  test("--compat ilb answers no fragment of an echo request", () => {
    const world = benchIlb([dns({ vipIsLocal: true })]);
    const outcomes = sendAll(world, echoFragments());
    const expected =
      ground.family === 4 ? [Verdict.Drop, Reason.FragmentToVip] : [Verdict.Pass, Reason.ExtensionHeader];
    for (const outcome of outcomes) expect(reasonOf(outcome)).toEqual(expected);
  });

  test("modern: a first fragment that no block of the engine's could hold leaves before those that wait for it", () => {
    const world = bench([dns()]);
    const payload = Uint8Array.from({ length: 4_800 }, (_, i) => i * 5);
    for (const [index, mtu] of [0, 1].map((index) => [index, 9_000] as const)) {
      world.engine.setPort(index, {
        kind: "ethernet",
        mac: new Uint8Array(6).fill(2 + index),
        mtu,
        address4: null,
        address6: null,
      });
    }
    world.engine.setNextHop(0, {
      state: "resolved",
      port: SERVER_SIDE,
      destinationMac: new Uint8Array(6),
      sourceMac: new Uint8Array(6),
      mtu: 9_000,
    });
    const parts = fragmentsOf({ payload, step: 3_200 });
    const [first, second] = parts as [Uint8Array, Uint8Array];
    expect([parts.length, first.length > 2_048, second.length < 2_048]).toEqual([2, true, true]);
    expect(world.send(arriving(second)).reason).toBe(Reason.FragmentHeld);
    const { out } = world.send(arriving(first));
    expect(out.map(({ bytes }) => bytes.length)).toEqual([14 + first.length, 14 + second.length]);
    expect(reassembled(out).udp!.payload).toEqual(payload);
  });

  testWhole("modern: the latest eight first fragments are always remembered, and no more than 1024", () => {
    const world = bench([dns()]);
    const parts = (identification: number): Three => fragmentsOf({ identification }) as Three;
    for (let i = 0; i < 8; i++) world.send(arriving(parts(i)[0]));
    for (let i = 0; i < 8; i++) expect(world.send(arriving(parts(i)[1])).reason).toBe(Reason.FragmentTranslated);
    const COUNT = 8_000;
    for (let i = 8; i < COUNT; i++) world.send(arriving(parts(i)[0]));
    // Whoever was not remembered waits, and there is room for 64 of them; so all others are asked with it taken.
    const asked = Array.from({ length: COUNT }, (_, i) => world.send(arriving(parts(i)[1])).reason);
    const remembered = asked.filter((reason) => reason === Reason.FragmentTranslated).length;
    expect(remembered).toBeGreaterThan(8);
    expect(remembered).toBeLessThanOrEqual(1_024);
    expect(asked.slice(-8)).toEqual(new Array(8).fill(Reason.FragmentTranslated));
    expect(asked[0]).toBe(Reason.FragmentHeld);
  });
}

const NO_OFFLOAD = { flags: 0, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 };
