/**
 * One health check as a state machine (specification F.1, F.2, F.5): what to probe next, and what an outcome means.
 * Pure but for its own state: it reads no clock, draws no random numbers of its own and sends nothing. A check takes
 * part in a series of events; an event is a ping, unless there is none, and the test, again and again until one succeeds
 * or there have been too many failures. How many events in a row it takes to change sides is an addition
 * (model/health-judging.ts); without it one is enough.
 */
import type { HealthResult } from "../command/host.ts";
import { judgingOf } from "../model/health-judging.ts";
import { type CheckPlan, portsOf } from "./plan.ts";

export type HealthState = HealthResult["status"];

/** What to find out next. */
export type Step = { readonly kind: "ping" } | { readonly kind: "test"; readonly port: number };

/** What a probe has learned by the way. */
interface Seen {
  /** Until when the server's certificate is valid, wall clock; absent: it showed none. */
  readonly certificateUntilMs?: number;
  /** On which step a NetBackup host answers, `none`: on none; absent: that was not asked. */
  readonly via?: string;
}

export type Outcome =
  /** `rttMicroseconds` 0: unknown. */
  | ({ readonly kind: "success"; readonly rttMicroseconds: number } & Seen)
  /** `reason` in words, for people: `connection refused`. */
  | ({ readonly kind: "failure"; readonly reason: string } & Seen)
  /** The probe could not be made: nothing is known about the server. */
  | { readonly kind: "not-started"; readonly reason: string };

/** Uniform in [0, 1). */
export type Random = () => number;

/** What is under way inside of an event. */
interface Event {
  needsPing: boolean;
  /** Ports of the attempt that are still to be tested; the first is under way. */
  ports: number[];
}

export class Check {
  #plan: CheckPlan;
  #state: HealthState;
  /** FAIL: failures since the last success that counted. */
  #failures = 0;
  /** Failures since an event has last come to a result. */
  #attempts = 0;
  /** Events in a row with the same result: above 0 successes, below 0 failures. */
  #run = 0;
  #rttMicroseconds = 0;
  #reason: string | null = null;
  #certificateUntilMs: number | null = null;
  #via: string | null = null;
  #event: Event | null = null;
  /** Wall clock, milliseconds: end of the last event, or else when the check was made or enabled. */
  lastAtMs: number;
  /** Wall clock, milliseconds; null while disabled. */
  nextAtMs: number | null = null;

  /** @param atMs wall clock */
  constructor(plan: CheckPlan, atMs: number) {
    this.#plan = plan;
    this.#state = plan.isEnabled ? "un-init" : "disabled";
    this.lastAtMs = atMs;
  }

  get plan(): CheckPlan {
    return this.#plan;
  }
  get state(): HealthState {
    return this.#state;
  }
  /** The last failure in words; null when the last event was a success or there was none. */
  get reason(): string | null {
    return this.#reason;
  }
  /** Found failing. */
  get hasFailed(): boolean {
    return this.#state === "dead" || this.#state === "unreach";
  }
  /** Has yet to succeed for the first time before it is offered (hc-initial=down). */
  get isAwaited(): boolean {
    return this.#state === "un-init" && judgingOf(this.#plan.check).initial === "down";
  }
  /** No new flows for the server. */
  get isDown(): boolean {
    return this.hasFailed || this.isAwaited;
  }
  get isRunning(): boolean {
    return this.#event !== null;
  }

  /**
   * The plan as it is now, of the same check. Enabling makes the check new, disabling ends what is under way.
   * @returns whether it was switched one way or the other
   */
  follow(plan: CheckPlan, atMs: number): boolean {
    const switched = plan.isEnabled !== this.#plan.isEnabled;
    this.#plan = plan;
    if (!switched) return false;
    this.#event = null;
    this.#state = plan.isEnabled ? "un-init" : "disabled";
    if (plan.isEnabled) {
      this.#failures = 0;
      this.#attempts = 0;
      this.#run = 0;
      this.#rttMicroseconds = 0;
      this.#reason = null;
      this.#via = null;
      this.lastAtMs = atMs;
    } else this.nextAtMs = null;
    return true;
  }

