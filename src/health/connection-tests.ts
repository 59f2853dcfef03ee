/**
 * Connections that commands ask for, to find out whether a port answers: from the ports whose answers the packet engine
 * leaves to the kernel, ended by a reset, nothing sent. A prober of its own, because people want to know times that the
 * beat of the health checks is too slow for; it is there as long as a test is under way.
 */
import { closeSync } from "node:fs";
import { failed } from "../command/errors.ts";
import type { Connected, Connector } from "../command/host.ts";
import type { ConnectionSource } from "../control/controller.ts";
import type { Address } from "../model/address.ts";
import { ok, type Result } from "../model/result.ts";
import { type ProbeResult, ProbeSockets } from "../native/probe.ts";

/** Tests at once; each has one connection at a time. */
const MOST_TESTS = 32;
/** A refusal has no time of the kernel's, so whoever waits for one looks at every turn of the event loop at first. */
const EAGER_MS = 5;
const BEAT_MS = 1;

const RESULTS: Readonly<Record<string, Connected["result"]>> = { ECONNREFUSED: "refused", ETIMEDOUT: "timeout" };

export class ConnectionTests implements ConnectionSource {
  #sockets: ProbeSockets | null = null;
  #tests = 0;
  #isLooking = false;
  /** Attempts under way, each with how to end it. */
  readonly #ends = new Set<() => void>();
  /** When the last attempt began. */
  #startedAtMs = 0;

  open(gone: AbortSignal | undefined): Connector | null {
    if (this.#tests >= MOST_TESTS) return null;
    this.#tests++;
    return {
      nowMs: () => performance.now(),
      connect: (target, port, timeoutMs) => this.#connect(target, port, timeoutMs, gone),
      close: () => this.#release(),
    };
  }

  /** Ends everything that is under way. */
  close(): void {
    for (const end of this.#ends) end();
    this.#sockets?.close();
    this.#sockets = null;
  }

  #release(): void {
    this.#tests--;
    if (this.#tests === 0) this.close();
  }

  #connect(
    target: Address,
    port: number,
    timeoutMs: number,
    gone: AbortSignal | undefined,
  ): Promise<Result<Connected>> {
    return new Promise((resolve, reject) => {
      if (gone?.aborted) return reject(new Error("the caller has gone"));
      this.#sockets ??= new ProbeSockets(MOST_TESTS);
      const startedAtMs = performance.now();
      const finish = (): void => {
        this.#ends.delete(stop);
        gone?.removeEventListener("abort", leave);
      };
      const cancel = this.#sockets.start({ kind: "connect", target, port, timeoutMs }, (result) => {
        finish();
        if (result.connection !== undefined) closeSync(result.connection);
        resolve(judged(result, performance.now() - startedAtMs));
      });
      const stop = (): void => {
        finish();
        cancel?.();
        resolve(failed("E-NBCONNECT", "ilbd is stopping"));
      };
      const leave = (): void => {
        finish();
        cancel?.();
        reject(new Error("the caller has gone"));
      };
      if (cancel === null) return resolve(failed("E-NBBUSY"));
      this.#ends.add(stop);
      gone?.addEventListener("abort", leave, { once: true });
      this.#startedAtMs = startedAtMs;
      if (!this.#isLooking) this.#look();
    });
  }

  #look(): void {
    this.#sockets?.poll();
    this.#isLooking = (this.#sockets?.active ?? 0) > 0;
    if (!this.#isLooking) return;
    if (performance.now() - this.#startedAtMs < EAGER_MS) setImmediate(() => this.#look());
    else setTimeout(() => this.#look(), BEAT_MS);
  }
}

/** @param tookMs until somebody looked */
function judged({ kind, code, local, rttMicroseconds }: ProbeResult, tookMs: number): Result<Connected> {
  if (kind === "not-started") return failed("E-NBCONNECT", code);
  const result = kind === "success" ? "connected" : (RESULTS[code] ?? "unreachable");
  const microseconds = rttMicroseconds > 0 ? rttMicroseconds : Math.max(1, Math.round(tookMs * 1000));
  return ok({ result, local: local ?? null, microseconds });
}
