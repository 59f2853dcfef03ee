/**
 * show-statistics: samples of the engine's counters, summed and compared, printed in columns. The engine is asked once
 * per sample, through the host; time comes from the sample, waiting from the host.
 */
import { compareAddresses } from "../model/address.ts";
import type { Config } from "../model/config.ts";
import { findRule, findServer } from "../model/lookup.ts";
import { ok, type Result } from "../model/result.ts";
import { Table, UNKNOWN_CELL } from "./columns.ts";
import type { ShowStatistics } from "./command.ts";
import { failed } from "./errors.ts";
import { type ItemField, RULE_ITEM_FIELDS, STATISTICS_FIELDS, type StatisticsField } from "./fields.ts";
import type { CommandHost, RuleSample, StatisticsSample } from "./host.ts";
import type { Listing } from "./listings.ts";
import { unknownName } from "./suggest.ts";

const SAMPLES_PER_HEADER = 10;

type ProcessedField = "PKT_P" | "BYTES_P";
type RuleCounterField = Exclude<StatisticsField, ProcessedField | "TIME">;

/** The counter of a rule behind each column that is not of servers. */
export const RULE_COUNTERS: Readonly<Record<RuleCounterField, (rule: RuleSample) => bigint>> = {
  PKT_U: (rule) => rule.packetsNotProcessed,
  BYTES_U: (rule) => rule.bytesNotProcessed,
  PKT_D: (rule) => rule.packetsDropped,
  BYTES_D: (rule) => rule.bytesDropped,
  ICMP_P: (rule) => rule.icmpEchoProcessed,
  ICMP_D: (rule) => rule.icmpDropped,
  ICMP2BIG_P: (rule) => rule.icmpTooBigProcessed,
  ICMP2BIG_D: (rule) => rule.icmpTooBigDropped,
  NOMEMP_D: (rule) => rule.packetsNoMemory,
  NOPORTP_D: (rule) => rule.packetsNoPort,
  NOMEMB_D: (rule) => rule.bytesNoMemory,
  NOPORTB_D: (rule) => rule.bytesNoPort,
};

/** The counter of a server in a rule behind each processed column. */
export const SERVER_COUNTERS: Readonly<Record<ProcessedField, (server: RuleSample["servers"][number]) => bigint>> = {
  PKT_P: (server) => server.packets,
  BYTES_P: (server) => server.bytes,
};

const isProcessed = (field: string): field is ProcessedField => field in SERVER_COUNTERS;

/** A server in a rule, with its counters. */
interface Pair {
  readonly key: string;
  readonly ruleName: string;
  readonly serverName: string;
  readonly counters: RuleSample["servers"][number];
}

/** One sample, cut to what the command asks for. */
interface Cut {
  readonly takenAtMs: number;
  readonly rules: readonly RuleSample[];
  readonly pairs: readonly Pair[];
  /** Equal in two samples exactly when the same servers, or rules, are in both. */
  readonly pairsKey: string;
  readonly rulesKey: string;
}

/** The pairs of one rule as the engine has them. */
function pairsOf(rule: RuleSample): Pair[] {
  return rule.servers.map((counters) => ({
    key: `${rule.ruleId}.${counters.serverId}`,
    ruleName: rule.name,
    serverName: counters.name,
    counters,
  }));
}

/** Rows of one rule in ascending order of server address; the order of rules stays. */
function inListingOrder(pairs: readonly Pair[], config: Config): Pair[] {
  const addresses = new Map(config.groups.flatMap((group) => group.servers).map(({ id, address }) => [id, address]));
  return pairs.toSorted((a, b) => {
    const left = addresses.get(a.counters.serverId);
    const right = addresses.get(b.counters.serverId);
    return a.ruleName === b.ruleName && left && right ? compareAddresses(left, right) : 0;
  });
}

/** Cuts a sample down to the rule or server asked for; fails when that does not exist (any more). */
function cut(query: ShowStatistics, sample: StatisticsSample, config: Config): Result<Cut> {
  let { rules } = sample;
  let onlyServer: number | null = null;
  if (query.rule !== null) {
    const rule = findRule(config, query.rule);
    if (rule === undefined) return unknownName("E-STATRULE", query.rule, config.rules);
    rules = rules.filter((candidate) => candidate.ruleId === rule.id);
  }
  if (query.server !== null) {
    const found = findServer(config, query.server);
    if (found === undefined) return failed("E-STATSERVER");
    onlyServer = found.server.id;
  }
  const chosen = rules.flatMap(pairsOf).filter((pair) => onlyServer === null || pair.counters.serverId === onlyServer);
  const pairs = query.itemize ? inListingOrder(chosen, config) : chosen;
  return ok({
    takenAtMs: sample.takenAtMs,
    rules,
    pairs,
    pairsKey: [...pairs.map((pair) => pair.key)].sort().join(" "),
    rulesKey: rules
      .map((rule) => rule.ruleId)
      .sort((a, b) => a - b)
      .join(" "),
  });
}

