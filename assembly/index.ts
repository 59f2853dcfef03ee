/** The exports of the engine, nothing else. src/engine/abi.ts is their typed face. */
import { LAYOUT_FINGERPRINT } from "./gen/layout";
import { writeCrcTable as write } from "./hash";

export { adoptIfPublished, enterQuiescent, heartbeat, leaveQuiescent, stopRequested } from "./adopt";
export { processBatch } from "./batch";
export { announceSleep, endSleep, hasHandedOver, releaseHandedOver, takeHandedOver, takeWakes } from "./hand-over";
export { sweepAll, sweepSlice } from "./sweep";

import { attach as attachTo, crcTable } from "./bases";

/** @see bases.ts */
export function attach(map: usize): bool {
  return attachTo(map);
}

/** Fingerprint of the layout that this module was compiled with. */
export function layoutFingerprint(): u32 {
  return LAYOUT_FINGERPRINT;
}

/** Writes the constant tables. Once per memory, before any worker starts; attach first. */
export function writeConstants(): void {
  write(crcTable);
}
