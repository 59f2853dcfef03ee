/**
 * Has the kernel give the engine's memory its pages before a worker touches them, by a thread beside it: whoever touches a page
 * first waits until it is cleared, 0.1 ms for a huge one, several milliseconds where a hypervisor has to find memory for
 * it first. At the start what the first packets touch, from then on what tables that grow are going to use next.
 * Decision records 0038 and 0047.
 */
import type { EngineHost } from "../engine/host.ts";
import { type GrowingTable, type MemoryPart, pageAdvice } from "../engine/memory.ts";
import { populate, useHugePages } from "../native/system.ts";

/** A start has better to do; what grows is wanted soon, and a worker would spend as much on it. */
const [START_NICE, GROWTH_NICE] = [15, 0];
/** A huge page: less is not worth a thread. */
const STEP_BYTES = 2 << 20;

/** What the supply asks of the kernel. */
export interface PageSource {
  useHugePages(memory: ArrayBufferLike, parts: readonly MemoryPart[]): boolean;
  populate(memory: ArrayBufferLike, parts: readonly MemoryPart[], nice: number): void;
}

export class PageSupply {
  /** Whether the kernel took the advice about huge pages. */
  readonly hugePages: boolean;
  readonly #host: EngineHost;
  readonly #source: PageSource;
  /** How far each table has its pages: linear offset of the end. */
  readonly #suppliedTo: Map<GrowingTable, number>;

  /** Begins at once. @param host with a memory that nobody has used yet, and which lives as long as the process */
  constructor(host: EngineHost, source: PageSource = { useHugePages, populate }) {
    const { huge, early, growing } = pageAdvice(host.map);
    this.#host = host;
    this.#source = source;
    this.#suppliedTo = new Map(
      growing.map((table) => [table, Math.min(table.offset + table.aheadBytes, endOf(table))]),
    );
    this.hugePages = source.useHugePages(host.memory.buffer, huge);
    source.populate(host.memory.buffer, early, START_NICE);
  }

  /** Has more pages made where tables have grown. To be called a few times a second. */
  look(): void {
    const wanted: MemoryPart[] = [];
    for (const [table, suppliedTo] of this.#suppliedTo) {
      const used = table.offset + this.#host.usedRecords(table) * table.recordBytes;
      const to = Math.min(used + table.aheadBytes, endOf(table));
      if (to < Math.min(suppliedTo + STEP_BYTES, endOf(table)) || to <= suppliedTo) continue;
      wanted.push({ offset: suppliedTo, bytes: to - suppliedTo });
      this.#suppliedTo.set(table, to);
    }
    if (wanted.length > 0) this.#source.populate(this.#host.memory.buffer, wanted, GROWTH_NICE);
  }
}

const endOf = ({ offset, bytes }: MemoryPart): number => offset + bytes;
