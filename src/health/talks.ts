/**
 * Tests that talk with a server in its own protocol: a connection from the prober's ports, then one request over it; DNS
 * also by datagrams. A talk has hc-timeout for everything. Its owner looks in at a beat; pauses of the daemon between two
 * looks do not count against the server.
 */

import { randomInt } from "node:crypto";
import { closeSync } from "node:fs";
import { type Address, formatAddress, formatBracketed, parseAddress } from "../model/address.ts";
import { type Question, questionOf, type TlsQuestion } from "../model/health-test.ts";
import type { ProbeRequest, ProbeResult } from "../native/probe.ts";
import type { Outcome } from "./check.ts";
import { ProbeConnection, TalkError, type TlsWish } from "./connection.ts";
import { askDnsOverUdp, NoPortError } from "./dns-socket.ts";
import { askDnsOverTcp, encodeQuery } from "./dns-test.ts";
import { askGrpc } from "./grpc-test.ts";
import { askHttp, type Refusal } from "./http-test.ts";
import type { CheckPlan } from "./plan.ts";
import { errorWords, outcomeOf, timeoutWords } from "./words.ts";

/** More time between two looks than this is the daemon's, not the server's. */
const MOST_STEP_MS = 100;
/** At once; each holds a socket and a few buffers. */
const MOST_TALKS = 4096;
const HTTP_PORT = 80;
const HTTPS_PORT = 443;

type Done = (outcome: Outcome) => void;

/** Begins a connection from a probe port. @returns how to cancel it; null: too many probes */
export type Connect = (request: ProbeRequest, done: (result: ProbeResult) => void) => (() => void) | null;

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
  readonly #ca: string | undefined;
  readonly #talks = new Set<Talk>();
  #lookedAtMs = 0;

  /** @param ca issuers to trust, PEM; absent: those of the system */
  constructor(connect: Connect, ca?: string) {
    this.#connect = connect;
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
    const cancel =
      question.kind === "dns" && plan.protocol === "udp"
        ? this.#beginDatagram(talk, plan.server, port, question)
        : this.#beginConnection(talk, plan.server, port, question);
    if (!cancel) return null;
    if (this.#talks.size === 0) this.#lookedAtMs = nowMs;
    this.#talks.add(talk);
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

  #beginConnection(talk: Talk, server: Address, port: number, question: Question): boolean {
    const timeoutMs = Math.min(talk.timeoutSeconds * 1000, 0xffff_ffff);
    const cancel = this.#connect({ kind: "connect", target: server, port, timeoutMs }, (result) => {
      const { connection } = result;
      if (talk.done === null) {
        if (connection !== undefined) closeSync(connection);
      } else if (connection === undefined) this.#finish(talk, outcomeOf(result, "connect", talk.timeoutSeconds));
      else this.#converse(talk, connection, result.rttMicroseconds, server, port, question);
    });
    if (cancel === null) return false;
    talk.release = cancel;
    return true;
  }

  #beginDatagram(talk: Talk, server: Address, port: number, question: Extract<Question, { kind: "dns" }>): boolean {
    const startedAtMs = performance.now();
    const { answer, end } = askDnsOverUdp(server, port, encodeQuery(question.name, question.type, randomInt(0x10000)));
    talk.release = end;
    const measured = answer.finally(() => {
      talk.rttMicroseconds = Math.max(1, Math.round((performance.now() - startedAtMs) * 1000));
    });
    this.#await(talk, measured);
    return true;
  }

  #converse(talk: Talk, fd: number, rttMicroseconds: number, server: Address, port: number, question: Question): void {
    talk.rttMicroseconds = rttMicroseconds;
    const tls = question.kind === "dns" ? null : this.#wishOf(question, server);
    const { connection, ready } = ProbeConnection.take(fd, tls);
    talk.connection = connection;
    talk.release = () => connection.destroy();
    this.#await(
      talk,
      ready.then(() => ask(connection, question, server, port)),
    );
  }

  #wishOf(question: Exclude<Question, { kind: "dns" }>, server: Address): TlsWish | null {
    const { tls, host }: { tls: TlsQuestion | null; host: string | null } = question;
    if (tls === null) return null;
    const name = host ?? formatAddress(server);
    return {
      name,
      isAddress: parseAddress(name) !== null,
      verify: tls.verify,
      protocol: question.kind === "grpc" ? "h2" : null,
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

function ask(connection: ProbeConnection, question: Question, server: Address, port: number): Promise<Refusal> {
  switch (question.kind) {
    case "http": {
      const { path, status, tls, host } = question;
      return askHttp(connection, {
        path,
        status,
        authority: authorityOf(host, server, port, tls ? HTTPS_PORT : HTTP_PORT),
      });
    }
    case "grpc": {
      const { service, tls, host } = question;
      const authority = authorityOf(host, server, port, tls ? HTTPS_PORT : HTTP_PORT);
      return askGrpc(connection, { service, authority, isTls: tls !== null });
    }
    case "dns":
      return askDnsOverTcp(connection, encodeQuery(question.name, question.type, randomInt(0x10000)));
  }
}

/** What the Host field says: the name that was given, or the address and port that are asked (RFC 9110 section 4.2). */
export function authorityOf(host: string | null, server: Address, port: number, defaultPort: number): string {
  if (host !== null) {
    const address = parseAddress(host);
    return address === null ? host : formatBracketed(address);
  }
  return port === defaultPort ? formatBracketed(server) : `${formatBracketed(server)}:${port}`;
}

function outcomeOfError(error: unknown): Outcome {
  if (error instanceof NoPortError) return { kind: "not-started", reason: error.message };
  if (error instanceof TalkError) return { kind: "failure", reason: error.message };
  const { code, message } = error as Error & { code?: string };
  return { kind: "failure", reason: errorWords(code ?? message) };
}
