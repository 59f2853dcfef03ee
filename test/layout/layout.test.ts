/** The generated layout files: up to date, guarded, and the same in every language. */
import { afterAll, expect, test } from "bun:test";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fieldOffsets, render } from "../../layout/generate.ts";
import { RECORDS } from "../../layout/schema.ts";
import {
  Descriptor,
  LAYOUT_FINGERPRINT,
  REASON_MEANING,
  REASON_NAMES,
  REASON_VERDICT,
  Reason,
  Verdict,
} from "../../src/gen/layout.ts";

const ROOT = join(import.meta.dir, "../..");
const scratch = mkdtempSync(join(tmpdir(), "ilb-layout-"));
afterAll(() => rmSync(scratch, { recursive: true }));

test("the committed generated files are what the schema generates", () => {
  for (const [path, text] of render())
    expect(`${path}\n${readFileSync(join(ROOT, path), "utf8")}`).toBe(`${path}\n${text}`);
});

test("a record with unwritten padding is refused", () => {
  expect(() =>
    fieldOffsets("Bad", {
      doc: "",
      size: 8,
      fields: [
        ["a", "u8", ""],
        ["b", "u32", ""],
      ],
    }),
  ).toThrow("Bad.b: offset 1 is not aligned to 4");
  expect(() => fieldOffsets("Short", { doc: "", size: 8, fields: [["a", "u32", ""]] })).toThrow(
    "Short: fields fill 4 bytes, size says 8",
  );
});

test("every reason has a name, a meaning and one verdict", () => {
  const values = Object.values(Reason);
  expect(values).toEqual(values.map((_, index) => index as Reason));
  expect(new Set(REASON_NAMES).size).toBe(values.length);
  expect(REASON_MEANING.length).toBe(values.length);
  for (const reason of values) expect(Object.values(Verdict)).toContain(REASON_VERDICT[reason]!);
});

test("the virtio header lies in the descriptor exactly as the kernel lays it out", () => {
  // struct virtio_net_hdr: flags u8, gso_type u8, hdr_len u16, gso_size u16, csum_start u16, csum_offset u16
  const base = Descriptor.vnetFlags;
  expect(
    [
      Descriptor.vnetGsoType,
      Descriptor.vnetHdrLen,
      Descriptor.vnetGsoSize,
      Descriptor.vnetCsumStart,
      Descriptor.vnetCsumOffset,
    ].map((o) => o - base),
  ).toEqual([1, 2, 4, 6, 8]);
});

test("C sees the descriptor and the fingerprint as TypeScript does, byte by byte", () => {
  const fields = RECORDS.Descriptor!.fields.map(([name]) => name);
  const cName = (name: string) => name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
  const source = `#include <stdio.h>\n#include <string.h>\n#include "${join(ROOT, "native/gen/layout.h")}"
int main(void) { struct ilb_descriptor d; memset(&d, 0, sizeof d);
${fields.map((name, index) => `d.${cName(name)} = (__typeof__(d.${cName(name)}))(0x0101010101010101ull * ${index + 1});`).join("\n")}
printf("%u\\n", ILB_LAYOUT_FINGERPRINT); const unsigned char *p = (const unsigned char *)&d;
for (unsigned i = 0; i < sizeof d; i++) printf("%u ", p[i]);
return 0; }`;
  writeFileSync(join(scratch, "probe.c"), source);
  const compiled = Bun.spawnSync(["gcc", "-Wall", "-Werror", "-o", join(scratch, "probe"), join(scratch, "probe.c")]);
  expect(compiled.stderr.toString()).toBe("");
  const [print, bytes] = Bun.spawnSync([join(scratch, "probe")])
    .stdout.toString()
    .split("\n");
  expect(Number(print)).toBe(LAYOUT_FINGERPRINT);
  const written = bytes!.trim().split(" ").map(Number);
  const offsets = Descriptor as Record<string, number>;
  const expected = new Array<number>(Descriptor.size).fill(0);
  fields.forEach((name, index) => {
    const end = index + 1 < fields.length ? offsets[fields[index + 1]!]! : Descriptor.size;
    expected.fill(index + 1, offsets[name]!, end);
  });
  expect(written).toEqual(expected);
});

test("the C guard stops the compiler when a field moves", () => {
  const header = readFileSync(join(ROOT, "native/gen/layout.h"), "utf8").replace(
    "uint32_t head_length;",
    "uint64_t head_length;",
  );
  writeFileSync(join(scratch, "moved.h"), header);
  const compiled = Bun.spawnSync(["gcc", "-fsyntax-only", "-x", "c", join(scratch, "moved.h")]);
  expect(compiled.exitCode).not.toBe(0);
  expect(compiled.stderr.toString()).toContain("static assertion failed");
});
