/**
 * All checks of the configuration in force: begins events when they are due, takes outcomes, and tells when servers leave
 * or join the rotation, many in one change. Time, chance and probes are handed in.
 */
import type { HealthResult } from "../command/host.ts";
import type { Clock } from "../control/clock.ts";
import type { HealthSource } from "../control/health-status.ts";
import { EVERYONE_HEALTHY, type HealthView } from "../control/runtime.ts";
import type { Config } from "../model/config.ts";
import { Check, type HealthState, nextDelayMs, type Outcome, type Random, type Step } from "./check.ts";
import { DueQueue } from "./due.ts";
import { type CheckPlan, isSameCheck, planChecks } from "./plan.ts";
import type { Prober } from "./prober.ts";

/** Events that fall due within this time of each other begin together. */
const QUANTUM_MS = 20;
/** How long a change of the rotation waits for others to go with it. */
const GATHER_MS = 20;
/** Before a change that the controller could not put in force is tried again. */
const RETRY_MS = 1000;

/** A check that has changed its state because of what it found. */
export interface Transition {
  readonly plan: CheckPlan;
  readonly from: HealthState;
  readonly to: HealthState;
  /** Why, in words; null: all is well. */
  readonly reason: string | null;
}

export interface MonitorParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly prober: Prober;
  /** Called with the changes of state that events have brought, about when they are in force. */
  readonly onTransitions: (transitions: readonly Transition[]) => void;
}

/** One check with what is under way for it. */
interface Watched {
  readonly check: Check;
  cancel: (() => void) | null;
}

export class Monitor implements HealthSource {
  readonly #parts: MonitorParts;
  #config: Config | null = null;
  #watched = new Map<string, Watched>();
  readonly #due = new DueQueue<Watched>();
  #timer: { cancel(): void } | null = null;
  #timerAtMs = Number.POSITIVE_INFINITY;
  #down: HealthView = EVERYONE_HEALTHY;
  #transitions: Transition[] = [];
  #publish: (() => Promise<boolean>) | null = null;
  #isPublishing = false;
  /** The rotation that is in force, or on its way there. */
  #published: HealthView = EVERYONE_HEALTHY;
  #closed = false;

  constructor(parts: MonitorParts) {
    this.#parts = parts;
  }

  /** From now on checks run. @param publish puts what view() says in force; resolves false when that failed */
  start(publish: () => Promise<boolean>): void {
    this.#publish = publish;
    this.#setTimer();
  }

  /** Ends everything. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    for (const watched of this.#watched.values()) this.#stop(watched);
    this.#parts.prober.close();
  }

  view(): HealthView {
    return this.#down;
  }

  results(): readonly HealthResult[] {
    return Array.from(this.#watched.values(), ({ check }) => check.result());
  }

  follow(config: Config, atMs: number): void {
    if (config === this.#config) return;
    this.#config = config;
    const plans = planChecks(config);
    const before = this.#watched;
    const next = new Map<string, Watched>();
    for (const [key, plan] of plans) {
      const known = before.get(key);
      const watched =
        known !== undefined && isSameCheck(known.check.plan, plan)
          ? this.#goOn(known, plan, atMs)
          : this.#begin(plan, atMs);
      next.set(key, watched);
    }
    this.#watched = next;
    for (const [key, watched] of before) if (next.get(key) !== watched) this.#stop(watched);
    this.#workOutDown();
    this.#setTimer();
  }

  #begin(plan: CheckPlan, atMs: number): Watched {
    const watched: Watched = { check: new Check(plan, atMs), cancel: null };
    if (plan.isEnabled) this.#schedule(watched, atMs);
    return watched;
  }

  #goOn(watched: Watched, plan: CheckPlan, atMs: number): Watched {
    if (!watched.check.follow(plan, atMs)) return watched;
    this.#stop(watched);
    if (plan.isEnabled) this.#schedule(watched, atMs);
    return watched;
  }

  #stop(watched: Watched): void {
    watched.cancel?.();
    watched.cancel = null;
    this.#due.delete(watched);
  }

  /** Arms the timer of the next event. @param atMs wall clock, end of the last one */
  #schedule(watched: Watched, atMs: number): void {
    const delayMs = nextDelayMs(watched.check.plan.check.intervalSeconds, this.#parts.random);
    watched.check.lastAtMs = atMs;
    watched.check.nextAtMs = atMs + delayMs;
    this.#due.set(watched, this.#parts.clock.nowMs() + delayMs);
  }

