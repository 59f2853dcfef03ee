/** Damages frames the way networks, bugs and attackers do. Structure-aware: it knows where the fields are that matter. */
import type { FrameIn, VnetHeader } from "../../src/engine/engine.ts";
import { concat } from "../support/packet-builder.ts";
import type { Random } from "../support/random.ts";
import { TUN_PORT } from "./world.ts";

const PLAIN: VnetHeader = { flags: 0, gsoType: 0, hdrLen: 0, gsoSize: 0, csumStart: 0, csumOffset: 0 };

/** A damaged copy. The kinds of damage may leave a frame as it was, for example when it is too short. */
export function mutate(frame: FrameIn, random: Random): FrameIn {
  const bytes = frame.bytes.slice();
  const packetAt = frame.port === TUN_PORT ? 0 : 14;
  const set = (at: number, ...values: number[]): void => {
    for (const [i, value] of values.entries()) if (packetAt + at + i < bytes.length) bytes[packetAt + at + i] = value;
  };
  const isIpv6 = (bytes[packetAt] ?? 0) >> 4 === 6;
  const headerBytes = isIpv6 ? 40 : ((bytes[packetAt] ?? 0) & 15) * 4;
  const vnet = frame.vnet ?? PLAIN;
  const withBytes = (changed: Uint8Array): FrameIn => ({ ...frame, bytes: changed });
  const edited = (edit: () => void): FrameIn => {
    edit();
    return withBytes(bytes);
  };
  const word = (): [number, number] => [random.below(256), random.below(256)];
  return random.weighted<FrameIn>([
    // Cut anywhere, and more often inside the headers.
    [6, () => withBytes(bytes.subarray(0, random.below(bytes.length + 1)))],
    [6, () => withBytes(bytes.subarray(0, random.below(Math.min(bytes.length, packetAt + 60) + 1)))],
    [4, () => withBytes(concat(bytes, random.bytes(random.between(1, 20))))],
    [4, () => edited(() => set(random.below(bytes.length), random.below(256)))],
    [4, () => edited(() => set(random.below(60), random.below(256)))],
    // IPv4: version and header length, total length, flags and offset, TTL, protocol, checksum.
    [3, () => edited(() => set(0, random.of([0x44, 0x45, 0x46, 0x4f, 0x55, 0x65, 0x40, random.below(256)])))],
    [4, () => edited(() => set(2, random.of([0, 0, 0, 5]), random.below(256)))],
    [3, () => edited(() => set(6, random.of([0x20, 0x40, 0x80, 0x60, 0x00]), random.of([0, 0, 1])))],
    [3, () => edited(() => set(8, random.below(3)))],
    [2, () => edited(() => set(9, random.of([1, 6, 17, 58, 132, random.below(256)])))],
    [2, () => edited(() => set(10, ...word()))],
    // IPv6: payload length, next header, hop limit, an extension header's length, a fragment header's offset.
    ...(isIpv6
      ? ([
          [4, () => edited(() => set(4, random.of([0, 0, 0, 5]), random.below(256)))],
          [4, () => edited(() => set(6, random.of([0, 6, 17, 43, 44, 51, 58, 59, 60, random.below(256)])))],
          [2, () => edited(() => set(7, random.below(3)))],
          [3, () => edited(() => set(41, random.of([0, 1, 2, random.below(256)])))],
          [2, () => edited(() => set(42, random.of([0, 0, random.below(256)]), random.below(256)))],
        ] as const)
      : []),
    // Transport: ports, TCP data offset and flags, UDP length, ICMP type and code, checksums.
    [2, () => edited(() => set(headerBytes + random.of([0, 2]), ...word()))],
    [3, () => edited(() => set(headerBytes + 12, random.below(256)))],
    [3, () => edited(() => set(headerBytes + 13, random.below(256)))],
    [3, () => edited(() => set(headerBytes + 4, random.of([0, 0, 255]), random.below(256)))],
    [2, () => edited(() => set(headerBytes, random.below(20), random.below(8)))],
    [2, () => edited(() => set(headerBytes + random.of([2, 6, 16]), ...word()))],
    // Virtio header: flags, kinds of super-packet, sizes, places.
    [2, () => ({ ...frame, vnet: { ...vnet, flags: random.below(4) } })],
    [2, () => ({ ...frame, vnet: { ...vnet, gsoType: random.of([1, 3, 4, 5, 0x81, 0x80, random.below(256)]) } })],
    [2, () => ({ ...frame, vnet: { ...vnet, flags: 1, csumStart: random.of([vnet.csumStart, random.below(100)]) } })],
    [1, () => ({ ...frame, vnet: { ...vnet, csumOffset: random.below(20) } })],
    [1, () => ({ ...frame, vnet: { ...vnet, gsoSize: random.of([0, 1, 8, 65535]) } })],
    [1, () => ({ ...frame, vnet: { ...vnet, hdrLen: random.below(200) } })],
    [2, () => ({ ...frame, vlan: true })],
    [
      2,
      () =>
        edited(
          () =>
            packetAt === 14 &&
            bytes.set([0x81, 0x00].slice(0, Math.max(0, bytes.length - 12)), Math.min(12, bytes.length)),
        ),
    ],
  ]);
}
