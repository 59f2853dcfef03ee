/**
 * A CommandHost in memory: the configuration is a variable, the clock stands until somebody sleeps, counters and table
 * entries are what the test sets. Host and service names come from two maps, so no test asks a resolver.
 */
import type {
  ChangeContext,
  CommandHost,
  Connector,
  HealthResult,
  RuleSample,
  StatisticsSample,
} from "../../src/command/host.ts";
import { type Chunk, type RunOptions, run } from "../../src/command/run.ts";
import type { FlowSnapshot, Placed, StickySnapshot } from "../../src/engine/engine.ts";
import { type Address, formatAddress, parseAddress } from "../../src/model/address.ts";
import { type Config, EMPTY_CONFIG, type Protocol } from "../../src/model/config.ts";
import { findRule, findServer, groupOf, serverId } from "../../src/model/lookup.ts";
import { ok, type Result } from "../../src/model/result.ts";

/** Counters of a rule that a test may set; all others are 0. */
export type RuleCounters = Partial<Omit<RuleSample, "ruleId" | "name" | "servers">>;

const NO_COUNTERS = {
  packetsNotProcessed: 0n,
  bytesNotProcessed: 0n,
  packetsDropped: 0n,
  bytesDropped: 0n,
  icmpEchoProcessed: 0n,
  icmpDropped: 0n,
  icmpTooBigProcessed: 0n,
  icmpTooBigDropped: 0n,
  packetsNoMemory: 0n,
  bytesNoMemory: 0n,
  packetsNoPort: 0n,
  bytesNoPort: 0n,
};

export class FakeHost implements CommandHost {
  #config: Config;
  /** Wall clock, milliseconds; sleep() moves it. 2030-01-02 03:04:05 local time at first. */
  nowMs = new Date(2030, 0, 2, 3, 4, 5).getTime();
  /** Called while somebody sleeps, with how often that happened before: what goes on between two samples. */
  whileSleeping: (times: number) => void | Promise<void> = () => {};
  readonly sleeps: number[] = [];
  /** Canonical lines of the changes that were made. */
  readonly audit: string[] = [];
  /** The failure of the next transaction, as storage or the engine would give it. */
  failNext: Result<never> | null = null;
  readonly draining = new Map<number, Set<number>>();
  readonly hosts = new Map<string, string>();
  readonly names = new Map<string, string>();
  readonly services = new Map<string, Partial<Record<Protocol, number>>>([
    ["http", { tcp: 80 }],
    ["ftp", { tcp: 21 }],
    ["ftp-data", { tcp: 20 }],
    ["telnet", { tcp: 23 }],
    ["dns", { tcp: 53, udp: 53 }],
  ]);
  readonly looked: string[] = [];
  flows: FlowSnapshot[] = [];
  sticky: StickySnapshot[] = [];
  healthResults?: () => readonly HealthResult[];
  externalTest: NonNullable<ChangeContext["externalTest"]> = () => "executable";
  /** Ports that answer, and how; any other is silent and takes the whole of its time. */
  readonly answers = new Map<number, "connected" | "refused" | "unreachable">();
  /** What was tried. */
  readonly tried: { readonly target: string; readonly port: number; readonly timeoutMs: number }[] = [];
  /** Tests that may still begin. */
  freeTests = 1;
  readonly #rules = new Map<number, RuleCounters>();
  readonly #pairs = new Map<string, { packets: bigint; bytes: bigint }>();

  constructor(config: Config = EMPTY_CONFIG) {
    this.#config = config;
  }

  config(): Config {
    return this.#config;
  }

  changeContext(): ChangeContext {
    return {
      drainingNumbers: (groupId) => this.draining.get(groupId) ?? new Set(),
      externalTest: (path) => this.externalTest(path),
    };
  }

