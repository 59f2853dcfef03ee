/** The flow policy as the engine is told it. */
import type { TableImage } from "../engine/engine.ts";
import type { NetBackupState } from "../model/netbackup.ts";
import { policyOf } from "../netbackup/policy.ts";

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
