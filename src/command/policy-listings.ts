/** Listings of bound hosts and of the flow policy, and the forms in which it is written for others. */
import { formatAddress, widthBits } from "../model/address.ts";
import type { Config } from "../model/config.ts";
import type { NetBackupHost } from "../model/netbackup.ts";
import { ok, type Result } from "../model/result.ts";
import { type FlowPolicy, type PolicyFlow, policyOf } from "../netbackup/policy.ts";
import { policyTable } from "../netbackup/policy-nft.ts";
import { settingsOf } from "../netbackup/policy-settings.ts";
import { SETTABLE, settingOf } from "../netbackup/ports.ts";
import { findHost } from "./apply-policy.ts";
import { printFacts, printRoles } from "./bind-policy.ts";
import { printPrefix } from "./cells.ts";
import { Table } from "./columns.ts";
import type { Change, CreateHost, ExportPolicy, ShowHosts, ShowPolicy } from "./command.ts";
import { failure } from "./errors.ts";
import { HOST_FIELDS, type HostField, POLICY_FLOW_FIELDS, type PolicyFlowField } from "./fields.ts";
import type { CommandHost, PolicyCount, PolicyCounts } from "./host.ts";
import type { Listing } from "./listings.ts";
import { csvLine } from "./netbackup-listings.ts";
import { printChange } from "./print.ts";
import { failNaming } from "./suggest.ts";
import { ports as portsCodec } from "./values.ts";
import type { HostView, PolicyView } from "./view-schemas.ts";
import { stringify } from "./views.ts";

// Hosts

const factsOf = (host: NetBackupHost): CreateHost["facts"] => Object.entries(host.facts);

const HOST_CELLS: Readonly<Record<HostField, (host: NetBackupHost) => string>> = {
  NAME: ({ name }) => name,
  ADDRESS: ({ address, prefixLength }) => printPrefix(address, prefixLength),
  ROLES: ({ roles }) => printRoles(roles),
  FACTS: (host) => printFacts(factsOf(host)),
};

/** The hosts that are asked for, in creation order; all without names. */
function chooseHosts(names: readonly string[], config: Config): Result<readonly NetBackupHost[]> {
  if (names.length === 0) return ok(config.netbackup.hosts);
  const chosen: NetBackupHost[] = [];
  for (const name of names) {
    const host = findHost(config, name);
    if (host === undefined)
      return failNaming(
        failure("E-NBHOST", name),
        name,
        config.netbackup.hosts.map((other) => other.name),
      );
    chosen.push(host);
  }
  return ok(chosen);
}

/** Whether every name is a host's. */
export function checkHosts({ names }: ShowHosts, config: Config): Result<void> {
  const chosen = chooseHosts(names, config);
  return chosen.ok ? ok(undefined) : chosen;
}

/** show-host. */
export async function* listHosts({ names, output }: ShowHosts, config: Config): Listing {
  const hosts = chooseHosts(names, config);
  if (!hosts.ok) return hosts;
  const table = new Table(HOST_FIELDS, output.fields, output.parsable);
  if (hosts.value.length > 0) yield table.header(null);
  for (const host of hosts.value) yield table.row((field) => HOST_CELLS[field as HostField](host));
  return ok(undefined);
}

/** One host as an object. */
export const hostView = ({ name, address, prefixLength, roles, facts }: NetBackupHost): HostView => ({
  name,
  address: printPrefix(address, prefixLength),
  roles: roles.map((role) => ({ ...role })),
  facts: { ...facts },
});

/** The objects of show-host; none where a word names no host (checkHosts says so). */
export function hostViews(names: readonly string[], config: Config): readonly HostView[] {
  const hosts = chooseHosts(names, config);
  return hosts.ok ? hosts.value.map(hostView) : [];
}

// The policy and what it did

const ZERO: PolicyCount = { packets: 0n, bytes: 0n };
const NO_COUNTS: PolicyCounts = { flows: new Map(), message: ZERO, noPorts: ZERO, refusals: new Map(), refused: [] };
const REFUSALS = ["no-flow", "reserved-source", "reply-is-syn", "outside"] as const;

const namesOf = ({ kinds }: FlowPolicy, kind: number): string[] => kinds[kind - 1]!.hosts.map(({ name }) => name);
const count = ({ packets, bytes }: PolicyCount) => ({ packets: packets.toString(), bytes: bytes.toString() });

