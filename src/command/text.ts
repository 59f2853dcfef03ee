/**
 * Words -> request. A POSIX option scanner (single letters, clusters, arguments attached or separate, the first operand
 * or `--` ends options) driven by a row of spec.ts, and the splitter of key=value arguments. Syntax only: nothing is
 * looked up, and whether the parts go together is for bind.ts.
 */
import { ok, type Result } from "../model/result.ts";
import { failed, failure, keyFailure } from "./errors.ts";
import type { AnyKey, FlagOption, KeysOption, TextOption } from "./options.ts";
import { type Given, parseValue, type Request } from "./request.ts";
import type { SubcommandSpec } from "./spec.ts";
import { failSuggesting } from "./suggest.ts";

interface Draft {
  readonly flags: Set<FlagOption>;
  readonly texts: Map<TextOption, string>;
  readonly values: Map<AnyKey, Given[]>;
  readonly seen: Set<string>;
}

/** The words of a command line, read one by one. */
class Words {
  #next = 0;
  readonly #words: readonly string[];

  constructor(words: readonly string[]) {
    this.#words = words;
  }

  peek(): string | undefined {
    return this.#words[this.#next];
  }

  take(): string | undefined {
    return this.#words[this.#next++];
  }

  rest(): readonly string[] {
    return this.#words.slice(this.#next);
  }
}

/** An argument that ends with a comma goes on in the next word, unless that looks like an option or there is none. */
function joinAfterComma(first: string, words: Words): Result<string> {
  let argument = first;
  while (argument.endsWith(",")) {
    const next = words.peek();
    if (next === undefined || next.startsWith("-")) return failed("E-SYNTAX");
    argument += next;
    words.take();
  }
  return ok(argument);
}

function findKey(option: KeysOption, spelling: string): AnyKey | undefined {
  const wanted = spelling.toLowerCase();
  return option.keys.find((key) => key.key === wanted || key.aliases.includes(wanted));
}

function store(draft: Draft, key: AnyKey, given: Given): void {
  const before = key.list ? (draft.values.get(key) ?? []) : [];
  draft.values.set(key, [...before, given]);
}

/** The failure of a key that the option does not have, with a hint where another option has it or it is misspelt. */
function unknownKey(option: KeysOption, spelling: string, spec: SubcommandSpec): Result<never> {
  const unknown = failure("E-KEYWORD", spelling);
  const owner = spec.options.find((other) => other.kind === "keys" && findKey(other, spelling) !== undefined);
  if (owner !== undefined)
    return { ok: false, failure: { ...unknown, hint: `${spelling} goes with -${owner.letter}` } };
  const spellings = option.keys.flatMap((key) => [key.key, ...key.aliases]);
  return failSuggesting(unknown, spelling, spellings);
}

/** Elements between commas, those that go on with the value before them joined to it. */
function elementsOf(option: KeysOption, argument: string): string[] {
  const elements: string[] = [];
  for (const element of argument.split(",")) {
    const before = elements.at(-1) ?? "";
    const key = findKey(option, before.slice(0, Math.max(0, before.indexOf("="))));
    if (key?.codec.goesOn?.(element)) elements[elements.length - 1] = `${before},${element}`;
    else elements.push(element);
  }
  return elements;
}

/** `key=value[,key=value...]`; once a list key stood, every further element is one of its values. */
function scanKeys(option: KeysOption, argument: string, draft: Draft, spec: SubcommandSpec): Result<void> {
  let list: AnyKey | null = null;
  for (const element of elementsOf(option, argument)) {
    if (element === "" || element.startsWith("=")) return failed("E-SYNTAX");
    if (list !== null) {
      const given = parseValue(element, list, element);
      if (!given.ok) return given;
      store(draft, list, given.value);
      continue;
    }
    const equals = element.indexOf("=");
    if (equals < 0) return { ok: false, failure: keyFailure(element, element, "E-ASSIGN") };
    const spelling = element.slice(0, equals);
    const key = findKey(option, spelling);
    if (key === undefined) return unknownKey(option, spelling, spec);
    const text = element.slice(equals + 1);
    if (text === "") return { ok: false, failure: keyFailure(spelling, key.property, "E-NOVALUE") };
    const given = parseValue(spelling, key, text);
    if (!given.ok) return given;
    store(draft, key, given.value);
    if (key.list) list = key;
  }
  return ok(undefined);
}

/** One word of options, `-x`, `-xyz`, `-xARG`, and the words that it takes with it. */
function scanOptionWord(spec: SubcommandSpec, word: string, words: Words, draft: Draft): Result<void> {
  const long = spec.options.find((candidate) => candidate.kind === "flag" && `-${candidate.letter}` === word);
  if (long?.kind === "flag" && word.startsWith("--")) {
    draft.flags.add(long);
    return ok(undefined);
  }
  for (let i = 1; i < word.length; i++) {
    const letter = word[i] as string;
    const option = spec.options.find((candidate) => candidate.letter === letter);
    if (option === undefined) return failed("E-OPTION", word);
    draft.seen.add(letter);
    if (option.kind === "flag") {
      draft.flags.delete(option); // the last of several stands last
      draft.flags.add(option);
      continue;
    }
    const argument = i + 1 < word.length ? word.slice(i + 1) : words.take();
    if (argument === undefined) return failed(spec.missingOptionArgument, letter);
    if (option.kind === "text") {
      draft.texts.set(option, argument);
      return ok(undefined);
    }
    const joined = joinAfterComma(argument, words);
    return joined.ok ? scanKeys(option, joined.value, draft, spec) : joined;
  }
  return ok(undefined);
}

/** In import files: whether `word`, which is no option, is the argument of an option that was left out. */
function isImpliedArgument(spec: SubcommandSpec, word: string, draft: Draft): boolean {
  return spec.implied !== null && word.includes("=") && !draft.seen.has(spec.implied.before.letter);
}

/**
 * Scans the words behind a subcommand's name.
 * @param lenient accept what import files may leave out (`SubcommandSpec.implied`)
 * @returns a frozen request, or the first thing wrong in the order of the words
 */
export function scan(spec: SubcommandSpec, argv: readonly string[], lenient = false): Result<Request> {
  const words = new Words(argv);
  const draft: Draft = { flags: new Set(), texts: new Map(), values: new Map(), seen: new Set() };
  for (let word = words.peek(); word !== undefined; word = words.peek()) {
    const isOption = word.startsWith("-") && word !== "-" && word !== "--";
    if (isOption) {
      words.take();
      const done = scanOptionWord(spec, word, words, draft);
      if (!done.ok) return done;
    } else if (lenient && spec.implied !== null && isImpliedArgument(spec, word, draft)) {
      words.take();
      const joined = joinAfterComma(word, words);
      const done = joined.ok ? scanKeys(spec.implied.option, joined.value, draft, spec) : joined;
      if (!done.ok) return done;
    } else {
      if (word === "--") words.take();
      break;
    }
  }
  const { flags, texts, values } = draft;
  return ok(Object.freeze({ spec, flags, texts, values, operands: Object.freeze([...words.rest()]) }));
}