/** Whether the rule or server that the command names exists: what import must know before it commits. */
export function checkStatisticsNames(query: ShowStatistics, config: Config): Result<void> {
  const found = cut(query, { takenAtMs: 0, rules: [] }, config);
  return found.ok ? ok(undefined) : found;
}

const sum = (values: readonly bigint[]): bigint => values.reduce((total, value) => total + value, 0n);

const pad = (number: number): string => String(number).padStart(2, "0");

/** Local `YYYY-MM-DD:HH.MM.SS`. */
export function timeStamp(atMs: number): string {
  const date = new Date(atMs);
  const day = `${date.getFullYear()}-${pad(date.getMonth() + 1)}-${pad(date.getDate())}`;
  return `${day}:${pad(date.getHours())}.${pad(date.getMinutes())}.${pad(date.getSeconds())}`;
}

/** A counter as the sample's mode shows it. @param before the counter in the sample before, null: absolute */
function shown(query: ShowStatistics, now: bigint, before: bigint | null): string {
  if (before === null) return String(now);
  const change = now - before;
  return String(query.mode === "per-second" ? change / BigInt(query.intervalSeconds ?? 1) : change);
}

/** The one row of a sample without -i. */
function totalsCell(query: ShowStatistics, now: Cut, before: Cut | null): (field: string) => string {
  return (name) => {
    const field = name as StatisticsField;
    if (field === "TIME") return timeStamp(now.takenAtMs);
    if (isProcessed(field)) {
      if (before !== null && before.pairsKey !== now.pairsKey) return UNKNOWN_CELL;
      const total = (part: Cut): bigint => sum(part.pairs.map((pair) => SERVER_COUNTERS[field](pair.counters)));
      return shown(query, total(now), before && total(before));
    }
    if (before !== null && before.rulesKey !== now.rulesKey) return UNKNOWN_CELL;
    const total = (part: Cut): bigint => sum(part.rules.map(RULE_COUNTERS[field]));
    return shown(query, total(now), before && total(before));
  };
}

/** One row of a sample with -i. */
function itemCell(query: ShowStatistics, now: Cut, pair: Pair, before: Cut | null): (field: string) => string {
  const earlier = before?.pairs.find((candidate) => candidate.key === pair.key);
  return (name) => {
    const field = name as ItemField;
    if (field === "TIME") return timeStamp(now.takenAtMs);
    if (field === "RULENAME") return pair.ruleName;
    if (field === "SERVERNAME") return pair.serverName;
    if (before !== null && earlier === undefined) return UNKNOWN_CELL;
    const read = SERVER_COUNTERS[field];
    return shown(query, read(pair.counters), earlier ? read(earlier.counters) : null);
  };
}

/** The rows of one sample. */
function rows(query: ShowStatistics, table: Table, now: Cut, before: Cut | null): string {
  if (!query.itemize) return table.row(totalsCell(query, now, before));
  return now.pairs.map((pair) => table.row(itemCell(query, now, pair, before))).join("");
}

/** Takes samples until COUNT, or without end, INTERVAL apart; the last is not waited after. */
export async function* takeSamples(query: ShowStatistics, host: CommandHost): AsyncGenerator<StatisticsSample, void> {
  const samples = query.intervalSeconds === null ? 1 : (query.count ?? Number.POSITIVE_INFINITY);
  for (let taken = 0; taken < samples; taken++) {
    if (taken > 0) await host.sleep((query.intervalSeconds ?? 0) * 1000);
    yield host.statistics();
  }
}

/** The samples as rows. Each is handed on as soon as it is taken. */
export async function* listStatistics(query: ShowStatistics, host: CommandHost, config: () => Config): Listing {
  const set = query.itemize ? RULE_ITEM_FIELDS : STATISTICS_FIELDS;
  const table = new Table(set, query.output.fields, query.output.parsable);
  let before: Cut | null = null;
  let sinceHeader = SAMPLES_PER_HEADER;
  for await (const taken of takeSamples(query, host)) {
    const sample = cut(query, taken, config());
    if (!sample.ok) return sample;
    const now = sample.value;
    const body = rows(query, table, now, query.mode === "absolute" ? null : before);
    const isDue = body !== "" && sinceHeader >= SAMPLES_PER_HEADER;
    yield (isDue ? table.header(null) : "") + body;
    sinceHeader = isDue ? 1 : sinceHeader + 1;
    before = now;
  }
  return ok(undefined);
}
