/**
 * The guard of the `packet` device: one nft table of family netdev that drops, at the ingress hook of every owned device,
 * exactly the packets of the interest set, behind the packet socket that has already seen them. So the kernel neither
 * forwards nor answers what the engine handles. Design record 0005.
 *
 * Never touched: VLAN-tagged frames, ARP, neighbour discovery, multicast, whatever is not in the interest set, and frames
 * that the engine gave back (they carry the pass mark). The table has the owner flag: it vanishes with this process.
 */
import type { Interest } from "../engine/engine.ts";
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

export class Guard {
  readonly #table: InterestTable;

  private constructor(table: InterestTable) {
    this.#table = table;
  }

  /**
   * Creates the table with an empty interest set. Rejects with one line when nftables refuses, also because another
   * daemon guards this network namespace.
   */
  static async create(nft: NftRunner, options: GuardOptions): Promise<Guard> {
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
    return new Guard(table);
  }

  /** Before a table image is published: adds what it needs. Rejects with one line; then nothing has changed. */
  widen(next: Interest): Promise<void> {
    return this.#table.widen(next);
  }

  /** After every worker has left the images that needed more: removes what `next` has not. */
  narrow(next: Interest): Promise<void> {
    return this.#table.narrow(next);
  }

  /** Both at once, for a start or when no worker runs. */
  apply(next: Interest): Promise<void> {
    return this.#table.apply(next);
  }

  /** Removes the table; the kernel has all packets again. */
  remove(): Promise<void> {
    return this.#table.remove();
  }
}
