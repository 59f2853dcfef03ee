/** Addresses as text, bytes and numbers. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import {
  type Address,
  addressBytes,
  addressFromBytes,
  applyMask,
  compareAddresses,
  formatAddress,
  formatBracketed,
  isIPv4Mapped,
  isLimitedBroadcast,
  isLinkLocal,
  isLoopback,
  isMulticast,
  isUnspecified,
  maskBits,
  parseAddress,
  rangeSize,
} from "../../src/model/address.ts";
import { propertySeed } from "../support/random.ts";

const seed = propertySeed();
const ip = (text: string) => parseAddress(text) as Address;
const address: fc.Arbitrary<Address> = fc.oneof(
  fc.bigInt({ min: 0n, max: 2n ** 32n - 1n }).map((value): Address => ({ family: 4, value })),
  // Groups of zeros are frequent, so that compression is met in every place.
  fc
    .array(fc.oneof({ weight: 2, arbitrary: fc.constant(0) }, fc.integer({ min: 0, max: 65535 })), {
      minLength: 8,
      maxLength: 8,
    })
    .map((groups): Address => ({ family: 6, value: groups.reduce((sum, group) => (sum << 16n) | BigInt(group), 0n) })),
);

describe("text", () => {
  test.each([
    ["192.0.2.1", "192.0.2.1"],
    ["0.0.0.0", "0.0.0.0"],
    ["255.255.255.255", "255.255.255.255"],
    ["2001:DB8:0:0:1:0:0:1", "2001:db8::1:0:0:1"],
    ["2001:0db8::0001", "2001:db8::1"],
    ["2001:db8:0:1:1:1:1:1", "2001:db8:0:1:1:1:1:1"],
    ["2001:0:0:1:0:0:0:1", "2001:0:0:1::1"],
    ["::", "::"],
    ["::1", "::1"],
    ["1::", "1::"],
    ["::ffff:192.0.2.1", "::ffff:192.0.2.1"],
    ["::ffff:c000:201", "::ffff:192.0.2.1"],
    ["2001:db8::192.0.2.1", "2001:db8::c000:201"],
    ["0:0:0:0:0:0:0:0", "::"],
  ])("%s is written %s (RFC 4291 section 2.2, RFC 5952)", (text, canonical) => {
    expect(formatAddress(ip(text))).toBe(canonical);
  });

  test.each([
    "",
    "192.0.2",
    "192.0.2.1.5",
    "192.0.2.256",
    "192.0.02.1",
    "192.0.2.-1",
    "0x7f.0.0.1",
    " 192.0.2.1",
    ":",
    ":::",
    "1::2::3",
    "2001:db8",
    "1:2:3:4:5:6:7:8:9",
    "1:2:3:4:5:6:7::8",
    "12345::",
    "::g",
    "192.0.2.1::",
    "::1.2.3",
    "fe80::1%eth0",
    "[::1]",
    "2001:db8::1/64",
    ":1:2:3:4:5:6:7",
  ])("'%s' is no address", (text) => {
    // "1:2:3:4:5:6:7::8" leaves nothing for "::" to stand for.
    expect(parseAddress(text)).toBeNull();
  });

  test("brackets are for IPv6 only", () => {
    expect([formatBracketed(ip("192.0.2.1")), formatBracketed(ip("2001:db8::1"))]).toEqual([
      "192.0.2.1",
      "[2001:db8::1]",
    ]);
  });

  test(`what is written is read again, and the platform's own parser agrees (seed ${seed})`, () => {
    fc.assert(
      fc.property(address, (value) => {
        const text = formatAddress(value);
        expect(parseAddress(text)).toEqual(value);
        if (value.family === 6 && !isIPv4Mapped(value)) expect(new URL(`http://[${text}]/`).hostname).toBe(`[${text}]`);
        if (value.family === 4) expect(new URL(`http://${text}/`).hostname).toBe(text);
      }),
      { seed, numRuns: 2000 },
    );
  });
});

test(`bytes are network order and give the address back (seed ${seed})`, () => {
  expect([...addressBytes(ip("192.0.2.1"))]).toEqual([192, 0, 2, 1]);
  expect([...addressBytes(ip("2001:db8::1"))]).toEqual([0x20, 1, 0x0d, 0xb8, ...Array(11).fill(0), 1]);
  fc.assert(
    fc.property(address, (value) => {
      expect(addressFromBytes(addressBytes(value))).toEqual(value);
    }),
    { seed, numRuns: 500 },
  );
  expect(() => addressFromBytes(new Uint8Array(5))).toThrow("4 or 16 bytes");
});

test("masks keep the prefix", () => {
  expect(formatAddress(applyMask(ip("192.0.2.77"), 24))).toBe("192.0.2.0");
  expect(formatAddress(applyMask(ip("192.0.2.77"), 0))).toBe("0.0.0.0");
  expect(formatAddress(applyMask(ip("192.0.2.77"), 32))).toBe("192.0.2.77");
  expect(formatAddress(applyMask(ip("2001:db8:ffff::1"), 33))).toBe("2001:db8:8000::");
  expect(maskBits(6, 128)).toBe(2n ** 128n - 1n);
});

test("order is numeric, IPv4 first", () => {
  const sorted = ["192.0.2.100", "192.0.2.9", "2001:db8::1", "::2"].map(ip).sort(compareAddresses).map(formatAddress);
  expect(sorted).toEqual(["192.0.2.9", "192.0.2.100", "::2", "2001:db8::1"]);
  expect(rangeSize({ first: ip("192.0.2.1"), last: ip("192.0.2.4") })).toBe(4n);
});

test.each([
  ["0.0.0.0", isUnspecified, true],
  ["::", isUnspecified, true],
  ["0.0.0.1", isUnspecified, false],
  ["127.255.255.255", isLoopback, true],
  ["128.0.0.0", isLoopback, false],
  ["::1", isLoopback, true],
  ["224.0.0.0", isMulticast, true],
  ["239.255.255.255", isMulticast, true],
  ["240.0.0.0", isMulticast, false],
  ["ff02::1", isMulticast, true],
  ["fe00::1", isMulticast, false],
  ["255.255.255.255", isLimitedBroadcast, true],
  ["::ffff:192.0.2.1", isIPv4Mapped, true],
  ["::fffe:192.0.2.1", isIPv4Mapped, false],
  ["169.254.1.1", isLinkLocal, true],
  ["fe80::1", isLinkLocal, true],
  ["febf::1", isLinkLocal, true],
  ["fec0::1", isLinkLocal, false],
])("%s by %p is %p", (text, is, expected) => {
  expect(is(ip(text))).toBe(expected);
});
