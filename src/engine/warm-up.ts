/**
 * Runs synthetic packets through the engine until the compiler has done its best, on a small memory of its own: code is
 * compiled per module, whatever thread runs it, so the instances of workers run fast from their first packet and their tables
 * never see a trace. First what the first packets need, while nothing is open yet (`prepare`); the rest in slices, when packets
 * flow already (`finish`). Why so: decision record 0047.
 */
import { BATCH_SIZE, Descriptor } from "../gen/layout.ts";
import { type EngineExports, instantiate } from "./abi.ts";
import type { FrameIn, Port } from "./engine.ts";
import { FrameMemory } from "./frame-memory.ts";
import { EngineHost, fixedHashKey } from "./host.ts";
import type { PolicyTables } from "./policy.ts";
import { addressOf, BARE, ETHERNET, everydayFrames, OPENING_PORT_AT, OPENINGS, rareFrames } from "./warm-up-packets.ts";
import { RULES, WARM_UP_POLICY, warmUpImage } from "./warm-up-tables.ts";

/**
 * Batches of everyday traffic before the first packets: nothing is interpreted any more, and the compiler has begun with its
 * best, which it needs 30,000 to 45,000 packets of a family for.
 */
const FIRST_ROUNDS = 400;
/** Batches of everyday traffic afterwards, without a flow policy and then with one; every few of them come with a rare one. */
const LATER_ROUNDS = [1200, 1600] as const;
const RARE_ROUNDS = 4;
/**
 * The compiler works beside us and decides by what it has seen. Without time to keep up, one process in two ended with code
 * that is slower by a quarter, for good.
 */
const PAUSE_ROUNDS = 32;
const PAUSE_MS = 1;
/** Milliseconds of work between two pauses afterwards. */
const SLICE_MS = 0.5;
/** The clock jumps beyond every time-out now and then. */
const JUMP_ROUNDS = 64;
const JUMP_MS = 90_000;
/** Ports that connections are opened from in turn; no other packet has one of them. */
const OPENING_PORT = 8192;
const OPENING_PORT_COUNT = 32_768;
/** Different batches of everyday traffic of a family. */
const PATTERNS = 2;
const FAMILIES = [4, 6] as const;

const LIMITS = { maxFlows: 80_000, maxRules: RULES, maxPairs: 64, maxSticky: 16 };
const MAC = new Uint8Array([2, 0, 0, 0, 0, 1]);

/** A batch as the native side would leave it in the memory. */
interface Batch {
  readonly count: number;
  readonly heads: readonly { readonly at: number; readonly bytes: Uint8Array }[];
  readonly descriptors: Uint8Array;
  /** Where the ports are that have to be new each time. */
  readonly openings: readonly number[];
}

export class WarmUp {
  readonly host: EngineHost;
  readonly #bytes: Uint8Array;
  readonly #data: DataView;
  readonly #frames: FrameMemory;
  readonly #engine: EngineExports;
  /** Other workers, who take over what is theirs. */
  readonly #others: readonly EngineExports[];
  readonly #everyday: readonly Batch[];
  #generation = 0;
  #nowMs = 0;
  #opened = 0;

