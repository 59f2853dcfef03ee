/**
 * `ilbd token`: makes, lists and withdraws the bearer tokens of a token file. A token is shown once, when it is made;
 * the file holds its hash. The file is replaced as a whole, so a running daemon sees the old or the new one.
 */
import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, readFileSync, renameSync, unlinkSync, writeSync } from "node:fs";
import { fail, ok, type Result } from "../model/result.ts";
import { hashOf, parseRights, parseTokens, RIGHTS } from "./tokens.ts";

export const TOKEN_USAGE = `Usage: ilbd token add --file FILE --name NAME --rights ${RIGHTS.join(",")}
       ilbd token list --file FILE
       ilbd token remove --file FILE --name NAME
  add prints the new token, once; FILE keeps its hash and is what --token-file of 'ilbd run' reads
`;

const OPTIONS = ["--file", "--name", "--rights"] as const;
type OptionName = (typeof OPTIONS)[number];
/** Which options each verb needs. It takes no others. */
const VERBS: Readonly<Record<string, readonly OptionName[]>> = {
  add: ["--file", "--name", "--rights"],
  list: ["--file"],
  remove: ["--file", "--name"],
};
const NAME = /^[A-Za-z0-9][A-Za-z0-9_.-]{0,63}$/;

/** @param argv words after `token`. @returns what goes to standard output, or one line of what is wrong */
export function runToken(argv: readonly string[]): Result<string> {
  const [verb = "", ...rest] = argv;
  const needed = VERBS[verb];
  if (needed === undefined) return wrong(`token: one of ${Object.keys(VERBS).join(", ")} is needed`);
  const given = readOptions(rest, verb, needed);
  if (!given.ok) return given;
  const [file, name, rights] = OPTIONS.map((option) => given.value.get(option) ?? "") as [string, string, string];
  if (name !== "" && !NAME.test(name)) return wrong(`--name ${name}: letters, digits, '_', '.' and '-', at most 64`);
  const lines = readLines(file, verb === "add");
  if (!lines.ok) return lines;
  const isNamed = (line: string): boolean => line.split(/\s+/)[0] === name;
  switch (verb) {
    case "add":
      return lines.value.some(isNamed)
        ? wrong(`--name ${name}: ${file} has a token of this name; remove it first`)
        : add(file, lines.value, name, rights);
    case "remove":
      if (!lines.value.some(isNamed)) return wrong(`--name ${name}: ${file} has no such token`);
      return replaceFile(
        file,
        lines.value.filter((line) => !isNamed(line)),
        "",
      );
    default:
      return ok(
        lines.value
          .filter(isToken)
          .map((line) => `${line.trim().split(/\s+/).slice(0, 2).join(" ")}\n`)
          .join(""),
      );
  }
}

const isToken = (line: string): boolean => line.trim() !== "" && !line.startsWith("#");

function add(file: string, lines: readonly string[], name: string, rights: string): Result<string> {
  if (parseRights(rights) === null) return wrong(`--rights ${rights}: a list of ${RIGHTS.join(", ")} is needed`);
  const token = `ilb_${randomBytes(32).toString("base64url")}`;
  return replaceFile(file, [...lines, `${name} ${rights} ${hashOf(token).toString("hex")}`], `${token}\n`);
}

function readOptions(
  words: readonly string[],
  verb: string,
  needed: readonly OptionName[],
): Result<ReadonlyMap<OptionName, string>> {
  const given = new Map<OptionName, string>();
  for (let at = 0; at < words.length; at += 2) {
    const option = needed.find((name) => name === words[at]);
    if (option === undefined) return wrong(`token ${verb} takes no ${words[at]}`);
    const value = words[at + 1] ?? "";
    if (value === "") return wrong(`${option} needs a value`);
    given.set(option, value);
  }
  const missing = needed.find((option) => !given.has(option));
  return missing === undefined ? ok(given) : wrong(`token ${verb} needs ${missing}`);
}

/** The lines of a token file that is right; none when it may be new and is not there. */
function readLines(file: string, mayBeNew: boolean): Result<readonly string[]> {
  let text: string;
  try {
    text = readFileSync(file, "utf8");
  } catch (error) {
    const { code } = error as NodeJS.ErrnoException;
    return mayBeNew && code === "ENOENT" ? ok([]) : wrong(`--file ${file} cannot be read (${code})`);
  }
  const parsed = parseTokens(text);
  if (!parsed.ok) return wrong(`--file ${file}: ${parsed.failure.text}`);
  return ok(text.replace(/\n$/, "").split("\n"));
}

function replaceFile(file: string, lines: readonly string[], answer: string): Result<string> {
  const working = `${file}.${process.pid}`;
  try {
    const fd = openSync(working, "wx", 0o600);
    writeSync(fd, lines.map((line) => `${line}\n`).join(""));
    fsyncSync(fd);
    closeSync(fd);
    renameSync(working, file);
    return ok(answer);
  } catch (error) {
    try {
      unlinkSync(working);
    } catch {
      // It was not made.
    }
    return wrong(`--file ${file} cannot be written (${(error as NodeJS.ErrnoException).code})`);
  }
}

const wrong = (text: string): Result<never> => fail("E-USAGE", text);
