/**
 * `ilbd replay`: a capture through the box (box.ts), packet by packet in the order of the file, with the commands of
 * `--at` in between; what leaves goes to a capture, what was decided to a list. Nothing of the machine but these files
 * takes part, so the same files give the same bytes everywhere. Either all output files are written or none.
 */
import { readFileSync } from "node:fs";
import { ExportFailed, ExportFile } from "../cli/export-file.ts";
import { ReaderGone, WriteFailed, writeAll } from "../cli/output.ts";
import { type Chunk, fileUse, importText, run, unreadableFile } from "../command/run.ts";
import { type CapturedPacket, type CaptureReader, openCapture } from "../device/capture-reader.ts";
import { FileSource } from "../device/file-source.ts";
import { type PcapStyle, pcapHeader, pcapRecordHeader } from "../device/pcap.ts";
import { readEngineModule } from "../engine/module.ts";
import type { Failure, Result } from "../model/result.ts";
import { decodeUtf8 } from "../model/utf8.ts";
import type { AtCommand } from "./at.ts";
import { ReplayBox } from "./box.ts";
import { frameOf, packetOut } from "./frames.ts";
import { parseReplayOptions, REPLAY_USAGE, type ReplayOptions } from "./options.ts";
import { OutputFailed, OutputFile } from "./output-file.ts";
import { verdictLine } from "./verdicts.ts";

/** Ends the replay with one line. */
class Stopped extends Error {
  override readonly name = "Stopped";
}

/**
 * After so many bytes of packets the garbage is collected. The collector does not see that small objects of the engine
 * hold whole frames, and would let a capture of a gigabyte grow to two (measured: 90 MB instead, and faster).
 */
const COLLECT_BYTES = 16 * 2 ** 20;

const SIGNALS = ["SIGINT", "SIGTERM", "SIGHUP"] as const;

/** Runs a whole replay. @param argv words after `replay`. @returns the exit status */
export async function runReplay(argv: readonly string[]): Promise<number> {
  if (argv.includes("--help")) {
    writeAll(1, REPLAY_USAGE);
    return 0;
  }
  try {
    const options = parseReplayOptions(argv);
    if (!options.ok) throw new Stopped(options.failure.text);
    await new Replay(options.value).run();
    return 0;
  } catch (error) {
    if (error instanceof ReaderGone) return 1;
    if (!(error instanceof Stopped || error instanceof OutputFailed || error instanceof WriteFailed)) throw error;
    writeAll(2, `ilbd: ${error.message}\n`);
    return 1;
  }
}

class Replay {
  readonly #outputs: OutputFile[] = [];

  constructor(private readonly options: ReplayOptions) {}

  async run(): Promise<void> {
    const { options } = this;
    const config = readText(options.configFile, "--config");
    const moduleBytes = await readEngineModule().catch((error: Error) => {
      throw new Stopped(error.message);
    });
    const source = openInput(options.inFile);
    const onSignal = (): void => {
      this.#abandon();
      process.exit(1);
    };
    for (const signal of SIGNALS) process.on(signal, onSignal);
    try {
      const reader = must(openCapture(source, options.inFile));
      const first = nextPacket(reader);
      const box = new ReplayBox(moduleBytes, options.compat, first?.timeNs ?? 0n);
      must(await box.start());
      await configure(box, config, options.configFile);
      await this.#replay(box, reader, first);
      for (const output of this.#outputs) output.finish();
      for (const output of this.#outputs) output.commit();
      await box.close();
    } catch (error) {
      this.#abandon();
      throw readFailure(error, options.inFile);
    } finally {
      source.close();
      for (const signal of SIGNALS) process.removeListener(signal, onSignal);
    }
  }

  async #replay(box: ReplayBox, reader: CaptureReader, first: CapturedPacket | null): Promise<void> {
    const style: PcapStyle = { linkType: reader.linkType, nanoseconds: reader.nanoseconds };
    const out = this.#open(this.options.outFile);
    const verdicts = this.options.verdictsFile === null ? null : this.#open(this.options.verdictsFile);
    out.write(pcapHeader(style));
    const firstNs = first?.timeNs ?? 0n;
    const waiting = [...this.options.commands];
    let nowNs = firstNs;
    let number = 0;
    let uncollectedBytes = 0;
    for (let packet = first; packet !== null; packet = nextPacket(reader)) {
      // A packet that the capture has late (several queues, several interfaces) meets the engine when it comes.
      if (packet.timeNs > nowNs) nowNs = packet.timeNs;
      const isDue = waiting.length > 0 && firstNs + waiting[0]!.atNs <= nowNs;
      // What the reader gave is valid until the next packet is read, so it may wait for the commands before it.
      if (isDue) await runDue(box, waiting, firstNs, nowNs);
      if (!box.isQuietUntil(nowNs)) await box.advance(nowNs);
      const arrived = frameOf(packet, reader.kind);
      const outcome = box.process(arrived.bytes, nowNs);
      for (const sent of outcome.out) {
        const leaving = packetOut(sent.bytes, arrived, packet, reader.kind);
        out.write(pcapRecordHeader(leaving, style));
        out.write(leaving.bytes);
      }
      number++;
      uncollectedBytes += arrived.bytes.length;
      if (uncollectedBytes >= COLLECT_BYTES) {
        Bun.gc(false);
        uncollectedBytes = 0;
      }
      verdicts?.write(verdictLine(number, outcome, box));
    }
    await runDue(box, waiting, firstNs, null);
  }

  #open(path: string): OutputFile {
    const output = new OutputFile(path);
    this.#outputs.push(output);
    return output;
  }

