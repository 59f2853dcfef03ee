/**
 * Real connections from this box to the VIP on one particular server of a direct server return rule (decision 0030). The
 * socket connects to the server's own address and carries a mark that stands for the VIP; on the way out of the interface
 * nftables puts the VIP in the place of the server's address, and on the way in the server's address, remembered by port,
 * in the place of the VIP. Routing, neighbours and sockets of the kernel know nothing of it.
 *
 * One table of family netdev, made when it is first asked for. It has the owner flag: it vanishes with this process.
 */
import { type Address, addressKey, formatAddress } from "../model/address.ts";
import { PROBE_PORTS } from "../native/probe.ts";
import type { NftRunner } from "./interest-table.ts";

const TABLE = "netdev ilb-probes";
/** Marks of detours: this and the number of the VIP. Others than those of tun-routing.ts and of packets given back. */
const MARK_BASE = 0x1d160000;
const MARK_MASK = 0xffff0000;
const MOST_VIPS = 0xffff;
/** Behind the guard, which leaves such packets alone. */
const INGRESS_PRIORITY = -400;

/** @param ip name of the header and of the protocol in nftables @param of suffix of sets */
const rulesOut = (ip: string, of: 4 | 6): string =>
  `meta protocol ${ip} tcp sport ${PORTS} update @server${of} { tcp sport : ${ip} daddr } ${ip} daddr set meta mark map @mark${of}`;
const rulesIn = (ip: string, of: 4 | 6): string =>
  `meta protocol ${ip} tcp dport ${PORTS} ${ip} saddr @vip${of} ${ip} saddr set tcp dport map @server${of}`;
const PORTS = `${PROBE_PORTS.min}-${PROBE_PORTS.max}`;

/** Sets: VIP by mark, all VIPs, and the server by the port that talks with it, for as long as it may be silent. */
const setsOf = (of: 4 | 6): string => `map mark${of} { type mark : ipv${of}_addr; }
set vip${of} { type ipv${of}_addr; }
map server${of} { type inet_service : ipv${of}_addr; flags dynamic, timeout; timeout 1h; size 4096; }`;

const CREATION = `create table ${TABLE} { flags owner; }
table ${TABLE} {
flags owner;
${setsOf(4)}
${setsOf(6)}
chain out {
  meta mark & ${MARK_MASK} != ${MARK_BASE} return
  ${rulesOut("ip", 4)}
  ${rulesOut("ip6", 6)}
}
chain in {
  meta pkttype != host return
  ${rulesIn("ip", 4)}
  ${rulesIn("ip6", 6)}
}
}`;

export class ProbeDetours {
  readonly #nft: NftRunner;
  #created: Promise<void> | null = null;
  /** By interface index: the hooks of that interface. */
  readonly #hooks = new Map<number, Promise<void>>();
  /** By key of the VIP. */
  readonly #marks = new Map<string, Promise<number>>();

  constructor(nft: NftRunner) {
    this.#nft = nft;
  }

  /**
   * The mark of connections that are to reach `vip` by the interface. Rejects with one line where nftables or the kernel
   * cannot do it (egress hooks are of Linux 5.16 and nftables 1.0.1); it is tried again with the next one.
   */
  async markFor(vip: Address, link: { readonly index: number; readonly name: string }): Promise<number> {
    this.#created ??= this.#run(CREATION);
    await this.#keep(this.#created, () => {
      this.#created = null;
    });
    await this.#once(this.#hooks, link.index, () => this.#hook(link));
    return this.#once(this.#marks, addressKey(vip), () => this.#add(vip));
  }

  /** Removes the table, if there is one. */
  async remove(): Promise<void> {
    if (this.#created === null) return;
    await this.#created;
    await this.#run(`delete table ${TABLE}`);
  }

  #hook({ index, name }: { readonly index: number; readonly name: string }): Promise<void> {
    const device = `device ${JSON.stringify(name)}`;
    return this.#run(`add chain ${TABLE} egress${index} { type filter hook egress ${device} priority 0; }
add rule ${TABLE} egress${index} jump out
add chain ${TABLE} ingress${index} { type filter hook ingress ${device} priority ${INGRESS_PRIORITY}; }
add rule ${TABLE} ingress${index} jump in`);
  }

  async #add(vip: Address): Promise<number> {
    const number = this.#marks.size;
    if (number > MOST_VIPS) throw new Error("too many VIPs");
    const mark = MARK_BASE + number;
    const text = formatAddress(vip);
    await this.#run(`add element ${TABLE} mark${vip.family} { ${mark} : ${text} }
add element ${TABLE} vip${vip.family} { ${text} }`);
    return mark;
  }

  /** What is under way or done is not done twice; what failed is forgotten. */
  #once<K, V>(known: Map<K, Promise<V>>, key: K, make: () => Promise<V>): Promise<V> {
    let made = known.get(key);
    if (made === undefined) {
      made = make();
      known.set(key, made);
    }
    return this.#keep(made, () => known.delete(key));
  }

  #keep<V>(made: Promise<V>, forget: () => void): Promise<V> {
    return made.catch((error: unknown) => {
      forget();
      throw error;
    });
  }

  #run(text: string): Promise<void> {
    return this.#nft.run(text, `send health tests to VIPs (nft table ${TABLE})`);
  }
}