  /** @param isAlone false: several workers will hand frames to each other */
  constructor(module: WebAssembly.Module, isAlone: boolean) {
    const host = EngineHost.prepare(LIMITS, isAlone ? 1 : 2, fixedHashKey(), module);
    this.host = host;
    this.#bytes = new Uint8Array(host.memory.buffer);
    this.#data = new DataView(host.memory.buffer);
    this.#frames = new FrameMemory(host.memory, host.map.workers[0]!);
    const port = { mac: MAC, mtu: 1500, address4: addressOf(4, 1), address6: addressOf(6, 1) };
    this.#setPort(ETHERNET, { ...port, kind: "ethernet" });
    this.#setPort(BARE, { ...port, kind: "ip" });
    host.setNextHop(0, { state: "resolved", port: ETHERNET, destinationMac: MAC, sourceMac: MAC, mtu: 1500 });
    const instances = host.map.workers.map(({ map }) => instantiate(module, host.memory, map));
    this.#engine = instances[0]!;
    this.#others = instances.slice(1);
    this.#publish(null);
    for (const one of instances) one.leaveQuiescent();
    this.#everyday = FAMILIES.flatMap((family) =>
      Array.from({ length: PATTERNS }, (_, pattern) => {
        const batch = this.#batch(everydayFrames(family, pattern, BATCH_SIZE));
        return { ...batch, openings: OPENINGS.map((index) => batch.heads[index]!.at + OPENING_PORT_AT[family]) };
      }),
    );
  }

  /** What the first packets need: everyday traffic. Blocks for some 30 ms, half of the time asleep. */
  prepare(): void {
    for (let round = 0; round < FIRST_ROUNDS; round++) {
      if (round % PAUSE_ROUNDS === 0) Bun.sleepSync(PAUSE_MS);
      this.#process(this.#everyday[round % this.#everyday.length]!);
    }
  }

  /**
   * The rest: what is rare, images that change, a flow policy, and everyday traffic until it is as fast as it gets.
   * @param pause asked for before every SLICE_MS of work; ends the work when it says no
   */
  async finish(pause: () => Promise<boolean>): Promise<void> {
    const rare: Batch[] = [];
    for (const family of FAMILIES) {
      const frames = rareFrames(family);
      for (let from = 0; from < frames.length; from += BATCH_SIZE) {
        if (!(await pause())) return;
        rare.push(this.#batch(frames.slice(from, from + BATCH_SIZE)));
      }
    }
    let sliceEndMs = 0;
    for (const [phase, policy] of [null, WARM_UP_POLICY].entries()) {
      this.#publish(policy);
      for (let round = 0; round < LATER_ROUNDS[phase]!; round++) {
        if (performance.now() > sliceEndMs) {
          if (!(await pause())) return;
          sliceEndMs = performance.now() + SLICE_MS;
        }
        this.#process(this.#everyday[round % this.#everyday.length]!);
        if (round % RARE_ROUNDS === 0) this.#process(rare[(round / RARE_ROUNDS) % rare.length]!);
        if (round % JUMP_ROUNDS === 0) this.#nowMs += JUMP_MS;
      }
    }
  }

  #setPort(index: number, port: Port): void {
    this.host.setPort(index, port);
    this.#frames.setPort(index, port);
  }

  #publish(policy: PolicyTables | null): void {
    this.host.publish(warmUpImage(++this.#generation, policy));
    for (const one of [this.#engine, ...this.#others]) one.adoptIfPublished();
  }

  /** All that the loop of a worker does with a batch, except the devices. */
  #process(batch: Batch): void {
    for (const { at, bytes } of batch.heads) this.#bytes.set(bytes, at);
    for (const at of batch.openings) this.#data.setUint16(at, OPENING_PORT + (this.#opened++ % OPENING_PORT_COUNT));
    this.#bytes.set(batch.descriptors, this.host.map.workers[0]!.descriptors);
    const nowMs = ++this.#nowMs;
    const engine = this.#engine;
    engine.enterQuiescent();
    engine.leaveQuiescent();
    engine.stopRequested();
    engine.processBatch(batch.count, nowMs);
    for (const other of this.#others) takeOver(other, nowMs);
    engine.sweepSlice(nowMs);
    engine.heartbeat(nowMs);
  }

  /** Made once and copied from then on: making batches anew takes longer than everything that they are for. */
  #batch(frames: readonly FrameIn[]): Batch {
    for (const [index, frame] of frames.entries()) this.#frames.place(frame, index);
    const { descriptors } = this.host.map.workers[0]!;
    const heads = frames.map((_, index) => {
      const descriptor = descriptors + index * Descriptor.size;
      const at = this.#data.getUint32(descriptor + Descriptor.frame, true);
      const length = this.#data.getUint32(descriptor + Descriptor.headLength, true);
      return { at, bytes: this.#bytes.slice(at, at + length) };
    });
    const descriptorBytes = this.#bytes.slice(descriptors, descriptors + frames.length * Descriptor.size);
    return { count: frames.length, heads, descriptors: descriptorBytes, openings: [] };
  }
}

function takeOver(engine: EngineExports, nowMs: number): void {
  for (let count = engine.takeHandedOver(); count > 0; count = engine.takeHandedOver()) {
    engine.processBatch(count, nowMs);
    engine.releaseHandedOver();
  }
}

/** Everything, for who waits for it: benchmarks and tests. */
export async function runWarmUp(module: WebAssembly.Module, isAlone = true): Promise<void> {
  const warm = new WarmUp(module, isAlone);
  warm.prepare();
  await warm.finish(() => Bun.sleep(PAUSE_MS).then(() => true));
}
