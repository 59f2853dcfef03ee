/** A file of 100 MB, several at once, through every type and device, byte for byte. */
import { describe, expect, test } from "bun:test";
import { hasNamespaces, hasTun, isShortRun } from "../support/capabilities.ts";
import { DEVICES, labOptionsFor, startBalancing, TYPES, targetOf, withLab } from "../support/e2e.ts";

const FILE_BYTES = 100 * 1024 * 1024;
const FILES = isShortRun ? 2 : 8;

describe.each(DEVICES.map((io) => ({ io })))("over the $io device", ({ io }) => {
  test.skipIf(io === "tun" ? !hasTun : !hasNamespaces).each(TYPES.map((type) => ({ type })))(
    "$type: files of 100 MB arrive byte for byte",
    async ({ type }) => {
      await withLab(labOptionsFor(type), async (lab) => {
        await startBalancing(lab, type, "tcp", { io });
        const job = {
          kind: "downloads",
          ...targetOf(lab),
          count: FILES,
          concurrency: 2,
          bytes: FILE_BYTES,
          timeoutMs: 120_000,
        } as const;
        const result = await lab.client(job);
        expect(result.failures).toEqual([]);
        expect(Object.values(result.answered).reduce((sum, count) => sum + count, 0)).toBe(FILES);
      });
    },
    300_000,
  );
});
