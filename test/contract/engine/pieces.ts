/** Datagrams in fragments for the contract cases, and what becomes of them put together again. */
import { expect } from "bun:test";
import type { FrameOut, Outcome } from "../../../src/engine/engine.ts";
import type { Address } from "../../../src/model/address.ts";
import { arriving, type Bench } from "../../support/engine-bench.ts";
import { concat, fragmentIpv4, fragmentIpv6, ipv4, ipv6, PROTOCOL_UDP, udp } from "../../support/packet-builder.ts";
import { type Decoded, decodeEthernet, decodeIp, faults } from "../../support/packet-decoder.ts";
import type { Ground } from "./ground.ts";

export const PAYLOAD = Uint8Array.from({ length: 1_000 }, (_, i) => i * 7);

export interface Datagram {
  readonly from?: Address;
  readonly to?: Address;
  readonly sourcePort?: number;
  readonly destinationPort?: number;
  readonly identification?: number;
  /** Data bytes of a fragment; a multiple of 8. */
  readonly step?: number;
  readonly payload?: Uint8Array;
}

export function piecesOn(ground: Ground) {
  const { family, headerBytes, icmpPacket, numbers, CLIENT, VIP } = ground;

  /** A UDP datagram in fragments, by default of 400 bytes each from the client to VIP port 53. */
  const fragmentsOf = (spec: Datagram = {}): Uint8Array[] => {
    const ends = { source: spec.from ?? CLIENT, destination: spec.to ?? VIP };
    const { sourcePort = 40000, destinationPort = 53, identification = 77, step = 400, payload = PAYLOAD } = spec;
    const datagram = udp({ sourcePort, destinationPort, payload }, ends);
    return family === 4
      ? fragmentIpv4({ ...ends, protocol: PROTOCOL_UDP, payload: datagram, identification }, 20 + step)
      : fragmentIpv6({ ...ends, nextHeader: PROTOCOL_UDP, payload: datagram }, identification, 48 + step);
  };
  const sent = ({ bytes }: FrameOut): Decoded => decodeIp(decodeEthernet(bytes).payload);
  /** Puts fragments together again; throws unless they fill the datagram without gap. */
  const reassembled = (frames: readonly FrameOut[]): Decoded => {
    const parts = frames.map(sent).sort((a, b) => a.fragmentOffset - b.fragmentOffset);
    let end = 0;
    for (const [i, part] of parts.entries()) {
      expect([part.fragmentOffset, part.moreFragments]).toEqual([end, i + 1 < parts.length]);
      end += part.body.length;
    }
    const [{ source, destination, protocol }] = parts as [Decoded];
    const payload = concat(...parts.map((part) => part.body));
    const whole =
      family === 4
        ? ipv4({ source, destination, protocol, payload })
        : ipv6({ source, destination, nextHeader: protocol, payload });
    expect(faults(whole)).toEqual([]);
    return decodeIp(whole);
  };
  const sendAll = (world: Bench, packets: readonly Uint8Array[], port?: number): Outcome[] =>
    packets.map((packet) => world.send(arriving(packet, port)));
  const outOf = (outcomes: readonly Outcome[]): FrameOut[] => outcomes.flatMap(({ out }) => [...out]);
  const dropped = (world: Bench): readonly bigint[] => {
    const { fragmentsIn, fragmentsDropped } = world.engine.counters();
    return [fragmentsIn, fragmentsDropped];
  };
  /** An echo request with 200 bytes of data in three fragments or more. */
  const echoFragments = (
    identification = 9,
    ends = { source: CLIENT, destination: VIP },
    type: number = numbers.echo,
  ) => {
    const payload = Uint8Array.from({ length: 200 }, (_, i) => i * 3);
    const message = icmpPacket({ type, rest: 0x00070001, payload }, { from: ends.source, to: ends.destination });
    const body = message.subarray(headerBytes);
    return family === 4
      ? fragmentIpv4({ ...ends, protocol: numbers.protocol, payload: body, identification }, 20 + 80)
      : fragmentIpv6({ ...ends, nextHeader: numbers.protocol, payload: body }, identification, 48 + 80);
  };
  return { fragmentsOf, echoFragments, sent, reassembled, sendAll, outOf, dropped };
}
