/** Who is due when: a priority queue of at most one time per entry. Pure. */

interface Due<T> {
  readonly atMs: number;
  readonly entry: T;
}

export class DueQueue<T> {
  /** A binary heap by time; entries whose time has been changed since are passed over. */
  readonly #heap: Due<T>[] = [];
  readonly #current = new Map<T, Due<T>>();

  /** Sets the time of an entry, in place of the one it had. */
  set(entry: T, atMs: number): void {
    const due = { atMs, entry };
    this.#current.set(entry, due);
    const heap = this.#heap;
    let place = heap.push(due) - 1;
    while (place > 0) {
      const parent = (place - 1) >> 1;
      if (heap[parent]!.atMs <= atMs) break;
      heap[place] = heap[parent]!;
      place = parent;
    }
    heap[place] = due;
  }

  delete(entry: T): void {
    this.#current.delete(entry);
  }

  /** The earliest time, null when nobody waits. */
  next(): number | null {
    this.#dropStale();
    return this.#heap[0]?.atMs ?? null;
  }

  /** Takes everybody out whose time has come, earliest first. */
  take(nowMs: number): T[] {
    const taken: T[] = [];
    for (this.#dropStale(); this.#heap.length > 0 && this.#heap[0]!.atMs <= nowMs; this.#dropStale()) {
      const { entry } = this.#pop();
      this.#current.delete(entry);
      taken.push(entry);
    }
    return taken;
  }

  #dropStale(): void {
    while (this.#heap.length > 0 && this.#current.get(this.#heap[0]!.entry) !== this.#heap[0]) this.#pop();
  }

  #pop(): Due<T> {
    const heap = this.#heap;
    const top = heap[0]!;
    const last = heap.pop()!;
    if (heap.length === 0) return top;
    let place = 0;
    for (;;) {
      let child = place * 2 + 1;
      if (child >= heap.length) break;
      if (child + 1 < heap.length && heap[child + 1]!.atMs < heap[child]!.atMs) child++;
      if (heap[child]!.atMs >= last.atMs) break;
      heap[place] = heap[child]!;
      place = child;
    }
    heap[place] = last;
    return top;
  }
}
