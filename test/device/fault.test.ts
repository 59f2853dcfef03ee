import { describe, expect, test } from "bun:test";
import { type Faults, FaultyPacketIo } from "../../src/device/fault.ts";
import { FrameTable } from "../../src/device/frames.ts";
import { MemoryPacketIo } from "../../src/device/memory.ts";
import { Descriptor, Verdict } from "../../src/gen/layout.ts";
import { frameMemory, GEOMETRY } from "./frame-memory.ts";

const FRAMES = 640;
/** Frame n begins with n, so what arrives tells which it was. */
const numbered = (n: number) =>
  new Uint8Array(100)
    .fill(0xee)
    .with(0, n >> 8)
    .with(1, n & 0xff);

/** Sends FRAMES numbered frames through a faulty device; what came out, in order. */
function run(faults: Faults, seed: number) {
  const memory = frameMemory();
  const port = { name: "a", kind: "ethernet", interfaceIndex: 1, mac: new Uint8Array(6), mtu: 1500 } as const;
  const inner = new MemoryPacketIo(memory, GEOMETRY, [port]);
  const io = new FaultyPacketIo(inner, memory, GEOMETRY, faults, seed);
  const frames = new FrameTable(memory, GEOMETRY);
  for (let n = 0; n < FRAMES; n++) inner.inject({ bytes: numbered(n), port: 0 });
  for (let batch = 0; batch < FRAMES / 64; batch++) {
    const count = io.receive(0);
    for (let i = 0; i < count; i++) {
      frames.setU8(i, Descriptor.verdict, Verdict.Forward);
      frames.setU8(i, Descriptor.outPort, 0);
    }
    io.transmit(count, 0);
  }
  const out = inner.takeSent().map((frame) => frame.bytes);
  return { out, numbers: out.map((frame) => (frame[0]! << 8) | (frame[1] ?? 0)), counts: io.faultCounts };
}

const ALL = Array.from({ length: FRAMES }, (_, n) => n);
const ascending = (numbers: readonly number[]) => numbers.every((n, i) => i === 0 || n > numbers[i - 1]!);

describe("the fault injector", () => {
  test("without faults changes nothing", () => {
    expect(run({}, 1).numbers).toEqual(ALL);
  });

  test.each(["loseReceived", "loseSent"] as const)("%s loses about as many as asked and keeps the order", (kind) => {
    const { numbers, counts } = run({ [kind]: 0.25 }, 2);
    const lost = kind === "loseReceived" ? counts.lostReceived : counts.lostSent;
    expect(lost).toBe(FRAMES - numbers.length);
    expect(lost).toBeGreaterThan(FRAMES / 8);
    expect(lost).toBeLessThan(FRAMES / 2);
    expect(ascending(numbers)).toBe(true);
  });

  test("reorder loses and doubles nothing", () => {
    const { numbers, counts } = run({ reorder: 0.5 }, 3);
    expect(counts.reordered).toBeGreaterThan(0);
    expect(numbers).not.toEqual(ALL);
    expect(numbers.toSorted((a, b) => a - b)).toEqual(ALL);
  });

  test("truncate shortens and leaves at least one byte", () => {
    const { out, counts } = run({ truncate: 1 }, 4);
    expect(counts.truncated).toBe(FRAMES);
    expect(out.every((frame) => frame.length >= 1 && frame.length < 100)).toBe(true);
  });

  test("the same seed does the same, another seed something else", () => {
    const faults = { loseReceived: 0.1, truncate: 0.1, reorder: 0.1, loseSent: 0.1 };
    expect(run(faults, 7)).toEqual(run(faults, 7));
    expect(run(faults, 7).numbers).not.toEqual(run(faults, 8).numbers);
  });
});
