/** /metrics: Prometheus text exposition format, version 0.0.4. Counters are written whole, never as floating point. */
import type { HealthResult, StatisticsSample } from "../command/host.ts";
import { pairKey } from "../control/drain.ts";
import { type EngineCounters, type WorkerFigures, zeroPairCounters } from "../engine/engine.ts";
import type { Config } from "../model/config.ts";
import { serverId } from "../model/lookup.ts";
import type { PortFigures } from "./service.ts";
import { flowsOfPairs, reasonAt, totalFlows } from "./statistics.ts";

export const METRICS_TYPE = "text/plain; version=0.0.4; charset=utf-8";

type Labels = Readonly<Record<string, string>>;
type Row = readonly [labels: Labels, value: bigint | number];

/** Counter of a rule -> name and meaning of its metric. */
const RULE_METRICS = [
  ["packetsNotProcessed", "ilb_rule_unprocessed_packets_total", "packets to a disabled rule"],
  ["bytesNotProcessed", "ilb_rule_unprocessed_bytes_total", "bytes to a disabled rule"],
  ["packetsDropped", "ilb_rule_dropped_packets_total", "packets that the rule dropped"],
  ["bytesDropped", "ilb_rule_dropped_bytes_total", "bytes that the rule dropped"],
  ["icmpEchoProcessed", "ilb_rule_icmp_echo_answered_total", "echo requests to the VIP that were answered"],
  ["icmpDropped", "ilb_rule_icmp_dropped_total", "other ICMP messages to the VIP that were dropped"],
  ["icmpTooBigProcessed", "ilb_rule_icmp_too_big_translated_total", "too-big messages handed to a server"],
  ["icmpTooBigDropped", "ilb_rule_icmp_too_big_dropped_total", "too-big messages dropped"],
  ["packetsNoMemory", "ilb_rule_no_memory_packets_total", "packets dropped because a table was full"],
  ["bytesNoMemory", "ilb_rule_no_memory_bytes_total", "bytes dropped because a table was full"],
  ["packetsNoPort", "ilb_rule_no_port_packets_total", "packets dropped because no proxy port was free"],
  ["bytesNoPort", "ilb_rule_no_port_bytes_total", "bytes dropped because no proxy port was free"],
] as const;

/** Counter of a worker -> name and meaning of its metric. */
const WORKER_METRICS = [
  ["packetsIn", "ilb_worker_packets_total", "counter", "packets that the worker has decided about"],
  ["handedOver", "ilb_worker_handed_over_total", "counter", "frames given to the worker that owns their flow"],
  ["takenOver", "ilb_worker_taken_over_total", "counter", "frames taken over from other workers"],
  ["flows", "ilb_worker_flows", "gauge", "connection entries of the worker"],
  ["flowsExpired", "ilb_worker_flows_expired_total", "counter", "connection entries whose time was over"],
  ["flowsEvicted", "ilb_worker_flows_evicted_total", "counter", "half-open entries given up for room"],
] as const;

/** Counter of a pair -> name and meaning of its metric. */
const ENGINE_SIGNALS = [
  ["refused", "ilb_server_refused_connections_total", "new connections that a server in a rule refused"],
  ["unanswered", "ilb_server_repeated_syns_total", "SYNs sent again because a server in a rule had not answered"],
] as const;

/** What a health check has found -> name, type and meaning of its metric. */
const HEALTH_METRICS: readonly (readonly [
  read: (result: HealthResult) => number,
  name: string,
  type: "counter" | "gauge",
  help: string,
])[] = [
  [({ fail }) => fail, "ilb_server_health_failures", "gauge", "failures since the last success (FAIL)"],
  [
    ({ rttMicroseconds }) => rttMicroseconds,
    "ilb_server_health_rtt_microseconds",
    "gauge",
    "smoothed round-trip time of health checks, 0: unknown",
  ],
  [
    ({ transitions = 0 }) => transitions,
    "ilb_server_health_transitions_total",
    "counter",
    "changes of status that health checks have brought",
  ],
  [
    ({ prompted = 0 }) => prompted,
    "ilb_server_health_prompted_checks_total",
    "counter",
    "checks made at once because of refused connections or repeated SYNs",
  ],
  [
    ({ isKept = false }) => Number(isKept),
    "ilb_server_health_kept",
    "gauge",
    "1 when a failing server is offered all the same (hc-panic)",
  ],
];

