/** The packet builder judges engines; scapy's captures and examples out of RFCs judge the packet builder. */
import { describe, expect, test } from "bun:test";
import { readdirSync, readFileSync } from "node:fs";
import { join } from "node:path";
import { readCapture } from "../../src/device/pcap.ts";
import { addressBytes, addressText, ip } from "./addresses.ts";
import { internetChecksum, onesComplementSum } from "./checksum.ts";
import {
  concat,
  type ExtensionHeader,
  ethernet,
  fragmentExtension,
  fragmentIpv4,
  fromHex,
  icmp4,
  icmp6,
  ipv4,
  ipv6,
  optionsExtension,
  PROTOCOL_ICMP6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  tcp,
  toHex,
  udp,
} from "./packet-builder.ts";
import {
  type Decoded,
  decodeEthernet,
  decodeIpv4,
  decodeIpv6,
  faults,
  transportChecksumState,
} from "./packet-decoder.ts";

const VECTORS = join(import.meta.dir, "../vectors");
const V4 = { source: ip("203.0.113.200"), destination: ip("198.51.100.10") };
const V6 = { source: ip("2001:db8:9::7"), destination: ip("2001:db8:1::10") };

test("RFC 1071 section 3: the worked example adds up to ddf2", () => {
  const example = fromHex("0001 f203 f4f5 f6f7");
  expect(onesComplementSum(example)).toBe(0xddf2);
  expect(internetChecksum(example)).toBe(0x220d);
  expect(onesComplementSum(example.subarray(0, 3), example.subarray(3))).toBe(0xddf2);
});

/** What stands behind the IP header, built anew; the pieces of a fragmented datagram as they are. */
function rebuiltBody(packet: Decoded): Uint8Array {
  const { tcp: segment, udp: datagram, icmp, source, destination } = packet;
  const ends = { source, destination };
  if (packet.moreFragments || packet.fragmentOffset > 0) return packet.body;
  if (segment) return tcp(segment.checksum === 0 ? { ...segment } : { ...segment, checksum: "good" }, ends);
  if (datagram) return udp({ ...datagram, checksum: datagram.checksum === 0 ? "none" : "good" }, ends);
  const { type, code, rest, payload } = icmp!;
  return packet.family === 4 ? icmp4({ type, code, rest, payload }) : icmp6({ type, code, rest, payload }, ends);
}

/** Fragment headers built anew, the others with their bodies as they are (RFC 8200 section 4). */
function extensionsOf(packet: Decoded): ExtensionHeader[] {
  const { header, fragmentOffset, moreFragments, identification } = packet;
  const found: ExtensionHeader[] = [];
  let kind = header[6]!;
  for (let at = 40; at < header.length; ) {
    const isFragment = kind === 44;
    const end = at + (isFragment ? 8 : (header[at + 1]! + 1) * 8);
    const raw = { kind, body: header.subarray(at + 1, end) };
    found.push(isFragment ? fragmentExtension(fragmentOffset / 8, moreFragments, identification) : raw);
    kind = header[at]!;
    at = end;
  }
  return found;
}

function rebuilt(packet: Decoded): Uint8Array {
  const payload = rebuiltBody(packet);
  if (packet.family === 4) return ipv4({ ...packet, fragmentOffset: packet.fragmentOffset / 8, payload });
  const { header, protocol, ttl, typeOfService } = packet;
  const flowLabel = ((header[1]! & 15) << 16) | (header[2]! << 8) | header[3]!;
  const extensions = extensionsOf(packet);
  const fields = { nextHeader: protocol, hopLimit: ttl, trafficClass: typeOfService, flowLabel };
  return ipv6({ ...packet, ...fields, extensions, payload });
}

test.each(readdirSync(VECTORS).filter((name) => name.endsWith(".pcap")))(
  "what scapy built in %s is taken apart and built again byte for byte",
  (name) => {
    const capture = readCapture(readFileSync(join(VECTORS, name)), name);
    if (!capture.ok) throw new Error(capture.failure.text);
    expect(capture.value.packets.length).toBeGreaterThan(0);
    for (const { bytes } of capture.value.packets) {
      const frame = decodeEthernet(bytes);
      const packet = name.includes("6.") ? decodeIpv6(frame.payload) : decodeIpv4(frame.payload);
      expect(faults(frame.payload)).toEqual([]);
      expect(toHex(ethernet({ ...frame, payload: rebuilt(packet) }))).toBe(toHex(bytes));
    }
  },
);

