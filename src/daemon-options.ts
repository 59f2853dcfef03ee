/** The options of `ilbd run`: reading them, and what can be wrong with them before anything is touched. */
import { type ListenAddress, parseListen, refuseListen } from "./http/listen.ts";
import { LOG_FORMATS, LOG_LEVELS, type LogFormat, type LogLevel } from "./log.ts";
import { fail, ok, type Result } from "./model/result.ts";

export const IO_KINDS = ["packet", "tun", "none"] as const;
export type IoKind = (typeof IO_KINDS)[number];
export const COMPAT_MODES = ["ilb", "modern"] as const;
export type Compat = (typeof COMPAT_MODES)[number];

export interface RunOptions {
  readonly io: IoKind;
  /** null: all interfaces with an address, but loopback. */
  readonly devices: readonly string[] | null;
  readonly stateDirectory: string;
  readonly socket: string;
  readonly listen: ListenAddress | null;
  readonly tokenFile: string | null;
  readonly tls: { readonly certFile: string; readonly keyFile: string } | null;
  /** Imported once, if the database is empty. */
  readonly configFile: string | null;
  readonly workers: number;
  readonly maxFlows: number;
  /** How long a packet worker may look for packets again before it sleeps, microseconds; 0: it sleeps at once. */
  readonly spinUs: number;
  /** Priority while packet workers are strained, as nice(1) counts it; 0: as always. */
  readonly nice: number;
  readonly compat: Compat;
  readonly logLevel: LogLevel;
  readonly logFormat: LogFormat;
}

/** Name, value, meaning, default. */
const OPTIONS = [
  ["--io", "packet|tun|none", "packet device; none: control plane only", "packet"],
  ["--dev", "IF[,IF...]", "interfaces that the packet devices own", "all with an address, but loopback"],
  ["--state", "DIR", "configuration database", "/var/lib/ilb"],
  ["--socket", "PATH", "management socket", "/run/ilb/ilbd.sock"],
  ["--listen", "HOST:PORT", "HTTP over TCP", "off"],
  ["--token-file", "FILE", "bearer tokens: lines of NAME show,enable,config SHA256-OF-TOKEN", "none"],
  ["--tls-cert", "FILE", "certificate chain, PEM", "none"],
  ["--tls-key", "FILE", "its key, PEM", "none"],
  ["--config", "FILE", "import this once if the database is empty", "none"],
  ["--workers", "N", "packet workers, 1 to 7; flows are divided among them", "1"],
  ["--max-flows", "N", "flow table size, fixed at start", "1000000"],
  ["--spin-us", "N", "longest look for more packets before a worker sleeps, when that pays; 0: none", "50"],
  ["--nice", "N", "priority over other programs while more packets come than a worker can carry, -20 to 0", "-10"],
  ["--compat", "ilb|modern", "fragments, ICMP errors, IPv6 extension headers as the original or better", "modern"],
  ["--log-level", LOG_LEVELS.join("|"), "least level that is logged", "info"],
  ["--log-format", LOG_FORMATS.join("|"), "form of the log on stderr", "text"],
] as const;
type OptionName = (typeof OPTIONS)[number][0];

export const RUN_USAGE = `Usage: ilbd run [OPTION...]
${OPTIONS.map(([name, value, meaning, otherwise]) => `  ${`${name} ${value}`.padEnd(34)} ${meaning} [${otherwise}]`).join("\n")}
`;

const MIN_FLOWS = 1;
const MAX_FLOWS = 64_000_000;
const MAX_WORKERS = 7;
/** Beyond this a worker would starve what it waits for. */
const MAX_SPIN_US = 1000;

