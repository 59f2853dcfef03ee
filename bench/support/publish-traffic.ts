/**
 * A packet worker without a device: batch after batch of a client's datagrams to all VIPs in turn, and how long the
 * longest of them took (processor time) together with what the loop does between two. The main thread reads and clears the longest.
 */
import type { WorkerSeat } from "../../src/engine/host.ts";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import { BATCH_SIZE, Descriptor } from "../../src/gen/layout.ts";
import { FIRST_VIP, portOf, RULES, VIPS } from "./ten-thousand.ts";
import { threadNanoseconds } from "./thread-clock.ts";

/** Places in the shared Int32Array. */
export const LONGEST_NS = 0;
export const BATCHES = 1;
export const STOP = 2;
export const WORDS = 3;

const CLIENT = 0xcb007101; // 203.0.113.1
const CLIENT_PORT = 40_000;
const FRAME_BYTES = 60;

/** A UDP datagram; nobody looks at the sums. */
function write(view: DataView, layer3: number, rule: number): void {
  view.setUint32(layer3 - 14, 0x02000000);
  view.setUint32(layer3 - 10, 0x0001020c);
  view.setUint32(layer3 - 6, 0x00000001);
  view.setUint16(layer3 - 2, 0x0800);
  view.setUint32(layer3, 0x4500002e);
  view.setUint32(layer3 + 4, 0x00004000);
  view.setUint32(layer3 + 8, 0x40111234);
  view.setUint32(layer3 + 12, CLIENT);
  view.setUint32(layer3 + 16, FIRST_VIP + (rule % VIPS));
  view.setUint32(layer3 + 20, ((CLIENT_PORT << 16) | portOf(rule)) >>> 0);
  view.setUint32(layer3 + 24, 26 << 16);
}

async function work(seat: WorkerSeat, shared: Int32Array): Promise<void> {
  const engine = new WorkerEngine(seat);
  await engine.warmUp();
  const { descriptorBase, headBase, headStride, headLayer3Offset } = engine.geometry;
  const view = new DataView(seat.memory.buffer);
  let rule = 0;
  engine.leaveQuiescent();
  for (let batch = 1; Atomics.load(shared, STOP) === 0; batch++) {
    for (let slot = 0; slot < BATCH_SIZE; slot++, rule = (rule + 7) % RULES) {
      const layer3 = headBase + slot * headStride + headLayer3Offset;
      const at = descriptorBase + slot * Descriptor.size;
      write(view, layer3, rule);
      view.setUint32(at + Descriptor.frame, layer3 - 14, true);
      view.setUint32(at + Descriptor.length, FRAME_BYTES, true);
      view.setUint32(at + Descriptor.headLength, FRAME_BYTES, true);
    }
    const nowMs = Math.floor(Bun.nanoseconds() / 1e6);
    const start = threadNanoseconds();
    engine.enterQuiescent();
    engine.leaveQuiescent();
    engine.process(BATCH_SIZE, nowMs);
    engine.sweepSlice(nowMs);
    const spent = Math.min(threadNanoseconds() - start, 0x7fffffff);
    if (spent > Atomics.load(shared, LONGEST_NS)) Atomics.store(shared, LONGEST_NS, spent);
    Atomics.store(shared, BATCHES, batch);
  }
  engine.enterQuiescent();
}

declare const self: { onmessage: (event: MessageEvent<{ seat: WorkerSeat; shared: Int32Array }>) => void };

/** Inside of the worker that the row starts; the row itself imports the places only. */
if (!Bun.isMainThread)
  self.onmessage = async ({ data }) => {
    await work(data.seat, data.shared);
    postMessage("done");
  };
