/** Engine contract: what is counted of servers that refuse new connections or leave them unanswered. */
import { expect, test } from "bun:test";
import { Reason } from "../../../src/gen/layout.ts";
import {
  type AnswerFields,
  answerTo,
  arriving,
  type Bench,
  onlyPacket,
  SERVER_SIDE,
} from "../../support/engine-bench.ts";
import { decodeEthernet } from "../../support/packet-decoder.ts";
import { type Ground, pairCounters } from "./ground.ts";

export function signals(ground: Ground): void {
  const { numbers, bench, benchIlb, ruleOf, tcpPacket, udpPacket, icmpPacket, one } = ground;
  const { CLIENT, PROXY, ROUTER } = ground;
  const nats = ["HALF-NAT", "NAT"] as const;
  const counted = (world: Bench): { refused: bigint; unanswered: bigint } => {
    const { refused, unanswered } = pairCounters(world, 101);
    return { refused, unanswered };
  };
  /** Sends a packet of the client. @returns how its server answers */
  const opened = (world: Bench, packet: Uint8Array) => {
    const request = onlyPacket(world.send(arriving(packet)));
    return (spec: AnswerFields) => world.send(arriving(answerTo(request, spec), SERVER_SIDE));
  };

  test.each(nats)("a SYN that the server answers with RST counts as refused, once (%s)", (type) => {
    const world = bench([ruleOf({ type, members: one })]);
    const answer = opened(world, tcpPacket({ sequence: 100 }));
    expect(counted(world)).toEqual({ refused: 0n, unanswered: 0n });
    answer({ flags: "RA", sequence: 0, acknowledgement: 101 });
    answer({ flags: "RA", sequence: 0, acknowledgement: 101 });
    expect(counted(world)).toEqual({ refused: 1n, unanswered: 0n });
    // The client tries again from the same port: a new flow.
    answer({ flags: "RA", sequence: 0, acknowledgement: 101 });
    const again = opened(world, tcpPacket({ sequence: 900 }));
    again({ flags: "RA", sequence: 0, acknowledgement: 901 });
    expect(counted(world)).toEqual({ refused: 2n, unanswered: 0n });
  });

  test("an RST of a connection that was answered, or without ACK, is no refusal", () => {
    const world = bench([ruleOf({ members: one })]);
    const answer = opened(world, tcpPacket({ sequence: 100 }));
    answer({ flags: "SA", sequence: 500, acknowledgement: 101 });
    answer({ flags: "RA", sequence: 501, acknowledgement: 101 });
    // Of a connection that the server does not know: a segment with ACK gets a bare RST (RFC 9293 3.10.7.1).
    const late = opened(world, tcpPacket({ sourcePort: 40001, flags: "PA", sequence: 7, acknowledgement: 8 }));
    late({ flags: "R", sequence: 8 });
    expect(counted(world)).toEqual({ refused: 0n, unanswered: 0n });
  });

  test.each(nats)("every SYN that is sent again before an answer counts as unanswered (%s)", (type) => {
    const world = bench([ruleOf({ type, members: one })]);
    const syn = tcpPacket({ sequence: 100 });
    const answer = opened(world, syn);
    expect(counted(world).unanswered).toBe(0n);
    world.send(arriving(syn));
    world.wait(3000);
    world.send(arriving(syn));
    expect(counted(world)).toEqual({ refused: 0n, unanswered: 2n });
    answer({ flags: "SA", sequence: 500, acknowledgement: 101 });
    world.send(arriving(syn));
    world.send(arriving(tcpPacket({ flags: "A", sequence: 101, acknowledgement: 501 })));
    expect(counted(world)).toEqual({ refused: 0n, unanswered: 2n });
  });

  test("what else a client sends to a silent server is no SYN: nothing is counted", () => {
    const world = bench([ruleOf({ members: one })]);
    opened(world, tcpPacket({ sequence: 100 }));
    for (const flags of ["PA", "SA", "FA", "RA"])
      world.send(arriving(tcpPacket({ flags, sequence: 101, acknowledgement: 1 })));
    expect(counted(world)).toEqual({ refused: 0n, unanswered: 0n });
  });

  test.each(nats.flatMap((type) => (["tcp", "udp"] as const).map((protocol) => [protocol, type] as const)))(
    "modern: an ICMP unreachable about a new %s flow counts as refused, other errors do not (%s)",
    (protocol, type) => {
      const world = bench([ruleOf({ type, protocol, members: one })]);
      const first = protocol === "tcp" ? tcpPacket() : udpPacket({ destinationPort: 80 });
      const outcome = world.send(arriving(first));
      const quoted = decodeEthernet(outcome.out[0]!.bytes).payload;
      const to = type === "NAT" ? PROXY : CLIENT;
      const tell = ([kind, code]: readonly [number, number]) =>
        world.send(arriving(icmpPacket({ type: kind, code, payload: quoted }, { from: ROUTER, to }), SERVER_SIDE));
      for (const message of [numbers.timeExceeded, numbers.parameter, numbers.tooBig] as const)
        tell(message as [number, number]);
      expect(counted(world).refused).toBe(0n);
      expect(tell(numbers.portUnreachable as [number, number]).reason).toBe(Reason.IcmpErrorTranslated);
      expect(counted(world).refused).toBe(1n);
      const answer = answerTo(onlyPacket(outcome), protocol === "tcp" ? { flags: "SA" } : {});
      world.send(arriving(answer, SERVER_SIDE));
      tell(numbers.portUnreachable as [number, number]);
      expect(counted(world).refused).toBe(1n);
    },
  );

  test("ilb: errors about packets to servers are the kernel's and count nothing", () => {
    const world = benchIlb([ruleOf({ members: one })]);
    const quoted = decodeEthernet(world.send(arriving(tcpPacket())).out[0]!.bytes).payload;
    const [type, code] = numbers.portUnreachable;
    world.send(arriving(icmpPacket({ type, code, payload: quoted }, { from: ROUTER, to: CLIENT }), SERVER_SIDE));
    expect(counted(world)).toEqual({ refused: 0n, unanswered: 0n });
  });

  test("a DSR server has no flows, so nothing is known of it", () => {
    const world = bench([ruleOf({ type: "DSR", members: one })]);
    world.send(arriving(tcpPacket()));
    world.send(arriving(tcpPacket()));
    expect(counted(world)).toEqual({ refused: 0n, unanswered: 0n });
  });
}
