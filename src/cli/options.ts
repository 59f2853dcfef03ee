/**
 * The long options of ilbadm that stand before the subcommand: which daemon to talk to, and how its output is shown. What follows belongs to the one
 * grammar (command/) and is not looked at here.
 */
import { readFileSync } from "node:fs";
import type { Target } from "../client/client.ts";

export const DEFAULT_SOCKET = "/run/ilb/ilbd.sock";

export type CliOptions =
  | { readonly target: Target; readonly argv: readonly string[]; readonly view: View }
  /** What is wrong, for stderr. */
  | { readonly wrong: string };

/** How output is shown. Without any of it: exactly as the daemon sends it. */
export interface View {
  /** Columns as wide as their cells, colours on a terminal. */
  readonly pretty: boolean;
  /** Seconds after which the command is run again, on a cleared screen; null: it is run once. */
  readonly everySeconds: number | null;
}

const WATCH_SECONDS = 2;
const MAX_WATCH_SECONDS = 86_400;

const TAKES_VALUE = ["--socket", "--url", "--token-file"];

/** @param argv words after the program's name */
export function parseOptions(
  argv: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): CliOptions {
  const given = new Map<string, string>();
  let pretty = false;
  let json = false;
  let everySeconds: number | null = null;
  let i = 0;
  for (; i < argv.length; i++) {
    const [name = "", ...rest] = argv[i]!.split("=");
    if (argv[i] === "--pretty") pretty = true;
    else if (argv[i] === "--json") json = true;
    else if (name === "--watch") {
      const seconds = rest.length === 0 ? WATCH_SECONDS : Number(rest.join("="));
      if (!Number.isInteger(seconds) || seconds < 1 || seconds > MAX_WATCH_SECONDS)
        return { wrong: `${argv[i]}: a whole number of seconds from 1 to ${MAX_WATCH_SECONDS} is needed` };
      everySeconds = seconds;
    }
    if (["--pretty", "--json", "--watch"].includes(name)) continue;
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
  // `--json` belongs to the subcommand, wherever it was said.
  const words = json && i < argv.length ? [argv[i]!, "--json", ...argv.slice(i + 1)] : argv.slice(i);
  return { target: { socket, url: url ?? null, token }, argv: words, view: { pretty, everySeconds } };
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
