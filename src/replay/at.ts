/**
 * The commands of `--at`: an ilbadm command line, or a health state. What is wrong with their words alone is found
 * before the replay begins; running them is the box's part (box.ts).
 */
import { splitWords } from "../command/file.ts";
import { check, isTimed } from "../command/run.ts";
import { fail, ok, type Result } from "../model/result.ts";

export type AtAction =
  /** Words after `ilbadm`. */
  | { readonly kind: "command"; readonly argv: readonly string[] }
  | { readonly kind: "health"; readonly up: boolean; readonly serverId: string; readonly rule: string };

export interface AtCommand {
  /** Nanoseconds after the first packet. */
  readonly atNs: bigint;
  readonly action: AtAction;
  /** As it was given, for messages. */
  readonly text: string;
}

const SECONDS = /^(\d{1,9})(?:\.(\d{1,9}))?$/;
const HEALTH = { "server-up": true, "server-down": false } as const;

/** Reads the two words of one `--at`. Fails with one line. */
export function parseAt(seconds: string | undefined, command: string | undefined): Result<AtCommand> {
  if (seconds === undefined || command === undefined) return wrong("--at needs SECONDS and a COMMAND in quotes");
  const time = SECONDS.exec(seconds);
  if (time === null) return wrong(`--at ${seconds}: seconds after the first packet are needed, as 5 or 2.5`);
  const atNs = BigInt(time[1]!) * 1_000_000_000n + BigInt((time[2] ?? "").padEnd(9, "0"));
  const text = `--at ${seconds} '${command}'`;
  const action = parseAction(splitWords(command), text);
  return action.ok ? ok({ atNs, action: action.value, text }) : action;
}

function parseAction(words: readonly string[], text: string): Result<AtAction> {
  const argv = words[0] === "ilbadm" ? words.slice(1) : words;
  const health = argv[0]?.toLowerCase() ?? "";
  if (health === "server-up" || health === "server-down") {
    const [, serverId, rule, ...rest] = argv;
    if (serverId === undefined || rule === undefined || rest.length > 0)
      return wrong(`${text}: ${health} needs a server ID and a rule`);
    return ok({ kind: "health", up: HEALTH[health], serverId, rule });
  }
  const refused = check(argv);
  if (refused !== null && refused.status !== 0)
    return wrong(`${text}: ${(refused.stderr.split("\n")[0] || "no command").replace(/^ilbadm: /, "")}`);
  if (isTimed(argv)) return wrong(`${text}: no INTERVAL here; give one --at per sample`);
  return ok({ kind: "command", argv });
}

const wrong = (text: string): Result<never> => fail("E-USAGE", text);
