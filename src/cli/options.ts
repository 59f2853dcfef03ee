/**
 * The long options of ilbadm that stand before the subcommand: which daemon to talk to. What follows belongs to the one
 * grammar (command/) and is not looked at here.
 */
import { readFileSync } from "node:fs";
import type { Target } from "../client/client.ts";

export const DEFAULT_SOCKET = "/run/ilb/ilbd.sock";

export type CliOptions =
  | { readonly target: Target; readonly argv: readonly string[] }
  /** What is wrong, for stderr. */
  | { readonly wrong: string };

const TAKES_VALUE = ["--socket", "--url", "--token-file"];

/** @param argv words after the program's name */
export function parseOptions(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): CliOptions {
  const given = new Map<string, string>();
  let i = 0;
  for (; i < argv.length; i++) {
    const [name = "", ...rest] = argv[i]!.split("=");
    if (!TAKES_VALUE.includes(name)) break;
    const value = rest.length > 0 ? rest.join("=") : argv[++i];
    if (value === undefined || value === "") return { wrong: `missing option-argument for ${name}` };
    given.set(name, value);
  }
  const url = given.get("--url");
  if (url !== undefined && given.has("--socket")) return { wrong: "options --socket and --url are mutually exclusive" };
  if (url !== undefined && !/^https?:\/\/[^/]/.test(url))
    return { wrong: `--url ${url} is no http:// or https:// URL` };
  const token = readToken(given.get("--token-file"));
  if (typeof token === "object" && token !== null) return token;
  const socket = url === undefined ? (given.get("--socket") ?? (environment.ILB_SOCKET || DEFAULT_SOCKET)) : null;
  return { target: { socket, url: url ?? null, token }, argv: argv.slice(i) };
}

/** The first line of the file is the token. */
function readToken(file: string | undefined): string | null | { wrong: string } {
  if (file === undefined) return null;
  try {
    const token = readFileSync(file, "utf8").split("\n")[0]!.trim();
    return /^[\x21-\x7e]+$/.test(token) ? token : { wrong: `file ${file} holds no token in its first line` };
  } catch {
    return { wrong: `file ${file} cannot be opened for reading` };
  }
}
