/**
 * ilbadm: words in, the daemon's bytes and exit status out. What is wrong with the words themselves is said without
 * asking the daemon, by the same grammar; FILE operands are opened here, with the caller's rights. It knows no
 * subcommand beyond that.
 */
import { readFileSync } from "node:fs";
import { type Client, createClient, NotReachable, type Target } from "../client/client.ts";
import { errorText } from "../command/errors.ts";
import type { Chunk } from "../command/run.ts";
import { check, fileUse } from "../command/run.ts";
import { usageList } from "../command/usage.ts";
import { COMPLETE_WORD, completionLines } from "./complete.ts";
import { ExportFailed, ExportFile } from "./export-file.ts";
import { parseOptions } from "./options.ts";
import { ReaderGone, type Sink, WriteFailed, writeAll } from "./output.ts";
import { show } from "./watch.ts";

const NDJSON = "application/x-ndjson";
/** Asks for the output as it comes. */
const STREAM = { headers: { accept: NDJSON } };

/** Runs one command line. @returns the exit status */
export async function main(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Promise<number> {
  try {
    if (argv[0] === COMPLETE_WORD) {
      writeAll(1, await completionLines(argv.slice(1), environment));
      process.exit(0); // whatever the daemon is still about to say
    }
    const options = parseOptions(argv, environment);
    if ("wrong" in options) return complain(options.wrong);
    const local = check(options.argv);
    if (local !== null) {
      if (local.stdout !== "") writeAll(1, local.stdout);
      if (local.stderr !== "") writeAll(2, local.stderr);
      return local.status;
    }
    const { target, view } = options;
    const once = (sink: Sink): Promise<number> => talk(target, options.argv, sink);
    return await show(view, options.argv, once, TO_CALLER, environment);
  } catch (error) {
    if (error instanceof ReaderGone) return 1;
    if (error instanceof ExportFailed) return complain(error.failure.text);
    if (error instanceof WriteFailed) return complainOfOutput(error);
    throw error;
  }
}

function complainOfOutput({ message }: WriteFailed): 1 {
  try {
    return complain(errorText("E-WRITE"), message);
  } catch {
    return 1; // standard error it was, or is as well
  }
}

function complain(...lines: string[]): 1 {
  for (const line of lines) writeAll(2, `ilbadm: ${line}\n`);
  return 1;
}

async function talk(target: Target, argv: readonly string[], caller: Sink): Promise<number> {
  const use = fileUse(argv);
  if (use?.access === "read") {
    const input = readInput(use.file);
    if (input === null) {
      complain(errorText("E-OPENREAD", use.file ?? "-"));
      writeAll(2, usageList());
      return 1;
    }
    const { file, preserve, dryRun } = use;
    if (!use.isImport) {
      // Files of others, cloudstore.conf for one, may have comments in any encoding.
      const json = { argv, input: new TextDecoder().decode(input) };
      return send(target, (client) => client.v1.ilbadm.$post({ json }, STREAM), caller);
    }
    const query = { preserve: `${preserve}`, dryRun: `${dryRun}`, name: file ?? "-" } as const;
    const text = { headers: { ...STREAM.headers, "content-type": "text/plain" }, init: { body: input } };
    return send(target, (client) => client.v1.config.$put({ query }, text), caller);
  }
  const run = (sink: Sink): Promise<number> =>
    send(target, (client) => client.v1.ilbadm.$post({ json: { argv } }, STREAM), sink);
  if (use === null || use.file === null) return run(caller);
  return exportTo(use.file, (stdout) => run({ stdout, stderr: caller.stderr }));
}

/** The daemon's output into FILE, all of it or nothing. */
async function exportTo(path: string, run: (stdout: (text: string) => void) => Promise<number>): Promise<number> {
  const file = new ExportFile(path);
  let status = 1;
  try {
    status = await run((text) => file.write(text));
    if (status === 0) file.commit();
  } finally {
    if (status !== 0) file.abandon();
  }
  return status;
}

/** null: cannot be read. */
function readInput(file: string | null): Uint8Array<ArrayBuffer> | null {
  try {
    return new Uint8Array(readFileSync(file ?? 0));
  } catch {
    return null;
  }
}

const TO_CALLER: Sink = { stdout: (text) => writeAll(1, text), stderr: (text) => writeAll(2, text) };

/** As much of an answer as is read here, whatever its type says about the rest. */
type Answer = Pick<Response, "ok" | "status" | "headers" | "body" | "text">;

async function send(target: Target, ask: (client: Client) => Promise<Answer>, sink: Sink): Promise<number> {
  let answer: Answer;
  try {
    answer = await ask(createClient(target));
  } catch (error) {
    if (error instanceof NotReachable) return complain(errorText("E-SOCKET"), hint(target, error.message));
    throw error;
  }
  if (!answer.ok || !answer.headers.get("content-type")?.startsWith(NDJSON))
    return complain(...(await problemLines(answer)));
  try {
    for await (const piece of pieces(answer)) {
      if (piece.stdout !== undefined) sink.stdout(piece.stdout);
      if (piece.stderr !== undefined) sink.stderr(piece.stderr);
      if (piece.exit !== undefined) return piece.exit;
    }
  } catch (error) {
    // Ours, and not the connection's.
    if (error instanceof ReaderGone || error instanceof ExportFailed || error instanceof WriteFailed) throw error;
  }
  return complain(errorText("E-READ"));
}

/** What the runtime's TLS says of a certificate that it does not accept (names of X509_V_ERR_* and ERR_TLS_*). */
const BAD_CERTIFICATE = /CERT|SIGNATURE|ISSUER/;

function hint(target: Target, reason: string): string {
  if (target.socket === null && BAD_CERTIFICATE.test(reason))
    return `the certificate of ${target.url} is not trusted (${reason}): NODE_EXTRA_CA_CERTS=FILE names its issuer's, and the URL a name that is in it`;
  if (target.socket === null) return `nobody answers at ${target.url} (${reason})`;
  return `no ilbd answers on ${target.socket} (${reason}): start it with 'ilbd run', or name its socket with --socket or ILB_SOCKET`;
}

/** What an answer that is no command output says: an error, and perhaps a hint. */
async function problemLines(answer: Answer): Promise<string[]> {
  const text = await answer.text().catch(() => "");
  try {
    const { detail, hint } = JSON.parse(text) as { detail?: unknown; hint?: unknown };
    if (typeof detail === "string") return typeof hint === "string" ? [detail, `hint: ${hint}`] : [detail];
  } catch {
    // Not from an ilbd; the status says what there is to say.
  }
  return [`${errorText("E-READ")} (HTTP status ${answer.status})`];
}

/** The objects of a stream of lines, as they come. Ends quietly where the stream ends. */
async function* pieces(answer: Answer): AsyncGenerator<Chunk & { readonly exit?: number }> {
  const decoder = new TextDecoder();
  let rest = "";
  for await (const bytes of answer.body ?? []) {
    const lines = (rest + decoder.decode(bytes, { stream: true })).split("\n");
    rest = lines.pop()!;
    for (const line of lines) yield JSON.parse(line) as Chunk & { exit?: number };
  }
}

if (import.meta.main) process.exitCode = await main(process.argv.slice(2), process.env);
