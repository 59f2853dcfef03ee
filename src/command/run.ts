/**
 * One command from words to bytes: parse, look names up, check rights, change or list. The daemon runs every command
 * line through here, whether it came from the shell, from HTTP or from a file, so that all three print the same bytes.
 * The command line program uses `check` and `fileUse` of this file and asks the daemon for the rest.
 */
import { version } from "../../package.json";
import { type Failure, ok, type Result } from "../model/result.ts";
import { readCloudStore } from "../netbackup/cloudstore.ts";
import { apply } from "./apply.ts";
import { bind } from "./bind.ts";
import { parseSetPort } from "./bind-netbackup.ts";
import type {
  Change,
  Command,
  ImportConfig,
  PortFile,
  Query,
  Right,
  Rollback,
  ShowStatistics,
  SubcommandName,
  TestConnection,
} from "./command.ts";
import { completionScript } from "./completion-scripts.ts";
import { errorText, failed, failure } from "./errors.ts";
import { exportLines } from "./export.ts";
import { describeFailure, type ImportOptions, importLines, isEndless, planImport } from "./file.ts";
import type { CommandHost } from "./host.ts";
import { listJson } from "./json-listings.ts";
import { type Listing, list } from "./listings.ts";
import { guardRemarks } from "./nat-guard.ts";
import { Pace } from "./pace.ts";
import { isDifferent, type Plan, planLines, planOf } from "./plan.ts";
import { printChange, printCommand } from "./print.ts";
import { hasNames, lookUpNames, type Request } from "./request.ts";
import type { Resolver } from "./service-names.ts";
import { FRAME_WORDS, findSubcommand, SUBCOMMANDS, type SubcommandSpec, unknownSubcommand } from "./spec.ts";
import { listStatistics } from "./statistics.ts";
import { type TestFindings, testLines, testOf, testView } from "./test-connection.ts";
import { scan } from "./text.ts";
import { frameHelp, subcommandHelp, usageList } from "./usage.ts";
import { stringify } from "./views.ts";

/** A piece of output. Pieces come in the order in which they are to be written. */
export interface Chunk {
  readonly stdout?: string;
  readonly stderr?: string;
}

export type Origin = "shell" | "http" | "import";

export interface RunOptions {
  /**
   * May the caller do this? Asked before anything is changed or shown.
   * @param line the canonical command line, so that a refusal can be audited
   */
  readonly right: (needed: Right, line: string) => boolean;
  /**
   * `shell`: the caller's process opens FILE operands itself and can follow an endless answer. `http`: FILE operands,
   * import-config without `input` and an INTERVAL without COUNT are refused. `import`: a line of a file (its lenient
   * spelling of create-rule is accepted).
   */
  readonly origin: Origin;
  /** The text that import-config reads, and set-port -f. */
  readonly input?: string;
  /** How errors name the text, `-` for standard input; default: the FILE operand or `-`. */
  readonly inputName?: string;
}

