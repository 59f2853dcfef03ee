/** /metrics: Prometheus text exposition format, version 0.0.4. Counters are written whole, never as floating point. */
import type { StatisticsSample } from "../command/host.ts";
import type { EngineCounters } from "../engine/engine.ts";
import type { PortFigures, WorkerFigures } from "./service.ts";
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

export interface MetricsInput {
  readonly version: string;
  readonly ready: boolean;
  readonly sample: StatisticsSample;
  readonly counters: EngineCounters;
  readonly ports: readonly PortFigures[];
  readonly workers: readonly WorkerFigures[];
}

/** Figure of a packet worker -> name, type and meaning of its metric. */
const WORKER_METRICS = [
  ["packetsIn", "ilb_worker_packets_total", "counter", "packets that a packet worker decided about"],
  ["flows", "ilb_worker_flows", "gauge", "connection entries of a packet worker"],
  ["handedOver", "ilb_worker_handed_over_total", "counter", "packets that a packet worker gave to others"],
  ["takenOver", "ilb_worker_taken_over_total", "counter", "packets that a packet worker took from others"],
] as const;

export function metricsText({ version, ready, sample, counters, ports, workers }: MetricsInput): string {
  const { rules } = sample;
  const pairs = rules.flatMap((rule) => rule.servers.map((server) => ({ rule, server })));
  const pairRow = ({ rule, server }: (typeof pairs)[number], value: bigint | number): Row => [
    { rule: rule.name, server: server.name },
    value,
  ];
  return [
    family("ilb_build_info", "gauge", "version of the daemon", [[{ version }, 1]]),
    family("ilb_ready", "gauge", "1 when tables are loaded and devices are open", [[{}, Number(ready)]]),
    family("ilb_rules", "gauge", "rules in the configuration", [[{}, rules.length]]),
    family("ilb_flows", "gauge", "connection entries alive", [[{}, totalFlows(counters)]]),
    family(
      "ilb_packets_total",
      "counter",
      "packets by verdict and reason; sums to all packets received",
      reasonRows(counters),
    ),
    family("ilb_fragments_total", "counter", "fragments to a VIP", [[{}, counters.fragmentsIn]]),
    family("ilb_fragments_dropped_total", "counter", "fragments to a VIP that were dropped", [
      [{}, counters.fragmentsDropped],
    ]),
    family(
      "ilb_server_packets_total",
      "counter",
      "packets of a server in a rule, both directions",
      pairs.map((pair) => pairRow(pair, pair.server.packets)),
    ),
    family(
      "ilb_server_bytes_total",
      "counter",
      "bytes of a server in a rule, both directions",
      pairs.map((pair) => pairRow(pair, pair.server.bytes)),
    ),
    family(
      "ilb_server_flows",
      "gauge",
      "connection entries of a server in a rule",
      flowsOfPairs(sample, counters).map(({ rule, server, flows }): Row => [{ rule, server }, flows]),
    ),
    ...RULE_METRICS.map(([counter, name, help]) =>
      family(
        name,
        "counter",
        help,
        rules.map((rule) => [{ rule: rule.name }, rule[counter]]),
      ),
    ),
    ...WORKER_METRICS.map(([figure, name, type, help]) =>
      family(
        name,
        type,
        help,
        workers.map((worker, number): Row => [{ worker: `${number}` }, worker[figure]]),
      ),
    ),
    family(
      "ilb_port_total",
      "counter",
      "what the packet device of an interface counted",
      ports.flatMap(({ name, counters: figures }) =>
        Object.entries(figures).map(([counter, value]): Row => [{ interface: name, counter }, value]),
      ),
    ),
  ].join("");
}

function reasonRows(counters: EngineCounters): Row[] {
  return counters.reasons.map((packets, index): Row => {
    const { verdict, reason } = reasonAt(index);
    return [{ verdict, reason }, packets];
  });
}

function family(name: string, type: "counter" | "gauge", help: string, rows: readonly Row[]): string {
  const lines = rows.map(([labels, value]) => `${name}${labelText(labels)} ${value}\n`);
  return `# HELP ${name} ${help}\n# TYPE ${name} ${type}\n${lines.join("")}`;
}

function labelText(labels: Labels): string {
  const pairs = Object.entries(labels).map(([name, value]) => `${name}="${escapeLabel(value)}"`);
  return pairs.length === 0 ? "" : `{${pairs.join(",")}}`;
}

const escapeLabel = (value: string): string =>
  value.replaceAll("\\", "\\\\").replaceAll('"', '\\"').replaceAll("\n", "\\n");
