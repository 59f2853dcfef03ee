/**
 * All checks of the configuration in force: begins events when they are due or a signal asks for one, takes outcomes, and
 * tells when servers leave or join the rotation, many in one change. Time, chance, probes and signals are handed in.
 */
import type { HealthResult } from "../command/host.ts";
import type { Clock } from "../control/clock.ts";
import type { HealthSource } from "../control/health-status.ts";
import { EVERYONE_HEALTHY, type HealthView } from "../control/runtime.ts";
import type { Config } from "../model/config.ts";
import { judgingOf } from "../model/health-judging.ts";
import { Check, type HealthState, nextDelayMs, type Outcome, type Random, type Step } from "./check.ts";
import { DueQueue } from "./due.ts";
import {
  type CheckedRule,
  type CheckPlan,
  checkOf,
  isSameCheck,
  planOf,
  type TouchedRule,
  touchedRules,
} from "./plan.ts";
import type { Prober } from "./prober.ts";
import { type Panic, Rotation } from "./rotation.ts";
import { type Readiness, type SignalSource, SignalWatch } from "./signals.ts";

/** Events that fall due within this time of each other begin together. */
const QUANTUM_MS = 20;
/** How long a change of the rotation waits for others to go with it. */
const GATHER_MS = 20;
/** Before a change that the controller could not put in force is tried again. */
const RETRY_MS = 1000;
/** How often signals are looked at. */
const SIGNAL_BEAT_MS = 100;

/** A check that has changed its state because of what it found. */
export interface Transition {
  readonly plan: CheckPlan;
  readonly from: HealthState;
  readonly to: HealthState;
  /** Why, in words; null: all is well. */
  readonly reason: string | null;
}

/** A rule has begun to keep its failing servers, or (`panic` null) has ended doing so. */
export interface PanicChange {
  readonly ruleId: number;
  readonly panic: Panic | null;
}

export interface MonitorParts {
  readonly clock: Clock;
  readonly random: Random;
  readonly prober: Prober;
  /** Called with the changes of state that events have brought, about when they are in force. */
  readonly onTransitions: (transitions: readonly Transition[]) => void;
  /** Called with rules that panic or no longer do, about when that is in force. Default: nobody is told. */
  readonly onPanics?: (changes: readonly PanicChange[]) => void;
  /** What clients have met. Default: nothing is known of it. */
  readonly signals?: SignalSource;
}

/** A rule with its checks by server id. */
interface WatchedRule extends CheckedRule {
  readonly byServer: Map<number, Watched>;
}

/** One check with what is under way for it. */
interface Watched {
  readonly check: Check;
  cancel: (() => void) | null;
  /** Changes of state that events have brought. */
  transitions: number;
  /** Events that signals have asked for. */
  prompted: number;
}

export class Monitor implements HealthSource {
  readonly #parts: MonitorParts;
  #config: Config | null = null;
  /** By rule id: rules with a health check. */
  readonly #rules = new Map<number, WatchedRule>();
  readonly #due = new DueQueue<Watched>();
  #timer: { cancel(): void } | null = null;
  #timerAtMs = Number.POSITIVE_INFINITY;
  readonly #rotation = new Rotation();
  /** Rules with results that the rotation does not know of yet. */
  readonly #unjudged = new Set<number>();
  /** What view() has said of a configuration that is not yet in force, if it is not what it says of the one that is. */
  #foreseen: HealthView | null = null;
  #signalTimer: { cancel(): void } | null = null;
  #transitions: Transition[] = [];
  #publish: (() => Promise<boolean>) | null = null;
  #isPublishing = false;
  /** The rotation that is in force, or on its way there. */
  #published: HealthView = EVERYONE_HEALTHY;
  /** Panics that onPanics knows of. */
  #toldPanics: ReadonlyMap<number, Panic> = new Map();
  #closed = false;

  constructor(parts: MonitorParts) {
    this.#parts = parts;
  }

