/** Fragments of the random traffic: in order and not, lost, doubled, overlapping, tiny, and of what is no TCP or UDP. */
import type { Protocol } from "../../src/model/config.ts";
import {
  fragmentIpv4,
  fragmentIpv6,
  icmp4,
  icmp6,
  ipv4,
  PROTOCOL_ICMP,
  PROTOCOL_ICMP6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  tcp,
  udp,
} from "../support/packet-builder.ts";
import type { PacketMaker, Side } from "./packet-maker.ts";

const MOST_PARTS = 24;

/** The packets that a segment or datagram of one side is cut into, in the order in which they arrive; at least one. */
export function fragments(make: PacketMaker, protocol: Protocol, side: Side): Uint8Array[] {
  const { random } = make;
  const payload = random.bytes(random.of([0, 1, 100, 200, 1200, 3000]));
  const contents = { flags: random.of(["A", "PA", "PA", "S", "FA", "RA"]), payload };
  const { family } = side.destination;
  const isPing = random.chance(0.15);
  const ping = { type: family === 4 ? 8 : 128, code: 0, rest: random.next(), payload };
  const message = family === 4 ? icmp4(ping) : icmp6(ping, side);
  const icmp = family === 4 ? PROTOCOL_ICMP : PROTOCOL_ICMP6;
  const plain = protocol === "tcp" ? tcp({ ...side, ...contents }, side) : udp({ ...side, payload }, side);
  const segment = isPing ? message : plain;
  const usual = isPing ? icmp : protocol === "tcp" ? PROTOCOL_TCP : PROTOCOL_UDP;
  const number = !isPing && random.chance(0.1) ? random.of([PROTOCOL_ICMP, PROTOCOL_ICMP6, 47, 50]) : usual;
  // Few numbers, so that packets meet the memory of those before.
  const identification = random.chance(0.7) ? random.below(65536) : random.below(3);
  const size = random.of([68, 124, 580, 1400, 1500, 2600]);
  const parts = cut(make, side, number, segment, identification, random.chance(0.2) ? 28 : size).slice(0, MOST_PARTS);
  if (random.chance(0.1)) {
    // The same packet cut elsewhere: parts overlap.
    const again = cut(make, side, number, segment, identification, random.of([68, 132, 400])).slice(0, 6);
    parts.push(...again);
  }
  if (random.chance(0.2)) parts.reverse();
  else if (random.chance(0.4)) random.shuffle(parts);
  const kept = parts.filter(() => !random.chance(0.05));
  if (random.chance(0.1) && kept.length > 0) kept.push(random.of(kept));
  return kept.length > 0 ? kept : [lastResort(make, side, segment, identification)];
}

function cut(
  make: PacketMaker,
  side: Side,
  number: number,
  segment: Uint8Array,
  identification: number,
  maximumBytes: number,
): Uint8Array[] {
  if (side.destination.family === 6) {
    const spec = { ...side, nextHeader: number, payload: segment, hopLimit: make.ttl(), extensions: make.chain() };
    return fragmentIpv6(spec, identification, maximumBytes);
  }
  const dontFragment = make.random.chance(0.1);
  return fragmentIpv4(
    { ...side, protocol: number, payload: segment, ttl: make.ttl(), identification, dontFragment },
    maximumBytes,
  );
}

/** A first fragment of all there is, of which no other ever comes. */
function lastResort(make: PacketMaker, side: Side, segment: Uint8Array, identification: number): Uint8Array {
  if (side.destination.family === 6)
    return cut(make, side, PROTOCOL_UDP, segment.length > 0 ? segment : new Uint8Array(8), identification, 1500)[0]!;
  return ipv4({ ...side, protocol: PROTOCOL_UDP, payload: segment, identification, moreFragments: true });
}
