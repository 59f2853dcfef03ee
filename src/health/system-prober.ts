/**
 * The prober of the daemon: built-in tests over sockets, external tests as programs. Looks in on all of them at one beat,
 * and only while something is under way; results carry the kernel's own times, so nothing is measured by that beat.
 */
import type { Clock } from "../control/clock.ts";
import { userOfTest } from "../control/external-test.ts";
import type { Log } from "../control/ports.ts";
import { type Address, formatAddress } from "../model/address.ts";
import { isTalk } from "../model/health-test.ts";
import { NativeError } from "../native/library.ts";
import { type ProbeKind, ProbeSockets, type ProbeWay, ProgramRuns } from "../native/probe.ts";
import type { Outcome, Step } from "./check.ts";
import { startNetBackupTest } from "./netbackup-test.ts";
import type { CheckPlan } from "./plan.ts";
import type { Prober } from "./prober.ts";
import { type FindDetour, Talks } from "./talks.ts";
import { outcomeOf, outcomeOfOutput, outcomeOfStatus, timeoutWords } from "./words.ts";

/** How often results are collected. A server that refuses is tried again at the next beat. */
const BEAT_MS = 20;
/** At once; every one that waits has a socket of its own. */
const MOST_PROBES = 8192;
const MOST_PROGRAMS = 512;
/** At programs that are ending, a millisecond apart, when everything ends. */
const LAST_LOOKS = 1000;
/** Share of hc-timeout that a UDP probe waits for a port unreachable (specification F.2). */
const UDP_WAIT = 3 / 4;
/** By the kernel's routing. */
const NO_WAY_NEEDED = { kind: "way", way: null } as const;

const NO_ROOM: Outcome = { kind: "not-started", reason: "too many probes are under way" };

/** An external test under way. */
interface Running {
  readonly plan: CheckPlan;
  readonly deadlineMs: number;
  /** null: decided already, or of no interest any more. */
  done: ((outcome: Outcome) => void) | null;
}

/** How probes get to servers. */
export interface ProbeWays {
  /** The way of a probe that is addressed to `vip` and meant for `server`, or why there is none. */
  wayTo(
    server: Address,
    vip: Address,
  ): { readonly kind: "way"; readonly way: ProbeWay } | Exclude<Outcome, { kind: "success" }>;
  /** The same for a connection by a socket. Does not reject. */
  readonly detourTo: FindDetour;
  /** The kernel's source address towards a server; null: not known. */
  sourceTo(server: Address): Address | null;
}

export class SystemProber implements Prober {
  readonly #clock: Clock;
  readonly #log: Log;
  readonly #ways: ProbeWays;
  readonly #sockets = new ProbeSockets(MOST_PROBES);
  readonly #programs = new ProgramRuns(MOST_PROGRAMS);
  readonly #talks: Talks;
  readonly #running = new Map<number, Running>();
  /** Outcomes of what could not even begin, for the next beat. */
  #early: (() => void)[] = [];
  #beat: { cancel(): void } | null = null;
  #closed = false;

  /** @param ca issuers of certificates to trust, PEM; absent: those that the runtime knows */
  constructor(clock: Clock, log: Log, ways: ProbeWays, ca?: string) {
    this.#clock = clock;
    this.#log = log;
    this.#ways = ways;
    this.#talks = new Talks((request, done) => this.#sockets.start(request, done), ways.detourTo, ca);
  }

  start(plan: CheckPlan, step: Step, done: (outcome: Outcome) => void): () => void {
    this.#beatSoon();
    if (step.kind === "test" && plan.check.test.kind === "external") return this.#startProgram(plan, step.port, done);
    if (step.kind === "test" && isTalk(plan.check.test.kind)) return this.#startTalk(plan, step.port, done);
    const { timeoutSeconds, test } = plan.check;
    if (step.kind === "test" && test.kind === "nbu")
      return startNetBackupTest(
        plan,
        step.port,
        (port, timeoutMs, ended) => this.#startProbe(plan, "tcp", port, timeoutMs / 1000, ended),
        () => this.#clock.nowMs(),
        done,
      );
    const kind = step.kind === "ping" ? "ping" : (test.kind as ProbeKind);
    return this.#startProbe(plan, kind, step.kind === "test" ? step.port : 0, timeoutSeconds, done);
  }

  close(): void {
    this.#closed = true;
    this.#beat?.cancel();
    this.#endPrograms();
    this.#talks.close();
    this.#sockets.close();
  }

