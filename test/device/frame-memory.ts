/** A memory with room for one batch, laid out like a worker region, for tests that need no engine. */
import type { FrameGeometry } from "../../src/device/device.ts";
import { BATCH_SIZE, DESCRIPTOR_COUNT, Descriptor, HEAD_STRIDE, MADE_SIZE, TAIL_STRIDE } from "../../src/gen/layout.ts";

const HEADS = 4096 + DESCRIPTOR_COUNT * Descriptor.size;
const TAILS = HEADS + (BATCH_SIZE + MADE_SIZE) * HEAD_STRIDE;

/** Descriptors at 4096, 64 head blocks, 64 head blocks of made frames, tails. */
export const GEOMETRY: FrameGeometry = { descriptors: 4096, heads: HEADS, tails: TAILS };

export function frameMemory(): SharedArrayBuffer {
  return new SharedArrayBuffer(TAILS + BATCH_SIZE * TAIL_STRIDE);
}
