/** The flow policy as the engine is told it, and what engine and kernel counted, put together. */
import type { PolicyCount, PolicyCounts, RefusedPackets } from "../command/host.ts";
import type { TableImage } from "../engine/engine.ts";
import type { PolicyFigures } from "../engine/policy.ts";
import { POLICY_MESSAGE, POLICY_NO_FLOW, POLICY_NO_PORTS } from "../gen/layout.ts";
import type { NetBackupState } from "../model/netbackup.ts";
import type { TransitCounts } from "../model/transit.ts";
import { FLOW_IDS, policyOf } from "../netbackup/policy.ts";
import { REFUSALS } from "../netbackup/policy-nft.ts";

type PolicyTables = NonNullable<TableImage["policy"]>;

const known = new WeakMap<NetBackupState, PolicyTables>();

/** Undefined when the policy is off. The same object for the same state, by which the engine knows that nothing has changed. */
export function policyTablesOf(state: NetBackupState): PolicyTables | undefined {
  if (state.mode === "off") return undefined;
  let tables = known.get(state);
  if (tables === undefined) {
    const { outside, sourcePorts, kinds, hosts, pairs } = policyOf(state);
    tables = {
      mode: state.mode,
      outside,
      sourcePorts,
      hosts: hosts.map(({ host, kind }) => ({ prefix: host.address, bits: host.prefixLength, kind })),
      classCount: kinds.length,
      pairs,
    };
    known.set(state, tables);
  }
  return tables;
}

/** Refused tuples that are told at most. */
const MOST_REFUSED = 64;
const ZERO: PolicyCount = { packets: 0n, bytes: 0n };
const BARE = "_bare";

/**
 * Counters and refused packets of both. @param nowMs engine clock @param wallMs the same moment by the wall clock
 */
export function policyCounts(
  engine: PolicyFigures,
  kernel: TransitCounts,
  nowMs: number,
  wallMs: number,
): PolicyCounts {
  const sum = (number: number, name: string): PolicyCount => {
    const [a, b] = [engine.counters[number] ?? ZERO, kernel.counters.get(name) ?? ZERO];
    return { packets: a.packets + b.packets, bytes: a.bytes + b.bytes };
  };
  const flows = FLOW_IDS.map((id, number) => [id, sum(number, `flow_${number}`)] as const);
  const refused: RefusedPackets[] = [
    ...engine.refused.map(({ lastMs, protocol, sourcePort, destinationPort, ...tuple }) => {
      const hasPorts = protocol === 6 || protocol === 17;
      const ports = hasPorts ? { sourcePort, destinationPort } : { sourcePort: null, destinationPort: null };
      return { ...tuple, protocol, ...ports, lastAtMs: wallMs - (((nowMs >>> 0) - lastMs) >>> 0) };
    }),
    ...kernel.refused.map(({ set, port, ageMs, ...tuple }) => {
      const refusal = set.replace(BARE, "").replaceAll("_", "-");
      const isReply = refusal === "reply-is-syn";
      const ports = { sourcePort: isReply ? port : null, destinationPort: isReply ? null : port };
      return { ...tuple, refusal, ...ports, lastAtMs: wallMs - ageMs };
    }),
  ];
  return {
    flows: new Map(flows.filter(([, { packets }]) => packets > 0n)),
    message: sum(POLICY_MESSAGE, "message"),
    noPorts: sum(POLICY_NO_PORTS, "no_ports"),
    refusals: new Map(
      REFUSALS.map((refusal, index) => [refusal, sum(POLICY_NO_FLOW + index, refusal.replaceAll("-", "_"))] as const),
    ),
    refused: refused.sort((a, b) => b.lastAtMs - a.lastAtMs).slice(0, MOST_REFUSED),
  };
}
