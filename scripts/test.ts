/**
 * Runs the tests and closes with one line, `N passed, N failed, N skipped`, summed over every run of `bun test`.
 *
 *   bun scripts/test.ts [--full] [--short] [-t NAME] [PATH-PART...]
 *
 * Without options: everything under test/ but test/full/. --full adds test/full/ (browser, container image, soak,
 * kill) and sets ILB_TEST_FULL=1, by which other tests raise their counts; --short beside it runs test/full/ alone at
 * reduced counts (ILB_TEST_SHORT=1). A PATH-PART keeps the files whose path contains it, -t keeps the tests whose name matches.
 *
 * All of it happens inside a sandbox (src/lab/sandbox.ts), so that nothing a test makes can outlive the run or touch
 * the machine's own network. Where no sandbox can be had, tests that need one skip themselves by name. Files named
 * *.outside.test.ts run outside of it, because they need the network themselves (to install packages).
 *
 * Counts come from bun's JUnit report. A file that does not even load, or that ends the process, is missing there or
 * leaves no report: each such file counts as one failure.
 */
import { closeSync, existsSync, mkdtempSync, openSync, readFileSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { findSandbox } from "../src/lab/sandbox.ts";

const ROOT = join(import.meta.dir, "..");

interface Options {
  readonly full: boolean;
  readonly short: boolean;
  readonly namePattern: string | null;
  readonly pathParts: readonly string[];
}

interface Tally {
  passed: number;
  failed: number;
  readonly failures: string[];
  readonly skips: string[];
}

function usage(message: string): never {
  process.stderr.write(`${message}\nusage: npm test [-- [--full] [--short] [-t NAME] [PATH-PART...]]\n`);
  process.exit(2);
}

function parseOptions(argv: readonly string[]): Options {
  let full = false;
  let short = false;
  let namePattern: string | null = null;
  const pathParts: string[] = [];
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at] ?? "";
    if (word === "--full") full = true;
    else if (word === "--short") short = true;
    else if (word === "-t") {
      namePattern = argv[++at] ?? usage("-t needs a name");
    } else if (word.startsWith("-")) usage(`unknown option ${word}`);
    else pathParts.push(word);
  }
  return { full, short, namePattern, pathParts };
}

/** Test files of the project, by path relative to it, sorted. */
function testFiles(options: Options): string[] {
  const all = [...new Bun.Glob("test/**/*.test.ts").scanSync({ cwd: ROOT })].sort();
  return all
    .filter((path) => {
      const isFull = path.startsWith("test/full/");
      if (options.full && options.short) return isFull;
      return options.full || !isFull;
    })
    .filter((path) => options.pathParts.length === 0 || options.pathParts.some((part) => path.includes(part)));
}

function unescapeXml(text: string): string {
  return text.replace(/&(lt|gt|quot|apos|amp|#\d+);/g, (whole, name: string) => {
    const named: Record<string, string> = { lt: "<", gt: ">", quot: '"', apos: "'", amp: "&" };
    return name.startsWith("#") ? String.fromCodePoint(Number(name.slice(1))) : (named[name] ?? whole);
  });
}

/** Adds one JUnit report to the tally, test case by test case. */
function countReport(xml: string, files: readonly string[], tally: Tally): void {
  const seen = new Set<string>();
  for (const match of xml.matchAll(/<testcase ([^>]*?)(\/>|>([\s\S]*?)<\/testcase>)/g)) {
    const attributes = match[1] ?? "";
    const attribute = (name: string) => unescapeXml(new RegExp(`\\b${name}="([^"]*)"`).exec(attributes)?.[1] ?? "");
    const body = match[3] ?? "";
    const file = attribute("file");
    const group = attribute("classname").split(" > ").reverse().join(" > ");
    const name = `${file}: ${group === "" ? "" : `${group} > `}${attribute("name")}`;
    seen.add(file);
    if (/<(failure|error)\b/.test(body)) {
      tally.failed++;
      tally.failures.push(name);
    } else if (/<skipped\b/.test(body)) tally.skips.push(name);
    else tally.passed++;
  }
  for (const file of files) {
    if (seen.has(file)) continue;
    tally.failed++;
    tally.failures.push(`${file}: the file holds no test that ran (it may not load)`);
  }
}

interface Group {
  readonly holds: (path: string) => boolean;
  readonly inSandbox: boolean;
}