/** What the caller's process can say by itself, without a daemon. */
export interface LocalAnswer {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

/** Listings are handed on in pieces of about so many characters; statistics sample by sample. */
const CHUNK_LENGTH = 32 * 1024;

/** Every diagnostic begins with it. */
const line = (text: string): string => `ilbadm: ${text}\n`;
const lines = ({ text, hint }: Failure): string => line(text) + (hint === undefined ? "" : line(`hint: ${hint}`));
const refuse = (reason: Failure): Chunk => ({ stderr: lines(reason) });

const answer = (status: number, stdout: string, stderr: string): LocalAnswer => ({ stdout, stderr, status });

const HELP_OPTION = "--help";

function help([name, ...rest]: readonly string[]): LocalAnswer {
  if (name === undefined) return answer(0, usageList(), "");
  if (rest.length > 0) return answer(1, "", line(errorText("E-ARGS")));
  const spec = findSubcommand(name);
  if (spec !== undefined) return answer(0, subcommandHelp(spec), "");
  const frame = Object.values(FRAME_WORDS).find(({ word }) => word === name.toLowerCase());
  if (frame !== undefined) return answer(0, frameHelp(frame), "");
  const unknown = unknownSubcommand(name);
  return unknown.ok ? answer(0, "", "") : answer(1, "", lines(unknown.failure));
}

function completion(shell: string | undefined): LocalAnswer {
  const script = completionScript(shell ?? "");
  const { word, synopsis } = FRAME_WORDS.completion;
  return script === null ? answer(1, "", line(errorText("E-USAGE", `${word} ${synopsis}`))) : answer(0, script, "");
}

/** Answers to words that are no subcommand; null for anything else. */
function answerFrame(argv: readonly string[]): LocalAnswer | null {
  const word = argv[0];
  switch (word?.toLowerCase()) {
    case undefined:
      return answer(1, "", line(errorText("E-INCOMPLETE")) + usageList());
    case "-?":
      return answer(1, "", usageList());
    case HELP_OPTION:
      return answer(0, usageList(), "");
    case FRAME_WORDS.help.word:
      return help(argv[1] === HELP_OPTION ? [FRAME_WORDS.help.word] : argv.slice(1));
    case FRAME_WORDS.completion.word:
      return argv[1] === HELP_OPTION ? help(argv.slice(0, 1)) : completion(argv[1]);
    case "-v":
      return word === "-V" ? answer(0, `ilbadm ${version}\n`, "") : null;
    default:
      // An addition: no subcommand has an option of this name.
      return argv[1] === HELP_OPTION ? help(argv.slice(0, 1)) : null;
  }
}

type Parsed =
  | { readonly kind: "answer"; readonly answer: LocalAnswer }
  | { readonly kind: "request"; readonly spec: SubcommandSpec; readonly request: Request };

/** Syntax alone: an answer that needs no daemon, or a request. */
function parse(argv: readonly string[], origin: Origin): Parsed {
  const frame = answerFrame(argv);
  if (frame !== null) return { kind: "answer", answer: frame };
  const word = argv[0] as string;
  const spec = findSubcommand(word);
  const request = spec ? scan(spec, argv.slice(1), origin === "import") : unknownSubcommand(word);
  if (!request.ok) return { kind: "answer", answer: answer(1, "", lines(request.failure)) };
  return { kind: "request", spec: request.value.spec, request: request.value };
}

/**
 * Looks at a command line without a daemon. @returns the whole answer if no daemon is needed (help, version, an error
 * of syntax: same texts, same order as `run`), null if the daemon must be asked. Never changes or resolves anything.
 */
export function check(argv: readonly string[]): LocalAnswer | null {
  const parsed = parse(argv, "shell");
  if (parsed.kind === "answer") return parsed.answer;
  // What is wrong behind a name is for the daemon to say, after it has looked the name up.
  if (hasNames(parsed.request)) return null;
  const command = bind(parsed.request);
  return command.ok ? null : answer(1, "", lines(command.failure));
}

/** What a command line wants of the caller's files. `file` null: standard input or output. */
export interface FileUse {
  readonly access: "read" | "write";
  readonly file: string | null;
  readonly preserve: boolean;
  readonly dryRun: boolean;
  /** Whether a text that is read is an import, or belongs to the command itself. */
  readonly isImport: boolean;
}

/** Subcommands that may name a file of the caller's. */
const USE_FILES: readonly string[] = [
  "import-config",
  "export-config",
  "export-policy",
  "set-port",
] satisfies SubcommandName[];

/** What a correct command line wants of the caller's files; null: nothing. */
export function fileUse(argv: readonly string[]): FileUse | null {
  const parsed = parse(argv, "shell");
  // Others may hold names, which only the daemon looks up, and cannot be bound here.
  if (parsed.kind === "answer" || !USE_FILES.includes(parsed.spec.long)) return null;
  const command = bind(parsed.request);
  if (!command.ok) return null;
  const { value } = command;
  if (value.kind === "import-config")
    return { access: "read", file: value.file, preserve: value.preserve, dryRun: value.dryRun, isImport: true };
  if (value.kind === "port-file")
    return { access: "read", file: value.file, preserve: false, dryRun: false, isImport: false };
  if (value.kind !== "export-config" && value.kind !== "export-policy") return null;
  return { access: "write", file: value.file, preserve: false, dryRun: false, isImport: false };
}

/** Whether a correct command line waits between parts of its answer (statistics with an INTERVAL). */
export function isTimed(argv: readonly string[]): boolean {
  const parsed = parse(argv, "shell");
  if (parsed.kind === "answer" || parsed.spec.long !== "show-statistics") return false;
  const command = bind(parsed.request);
  return command.ok && command.value.kind === "show-statistics" && command.value.intervalSeconds !== null;
}

/** What the caller's program prints when it cannot open the file of import-config: the error and the usage list. */
export function unreadableFile(file: string): LocalAnswer {
  return answer(1, "", line(errorText("E-OPENREAD", file)) + usageList());
}

/** Puts small pieces together, in order. */
async function* inChunks(listing: Listing): AsyncGenerator<Chunk, Result<void>, void> {
  let pending = "";
  for (;;) {
    const step = await listing.next();
    if (!step.done) pending += step.value;
    if (pending !== "" && (step.done || pending.length >= CHUNK_LENGTH)) {
      yield { stdout: pending };
      pending = "";
    }
    if (step.done) return step.value;
  }
}

/** Hands every piece on at once. */
async function* asTheyCome<T>(
  listing: AsyncGenerator<string, Result<T>, void>,
): AsyncGenerator<Chunk, Result<T>, void> {
  for (;;) {
    const step = await listing.next();
    if (step.done) return step.value;
    yield { stdout: step.value };
  }
}

async function* exportListing(host: CommandHost): Listing {
  yield* exportLines(host.config());
  return ok(undefined);
}

/** Whether to go on with the next operand after this failure. */
function goesOn(spec: SubcommandSpec, reason: Failure): boolean {
  return spec.goOnAfter === "any" || spec.goOnAfter.some((code) => code === reason.code);
}

const hintsOf = (host: CommandHost, change: Change): readonly string[] => host.hints?.(change) ?? [];

/** A change and why it was refused; null: it was made. */
interface Outcome {
  readonly change: Change;
  readonly failure: Failure | null;
}

/** The operands of one command line, in order, those that can be made in one step together. */
async function* runChanges(
  subcommand: Change["kind"],
  changes: readonly Change[],
  host: CommandHost,
): AsyncGenerator<Chunk, number, void> {
  const spec = SUBCOMMANDS[subcommand];
  const together = changes.length > 1 ? await changeTogether(spec, changes, host) : null;
  let status = 0;
  const made: Change[] = [];
  for await (const { change, failure } of together ?? oneByOne(spec, changes, host)) {
    if (failure === null) {
      made.push(change);
      yield* remarksOf(hintsOf(host, change));
      continue;
    }
    status = 1;
    yield refuse(describeFailure(change, failure));
  }
  yield* remarksOf(guardRemarks(host.config(), made));
  return status;
}

/**
 * All that can be made as one change: a thousand names cost one publication. What is made and what is refused is as with
 * one after the other. @returns null when nothing was changed because the whole was not taken (too large, not saved):
 * then it is for one after the other to say which operand is at fault
 */
async function changeTogether(
  spec: SubcommandSpec,
  changes: readonly Change[],
  host: CommandHost,
): Promise<readonly Outcome[] | null> {
  const outcomes: Outcome[] = [];
  const done = await host.transact(changes.map(printChange).join("; "), async (start, context) => {
    const pace = new Pace();
    let config = start;
    for (const change of changes) {
      await pace.breathe();
      const changed = apply(config, change, context);
      outcomes.push({ change, failure: changed.ok ? null : changed.failure });
      if (changed.ok) config = changed.value;
      else if (!goesOn(spec, changed.failure)) break;
    }
    const refused = refusedOf(outcomes);
    return refused.length === outcomes.length ? { ok: false, failure: refused[0]!.failure } : ok(config);
  });
  const refused = refusedOf(outcomes);
  if (!done.ok) return refused.length === outcomes.length ? outcomes : null;
  // The record of the whole says ok; each operand that was refused gets its own.
  for (const { change, failure } of refused) await host.transact(printChange(change), () => ({ ok: false, failure }));
  return outcomes;
}

const refusedOf = (outcomes: readonly Outcome[]): { readonly change: Change; readonly failure: Failure }[] =>
  outcomes.flatMap(({ change, failure }) => (failure === null ? [] : [{ change, failure }]));

/** One change after the other, each atomic and saved on its own. */
async function* oneByOne(
  spec: SubcommandSpec,
  changes: readonly Change[],
  host: CommandHost,
): AsyncGenerator<Outcome, void, void> {
  for (const change of changes) {
    const done = await host.transact(printChange(change), (config, context) => apply(config, change, context));
    yield { change, failure: done.ok ? null : done.failure };
    if (!done.ok && !goesOn(spec, done.failure)) return;
  }
}

/** The status of something that yields its output and ends with a Result. */
async function* report(output: AsyncGenerator<Chunk, Result<void>, void>): AsyncGenerator<Chunk, number, void> {
  const result = yield* output;
  if (result.ok) return 0;
  yield refuse(result.failure);
  return 1;
}

function importOptions(command: ImportConfig, options: RunOptions): ImportOptions {
  return {
    right: options.right,
    preserve: command.preserve,
    name: options.inputName ?? command.file ?? "-",
    audit: printCommand(command),
  };
}

/** Status of a dry run that found differences, as of diff(1); 0: none, 1: it failed. */
const DIFFERENT = 2;

async function* printPlan(plan: Result<Plan>): AsyncGenerator<Chunk, number, void> {
  if (!plan.ok) {
    yield refuse(plan.failure);
    return 1;
  }
  const lines = [...planLines(plan.value)].join("");
  if (lines !== "") yield { stdout: lines };
  return isDifferent(plan.value) ? DIFFERENT : 0;
}

async function* runImport(
  command: ImportConfig,
  host: CommandHost,
  options: RunOptions,
): AsyncGenerator<Chunk, number, void> {
  const text = options.input ?? "";
  const remarks = new Set<string>();
  const how = importOptions(command, options);
  const resolver = remarking(host, remarks);
  const status = command.dryRun
    ? yield* printPlan(await planImport(text, host, how, resolver))
    : yield* report(asTheyCome(importLines(text, host, how, resolver)));
  yield* remarksOf(remarks);
  return status;
}

/** What an origin cannot have: files of the daemon's machine, and answers without end. */
function suitsOrigin(command: Command, options: RunOptions): boolean {
  const isHttp = options.origin === "http";
  switch (command.kind) {
    case "export-config":
    case "export-policy":
      return !(isHttp && command.file !== null);
    case "import-config":
      return options.input !== undefined && !(isHttp && command.file !== null);
    case "port-file":
      return options.input !== undefined;
    default:
      return !(isHttp && isEndless(command));
  }
}

const statisticsOf = (command: ShowStatistics, host: CommandHost): Listing =>
  listStatistics(command, host, () => host.config());

async function* runRollback(command: Rollback, host: CommandHost): AsyncGenerator<Chunk, number, void> {
  const done = await goBack(command, host);
  if (done.ok && done.value === null) return 0;
  return yield* printPlan(done as Result<Plan>);
}

/** @returns what a dry run would change, null when it is done */
async function goBack(command: Rollback, host: CommandHost): Promise<Result<Plan | null>> {
  const { configAfter } = host;
  if (configAfter === undefined) return { ok: false, failure: failure("E-UNSUPPORTED", command.kind) };
  if (!command.dryRun) {
    const done = await host.transact(printCommand(command), (config) => configAfter(command.id, config));
    return done.ok ? ok(null) : done;
  }
  const running = host.config();
  const past = configAfter(command.id, running);
  return past.ok ? ok(planOf(running, past.value, host.flowCounts?.() ?? [])) : past;
}

/** The port that a cloudstore.conf sets, then what there is to say about the file. */
async function* runPortFile(
  command: PortFile,
  host: CommandHost,
  options: RunOptions,
): AsyncGenerator<Chunk, number, void> {
  const read = readCloudStore(options.input ?? "");
  if (!read.ok) {
    yield refuse(failure("E-NBFILE", options.inputName ?? command.file, String(read.line), read.reason));
    return 1;
  }
  const change = parseSetPort(`${read.service}=${read.port}`);
  if (!change.ok) {
    yield refuse(change.failure);
    return 1;
  }
  const status = yield* runChanges("set-port", [change.value], host);
  if (status === 0) yield* remarksOf(new Set(read.remarks));
  return status;
}

/** Lines as they come, or one object at the end. Status 1 when no way is open. */
async function* runTest(command: TestConnection, host: CommandHost): AsyncGenerator<Chunk, number, void> {
  const done: Result<boolean> = command.json
    ? yield* testJson(command, host)
    : yield* asTheyCome(testLines(command, host));
  if (!done.ok) yield refuse(done.failure);
  return done.ok && done.value ? 0 : 1;
}

async function* testJson(command: TestConnection, host: CommandHost): AsyncGenerator<Chunk, Result<boolean>, void> {
  const found = await testOf(command, host);
  if (!found.ok) return found;
  yield { stdout: `${stringify(testView(command, found.value))}\n` };
  return ok(found.value.via !== null);
}

/** Objects, whether by `--json` or by the form of flows. */
const asksForJson = (query: Query): boolean => query.json || (query.kind === "show-flows" && query.form === "json");

function runCommand(command: Command, host: CommandHost, options: RunOptions): AsyncGenerator<Chunk, number, void> {
  switch (command.kind) {
    case "changes":
      return runChanges(command.subcommand, command.changes, host);
    case "export-config":
      return report(inChunks(exportListing(host)));
    case "import-config":
      return runImport(command, host, options);
    case "port-file":
      return runPortFile(command, host, options);
    case "rollback":
      return runRollback(command, host);
    case "test-connection":
      return runTest(command, host);
    case "show-statistics":
      return report(asTheyCome(command.json ? listJson(command, null, host) : statisticsOf(command, host)));
    default:
      return report(inChunks((asksForJson(command) ? listJson : list)(command, host.config(), host)));
  }
}

/**
 * Runs one command line.
 * @param argv the words after `ilbadm` (and after its long options): subcommand, options, operands
 * @returns a generator of output; its return value is the exit status, 0 or 1 (2: a dry run found differences). A consumer that stops early ends the
 * command at the next piece. It throws only for a bug, or when the host's `sleep` says that the caller has gone.
 */
export async function* run(
  argv: readonly string[],
  host: CommandHost,
  options: RunOptions,
): AsyncGenerator<Chunk, number, void> {
  const parsed = parse(argv, options.origin);
  if (parsed.kind === "answer") {
    const { stdout, stderr, status } = parsed.answer;
    yield { ...(stdout === "" ? {} : { stdout }), ...(stderr === "" ? {} : { stderr }) };
    return status;
  }
  const remarks = new Set<string>();
  const named = await lookUpNames(parsed.request, remarking(host, remarks));
  yield* remarksOf(remarks);
  const command = named.ok ? bind(named.value) : named;
  const suited = command.ok && !suitsOrigin(command.value, options) ? failed("E-ARGS") : command;
  const allowed = suited.ok ? authorize(parsed.spec.right, printCommand(suited.value), options) : suited;
  if (!suited.ok || !allowed.ok) {
    if (!allowed.ok) yield refuse(allowed.failure);
    return 1;
  }
  return yield* runCommand(suited.value, host, options);
}

/** The host as a resolver that collects remarks on names, each once. */
export const remarking = (host: CommandHost, remarks: Set<string>): Resolver => ({
  resolveHost: (name, family) => host.resolveHost(name, family),
  resolveService: (name, prefer) => host.resolveService(name, prefer),
  config: () => host.config(),
  remark: (text) => remarks.add(text),
});

const remarksOf = (remarks: Iterable<string>): Chunk[] => Array.from(remarks, (text) => ({ stderr: line(text) }));

function authorize(needed: Right, canonical: string, options: Pick<RunOptions, "right">): Result<void> {
  if (options.right(needed, canonical)) return ok(undefined);
  return { ok: false, failure: lacksRight(needed) };
}

/** The refusal of a caller without a right, and the way out. */
export const lacksRight = (needed: Right): Failure => ({
  ...failure("E-AUTH"),
  hint: `this needs the right ${needed}: be root or in the group ilb-${needed}; over TCP, bring a token that has it`,
});

/**
 * Changes of an HTTP resource, all of them or none, as one change. Checks the rights first (E-AUTH).
 * @returns what ilbadm would print about changes that were made, a text without prefix each; or the failure of the first
 * change that fails, with the text that ilbadm would print
 */
export async function perform(
  changes: readonly Change[],
  host: CommandHost,
  options: Pick<RunOptions, "right">,
): Promise<Result<readonly string[]>> {
  for (const change of changes) {
    const allowed = authorize(SUBCOMMANDS[change.kind].right, printChange(change), options);
    if (!allowed.ok) return allowed;
  }
  const done = await host.transact(changes.map(printChange).join("; "), (start, context) => {
    let config = start;
    for (const change of changes) {
      const changed = apply(config, change, context);
      if (!changed.ok) return { ok: false, failure: describeFailure(change, changed.failure) };
      config = changed.value;
    }
    return ok(config);
  });
  if (!done.ok) return done;
  return ok([...changes.flatMap((change) => hintsOf(host, change)), ...guardRemarks(host.config(), changes)]);
}

/**
 * Import of a whole text as one change; yields what show-* lines print. The return value is null or the failure.
 * @param resolver looks names up and collects remarks, on names and on what was made
 */
export async function* importText(
  text: string,
  host: CommandHost,
  options: Pick<RunOptions, "right"> & { readonly name: string; readonly preserve: boolean },
  resolver: Resolver = host,
): AsyncGenerator<Chunk, Failure | null, void> {
  const command: ImportConfig = { kind: "import-config", preserve: options.preserve, dryRun: false, file: null };
  const audit = printCommand(command);
  const allowed = authorize(SUBCOMMANDS[command.kind].right, audit, options);
  if (!allowed.ok) return allowed.failure;
  const result = yield* asTheyCome(importLines(text, host, { ...options, audit }, resolver));
  return result.ok ? null : result.failure;
}

/** What an import of a whole text would do. Needs the same right. */
export async function planText(
  text: string,
  host: CommandHost,
  options: Pick<RunOptions, "right"> & { readonly name: string; readonly preserve: boolean },
): Promise<Result<Plan>> {
  const command: ImportConfig = { kind: "import-config", preserve: options.preserve, dryRun: true, file: null };
  const audit = printCommand(command);
  const allowed = authorize(SUBCOMMANDS[command.kind].right, audit, options);
  return allowed.ok ? planImport(text, host, { ...options, audit }) : allowed;
}

/** Goes back to the configuration after a change, or tells what that would change. Checks the right first (E-AUTH). */
export async function rollBack(
  command: Rollback,
  host: CommandHost,
  options: Pick<RunOptions, "right">,
): Promise<Result<Plan | null>> {
  const allowed = authorize(SUBCOMMANDS[command.kind].right, printCommand(command), options);
  return allowed.ok ? goBack(command, host) : allowed;
}

/** Tries the ports of a host. Checks the right first (E-AUTH). */
export async function testHost(
  command: TestConnection,
  host: CommandHost,
  options: Pick<RunOptions, "right">,
): Promise<Result<TestFindings>> {
  const allowed = authorize(SUBCOMMANDS[command.kind].right, printCommand(command), options);
  return allowed.ok ? testOf(command, host) : allowed;
}
