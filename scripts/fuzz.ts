/**
 * Random tests with new seeds for a time or a number of packets, in one process or several.
 *
 *   bun scripts/fuzz.ts [--seconds N] [--packets N] [--processes N] [--kind KIND] [--seed N] [--per-job N] [--summary FILE]
 *   bun scripts/fuzz.ts SECONDS
 *
 * Ends when either budget is used up (60 s when none is given) or at the first failure, which is printed with the
 * command that repeats it. A line of progress every 30 s, totals at the end, --summary also writes them as JSON.
 * Status 0: nothing found; 1: something found; 2: wrong usage. Writes nothing else anywhere.
 *
 * What is run is in test/fuzz/jobs.ts; --kind keeps one kind. Seeds go up by one from --seed (default: the clock).
 */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Reason } from "../src/gen/layout.ts";
import type { ChildMessage, ChildOrder } from "../test/fuzz/child.ts";
import { JOB_KINDS, type Job, type JobKind } from "../test/fuzz/jobs.ts";
import { ensureWasm } from "./build-wasm.ts";

const CHILD = join(import.meta.dir, "../test/fuzz/child.ts");
const PROGRESS_MS = 30_000;
/** A job that takes this long hangs. */
const JOB_LIMIT_MS = 300_000;
const USAGE =
  "usage: npm run fuzz -- [SECONDS] [--seconds N] [--packets N] [--processes N] [--kind KIND] [--seed N] [--per-job N] [--summary FILE]";

interface Options {
  readonly seconds: number;
  /** Packets that both engines have decided about and that were compared. */
  readonly packets: number;
  readonly processes: number;
  readonly kinds: readonly JobKind[];
  readonly seed: number;
  readonly packetsPerJob: number;
  readonly summary: string | null;
}

function fail(message: string): never {
  process.stderr.write(`${message}\n${USAGE}\n`);
  process.exit(2);
}

function parseOptions(argv: readonly string[]): Options {
  const values = new Map<string, string>();
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at]!;
    if (/^\d+$/.test(word)) values.set("--seconds", word);
    else if (!["--seconds", "--packets", "--processes", "--kind", "--seed", "--per-job", "--summary"].includes(word))
      fail(`unknown option ${word}`);
    else values.set(word, argv[++at] ?? fail(`${word} needs a value`));
  }
  const count = (name: string, fallback: number, least = 1): number => {
    const text = values.get(name);
    if (text === undefined) return fallback;
    const value = Number(text);
    return Number.isSafeInteger(value) && value >= least
      ? value
      : fail(`${name} ${text}: a whole number from ${least}`);
  };
  const kind = values.get("--kind") as JobKind | undefined;
  if (kind !== undefined && !JOB_KINDS.includes(kind)) fail(`--kind ${kind}: one of ${JOB_KINDS.join(", ")}`);
  const packets = count("--packets", Number.POSITIVE_INFINITY);
  return {
    seconds: count("--seconds", packets === Number.POSITIVE_INFINITY ? 60 : Number.POSITIVE_INFINITY),
    packets,
    processes: count("--processes", 1),
    kinds: kind === undefined ? JOB_KINDS : [kind],
    seed: count("--seed", Math.floor(Date.now() / 1000), 0),
    packetsPerJob: count("--per-job", 20_000),
    summary: values.get("--summary") ?? null,
  };
}

interface Totals {
  jobs: number;
  compared: number;
  executions: number;
  /** Most blocks of the engine that one process has reached, of all. */
  blocks: { reached: number; all: number };
  readonly reasons: number[];
  readonly failures: { readonly job: Job; readonly command: string; readonly failure: string }[];
}

/** The command that does the same job again and nothing else. */
const commandOf = ({ kind, seed, packets }: Job): string =>
  `bun scripts/fuzz.ts --kind ${kind} --seed ${seed} --per-job ${packets} --packets 1`;

class Run {
  readonly #options: Options;
  readonly #startMs = performance.now();
  readonly totals: Totals = {
    jobs: 0,
    compared: 0,
    executions: 0,
    blocks: { reached: 0, all: 0 },
    reasons: Object.values(Reason).map(() => 0),
    failures: [],
  };

