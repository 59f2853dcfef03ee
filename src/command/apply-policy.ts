/** Changes of hosts and of the flow policy: (Config, Change) -> Config or the reason why not. Pure; part of apply.ts. */
import { sameAddress } from "../model/address.ts";
import type { Config } from "../model/config.ts";
import type { NetBackupHost, NetBackupState } from "../model/netbackup.ts";
import { ok, type Result } from "../model/result.ts";
import { withSetting } from "../netbackup/policy-settings.ts";
import { printPrefix } from "./cells.ts";
import type { CreateHost, DeleteHost, SetPolicy } from "./command.ts";
import { failed, failure } from "./errors.ts";
import { failNaming } from "./suggest.ts";

const withState = (config: Config, state: NetBackupState, created = false): Result<Config> =>
  ok(Object.freeze({ ...config, netbackup: Object.freeze(state), nextId: config.nextId + (created ? 1 : 0) }));

/** Names are compared without case, as host names are. */
export const findHost = ({ netbackup }: Config, name: string): NetBackupHost | undefined =>
  netbackup.hosts.find((host) => host.name.toLowerCase() === name.toLowerCase());

/** Binds a prefix; one and the same prefix only once, for neither binding would be the longer one. */
export function createHost(config: Config, change: CreateHost): Result<Config> {
  const { name, address, prefixLength, roles, facts } = change;
  const { netbackup } = config;
  if (findHost(config, name) !== undefined) return failed("E-NBDUPHOST", name);
  const same = netbackup.hosts.find((host) => host.prefixLength === prefixLength && sameAddress(host.address, address));
  if (same !== undefined) return failed("E-NBBOUND", printPrefix(address, prefixLength), same.name);
  const host: NetBackupHost = Object.freeze({
    id: config.nextId,
    name,
    address,
    prefixLength,
    roles: Object.freeze(roles),
    facts: Object.freeze(Object.fromEntries(facts)),
  });
  return withState(config, { ...netbackup, hosts: Object.freeze([...netbackup.hosts, host]) }, true);
}

export function deleteHost(config: Config, { name }: DeleteHost): Result<Config> {
  const { netbackup } = config;
  const host = findHost(config, name);
  if (host === undefined)
    return failNaming(
      failure("E-NBHOST", name),
      name,
      netbackup.hosts.map((other) => other.name),
    );
  return withState(config, { ...netbackup, hosts: Object.freeze(netbackup.hosts.filter((other) => other !== host)) });
}

/** The very same Config when nothing is another than it was. */
export function setPolicy(config: Config, { mode, settings }: SetPolicy): Result<Config> {
  let state = config.netbackup;
  for (const setting of settings) state = withSetting(state, setting);
  if (mode !== null && mode !== state.mode) state = { ...state, mode };
  return state === config.netbackup ? ok(config) : withState(config, state);
}