  #abandon(): void {
    for (const output of this.#outputs.splice(0)) output.abandon();
  }
}

/** Runs the waiting commands whose time has come by `nowNs`, each at its own time; null: all of them. */
async function runDue(box: ReplayBox, waiting: AtCommand[], firstNs: bigint, nowNs: bigint | null): Promise<void> {
  while (waiting.length > 0 && (nowNs === null || firstNs + waiting[0]!.atNs <= nowNs)) {
    const command = waiting.shift()!;
    await box.advance(firstNs + command.atNs);
    await perform(box, command);
    box.learnNames();
  }
}

async function perform(box: ReplayBox, { action, text }: AtCommand): Promise<void> {
  if (action.kind === "health") {
    const done = await box.setHealth(action.serverId, action.rule, action.up);
    if (!done.ok) throw new Stopped(`${text}: ${done.failure.text}`);
    return;
  }
  const status = await runCommand(box, action.argv);
  if (status !== 0) throw new Stopped(`${text} failed, so nothing was written`);
}

/** One ilbadm command as its program would run it: FILE operands are opened here, output goes to the caller. */
async function runCommand(box: ReplayBox, argv: readonly string[]): Promise<number> {
  const use = fileUse(argv);
  const options = { right: () => true, origin: "shell" as const };
  if (use?.access === "read") {
    const bytes = readOrNull(use.file ?? "/dev/stdin");
    if (bytes === null) {
      writeAll(2, unreadableFile(use.file ?? "-").stderr);
      return 1;
    }
    // Files of others, cloudstore.conf for one, may have comments in any encoding.
    const input = use.isImport ? asText(bytes, use.file ?? "-") : new TextDecoder().decode(bytes);
    return print(run(argv, box.host, { ...options, input }), (piece) => writeAll(1, piece));
  }
  const output = run(argv, box.host, options);
  if (use === null || use.file === null) return print(output, (piece) => writeAll(1, piece));
  return exportTo(use.file, output);
}

async function exportTo(path: string, output: AsyncGenerator<Chunk, number, void>): Promise<number> {
  try {
    const file = new ExportFile(path);
    const status = await print(output, (piece) => file.write(piece));
    if (status === 0) file.commit();
    else file.abandon();
    return status;
  } catch (error) {
    if (!(error instanceof ExportFailed)) throw error;
    writeAll(2, `ilbadm: ${error.failure.text}\n`);
    return 1;
  }
}

async function print(output: AsyncGenerator<Chunk, number, void>, toStdout: (text: string) => void): Promise<number> {
  for (;;) {
    const step = await output.next();
    if (step.done) return step.value;
    if (step.value.stdout !== undefined) toStdout(step.value.stdout);
    if (step.value.stderr !== undefined) writeAll(2, step.value.stderr);
  }
}

/** Imports the text of `--config`; what its show-* lines print goes to standard output. */
async function configure(box: ReplayBox, text: string, name: string): Promise<void> {
  const output = importText(text, box.host, { right: () => true, name, preserve: false });
  for (;;) {
    const step = await output.next();
    if (!step.done) {
      if (step.value.stdout !== undefined) writeAll(1, step.value.stdout);
      continue;
    }
    if (step.value !== null) throw new Stopped(step.value.text);
    return box.learnNames();
  }
}

function readText(path: string, option: string): string {
  const bytes = readOrNull(path);
  if (bytes === null) throw new Stopped(`${option} ${path} cannot be read`);
  return asText(bytes, path);
}

/** null: it cannot be read. */
function readOrNull(path: string): Uint8Array | null {
  try {
    return readFileSync(path);
  } catch {
    return null;
  }
}

function asText(bytes: Uint8Array, path: string): string {
  const decoded = decodeUtf8(bytes);
  if ("text" in decoded) return decoded.text;
  throw new Stopped(`${path}: ${decoded.objection}`);
}

function openInput(path: string): FileSource {
  try {
    return new FileSource(path);
  } catch (error) {
    throw readFailure(error, path);
  }
}

const nextPacket = (reader: CaptureReader): CapturedPacket | null => must(reader.next());

function must<T>(result: Result<T>): T {
  if (result.ok) return result.value;
  throw stopped(result.failure);
}

const stopped = (failure: Failure): Stopped => new Stopped(failure.text);

/** An error of the operating system while reading becomes one line; others stay what they are. */
function readFailure(error: unknown, path: string): unknown {
  const { syscall, code } = error as NodeJS.ErrnoException;
  return syscall === "read" || syscall === "open" ? new Stopped(`--in ${path} cannot be read (${code})`) : error;
}
