/** ICMP and ICMPv6 of the random traffic: pings, errors that quote what somebody sent, and the rest. */
import type { FrameIn } from "../../src/engine/engine.ts";
import type { Address } from "../../src/model/address.ts";
import type { Protocol } from "../../src/model/config.ts";
import { ip } from "../support/addresses.ts";
import {
  type ChecksumChoice,
  type IcmpSpec,
  icmp4,
  icmp6,
  PROTOCOL_ICMP,
  PROTOCOL_ICMP6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  tcp,
  udp,
} from "../support/packet-builder.ts";
import { clientMac, type PacketMaker, type Side } from "./packet-maker.ts";
import { CLIENT_PORT, ofFamily, PROXIES, SERVER_PORT, SERVERS, TUN_PORT, VIPS } from "./world.ts";

/** A packet that somebody sent. */
export interface Sent {
  readonly protocol: Protocol;
  readonly side: Side;
}

/** A message in a packet. @param change of the finished message. */
function icmp(
  make: PacketMaker,
  source: Address,
  destination: Address,
  spec: IcmpSpec,
  change: (message: Uint8Array) => Uint8Array = (message) => message,
): FrameIn {
  const ends = { source, destination };
  const isIpv6 = destination.family === 6;
  const message = change(isIpv6 ? icmp6(spec, ends) : icmp4(spec));
  const packet = make.packet(ends, isIpv6 ? PROTOCOL_ICMP6 : PROTOCOL_ICMP, message);
  return make.onLink(packet, make.random.of([CLIENT_PORT, SERVER_PORT, TUN_PORT]), clientMac(0));
}

export function echo(make: PacketMaker): FrameIn {
  const random = make.random;
  const destination = random.of([...VIPS, ...PROXIES, ...SERVERS]);
  const code = random.chance(0.05) ? random.below(256) : 0;
  const checksum = random.chance(0.1) ? { checksum: random.below(65536) } : {};
  const spec = {
    type: destination.family === 4 ? 8 : 128,
    code,
    rest: random.next(),
    payload: make.payload(),
    ...checksum,
  };
  return icmp(make, make.clientAddress(destination.family), destination, spec);
}

/** What a router would quote of a packet that went from `side.source`. */
function quote(make: PacketMaker, protocol: Protocol, side: Side): Uint8Array {
  const random = make.random;
  const payload = random.bytes(40);
  const checksum = random.of<ChecksumChoice>(["good", "good", "good", "none", 0xffff]);
  const segment =
    protocol === "tcp" ? tcp({ ...side, payload, checksum }, side) : udp({ ...side, payload, checksum }, side);
  const quoted = make.packet(side, protocol === "tcp" ? PROTOCOL_TCP : PROTOCOL_UDP, segment);
  const headerBytes = quoted.length - segment.length;
  // Now and then what is quoted has changed on its way, or was a fragment.
  if (random.chance(0.1)) quoted[random.below(quoted.length)]! ^= 1 << random.below(8);
  const usual = [headerBytes + 8, headerBytes + 8, headerBytes + 18, quoted.length, headerBytes + 7, 12];
  return quoted.subarray(0, random.chance(0.8) ? random.of(usual) : random.below(quoted.length + 1));
}

export function tooBig(make: PacketMaker, sent: Sent): FrameIn {
  const random = make.random;
  const { protocol, side } = sent;
  const { family } = side.source;
  const payload = quote(make, protocol, side);
  const kind = family === 4 ? { type: 3, code: 4 } : { type: 2, code: random.of([0, 0, 0, 1]) };
  const router = random.chance(0.5) ? make.clientAddress(family) : ip(family === 4 ? "203.0.113.77" : "2001:db8:7::77");
  const destination = random.chance(0.9) ? side.source : random.of(ofFamily(family, PROXIES));
  return icmp(make, router, destination, { ...kind, rest: random.of([1400, 1280, 576, 0]), payload });
}

export function otherIcmp(make: PacketMaker, sent: Sent): FrameIn {
  const random = make.random;
  const { protocol, side } = sent;
  const { family } = side.source;
  const type = random.of([...ICMP_TYPES[family], random.below(256)]);
  const code = random.below(4);
  const payload = random.chance(0.8) ? quote(make, protocol, side) : random.bytes(random.below(40));
  const destination = random.chance(0.6) ? side.source : random.of(ofFamily(family, [...VIPS, ...PROXIES]));
  const cut = random.chance(0.1) ? random.below(8) : null;
  const change = (message: Uint8Array): Uint8Array => (cut === null ? message : message.subarray(0, cut));
  return icmp(make, make.clientAddress(family), destination, { type, code, rest: 0, payload }, change);
}

/** Errors, what answers them, and what keeps links alive. */
const ICMP_TYPES = {
  4: [0, 3, 3, 4, 5, 11, 11, 12, 12, 13, 14, 17],
  6: [1, 1, 2, 3, 3, 4, 4, 129, 130, 131, 132, 133, 134, 135, 136, 137, 139, 143],
} as const;
