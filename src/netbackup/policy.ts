/**
 * The flow policy: what an administrator has said about hosts and site, evaluated against the catalogue, as one value.
 * Engine tables, nftables rules, exports and listings all come from it. Pure; knows no packets and no text formats.
 */
import type { PortRange, Protocol } from "../model/config.ts";
import type { NetBackupHost, NetBackupState, PolicyMode } from "../model/netbackup.ts";
import { CATALOGUE } from "./catalogue.ts";
import { type FlowAnswer, flowsBetween, type Need, siteOf } from "./flows.ts";
import { type HostKind, kindsOf } from "./kinds.ts";
import { serviceLabel } from "./labels.ts";

/** A flow that hosts of one kind may open to hosts of another. */
export interface PolicyFlow {
  /** Place in the catalogue: stays the same whatever the policy, so counters go by it. */
  readonly flow: number;
  /** `T2-3.06`. */
  readonly id: string;
  /** One word. */
  readonly service: string;
  readonly protocol: Protocol;
  /** Destination ports. */
  readonly ports: PortRange;
  readonly need: Need;
  /** What it hangs on, in words; null: nothing. */
  readonly condition: string | null;
}

export interface PolicyPair {
  /** From 1 on: index into `kinds` plus 1. */
  readonly from: number;
  readonly to: number;
  /** In the catalogue's order, at least one. */
  readonly flows: readonly PolicyFlow[];
}

/** A flow that is permitted, but whose ports the site has not named: nothing passes because of it. */
export interface UnresolvedFlow {
  readonly id: string;
  /** Port window that has to be set. */
  readonly window: string;
  readonly protocol: Protocol;
  readonly need: Need;
  readonly condition: string | null;
  readonly from: number;
  readonly to: number;
}

export interface FlowPolicy {
  readonly mode: PolicyMode;
  readonly outside: "pass" | "drop";
  readonly sourcePorts: "any" | "non-reserved";
  readonly kinds: readonly HostKind[];
  /** In creation order. `kind` from 1 on. */
  readonly hosts: readonly { readonly host: NetBackupHost; readonly kind: number }[];
  readonly pairs: readonly PolicyPair[];
  readonly unresolved: readonly UnresolvedFlow[];
}

const FLOW_NUMBERS: ReadonlyMap<string, number> = new Map(CATALOGUE.flows.map(({ id }, index) => [id, index]));
/** Flow ids by their number. */
export const FLOW_IDS: readonly string[] = CATALOGUE.flows.map(({ id }) => id);

/** Whether the site lets a flow pass: what is needed, what may be, and what it has named. */
function isPermitted({ flow, need }: FlowAnswer, { undecided, permitted }: NetBackupState): boolean {
  if (need === "required" || need === "compat") return true;
  if (need === "not-needed") return false;
  return (need === "conditional" && undecided === "permit") || permitted.includes(flow.id);
}

const policies = new WeakMap<NetBackupState, FlowPolicy>();

/** The policy of a state, whatever its mode; the same object for the same state. */
export function policyOf(state: NetBackupState): FlowPolicy {
  let policy = policies.get(state);
  if (policy === undefined) {
    policy = evaluate(state);
    policies.set(state, policy);
  }
  return policy;
}

function evaluate(state: NetBackupState): FlowPolicy {
  const kinds = kindsOf(state.hosts);
  const kindOf = new Map(kinds.flatMap(({ hosts }, index) => hosts.map((host) => [host.id, index + 1] as const)));
  const site = siteOf(state);
  const pairs: PolicyPair[] = [];
  const unresolved: UnresolvedFlow[] = [];
  for (const [a, source] of kinds.entries()) {
    for (const [b, destination] of kinds.entries()) {
      const answers = flowsBetween(source.end, destination.end, site).filter((answer) => isPermitted(answer, state));
      const ends = { from: a + 1, to: b + 1 };
      const flows = answers.flatMap((answer) => resolved(answer));
      if (flows.length > 0) pairs.push({ ...ends, flows });
      for (const { flow, ports, protocol, need, condition } of answers)
        if (ports === null)
          unresolved.push({ ...ends, id: flow.id, window: flow.window ?? "", protocol, need, condition });
    }
  }
  return {
    mode: state.mode,
    outside: state.outside,
    sourcePorts: state.sourcePorts,
    kinds,
    hosts: state.hosts.map((host) => ({ host, kind: kindOf.get(host.id)! })),
    pairs,
    unresolved,
  };
}

function resolved({ flow, service, protocol, ports, need, condition }: FlowAnswer): PolicyFlow[] {
  if (ports === null) return [];
  const label = service === null ? (flow.window ?? "") : serviceLabel(service);
  return [{ flow: FLOW_NUMBERS.get(flow.id)!, id: flow.id, service: label, protocol, ports, need, condition }];
}
