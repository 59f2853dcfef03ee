/** The content of laboratory downloads, and the comparison that must not miss a fault. */
import { describe, expect, test } from "bun:test";
import { BLOCK_BYTES, Pattern, PatternCheck } from "../../src/lab/pattern.ts";

function content(seed: number, blocks: number): Uint8Array {
  const pattern = new Pattern(seed);
  return Buffer.concat(Array.from({ length: blocks }, (_, index) => pattern.block(index).slice()));
}

/** Feeds bytes in uneven pieces, as a socket does. */
function check(seed: number, bytes: Uint8Array, pieceBytes: number): PatternCheck {
  const result = new PatternCheck(seed);
  for (let at = 0; at < bytes.length; at += pieceBytes) result.take(bytes.subarray(at, at + pieceBytes));
  return result;
}

describe("pattern", () => {
  test.each([1, 1_000, 65_536, 100_003])("matches itself in pieces of %i bytes", (pieceBytes) => {
    const bytes = content(5, pieceBytes === 1 ? 1 : 4);
    const result = check(5, bytes, pieceBytes);
    expect(result.firstDifference).toBeNull();
    expect(result.received).toBe(bytes.length);
  });

  test.each([
    ["one wrong bit", (bytes: Uint8Array) => bytes.with(70_000, (bytes[70_000] ?? 0) ^ 1)],
    [
      "two blocks swapped",
      (bytes: Uint8Array) =>
        Buffer.concat([bytes.subarray(BLOCK_BYTES, 2 * BLOCK_BYTES), bytes.subarray(0, BLOCK_BYTES)]),
    ],
    [
      "a block twice",
      (bytes: Uint8Array) => Buffer.concat([bytes.subarray(0, BLOCK_BYTES), bytes.subarray(0, BLOCK_BYTES)]),
    ],
    ["a byte lost", (bytes: Uint8Array) => Buffer.concat([bytes.subarray(0, 100), bytes.subarray(101)])],
    ["another download's content", () => content(6, 3)],
  ])("sees %s", (_name, damage) => {
    expect(check(5, damage(content(5, 3)), 1_448).firstDifference).not.toBeNull();
  });
});
