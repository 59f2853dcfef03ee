/**
 * The manual page ilbadm(8) as troff source with the man macros, written from the rows of spec.ts and the examples of
 * the reference. Writes no file: scripts/commands-doc.ts does.
 */
import { FIELDS_OF } from "./fields-of.ts";
import type { AnyKey, OptionSpec } from "./options.ts";
import { EXAMPLES, type Example } from "./reference.ts";
import { FRAME_WORDS, SUBCOMMANDS, type SubcommandSpec } from "./spec.ts";

/** Text that troff shall print as it is: no escapes, no requests at the beginning of a line, hyphens that can be copied. */
const plain = (text: string): string =>
  text
    .replaceAll("\\", "\\e")
    .replaceAll("-", "\\-")
    .replace(/^([.'])/gm, "\\&$1");
/** Words in quotes, as macro arguments. */
const argument = (text: string): string => `"${plain(text).replaceAll('"', '""')}"`;
const bold = (text: string): string => `\\fB${plain(text)}\\fR`;

const section = (title: string, ...lines: readonly string[]): string[] => [`.SH ${argument(title)}`, ...lines];
const paragraph = (text: string): string[] => [".PP", plain(text)];
const item = (label: string, text: string): string[] => [".TP", label, plain(text)];

function keyItem(key: AnyKey): string[] {
  const names = [key.key, ...key.aliases].map(bold).join(", ");
  const fallback = key.fallback === undefined ? "" : ` Default: ${key.fallback}.`;
  return item(names, `${sentence(key.help)} ${sentence(key.codec.help)}${fallback}`);
}

const sentence = (text: string): string => `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;

function optionItem(option: OptionSpec): string[] {
  const value = option.kind === "flag" ? "" : ` ${plain(option.placeholder)}`;
  const lines = item(`${bold(`-${option.letter}`)}${value}`, sentence(option.help));
  return option.kind === "keys" ? [...lines, ".RS", ...option.keys.flatMap(keyItem), ".RE"] : lines;
}

function subcommandPart(spec: SubcommandSpec): string[] {
  const names = spec.long === spec.short ? spec.long : `${spec.long}, ${spec.short}`;
  const fields = FIELDS_OF[spec.long];
  return [
    `.SS ${argument(names)}`,
    `${bold("ilbadm")} ${bold(spec.long)} ${plain(spec.synopsis)}`.trimEnd(),
    ...paragraph(`${sentence(spec.summary)} Needs the right ${spec.right}.`),
    ...spec.options.flatMap(optionItem),
    ...(fields === undefined ? [] : paragraph(`Fields: ${fields.join(", ")}.`)),
  ];
}

function examplePart({ title, lines, output }: Example): string[] {
  const printed = output.trimEnd().split("\n");
  return [
    ".PP",
    plain(`${title}:`),
    ".PP",
    ".in +2n",
    ".nf",
    ...lines.map((line) => plain(`# ilbadm ${line}`)),
    ...printed.map(plain),
    ".fi",
    ".in",
  ];
}

const NAMES = `Names of rules and health checks have up to 19 characters, those of server groups up to 14: letters, digits, "_", "-" and ".", the first a letter or digit. They are found in any case and shown as they were first written. A server is named by its ID, "_GROUP.NUMBER", which add-server and create-servergroup give out.`;
const FORM = `Subcommands have a long and a short name and match in any case, as do keys. Options are single letters and may be clustered; the first operand ends them, and so does "--". An argument of the form key=value[,key=value...] is one word, or goes on in the next word after a comma.`;
const OUTPUT = `Listings print a table. -o FIELD,... chooses the columns, "all" stands for every one. -p with it prints for programs: no header, fields joined with ":", with a backslash before ":" and backslash in a value, but not when there is one field only. --json prints objects. An empty value is "--", one that cannot be determined "?".`;
const FILES_TEXT = `The lines of a file that import-config reads are the same commands without "ilbadm". Lines that begin with "#" and blank lines are skipped, and a backslash at the end of a line joins it to the next. An import is one change: all of it takes effect, or nothing does.`;

/** The whole page. @param version of the program, for the foot of the page */
export function manualPage(version: string): string {
  const lines = [
    '.\\" Written by scripts/commands-doc.ts from src/command/spec.ts. Do not edit.',
    `.TH ILBADM 8 "" ${argument(`ILB ${version}`)} "System Administration"`,
    ...section("NAME", "ilbadm \\- administer the integrated load balancer"),
    ...section(
      "SYNOPSIS",
      `${bold("ilbadm")} [${bold("--socket")} PATH | ${bold("--url")} URL [${bold("--token-file")} FILE]] [${bold("--pretty")}] [${bold("--watch")}[=SECONDS]] SUBCOMMAND [options] [operands]`,
    ),
    ...section("DESCRIPTION"),
    ...paragraph("ilbadm changes and shows the rules by which ilbd balances TCP and UDP traffic."),
    ...paragraph(FORM),
    ...paragraph(NAMES),
    ...paragraph(OUTPUT),
    ...paragraph(FILES_TEXT),
    ...section("OPTIONS"),
    ...item(`${bold("--socket")} PATH`, "The daemon's socket. Default: ILB_SOCKET, or /run/ilb/ilbd.sock."),
    ...item(`${bold("--url")} URL`, "Talk to a daemon over HTTP instead."),
    ...item(`${bold("--token-file")} FILE`, "A file whose first line is the bearer token for --url."),
    ...item(bold("--pretty"), "Align tables to their contents, with colours on a terminal."),
    ...item(`${bold("--watch")}[=SECONDS]`, "Run a show command again and again on a cleared screen, every 2 seconds."),
    ...section("SUBCOMMANDS"),
    ...Object.values(SUBCOMMANDS).flatMap(subcommandPart),
    ...Object.values(FRAME_WORDS).flatMap(({ word, synopsis, summary }) => [
      `.SS ${argument(word)}`,
      `${bold("ilbadm")} ${bold(word)} ${plain(synopsis)}`,
      ...paragraph(sentence(summary)),
    ]),
    ...section("EXAMPLES"),
    ...EXAMPLES.flatMap(examplePart),
    ...section("EXIT STATUS"),
    ...item("0", "Success."),
    ...item("1", 'Failure; the reason is on standard error, in lines that begin with "ilbadm: ".'),
    ...item("2", "A dry run (-n) found differences."),
    ...section("ENVIRONMENT"),
    ...item(bold("ILB_SOCKET"), "The daemon's socket, unless --socket or --url names another."),
    ...item(bold("NO_COLOR"), "No colours, whatever else was asked for."),
    ...section("SEE ALSO", `${bold("ilbd")}(8)`),
  ];
  return `${lines.join("\n")}\n`;
}
