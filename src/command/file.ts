/**
 * Import: a text of commands, one per line, becomes one change. Every line is judged against a copy, and then all of it
 * takes effect or nothing. The way back, a configuration as such a text, is export.ts.
 */
import type { Config } from "../model/config.ts";
import { EMPTY_CONFIG } from "../model/config.ts";
import { type Failure, ok, type Result } from "../model/result.ts";
import { apply } from "./apply.ts";
import { bind } from "./bind.ts";
import type { Change, Command, Query, Right } from "./command.ts";
import { failed } from "./errors.ts";
import type { ChangeContext, CommandHost } from "./host.ts";
import { listJson } from "./json-listings.ts";
import { checkNames, list } from "./listings.ts";
import { guardRemarks } from "./nat-guard.ts";
import { Pace } from "./pace.ts";
import { type Plan, planOf } from "./plan.ts";
import { printCommand } from "./print.ts";
import { hasNames, lookUpNames } from "./request.ts";
import type { Resolver } from "./service-names.ts";
import { findSubcommand, SUBCOMMANDS, unknownSubcommand } from "./spec.ts";
import { checkStatisticsNames, listStatistics } from "./statistics.ts";
import { scan } from "./text.ts";

/** A command line of a file. */
export interface FileLine {
  /** The first of continued lines, counted from 1 over all lines. */
  readonly number: number;
  readonly words: readonly string[];
}

/** Words between blanks and tabs. There is no quoting. */
export function splitWords(line: string): string[] {
  return line.split(/[ \t]+/).filter((word) => word !== "");
}

/** The command lines of a text: continued lines joined, comments and blank lines left out, CR before a newline ignored. */
export function* readLines(text: string): Generator<FileLine> {
  const lines = text.replace(/^\uFEFF/, "").split("\n");
  for (let i = 0; i < lines.length; i++) {
    const number = i + 1;
    let line = (lines[i] as string).replace(/\r$/, "");
    if (line.startsWith("#")) continue;
    while (line.endsWith("\\")) {
      line = line.slice(0, -1);
      if (i + 1 >= lines.length) break;
      line += (lines[++i] as string).replace(/\r$/, "");
    }
    const words = splitWords(line);
    if (words.length > 0) yield { number, words };
  }
}

/** One line, ready to be judged against a configuration. */
interface Step {
  readonly number: number;
  readonly command: Extract<Command, { kind: "changes" }> | Query;
}

interface FailedLine {
  readonly number: number;
  readonly cause: Failure;
}

/** A listing in the file, with the configuration that it is to show. */
interface PendingListing {
  readonly number: number;
  readonly query: Query;
  readonly config: Config;
}

interface Folded {
  readonly config: Config;
  readonly listings: readonly PendingListing[];
  readonly failed: FailedLine | null;
}

export interface ImportOptions {
  readonly right: (needed: Right, line: string) => boolean;
  /** Nothing is deleted first. */
  readonly preserve: boolean;
  /** How errors name the text: a file name, or `-`. */
  readonly name: string;
  /** What audit log and history keep. */
  readonly audit: string;
}

type LineCheck = Result<Step["command"]>;

async function readStep(line: FileLine, resolver: Resolver, right: ImportOptions["right"]): Promise<LineCheck> {
  const spec = findSubcommand(line.words[0] as string);
  if (spec === undefined) return unknownSubcommand(line.words[0] as string);
  if (spec.long === "import-config") return failed("E-RECURSIVE");
  if (spec.long === "export-config" || spec.long === "export-policy") return failed("E-EXPORT-IN-IMPORT");
  if (spec.long === "rollback") return failed("E-ROLLBACK-IN-IMPORT");
  if (spec.long === "test-connection") return failed("E-TEST-IN-IMPORT");
  const request = scan(spec, line.words.slice(1), true);
  if (!request.ok) return request;
  const named = hasNames(request.value) ? await lookUpNames(request.value, resolver) : request;
  if (!named.ok) return named;
  const command = bind(named.value);
  if (!command.ok) return command;
  // Only the caller's process reads files.
  if (command.value.kind === "port-file") return failed("E-ARGS");
  if (!right(spec.right, printCommand(command.value))) return failed("E-AUTH");
  // A file has an end, so nothing in it may be endless.
  if (isEndless(command.value)) return failed("E-ARGS");
  return command as LineCheck;
}

/** Whether the command never ends by itself. */
export function isEndless(command: Command): boolean {
  return command.kind === "show-statistics" && command.intervalSeconds !== null && command.count === null;
}

