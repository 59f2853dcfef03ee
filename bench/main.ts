/**
 * Runs the benchmarks: `npm run bench [-- --only PATTERN] [--json FILE] [--quick] [--rounds N]`.
 *
 * Every row compares us with a peer in rounds that take turns, inside one process or one laboratory; docs/bench/README.md
 * says how to read what comes out. Runs inside a sandbox, so that laboratory rows leave the machine as it was, also
 * after Ctrl-C.
 */
import { writeFileSync } from "node:fs";
import { join, resolve } from "node:path";
import { findSandbox, SANDBOX_VARIABLE } from "../src/lab/sandbox.ts";
import { findRows } from "./harness/catalogue.ts";
import { describeMachine } from "./harness/machine.ts";
import type { Assignment, RowMessage } from "./harness/messages.ts";
import { type Report, writePages } from "./harness/pages.ts";
import { closingText, machineText, type Omission, resultText } from "./harness/report.ts";
import type { BenchResult, BenchRow } from "./row.ts";

const ROUNDS = 5;
const ROUNDS_QUICK = 3;
/** So that some forty rows of five or three rounds, two sides and their building end in 20 and 6 minutes. */
const SIDE_MS = 1500;
const SIDE_MS_QUICK = 500;
const INTERRUPTED = 130;
const ROOT = join(import.meta.dir, "..");

interface Options {
  readonly only: RegExp | null;
  readonly json: string | null;
  readonly quick: boolean;
  readonly rounds: number;
}

function usage(message: string): never {
  process.stderr.write(`${message}\nusage: npm run bench [-- --only PATTERN] [--json FILE] [--quick] [--rounds N]\n`);
  process.exit(2);
}

function parseOptions(argv: readonly string[]): Options {
  let only: RegExp | null = null;
  let json: string | null = null;
  let quick = false;
  let rounds: number | null = null;
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? "";
    const value = () => argv[++at] ?? usage(`${word} needs a value`);
    if (word === "--quick") quick = true;
    else if (word === "--json") json = resolve(value());
    else if (word === "--rounds") {
      rounds = Number(value());
      if (!Number.isInteger(rounds) || rounds < 1 || rounds > 1000) usage("--rounds takes a number from 1 to 1000");
    } else if (word === "--only") {
      const pattern = value();
      try {
        only = new RegExp(pattern, "i");
      } catch {
        usage(`--only: ${pattern} is not a regular expression`);
      }
    } else usage(`unknown option ${word}`);
  }
  return { only, json, quick, rounds: rounds ?? (quick ? ROUNDS_QUICK : ROUNDS) };
}

/** The same command inside a sandbox, when this is not one and one is to be had. */
async function enterSandbox(): Promise<void> {
  if (process.env[SANDBOX_VARIABLE] === "1") return;
  const sandbox = findSandbox();
  if (!sandbox.available) {
    console.error(`rows that need a network are left out: ${sandbox.reason}`);
    return;
  }
  const argv = sandbox.wrap([process.execPath, import.meta.path, ...process.argv.slice(2)]);
  const inside = Bun.spawn(argv, { stdio: ["ignore", "inherit", "inherit"] });
  // A Ctrl-C reaches everybody on the terminal; whoever has something to clean up ends first.
  process.on("SIGINT", () => undefined);
  process.on("SIGTERM", () => inside.kill("SIGKILL"));
  process.exit(await inside.exited);
}

/** One line that is written over again on a terminal, and a line per row elsewhere. */
class Progress {
  readonly #total: number;
  readonly #rounds: number;
  readonly #start = performance.now();
  #begun = new Set<string>();

  constructor(total: number, rounds: number) {
    this.#total = total;
    this.#rounds = rounds;
  }