/** The policy as an object: settings, permitted flows between kinds of hosts with their counters, what was refused. */
export async function policyView({ netbackup }: Config, host: CommandHost): Promise<PolicyView> {
  const policy = policyOf(netbackup);
  const counts = (await host.policyCounts?.()) ?? NO_COUNTS;
  return {
    mode: netbackup.mode,
    settings: Object.fromEntries(settingsOf(netbackup)),
    hosts: netbackup.hosts.length,
    flows: policy.pairs.flatMap(({ from, to, flows }) =>
      flows.map(({ id, service, protocol, ports, need, condition }) => ({
        flow: id,
        source: namesOf(policy, from),
        destination: namesOf(policy, to),
        service,
        protocol,
        port: portsCodec.print(ports),
        need,
        condition,
      })),
    ),
    unresolved: policy.unresolved.map(({ id, window, protocol, need, condition, from, to }) => ({
      flow: id,
      source: namesOf(policy, from),
      destination: namesOf(policy, to),
      protocol,
      need,
      condition,
      set: `set-port ${window}=LOW-HIGH`,
    })),
    counters: {
      flows: [...counts.flows].map(([flow, value]) => ({ flow, ...count(value) })),
      message: count(counts.message),
      noPorts: count(counts.noPorts),
      refusals: REFUSALS.map((refusal) => ({ refusal, ...count(counts.refusals.get(refusal) ?? ZERO) })),
    },
    refused: counts.refused.map(({ source, destination, protocol, sourcePort, destinationPort, ...rest }) => ({
      source: formatAddress(source),
      sourcePort,
      destination: formatAddress(destination),
      destinationPort,
      protocol,
      refusal: rest.refusal,
      packets: rest.packets.toString(),
      lastAt: new Date(rest.lastAtMs).toISOString(),
    })),
  };
}

/** A block of lines in columns, each as wide as its widest cell. */
function columns(rows: readonly (readonly string[])[]): string[] {
  const widths = rows[0]?.map((_, column) => Math.max(...rows.map((row) => row[column]!.length))) ?? [];
  return rows.map(
    (row) =>
      `${row
        .map((cell, column) => cell.padEnd(widths[column]!))
        .join("  ")
        .trimEnd()}\n`,
  );
}

const some = (names: readonly string[]): string =>
  names.length <= 3 ? names.join(",") : `${names.slice(0, 2).join(",")} and ${names.length - 2} more`;

/** show-policy. */
export async function* listPolicy({ verbose }: ShowPolicy, config: Config, host: CommandHost): Listing {
  const view = await policyView(config, host);
  yield* columns([
    ["mode", view.mode],
    ...Object.entries(view.settings),
    ["hosts", String(view.hosts)],
    ["permitted-flows", String(view.flows.length)],
    ...view.counters.refusals.map(({ refusal, packets, bytes }) => [
      `refused ${refusal}`,
      `${packets} packets, ${bytes} bytes`,
    ]),
  ]);
  if (view.unresolved.length > 0) {
    yield "\n";
    yield* columns([
      ["UNRESOLVED", "SOURCE", "DESTINATION", "PROTO", "NEED", "TO DO"],
      ...view.unresolved.map(({ flow, source, destination, protocol, need, set }) => [
        flow,
        some(source),
        some(destination),
        protocol,
        need,
        set,
      ]),
    ]);
  }
  if (!verbose) return ok(undefined);
  const counters = new Map(view.counters.flows.map((one) => [one.flow, one]));
  if (view.flows.length > 0) {
    yield "\n";
    yield* columns([
      ["FLOW", "SOURCE", "DESTINATION", "SERVICE", "PORT", "PROTO", "NEED", "PACKETS", "BYTES"],
      ...view.flows.map(({ flow, source, destination, service, port, protocol, need }) => {
        const { packets, bytes } = counters.get(flow) ?? { packets: "0", bytes: "0" };
        return [flow, some(source), some(destination), service, port, protocol, need, packets, bytes];
      }),
    ]);
  }
  if (view.refused.length > 0) {
    yield "\n";
    yield* columns([
      ["REFUSED", "SOURCE", "SPORT", "DESTINATION", "DPORT", "PROTO", "PACKETS", "LAST"],
      ...view.refused.map(
        ({ refusal, source, sourcePort, destination, destinationPort, protocol, packets, lastAt }) => [
          refusal,
          source,
          String(sourcePort ?? "-"),
          destination,
          String(destinationPort ?? "-"),
          String(protocol),
          packets,
          lastAt,
        ],
      ),
    ]);
  }
  return ok(undefined);
}