describe("IPv6", () => {
  test("a UDP datagram behind hop-by-hop and destination options is found and its sum is right", () => {
    const payload = udp({ sourcePort: 40000, destinationPort: 53, payload: Uint8Array.of(1, 2, 3) }, V6);
    const extensions = [optionsExtension(0), optionsExtension(60, 2)];
    const packet = decodeIpv6(
      ipv6({ ...V6, nextHeader: PROTOCOL_UDP, payload, extensions, flowLabel: 0xabcde, trafficClass: 3 }),
    );
    expect([packet.udp!.destinationPort, transportChecksumState(packet), packet.typeOfService]).toEqual([
      53,
      "good",
      3,
    ]);
    expect(packet.header.length).toBe(40 + 8 + 16);
  });

  test("a fragment header is walked", () => {
    const payload = new Uint8Array(16);
    const packet = decodeIpv6(
      ipv6({ ...V6, nextHeader: PROTOCOL_TCP, payload, extensions: [fragmentExtension(3, true, 77)] }),
    );
    expect([packet.fragmentOffset, packet.moreFragments, packet.identification, packet.tcp]).toEqual([
      24,
      true,
      77,
      undefined,
    ]);
  });

  test("ICMPv6 covers the pseudo-header", () => {
    const payload = icmp6({ type: 128, rest: 1, payload: Uint8Array.of(5) }, V6);
    const packet = ipv6({ ...V6, nextHeader: PROTOCOL_ICMP6, payload });
    expect(faults(packet)).toEqual([]);
    packet[packet.length - 1] = 6;
    expect(faults(packet)).toEqual(["transport checksum is wrong"]);
  });
});

test("faults are found: header sum, transport sum, UDP length, lengths beyond the packet", () => {
  const payload = udp({ sourcePort: 1, destinationPort: 2, payload: new Uint8Array(5) }, V4);
  const good = ipv4({ ...V4, protocol: PROTOCOL_UDP, payload });
  expect(faults(good)).toEqual([]);
  expect(faults(ipv4({ ...V4, protocol: PROTOCOL_UDP, payload, checksum: 1 }))).toEqual([
    "IPv4 header checksum is wrong",
  ]);
  const short = udp({ sourcePort: 1, destinationPort: 2, payload: new Uint8Array(5), length: 12 }, V4);
  expect(faults(ipv4({ ...V4, protocol: PROTOCOL_UDP, payload: short }))).toEqual(["UDP length 12, body 13"]);
  const damaged = good.slice();
  damaged[30] = 1;
  expect(faults(damaged)).toEqual(["transport checksum is wrong"]);
  expect(faults(ipv4({ ...V4, protocol: PROTOCOL_UDP, payload, totalLength: 99 }))).toEqual([
    "total length 99 of 33 bytes",
  ]);
});

test("fragments put together are the packet again", () => {
  const payload = udp(
    { sourcePort: 1, destinationPort: 2, payload: Uint8Array.from({ length: 300 }, (_, i) => i) },
    V4,
  );
  const parts = fragmentIpv4({ ...V4, protocol: PROTOCOL_UDP, payload }, 120).map((part) => decodeIpv4(part));
  expect(parts.map((part) => part.fragmentOffset)).toEqual([0, 96, 192, 288]);
  expect(parts.map((part) => part.moreFragments)).toEqual([true, true, true, false]);
  expect(toHex(concat(...parts.map((part) => part.body)))).toBe(toHex(payload));
});

test("addresses go to bytes and text and back", () => {
  expect([...addressBytes(ip("192.0.2.1"))]).toEqual([192, 0, 2, 1]);
  expect(toHex(addressBytes(ip("2001:db8::1")))).toBe("20010db8000000000000000000000001");
  expect(addressText(ip("2001:db8::1"))).toBe("2001:db8:0:0:0:0:0:1");
});
