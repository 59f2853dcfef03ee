import { expect, test } from "bun:test";
import { decodeUtf8 } from "../../src/model/utf8.ts";
import { propertySeed, Random } from "../support/random.ts";

const bytesOf = (latin1: string): Uint8Array => Buffer.from(latin1, "latin1");
const objectionTo = (latin1: string): string => {
  const decoded = decodeUtf8(bytesOf(latin1));
  return "text" in decoded ? `taken: ${decoded.text}` : decoded.objection;
};

test("what is not UTF-8 is named with its line and its byte, and the way out", () => {
  expect(objectionTo("one\ntwo caf\xe9 three\n")).toBe("line 2: byte 11 (0xe9) is not UTF-8 - save the text as UTF-8");
  expect(objectionTo("\xff\xfeo\0n\0e\0")).toStartWith("line 1: byte 0 (0xff)");
  // A sequence that the end of the text cuts off begins where it is named.
  expect(objectionTo("a\n\n\xe2\x82")).toStartWith("line 3: byte 3 (0xe2)");
});

test("UTF-8 is taken as it is, without a byte order mark", () => {
  for (const text of ["", "a\nb", "caf\u00e9", "\u20ac \u{1f600} \ufffd", "\0"])
    expect(decodeUtf8(new TextEncoder().encode(text))).toEqual({ text });
  expect(decodeUtf8(bytesOf("\xef\xbb\xbfa"))).toEqual({ text: "a" });
});

test("whatever the bytes, all before the one that is named is UTF-8 and nothing that begins with it", () => {
  const seed = propertySeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  const edges = [0x0a, 0x41, 0x7f, 0x80, 0x8f, 0x90, 0x9f, 0xa0, 0xbf, 0xc0, 0xc1, 0xc2, 0xdf, 0xe0, 0xe1, 0xec, 0xed];
  const leads = [0xee, 0xef, 0xf0, 0xf1, 0xf3, 0xf4, 0xf5, 0xff];
  const isUtf8 = (bytes: Uint8Array): boolean => {
    try {
      new TextDecoder("utf-8", { fatal: true }).decode(bytes);
      return true;
    } catch {
      return false;
    }
  };
  let refused = 0;
  for (let run = 0; run < 20_000; run++) {
    const bytes = Uint8Array.from({ length: random.below(9) }, () => random.of([...edges, ...leads]));
    const decoded = decodeUtf8(bytes);
    expect("text" in decoded).toBe(isUtf8(bytes));
    if ("text" in decoded) continue;
    refused++;
    const [, line, offset] = /^line (\d+): byte (\d+) /.exec(decoded.objection)!.map(Number);
    const before = bytes.subarray(0, offset);
    expect(isUtf8(before)).toBe(true);
    expect(before.filter((byte) => byte === 0x0a).length + 1).toBe(line!);
    for (let end = offset! + 1; end <= bytes.length; end++) expect(isUtf8(bytes.subarray(offset, end))).toBe(false);
  }
  expect(refused).toBeGreaterThan(1000);
});
