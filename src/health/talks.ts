/**
 * Tests that talk with a server in its own protocol: a connection from the prober's ports, then one request over it; DNS
 * also by datagrams. A talk has hc-timeout for everything. Its owner looks in at a beat; pauses of the daemon between two
 * looks do not count against the server.
 */

import { closeSync } from "node:fs";
import { type Address, formatAddress, formatBracketed, parseAddress } from "../model/address.ts";
import { type Question, questionOf } from "../model/health-test.ts";
import type { ProbeRequest, ProbeResult } from "../native/probe.ts";
import type { Outcome } from "./check.ts";
import type { ProbeConnection, TlsWish } from "./connection.ts";
import { askDnsOverUdp, NoPortError } from "./dns-socket.ts";
import { askDnsOverTcp, encodeQuery } from "./dns-test.ts";
import { askGrpc } from "./grpc-test.ts";
import { askHttp, type Refusal } from "./http-test.ts";
import type { CheckPlan } from "./plan.ts";
import { TalkError } from "./talk-error.ts";
import { errorWords, outcomeOf, timeoutWords } from "./words.ts";

/** More time between two looks than this is the daemon's, not the server's. */
const MOST_STEP_MS = 100;
/** At once; each holds a socket and a few buffers. */
const MOST_TALKS = 4096;
const NO_ROOM: Outcome = { kind: "not-started", reason: "too many probes are under way" };
const HTTP_PORT = 80;
const HTTPS_PORT = 443;

/** Of a DNS query (RFC 1035, 4.1.1), not to be guessed. */
const queryNumber = (): number => crypto.getRandomValues(new Uint16Array(1))[0]!;

type Done = (outcome: Outcome) => void;

/** Begins a connection from a probe port. @returns how to cancel it; null: too many probes */
export type Connect = (request: ProbeRequest, done: (result: ProbeResult) => void) => (() => void) | null;

/** How a connection to `vip` on `server` is made (direct server return), or why it is not. Does not reject. */
export type FindDetour = (
  server: Address,
  vip: Address,
) => Promise<
  { readonly kind: "detour"; readonly mark: number; readonly source: Address } | Exclude<Outcome, { kind: "success" }>
>;

/** Whom a talk asks, and whose name it uses when none was given: of DSR rules the VIP, else the server. */
interface Target {
  readonly server: Address;
  readonly known: Address;
  readonly port: number;
}

/** One talk under way. */
class Talk {
  readonly timeoutSeconds: number;
  ageMs = 0;
  rttMicroseconds = 0;
  connection: ProbeConnection | null = null;
  /** Ends what is under way for it. */
  release: () => void = () => {};
  /** null: it has ended. */
  done: Done | null;

  constructor(timeoutSeconds: number, done: Done) {
    this.timeoutSeconds = timeoutSeconds;
    this.done = done;
  }
}

export class Talks {
  readonly #connect: Connect;
  readonly #detourTo: FindDetour;
  readonly #ca: string | undefined;
  readonly #talks = new Set<Talk>();
  #lookedAtMs = 0;

  /** @param ca issuers to trust, PEM; absent: those that the runtime knows */
  constructor(connect: Connect, detourTo: FindDetour, ca?: string) {
    this.#connect = connect;
    this.#detourTo = detourTo;
    this.#ca = ca;
  }

  get active(): number {
    return this.#talks.size;
  }