/** @param argv words after `run`. Fails with one line. */
export function parseRunOptions(argv: readonly string[]): Result<RunOptions> {
  const words = collect(argv);
  if (!words.ok) return words;
  const given = words.value;
  const listen = given.has("--listen") ? parseListen(given.get("--listen")!) : ok(null);
  if (!listen.ok) return listen;
  const [certFile, keyFile] = [given.get("--tls-cert"), given.get("--tls-key")];
  if ((certFile === undefined) !== (keyFile === undefined)) return wrong("--tls-cert and --tls-key belong together");
  const workers = wholeNumber(given, "--workers", 1, MAX_WORKERS, 1);
  const maxFlows = wholeNumber(given, "--max-flows", MIN_FLOWS, MAX_FLOWS, 1_000_000);
  const spinUs = wholeNumber(given, "--spin-us", 0, MAX_SPIN_US, 50);
  const nice = wholeNumber(given, "--nice", -20, 0, -10);
  const io = oneOf(given, "--io", IO_KINDS, "packet");
  const compat = oneOf(given, "--compat", COMPAT_MODES, "modern");
  const logLevel = oneOf(given, "--log-level", LOG_LEVELS, "info");
  const logFormat = oneOf(given, "--log-format", LOG_FORMATS, "text");
  for (const value of [workers, maxFlows, spinUs, nice, io, compat, logLevel, logFormat]) if (!value.ok) return value;
  const devices = given.get("--dev")?.split(",") ?? null;
  if (devices?.some((name) => !/^[^\s/]{1,15}$/.test(name)))
    return wrong(`--dev ${given.get("--dev")}: no interface name`);
  const options: RunOptions = {
    io: checkedValue(io),
    devices,
    stateDirectory: given.get("--state") ?? "/var/lib/ilb",
    socket: given.get("--socket") ?? "/run/ilb/ilbd.sock",
    listen: listen.value,
    tokenFile: given.get("--token-file") ?? null,
    tls: certFile === undefined ? null : { certFile, keyFile: keyFile! },
    configFile: given.get("--config") ?? null,
    workers: checkedValue(workers),
    maxFlows: checkedValue(maxFlows),
    spinUs: checkedValue(spinUs),
    nice: checkedValue(nice),
    compat: checkedValue(compat),
    logLevel: checkedValue(logLevel),
    logFormat: checkedValue(logFormat),
  };
  return refuseTogether(options) ?? ok(options);
}

function refuseTogether(options: RunOptions): Result<never> | null {
  if (options.listen === null && (options.tokenFile !== null || options.tls !== null))
    return wrong("--token-file, --tls-cert and --tls-key mean nothing without --listen");
  if (options.listen === null) return null;
  const refused = refuseListen(options.listen, options.tokenFile !== null, options.tls !== null);
  return refused === null ? null : wrong(refused);
}

function collect(argv: readonly string[]): Result<Map<OptionName, string>> {
  const given = new Map<OptionName, string>();
  for (let i = 0; i < argv.length; i++) {
    const word = argv[i]!;
    const equals = word.indexOf("=");
    const name = equals < 0 ? word : word.slice(0, equals);
    const known = OPTIONS.find(([option]) => option === name)?.[0];
    if (known === undefined) return wrong(`unknown option ${word}; 'ilbd --help' lists them`);
    const value = equals < 0 ? argv[++i] : word.slice(equals + 1);
    if (value === undefined || value === "") return wrong(`${name} needs a value`);
    given.set(known, value);
  }
  return ok(given);
}

function wholeNumber(
  given: ReadonlyMap<OptionName, string>,
  name: OptionName,
  min: number,
  max: number,
  otherwise: number,
): Result<number> {
  const text = given.get(name);
  if (text === undefined) return ok(otherwise);
  const value = /^-?\d{1,10}$/.test(text) ? Number(text) : Number.NaN;
  return value >= min && value <= max
    ? ok(value)
    : wrong(`${name} ${text}: a whole number from ${min} to ${max} is needed`);
}

function oneOf<const T extends string>(
  given: ReadonlyMap<OptionName, string>,
  name: OptionName,
  words: readonly T[],
  otherwise: NoInfer<T>,
): Result<T> {
  const text = given.get(name) ?? otherwise;
  const found = words.find((word) => word === text);
  return found === undefined ? wrong(`${name} ${text}: one of ${words.join(", ")} is needed`) : ok(found);
}

/** The value of a result that was checked before. */
function checkedValue<T>(result: Result<T>): T {
  if (!result.ok) throw new Error(result.failure.text);
  return result.value;
}

const wrong = (text: string): Result<never> => fail("E-USAGE", text);
