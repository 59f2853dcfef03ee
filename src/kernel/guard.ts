/**
 * The guard of the `packet` device: one nft table of family netdev that drops, at the ingress hook of every owned device,
 * exactly the packets of the interest set, behind the packet socket that has already seen them. So the kernel neither
 * forwards nor answers what the engine handles. Design record 0005.
 *
 * Never touched: VLAN-tagged frames, ARP, neighbour discovery, multicast, whatever is not in the interest set, and frames
 * that the engine gave back (they carry the pass mark). The table has the owner flag: it vanishes with this process.
 */
import { InterestTable, interestRules, type NftRunner } from "./interest-table.ts";

/** Before all of the user's own ingress chains: the engine has the packet already when they would look at it. */
const HOOK_PRIORITY = -500;

export interface GuardOptions {
  /** Names of the owned devices. */
  readonly devices: readonly string[];
  /** Packets with exactly this mark go on to the kernel. */
  readonly passMark: number;
  /** Name of the table, family netdev; default `ilb`. */
  readonly tableName?: string;
}

/** In order: what the engine gave back, what belongs to a VLAN, what is not addressed to this host, the interest set. */
const guardRules = (passMark: number): string => `chain guard {
  meta mark ${passMark} accept
  ether type { 8021q, 8021ad } accept
  meta pkttype != host accept
  ${interestRules("counter drop")}
}`;

/**
 * Creates the guard with an empty interest set; it is widened before a table image is published, narrowed after every
 * worker has left the images that needed more, and once it is removed the kernel has all packets again. Rejects with one
 * line when nftables refuses, also because another daemon guards this network namespace.
 */
export async function createGuard(nft: NftRunner, options: GuardOptions): Promise<InterestTable> {
  const name = options.tableName ?? "ilb";
  const hooks = options.devices.map(
    (device, index) =>
      `chain ingress${index} { type filter hook ingress device ${JSON.stringify(device)} priority ${HOOK_PRIORITY}; jump guard; }`,
  );
  const table = new InterestTable(nft, {
    table: `netdev ${name}`,
    chains: [guardRules(options.passMark), ...hooks].join("\n"),
    what: `the guard (nft table netdev ${name})`,
  });
  await table.create();
  return table;
}
