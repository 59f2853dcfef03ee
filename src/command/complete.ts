/**
 * What can stand at the end of an unfinished command line, from the rows of spec.ts. Pure: objects of the daemon are
 * asked for by kind, and whoever called fetches their names.
 */

import { SHELLS } from "./completion-scripts.ts";
import { ALL_FIELDS } from "./fields.ts";
import { FIELDS_OF } from "./fields-of.ts";
import type { AnyKey, KeysOption, Named, OptionSpec } from "./options.ts";
import { FRAME_WORDS, findSubcommand, SUBCOMMANDS, type SubcommandSpec } from "./spec.ts";

export interface Candidate {
  readonly word: string;
  readonly help: string;
}

/** What fits. Candidates stand behind `prefix`, which is already there; those of `names` come from the daemon. */
export interface Completion {
  readonly prefix: string;
  readonly candidates: readonly Candidate[];
  readonly names: Named | null;
  /** The word goes on behind the candidate. */
  readonly open: boolean;
}

const fits = (parts: Partial<Completion>): Completion => ({
  prefix: "",
  candidates: [],
  names: null,
  open: false,
  ...parts,
});
const NOTHING = fits({});

const subcommands = (): Candidate[] => [
  ...Object.values(SUBCOMMANDS).map(({ long, summary }) => ({ word: long, help: summary })),
  ...Object.values(FRAME_WORDS).map(({ word, summary }) => ({ word, help: summary })),
];

/** Long options that stand before the subcommand. */
const LEADING: readonly Candidate[] = [
  { word: "--socket", help: "the daemon's socket" },
  { word: "--url", help: "the daemon's URL" },
  { word: "--token-file", help: "file with a bearer token" },
  { word: "--watch", help: "print again and again" },
  { word: "--pretty", help: "align columns, with colours on a terminal" },
];
const TAKES_WORD = ["--socket", "--url", "--token-file"];

/** A key's own words, or the kind of object that it names. */
function completeValue(key: AnyKey, prefix: string): Completion {
  const words = key.codec.json.words ?? key.codec.examples ?? [];
  return fits({ prefix, names: key.names ?? null, candidates: words.map((word) => ({ word, help: key.help })) });
}

/** The last element of `key=value,key=value`. */
function completeKeys(option: KeysOption, argument: string): Completion {
  const at = argument.lastIndexOf(",") + 1;
  const element = argument.slice(at);
  const equals = element.indexOf("=");
  const given = argument
    .slice(0, at)
    .split(",")
    .map((part) => part.split("=")[0]?.toLowerCase() ?? "");
  const isOf = (key: AnyKey, spelling: string): boolean => key.key === spelling || key.aliases.includes(spelling);
  const list = option.keys.find((key) => key.list && given.some((spelling) => isOf(key, spelling)));
  if (list !== undefined) return completeValue(list, argument.slice(0, at));
  if (equals >= 0) {
    const key = option.keys.find((candidate) => isOf(candidate, element.slice(0, equals).toLowerCase()));
    return key === undefined ? NOTHING : completeValue(key, argument.slice(0, at + equals + 1));
  }
  const left = option.keys.filter((key) => !given.some((spelling) => isOf(key, spelling)));
  const candidates = left.map((key) => ({ word: `${key.key}=`, help: key.help }));
  return fits({ prefix: argument.slice(0, at), candidates, open: true });
}

/** The last of several words; it may go on behind a word, with a version or a value. */
function completeWords(words: readonly string[], argument: string): Completion {
  const prefix = argument.slice(0, argument.lastIndexOf(",") + 1);
  return fits({ prefix, candidates: words.map((word) => ({ word, help: "" })), open: true });
}

function completeArgument(spec: SubcommandSpec, option: OptionSpec, argument: string): Completion {
  if (option.kind === "keys") return completeKeys(option, argument);
  if (option.kind === "flag") return NOTHING;
  if (option.words !== undefined) return completeWords(option.words, argument);
  if (option.names !== "fields") return fits({ names: option.names });
  const words = [ALL_FIELDS, ...(FIELDS_OF[spec.long] ?? []).map((field) => field.toLowerCase())];
  const prefix = argument.slice(0, argument.lastIndexOf(",") + 1);
  return fits({ prefix, candidates: words.map((word) => ({ word, help: "" })), open: true });
}

/** The option whose argument a word is to be that follows `words`; null: none, an operand or option is due. */
function openOption(spec: SubcommandSpec, words: readonly string[]): OptionSpec | "operands" | null {
  let open: OptionSpec | null = null;
  for (const word of words) {
    if (open !== null) {
      // An argument that ends with a comma goes on in the next word.
      if (!(open.kind === "keys" && word.endsWith(","))) open = null;
      continue;
    }
    if (word === "--" || !word.startsWith("-") || word === "-") return "operands";
    const at = [...word].findIndex((letter, i) => i > 0 && optionOf(spec, letter) !== null);
    const option = at < 0 || word.startsWith("--") ? null : optionOf(spec, word[at] ?? "");
    if (option !== null && at === word.length - 1) open = option;
  }
  return open;
}

/** The option of a letter, if it takes an argument. */
function optionOf(spec: SubcommandSpec, letter: string): OptionSpec | null {
  const option = spec.options.find((candidate) => candidate.letter === letter);
  return option === undefined || option.kind === "flag" ? null : option;
}

function completeOperand(spec: SubcommandSpec): Completion {
  return spec.operands.max === 0 ? NOTHING : fits({ names: spec.operands.names });
}

/** Only what begins with what is there, without regard to case. */
function startingWith({ candidates, ...rest }: Completion, current: string): Completion {
  const wanted = current.slice(rest.prefix.length).toLowerCase();
  return { ...rest, candidates: candidates.filter(({ word }) => word.toLowerCase().startsWith(wanted)) };
}

function completeSubcommand(spec: SubcommandSpec, before: readonly string[], current: string): Completion {
  const open = openOption(spec, before);
  if (open === "operands") return completeOperand(spec);
  if (open !== null) return completeArgument(spec, open, current);
  if (!current.startsWith("-")) return completeOperand(spec);
  const candidates = spec.options.map(({ letter, help }) => ({ word: `-${letter}`, help }));
  return fits({ candidates });
}

/** @param words those behind `ilbadm`; the last is the unfinished one, empty when nothing of it stands there */
export function complete(words: readonly string[]): Completion {
  let at = 0;
  while (words[at]?.startsWith("--") && at < words.length - 1) at += TAKES_WORD.includes(words[at] ?? "") ? 2 : 1;
  if (at >= words.length) return words.length === 0 ? NOTHING : fits({ names: "file" });
  const current = words.at(-1) ?? "";
  const rest = words.slice(at);
  if (rest.length === 1)
    return startingWith(fits({ candidates: current.startsWith("-") ? LEADING : subcommands() }), current);
  const [name = "", ...behind] = rest;
  const before = behind.slice(0, -1);
  if (name.toLowerCase() === FRAME_WORDS.help.word)
    return before.length > 0 ? NOTHING : startingWith(fits({ candidates: subcommands() }), current);
  if (name.toLowerCase() === FRAME_WORDS.completion.word)
    return startingWith(fits({ candidates: SHELLS.map((word) => ({ word, help: "" })) }), current);
  const spec = findSubcommand(name);
  return spec === undefined ? NOTHING : startingWith(completeSubcommand(spec, before, current), current);
}