/** Of the end to end tests, those that wait most of their time: for checks, timers, and clients that give up. */
const WAITING = /^test\/e2e\/(commands|health|lifecycle|netbackup-test|policy)/;

/**
 * Runs that do not share a process: daemons under test cannot take unit tests with them when they crash. Those of one
 * stage run side by side, each in a sandbox of its own: while some wait others compute.
 */
const STAGES: readonly (readonly Group[])[] = [
  [
    { holds: (path) => path.startsWith("test/e2e/") && !WAITING.test(path), inSandbox: true },
    { holds: (path) => WAITING.test(path), inSandbox: true },
    { holds: (path) => !/^test\/(e2e|full)\//.test(path), inSandbox: true },
  ],
  [{ holds: (path) => path.startsWith("test/full/") && !path.endsWith(".outside.test.ts"), inSandbox: true }],
  [{ holds: (path) => path.endsWith(".outside.test.ts"), inSandbox: false }],
];

/** A test, or a hook of one, that takes so long hangs. On quiet cores hardly one takes ten seconds. */
const HANGING_MS = 180_000;

const emptyTally = (): Tally => ({ passed: 0, failed: 0, failures: [], skips: [] });

/** Runs one stage. The first group with files speaks at once, the others when they have ended. */
async function runStage(groups: readonly Group[], files: readonly string[], options: Options): Promise<Tally[]> {
  const runs = groups
    .map(({ holds, inSandbox }) => ({ files: files.filter(holds), inSandbox }))
    .filter((run) => run.files.length > 0);
  return Promise.all(runs.map((run, index) => runFiles(run.files, run.inSandbox, index === 0, options)));
}

/** One `bun test` over these files. @param speaks its output goes out as it comes, else in one piece at the end */
async function runFiles(
  files: readonly string[],
  inSandbox: boolean,
  speaks: boolean,
  options: Options,
): Promise<Tally> {
  const tally = emptyTally();
  const scratch = mkdtempSync(join(tmpdir(), "ilb-test-"));
  const report = join(scratch, "junit.xml");
  const argv = [
    process.execPath,
    "test",
    `--timeout=${HANGING_MS}`,
    "--reporter=junit",
    `--reporter-outfile=${report}`,
  ];
  if (options.namePattern !== null) argv.push("-t", options.namePattern);
  argv.push(...files.map((path) => `./${path}`));
  const sandbox = findSandbox();
  if (!sandbox.available) process.stderr.write(`tests that need a network are skipped: ${sandbox.reason}\n`);
  const transcript = join(scratch, "output.txt");
  const output = speaks ? "inherit" : openSync(transcript, "w");
  const run = Bun.spawn(sandbox.available && inSandbox ? sandbox.wrap(argv) : argv, {
    cwd: ROOT,
    stdin: "ignore",
    stdout: output,
    stderr: output,
    env: {
      ...process.env,
      ...(options.full ? { ILB_TEST_FULL: "1" } : {}),
      ...(options.short ? { ILB_TEST_SHORT: "1" } : {}),
    },
  });
  const status = await run.exited;
  if (typeof output === "number") {
    closeSync(output);
    process.stderr.write(readFileSync(transcript));
  }
  if (existsSync(report)) {
    // With -t, files without a matching test have nothing to report.
    countReport(readFileSync(report, "utf8"), options.namePattern === null ? files : [], tally);
  }
  if (status !== 0 && tally.failed === 0) {
    tally.failed++;
    tally.failures.push(`bun test ended with status ${status} and no failed test to show for it`);
  }
  rmSync(scratch, { recursive: true, force: true });
  return tally;
}

async function main(): Promise<void> {
  const options = parseOptions(process.argv.slice(2));
  const files = testFiles(options);
  if (files.length === 0) usage("no test file matches");
  // Other users read and run what tests make, and some tests say who may write what.
  process.umask(0o022);
  const tally = emptyTally();
  for (const groups of STAGES) {
    for (const part of await runStage(groups, files, options)) {
      tally.passed += part.passed;
      tally.failed += part.failed;
      tally.failures.push(...part.failures);
      tally.skips.push(...part.skips);
    }
  }
  for (const name of new Set(tally.skips)) console.log(`skipped: ${name}`);
  for (const name of tally.failures) console.log(`FAILED: ${name}`);
  console.log(`${tally.passed} passed, ${tally.failed} failed, ${tally.skips.length} skipped`);
  process.exit(tally.failed > 0 || tally.passed === 0 ? 1 : 0);
}

await main();