  /**
   * @param plan of a test that talks @param nowMs engine clock
   * @returns ends the talk without an outcome; null when there are too many
   */
  start(plan: CheckPlan, port: number, nowMs: number, done: Done): (() => void) | null {
    const question = questionOf(plan.check.test);
    if (question === null) throw new Error(`a test ${plan.check.test.kind} does not talk`);
    if (this.#talks.size >= MOST_TALKS) return null;
    const talk = new Talk(plan.check.timeoutSeconds, done);
    if (this.#talks.size === 0) this.#lookedAtMs = nowMs;
    this.#talks.add(talk);
    const isDirect = plan.type === "DSR";
    const target: Target = { server: plan.server, known: isDirect ? plan.vip : plan.server, port };
    if (question.kind === "dns" && plan.protocol === "udp") this.#beginDatagram(talk, target, question);
    else if (isDirect) this.#beginDetour(talk, target, question);
    else this.#beginConnection(talk, target, question, {});
    return () => this.#end(talk);
  }

  /** Ends talks whose time is over. */
  look(nowMs: number): void {
    const stepMs = Math.min(MOST_STEP_MS, nowMs - this.#lookedAtMs);
    this.#lookedAtMs = nowMs;
    for (const talk of this.#talks) {
      talk.ageMs += stepMs;
      if (talk.ageMs < talk.timeoutSeconds * 1000) continue;
      this.#finish(talk, { kind: "failure", reason: timeoutWords(talk.timeoutSeconds) });
    }
  }

  /** Ends everything without outcomes. */
  close(): void {
    for (const talk of this.#talks) this.#end(talk);
  }

  #beginDetour(talk: Talk, target: Target, question: Question): void {
    void this.#detourTo(target.server, target.known).then((found) => {
      if (talk.done === null) return;
      if (found.kind !== "detour") this.#finish(talk, found);
      else this.#beginConnection(talk, target, question, { mark: found.mark, source: found.source });
    });
  }

  #beginConnection(
    talk: Talk,
    target: Target,
    question: Question,
    detour: Pick<ProbeRequest, "mark" | "source">,
  ): void {
    const timeoutMs = Math.min(talk.timeoutSeconds * 1000, 0xffff_ffff);
    const { server, port } = target;
    const cancel = this.#connect({ kind: "connect", target: server, port, timeoutMs, ...detour }, (result) => {
      const { connection } = result;
      if (talk.done === null) {
        if (connection !== undefined) closeSync(connection);
      } else if (connection === undefined) this.#finish(talk, outcomeOf(result, "connect", talk.timeoutSeconds));
      else this.#converse(talk, connection, result.rttMicroseconds, target, question);
    });
    if (cancel !== null) talk.release = cancel;
    else queueMicrotask(() => this.#finish(talk, NO_ROOM));
  }

  #beginDatagram(talk: Talk, { server, port }: Target, question: Extract<Question, { kind: "dns" }>): void {
    const startedAtMs = performance.now();
    const { answer, end } = askDnsOverUdp(server, port, encodeQuery(question.name, question.type, queryNumber()));
    talk.release = end;
    const measured = answer.finally(() => {
      talk.rttMicroseconds = Math.max(1, Math.round((performance.now() - startedAtMs) * 1000));
    });
    this.#await(talk, measured);
  }

  #converse(talk: Talk, fd: number, rttMicroseconds: number, target: Target, question: Question): void {
    talk.rttMicroseconds = rttMicroseconds;
    const tls = question.kind === "dns" ? null : this.#wishOf(question, target.known);
    talk.release = () => closeSync(fd);
    // Loaded for the first talk: a start does not wait for it (docs/decisions/0047).
    const answer = import("./connection.ts").then(async ({ ProbeConnection }) => {
      if (talk.done === null) return null; // has ended meanwhile; nobody wants to know
      const { connection, ready } = ProbeConnection.take(fd, tls);
      talk.connection = connection;
      talk.release = () => connection.destroy();
      await ready;
      return ask(connection, question, target);
    });
    this.#await(talk, answer);
  }

  #wishOf({ tls, host, kind }: Exclude<Question, { kind: "dns" }>, known: Address): TlsWish | null {
    if (tls === null) return null;
    const name = host ?? formatAddress(known);
    return {
      name,
      isAddress: parseAddress(name) !== null,
      verify: tls.verify,
      protocol: kind === "grpc" ? "h2" : null,
      ...(this.#ca !== undefined && { ca: this.#ca }),
    };
  }

  #await(talk: Talk, answer: Promise<Refusal>): void {
    answer.then(
      (refusal) =>
        this.#finish(
          talk,
          refusal === null
            ? { kind: "success", rttMicroseconds: talk.rttMicroseconds }
            : { kind: "failure", reason: refusal },
        ),
      (error: unknown) => this.#finish(talk, outcomeOfError(error)),
    );
  }

  #finish(talk: Talk, outcome: Outcome): void {
    const { done } = talk;
    if (done === null) return;
    const certificateUntilMs = talk.connection?.certificateUntilMs;
    this.#end(talk);
    done(
      outcome.kind === "not-started" || certificateUntilMs === undefined ? outcome : { ...outcome, certificateUntilMs },
    );
  }

  #end(talk: Talk): void {
    if (talk.done === null) return;
    talk.done = null;
    this.#talks.delete(talk);
    talk.release();
  }
}

function ask(connection: ProbeConnection, question: Question, { known, port }: Target): Promise<Refusal> {
  if (question.kind === "dns")
    return askDnsOverTcp(connection, encodeQuery(question.name, question.type, queryNumber()));
  const { tls, host } = question;
  const authority = authorityOf(host, known, port, tls ? HTTPS_PORT : HTTP_PORT);
  if (question.kind === "grpc")
    return askGrpc(connection, { service: question.service, authority, isTls: tls !== null });
  return askHttp(connection, { path: question.path, status: question.status, authority });
}

/** What the Host field says: the name that was given, or the address and port that are asked (RFC 9110 section 4.2). */
export function authorityOf(host: string | null, asked: Address, port: number, defaultPort: number): string {
  if (host !== null) {
    const address = parseAddress(host);
    return address === null ? host : formatBracketed(address);
  }
  return port === defaultPort ? formatBracketed(asked) : `${formatBracketed(asked)}:${port}`;
}

function outcomeOfError(error: unknown): Outcome {
  if (error instanceof NoPortError) return { kind: "not-started", reason: error.message };
  if (error instanceof TalkError) return { kind: "failure", reason: error.message };
  const { code, message } = error as Error & { code?: string };
  return { kind: "failure", reason: errorWords(code ?? message) };
}
