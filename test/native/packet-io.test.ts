import { afterEach, describe, expect, test } from "bun:test";
import { BATCH_SIZE, MADE_SIZE, MAX_PORTS } from "../../src/gen/layout.ts";
import {
  batchCalls,
  type IoHandle,
  ioCreate,
  ioFree,
  ioNowMs,
  ioSetPort,
  ioWaitedUs,
  ioWake,
  ioWatch,
} from "../../src/native/packet-io.ts";
import { monotonicMs } from "../../src/native/system.ts";
import { frameMemory, GEOMETRY } from "../device/frame-memory.ts";

const memory = frameMemory();
const { descriptors, heads, tails } = GEOMETRY;
const EINVAL = -22;

describe("batches without ports", () => {
  let io: IoHandle | undefined;
  const open = () => {
    io = ioCreate(memory, descriptors, heads, tails);
    return io;
  };
  afterEach(() => {
    if (io !== undefined) ioFree(io);
    io = undefined;
  });

  test.each([
    ["descriptors that are not on a cache line", descriptors + 8, heads, tails],
    ["descriptors beyond the end", memory.byteLength - 64, heads, tails],
    ["head blocks at odd places", descriptors, heads + 1, tails],
    ["head blocks beyond the end", descriptors, memory.byteLength, tails],
    ["tail blocks that do not all fit", descriptors, heads, tails + 8],
  ])("refuse %s", (_, atDescriptors, atHeads, atTails) => {
    expect(() => ioCreate(memory, atDescriptors, atHeads, atTails)).toThrow(
      "cannot prepare packet batches: a frame region lies outside the memory or is misaligned",
    );
  });

  test("refuse a port at an index that does not exist", () => {
    expect(() => ioSetPort(open(), MAX_PORTS, 1)).toThrow("cannot attach port");
  });

  test("refuse to send more than there is", () => {
    const { transmit } = batchCalls();
    const handle = open();
    expect(transmit(handle, BATCH_SIZE + 1, 0)).toBe(EINVAL);
    expect(transmit(handle, 0, MADE_SIZE + 1)).toBe(EINVAL);
    expect(transmit(handle, BATCH_SIZE, MADE_SIZE)).toBe(0);
  });

  test("end a receive by its time-out, and tell the time", () => {
    const { receive } = batchCalls();
    const handle = open();
    const before = monotonicMs();
    expect(receive(handle, 2000, 0)).toBe(0);
    expect(ioNowMs(handle)).toBeGreaterThanOrEqual(before + 2);
    expect(ioNowMs(handle)).toBeLessThanOrEqual(monotonicMs());
  });

  test("tell for how long they have waited, asleep or looking", () => {
    const { receive } = batchCalls();
    const handle = open();
    expect(ioWaitedUs(handle)).toBe(0);
    receive(handle, 2000, 0);
    const asleep = ioWaitedUs(handle);
    expect(asleep).toBeGreaterThanOrEqual(2000);
    receive(handle, 2000, 2000);
    expect(ioWaitedUs(handle)).toBeGreaterThanOrEqual(asleep + 2000);
  });

  test("do not wait while the watched word says that other work has come", () => {
    const { receive } = batchCalls();
    const handle = open();
    new Uint32Array(memory, descriptors, 1)[0] = 0;
    ioWatch(handle, descriptors);
    // Would take ten minutes.
    expect(receive(handle, 600_000_000, 600_000_000)).toBe(0);
  });

  test.each([1, memory.byteLength])("refuse to watch a word at %i", (word) => {
    expect(() => ioWatch(open(), word)).toThrow("cannot watch for work of other packet workers");
  });

  test("remember one wake-up for the next receive, and no more", () => {
    const { receive } = batchCalls();
    const handle = open();
    ioWake(handle);
    ioWake(handle);
    // Would take ten minutes.
    expect(receive(handle, 600_000_000, 1000)).toBe(0);
    const before = monotonicMs();
    expect(receive(handle, 3000, 0)).toBe(0);
    expect(monotonicMs() - before).toBeGreaterThanOrEqual(2);
  });
});