  async transact(
    audit: string,
    change: (config: Config, context: ChangeContext) => Result<Config> | Promise<Result<Config>>,
  ): Promise<Result<void>> {
    const next = await change(this.#config, this.changeContext());
    if (!next.ok) return next;
    if (this.failNext !== null) {
      const failure = this.failNext;
      this.failNext = null;
      return failure;
    }
    this.#config = next.value;
    this.audit.push(audit);
    return ok(undefined);
  }

  /** Sets what a rule has counted. */
  countRule(rule: string, counters: RuleCounters): void {
    const found = findRule(this.#config, rule);
    if (found === undefined) throw new Error(`no rule ${rule}`);
    this.#rules.set(found.id, { ...this.#rules.get(found.id), ...counters });
  }

  /** Sets what a server has counted in a rule. */
  countServer(rule: string, server: string, packets: bigint, bytes: bigint): void {
    const found = findRule(this.#config, rule);
    const member = findServer(this.#config, server);
    if (found === undefined || member === undefined) throw new Error(`no server ${server} in a rule ${rule}`);
    this.#pairs.set(`${found.id} ${member.server.id}`, { packets, bytes });
  }

  statistics(): StatisticsSample {
    const rules = this.#config.rules.map((rule): RuleSample => {
      const group = groupOf(this.#config, rule);
      const servers = group.servers.map((server) => ({
        serverId: server.id,
        name: serverId(group, server),
        ...(this.#pairs.get(`${rule.id} ${server.id}`) ?? { packets: 0n, bytes: 0n }),
      }));
      return { ruleId: rule.id, name: rule.name, servers, ...NO_COUNTERS, ...this.#rules.get(rule.id) };
    });
    return { takenAtMs: this.nowMs, rules };
  }

  natEntries(): Iterable<FlowSnapshot> {
    return this.flows;
  }

  persistEntries(): Iterable<StickySnapshot> {
    return this.sticky;
  }

  natEntriesFrom(place: number): Iterable<Placed<FlowSnapshot>> {
    return placed(this.flows, place);
  }

  persistEntriesFrom(place: number): Iterable<Placed<StickySnapshot>> {
    return placed(this.sticky, place);
  }

  async resolveHost(name: string): Promise<Address | null> {
    this.looked.push(name);
    return parseAddress(this.hosts.get(name.toLowerCase()) ?? "");
  }

  async reverseLookup(address: Address): Promise<string | null> {
    this.looked.push(formatAddress(address));
    return this.names.get(formatAddress(address)) ?? null;
  }

  async resolveService(name: string, prefer: Protocol): Promise<number | null> {
    this.looked.push(name);
    const ports = this.services.get(name.toLowerCase());
    return ports?.[prefer] ?? ports?.tcp ?? ports?.udp ?? null;
  }

  /** An answer takes a millisecond. Local ports rise from 40924. */
  connector(): Connector | null {
    if (this.freeTests === 0) return null;
    this.freeTests--;
    return {
      nowMs: () => this.nowMs,
      connect: async (target, port, timeoutMs) => {
        this.tried.push({ target: formatAddress(target), port, timeoutMs });
        const result = this.answers.get(port) ?? "timeout";
        const tookMs = result === "timeout" ? timeoutMs : 1;
        this.nowMs += tookMs;
        const address = parseAddress(target.family === 4 ? "192.0.2.5" : "2001:db8::5")!;
        const local = result === "unreachable" ? null : { address, port: 40922 + 2 * this.tried.length };
        return ok({ result, local, microseconds: tookMs * 1000 });
      },
      close: () => {
        this.freeTests++;
      },
    };
  }

  async sleep(milliseconds: number): Promise<void> {
    await this.whileSleeping(this.sleeps.length);
    this.sleeps.push(milliseconds);
    this.nowMs += milliseconds;
  }
}

export interface Answer {
  readonly exit: number;
  readonly stdout: string;
  readonly stderr: string;
  readonly chunks: readonly Chunk[];
}

/** Runs one command line to its end. @param words the line split at blanks, or the words themselves */
export async function ilbadm(
  host: CommandHost,
  words: string | readonly string[],
  options: Partial<RunOptions> = {},
): Promise<Answer> {
  const argv = typeof words === "string" ? words.split(" ").filter((word) => word !== "") : words;
  const chunks: Chunk[] = [];
  const answer = run(argv, host, { right: () => true, origin: "shell", ...options });
  for (;;) {
    const step = await answer.next();
    if (step.done) {
      const join = (stream: "stdout" | "stderr") => chunks.map((chunk) => chunk[stream] ?? "").join("");
      return { exit: step.value, stdout: join("stdout"), stderr: join("stderr"), chunks };
    }
    chunks.push(step.value);
  }
}

/** Entries of a list with their index as place. */
const placed = <T>(entries: readonly T[], from: number): Placed<T>[] =>
  entries.map((entry, place) => ({ place, entry })).slice(from);

/** Runs several lines that must all succeed silently. */
export async function setUp(host: CommandHost, ...lines: string[]): Promise<void> {
  for (const line of lines) {
    const { exit, stdout, stderr } = await ilbadm(host, line);
    if (exit !== 0 || stdout !== "" || stderr !== "") throw new Error(`${line}: ${exit} ${stdout}${stderr}`);
  }
}

/** Standard error of a failing command but for hints; it must print nothing else. Throws when it succeeds. */
export async function errorOf(
  host: CommandHost,
  words: string | readonly string[],
  options: Partial<RunOptions> = {},
): Promise<string> {
  const { exit, stdout, stderr } = await ilbadm(host, words, options);
  if (exit !== 1 || stdout !== "") throw new Error(`expected a failure, got ${exit} ${stdout}${stderr}`);
  return stderr.replace(/^ilbadm: hint: .*\n/gm, "");
}

/** Standard output of a succeeding command without diagnostics. */
export async function outputOf(host: CommandHost, words: string | readonly string[]): Promise<string> {
  const { exit, stdout, stderr } = await ilbadm(host, words);
  if (exit !== 0 || stderr !== "") throw new Error(`expected success, got ${exit} ${stderr}`);
  return stdout;
}
