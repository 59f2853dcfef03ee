/** Every optimised primitive of the engine against its plain twin. The twins share no code with assembly/. */
import { beforeAll, expect, test } from "bun:test";
import { mkdirSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import asc from "assemblyscript/asc";
import { internetChecksum } from "../support/checksum.ts";
import { Random, seedFromEnvironment } from "../support/random.ts";

const ROOT = join(import.meta.dir, "../..");
const FOLDER = join(ROOT, "build/test-primitives");
const HASH_KEYS = 1024;
const CRC_TABLE = 2048;
const DATA = 8192;

interface Primitives {
  sumBytes(at: number, length: number): number;
  sumTwo(first: number, firstLength: number, second: number, secondLength: number): number;
  update32(stored: number, before: number, after: number): number;
  key(source: number, destination: number, portsBe: number, protocol: number): bigint;
  key6(at: number, portsBe: number, protocol: number): bigint;
  crc(word: number): number;
  martian(addressBe: number): number;
  swap(value: number): number;
  setUp(keys: number, table: number): void;
}

let wasm: Primitives;
let bytes: Uint8Array;
let words: DataView;
const random = new Random(seedFromEnvironment(11));

beforeAll(async () => {
  mkdirSync(FOLDER, { recursive: true });
  writeFileSync(
    join(FOLDER, "index.ts"),
    `import { delta32, sumBytes as sb, sumTwo as st, updated } from "../../assembly/checksum";
import { crc32, tupleKey4, tupleKey6, writeCrcTable } from "../../assembly/hash";
import { isMartian4, swap16 } from "../../assembly/address";
import { attach } from "../../assembly/bases";
import { SharedHeader, WorkerMap, LAYOUT_FINGERPRINT } from "../../assembly/gen/layout";
export function sumBytes(at: usize, length: u32): u32 { return sb(at, length); }
export function sumTwo(a: usize, al: u32, b: usize, bl: u32): u32 { return st(a, al, b, bl); }
export function update32(stored: u32, before: u32, after: u32): u32 { return updated(stored, delta32(before, after)); }
export function key(a: u32, b: u32, ports: u32, protocol: u32): u64 { return tupleKey4(a, b, ports, protocol); }
export function key6(at: usize, ports: u32, protocol: u32): u64 { return tupleKey6(load<u64>(at), load<u64>(at, 8), load<u64>(at, 16), load<u64>(at, 24), ports, protocol); }
export function crc(word: u32): u32 { return crc32(word); }
export function martian(a: u32): u32 { return isMartian4(a) ? 1 : 0; }
export function swap(v: u32): u32 { return swap16(v); }
export function setUp(keys: u32, table: u32): void {
  const map = changetype<WorkerMap>(64); map.sharedHeader = 512; map.hashKeys = keys; map.crcTable = table;
  changetype<SharedHeader>(512).fingerprint = LAYOUT_FINGERPRINT; attach(64); writeCrcTable(table);
}
`,
  );
  const out = join(FOLDER, "out.wasm");
  const options = ["--runtime", "stub", "--importMemory", "--initialMemory", "2", "--enable", "simd", "-O3"];
  const { error, stderr } = await asc.main([join(FOLDER, "index.ts"), "--baseDir", "/", ...options, "--outFile", out]);
  if (error) throw new Error(`${stderr}`);
  const memory = new WebAssembly.Memory({ initial: 2 });
  const module = new WebAssembly.Module(await Bun.file(out).arrayBuffer());
  const env = { memory, abort: () => {} };
  wasm = new WebAssembly.Instance(module, { env }).exports as unknown as Primitives;
  rmSync(FOLDER, { recursive: true });
  bytes = new Uint8Array(memory.buffer);
  words = new DataView(memory.buffer);
  wasm.setUp(HASH_KEYS, CRC_TABLE);
  bytes.set(random.bytes(128), HASH_KEYS);
});

const swap = (n: number) => ((n & 0xff) << 8) | (n >>> 8);

test("the Internet checksum agrees with the plain one for every length to 300 and misalignment (RFC 1071)", () => {
  for (let length = 0; length <= 300; length++) {
    const at = DATA + (length % 8);
    const data = random.bytes(length);
    bytes.set(data, at);
    expect([length, swap(wasm.sumBytes(at, length) ^ 0xffff)]).toEqual([length, internetChecksum(data)]);
  }
});

test.each([1499, 1500, 9001, 65_535])(
  "the Internet checksum of %d bytes agrees with the plain one, also when all are 255",
  (length) => {
    for (const data of [random.bytes(length), new Uint8Array(length).fill(255)]) {
      bytes.set(data, DATA + 2);
      expect(swap(wasm.sumBytes(DATA + 2, length) ^ 0xffff)).toBe(internetChecksum(data));
    }
  },
);

test("carries out of 64-bit words are counted, whatever the words are", () => {
  // What averages of the upper bits judge worst: upper bits at both ends, all or nothing below them, odd sums.
  const edges = [
    0n,
    1n,
    0xffffffffffffn,
    1n << 48n,
    0x1ffffffffffffn,
    0xffffn << 48n,
    0xfffen << 48n,
    (1n << 64n) - 1n,
  ];
  for (const length of [64, 128, 192, 1472, 65_528]) {
    for (let mix = 0; mix < 12; mix++) {
      const few = Array.from({ length: 1 + (mix % 3) }, () => random.of(edges));
      const data = new DataView(new ArrayBuffer(length));
      for (let at = 0; at < length; at += 8) data.setBigUint64(at, random.of(few), true);
      bytes.set(new Uint8Array(data.buffer), DATA);
      const computed = swap(wasm.sumBytes(DATA, length) ^ 0xffff);
      expect([length, few, computed]).toEqual([length, few, internetChecksum(new Uint8Array(data.buffer))]);
    }
  }
});

test("data cut in two anywhere has the same sum, also after an odd first part", () => {
  const data = random.bytes(200);
  for (let cut = 0; cut <= 200; cut++) {
    bytes.set(data.subarray(0, cut), DATA);
    bytes.set(data.subarray(cut), DATA + 4096);
    expect([cut, swap(wasm.sumTwo(DATA, cut, DATA + 4096, 200 - cut) ^ 0xffff)]).toEqual([cut, internetChecksum(data)]);
  }
});

test("an updated checksum is the checksum of the changed data, edge values included (RFC 1624 section 3)", () => {
  const edges = [0, 1, 0xffff, 0x10000, 0xffff0000, 0xffffffff, 0x80007fff, 0xfffefffe];
  const values = [...edges, ...Array.from({ length: 40 }, () => random.below(2 ** 32))];
  const rest = Uint8Array.of(0x45, 0, 0x12, 0x34, 0xab, 0xcd);
  for (const before of values) {
    for (const after of values) {
      words.setUint32(DATA, before, true);
      const old = internetChecksum(rest, bytes.slice(DATA, DATA + 4));
      words.setUint32(DATA, after, true);
      const fresh = internetChecksum(rest, bytes.slice(DATA, DATA + 4));
      expect([before, after, swap(wasm.update32(swap(old), before, after))]).toEqual([before, after, fresh]);
    }
  }
});

test("ILB-181 CRC-32 gives the published values", () => {
  const inputs: [number[], number][] = [
    [[0xc0, 0x00, 0x02, 0x01], 0xedc79cf1],
    [[0xcb, 0x00, 0x71, 0x07], 0xd7b794f0],
    [[0, 0, 0, 1], 0xa9bc1075],
    [[0x5c, 0x40, 0x9e, 0x41], 0xc1e3cbab],
    [[0xcf, 0x00, 0x75, 0x07], 0x3cb9c6a3],
    [[0x06, 0x33, 0x66, 0x0b], 0x7988315f],
  ];
  for (const [input, value] of inputs) {
    bytes.set(input, DATA);
    expect(wasm.crc(words.getUint32(DATA, true)) >>> 0).toBe(value);
  }
});

/** The fingerprint as the literature has it, in big integers. */
function plainKey(source: number, destination: number, ports: number, protocol: number): bigint {
  const mask = 0xffffffffffffffffn;
  const word = (index: number) => words.getUint32(HASH_KEYS + 4 * index, true);
  const long = (offset: number) => words.getBigUint64(HASH_KEYS + offset, true) | 1n;
  const add = (a: number, index: number) => BigInt((a + word(index)) % 2 ** 32);
  const family = protocol + 0x400;
  const row = (k: number) => (add(source, k) * add(destination, k + 1) + add(ports, k + 2) * add(family, k + 3)) & mask;
  const high = ((row(0) * long(96)) & mask) >> 32n;
  const low = ((row(12) * long(104)) & mask) >> 32n;
  const halves = (high << 32n) | low;
  const folded = ((halves ^ (halves >> 32n)) * long(120)) & mask;
  return (folded ^ (folded >> 29n)) | 1n;
}

test("the flow key agrees with the plain one, and is never 0", () => {
  for (let round = 0; round < 500; round++) {
    const tuple = [random.below(2 ** 32), random.below(2 ** 32), random.below(2 ** 32), round % 2 ? 6 : 17] as const;
    const key = BigInt.asUintN(64, wasm.key(...tuple));
    expect(key).toBe(plainKey(...tuple));
    expect(key & 1n).toBe(1n);
  }
});

test("the flow key of IPv6 agrees with the plain one", () => {
  const mask = 0xffffffffffffffffn;
  const word = (index: number) => words.getUint32(HASH_KEYS + 4 * index, true);
  const long = (offset: number) => words.getBigUint64(HASH_KEYS + offset, true) | 1n;
  for (let round = 0; round < 500; round++) {
    bytes.set(random.bytes(32), DATA);
    const ports = random.below(2 ** 32);
    const protocol = round % 2 ? 6 : 17;
    const message = Array.from({ length: 8 }, (_, index) => words.getUint32(DATA + 4 * index, true));
    const row = (k: number) => {
      const keyed = message.map((value, i) => BigInt((value + word(k + i)) % 2 ** 32));
      const ends = BigInt((ports + word(k + 8)) % 2 ** 32) * BigInt((protocol + 0x600 + word(k + 9)) % 2 ** 32);
      return keyed.slice(0, 4).reduce((sum, value, i) => sum + value * keyed[i + 4]!, ends) & mask;
    };
    const high = ((row(0) * long(96)) & mask) >> 32n;
    const low = ((row(12) * long(104)) & mask) >> 32n;
    const halves = (high << 32n) | low;
    const folded = ((halves ^ (halves >> 32n)) * long(120)) & mask;
    expect(BigInt.asUintN(64, wasm.key6(DATA, ports, protocol))).toBe((folded ^ (folded >> 29n)) | 1n);
  }
});

test("neighbouring flows scatter over buckets like random ones", () => {
  const buckets = new Uint32Array(16384);
  const flows = 65536;
  for (let flow = 0; flow < flows; flow++) {
    const ports = swap(1024 + (flow % 4096)) | (swap(80) << 16);
    const key = BigInt.asUintN(64, wasm.key(0x0a000000 + (flow >>> 12) * 0x1000000, 0x0a6433c6, ports >>> 0, 6));
    buckets[Number(key >> 32n) & 16383]! += 1;
  }
  // Poisson with mean 4: variance 4; a regular pattern is far off in either direction.
  const variance = buckets.reduce((sum, n) => sum + (n - 4) ** 2, 0) / buckets.length;
  expect(variance).toBeGreaterThan(3.5);
  expect(variance).toBeLessThan(4.5);
});

test.each([
  ["0.1.2.3", 0x03020100, 1],
  ["127.0.0.1", 0x0100007f, 1],
  ["224.0.0.1", 0x010000e0, 1],
  ["255.255.255.255", 0xffffffff, 1],
  ["192.0.2.1", 0x010200c0, 0],
  ["223.255.255.254", 0xfeffffdf, 0],
])("source %s is martian: %#", (_name, address, expected) => {
  expect(wasm.martian(address)).toBe(expected);
});
