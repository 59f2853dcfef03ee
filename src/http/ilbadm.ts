/**
 * `POST /v1/ilbadm`: a command line in, its bytes and exit status out. Two forms of answer: one JSON (or MessagePack)
 * object, or, for `Accept: application/x-ndjson`, one object per piece of output as it comes (`stdout` or `stderr`)
 * and `exit` at the end; only the second can follow an endless listing. A long JSON object is written as the command
 * goes on and never held. Runs nothing itself: command/run.ts does.
 */
import { errorText, failure } from "../command/errors.ts";
import type { CommandHost } from "../command/host.ts";
import { type Chunk, type RunOptions, run } from "../command/run.ts";
import type { Log } from "../control/ports.ts";
import { fail, ok, type Result } from "../model/result.ts";
import { JSON_TYPE, MSGPACK_TYPE, preferred, textResponse, valueResponse } from "./body.ts";
import { problemResponse } from "./problem.ts";

export const NDJSON_TYPE = "application/x-ndjson";

/** A command line as it comes in a body. */
export interface LineRequest {
  readonly argv: readonly string[];
  /** The text that import-config reads. */
  readonly input?: string;
}

const FIELDS = ["line", "argv", "input"];

/** Reads a request body. A `line` is split at blanks and tabs, as in an import file: no quoting. */
export function lineRequest(body: unknown): Result<LineRequest> {
  if (typeof body !== "object" || body === null || Array.isArray(body))
    return fail("E-BODY", 'the body must be {"line": "..."} or {"argv": [...]}');
  const stray = Object.keys(body).find((key) => !FIELDS.includes(key));
  if (stray !== undefined) return fail("E-BODY", `unknown field ${stray}`, stray);
  const { line, argv, input } = body as Record<string, unknown>;
  if (input !== undefined && typeof input !== "string") return fail("E-BODY", "input must be a string", "input");
  const words = wordsOf(line, argv);
  if (!words.ok) return words;
  return ok(input === undefined ? { argv: words.value } : { argv: words.value, input });
}

function wordsOf(line: unknown, argv: unknown): Result<readonly string[]> {
  if ((line === undefined) === (argv === undefined)) return fail("E-BODY", "exactly one of line and argv is needed");
  if (argv !== undefined) {
    if (Array.isArray(argv) && argv.every((word) => typeof word === "string")) return ok(argv as string[]);
    return fail("E-BODY", "argv must be an array of strings", "argv");
  }
  if (typeof line !== "string") return fail("E-BODY", "line must be a string", "line");
  return ok(line.split(/[ \t]+/).filter((word) => word !== ""));
}

export interface LineAnswer {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
}

/** Characters of output up to which an answer is held and sent as a whole. */
const SHORT_ANSWER = 256 * 1024;
/** MessagePack names lengths before contents, so the answer must be held; beyond this the command ends in E-NOMEM. */
const LONGEST_PACKED_ANSWER = 64 * 1024 * 1024;

/** Runs a command and answers with one object. @param host its sleep ends when the caller goes away */
export async function answerObject(
  request: Request,
  argv: readonly string[],
  host: CommandHost,
  options: RunOptions,
): Promise<Response> {
  const isPacked = preferred(request.headers.get("accept"), [JSON_TYPE, MSGPACK_TYPE]) === MSGPACK_TYPE;
  const output = run(argv, host, options);
  let stdout = "";
  let stderr = "";
  for (;;) {
    const step = await output.next();
    if (step.done) return valueResponse(request, { exit: step.value, stdout, stderr } satisfies LineAnswer);
    stdout += step.value.stdout ?? "";
    stderr += step.value.stderr ?? "";
    if (stdout.length <= SHORT_ANSWER) continue;
    if (!isPacked) return textResponse(objectStream(output, stdout, stderr), JSON_TYPE);
    if (stdout.length <= LONGEST_PACKED_ANSWER) continue;
    await output.return(1);
    return problemResponse(request, failure("E-NOMEM"));
  }
}

/** JSON of a LineAnswer whose output has begun; stderr, which is short, and the status come last. */
function objectStream(output: Output, stdout: string, stderr: string): ReadableStream<Uint8Array> {
  const escaped = (text: string): string => JSON.stringify(text).slice(1, -1);
  let errors = stderr;
  let begun = false;
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      if (!begun) controller.enqueue(encoder.encode(`{"stdout":"${escaped(stdout)}`));
      begun = true;
      const step = await output.next();
      if (!step.done) {
        controller.enqueue(encoder.encode(escaped(step.value.stdout ?? "")));
        errors += step.value.stderr ?? "";
        return;
      }
      controller.enqueue(encoder.encode(`","stderr":${JSON.stringify(errors)},"exit":${step.value}}`));
      controller.close();
    },
    async cancel() {
      await output.return(1).catch(() => undefined);
    },
  });
}

type Output = AsyncGenerator<Chunk, number, void>;

/**
 * The answer piece by piece. It ends early when the client goes away.
 * @param hostFor the daemon as the caller may use it; the signal fires when the caller has gone
 */
export function answerStream(
  request: Request,
  argv: readonly string[],
  hostFor: (gone: AbortSignal) => CommandHost,
  options: RunOptions,
  log: Log,
): Response {
  const { gone, leave } = departureOf(request);
  const output = run(argv, hostFor(gone), options);
  const body = new ReadableStream<Uint8Array>({
    async pull(controller) {
      try {
        await nextTurn();
        const step = await output.next();
        controller.enqueue(encodeLine(step.done ? { exit: step.value } : step.value));
        if (step.done) controller.close();
      } catch (error) {
        if (!gone.aborted) {
          log.error("command failed", { command: argv.join(" "), reason: stackOf(error) });
          controller.enqueue(encodeLine({ stderr: `ilbadm: ${errorText("E-INTERNAL")}\n` }));
          controller.enqueue(encodeLine({ exit: 1 }));
        }
        controller.close();
      }
    },
    async cancel() {
      leave();
      await output.return(1).catch(() => undefined);
    },
  });
  return textResponse(body, NDJSON_TYPE);
}

/**
 * Lets everything else that waits have its turn. A reader that is fast enough pulls one piece right after the other, and
 * a listing of millions would keep the daemon from all other requests.
 */
const nextTurn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

/** A signal that fires when the request's client goes away, or when `leave` says that it has. */
export function departureOf(request: Request): { readonly gone: AbortSignal; leave(): void } {
  const left = new AbortController();
  return { gone: AbortSignal.any([request.signal, left.signal]), leave: () => left.abort() };
}

const encoder = new TextEncoder();
const encodeLine = (piece: Chunk | { readonly exit: number }): Uint8Array =>
  encoder.encode(`${JSON.stringify(piece)}\n`);

const stackOf = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));
