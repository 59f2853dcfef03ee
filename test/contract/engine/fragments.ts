/** Engine contract: fragments, translated in mode `modern` and left alone in mode `ilb`. */
import { expect, test } from "bun:test";
import { Reason, Verdict } from "../../../src/gen/layout.ts";
import { arriving, hopOf, onlyPacket, SERVER_SIDE } from "../../support/engine-bench.ts";
import { onePort } from "../../support/image-builder.ts";
import { fragmentIpv6, ipv4 } from "../../support/packet-builder.ts";

import { type Ground, pairCounters, reasonOf, ruleCounters } from "./ground.ts";
import { PAYLOAD, piecesOn } from "./pieces.ts";

export function fragments(ground: Ground): void {
  const { family, bench, benchIlb, ruleOf, host } = ground;
  const { VIP, CLIENT, PROXY, SERVERS, one, testWhole } = ground;
  const { fragmentsOf, sent, reassembled, sendAll, outOf, dropped } = piecesOn(ground);
  const dns = (changes: Parameters<typeof ruleOf>[0] = {}) =>
    ruleOf({ protocol: "udp", ports: onePort(53), members: one, ...changes });

  if (family === 4)
    test("ILB-172 --compat ilb drops a fragment to a VIP and counts it globally only", () => {
      const world = benchIlb([dns()]);
      for (const outcome of sendAll(world, fragmentsOf())) {
        expect(reasonOf(outcome)).toEqual([Verdict.Drop, Reason.FragmentToVip]);
      }
      expect(dropped(world)).toEqual([3n, 3n]);
      expect(ruleCounters(world).packetsDropped).toBe(0n);
      expect(world.engine.flows()).toEqual([]);
    });

  test.each(["HALF-NAT", "NAT"] as const)("modern: a %s datagram in fragments arrives whole, both ways", (type) => {
    const world = bench([dns({ type })]);
    const there = sendAll(world, fragmentsOf());
    expect(there.map(({ reason }) => reason)).toEqual([
      Reason.FlowNew,
      Reason.FragmentTranslated,
      Reason.FragmentTranslated,
    ]);
    expect(there[1]).toMatchObject({ ruleId: 1, serverId: 101, direction: "client-to-server", flow: "found" });
    const request = reassembled(outOf(there));
    expect([host(request.destination), request.udp!.payload]).toEqual(["192.0.2.10", PAYLOAD]);
    expect(host(request.source)).toBe(type === "NAT" ? host(PROXY) : host(CLIENT));
    const back = fragmentsOf({
      from: SERVERS[0]!.address,
      to: request.source,
      sourcePort: 53,
      destinationPort: request.udp!.sourcePort,
    });
    const answers = sendAll(world, back, SERVER_SIDE);
    expect(answers.map(({ verdict }) => verdict)).toEqual([Verdict.Forward, Verdict.Forward, Verdict.Forward]);
    const answer = reassembled(outOf(answers));
    expect([host(answer.source), host(answer.destination), answer.udp!.destinationPort]).toEqual([
      host(VIP),
      host(CLIENT),
      40000,
    ]);
    expect(pairCounters(world, 101).packets).toBe(6n);
    expect(dropped(world)).toEqual([3n, 0n]);
  });

  testWhole("modern: the first fragment decides for all of its datagram, also by round robin without flows", () => {
    const world = bench([dns({ type: "DSR", members: ruleOf().members })]);
    const servers = [1, 2].map((identification) => {
      const outcomes = sendAll(world, fragmentsOf({ identification }));
      expect(outcomes.map(({ flow }) => flow)).toEqual(["none", "none", "none"]);
      expect(reassembled(outOf(outcomes)).udp!.payload).toEqual(PAYLOAD);
      return new Set(outcomes.map(({ serverId }) => serverId));
    });
    expect(servers).toEqual([new Set([103]), new Set([102])]);
  });

  test("modern: fragments that come before the first one wait for it and leave behind it in order of arrival", () => {
    const world = bench([dns({ type: "NAT" })]);
    const [first, second, third] = fragmentsOf() as [Uint8Array, Uint8Array, Uint8Array];
    const early = sendAll(world, [third, second]);
    expect(early.map(reasonOf)).toEqual([
      [Verdict.Drop, Reason.FragmentHeld],
      [Verdict.Drop, Reason.FragmentHeld],
    ]);
    expect(dropped(world)).toEqual([2n, 0n]);
    world.nowMs += 999;
    const outcome = world.send(arriving(first));
    expect(outcome.reason).toBe(Reason.FlowNew);
    expect(outcome.out.map((frame) => sent(frame).fragmentOffset)).toEqual([0, 800, 400]);
    expect(reassembled(outcome.out).udp!.payload).toEqual(PAYLOAD);
    expect(outcome.out.every((frame) => sent(frame).ttl === 63)).toBe(true);
    expect(pairCounters(world, 101).packets).toBe(3n);
    expect(dropped(world)).toEqual([3n, 0n]);
  });

  test("modern: what waits longer than a second is given up and counted as dropped", () => {
    const world = bench([dns()]);
    const [first, second] = fragmentsOf() as [Uint8Array, Uint8Array];
    world.send(arriving(second));
    world.nowMs += 1_000;
    expect(world.send(arriving(first)).out.length).toBe(1);
    expect(dropped(world)).toEqual([2n, 1n]);
  });

  testWhole("modern: no more than 16 fragments of one datagram and 64 in all wait", () => {
    const world = bench([dns()]);
    const later = (identification: number): Uint8Array[] => fragmentsOf({ identification, step: 8 }).slice(1, 18);
    const verdicts = [1, 2, 3, 4].map((identification) => {
      const reasons = sendAll(world, later(identification)).map(({ reason }) => reason);
      return [reasons.filter((reason) => reason === Reason.FragmentHeld).length, reasons.at(-1)];
    });
    expect(verdicts).toEqual(new Array(4).fill([16, Reason.FragmentHoldFull]));
    expect(world.send(arriving(later(5)[0]!)).reason).toBe(Reason.FragmentHoldFull);
    expect(dropped(world)).toEqual([69n, 5n]);
    world.wait(1_000);
    expect(dropped(world)).toEqual([69n, 69n]);
    expect(world.send(arriving(later(5)[0]!)).reason).toBe(Reason.FragmentHeld);
  });

  test("modern: the way of a first fragment is remembered for five seconds", () => {
    const world = bench([dns()]);
    const [first, second, third] = fragmentsOf() as [Uint8Array, Uint8Array, Uint8Array];
    world.send(arriving(first));
    world.nowMs += 4_999;
    expect(world.send(arriving(second)).reason).toBe(Reason.FragmentTranslated);
    world.nowMs += 1;
    expect(world.send(arriving(third)).reason).toBe(Reason.FragmentHeld);
  });

  test("modern: fragments of another identification or of another client do not go the same way", () => {
    const world = bench([dns()]);
    world.send(arriving(fragmentsOf()[0]!));
    expect(world.send(arriving(fragmentsOf({ identification: 78 })[1]!)).reason).toBe(Reason.FragmentHeld);
    expect(world.send(arriving(fragmentsOf({ from: ground.ip("203.0.113.201") })[1]!)).reason).toBe(
      Reason.FragmentHeld,
    );
  });

  test("modern: fragments of a datagram that is dropped or given back fare like its first one", () => {
    const [first, second] = fragmentsOf() as [Uint8Array, Uint8Array];
    const nobody = bench([dns({ members: [] })]);
    expect(sendAll(nobody, [first, second]).map(reasonOf)).toEqual([
      [Verdict.Drop, Reason.NoServer],
      [Verdict.Drop, Reason.FragmentToVip],
    ]);
    expect([dropped(nobody), ruleCounters(nobody).packetsDropped]).toEqual([[2n, 2n], 1n]);
    const disabled = bench([dns({ enabled: false })]);
    expect(sendAll(disabled, [first, second]).map(reasonOf)).toEqual([
      [Verdict.Pass, Reason.RuleDisabled],
      [Verdict.Pass, Reason.VipFragment],
    ]);
    expect([dropped(disabled), ruleCounters(disabled).packetsNotProcessed]).toEqual([[2n, 0n], 1n]);
  });

  test("modern: fragments of a server's own traffic and to a proxy address go back to the kernel", () => {
    const world = bench([dns({ type: "NAT" })]);
    const own = { from: SERVERS[0]!.address, to: ground.ip("203.0.113.9"), sourcePort: 53, destinationPort: 999 };
    expect(sendAll(world, fragmentsOf(own).slice(0, 2), SERVER_SIDE).map(({ reason }) => reason)).toEqual([
      Reason.ServerTraffic,
      Reason.ServerFragment,
    ]);
    const toProxy = { to: PROXY, destinationPort: 5000 };
    expect(sendAll(world, fragmentsOf(toProxy).slice(0, 2)).map(({ reason }) => reason)).toEqual([
      Reason.ProxyTraffic,
      Reason.ProxyFragment,
    ]);
    const strangers = { from: ground.ip("203.0.113.9"), to: ground.ip("203.0.113.10") };
    expect(sendAll(world, fragmentsOf(strangers)).every(({ verdict }) => verdict === Verdict.Ignore)).toBe(true);
  });

  test("modern: a first fragment whose transport header is cut is dropped, and so are the others", () => {
    const world = bench([ruleOf({ members: one })]);
    const tcpFirst =
      family === 4
        ? ipv4({ source: CLIENT, destination: VIP, protocol: 6, payload: new Uint8Array(16), moreFragments: true })
        : fragmentIpv6({ source: CLIENT, destination: VIP, nextHeader: 6, payload: new Uint8Array(40) }, 5, 64)[0]!;
    expect(reasonOf(world.send(arriving(tcpFirst)))).toEqual([Verdict.Drop, Reason.MalformedTransport]);
  });

  test("modern: later fragments take the hop limit and the size of the way, as whole packets do", () => {
    const world = bench([dns()]);
    world.engine.setNextHop(0, hopOf(0, { mtu: 640 }));
    const payload = new Uint8Array(3_000);
    expect(world.send(arriving(fragmentsOf({ step: 400, payload })[0]!)).reason).toBe(Reason.FlowNew);
    // IPv4 cuts it again; IPv6 tells the source, which alone may cut.
    const outcome = world.send(arriving(fragmentsOf({ step: 1248, payload })[1]!));
    if (family === 4) {
      expect(outcome.reason).toBe(Reason.FragmentsMade);
      const parts = outcome.out.map(sent);
      expect(parts.map((part) => [part.fragmentOffset, part.body.length, part.moreFragments])).toEqual([
        [1248, 616, true],
        [1864, 616, true],
        [2480, 16, true],
      ]);
    } else {
      expect(outcome.reason).toBe(Reason.TooBigSent);
      expect(onlyPacket(outcome).icmp).toMatchObject({ type: 2, code: 0, rest: 640 });
    }
    const dying = fragmentsOf()[2]!.slice();
    dying[ground.ttlAt] = 1;
    // RFC 1122 3.2.2: in IPv4 nobody complains about any fragment but the first.
    expect(world.send(arriving(dying)).reason).toBe(family === 4 ? Reason.TimeExceededUnsent : Reason.TimeExceededSent);
  });
}