  /** Whoever has left the session of a test is found when the test is gone, which takes the kernel a moment. */
  #endPrograms(): void {
    for (const record of this.#running.keys()) this.#programs.release(record);
    for (let looks = 0; this.#programs.poll() > 0 && looks < LAST_LOOKS; looks++) Bun.sleepSync(1);
  }

  #startProbe(
    plan: CheckPlan,
    kind: ProbeKind,
    port: number,
    seconds: number,
    done: (outcome: Outcome) => void,
  ): () => void {
    this.#beatSoon();
    const timeoutMs = Math.min(Math.ceil(seconds * 1000 * (kind === "udp" ? UDP_WAIT : 1)), 0xffff_ffff);
    const isDirect = plan.type === "DSR";
    const found = isDirect ? this.#ways.wayTo(plan.server, plan.vip) : NO_WAY_NEEDED;
    if (found.kind !== "way") return this.#tell(found, done);
    const target = isDirect ? plan.vip : plan.server;
    const source = kind === "tcp" && !isDirect ? this.#ways.sourceTo(plan.server) : null;
    const cancel = this.#sockets.start({ kind, target, port, timeoutMs, way: found.way, source }, (result) =>
      done(outcomeOf(result, kind, seconds)),
    );
    return cancel ?? this.#tell(NO_ROOM, done);
  }

  #startTalk(plan: CheckPlan, port: number, done: (outcome: Outcome) => void): () => void {
    return this.#talks.start(plan, port, this.#clock.nowMs(), done) ?? this.#tell(NO_ROOM, done);
  }

  #startProgram(plan: CheckPlan, port: number, done: (outcome: Outcome) => void): () => void {
    const { check } = plan;
    let record: number;
    try {
      record = this.#programs.start(argumentsOf(plan, port), userOfTest(check.test.text));
    } catch (error) {
      if (!(error instanceof NativeError)) throw error;
      const reason = `${check.test.text} cannot be run (${error.code})`;
      this.#log.warn("health test not started", { check: check.name, reason });
      return this.#tell({ kind: "not-started", reason }, done);
    }
    const running: Running = { plan, deadlineMs: this.#clock.nowMs() + check.timeoutSeconds * 1000, done };
    this.#running.set(record, running);
    return () => {
      if (running.done === null) return;
      running.done = null;
      this.#end(record);
    };
  }

  /** What is known without a probe is told at the next beat. */
  #tell(outcome: Outcome, done: (outcome: Outcome) => void): () => void {
    let wanted = true;
    this.#early.push(() => wanted && done(outcome));
    return () => {
      wanted = false;
    };
  }

  #beatSoon(): void {
    if (this.#closed) return;
    this.#beat ??= this.#clock.after(BEAT_MS, () => {
      this.#beat = null;
      this.#look();
    });
  }

  #look(): void {
    const early = this.#early;
    this.#early = [];
    for (const tell of early) tell();
    this.#sockets.poll();
    this.#talks.look(this.#clock.nowMs());
    const programs = this.#programs.poll();
    for (const [record, running] of this.#running) this.#lookAt(record, running);
    const isBusy = this.#sockets.active > 0 || this.#talks.active > 0 || programs > 0;
    if (isBusy || this.#early.length > 0) this.#beatSoon();
  }

  /** A test that has decided goes on until it ends by itself or its time is over. */
  #lookAt(record: number, running: Running): void {
    const status = this.#programs.status(record);
    const isLate = this.#clock.nowMs() >= running.deadlineMs;
    const tell = running.done;
    const outcome =
      outcomeOfOutput(this.#programs.output(record)) ??
      (status === null ? null : outcomeOfStatus(status)) ??
      (isLate ? ({ kind: "failure", reason: timeoutWords(running.plan.check.timeoutSeconds) } as const) : null);
    if (status !== null || isLate) this.#end(record);
    if (outcome === null || tell === null) return;
    running.done = null;
    tell(outcome);
  }

  #end(record: number): void {
    this.#running.delete(record);
    this.#programs.release(record);
  }
}

/** Path and six arguments (specification F.3). */
export function argumentsOf(plan: CheckPlan, port: number): string[] {
  const { check, vip, server, protocol, type } = plan;
  return [
    check.test.text,
    formatAddress(vip),
    formatAddress(server),
    protocol.toUpperCase(),
    type.replace("-", "_"),
    String(port),
    String(check.timeoutSeconds),
  ];
}
