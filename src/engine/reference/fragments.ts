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

/** How the first fragment of an echo request that was answered fared: the others are turned round as well. */
export interface Answered {
  readonly rule: number;
}

/** How a first fragment fared. */
export type Fate = Trail | Answered | "kernel" | "dropped";

const REMEMBERED_MS = 5_000;
/** The contract asks for the latest eight at least and for an end; which ones go between is an engine's own affair. */
const MOST_REMEMBERED = 1_024;
const HELD_MS = 1_000;
const MOST_HELD = 64;
const MOST_HELD_OF_ONE = 16;
const LARGEST_HELD_BYTES = 2_048;

/** A fragment that waits for its first one. */
export interface Held {
  readonly key: string;
  readonly arrival: Arrival;
  readonly isToVip: boolean;
  /** The kernel gets it when no first one comes. */
  readonly isKernels: boolean;
}

/** RFC 791 3.2: addresses, protocol, identification. RFC 8200 4.5: no protocol, it may differ among fragments. */
const keyOf = ({ family, source, destination, protocol, identification }: Ip): string =>
  `${addressKey(source)} ${addressKey(destination)} ${family === 4 ? protocol : ""} ${identification}`;

const isLate = ({ arrival }: Held, nowMs: number): boolean => nowMs - arrival.nowMs >= HELD_MS;

export class FragmentMemory {
  readonly #fates = new Map<string, { readonly fate: Fate; readonly atMs: number }>();
  #held: Held[] = [];
  /** Called for every fragment that is given up. */
  readonly #onGivenUp: (isToVip: boolean) => void;

  constructor(onGivenUp: (isToVip: boolean) => void) {
    this.#onGivenUp = onGivenUp;
  }

  remember(ip: Ip, fate: Fate, nowMs: number): void {
    const key = keyOf(ip);
    // A map lists its keys in the order in which they were set.
    this.#fates.delete(key);
    this.#fates.set(key, { fate, atMs: nowMs });
    for (const oldest of this.#fates.keys()) {
      if (this.#fates.size <= MOST_REMEMBERED) break;
      this.#fates.delete(oldest);
    }
  }

  /** How the first fragment of the packet fared; undefined when it is not known. */
  fateOf(ip: Ip, nowMs: number): Fate | undefined {
    const known = this.#fates.get(keyOf(ip));
    return known !== undefined && nowMs - known.atMs < REMEMBERED_MS ? known.fate : undefined;
  }

  /** Keeps a copy until the first fragment comes; false when there is no room for it. */
  hold(arrival: Arrival, { isToVip, isKernels }: Pick<Held, "isToVip" | "isKernels">): boolean {
    const key = keyOf(arrival.ip);
    const ofSame = this.#held.filter((one) => one.key === key).length;
    const { totalLength } = arrival.ip;
    if (this.#held.length >= MOST_HELD || ofSame >= MOST_HELD_OF_ONE || totalLength > LARGEST_HELD_BYTES) return false;
    // Padding of the frame does not wait with it.
    const bytes = arrival.ip.bytes.slice(0, totalLength);
    this.#held.push({ key, arrival: { ...arrival, ip: { ...arrival.ip, bytes } }, isToVip, isKernels });
    return true;
  }

  /** Takes out what waits for a first fragment, in order of arrival. */
  take(ip: Ip): readonly Held[] {
    const key = keyOf(ip);
    const taken = this.#held.filter((one) => one.key === key);
    this.#held = this.#held.filter((one) => one.key !== key);
    return taken;
  }

  /** Takes out what has waited too long and is the kernel's, in order of arrival. */
  takeKernels(nowMs: number): readonly Held[] {
    const isOver = (one: Held): boolean => isLate(one, nowMs) && one.isKernels;
    const taken = this.#held.filter(isOver);
    this.#held = this.#held.filter((one) => !isOver(one));
    return taken;
  }

  giveUp({ isToVip }: Held): void {
    this.#onGivenUp(isToVip);
  }

  /** Gives up what has waited too long and is not the kernel's, forgets what is too old. */
  expire(nowMs: number): void {
    const isOver = (one: Held): boolean => isLate(one, nowMs) && !one.isKernels;
    for (const one of this.#held.filter(isOver)) this.giveUp(one);
    this.#held = this.#held.filter((one) => !isOver(one));
    for (const [key, { atMs }] of this.#fates) if (nowMs - atMs >= REMEMBERED_MS) this.#fates.delete(key);
  }
}
