/** Parts of the reference engine that have published answers of their own. */
import { describe, expect, test } from "bun:test";
import { mendHeader, mendPartial, mendTransport, setAddresses } from "../../src/engine/reference/checksum.ts";
import { hashOf, mapPort, maskAddress } from "../../src/engine/reference/select.ts";
import { ip } from "../support/addresses.ts";
import { onesComplementSum, sumIsValid } from "../support/checksum.ts";
import { ipv4, PROTOCOL_TCP, pseudoHeader, tcp } from "../support/packet-builder.ts";
import { Random, seedFromEnvironment } from "../support/random.ts";

describe("specification E.5", () => {
  test.each([
    ["hash-ip", "192.0.2.1", 0, "198.51.100.10", 0xedc79cf1, [1, 2, 1, 3]],
    ["hash-ip", "203.0.113.7", 0, "198.51.100.10", 0xd7b794f0, [0, 0, 0, 1]],
    ["hash-ip", "2001:db8::1", 0, "2001:db8:1::10", 0xa9bc1075, [1, 1, 1, 0]],
    ["hash-ip-port", "192.0.2.1", 40000, "198.51.100.10", 0xc1e3cbab, [1, 2, 3, 4]],
    ["hash-ip-port", "203.0.113.7", 1024, "198.51.100.10", 0x3cb9c6a3, [1, 0, 3, 1]],
    ["hash-ip-vip", "192.0.2.1", 0, "198.51.100.10", 0x7988315f, [1, 2, 3, 1]],
  ] as const)("ILB-181 %s of %s port %i", (algorithm, client, port, vip, hash, indexes) => {
    const h = hashOf(algorithm, ip(client), port, ip(vip));
    expect(h).toBe(hash);
    expect([2, 3, 4, 5].map((count) => h % count)).toEqual([...indexes]);
  });
});

test.each([
  [{ min: 80, max: 80 }, null, 80, 80],
  [{ min: 80, max: 80 }, { min: 8080, max: 8080 }, 80, 8080],
  [{ min: 5000, max: 5009 }, { min: 5000, max: 5009 }, 5004, 5004],
  [{ min: 5000, max: 5009 }, { min: 7000, max: 7009 }, 5004, 7004],
  [{ min: 5000, max: 5009 }, { min: 8080, max: 8080 }, 5004, 8080],
  [{ min: 5000, max: 5009 }, null, 5004, 5004],
] as const)("D.2 rule %o on server %o maps %i to %i", (rule, server, port, expected) => {
  expect(mapPort(rule, server, port)).toBe(expected);
});

test("a mask keeps the prefix of an address of either family", () => {
  expect(maskAddress(ip("192.0.2.77"), 24)).toEqual(ip("192.0.2.0"));
  expect(maskAddress(ip("192.0.2.77"), 32)).toEqual(ip("192.0.2.77"));
  expect(maskAddress(ip("192.0.2.77"), 0)).toEqual(ip("0.0.0.0"));
  expect(maskAddress(ip("2001:db8:1:2:3::4"), 48)).toEqual(ip("2001:db8:1::"));
});

test("mended checksums are right when they were right, and as wrong as before when they were wrong", () => {
  const seed = seedFromEnvironment(13);
  console.log(`checksum seed ${seed}`);
  const random = new Random(seed);
  const address = (): ReturnType<typeof ip> => ({ family: 4, value: BigInt(random.next()) });
  for (let i = 0; i < 2_000; i++) {
    const ends = { source: address(), destination: address() };
    const wrong = random.chance(0.5);
    const kind = random.of(["good", "partial"] as const);
    const segment = tcp(
      { sourcePort: 1, destinationPort: 2, payload: random.bytes(random.below(40)), checksum: kind },
      ends,
    );
    if (wrong) segment[16] = segment[16]! ^ random.between(1, 255);
    const before = ipv4({ ...ends, protocol: PROTOCOL_TCP, payload: segment });
    const after = before.slice();
    const moved = { source: address(), destination: address() };
    setAddresses(after, moved.source, moved.destination);
    mendHeader(before, after);
    expect(sumIsValid(after.subarray(0, 20))).toBe(true);
    if (kind === "partial") {
      mendPartial(before, after, 20, PROTOCOL_TCP);
      const field = after[36]! * 256 + after[37]!;
      expect(field === onesComplementSum(pseudoHeader(moved, PROTOCOL_TCP, segment.length))).toBe(!wrong);
    } else {
      mendTransport(before, after, 20, 20, PROTOCOL_TCP);
      expect(sumIsValid(pseudoHeader(moved, PROTOCOL_TCP, segment.length), after.subarray(20))).toBe(!wrong);
    }
  }
});
