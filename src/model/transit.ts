/** Transit: what the kernel forwards and the flow policy judges there. What passes between who decides and who loads nft tables. */
import type { Address } from "./address.ts";

/** Makes the text of an nft table. @param exempt conditions of packets that the engine has judged */
export type MakeTransitTable = (exempt: readonly string[]) => string;

/** A tuple that a set of refused ones remembered. */
export interface TransitRefused {
  /** Name of the set, without its family. */
  readonly set: string;
  readonly source: Address;
  readonly destination: Address;
  /** IP protocol number. */
  readonly protocol: number;
  /** null: it showed none. */
  readonly port: number | null;
  readonly packets: bigint;
  /** Milliseconds since the last packet. */
  readonly ageMs: number;
}

export interface TransitCount {
  readonly packets: bigint;
  readonly bytes: bigint;
}

export interface TransitCounts {
  /** By the counter's name, since this process began. */
  readonly counters: ReadonlyMap<string, TransitCount>;
  readonly refused: readonly TransitRefused[];
}
