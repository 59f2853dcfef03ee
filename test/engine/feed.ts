/** Frames into a worker's engine, as a device would put them. */
import type { WorkerEngine } from "../../src/engine/worker-engine.ts";
import { Descriptor } from "../../src/gen/layout.ts";

/** Puts frames where a device would and processes them. @returns the reasons */
export function feed(engine: WorkerEngine, frames: readonly Uint8Array[], nowMs: number): number[] {
  const { geometry } = engine;
  const bytes = new Uint8Array(engine.memory.buffer);
  const data = new DataView(engine.memory.buffer);
  frames.forEach((frame, index) => {
    const at = geometry.descriptorBase + index * Descriptor.size;
    const start = geometry.headBase + index * geometry.headStride + geometry.headLayer3Offset - 14;
    bytes.set(frame, start);
    bytes.fill(0, at, at + Descriptor.size);
    data.setUint32(at + Descriptor.frame, start, true);
    data.setUint32(at + Descriptor.length, frame.length, true);
    data.setUint32(at + Descriptor.headLength, frame.length, true);
  });
  engine.process(frames.length, nowMs);
  return frames.map((_, index) => data.getUint8(geometry.descriptorBase + index * Descriptor.size + Descriptor.reason));
}
