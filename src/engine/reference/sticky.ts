/**
 * Which server a client of a sticky rule stays with (specification E.6). One entry per rule and masked client; the idle
 * clock runs only while no flow refers to the entry.
 */
import type { Address } from "../../model/address.ts";
import { addressKey } from "./packet.ts";

export interface StickyEntry {
  readonly ruleId: number;
  readonly client: Address;
  readonly timeoutMs: number;
  serverId: number;
  /** Position in the rule's proxy range, full NAT only. */
  proxyIndex: number;
  /** Flows that were opened through it and live. */
  references: number;
  /** When the last reference went, or DSR used it last. */
  idleSinceMs: number;
}

export class StickyTable {
  readonly #limit: number;
  readonly #entries = new Map<string, StickyEntry>();

  constructor(limit: number) {
    this.#limit = limit;
  }

  #key(ruleId: number, client: Address): string {
    return `${ruleId} ${addressKey(client)}`;
  }

  find(ruleId: number, client: Address): StickyEntry | undefined {
    return this.#entries.get(this.#key(ruleId, client));
  }

  /** Whether an entry leads to the server. */
  names(ruleId: number, serverId: number): boolean {
    return this.all().some((entry) => entry.ruleId === ruleId && entry.serverId === serverId);
  }

  hasRoom(): boolean {
    return this.#entries.size < this.#limit;
  }

  /** Adds an entry for a client that has none. */
  add(entry: StickyEntry): void {
    this.#entries.set(this.#key(entry.ruleId, entry.client), entry);
  }

  sweep(nowMs: number): void {
    for (const [key, entry] of this.#entries) {
      if (entry.references === 0 && nowMs - entry.idleSinceMs > entry.timeoutMs) this.#entries.delete(key);
    }
  }

  all(): StickyEntry[] {
    return [...this.#entries.values()];
  }
}
