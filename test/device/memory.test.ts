import { describe, expect, test } from "bun:test";
import type { DevicePort } from "../../src/device/device.ts";
import { FrameTable } from "../../src/device/frames.ts";
import { type MemoryIoOptions, MemoryPacketIo } from "../../src/device/memory.ts";
import { BATCH_SIZE, Descriptor, FRAME_TRUNCATED, FRAME_VLAN, PORT_NONE, Verdict } from "../../src/gen/layout.ts";
import { frameMemory, GEOMETRY } from "./frame-memory.ts";

const port = (name: string, kind: "ethernet" | "ip" = "ethernet"): DevicePort => ({
  name,
  kind,
  interfaceIndex: 1,
  mac: new Uint8Array(6),
  mtu: 1500,
});
const bytes = (length: number, fill: number) => new Uint8Array(length).map((_, i) => (fill + i) & 0xff);

function device(options: MemoryIoOptions = {}) {
  const memory = frameMemory();
  const io = new MemoryPacketIo(memory, GEOMETRY, [port("a"), port("b"), port("t", "ip")], options);
  const frames = new FrameTable(memory, GEOMETRY);
  const decide = (index: number, verdict: Verdict, outPort: number) => {
    frames.setU8(index, Descriptor.verdict, verdict);
    frames.setU8(index, Descriptor.outPort, outPort);
  };
  return { io, frames, decide };
}

describe("the in-memory packet device", () => {
  test("puts frames where the native library puts them", () => {
    const { io, frames } = device();
    io.inject({ bytes: bytes(70000, 1), port: 0 }, { bytes: bytes(2048, 2), port: 2, vlan: true });
    expect(io.receive(0)).toBe(2);
    // Ethernet begins 14 bytes before layer 3, which is at byte 64 of the block; 2048 layer-3 bytes fit.
    expect(frames.u32(0, Descriptor.frame)).toBe(GEOMETRY.heads + 50);
    expect(frames.u32(0, Descriptor.headLength)).toBe(2062);
    expect(frames.u32(0, Descriptor.length)).toBe(2062 + 65536);
    expect(frames.u8(0, Descriptor.flags)).toBe(FRAME_TRUNCATED);
    expect(frames.u32(1, Descriptor.frame)).toBe(GEOMETRY.heads + 2112 + 64);
    expect(frames.u32(1, Descriptor.headLength)).toBe(2048);
    expect(frames.u8(1, Descriptor.flags)).toBe(FRAME_VLAN);
    expect(frames.u8(1, Descriptor.inPort)).toBe(2);
    expect(frames.u8(1, Descriptor.outPort)).toBe(PORT_NONE);
    expect(frames.take(0)).toEqual(bytes(70000, 1).subarray(0, 2062 + 65536));
    expect(io.counters(0)).toMatchObject({ rxFrames: 1n, rxBytes: 67598n, rxTruncated: 1n });
  });

  test("sends by verdict, with no offload flag but NEEDS_CSUM", () => {
    const { io, decide } = device();
    const vnet = { flags: 3, gsoType: 1, hdrLen: 54, gsoSize: 1448, csumStart: 34, csumOffset: 16 };
    const verdicts = [Verdict.Ignore, Verdict.Forward, Verdict.Reply, Verdict.Pass, Verdict.Drop];
    io.inject(...verdicts.map((verdict) => ({ bytes: bytes(60, verdict), port: 0, vnet })));
    expect(io.receive(0)).toBe(5);
    verdicts.forEach((verdict, index) => {
      decide(index, verdict, 1);
    });
    expect(io.transmit(5, 0)).toBe(3);
    const left = { port: 1, vnet: { ...vnet, flags: 1 } };
    expect(io.takeSent()).toEqual([
      { ...left, bytes: bytes(60, 1) },
      { ...left, bytes: bytes(60, 2) },
    ]);
    expect(io.takePassed()).toEqual([{ ...left, port: 0, bytes: bytes(60, 3) }]);
    expect(io.takeSent()).toEqual([]);
  });

  test("sends made frames in the place of theirs, once, and the rest of them last", () => {
    const { io, frames, decide } = device();
    io.inject(...[0, 1, 2].map((fill) => ({ bytes: bytes(60, fill), port: 0 })));
    io.receive(0);
    for (const made of [0, 1, 2]) {
      frames.put(BATCH_SIZE + made, io.ports[1]!, { bytes: bytes(60, 100 + made), port: 0 });
      decide(BATCH_SIZE + made, Verdict.Forward, 1);
    }
    for (const index of [0, 1, 2]) decide(index, Verdict.Forward, 1);
    frames.setU32(1, Descriptor.madeFirst, BATCH_SIZE);
    frames.setU32(1, Descriptor.madeCount, 2);
    expect(io.transmit(3, 3)).toBe(5);
    expect(io.takeSent().map((frame) => frame.bytes[0])).toEqual([0, 100, 101, 2, 102]);
  });

  test("gives made frames with verdict PASS back to the port that they came by, when all others have gone", () => {
    const { io, frames, decide } = device();
    io.inject({ bytes: bytes(60, 1), port: 0 });
    io.receive(0);
    frames.put(BATCH_SIZE, io.ports[0]!, { bytes: bytes(60, 100), port: 0 });
    decide(BATCH_SIZE, Verdict.Pass, 1);
    decide(0, Verdict.Pass, 1);
    expect(io.transmit(1, 1)).toBe(2);
    expect(io.takeSent()).toEqual([]);
    expect(io.takePassed().map(({ port, bytes: [fill] }) => [port, fill])).toEqual([
      [0, 1],
      [0, 100],
    ]);
  });

  test("a linked port delivers to its peer", () => {
    const { io, decide } = device({ links: [[0, 1]] });
    io.inject({ bytes: bytes(60, 9), port: 0 });
    io.receive(0);
    decide(0, Verdict.Forward, 0);
    io.transmit(1, 0);
    expect(io.takeSent()).toEqual([]);
    expect(io.receive(0)).toBe(1);
    expect(io.counters(1).rxFrames).toBe(1n);
  });

  test("counts what cannot leave", () => {
    const { io, frames, decide } = device();
    io.inject({ bytes: bytes(60, 1), port: 0 }, { bytes: bytes(60, 2), port: 0 });
    io.receive(0);
    decide(0, Verdict.Forward, 7);
    decide(1, Verdict.Forward, 1);
    frames.setU32(1, Descriptor.frame, 0xfffffff0);
    expect(io.transmit(2, 0)).toBe(0);
    expect([io.counters(0).txInvalid, io.counters(1).txInvalid]).toEqual([1n, 1n]);
  });

  test("takes at most a batch at a time and the clock that it is given", () => {
    let nowMs = 5;
    const { io } = device({ clock: () => nowMs });
    io.inject(...Array.from({ length: BATCH_SIZE + 3 }, () => ({ bytes: bytes(60, 0), port: 0 })));
    expect([io.receive(0), io.receive(0), io.receive(0)]).toEqual([BATCH_SIZE, 3, 0]);
    nowMs = 9;
    expect(io.nowMs()).toBe(5);
    io.receive(0);
    expect(io.nowMs()).toBe(9);
  });
});