export interface MetricsInput {
  readonly version: string;
  readonly ready: boolean;
  readonly config: Config;
  readonly health: readonly HealthResult[];
  readonly sample: StatisticsSample;
  readonly counters: EngineCounters;
  readonly ports: readonly PortFigures[];
  readonly workers: readonly WorkerFigures[];
}

/** The whole page. */
export const metricsText = (input: MetricsInput): string =>
  [...daemonFamilies(input), ...engineFamilies(input), ...ruleFamilies(input), ...serverFamilies(input)].join("");

const bit = (value: boolean): Row => [{}, Number(value)];

function daemonFamilies({ version, ready, config }: MetricsInput): string[] {
  const memory = process.memoryUsage.rss();
  return [
    family("ilb_build_info", "gauge", "version of the daemon", [[{ version }, 1]]),
    family("ilb_ready", "gauge", "1 when tables are loaded and devices are open", [bit(ready)]),
    family("ilb_rules", "gauge", "rules in the configuration", [[{}, config.rules.length]]),
    family("ilb_servergroups", "gauge", "server groups in the configuration", [[{}, config.groups.length]]),
    family("process_resident_memory_bytes", "gauge", "resident memory of the daemon", [[{}, memory]]),
    family("process_start_time_seconds", "gauge", "when the daemon was started, since the epoch", [
      [{}, Math.round(performance.timeOrigin / 1000)],
    ]),
  ];
}

function engineFamilies({ counters, ports, workers }: MetricsInput): string[] {
  const counts = [...new Set(ports.flatMap((port) => Object.keys(port.counters)))];
  return [
    family("ilb_flows", "gauge", "connection entries alive", [[{}, totalFlows(counters)]]),
    family("ilb_packets_total", "counter", "packets by verdict and reason; sums to all received", reasonRows(counters)),
    family("ilb_fragments_total", "counter", "fragments to a VIP", [[{}, counters.fragmentsIn]]),
    family("ilb_fragments_dropped_total", "counter", "fragments to a VIP that were dropped", [
      [{}, counters.fragmentsDropped],
    ]),
    ...WORKER_METRICS.map(([figure, name, type, help]) =>
      family(
        name,
        type,
        help,
        workers.map((worker, index): Row => [{ worker: String(index) }, worker[figure]]),
      ),
    ),
    ...counts.map((count) =>
      family(
        `ilb_port_${snakeCase(count)}_total`,
        "counter",
        `what the packet device of an interface counted as ${count}`,
        ports.map(({ name, counters: figures }): Row => [{ interface: name }, figures[count] ?? 0n]),
      ),
    ),
  ];
}

function ruleFamilies({ config, sample }: MetricsInput): string[] {
  return [
    family(
      "ilb_rule_enabled",
      "gauge",
      "1 when the rule is enabled",
      config.rules.map((rule): Row => [{ rule: rule.name }, Number(rule.enabled)]),
    ),
    ...RULE_METRICS.map(([counter, name, help]) =>
      family(
        name,
        "counter",
        help,
        sample.rules.map((rule): Row => [{ rule: rule.name }, rule[counter]]),
      ),
    ),
  ];
}