  /** From now on checks run. @param publish puts what view() says in force; resolves false when that failed */
  start(publish: () => Promise<boolean>): void {
    this.#publish = publish;
    this.#setTimer();
    const { signals } = this.#parts;
    if (signals !== undefined) this.#heed(new SignalWatch(signals));
  }

  /** Ends everything. */
  close(): void {
    this.#closed = true;
    this.#timer?.cancel();
    this.#signalTimer?.cancel();
    for (const watched of this.#all()) this.#stop(watched);
    this.#parts.prober.close();
  }

  view(config: Config): HealthView {
    this.#foreseen = null;
    const { view } = this.#judged();
    const startsDown = config.healthChecks.some((check) => judgingOf(check).initial === "down");
    if (config === this.#config || !startsDown) return view;
    // Servers that come with the configuration, or are enabled by it, must not get a flow before they have shown themselves.
    const foreseen = new Map(view);
    for (const { rule, check, changed } of touchedRules(this.#rules, config)) {
      if (judgingOf(check).initial !== "down") continue;
      const newcomers = changed.filter((server) => this.#isNewcomer(planOf(rule, server, check)));
      if (newcomers.length === 0) continue;
      const down = foreseen.get(rule.id) ?? [];
      foreseen.set(rule.id, new Set([...down, ...newcomers.map((server) => server.id)]));
    }
    this.#foreseen = foreseen;
    return foreseen;
  }

  /** Whether an enabled check begins with this plan. */
  #isNewcomer(plan: CheckPlan): boolean {
    const known = this.#rules.get(plan.ruleId)?.byServer.get(plan.serverId)?.check.plan;
    return plan.isEnabled && !(known?.isEnabled && isSameCheck(known, plan));
  }

  /** All checks, rule by rule. */
  *#all(): Generator<Watched> {
    for (const { byServer } of this.#rules.values()) yield* byServer.values();
  }

  results(): readonly HealthResult[] {
    const { panics } = this.#judged();
    return Array.from(this.#all(), ({ check, transitions, prompted }) => ({
      ...check.result(),
      transitions,
      prompted,
      isKept: check.hasFailed && panics.has(check.plan.ruleId),
    }));
  }

  follow(config: Config, atMs: number): void {
    if (config === this.#config) return;
    this.#config = config;
    for (const touched of touchedRules(this.#rules, config)) {
      this.#followRule(touched, atMs);
      this.#unjudged.add(touched.rule.id);
    }
    for (const [ruleId, { byServer }] of this.#rules) {
      if (checkOf(config, ruleId) !== undefined) continue;
      for (const watched of byServer.values()) this.#stop(watched);
      this.#rules.delete(ruleId);
      this.#unjudged.add(ruleId);
    }
    this.#judgeTouched();
    this.#setTimer();
  }

  #followRule({ changed, gone, ...checked }: TouchedRule, atMs: number): void {
    const { rule, check } = checked;
    const byServer = this.#rules.get(rule.id)?.byServer ?? new Map<number, Watched>();
    for (const { id } of gone) {
      this.#stop(byServer.get(id)!);
      byServer.delete(id);
    }
    for (const server of changed) {
      const plan = planOf(rule, server, check);
      const known = byServer.get(server.id);
      if (known !== undefined && isSameCheck(known.check.plan, plan)) {
        this.#goOn(known, plan, atMs);
        continue;
      }
      byServer.set(server.id, this.#begin(plan, atMs));
      if (known !== undefined) this.#stop(known);
    }
    this.#rules.set(rule.id, { ...checked, byServer });
  }

  #begin(plan: CheckPlan, atMs: number): Watched {
    const watched: Watched = { check: new Check(plan, atMs), cancel: null, transitions: 0, prompted: 0 };
    if (plan.isEnabled) this.#schedule(watched, atMs);
    return watched;
  }

  #goOn(watched: Watched, plan: CheckPlan, atMs: number): void {
    if (!watched.check.follow(plan, atMs)) return;
    this.#stop(watched);
    if (plan.isEnabled) this.#schedule(watched, atMs);
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
    watched.transitions++;
    this.#transitions.push({ plan: check.plan, from, to: check.state, reason: check.reason });
    this.#unjudged.add(check.plan.ruleId);
    this.#publishSoon();
  }

  /** The rotation as it is now. Rules are judged when somebody asks: a thousand results of one rule cost one judgement. */
  #judged(): Rotation {
    for (const ruleId of this.#unjudged) this.#rotation.judge(ruleId, this.#checksOf(ruleId));
    this.#unjudged.clear();
    return this.#rotation;
  }

  /** None when the rule is gone, or has no health check. */
  #checksOf(ruleId: number): Check[] {
    return Array.from(this.#rules.get(ruleId)?.byServer.values() ?? [], ({ check }) => check);
  }

  /** After a change of the configuration: what is gone or has been switched counts as it did at first. */
  #judgeTouched(): void {
    const touched = new Map(Array.from(this.#unjudged, (ruleId) => [ruleId, this.#checksOf(ruleId)]));
    this.#unjudged.clear();
    this.#rotation.judgeAll(touched, this.#foreseen);
    const { view } = this.#rotation;
    // What was foreseen went in force with the configuration.
    if (view === this.#foreseen) this.#published = view;
    this.#foreseen = null;
    if (view !== this.#published || this.#hasNewPanics()) this.#publishSoon();
  }

  /** Looks at signals from now on. */
  #heed(watch: SignalWatch): void {
    this.#signalTimer = this.#parts.clock.after(SIGNAL_BEAT_MS, () => {
      watch.look(this.#parts.clock.nowMs(), (ruleId, serverId) =>
        this.#prompt(this.#rules.get(ruleId)?.byServer.get(serverId)),
      );
      this.#heed(watch);
    });
  }

  /** Begins an event before its time, if there is something to find out. */
  #prompt(watched: Watched | undefined): Readiness {
    if (watched === undefined) return "never";
    const { check } = watched;
    const { plan } = check;
    if (!plan.isEnabled || check.isDown || !judgingOf(plan.check).passive) return "never";
    if (check.isRunning) return "later";
    this.#due.delete(watched);
    watched.prompted++;
    this.#take(watched, check.begin(this.#parts.random));
    return "now";
  }

