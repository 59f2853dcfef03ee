/**
 * One command from words to bytes: parse, look names up, check rights, change or list. The daemon runs every command
 * line through here, whether it came from the shell, from HTTP or from a file, so that all three print the same bytes.
 */
import type { Failure, Result } from "../model/result.ts";
import type { Change, Right } from "./command.ts";
import type { CommandHost } from "./host.ts";

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
  /** The text that import-config reads. */
  readonly input?: string;
  /** How errors name the text, `-` for standard input; default: the FILE operand or `-`. */
  readonly inputName?: string;
}

/**
 * Runs one command line.
 * @param argv the words after `ilbadm` (and after its long options): subcommand, options, operands
 * @returns a generator of output; its return value is the exit status, 0 or 1
 */
export declare function run(
  argv: readonly string[],
  host: CommandHost,
  options: RunOptions,
): AsyncGenerator<Chunk, number, void>;

/** What the caller's process can say by itself, without a daemon. */
export interface LocalAnswer {
  readonly stdout: string;
  readonly stderr: string;
  readonly status: number;
}

/**
 * Looks at a command line without a daemon. @returns the whole answer if no daemon is needed (help, version, an error
 * of syntax: same texts, same order as `run`), null if the daemon must be asked. Never changes or resolves anything.
 */
export declare function check(argv: readonly string[]): LocalAnswer | null;

/** What a correct command line wants of the caller's files. `file` null: standard input or output. */
export declare function fileUse(
  argv: readonly string[],
): { readonly access: "read" | "write"; readonly file: string | null; readonly preserve: boolean } | null;

/**
 * Changes of an HTTP resource, all of them or none, as one change. Checks the right first (E-AUTH).
 * @returns the failure of the first change that fails, with the text that ilbadm would print
 */
export declare function perform(
  changes: readonly Change[],
  host: CommandHost,
  options: Pick<RunOptions, "right">,
): Promise<Result<void>>;

/** Import of a whole text as one change; yields what show-* lines print. The return value is null or the failure. */
export declare function importText(
  text: string,
  host: CommandHost,
  options: Pick<RunOptions, "right" | "origin"> & { readonly name: string; readonly preserve: boolean },
): AsyncGenerator<Chunk, Failure | null, void>;