function serverFamilies(input: MetricsInput): string[] {
  const { config, sample, counters } = input;
  const byPair = new Map(counters.pairs.map((pair) => [pairKey(pair.ruleId, pair.serverId), pair]));
  const pairs = sample.rules.flatMap((rule) =>
    rule.servers.map((server) => {
      const pair = byPair.get(pairKey(rule.ruleId, server.serverId)) ?? zeroPairCounters(rule.ruleId, server.serverId);
      return { rule: rule.name, server, pair };
    }),
  );
  const rows = (value: (of: (typeof pairs)[number]) => bigint): Row[] =>
    pairs.map((of) => [{ rule: of.rule, server: of.server.name }, value(of)]);
  const servers = config.groups.flatMap((group) => group.servers.map((server) => ({ group, server })));
  return [
    family(
      "ilb_server_enabled",
      "gauge",
      "1 when the server is enabled",
      servers.map(({ group, server }): Row => [{ server: serverId(group, server) }, Number(server.enabled)]),
    ),
    family(
      "ilb_server_packets_total",
      "counter",
      "packets of a server in a rule, both directions",
      rows(({ server }) => server.packets),
    ),
    family(
      "ilb_server_bytes_total",
      "counter",
      "bytes of a server in a rule, both directions",
      rows(({ server }) => server.bytes),
    ),
    family(
      "ilb_server_flows",
      "gauge",
      "connection entries of a server in a rule",
      flowsOfPairs(sample, counters).map(({ rule, server, flows }): Row => [{ rule, server }, flows]),
    ),
    ...ENGINE_SIGNALS.map(([counter, name, help]) =>
      family(
        name,
        "counter",
        help,
        rows(({ pair }) => pair[counter]),
      ),
    ),
    ...healthFamilies(input),
  ];
}

function healthFamilies({ config, sample, health }: MetricsInput): string[] {
  const names = new Map(sample.rules.flatMap((rule) => rule.servers.map((server) => [server.serverId, server.name])));
  const rules = new Map(config.rules.map((rule) => [rule.id, rule.name]));
  const known = health.flatMap((result) => {
    const [rule, server] = [rules.get(result.ruleId), names.get(result.serverId)];
    return rule === undefined || server === undefined ? [] : [{ result, labels: { rule, server } }];
  });
  const panics = new Map(known.map(({ labels: { rule } }) => [rule, 0]));
  for (const { result, labels } of known) if (result.isKept) panics.set(labels.rule, 1);
  return [
    family(
      "ilb_rule_panic",
      "gauge",
      "1 while a rule keeps servers that fail because too few would remain (hc-panic)",
      Array.from(panics, ([rule, value]): Row => [{ rule }, value]),
    ),
    family(
      "ilb_server_health",
      "gauge",
      "1 for the status that the health check of a server in a rule has",
      known.map(({ result: { status }, labels }): Row => [{ ...labels, status }, 1]),
    ),
    ...HEALTH_METRICS.map(([read, name, type, help]) =>
      family(
        name,
        type,
        `health check of a server in a rule: ${help}`,
        known.map(({ result, labels }): Row => [labels, read(result)]),
      ),
    ),
    family(
      "ilb_server_certificate_end_seconds",
      "gauge",
      "until when the certificate is valid that a server showed its health check last, since the epoch",
      known.flatMap(({ result: { certificateUntilMs }, labels }): Row[] =>
        certificateUntilMs == null ? [] : [[labels, Math.floor(certificateUntilMs / 1000)]],
      ),
    ),
  ];
}

const snakeCase = (name: string): string => name.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);

function reasonRows(counters: EngineCounters): Row[] {
  return counters.reasons.map((packets, index): Row => {
    const { verdict, reason } = reasonAt(index);
    return [{ verdict, reason }, packets];
  });
}

function family(name: string, type: "counter" | "gauge", help: string, rows: readonly Row[]): string {
  const lines = rows.map(([labels, value]) => `${name}${labelText(labels)} ${value}\n`);
  // A family without a sample says nothing.
  return lines.length === 0 ? "" : `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

const escapeLabel = (value: string): string =>
  value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
