/** Help texts, made from the rows of spec.ts. */
import { FIELDS_OF } from "./fields-of.ts";
import type { AnyKey, OptionSpec } from "./options.ts";
import { FRAME_WORDS, type FrameWord, SUBCOMMANDS, type SubcommandSpec } from "./spec.ts";

/** The usage list: `Usage:` and one line per subcommand, with a newline at its end. */
export function usageList(): string {
  const lines = [
    ...Object.values(SUBCOMMANDS).map((spec) => `ilbadm ${spec.long}|${spec.short} ${spec.synopsis}`),
    ...Object.values(FRAME_WORDS).map(({ word, synopsis }) => `ilbadm ${word} ${synopsis}`),
  ];
  return `${["Usage:", ...lines].join("\n")}\n`;
}

const COLUMN = 22;
const entry = (indent: number, name: string, text: string): string =>
  `${`${" ".repeat(indent)}${name}`.padEnd(COLUMN - 1)} ${text}`;

function keyLine(key: AnyKey): string {
  const also = key.aliases.length === 0 ? "" : ` (also ${key.aliases.join(", ")})`;
  const fallback = key.fallback === undefined ? "" : `; default ${key.fallback}`;
  return entry(6, `${key.key}=`, `${key.help}${also}: ${key.codec.help}${fallback}`);
}

function optionLines(option: OptionSpec): string[] {
  const name = `-${option.letter}${option.kind === "flag" ? "" : ` ${option.placeholder}`}`;
  return [entry(2, name, option.help), ...(option.kind === "keys" ? option.keys.map(keyLine) : [])];
}

/** What `help SUBCOMMAND` prints, with a newline at its end. */
export function subcommandHelp(spec: SubcommandSpec): string {
  const names = spec.long === spec.short ? spec.long : `${spec.long}|${spec.short}`;
  const lines = [
    `usage: ilbadm ${names} ${spec.synopsis}`.trimEnd(),
    "",
    `${spec.summary}; needs the right ${spec.right}`,
  ];
  if (spec.options.length > 0) lines.push("", "Options:", ...spec.options.flatMap(optionLines));
  const fields = FIELDS_OF[spec.long];
  if (fields !== undefined) lines.push("", "Fields:", `  ${fields.join(" ")}`);
  return `${lines.join("\n")}\n`;
}

/** What `help` says of a word that is no subcommand, with a newline at its end. */
export const frameHelp = ({ word, synopsis, summary }: FrameWord): string =>
  `usage: ilbadm ${word} ${synopsis}\n\n${summary}\n`;
