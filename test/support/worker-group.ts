/**
 * Several workers of the WebAssembly engine on one memory, in one thread, behind the PacketEngine interface. Every frame
 * is received by a worker that chance picks, and what the workers hand over to each other is worked off before the next
 * one: so outcomes can be compared frame by frame with an engine that has one worker. Nothing here knows who owns what.
 */
import type { Compat, EngineLimits, FrameIn, FrameOut, Outcome, Port, TableImage } from "../../src/engine/engine.ts";
import { FrameMemory } from "../../src/engine/frame-memory.ts";
import { EngineHost, fixedHashKey } from "../../src/engine/host.ts";
import { HostedEngine } from "../../src/engine/hosted-engine.ts";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import { BATCH_SIZE, Descriptor, HANDED_COPY, Verdict } from "../../src/gen/layout.ts";
import { Random } from "./random.ts";
import { MODULE_BYTES } from "./wasm-engine.ts";

export interface WorkerGroupOptions {
  readonly limits: EngineLimits;
  readonly workers: number;
  readonly compat?: Compat;
  /** Default: the fixed one. */
  readonly hashKey?: Uint8Array;
  /** Of the deal; the same deal with the same frames gives the same outcomes. */
  readonly seed?: number;
  /** Layer-3 bytes that go into the head block, the rest into the tail. */
  readonly headBytes?: number;
  /** Every worker begins a batch whenever one does, so that what has been held too long goes at one moment. Default: no. */
  readonly inStep?: boolean;
}

/** Steps that any frame may take: to the meeting worker of fragments, to the owner, and one that finds nothing. */
const MOST_ROUNDS = 4;

export class WorkerGroup extends HostedEngine {
  readonly name = "wasm, several workers";
  readonly workers: readonly WorkerEngine[];
  /** The worker that the next frames arrive at; null: chance decides. */
  receiver: number | null = null;
  readonly #frames: readonly FrameMemory[];
  readonly #random: Random;
  readonly #inStep: boolean;
  readonly #handOverMarks: (worker: number, index: number) => number;

  constructor({
    limits,
    workers,
    compat = "modern",
    seed = 1,
    headBytes,
    hashKey = fixedHashKey(),
    inStep = false,
  }: WorkerGroupOptions) {
    super(EngineHost.create({ limits, workers, hashKey, moduleBytes: MODULE_BYTES, compat }));
    const { memory, map } = this.host;
    this.workers = map.workers.map((_, index) => new WorkerEngine(this.host.seat(index)));
    this.#frames = map.workers.map((regions) => new FrameMemory(memory, regions, headBytes));
    for (const worker of this.workers) worker.leaveQuiescent();
    this.#random = new Random(seed);
    this.#inStep = inStep;
    const words = new Uint32Array(memory.buffer);
    this.#handOverMarks = (worker, index) =>
      words[(map.workers[worker]!.descriptors + index * Descriptor.size + Descriptor.handOver) >>> 2]!;
  }

  publish(image: TableImage): void {
    this.host.publish(image);
    for (const worker of this.workers) worker.adoptIfPublished();
  }

  setPort(index: number, port: Port): void {
    for (const frames of this.#frames) frames.setPort(index, port);
    this.host.setPort(index, port);
  }

  /** Strictly one frame after another. */
  process(frames: readonly FrameIn[], nowMs: number): Outcome[] {
    return frames.map((frame) => this.#one(frame, nowMs >>> 0));
  }

  #one(frame: FrameIn, nowMs: number): Outcome {
    const receiver = this.receiver ?? this.#random.below(this.workers.length);
    const unclaimed = this.#inStep ? this.#emptyBatches(nowMs) : [];
    this.#frames[receiver]!.place(frame, 0);
    const made = this.workers[receiver]!.process(1, nowMs);
    const outcomes = [this.#frames[receiver]!.outcome(0, made)];
    const followers: Outcome[] = [];
    for (let round = 0; this.#takeAll(nowMs, outcomes, followers); round++)
      if (round === MOST_ROUNDS) throw new Error("a frame is handed over again and again");
    const decided = outcomes.at(-1)!;
    return {
      ...decided,
      out: [...decided.out, ...followers.flatMap(({ out }) => out)],
      passed: [...unclaimed, ...[...outcomes, ...followers].flatMap(({ passed }) => passed)],
    };
  }

  /** @returns what the kernel gets because it has been held too long */
  #emptyBatches(nowMs: number): FrameOut[] {
    return this.workers.flatMap((worker, number) => {
      const made = worker.process(0, nowMs);
      return made === 0 ? [] : this.#frames[number]!.outcome(0, made).passed;
    });
  }

  /** Every worker takes what it has been given. @returns whether anybody had been given anything */
  #takeAll(nowMs: number, outcomes: Outcome[], followers: Outcome[]): boolean {
    let hadAny = false;
    this.workers.forEach((worker, number) => {
      for (let count = worker.takeHandedOver(); count > 0; count = worker.takeHandedOver()) {
        hadAny = true;
        const made = worker.process(count, nowMs);
        for (let index = 0; index < count; index++) {
          const isCopy = (this.#handOverMarks(number, index) & HANDED_COPY) !== 0;
          const outcome = this.#frames[number]!.outcome(index, made);
          const isGivenBack = isCopy && outcome.verdict === Verdict.Pass;
          const passed = isGivenBack ? [this.#frames[number]!.frame(index), ...outcome.passed] : outcome.passed;
          (isCopy ? followers : outcomes).push({ ...outcome, passed });
        }
        worker.releaseHandedOver();
      }
    });
    return hadAny;
  }

  /** Puts frames into a worker's batch and lets it decide; what it hands over stays in the rings. */
  receive(worker: number, frames: readonly FrameIn[], nowMs: number): Outcome[] {
    if (frames.length > BATCH_SIZE) throw new RangeError(`at most ${BATCH_SIZE} frames in a batch`);
    frames.forEach((frame, index) => {
      this.#frames[worker]!.place(frame, index);
    });
    const made = this.workers[worker]!.process(frames.length, nowMs);
    return frames.map((_, index) => this.#frames[worker]!.outcome(index, made));
  }

  /** A worker takes one batch of what it has been given. */
  take(worker: number, nowMs: number): Outcome[] {
    const engine = this.workers[worker]!;
    const count = engine.takeHandedOver();
    if (count === 0) return [];
    const made = engine.process(count, nowMs);
    const outcomes = Array.from({ length: count }, (_, index) => this.#frames[worker]!.outcome(index, made));
    engine.releaseHandedOver();
    return outcomes;
  }

  sweep(nowMs: number): void {
    for (const worker of this.workers) worker.sweepAll(nowMs >>> 0);
  }
}
