/** Random NetBackup states for tests of the policy: hosts of many roles and versions, overlapping prefixes, settings of all kinds. */
import type { Address } from "../../src/model/address.ts";
import type { NetBackupHost, NetBackupState, PolicyMode } from "../../src/model/netbackup.ts";
import { NO_NETBACKUP } from "../../src/model/netbackup.ts";
import { ip } from "./addresses.ts";
import type { Random } from "./random.ts";

const PREFIXES: readonly (readonly [prefix: Address, bits: number])[] = [
  [ip("192.0.2.0"), 24],
  [ip("192.0.2.10"), 31],
  [ip("192.0.2.12"), 32],
  [ip("192.0.2.20"), 32],
  [ip("198.51.100.0"), 24],
  [ip("198.51.100.16"), 28],
  [ip("198.51.100.18"), 32],
  [ip("2001:db8:1::"), 48],
  [ip("2001:db8:1::10"), 127],
  [ip("2001:db8:1::12"), 128],
  [ip("2001:db8:2::"), 32 + 16],
  [ip("2001:db8:2::20"), 124],
  [ip("2001:db8:3::1"), 128],
];
/** Ends of tuples: in the prefixes above, beside them, and elsewhere. */
export const POLICY_ENDS: readonly Address[] = [
  ...["192.0.2.9", "192.0.2.10", "192.0.2.11", "192.0.2.12", "192.0.2.20", "192.0.3.1"],
  ...["198.51.100.1", "198.51.100.16", "198.51.100.18", "198.51.100.31", "203.0.113.7"],
  ...["2001:db8:1::1", "2001:db8:1::10", "2001:db8:1::11", "2001:db8:1::12", "2001:db8:2::1"],
  ...["2001:db8:2::20", "2001:db8:2::2f", "2001:db8:3::1", "2001:db8:9::9"],
].map(ip);
const ROLES = [
  "master-server",
  "media-server",
  "client",
  "java-console",
  "puredisk-spa",
  "ndmp-filer",
  "opscenter-server",
  "vxss-server",
];
const VERSIONS = [null, "6.5", "7.0", "7.0.1", "7.5"];

/** @param roles ids that the catalogue has */
export function randomState(random: Random, roles: readonly string[], mode: PolicyMode): NetBackupState {
  const usual = ROLES.filter((role) => roles.includes(role));
  const hosts = PREFIXES.filter(() => random.chance(0.7)).map(
    ([address, prefixLength], index): NetBackupHost => ({
      id: index + 1,
      name: `host${index + 1}`,
      address,
      prefixLength,
      roles: [
        { role: random.of(usual), version: random.of(VERSIONS) },
        ...(random.chance(0.2) ? [{ role: random.of(roles), version: null }] : []),
      ].filter((one, place, all) => all.findIndex(({ role }) => role === one.role) === place),
      facts: random.chance(0.2) ? { resilient: random.chance(0.5) } : {},
    }),
  );
  return {
    ...NO_NETBACKUP,
    mode,
    hosts,
    outside: random.of(["pass", "pass", "drop"]),
    undecided: random.of(["permit", "deny"]),
    sourcePorts: random.of(["any", "non-reserved"]),
    ports: { services: {}, windows: random.chance(0.5) ? { SERVER_PORT_WINDOW: { min: 20_000, max: 20_099 } } : {} },
  };
}