  constructor(options: Options) {
    this.#options = options;
  }

  get seconds(): number {
    return (performance.now() - this.#startMs) / 1000;
  }

  /** Whether another job may begin. */
  get goesOn(): boolean {
    const { seconds, packets, kinds } = this.#options;
    const { executions, compared, failures } = this.totals;
    // Where nothing is compared the budget is in packets decided about.
    const done = kinds.some((kind) => kind !== "alone") ? compared : executions;
    return failures.length === 0 && this.seconds < seconds && done < packets;
  }

  line(): string {
    const { jobs, compared, executions, blocks } = this.totals;
    const number = (value: number): string => value.toLocaleString("en-US");
    const rate = number(Math.round(executions / this.seconds));
    return `${Math.round(this.seconds)} s: ${number(compared)} packets compared, ${number(executions)} executions, ${number(jobs)} runs, ${rate} packets/s, ${blocks.reached} of ${blocks.all} blocks reached`;
  }

  /** Runs one child until the budget is used up; resolves when it is gone. */
  async child(index: number): Promise<void> {
    const { processes, seed, packetsPerJob, kinds } = this.#options;
    const order: ChildOrder = { firstSeed: seed + index, seedStep: processes, packetsPerJob, kinds };
    let current: Job | null = null;
    let sinceMs = performance.now();
    const child = Bun.spawn([process.execPath, CHILD, JSON.stringify(order)], {
      stdio: ["ignore", "inherit", "inherit"],
      ipc: (message: ChildMessage) => {
        current = message.event === "begins" ? message.job : null;
        sinceMs = performance.now();
        if (message.event === "done") this.#add(message);
        if (!this.goesOn) child.kill();
      },
    });
    const watch = setInterval(() => {
      if (!this.goesOn) child.kill();
      else if (current !== null && performance.now() - sinceMs > JOB_LIMIT_MS) {
        this.#fail(current, `no end after ${JOB_LIMIT_MS / 1000} s`);
        child.kill();
      }
    }, 1000);
    const status = await child.exited;
    clearInterval(watch);
    if (this.goesOn && current !== null)
      this.#fail(current, `the process ended with status ${status} in the middle of it`);
    else if (this.goesOn) fail(`a process ended with status ${status} before its first run`);
  }

  #add({ job, result }: Extract<ChildMessage, { event: "done" }>): void {
    const { totals } = this;
    totals.jobs++;
    totals.compared += result.compared;
    totals.executions += result.executions;
    if (result.blocks.reached >= totals.blocks.reached) totals.blocks = result.blocks;
    for (const [reason, count] of result.reasons.entries()) totals.reasons[reason]! += count;
    if (result.failure !== null) this.#fail(job, result.failure);
  }

  #fail(job: Job, failure: string): void {
    this.totals.failures.push({ job, command: commandOf(job), failure });
  }
}

async function main(): Promise<number> {
  const options = parseOptions(process.argv.slice(2));
  await ensureWasm();
  console.log(`kinds ${options.kinds.join(", ")}; first seed ${options.seed}; ${options.processes} process(es)`);
  const run = new Run(options);
  const progress = setInterval(() => console.log(run.line()), PROGRESS_MS);
  await Promise.all(Array.from({ length: options.processes }, (_, index) => run.child(index)));
  clearInterval(progress);
  const { totals } = run;
  for (const { failure, command } of totals.failures) console.log(`FAILED: ${failure}\nagain: ${command}`);
  const unseen = Object.entries(Reason).filter(([, reason]) => totals.reasons[reason] === 0);
  if (unseen.length > 0) console.log(`reasons not seen: ${unseen.map(([name]) => name).join(" ")}`);
  console.log(`${run.line()}, ${totals.failures.length} failed`);
  if (options.summary !== null) {
    const reasons = Object.fromEntries(Object.entries(Reason).map(([name, reason]) => [name, totals.reasons[reason]]));
    const summary = { ...totals, reasons, seconds: run.seconds, firstSeed: options.seed, kinds: options.kinds };
    writeFileSync(options.summary, `${JSON.stringify(summary, null, 2)}\n`);
  }
  return totals.failures.length > 0 ? 1 : 0;
}

process.exit(await main());
