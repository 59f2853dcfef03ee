/**
 * How long a worker under traffic is held up while a table of 10,000 rules is published: the longest batch with all
 * that the loop does between two batches (adoption, a slice of the sweep), once while the main thread writes and
 * publishes the table and once for as long a time without. Processor time of the worker's thread, because on a busy
 * machine other processes hold single batches of either kind up for milliseconds; the median over publications.
 */
import { ensureWasm } from "../../scripts/build-wasm.ts";
import { readModule } from "../../src/engine/abi.ts";
import { EngineHost, fixedHashKey } from "../../src/engine/host.ts";
import { median } from "../harness/statistics.ts";
import type { BenchContext, BenchRow, BenchSides } from "../row.ts";
import { BATCHES, LONGEST_NS, STOP, WORDS } from "../support/publish-traffic.ts";
import { RULES, tenThousandRules } from "../support/ten-thousand.ts";

const LIMITS = { maxFlows: 65_536, maxRules: 32_768, maxPairs: 262_144, maxSticky: 1024 };
/** Batches after adoption that still belong to it: pairs are compared slice by slice. */
const BATCHES_AFTER = 200;
const BOX_MAC = new Uint8Array([2, 0, 0, 0, 0, 1]);
const SERVER_MAC = new Uint8Array([2, 13, 0, 0, 0, 1]);

class Traffic {
  readonly #host: EngineHost;
  readonly #shared = new Int32Array(new SharedArrayBuffer(WORDS * 4));
  readonly #worker: Worker;
  readonly #ended: Promise<void>;
  readonly #imageOf = tenThousandRules();
  #generation = 1;
  #publishMs = 0;

  constructor(host: EngineHost) {
    this.#host = host;
    host.setPort(0, { kind: "ethernet", mac: BOX_MAC, mtu: 1500, address4: null, address6: null });
    host.setNextHop(0, { state: "resolved", port: 0, destinationMac: SERVER_MAC, sourceMac: BOX_MAC, mtu: 1500 });
    host.publish(this.#imageOf(1));
    this.#worker = new Worker(new URL("../support/publish-traffic.ts", import.meta.url).href);
    this.#ended = new Promise((resolve, reject) => {
      this.#worker.onmessage = () => resolve();
      this.#worker.onerror = (event) => reject(new Error(event.message));
    });
    this.#worker.postMessage({ seat: host.seat(0), shared: this.#shared });
  }

  /** Until every rule has met its client and the code is warm. */
  async open(): Promise<void> {
    await this.#batches(20_000);
    const { flows } = this.#host.health();
    if (flows !== RULES) throw new Error(`${flows} flows stand instead of ${RULES}`);
  }

  async #batches(count: number): Promise<void> {
    const until = Atomics.load(this.#shared, BATCHES) + count;
    while (Atomics.load(this.#shared, BATCHES) < until) await Promise.race([Bun.sleep(1), this.#ended]);
  }

  /** @returns the longest batch in milliseconds */
  async #longestDuring(work: () => Promise<void>): Promise<number> {
    Atomics.store(this.#shared, LONGEST_NS, 0);
    await work();
    await this.#batches(BATCHES_AFTER);
    return Atomics.load(this.#shared, LONGEST_NS) / 1e6;
  }

  async publishing(times: number): Promise<number> {
    const longest: number[] = [];
    for (let time = 0; time < times; time++)
      longest.push(
        await this.#longestDuring(async () => {
          const start = performance.now();
          this.#host.publish(this.#imageOf(++this.#generation));
          this.#publishMs = performance.now() - start;
        }),
      );
    return median(longest);
  }

  async idle(times: number): Promise<number> {
    const longest: number[] = [];
    for (let time = 0; time < times; time++) longest.push(await this.#longestDuring(() => Bun.sleep(this.#publishMs)));
    return median(longest);
  }

  async close(): Promise<void> {
    Atomics.store(this.#shared, STOP, 1);
    await this.#ended;
    this.#worker.terminate();
  }
}

async function setup({ quick }: BenchContext): Promise<BenchSides> {
  await ensureWasm();
  const moduleBytes = await readModule();
  const traffic = new Traffic(EngineHost.create({ limits: LIMITS, workers: 1, hashKey: fixedHashKey(), moduleBytes }));
  await traffic.open();
  const times = quick ? 10 : 40;
  const idle: number[] = [];
  return {
    ours: async () => {
      idle.push(await traffic.idle(times));
      return traffic.publishing(times);
    },
    parts: () => ({ "not publishing": median(idle) }),
    close: () => traffic.close(),
  };
}

const rows: readonly BenchRow[] = [
  {
    id: "engine.publish.10k",
    unit: "ms",
    better: "lower",
    peerName: null,
    what: "longest batch of a worker under traffic while a table of 10,000 rules is published (processor time, median over publications)",
    setup,
  },
];

export default rows;
