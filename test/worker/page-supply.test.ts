import { beforeEach, describe, expect, test } from "bun:test";
import { readModule } from "../../src/engine/abi.ts";
import { EngineHost, fixedHashKey } from "../../src/engine/host.ts";
import { type GrowingTable, type MemoryPart, pageAdvice } from "../../src/engine/memory.ts";
import { FlowRecord } from "../../src/gen/layout.ts";
import { PageSupply } from "../../src/worker/page-supply.ts";

const MAX_FLOWS = 1_000_000;
const limits = { maxFlows: MAX_FLOWS, maxRules: 64, maxPairs: 64, maxSticky: 64 };
const moduleBytes = await readModule();

/** Notes what it is asked for. */
class Source {
  huge: readonly MemoryPart[] = [];
  populated: MemoryPart[] = [];
  useHugePages(_memory: ArrayBufferLike, parts: readonly MemoryPart[]): boolean {
    this.huge = parts;
    return true;
  }
  populate(_memory: ArrayBufferLike, parts: readonly MemoryPart[]): void {
    this.populated.push(...parts);
  }
  /** Whether the bytes have their pages. */
  has(offset: number, bytes: number): boolean {
    let at = offset;
    for (const part of [...this.populated].sort((a, b) => a.offset - b.offset))
      if (part.offset <= at && at < part.offset + part.bytes) at = part.offset + part.bytes;
    return at >= offset + bytes;
  }
}

const hostOf = (workers: number) => EngineHost.create({ limits, workers, hashKey: fixedHashKey(), moduleBytes });
const flowsOf = (host: EngineHost): GrowingTable =>
  pageAdvice(host.map).growing.find(({ offset }) => offset === host.map.workers[0]!.flows)!;
/** As if a worker had opened so many flows. */
const use = (host: EngineHost, table: GrowingTable, records: number): void => {
  new Uint32Array(host.memory.buffer)[table.top / 4] = records;
};

describe("the engine's memory", () => {
  let host: EngineHost;
  let source: Source;
  beforeEach(() => {
    host = hostOf(1);
    source = new Source();
  });

  test("has its pages before the first packet wherever packets look at places of chance, for every worker", () => {
    host = hostOf(2);
    new PageSupply(host, source);
    for (const own of host.map.workers) {
      expect(source.has(own.buckets, own.flows - own.buckets)).toBe(true);
      expect(source.has(own.pairTable, own.stickies - own.pairTable)).toBe(true);
      expect(source.has(own.stickyHeads, own.pools - own.stickyHeads)).toBe(true);
      expect(source.has(own.poolTable, own.chunks - own.poolTable)).toBe(true);
      for (const part of [own.state, own.descriptors, own.heads, own.tails, own.fragments, own.policyPairs])
        expect(source.has(part, 1)).toBe(true);
    }
  });

  test("gets no pages for flows that nobody has opened, beyond a beginning", () => {
    const supply = new PageSupply(host, source);
    supply.look();
    const { offset, bytes, aheadBytes } = flowsOf(host);
    expect(source.has(offset, aheadBytes)).toBe(true);
    expect(source.has(offset + aheadBytes, 1)).toBe(false);
    expect(bytes).toBe(MAX_FLOWS * FlowRecord.size);
  });

  test("gets pages ahead of flows as they become more, each page once, up to the table's end and not beyond", () => {
    const supply = new PageSupply(host, source);
    const flows = flowsOf(host);
    for (let used = 0; used <= MAX_FLOWS; used += 10_000) {
      use(host, flows, used);
      supply.look();
      const wanted = Math.min(used * FlowRecord.size + flows.aheadBytes / 2, flows.bytes);
      expect(source.has(flows.offset, wanted)).toBe(true);
    }
    const parts = source.populated.filter(
      ({ offset }) => offset >= flows.offset && offset < flows.offset + flows.bytes,
    );
    const grown = parts.reduce((sum, { bytes }) => sum + bytes, 0);
    expect(grown).toBe(flows.bytes - flows.aheadBytes);
    expect(Math.max(...parts.map(({ offset, bytes }) => offset + bytes))).toBe(flows.offset + flows.bytes);
  });

  test("is asked for nothing while nothing grows", () => {
    const supply = new PageSupply(host, source);
    const flows = flowsOf(host);
    use(host, flows, 200_000);
    supply.look();
    const count = source.populated.length;
    supply.look();
    expect(source.populated.length).toBe(count);
  });
});