  show(id: string, round: number): void {
    const isNew = !this.#begun.has(id);
    this.#begun.add(id);
    const minutes = ((performance.now() - this.#start) / 60_000).toFixed(1);
    const doing = round === 0 ? "warming up" : `round ${round} of ${this.#rounds}`;
    const text = `[${this.#begun.size}/${this.#total}, ${minutes} min] ${id}: ${doing}`;
    if (process.stderr.isTTY) process.stderr.write(`\r\x1b[K${text}`);
    else if (isNew) process.stderr.write(`${text}\n`);
  }

  clear(): void {
    if (process.stderr.isTTY) process.stderr.write("\r\x1b[K");
  }
}

/** What a run has come to so far. */
class Run {
  readonly results: BenchResult[] = [];
  readonly skipped: Omission[] = [];
  readonly failed: Omission[] = [];
  readonly #options: Options;
  readonly #progress: Progress;
  #child: Bun.Subprocess | null = null;
  interrupted = false;

  constructor(options: Options, rows: number) {
    this.#options = options;
    this.#progress = new Progress(rows, options.rounds);
    for (const signal of ["SIGINT", "SIGTERM"] as const) process.on(signal, () => this.#interrupt());
  }

  /** Once: the row process takes down what it has built. Twice: at once. */
  #interrupt(): void {
    this.#child?.kill(this.interrupted ? "SIGKILL" : "SIGTERM");
    this.interrupted = true;
  }

  /** Measures rows of one fixture in a process of their own. */
  async measure(rows: readonly BenchRow[]): Promise<void> {
    const { quick, rounds } = this.#options;
    const open = new Set(rows.map(({ id }) => id));
    const assignment: Assignment = { ids: [...open], quick, rounds, sideMs: quick ? SIDE_MS_QUICK : SIDE_MS };
    const argv = [process.execPath, join(import.meta.dir, "harness/child.ts"), JSON.stringify(assignment)];
    this.#child = Bun.spawn(argv, {
      stdio: ["ignore", "inherit", "inherit"],
      ipc: (message: RowMessage) => {
        if (message.kind !== "round") open.delete(message.kind === "result" ? message.result.id : message.id);
        this.#take(message);
      },
    });
    const status = await this.#child.exited;
    this.#child = null;
    if (!this.interrupted)
      for (const id of open) this.#take({ kind: "failed", id, reason: `its process ended with status ${status}` });
  }

  #take(message: RowMessage): void {
    if (message.kind === "round") this.#progress.show(message.id, message.round);
    else if (!this.interrupted) this.#finish(message);
  }

  #finish(message: Exclude<RowMessage, { kind: "round" }>): void {
    this.#progress.clear();
    if (message.kind === "result") {
      this.results.push(message.result);
      console.log(resultText(message.result));
      return;
    }
    const { id, reason } = message;
    (message.kind === "skipped" ? this.skipped : this.failed).push({ id, reason });
    console.log(`${id}: ${message.kind === "skipped" ? "left out" : "FAILED"}: ${reason}\n`);
  }
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  await enterSandbox();
  const rows = (await findRows()).filter((row) => options.only === null || options.only.test(row.id));
  if (rows.length === 0) usage("no row matches");
  const machine = describeMachine();
  console.log(`${machineText(machine)}\n`);
  const run = new Run(options, rows.length);
  for (const [, fixture] of Map.groupBy(rows, (row) => row.fixture ?? `row ${row.id}`)) {
    if (run.interrupted) break;
    await run.measure(fixture);
  }
  if (run.interrupted) {
    console.error("\ninterrupted; everything that was built has been taken down");
    process.exit(INTERRUPTED);
  }
  const { results, skipped, failed } = run;
  const report: Report = { machine, rows: results, skipped };
  if (options.json !== null) writeFileSync(options.json, `${JSON.stringify(report, null, 2)}\n`);
  const isWhole = options.only === null && !options.quick && failed.length === 0;
  // A whole run that took its time is worth keeping; every other goes beside what was built.
  const folder = join(ROOT, isWhole ? "docs/bench" : "build/bench");
  if (results.length > 0) {
    writePages(folder, report);
    console.log(`charts and table: ${folder}`);
  }
  console.log(`\n${closingText(results, skipped, failed)}`);
  process.exit(failed.length > 0 || results.length === 0 ? 1 : 0);
}

await main();
