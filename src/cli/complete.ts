/**
 * The hidden word `__complete` that the shells' scripts call: prints what can stand at the end of a line. Names come from
 * the daemon; where it does not answer at once there are none, without a word about it.
 */
import { createClient, type Target } from "../client/client.ts";
import { type Candidate, complete } from "../command/complete.ts";
import type { Named } from "../command/options.ts";
import { parseOptions } from "./options.ts";

/** The word after `ilbadm` that asks for candidates. */
export const COMPLETE_WORD = "__complete";

/** Nobody waits longer than this for a key press to be answered. */
const PATIENCE_MS = 1000;

/** The listing that tells the names of a kind, one on a line. */
const LISTINGS: Readonly<Record<Exclude<Named, "file">, readonly string[]>> = {
  rule: ["show-rule", "-p", "-o", "rulename"],
  servergroup: ["show-servergroup", "-p", "-o", "sgname"],
  server: ["show-servergroup", "-p", "-o", "serverid"],
  healthcheck: ["show-healthcheck", "--json"],
  host: ["show-host", "-p", "-o", "name"],
};

async function namesOf(kind: Exclude<Named, "file">, target: Target): Promise<string[]> {
  const answer = await createClient(target).v1.ilbadm.$post({ json: { argv: [...LISTINGS[kind]] } });
  const { stdout } = (await answer.json()) as { stdout: string };
  if (kind === "healthcheck") return (JSON.parse(stdout) as { name: string }[]).map(({ name }) => name);
  return [...new Set(stdout.split("\n").filter((name) => name !== ""))];
}

/** Lines for the scripts of command/completion-scripts.ts. @param words those behind `ilbadm`, the last unfinished */
export async function completionLines(
  words: readonly string[],
  environment: Readonly<Record<string, string | undefined>>,
): Promise<string> {
  const { prefix, candidates, names, open } = complete(words);
  if (names === "file") return ":file\n";
  const found: Candidate[] = [...candidates];
  const options = parseOptions(words, environment);
  if (names !== null && !("wrong" in options)) {
    const late = Bun.sleep(PATIENCE_MS).then((): string[] => []);
    const wanted = (words.at(-1) ?? "").slice(prefix.length).toLowerCase();
    const known = await Promise.race([namesOf(names, options.target).catch(() => []), late]);
    found.push(...known.filter((name) => name.toLowerCase().startsWith(wanted)).map((word) => ({ word, help: names })));
  }
  const lines = found.map(({ word, help }) => prefix + word + (help === "" ? "" : `\t${help}`));
  return [...(open ? [":nospace"] : []), ...lines].map((text) => `${text}\n`).join("");
}
