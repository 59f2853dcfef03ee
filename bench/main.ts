/**
 * Runs the benchmarks: `bun bench/main.ts [--only PATTERN] [--json FILE] [--quick]`.
 *
 * Every row compares us with a peer, in rounds that take turns, inside one process or one laboratory. The result is
 * the median with the range over the rounds; on a small shared machine do not read a difference below some 15 % as
 * real. Runs inside a sandbox, so that laboratory rows leave the machine as it was.
 */
import { readFileSync, writeFileSync } from "node:fs";
import { cpus, release, totalmem } from "node:os";
import { join, resolve } from "node:path";
import { findSandbox, SANDBOX_VARIABLE } from "../src/lab/sandbox.ts";
import { type BenchResult, type BenchRow, measure } from "./row.ts";

const ROUNDS = 5;

interface Options {
  readonly only: RegExp | null;
  readonly json: string | null;
  readonly quick: boolean;
}

function usage(message: string): never {
  process.stderr.write(`${message}\nusage: npm run bench [-- --only PATTERN] [--json FILE] [--quick]\n`);
  process.exit(2);
}

function parseOptions(argv: readonly string[]): Options {
  let only: RegExp | null = null;
  let json: string | null = null;
  let quick = false;
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? "";
    const value = () => argv[++at] ?? usage(`${word} needs a value`);
    if (word === "--quick") quick = true;
    else if (word === "--json") json = resolve(value());
    else if (word === "--only") {
      const pattern = value();
      try {
        only = new RegExp(pattern, "i");
      } catch {
        usage(`--only: ${pattern} is not a regular expression`);
      }
    } else usage(`unknown option ${word}`);
  }
  return { only, json, quick };
}

/** First line that a program prints about its version. */
function version(...argv: string[]): string {
  try {
    const run = Bun.spawnSync(argv, { stdout: "pipe", stderr: "pipe" });
    return `${run.stdout}${run.stderr}`.trim().split("\n")[0] ?? "";
  } catch {
    return "absent";
  }
}

function describeMachine() {
  const processors = cpus();
  const packages = JSON.parse(readFileSync(join(import.meta.dir, "../package.json"), "utf8")) as {
    devDependencies: Record<string, string>;
  };
  return {
    cpu: processors[0]?.model.trim() ?? "unknown",
    cores: processors.length,
    memoryGiB: Math.round(totalmem() / 2 ** 30),
    kernel: release(),
    bun: Bun.version,
    assemblyscript: packages.devDependencies.assemblyscript ?? "",
    nft: version("nft", "--version"),
    iperf3: version("iperf3", "--version"),
    date: new Date().toISOString().slice(0, 10),
  };
}

async function findRows(): Promise<BenchRow[]> {
  const files = [...new Bun.Glob("**/*.row.ts").scanSync({ cwd: import.meta.dir })].sort();
  const modules = await Promise.all(
    files.map((file) => import(join(import.meta.dir, file)) as Promise<{ default: readonly BenchRow[] }>),
  );
  return modules.flatMap((module) => module.default);
}

function digits(value: number): string {
  return value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2);
}

function printResult(row: BenchRow, result: BenchResult): void {
  const side = (name: string, middle: number, low: number, high: number) =>
    `  ${name.padEnd(26)}${digits(middle).padStart(8)} ${result.unit.padEnd(10)} [${digits(low)} - ${digits(high)}]`;
  console.log(`${row.id}: ${row.what}`);
  console.log(side("ours", result.ours, result.oursLow, result.oursHigh));
  console.log(side(result.peerName, result.peer, result.peerLow, result.peerHigh));
  const ratio = `${digits(result.ratio)}`.padStart(8);
  console.log(
    `  ${"ratio (above 1: ours)".padEnd(26)}${ratio} ${"".padEnd(10)} [${digits(result.ratioLow)} - ${digits(result.ratioHigh)}] over ${result.rounds} rounds\n`,
  );
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
  process.exit(await Bun.spawn(argv, { stdio: ["ignore", "inherit", "inherit"] }).exited);
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  await enterSandbox();
  const rows = (await findRows()).filter((row) => options.only === null || options.only.test(row.id));
  if (rows.length === 0) usage("no row matches");
  const machine = describeMachine();
  console.log(
    Object.entries(machine)
      .map(([name, value]) => `${name} ${value}`)
      .join(", "),
  );
  console.log();
  const results: BenchResult[] = [];
  let failures = 0;
  for (const row of rows) {
    const reason = row.unavailable?.() ?? null;
    if (reason !== null) {
      console.log(`${row.id}: left out: ${reason}\n`);
      continue;
    }
    try {
      const result = await measure(row, { quick: options.quick }, ROUNDS);
      results.push(result);
      printResult(row, result);
    } catch (error) {
      failures++;
      console.log(`${row.id}: FAILED: ${error instanceof Error ? error.message : String(error)}\n`);
    }
  }
  if (options.json !== null) writeFileSync(options.json, `${JSON.stringify({ machine, rows: results }, null, 2)}\n`);
  process.exit(failures > 0 || results.length === 0 ? 1 : 0);
}

await main();
