/** The HTTP application over recording fakes, for tests that need no daemon. */
import type { Caller } from "../../src/control/caller.ts";
import type { ConnectionSource, Controller } from "../../src/control/controller.ts";
import { HealthEvents } from "../../src/control/health-events.ts";
import { type App, createApp } from "../../src/http/app.ts";
import { RefusalAudit } from "../../src/http/rights.ts";
import { FakeWorld } from "../control/fakes.ts";

export const ADMIN: Caller = { name: "root", rights: new Set(["show", "enable", "config"]) };

/** Number of the first health event: of the size of a wall clock, as a daemon's. */
export const FIRST_EVENT = 1_795_000_000_000;

export interface Ask {
  readonly caller?: Caller;
  /** Default: GET, or POST with a body. */
  readonly method?: string;
  /** Sent as JSON. */
  readonly json?: unknown;
  readonly body?: string | Uint8Array<ArrayBuffer> | ReadableStream<Uint8Array>;
  readonly headers?: Readonly<Record<string, string>>;
}

export class TestApp {
  readonly world = new FakeWorld();
  readonly controller: Controller;
  readonly app: App;
  readonly healthEvents = new HealthEvents(FIRST_EVENT);
  /** Messages of errors that it logged. */
  readonly errors: string[] = [];

  private constructor(connections?: ConnectionSource) {
    const controller = this.world.controller(undefined, undefined, connections);
    this.controller = controller;
    this.app = createApp({
      version: "1.2.3",
      log: { debug() {}, info() {}, warn() {}, error: (message) => this.errors.push(message) },
      hostFor: (caller, gone) => controller.hostFor(caller, gone),
      refusals: new RefusalAudit((caller, command, code) => controller.auditRefusal(caller, command, code)),
      healthEvents: this.healthEvents,
      counters: () => this.world.engine.counters(),
      ports: () => [],
      workers: () => [],
      isReady: () => true,
    });
  }

  static async start(connections?: ConnectionSource): Promise<TestApp> {
    const app = new TestApp(connections);
    await app.controller.start();
    return app;
  }

  async ask(path: string, { caller = ADMIN, method, json, body, headers = {} }: Ask = {}): Promise<Response> {
    const payload = json === undefined ? body : JSON.stringify(json);
    return this.app.request(
      path,
      {
        method: method ?? (payload === undefined ? "GET" : "POST"),
        headers: { ...(json === undefined ? {} : { "content-type": "application/json" }), ...headers },
        ...(payload === undefined ? {} : { body: payload }),
        ...(payload instanceof ReadableStream ? { duplex: "half" } : {}),
      } as RequestInit,
      { caller },
    );
  }

  /** The parsed JSON of an answer. */
  async json(path: string, options?: Ask): Promise<unknown> {
    return (await this.ask(path, options)).json();
  }

  /** Status and code of a refusal, which must be a problem document. */
  async refusal(path: string, options?: Ask): Promise<[status: number, code: string, field?: string]> {
    const answer = await this.ask(path, options);
    if (answer.headers.get("content-type") !== "application/problem+json")
      throw new Error(`${path}: ${answer.status} ${await answer.text()}`);
    const problem = (await answer.json()) as { code: string; status: number; field?: string };
    if (problem.status !== answer.status) throw new Error(`${path}: status ${answer.status} and ${problem.status}`);
    return problem.field === undefined ? [answer.status, problem.code] : [answer.status, problem.code, problem.field];
  }

  /** Runs command lines that must succeed. */
  async run(...lines: string[]): Promise<void> {
    for (const line of lines) {
      const answer = (await this.json("/v1/ilbadm", { json: { line } })) as { exit: number; stderr: string };
      if (answer.exit !== 0) throw new Error(`${line}: ${answer.stderr}`);
    }
  }
}