  /** Begins an event. */
  begin(random: Random): Step {
    const { test, defaultPing } = this.#plan.check;
    const event: Event = { needsPing: test.kind !== "ping" && defaultPing, ports: [] };
    this.#event = event;
    return event.needsPing ? { kind: "ping" } : this.#test(event, random);
  }

  /** Takes the outcome of the last step. @returns the next step, null when the event has ended */
  finish(outcome: Outcome, random: Random): Step | null {
    const event = this.#event;
    if (event === null) return null;
    if (outcome.kind === "not-started") {
      this.#event = null;
      this.#reason = outcome.reason;
      return null;
    }
    if (outcome.certificateUntilMs !== undefined) this.#certificateUntilMs = outcome.certificateUntilMs;
    const wasPing = event.needsPing || this.#plan.check.test.kind === "ping";
    // What was found before says nothing any more once a server does not answer.
    if (outcome.via !== undefined || outcome.kind === "failure") this.#via = outcome.via ?? null;
    if (outcome.kind === "failure") return this.#failed(event, wasPing, outcome.reason, random);
    this.#measured(outcome.rttMicroseconds);
    if (event.needsPing) {
      event.needsPing = false;
      return this.#test(event, random);
    }
    event.ports.shift();
    if (event.ports.length > 0) return stepOf(event);
    this.#succeeded();
    return null;
  }

  /** What show-hc-result shows. */
  result(): HealthResult {
    return {
      ruleId: this.#plan.ruleId,
      serverId: this.#plan.serverId,
      status: this.#state,
      fail: this.#failures,
      lastAtMs: this.lastAtMs,
      nextAtMs: this.nextAtMs,
      rttMicroseconds: this.#rttMicroseconds,
      reason: this.#reason,
      certificateUntilMs: this.#certificateUntilMs,
      via: this.#via,
    };
  }

  #succeeded(): void {
    this.#event = null;
    this.#attempts = 0;
    this.#run = Math.max(this.#run, 0) + 1;
    // A server that is out stays as it is until it has succeeded often enough.
    if (this.isDown && this.#run < judgingOf(this.#plan.check).rise) return;
    this.#failures = 0;
    this.#reason = null;
    this.#state = "alive";
  }

  #failed(event: Event, wasPing: boolean, reason: string, random: Random): Step | null {
    this.#failures++;
    this.#attempts++;
    this.#reason = wasPing && this.#plan.check.test.kind !== "ping" ? `ping: ${reason}` : reason;
    // Once found failing one failure ends the event; before, as many as the check allows.
    if (!this.hasFailed && this.#attempts < this.#plan.check.count)
      return event.needsPing ? { kind: "ping" } : this.#test(event, random);
    this.#event = null;
    this.#attempts = 0;
    this.#run = Math.min(this.#run, 0) - 1;
    if (this.isDown || -this.#run >= judgingOf(this.#plan.check).fall) this.#state = wasPing ? "unreach" : "dead";
    return null;
  }

  /** A new attempt at the test: with ANY, at another port. */
  #test(event: Event, random: Random): Step {
    if (this.#plan.check.test.kind === "ping") event.ports = [0];
    else event.ports = portsOf(this.#plan, random);
    return stepOf(event);
  }

  #measured(rttMicroseconds: number): void {
    if (rttMicroseconds > 0) this.#rttMicroseconds = smoothed(this.#rttMicroseconds, rttMicroseconds);
  }
}

const stepOf = (event: Event): Step => ({ kind: "test", port: event.ports[0]! });

/** Round-trip time after another sample, microseconds (specification F.2). */
export function smoothed(old: number, sample: number): number {
  return old === 0 ? sample : 3 * Math.floor(old / 4) + Math.floor(sample / 4);
}

/** Time from the end of an event to the beginning of the next, milliseconds (specification F.1). */
export function nextDelayMs(intervalSeconds: number, random: Random): number {
  const half = Math.floor(intervalSeconds / 2);
  return Math.max(1000, Math.floor(half * 1000 + random() * intervalSeconds * 1000));
}