/** Every line up to the first that is no command. Looks names up; asks nothing of the configuration. */
async function readSteps(
  text: string,
  resolver: Resolver,
  right: ImportOptions["right"],
): Promise<{ steps: Step[]; failed: FailedLine | null }> {
  const steps: Step[] = [];
  const pace = new Pace();
  for (const line of readLines(text)) {
    await pace.breathe();
    const command = await readStep(line, resolver, right);
    if (!command.ok) return { steps, failed: { number: line.number, cause: command.failure } };
    steps.push({ number: line.number, command: command.value });
  }
  return { steps, failed: null };
}

function checkQuery(query: Query, config: Config): Result<void> {
  return query.kind === "show-statistics" ? checkStatisticsNames(query, config) : checkNames(query, config);
}

/** Carries the steps out on a copy. Changes nothing else; stops at the first that fails. */
async function fold(start: Config, steps: readonly Step[], context: ChangeContext): Promise<Folded> {
  let config = start;
  const listings: PendingListing[] = [];
  const pace = new Pace();
  for (const { number, command } of steps) {
    await pace.breathe();
    if (command.kind !== "changes") {
      listings.push({ number, query: command, config });
      const names = checkQuery(command, config);
      // The listing itself prints what comes before the failure and then fails.
      if (!names.ok) return { config, listings, failed: { number, cause: names.failure } };
      continue;
    }
    for (const change of command.changes) {
      const changed = apply(config, change, context);
      if (!changed.ok) {
        return { config, listings, failed: { number, cause: describeFailure(change, changed.failure) } };
      }
      config = changed.value;
    }
  }
  return { config, listings, failed: null };
}

/** A change's failure as its subcommand reports it: some name the operand at fault. */
export function describeFailure(change: Change, cause: Failure): Failure {
  const operand = SUBCOMMANDS[change.kind].namesOperand && "name" in change ? change.name : null;
  return operand === null ? cause : { ...cause, text: `${operand}: ${cause.text}` };
}

/** Errors of a line name the text and the line. */
function lineFailure(options: ImportOptions, { number, cause }: FailedLine): Result<never> {
  return { ok: false, failure: { ...cause, text: `${options.name}: line ${number}: ${cause.text}` } };
}

async function* printListings(
  listings: readonly PendingListing[],
  host: CommandHost,
): AsyncGenerator<string, void, void> {
  for (const { query, config } of listings) {
    if (query.json || (query.kind === "show-flows" && query.form === "json")) yield* listJson(query, config, host);
    else if (query.kind === "show-statistics") yield* listStatistics(query, host, () => config);
    else yield* list(query, config, host);
  }
}

/** Nothing but what a file of the load balancer does not speak of: NetBackup's hosts, settings and ports. */
const emptied = ({ nextId, netbackup }: Config): Config => Object.freeze({ ...EMPTY_CONFIG, nextId, netbackup });

/** What an import of the text would do now. Nothing changes and the text's show-* lines print nothing. */
export async function planImport(
  text: string,
  host: CommandHost,
  options: ImportOptions,
  resolver: Resolver = host,
): Promise<Result<Plan>> {
  const read = await readSteps(text, resolver, options.right);
  const running = host.config();
  const folded = await fold(options.preserve ? running : emptied(running), read.steps, host.changeContext());
  const wrong = folded.failed ?? read.failed;
  if (wrong !== null) return lineFailure(options, wrong);
  return ok(planOf(running, folded.config, host.flowCounts?.() ?? []));
}

/**
 * Imports a text as one change. Yields what its show-* lines print, each against the configuration at its turn.
 * @returns success, or the failure of the first line that fails, its text led by name and line; then nothing has changed
 */
export async function* importLines(
  text: string,
  host: CommandHost,
  options: ImportOptions,
  resolver: Resolver = host,
): AsyncGenerator<string, Result<void>, void> {
  const read = await readSteps(text, resolver, options.right);
  const start = (config: Config): Config => (options.preserve ? config : emptied(config));
  if (read.failed !== null) {
    // A line before it may fail against the configuration: then that one is the first.
    const folded = await fold(start(host.config()), read.steps, host.changeContext());
    yield* printListings(folded.listings, host);
    return lineFailure(options, folded.failed ?? read.failed);
  }
  let folded: Folded | null = null;
  const done = await host.transact(options.audit, async (config, context) => {
    folded = await fold(start(config), read.steps, context);
    return folded.failed === null ? ok(folded.config) : lineFailure(options, folded.failed);
  });
  const outcome = folded as Folded | null;
  if (done.ok) {
    const made = read.steps.flatMap(({ command }) => (command.kind === "changes" ? command.changes : []));
    for (const remark of guardRemarks(host.config(), made)) resolver.remark?.(remark);
  }
  if (outcome !== null && (done.ok || outcome.failed !== null)) yield* printListings(outcome.listings, host);
  return done;
}