  #setTimer(): void {
    const next = this.#due.next();
    if (this.#publish === null || this.#closed || next === null || next >= this.#timerAtMs) return;
    this.#timer?.cancel();
    this.#timerAtMs = next;
    const delayMs = Math.max(0, next - this.#parts.clock.nowMs());
    this.#timer = this.#parts.clock.after(Math.ceil(delayMs / QUANTUM_MS) * QUANTUM_MS, () => {
      this.#timerAtMs = Number.POSITIVE_INFINITY;
      for (const watched of this.#due.take(this.#parts.clock.nowMs()))
        this.#take(watched, watched.check.begin(this.#parts.random));
      this.#setTimer();
    });
  }

  #take(watched: Watched, step: Step): void {
    watched.cancel = this.#parts.prober.start(watched.check.plan, step, (outcome) => this.#finish(watched, outcome));
  }

  #finish(watched: Watched, outcome: Outcome): void {
    watched.cancel = null;
    if (this.#closed) return;
    const { check } = watched;
    const from = check.state;
    const step = check.finish(outcome, this.#parts.random);
    if (step !== null) {
      this.#take(watched, step);
      return;
    }
    this.#schedule(watched, this.#parts.clock.wallMs());
    this.#setTimer();
    if (check.state === from) return;
    this.#transitions.push({ plan: check.plan, from, to: check.state, reason: check.reason });
    this.#note(check);
    this.#publishSoon();
  }

  /** One check may have changed sides. */
  #note({ plan: { ruleId, serverId }, isDown }: Check): void {
    const was = this.#down.get(ruleId);
    if ((was?.has(serverId) ?? false) === isDown) return;
    const now = new Set(was);
    if (isDown) now.add(serverId);
    else now.delete(serverId);
    const down = new Map(this.#down);
    if (now.size > 0) down.set(ruleId, now);
    else down.delete(ruleId);
    this.#down = down;
  }

  /** After a change of the configuration: what is gone or has been switched counts as healthy. */
  #workOutDown(): void {
    const now = new Map<number, Set<number>>();
    for (const { check } of this.#watched.values()) {
      if (!check.isDown) continue;
      const { ruleId, serverId } = check.plan;
      const ofRule = now.get(ruleId);
      if (ofRule === undefined) now.set(ruleId, new Set([serverId]));
      else ofRule.add(serverId);
    }
    const down = new Map<number, ReadonlySet<number>>();
    for (const [ruleId, servers] of now) {
      const was = this.#down.get(ruleId);
      down.set(ruleId, was !== undefined && isSameSet(was, servers) ? was : servers);
    }
    const isSame = down.size === this.#down.size && [...down].every(([ruleId, set]) => this.#down.get(ruleId) === set);
    if (isSame) return;
    this.#down = down;
    this.#publishSoon();
  }

  #publishSoon(delayMs = GATHER_MS): void {
    if (this.#isPublishing || this.#closed) return;
    this.#isPublishing = true;
    this.#parts.clock.after(delayMs, () => void this.#publishNow());
  }

  async #publishNow(): Promise<void> {
    const view = this.#down;
    const transitions = this.#transitions;
    this.#transitions = [];
    const done = this.#closed || this.#publish === null || view === this.#published || (await this.#publish());
    if (transitions.length > 0) this.#parts.onTransitions(transitions);
    this.#isPublishing = false;
    if (done) this.#published = view;
    if (this.#down !== this.#published || this.#transitions.length > 0) this.#publishSoon(done ? GATHER_MS : RETRY_MS);
  }
}

const isSameSet = (a: ReadonlySet<number>, b: ReadonlySet<number>): boolean =>
  a.size === b.size && [...a].every((id) => b.has(id));
