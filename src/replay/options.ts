/** The options of `ilbd replay`: reading them, and what can be wrong with them before any file is touched. */
import type { Compat } from "../engine/engine.ts";
import { fail, ok, type Result } from "../model/result.ts";
import { type AtCommand, parseAt } from "./at.ts";

const COMPAT_MODES: readonly Compat[] = ["ilb", "modern"];

export interface ReplayOptions {
  readonly configFile: string;
  readonly inFile: string;
  readonly outFile: string;
  /** null: no verdicts are written. */
  readonly verdictsFile: string | null;
  /** By time, those of one time in the order in which they were given. */
  readonly commands: readonly AtCommand[];
  readonly compat: Compat;
}

export const REPLAY_USAGE = `Usage: ilbd replay --config FILE --in IN.pcap --out OUT.pcap [OPTION...]
  --config FILE            commands as import-config reads them
  --in IN.pcap             pcap or pcapng, Ethernet or raw IP
  --out OUT.pcap           what the engine sends, with the link type of IN
  --verdicts V.jsonl       one JSON object per packet of IN [none]
  --at SECONDS 'COMMAND'   at so many seconds after the first packet: an ilbadm command, or
                           server-down ID RULE, server-up ID RULE (health); may be repeated
  --compat ilb|modern      as for ilbd run [modern]
The same engine over a capture: no privileges, no network, no clock but the capture's.
`;

const SINGLE = ["--config", "--in", "--out", "--verdicts", "--compat"] as const;
type SingleName = (typeof SINGLE)[number];

/** @param argv words after `replay`. Fails with one line. */
export function parseReplayOptions(argv: readonly string[]): Result<ReplayOptions> {
  const given = new Map<SingleName, string>();
  const commands: AtCommand[] = [];
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    const equals = word.startsWith("--") ? word.indexOf("=") : -1;
    const name = equals < 0 ? word : word.slice(0, equals);
    const value = equals < 0 ? argv[++i] : word.slice(equals + 1);
    if (name === "--at") {
      const command = parseAt(value, argv[++i]);
      if (!command.ok) return command;
      commands.push(command.value);
      continue;
    }
    const known = SINGLE.find((single) => single === name);
    if (known === undefined) return wrong(`unknown option ${word}; 'ilbd replay --help' lists them`);
    if (value === undefined || value === "") return wrong(`${name} needs a value`);
    if (given.has(known)) return wrong(`${name} is given twice`);
    given.set(known, value);
  }
  // Stable, so commands of one time keep their order.
  commands.sort((a, b) => (a.atNs < b.atNs ? -1 : a.atNs > b.atNs ? 1 : 0));
  return complete(given, commands);
}

function complete(given: ReadonlyMap<SingleName, string>, commands: readonly AtCommand[]): Result<ReplayOptions> {
  for (const name of ["--config", "--in", "--out"] as const)
    if (!given.has(name)) return wrong(`${name} is needed; 'ilbd replay --help' says more`);
  const compatText = given.get("--compat") ?? "modern";
  const compat = COMPAT_MODES.find((mode) => mode === compatText);
  if (compat === undefined) return wrong(`--compat ${compatText}: one of ${COMPAT_MODES.join(", ")} is needed`);
  const options: ReplayOptions = {
    configFile: given.get("--config")!,
    inFile: given.get("--in")!,
    outFile: given.get("--out")!,
    verdictsFile: given.get("--verdicts") ?? null,
    commands,
    compat,
  };
  if (options.verdictsFile === options.outFile) return wrong("--out and --verdicts must be two files");
  return ok(options);
}

const wrong = (text: string): Result<never> => fail("E-USAGE", text);
