/**
 * The nft table that applies the flow policy to what the kernel itself forwards, and what it counted. The text of the table
 * comes from whoever knows the policy. The table has the owner flag: it vanishes with this process, however it ends.
 */
import { parseAddress } from "../model/address.ts";
import type { MakeTransitTable, TransitCount, TransitCounts, TransitRefused } from "../model/transit.ts";
import { NftError } from "../native/nftables.ts";

/** What runs transactions and answers questions: src/native/nftables.ts. */
export interface PolicyNft {
  run(text: string, action: string): Promise<void>;
  query(text: string, action: string): Promise<string>;
}

const TABLE = "inet netbackup";
const COUNTER = /counter (\w+) \{\s*packets (\d+) bytes (\d+)/g;
const SET = /set (\w+)_[46] \{[^{}]*?timeout (\S+)\s[^{}]*elements = \{([^}]*)\}/g;
const SET_NAME = /^ {2}set (\w+_[46]) \{[^}]*flags dynamic/gm;
const PROTOCOLS: Readonly<Record<string, number>> = { icmp: 1, tcp: 6, udp: 17, "ipv6-icmp": 58, icmpv6: 58 };
const UNIT_MS: Readonly<Record<string, number>> = { d: 86_400_000, h: 3_600_000, m: 60_000, s: 1000, ms: 1 };

/** `23h59m58s100ms` in milliseconds. */
const durationMs = (text: string): number =>
  [...text.matchAll(/(\d+)(ms|[dhms])/g)].reduce((sum, [, number, unit]) => sum + Number(number) * UNIT_MS[unit!]!, 0);

/** One element of a set of refused tuples; null when it cannot be read. */
function readElement(set: string, timeoutMs: number, text: string): TransitRefused | null {
  const [key = "", ...rest] = text.trim().split(" counter ");
  const [source, destination, protocol, port] = key.split(" . ").map((part) => part.trim());
  const from = parseAddress(source ?? "");
  const to = parseAddress(destination ?? "");
  const figures = rest.join(" ");
  const packets = /packets (\d+)/.exec(figures)?.[1];
  const expires = /expires (\S+)/.exec(figures)?.[1];
  if (from === null || to === null || packets === undefined || expires === undefined) return null;
  return {
    set,
    source: from,
    destination: to,
    protocol: PROTOCOLS[protocol ?? ""] ?? Number(protocol),
    port: port === undefined ? null : Number(port),
    packets: BigInt(packets),
    ageMs: Math.max(0, timeoutMs - durationMs(expires)),
  };
}

/** Counters of the same name together. */
function sums(past: TransitCounts["counters"], now: TransitCounts["counters"]): Map<string, TransitCount> {
  const counters = new Map(past);
  for (const [name, { packets, bytes }] of now) {
    const before = counters.get(name) ?? { packets: 0n, bytes: 0n };
    counters.set(name, { packets: before.packets + packets, bytes: before.bytes + bytes });
  }
  return counters;
}

export class PolicyFilter {
  readonly #nft: PolicyNft;
  readonly #exempt: readonly string[];
  /** Text of the table that is loaded; null: none. */
  #loaded: string | null = null;
  /** What tables before this one counted. */
  #past: TransitCounts["counters"] = new Map();

  constructor(nft: PolicyNft, exempt: readonly string[]) {
    this.#nft = nft;
    this.#exempt = exempt;
  }

  /** Puts a table in the place of the one before, in one transaction; null: none. Rejects with one line; then nothing has changed. */
  async load(make: MakeTransitTable | null): Promise<void> {
    const text = make === null ? null : make(this.#exempt);
    if (text === this.#loaded) return;
    const before = this.#loaded === null ? null : await this.#read(this.#loaded);
    const removal = this.#loaded === null ? "" : `delete table ${TABLE}\n`;
    try {
      await this.#nft.run(`${removal}${text ?? ""}`, `load the flow policy (nft table ${TABLE})`);
    } catch (error) {
      if (error instanceof NftError && this.#loaded === null && /exist|permitted|supported/i.test(error.message))
        throw new Error(`there is an nft table ${TABLE} of somebody else: remove it first (nft delete table ${TABLE})`);
      throw error;
    }
    if (before !== null) this.#past = sums(this.#past, before.counters);
    this.#loaded = text;
  }

  /** Everything that was counted so far; refused tuples of the table in force alone. */
  async counts(): Promise<TransitCounts> {
    if (this.#loaded === null) return { counters: this.#past, refused: [] };
    const { counters, refused } = await this.#read(this.#loaded);
    return { counters: sums(this.#past, counters), refused };
  }

  async #read(table: string): Promise<TransitCounts> {
    // One question at a time: several in one run spoil what libnftables remembers of the table.
    const sets = [...table.matchAll(SET_NAME)].map(([, name]) => `list set ${TABLE} ${name}`);
    let text = "";
    for (const question of [`list counters table ${TABLE}`, ...sets])
      text += await this.#nft.query(question, "read the flow policy's counters");
    const counters = [...text.matchAll(COUNTER)].map(
      ([, name, packets, bytes]) => [name!, { packets: BigInt(packets!), bytes: BigInt(bytes!) }] as const,
    );
    const refused = [...text.matchAll(SET)].flatMap(([, set, timeout, elements]) =>
      elements!.split(",").flatMap((element) => readElement(set!, durationMs(timeout!), element) ?? []),
    );
    return { counters: new Map(counters), refused };
  }
}
