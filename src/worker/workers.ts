/**
 * Starts, watches and stops the packet worker threads. They decide nothing about packets here; a worker that fails ends
 * the daemon, because the kernel must have its packets back rather than lose them.
 */
import type { IoHandOver } from "../device/kernel-io.ts";
import { compileModule } from "../engine/abi.ts";
import type { WorkerSeat } from "../engine/host.ts";
import { readEngineModule } from "../engine/module.ts";
import type { FromWorker, ToWorker } from "./messages.ts";

/** What a worker works with. */
export interface WorkerPlace {
  readonly seat: WorkerSeat;
  readonly io: IoHandOver;
  /** Of every worker by its number, when there are several. */
  readonly peers?: readonly IoHandOver[];
  /** What its thread raises itself to while it is strained; null, the default: `onStrain` is told instead. */
  readonly nice?: number | null;
  readonly onStrain?: (isStrained: boolean) => void;
  /** Sets the stop flag in shared memory and wakes the worker. */
  readonly askToStop: () => void;
  /** Engine clock of the worker's last sign of life, milliseconds, wrapped to u32. */
  readonly heartbeatMs: () => number;
  /** Engine clock now. */
  readonly nowMs: () => number;
}

/** In a released executable modules lie where the source has them below src/, in a bundle side by side (scripts/build-programs.ts). */
const ENTRY = Bun.main.startsWith("/$bunfs/")
  ? "./worker/packet-worker.ts"
  : new URL(import.meta.path.endsWith(".ts") ? "./packet-worker.ts" : "./packet-worker.js", import.meta.url).href;

/** A worker that says nothing for so long hangs: its loop signs at least ten times a second. */
const HANG_MS = 10_000;
const WATCH_MS = 1000;
const STOP_MS = 1000;
/** Between two slices of finishWarmUp(): for whatever else the thread has to do. */
const SLICE_PAUSE_MS = 1;

export class PacketWorker {
  /** Resolves with one line when the worker ends without being asked to. */
  readonly failed: Promise<string>;
  private readonly fail: (what: string) => void;
  private readonly worker: Worker;
  private readonly waiting = new Map<FromWorker["kind"], () => void>();
  private watch: ReturnType<typeof setInterval> | null = null;
  private ended = false;
  private place: WorkerPlace | null = null;

  /** Starts the thread. @param name how messages call it */
  constructor(name: string) {
    const failed = Promise.withResolvers<string>();
    this.failed = failed.promise;
    this.fail = (what) => {
      this.ended = true;
      failed.resolve(`${name} ${what}`);
    };
    this.worker = new Worker(ENTRY);
    this.worker.onmessage = ({ data }: MessageEvent<FromWorker>) => this.hear(data);
    this.worker.onerror = ({ message }) => this.fail(`failed: ${firstLine(message)}`);
    this.worker.addEventListener("close", () => {
      if (!this.ended) this.fail("ended");
    });
  }

  /** Begins to warm the engine up, for every thread that runs it. */
  warmUp(module: WebAssembly.Module, isAlone: boolean): void {
    this.tell({ kind: "warm", module, isAlone });
  }

  /** Attaches, when what warmUp() asked for is done. Rejects when it fails. */
  prepare(module: WebAssembly.Module, place: WorkerPlace): Promise<void> {
    this.place = place;
    const { seat, io, peers = [], nice = null } = place;
    return this.ask({ kind: "prepare", module, seat, io, peers, nice }, "prepared");
  }

  /** Enters the loop: packets flow from here on. Rejects when the worker fails. */
  async run(): Promise<void> {
    await this.ask({ kind: "run" }, "running");
    this.watch = setInterval(() => this.look(), WATCH_MS);
  }

  /** Ends the loop, waits for it, ends the thread. Does not reject. */
  async stop(): Promise<void> {
    if (this.watch !== null) clearInterval(this.watch);
    if (!this.ended) {
      const stopped = new Promise<void>((resolve) => this.waiting.set("stopped", resolve));
      const running = this.watch !== null;
      this.ended = true;
      this.place?.askToStop();
      if (running) await Promise.race([stopped, Bun.sleep(STOP_MS)]);
    }
    this.worker.terminate();
  }

  private ask(message: ToWorker, answer: FromWorker["kind"]): Promise<void> {
    const answered = new Promise<void>((resolve) => this.waiting.set(answer, resolve));
    this.tell(message);
    return Promise.race([
      answered,
      this.failed.then((reason) => {
        throw new Error(reason);
      }),
    ]);
  }

  private tell(message: ToWorker): void {
    this.worker.postMessage(message);
  }

  private hear(message: FromWorker): void {
    if (message.kind === "failed") this.fail(`failed: ${firstLine(message.reason)}`);
    else if (message.kind === "stopped" && !this.ended) this.fail("ended");
    else if (message.kind === "strained") this.place?.onStrain?.(message.isStrained);
    this.waiting.get(message.kind)?.();
  }

  private look(): void {
    const { nowMs, heartbeatMs } = this.place!;
    const silentMs = (nowMs() - heartbeatMs()) >>> 0;
    // Just after the start there is no sign yet; half of the clock's range means that the worker is ahead of us.
    if (silentMs > HANG_MS && silentMs < 0x8000_0000 && heartbeatMs() !== 0)
      this.fail(`has hung for ${Math.round(silentMs / 1000)} s`);
  }
}

/** All workers of a daemon: what happens to one happens to all. */
export class WorkerTeam {
  /** Resolves with one line when a worker ends without being asked to. */
  readonly failed: Promise<string>;
  private readonly workers: readonly PacketWorker[];
  private readonly module: Promise<WebAssembly.Module>;
  private stopped = false;

  /** @param count of threads; the first begins at once to warm the engine up, for all of them */
  static spawn(count: number): WorkerTeam {
    const nameOf = (number: number) => (count === 1 ? "the packet worker" : `packet worker ${number}`);
    const workers = Array.from({ length: count }, (_, number) => new PacketWorker(nameOf(number)));
    return new WorkerTeam(workers, readEngineModule().then(compileModule));
  }

  private constructor(workers: readonly PacketWorker[], module: Promise<WebAssembly.Module>) {
    this.workers = workers;
    this.failed = Promise.race(workers.map((worker) => worker.failed));
    this.module = module;
    module.then(
      (compiled) => workers[0]!.warmUp(compiled, workers.length === 1),
      () => undefined, // told by prepare()
    );
  }

  /** All attach. @param places by number, one for each. Rejects when one fails, or the engine has not been built. */
  async prepare(places: readonly WorkerPlace[]): Promise<void> {
    const module = await this.module;
    await Promise.all(this.workers.map((worker, number) => worker.prepare(module, places[number]!)));
  }

  /**
   * Warms up what the first packets did not have to wait for, on the calling thread in slices shorter than a millisecond:
   * compiled code belongs to the module, whatever thread has run it. Ends early when the team stops.
   */
  async finishWarmUp(): Promise<void> {
    const { WarmUp } = await import("../engine/warm-up.ts");
    const rest = new WarmUp(await this.module, this.workers.length === 1);
    await rest.finish(async () => {
      await Bun.sleep(SLICE_PAUSE_MS);
      return !this.stopped;
    });
  }

  /** All enter the loop. Rejects when one fails. */
  async run(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.run()));
  }

  /** Ends all. Does not reject. After it nobody uses the memory, the ports or another worker's io any more. */
  async stop(): Promise<void> {
    this.stopped = true;
    await Promise.all(this.workers.map((worker) => worker.stop()));
  }
}

const firstLine = (text: string): string => text.split("\n")[0] ?? "";
