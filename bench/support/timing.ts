/** Times batches of packets: fill, process, check, over and over; only process() counts. */
import { BATCH_SIZE } from "../../src/gen/layout.ts";
import { median } from "../harness/statistics.ts";

/** Something that can be filled with a batch of packets and timed. */
export interface Side {
  /** Puts the next batch of packets in. */
  fill(): void;
  /** What is timed: handles the batch. @param nowMs engine clock */
  process(nowMs: number): void;
  /** Throws when one packet of the batch did not come out as an independent computation says. */
  check(): void;
}

/** Batches between two milliseconds of the engine clock: some four million packets per second. */
const BATCHES_PER_MS = 64;
const LEAST_BATCHES = 200;
/** The clock of the process's sides goes on where the last one stopped. */
const START_MS = 1_000_000;

let clockNs: number | null = null;

/** What two readings of the clock with nothing between them differ by: the median, nanoseconds. */
function measureClock(): number {
  const spent = new Float64Array(20_001);
  for (let i = 0; i < spent.length; i++) {
    const start = Bun.nanoseconds();
    spent[i] = Bun.nanoseconds() - start;
  }
  return spent.sort()[spent.length >>> 1]!;
}

/** What reading the clock costs, nanoseconds; measured once per process. */
export function clockCostNs(): number {
  clockNs ??= measureClock();
  return clockNs;
}

/** The engine clock of a side, from call to call. */
export class BatchTimer {
  readonly #side: Side;
  #batch = 0;

  constructor(side: Side) {
    this.#side = side;
  }

  /**
   * @param ms how long to go on, with filling and checking
   * @returns nanoseconds per packet of the median batch: one that another process interrupted says nothing. What reading the
   * clock costs is subtracted.
   */
  run(ms: number): number {
    const side = this.#side;
    const spent: number[] = [];
    const cost = clockCostNs();
    const end = performance.now() + ms;
    while (spent.length < LEAST_BATCHES || performance.now() < end) {
      const nowMs = START_MS + Math.floor(this.#batch++ / BATCHES_PER_MS);
      side.fill();
      const start = Bun.nanoseconds();
      side.process(nowMs);
      spent.push(Bun.nanoseconds() - start);
      side.check();
    }
    return (median(spent) - cost) / BATCH_SIZE;
  }
}

/** Numbers from 0 to `count` - 1 in an order that has nothing to do with any table: xorshift32 (Marsaglia 2003). */
export class Order {
  #state = 0x2545f491;
  readonly #count: number;

  constructor(count: number) {
    this.#count = count;
  }

  next(): number {
    this.#state ^= this.#state << 13;
    this.#state ^= this.#state >>> 17;
    this.#state ^= this.#state << 5;
    return (this.#state >>> 0) % this.#count;
  }
}
