/**
 * Command -> canonical text: one line without `ilbadm`, options in the order of spec.ts, values by their codecs. What
 * export-config writes, audit log and history keep, and the demo shows. Parsing it gives the same command.
 */
import { type Utterance, utterance } from "./bind.ts";
import type { Change, Command } from "./command.ts";
import { type AnyKey, OPTIONS, type OptionSpec, SUBCOMMANDS } from "./spec.ts";

function printKey(key: AnyKey, value: unknown): string {
  const text = key.list ? (value as unknown[]).map((item) => key.codec.print(item)).join(",") : key.codec.print(value);
  return `${key.key}=${text}`;
}

/** The words of one option, none when it says nothing. */
function printOption(option: OptionSpec, said: Utterance): string[] {
  if (option.kind === "text") return [];
  if (option.kind === "flag") return said.flags.has(option) ? [`-${option.letter}`] : [];
  const keys = option.keys.filter((key) => said.values.has(key));
  if (keys.length === 0) return [];
  return [`-${option.letter}`, keys.map((key) => printKey(key, said.values.get(key))).join(",")];
}

/** What names that are refused anyway may hold; an audit log gets one line per change, whatever somebody typed. */
const CONTROLS = /\p{Cc}/gu;

/** The canonical line of one change, without newline. Control characters, which no stored object holds, become `?`. */
export function printChange(change: Change): string {
  const said = utterance(change);
  const spec = SUBCOMMANDS[change.kind];
  const options = spec.options.flatMap((option) => printOption(option, said));
  return [spec.long, ...options, ...said.operands].join(" ").replace(CONTROLS, "?");
}

/** A line that names a command for audit purposes: changes in full, anything else by name and operands. */
export function printCommand(command: Command): string {
  switch (command.kind) {
    case "changes":
      return command.changes.map(printChange).join("; ");
    case "export-config":
      return withFile([command.kind], command.file);
    case "import-config": {
      const flags = [command.preserve && OPTIONS.preserve, command.dryRun && OPTIONS.dryRun];
      return withFile([command.kind, ...flags.flatMap((flag) => (flag ? [`-${flag.letter}`] : []))], command.file);
    }
    case "rollback":
      return [command.kind, ...(command.dryRun ? [`-${OPTIONS.dryRun.letter}`] : []), command.id].join(" ");
    default:
      return command.kind;
  }
}

const withFile = (words: readonly string[], file: string | null): string =>
  [...words, ...(file === null ? [] : [file])].join(" ").replace(CONTROLS, "?");
