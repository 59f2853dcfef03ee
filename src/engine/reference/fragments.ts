/**
 * What the reference engine remembers about fragments in mode `modern`: how the first of a packet fared, for those that
 * come after it, and those that came before it, for a short while. Decides nothing about packets.
 */
import type { Address } from "../../model/address.ts";
import type { Belongs } from "./decision.ts";
import type { Arrival, Way } from "./egress.ts";
import type { Pair } from "./flows.ts";
import { addressKey, type Ip } from "./packet.ts";

/** Where a packet went and how it was changed. */
export interface Trail {
  readonly way: Way;
  /** New addresses; null when none changed. */
  readonly ends: { readonly source: Address; readonly destination: Address } | null;
  readonly pair: Pair;
  readonly belongs: Belongs;
}

/** How a first fragment fared. */
export type Fate = Trail | "kernel" | "dropped";

const REMEMBERED_MS = 5_000;
const HELD_MS = 1_000;
const MOST_HELD = 64;
const MOST_HELD_OF_ONE = 16;
const LARGEST_HELD_BYTES = 2_048;

/** A fragment that waits for its first one. */
export interface Held {
  readonly key: string;
  readonly arrival: Arrival;
  readonly isToVip: boolean;
}

/** RFC 791 3.2: addresses, protocol, identification. RFC 8200 4.5: no protocol, it may differ among fragments. */
const keyOf = ({ family, source, destination, protocol, identification }: Ip): string =>
  `${addressKey(source)} ${addressKey(destination)} ${family === 4 ? protocol : ""} ${identification}`;

export class FragmentMemory {
  readonly #fates = new Map<string, { readonly fate: Fate; readonly atMs: number }>();
  #held: Held[] = [];
  /** Called for every fragment that is given up. */
  readonly #onGivenUp: (isToVip: boolean) => void;

  constructor(onGivenUp: (isToVip: boolean) => void) {
    this.#onGivenUp = onGivenUp;
  }

  remember(ip: Ip, fate: Fate, nowMs: number): void {
    this.#fates.set(keyOf(ip), { fate, atMs: nowMs });
  }

  /** How the first fragment of the packet fared; undefined when it is not known. */
  fateOf(ip: Ip, nowMs: number): Fate | undefined {
    const known = this.#fates.get(keyOf(ip));
    return known !== undefined && nowMs - known.atMs < REMEMBERED_MS ? known.fate : undefined;
  }

  /** Keeps a copy until the first fragment comes; false when there is no room for it. */
  hold(arrival: Arrival, isToVip: boolean): boolean {
    const key = keyOf(arrival.ip);
    const ofSame = this.#held.filter((one) => one.key === key).length;
    const { totalLength } = arrival.ip;
    if (this.#held.length >= MOST_HELD || ofSame >= MOST_HELD_OF_ONE || totalLength > LARGEST_HELD_BYTES) return false;
    // Padding of the frame does not wait with it.
    const bytes = arrival.ip.bytes.slice(0, totalLength);
    this.#held.push({ key, arrival: { ...arrival, ip: { ...arrival.ip, bytes } }, isToVip });
    return true;
  }

  /** Takes out what waits for a first fragment, in order of arrival. */
  take(ip: Ip): readonly Held[] {
    const key = keyOf(ip);
    const taken = this.#held.filter((one) => one.key === key);
    this.#held = this.#held.filter((one) => one.key !== key);
    return taken;
  }

  giveUp({ isToVip }: Held): void {
    this.#onGivenUp(isToVip);
  }

  /** Gives up what has waited too long, forgets what is too old. */
  expire(nowMs: number): void {
    const isOver = ({ arrival }: Held): boolean => nowMs - arrival.nowMs >= HELD_MS;
    for (const one of this.#held.filter(isOver)) this.giveUp(one);
    this.#held = this.#held.filter((one) => !isOver(one));
    for (const [key, { atMs }] of this.#fates) if (nowMs - atMs >= REMEMBERED_MS) this.#fates.delete(key);
  }
}
