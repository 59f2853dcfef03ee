/**
 * What has lately happened to the health of servers, for those who follow it live. The audit log keeps it for good; this
 * forgets all but the latest. Knows no transport.
 */

/** One change, in names as they were then. */
export interface HealthEvent {
  /** Wall clock, milliseconds since the epoch. */
  readonly atMs: number;
  /** `status`: of a server; `panic`, `calm`: the rule has begun, or ended, to keep servers that fail. */
  readonly kind: "status" | "panic" | "calm";
  readonly rule: string;
  /** Server ID; null for what concerns the rule. */
  readonly server: string | null;
  /** STATUS before and after; null for what concerns the rule. */
  readonly from: string | null;
  readonly to: string | null;
  /** The last failure in words; null: all is well. */
  readonly reason: string | null;
  /** The same as one line. */
  readonly text: string;
}

/** With its number, which rises, beyond the life of a daemon too. */
export interface NumberedEvent extends HealthEvent {
  readonly id: number;
}

/** How many are kept. */
const MOST_EVENTS = 100;

export class HealthEvents {
  #events: readonly NumberedEvent[] = [];
  #nextId: number;
  #waiting: (() => void)[] = [];

  /** @param firstId the wall clock in milliseconds, so that numbers of an earlier daemon are lower */
  constructor(firstId: number) {
    this.#nextId = firstId;
  }

  add(events: readonly HealthEvent[]): void {
    if (events.length === 0) return;
    const numbered = events.map((event): NumberedEvent => ({ id: this.#nextId++, ...event }));
    this.#events = [...this.#events, ...numbered].slice(-MOST_EVENTS);
    for (const tell of this.#waiting.splice(0)) tell();
  }

  /** Those that are still known and came behind number `id`, oldest first. */
  since(id: number): readonly NumberedEvent[] {
    return this.#events.filter((event) => event.id > id);
  }

  /** Resolves when there is something behind number `id`, or `gone` fires; at once if that is so already. */
  until(id: number, gone: AbortSignal): Promise<void> {
    if (gone.aborted || this.#events.some((event) => event.id > id)) return Promise.resolve();
    return new Promise((resolve) => {
      const done = (): void => {
        gone.removeEventListener("abort", done);
        const at = this.#waiting.indexOf(done);
        if (at >= 0) this.#waiting.splice(at, 1);
        resolve();
      };
      this.#waiting.push(done);
      gone.addEventListener("abort", done, { once: true });
    });
  }
}
