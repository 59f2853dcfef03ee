/**
 * Starts, watches and stops the packet worker threads. They decide nothing about packets here; a worker that fails ends
 * the daemon, because the kernel must have its packets back rather than lose them.
 */
import type { IoHandOver } from "../device/kernel-io.ts";
import type { WorkerSeat } from "../engine/host.ts";
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

export class PacketWorker {
  /** Resolves with one line when the worker ends without being asked to. */
  readonly failed: Promise<string>;
  private readonly fail: (what: string) => void;
  private readonly worker: Worker;
  private readonly waiting = new Map<FromWorker["kind"], () => void>();
  private watch: ReturnType<typeof setInterval> | null = null;
  private ended = false;
  private place: WorkerPlace | null = null;

  /** Starts the thread, which warms up at once. @param name how messages call it @param isAlone whether it is the only one */
  constructor(name: string, isAlone: boolean) {
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
    this.tell({ kind: "warm", isAlone });
  }

  /** Attaches, when the worker is warm. Rejects when it fails. */
  prepare(place: WorkerPlace): Promise<void> {
    this.place = place;
    const { seat, io, peers = [], nice = null } = place;
    return this.ask({ kind: "prepare", seat, io, peers, nice }, "prepared");
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

  /** @param count of threads, which warm up at once */
  static spawn(count: number): WorkerTeam {
    const isAlone = count === 1;
    const nameOf = (number: number) => (isAlone ? "the packet worker" : `packet worker ${number}`);
    return new WorkerTeam(Array.from({ length: count }, (_, number) => new PacketWorker(nameOf(number), isAlone)));
  }

  private constructor(workers: readonly PacketWorker[]) {
    this.workers = workers;
    this.failed = Promise.race(workers.map((worker) => worker.failed));
  }

  /** All attach. @param places by number, one for each. Rejects when one fails. */
  async prepare(places: readonly WorkerPlace[]): Promise<void> {
    await Promise.all(this.workers.map((worker, number) => worker.prepare(places[number]!)));
  }

  /** All enter the loop. Rejects when one fails. */
  async run(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.run()));
  }

  /** Ends all. Does not reject. After it nobody uses the memory, the ports or another worker's io any more. */
  async stop(): Promise<void> {
    await Promise.all(this.workers.map((worker) => worker.stop()));
  }
}

const firstLine = (text: string): string => text.split("\n")[0] ?? "";
