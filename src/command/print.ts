/**
 * Command -> canonical text: one line without `ilbadm`, options in the order of spec.ts, values by their codecs. What
 * export-config writes, audit log and history keep, and the demo shows. Parsing it gives the same command.
 */
import { utterance } from "./bind.ts";
import type { Change, Command, SubcommandName } from "./command.ts";
import type { AnyKey, OptionSpec } from "./options.ts";
import { SUBCOMMANDS } from "./spec.ts";
import { type Said, utterQuery } from "./utter-query.ts";

function printKey(key: AnyKey, value: unknown): string {
  const text = key.list ? (value as unknown[]).map((item) => key.codec.print(item)).join(",") : key.codec.print(value);
  return `${key.key}=${text}`;
}

/** The words of one option, none when it says nothing. */
function printOption(option: OptionSpec, said: Said): string[] {
  const name = `-${option.letter}`;
  if (option.kind === "flag") return said.flags.has(option) ? [name] : [];
  if (option.kind === "text") {
    const text = said.texts.get(option);
    return text === undefined ? [] : [name, text];
  }
  const keys = option.keys.filter((key) => said.values.has(key));
  if (keys.length === 0) return [];
  return [name, keys.map((key) => printKey(key, said.values.get(key))).join(",")];
}

/** What names that are refused anyway may hold; an audit log gets one line per change, whatever somebody typed. */
const CONTROLS = /\p{Cc}/gu;

function printWords(subcommand: SubcommandName, said: Said): string {
  const spec = SUBCOMMANDS[subcommand];
  const options = spec.options.flatMap((option) => printOption(option, said));
  const separator = said.operands[0]?.startsWith("-") ? ["--"] : [];
  return [spec.long, ...options, ...separator, ...said.operands].join(" ").replace(CONTROLS, "?");
}

/** The canonical line of one change, without newline. Control characters, which no stored object holds, become `?`. */
export const printChange = (change: Change): string => printWords(change.kind, utterance(change));

/** The canonical line of a command; several changes are joined by `; `. */
export function printCommand(command: Command): string {
  if (command.kind === "changes") return command.changes.map(printChange).join("; ");
  return printWords(command.kind === "port-file" ? "set-port" : command.kind, utterQuery(command));
}