// Written for others

/** One permitted flow between two bound prefixes. */
interface PairFlow {
  readonly source: NetBackupHost;
  readonly destination: NetBackupHost;
  readonly flow: PolicyFlow;
}

/** Every permitted flow between every two hosts, one by one: there may be very many. */
function* pairFlows(policy: FlowPolicy): Generator<PairFlow> {
  for (const { from, to, flows } of policy.pairs)
    for (const source of policy.kinds[from - 1]!.hosts)
      for (const destination of policy.kinds[to - 1]!.hosts)
        if (canTalk(source, destination)) for (const flow of flows) yield { source, destination, flow };
}

/** Of one family; and one address does not talk with itself across a network. */
const canTalk = (a: NetBackupHost, b: NetBackupHost): boolean =>
  a.address.family === b.address.family && (a !== b || a.prefixLength < widthBits(a.address.family));

const PAIR_CELLS: Readonly<Record<PolicyFlowField, (row: PairFlow) => string>> = {
  FLOW: ({ flow }) => flow.id,
  SOURCE: ({ source }) => source.name,
  "SOURCE-ADDR": ({ source }) => printPrefix(source.address, source.prefixLength),
  DESTINATION: ({ destination }) => destination.name,
  "DEST-ADDR": ({ destination }) => printPrefix(destination.address, destination.prefixLength),
  SERVICE: ({ flow }) => flow.service,
  PROTO: ({ flow }) => flow.protocol,
  PORT: ({ flow }) => portsCodec.print(flow.ports),
  NEED: ({ flow }) => flow.need,
  CONDITION: ({ flow }) => flow.condition ?? "",
};
const PAIR_FIELDS = POLICY_FLOW_FIELDS.defaults as readonly PolicyFlowField[];
/** Properties of JSON records and headers of CSV. */
const PROPERTIES: Partial<Record<PolicyFlowField, string>> = {
  "SOURCE-ADDR": "sourceAddress",
  "DEST-ADDR": "destinationAddress",
  PROTO: "protocol",
};
const propertyOf = (field: PolicyFlowField): string => PROPERTIES[field] ?? field.toLowerCase();

/** The commands that make hosts, ports and settings, to be imported with -p. The mode comes last. */
export function* policyChanges({ netbackup }: Config): Generator<Change> {
  for (const { name, address, prefixLength, roles, facts } of netbackup.hosts)
    yield { kind: "create-host", name, address, prefixLength, roles, facts: Object.entries(facts) };
  for (const name of SETTABLE) {
    const { ports, usual } = settingOf(name, netbackup.ports);
    if (ports !== null && ports.min !== usual) yield { kind: "set-port", name, ports };
  }
  yield { kind: "set-policy", mode: netbackup.mode, settings: settingsOf(netbackup) };
}

/** export-policy. */
export async function* writePolicy({ form }: ExportPolicy, config: Config): Listing {
  const policy = policyOf(config.netbackup);
  switch (form) {
    case "nft":
      yield policyTable(policy, { counting: "each" });
      break;
    case "config":
      for (const change of policyChanges(config)) yield `${printChange(change)}\n`;
      break;
    case "csv":
      yield csvLine(PAIR_FIELDS.map(propertyOf));
      for (const row of pairFlows(policy)) yield csvLine(PAIR_FIELDS.map((field) => PAIR_CELLS[field](row)));
      break;
    case "table": {
      const table = new Table(POLICY_FLOW_FIELDS, PAIR_FIELDS, false);
      let isFirst = true;
      for (const row of pairFlows(policy)) {
        if (isFirst) yield table.header(null);
        isFirst = false;
        yield table.row((field) => PAIR_CELLS[field as PolicyFlowField](row) || "-");
      }
      break;
    }
    case "json": {
      let isFirst = true;
      for (const row of pairFlows(policy)) {
        const record = Object.fromEntries(PAIR_FIELDS.map((field) => [propertyOf(field), PAIR_CELLS[field](row)]));
        yield (isFirst ? "[\n" : ",\n") + stringify({ ...record, condition: row.flow.condition });
        isFirst = false;
      }
      yield isFirst ? "[]\n" : "\n]\n";
    }
  }
  return ok(undefined);
}
