import { describe, expect, test } from "bun:test";
import { LINKTYPE_ETHERNET, LINKTYPE_RAW, readCapture, writePcap } from "../../src/device/pcap.ts";
import { Random, seedFromEnvironment } from "../support/random.ts";

const PACKETS = [
  { timeNs: 1_700_000_000_123_456_789n, bytes: Uint8Array.of(1, 2, 3) },
  { timeNs: 1_700_000_001_000_000_001n, bytes: new Uint8Array(0) },
  { timeNs: 4_294_967_295_999_999_999n, bytes: Uint8Array.of(9), originalLength: 1500 },
];

function read(file: Uint8Array): Extract<ReturnType<typeof readCapture>, { ok: true }>["value"] {
  const result = readCapture(file, "test.pcap");
  if (!result.ok) throw new Error(result.failure.text);
  return result.value;
}

function refusal(file: Uint8Array): string {
  const result = readCapture(file, "test.pcap");
  if (result.ok) throw new Error("the file was taken");
  expect(result.failure.code).toBe("E-CAPTURE");
  return result.failure.text;
}

/** One block of pcapng in either byte order, padded, with both lengths. */
function block(type: number, body: readonly number[], little = true): number[] {
  const padded = [...body, ...new Array<number>((4 - (body.length % 4)) % 4).fill(0)];
  const length = 12 + padded.length;
  return [...u32(type, little), ...u32(length, little), ...padded, ...u32(length, little)];
}
const u32 = (value: number, little = true): number[] => {
  const bytes = [value >>> 24, (value >>> 16) & 255, (value >>> 8) & 255, value & 255];
  return little ? bytes.reverse() : bytes;
};
const u16 = (value: number, little = true): number[] =>
  little ? [value & 255, value >> 8] : [value >> 8, value & 255];
const section = (little = true): number[] =>
  block(
    0x0a0d0d0a,
    [...u32(0x1a2b3c4d, little), ...u16(1, little), ...u16(0, little), ...new Array<number>(8).fill(255)],
    little,
  );
const describe1 = (linkType: number, options: readonly number[] = [], little = true): number[] =>
  block(1, [...u16(linkType, little), 0, 0, ...u32(0, little), ...options], little);
function enhanced(interfaceIndex: number, ticks: bigint, bytes: readonly number[], little = true): number[] {
  const time = [...u32(Number(ticks >> 32n), little), ...u32(Number(ticks & 0xffffffffn), little)];
  const lengths = [...u32(bytes.length, little), ...u32(bytes.length + 100, little)];
  return block(6, [...u32(interfaceIndex, little), ...time, ...lengths, ...bytes], little);
}
const file = (...parts: readonly (readonly number[])[]): Uint8Array => Uint8Array.from(parts.flat());

describe("pcap", () => {
  test.each([
    ["little-endian, nanoseconds", true, false],
    ["big-endian, nanoseconds", true, true],
    ["little-endian, microseconds", false, false],
    ["big-endian, microseconds", false, true],
  ] as const)("%s: what was written is read back", (_, nanoseconds, bigEndian) => {
    const capture = read(writePcap(PACKETS, { linkType: LINKTYPE_RAW, nanoseconds, bigEndian }));
    expect([capture.kind, capture.linkType, capture.nanoseconds]).toEqual(["ip", LINKTYPE_RAW, nanoseconds]);
    const unit = nanoseconds ? 1n : 1000n;
    expect(capture.packets.map(({ timeNs, bytes, originalLength }) => [timeNs, [...bytes], originalLength])).toEqual(
      PACKETS.map(({ timeNs, bytes, originalLength }) => [
        timeNs - (timeNs % unit),
        [...bytes],
        originalLength ?? bytes.length,
      ]),
    );
  });

  test("the file begins as the format says", () => {
    const bytes = writePcap([{ timeNs: 1_000_002_000n, bytes: Uint8Array.of(7) }], { linkType: LINKTYPE_ETHERNET });
    expect([...bytes]).toEqual([
      ...u32(0xa1b2c3d4),
      ...u16(2),
      ...u16(4),
      ...u32(0),
      ...u32(0),
      ...u32(262_144),
      ...u32(1),
      ...u32(1),
      ...u32(2),
      ...u32(1),
      ...u32(1),
      7,
    ]);
  });

  test.each([
    [12, "ip"],
    [14, "ip"],
    [101, "ip"],
    [228, "ip"],
    [229, "ip"],
    [1, "ethernet"],
  ] as const)("link type %i is %s", (linkType, kind) => {
    expect(read(writePcap([], { linkType })).kind).toBe(kind);
  });

  test("damage is told with file and byte offset", () => {
    const good = writePcap(PACKETS.slice(0, 2), { linkType: LINKTYPE_ETHERNET });
    expect(refusal(new Uint8Array(0))).toBe("test.pcap: byte 0: not a capture: 0 bytes");
    expect(refusal(Uint8Array.of(1, 2, 3, 4, 5))).toBe("test.pcap: byte 0: not a capture: magic 01020304");
    expect(refusal(good.subarray(0, 23))).toBe("test.pcap: byte 23: the file ends inside its header");
    expect(refusal(good.subarray(0, 30))).toBe("test.pcap: byte 24: the file ends inside a packet header");
    expect(refusal(good.subarray(0, 42))).toBe("test.pcap: byte 40: the file ends inside a packet of 3 bytes");
    const huge = good.slice();
    huge.set(u32(300_000), 32);
    expect(refusal(huge)).toBe("test.pcap: byte 32: packet of 300000 bytes: the file is damaged");
    expect(refusal(writePcap([], { linkType: 105 }))).toContain("byte 20: link type 105 is not supported");
  });
});