  /** Panics as they are and as they were told differ. */
  #hasNewPanics(): boolean {
    return panicChanges(this.#toldPanics, this.#judged().panics).length > 0;
  }

  #publishSoon(delayMs = GATHER_MS): void {
    if (this.#isPublishing || this.#closed) return;
    this.#isPublishing = true;
    this.#parts.clock.after(delayMs, () => void this.#publishNow());
  }

  async #publishNow(): Promise<void> {
    const { view, panics } = this.#judged();
    const changes = panicChanges(this.#toldPanics, panics).filter(({ ruleId }) => this.#rules.has(ruleId));
    this.#toldPanics = panics;
    const transitions = this.#transitions;
    this.#transitions = [];
    const done = this.#closed || this.#publish === null || view === this.#published || (await this.#publish());
    if (transitions.length > 0) this.#parts.onTransitions(transitions);
    if (changes.length > 0) this.#parts.onPanics?.(changes);
    this.#isPublishing = false;
    if (done) this.#published = view;
    const isBehind = this.#judged().view !== this.#published || this.#transitions.length > 0 || this.#hasNewPanics();
    if (isBehind) this.#publishSoon(done ? GATHER_MS : RETRY_MS);
  }
}

/** Rules that have begun or ended to panic. */
function panicChanges(before: ReadonlyMap<number, Panic>, now: ReadonlyMap<number, Panic>): PanicChange[] {
  if (before === now) return [];
  const begun = [...now].flatMap(([ruleId, panic]) => (before.has(ruleId) ? [] : [{ ruleId, panic }]));
  const ended = [...before.keys()].flatMap((ruleId) => (now.has(ruleId) ? [] : [{ ruleId, panic: null }]));
  return [...begun, ...ended];
}
