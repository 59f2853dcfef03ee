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

/** Offset and length of a frame's EtherType, bits; with a VLAN tag it is the tag's, wherever the kernel keeps that. */
const ETHER_TYPE = "@ll,96,16";
const VERDICT = "counter drop";

/**
 * In order: what the engine gave back, what is not addressed to this host, what belongs to a VLAN, the interest set. Every packet
 * pays for this, so there are comparisons in place of sets: `meta protocol` is that of the packet inside of a tag, and as raw payload
 * the EtherType of the frame is read without asking whether the device has any.
 */
const guardRules = (passMark: number): string => `chain guard {
  meta mark ${passMark} accept
  meta pkttype != host accept
  meta protocol ip ${ETHER_TYPE} != 0x0800 accept
  meta protocol ip6 ${ETHER_TYPE} != 0x86dd accept
  ${interestRules(VERDICT)}
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
    verdict: VERDICT,
    what: `the guard (nft table netdev ${name})`,
  });
  await table.create();
  return table;
}