describe("pcapng", () => {
  test.each([
    ["little-endian", true],
    ["big-endian", false],
  ] as const)("%s sections, interfaces and packets are read, other blocks skipped", (_, little) => {
    const statistics = block(5, [1, 2, 3, 4], little);
    const bytes = file(
      section(little),
      describe1(1, [], little),
      statistics,
      enhanced(0, 1_700_000_000_000_123n, [1, 2, 3], little),
    );
    const capture = read(bytes);
    expect([capture.kind, capture.nanoseconds]).toEqual(["ethernet", false]);
    expect(capture.packets.map(({ timeNs, bytes, originalLength }) => [timeNs, [...bytes], originalLength])).toEqual([
      [1_700_000_000_000_123_000n, [1, 2, 3], 103],
    ]);
  });

  test("time resolution (decimal and binary) and offset of an interface are honoured", () => {
    const nanoseconds = [...u16(9), ...u16(1), 9, 0, 0, 0];
    const halves = [...u16(9), ...u16(1), 0x81, 0, 0, 0];
    const offset = [...u16(14), ...u16(8), 5, 0, 0, 0, 0, 0, 0, 0];
    const bytes = file(
      section(),
      describe1(101, [...nanoseconds, ...u32(0)]),
      describe1(101, [...halves, ...offset]),
      enhanced(0, 1_234_567_890_123n, [1]),
      enhanced(1, 3n, [2]),
    );
    const capture = read(bytes);
    expect(capture.nanoseconds).toBe(true);
    expect(capture.packets.map((packet) => packet.timeNs)).toEqual([1_234_567_890_123n, 6_500_000_000n]);
  });

  test("simple and obsolete packets are read; a simple one has the time of the one before", () => {
    const obsolete = block(2, [...u16(0), ...u16(7), ...u32(0), ...u32(42), ...u32(2), ...u32(2), 8, 9]);
    const bytes = file(section(), describe1(1), obsolete, block(3, [...u32(3), 4, 5, 6]));
    expect(read(bytes).packets.map(({ timeNs, bytes }) => [timeNs, [...bytes]])).toEqual([
      [42_000n, [8, 9]],
      [42_000n, [4, 5, 6]],
    ]);
  });

  test("an interface that no packet came from may have any link type", () => {
    const bytes = file(section(), describe1(113), describe1(1), describe1(101), enhanced(1, 1n, [7]));
    const { linkType, packets } = read(bytes);
    expect([linkType, packets.map((packet) => [...packet.bytes])]).toEqual([1, [[7]]]);
  });

  test("a second section of the other byte order is read too", () => {
    const bytes = file(
      section(),
      describe1(1),
      enhanced(0, 1n, [1]),
      section(false),
      describe1(1, [], false),
      enhanced(0, 2n, [2], false),
    );
    expect(read(bytes).packets.map((packet) => [...packet.bytes])).toEqual([[1], [2]]);
  });

  test("damage is told with file and byte offset", () => {
    const head = file(section(), describe1(1));
    expect(refusal(file(section().slice(0, 8), [0, 0, 0, 0]))).toContain(
      "byte 8: the section header has no valid byte order mark",
    );
    expect(refusal(file(section()))).toBe("test.pcap: byte 28: the capture names no interface");
    const mixed = [section(), describe1(1), describe1(101), enhanced(0, 1n, [1])];
    expect(refusal(file(...mixed, enhanced(1, 2n, [1])))).toContain("packets of link types 1 and 101 in one capture");
    expect(refusal(file(section(), describe1(113), enhanced(0, 1n, [1])))).toContain("link type 113 is not supported");
    expect(refusal(file(section(), describe1(113)))).toContain("link type 113 is not supported");
    expect(refusal(file([...head], enhanced(3, 1n, [1])))).toContain(
      "packet of interface 3, which the capture does not describe",
    );
    expect(refusal(head.subarray(0, head.length - 2))).toContain("byte 28: the file ends inside a block of 20 bytes");
    const differing = head.slice();
    differing[differing.length - 4] = 24;
    expect(refusal(differing)).toContain("block lengths differ: 20 and 24");
  });
});

test("no damaged file is read past its end, traps, or takes long", () => {
  const seed = seedFromEnvironment(20_261);
  console.log(`pcap fuzz seed ${seed}`);
  const random = new Random(seed);
  const files = [
    writePcap(PACKETS, { linkType: LINKTYPE_ETHERNET }),
    file(
      section(),
      describe1(1, [...u16(9), ...u16(1), 9, 0, 0, 0]),
      enhanced(0, 5n, [1, 2, 3, 4, 5]),
      block(3, [...u32(2), 1, 2]),
    ),
  ];
  for (let i = 0; i < 4_000; i++) {
    const damaged = random.of(files).slice(0, random.between(0, 200));
    for (let edits = random.below(4); edits > 0 && damaged.length > 0; edits--) {
      damaged[random.below(damaged.length)] = random.of([0, 255, random.below(256)]);
    }
    const result = readCapture(damaged, "fuzz");
    const described = result.ok || /^fuzz: byte \d+: /.test(result.failure.text);
    expect(described ? "" : JSON.stringify(result)).toBe("");
  }
});
