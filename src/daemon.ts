/**
 * `ilbd run`: puts the parts together, in the order of docs/decisions/0012 (options, privileges, state, sockets, tables,
 * guard, devices, workers, ready), waits for a signal or a failure, and takes them apart again. The only file that knows
 * them all. What packets do not wait for is loaded when it is wanted (docs/decisions/0038).
 */
import { readFileSync } from "node:fs";
import { DAEMON_CALLER } from "./control/caller.ts";
import { type Clock, systemClock } from "./control/clock.ts";
import { Controller } from "./control/controller.ts";
import { type HealthEvent, HealthEvents } from "./control/health-events.ts";
import { systemNames } from "./control/names.ts";
import type { Log } from "./control/ports.ts";
import { type OpenedStore, openStore } from "./control/store.ts";
import type { RunOptions } from "./daemon-options.ts";
import { type DataPlane, openDataPlane, refusedDataPlane } from "./data-plane.ts";
import { ConnectionTests } from "./health/connection-tests.ts";
import { isEvent, panicEvent, transitionEvent } from "./health/describe.ts";
import { Monitor, type Transition } from "./health/monitor.ts";
import { SystemProber } from "./health/system-prober.ts";
import type { App } from "./http/app.ts";
import { callerOfPeer, systemAccounts } from "./http/peer.ts";
import { RefusalAudit } from "./http/rights.ts";
import type { Service } from "./http/service.ts";
import { TokenFile } from "./http/tokens.ts";
import { listenUnix, type RunningServer } from "./http/unix-server.ts";
import { createLog } from "./log.ts";
import { fail, ok, type Result } from "./model/result.ts";
import { decodeUtf8 } from "./model/utf8.ts";
import { LibraryError } from "./native/library.ts";
import { monotonicMs, peerIdentity } from "./native/system.ts";
import { VERSION } from "./version.ts";
import type { WorkerTeam } from "./worker/workers.ts";

/** A start that takes longer answers management requests meanwhile, with "starting"; what answers is not loaded before. */
const SHORT_START_MS = 250;
/** SIGTERM promises two seconds; what has not let go by then is left to the kernel. */
const STOP_DEADLINE_MS = 1800;
const STOP_SIGNALS = ["SIGTERM", "SIGINT", "SIGQUIT"] as const;

/**
 * Runs until it is told to stop.
 * @param team of `--io packet` and `--io tun`: warms up already; is stopped with the daemon
 * @returns the exit status
 */
export async function runDaemon(options: RunOptions, team: WorkerTeam | null): Promise<number> {
  const log = createLog(options.logLevel, options.logFormat);
  const daemon = new Daemon(options, log, team);
  const stopping = untilToldToStop(log);
  try {
    const started = await daemon.start();
    if (!started.ok) return complain(started.failure.text);
    const reason = await Promise.race([stopping, daemon.failure()]);
    if (reason === null) return 0;
    return complain(reason);
  } catch (error) {
    if (error instanceof LibraryError) return complain(error.message);
    log.error("unexpected failure", {
      reason: error instanceof Error ? (error.stack ?? error.message) : String(error),
    });
    return complain("stopped by an unexpected failure; its record is in the log");
  } finally {
    await daemon.stop();
  }
}

function complain(line: string): 1 {
  process.stderr.write(`ilbd: ${line}\n`);
  return 1;
}

/** Resolves null at a stop signal, with a line at a bug that nobody caught. */
function untilToldToStop(log: Log): Promise<string | null> {
  return new Promise((resolve) => {
    for (const signal of STOP_SIGNALS) {
      process.once(signal, () => {
        log.info("stopping", { signal });
        resolve(null);
      });
    }
    process.on("SIGHUP", () => undefined);
    const bug = (error: unknown): void => {
      log.error("unexpected failure", {
        reason: error instanceof Error ? (error.stack ?? error.message) : String(error),
      });
      resolve("stopped by an unexpected failure; its record is in the log");
    };
    process.on("uncaughtException", bug);
    process.on("unhandledRejection", bug);
  });
}

class Daemon {
  private readonly servers: RunningServer[] = [];
  private store: OpenedStore | null = null;
  private plane: DataPlane | null = null;
  private controller: Controller | null = null;
  private monitor: Monitor | null = null;
  private readonly connectionTests = new ConnectionTests();
  private ready = false;
  /** Packets flow. */
  private readonly running = Promise.withResolvers<void>();
  private readonly healthEvents = new HealthEvents(Date.now());
  private app: Promise<App> | null = null;
  private readonly refusals = new RefusalAudit((caller, command, code) => {
    if (this.controller !== null) this.controller.auditRefusal(caller, command, code);
    else this.log.warn("refused", { who: caller.name, command, code });
  });

  constructor(
    private readonly options: RunOptions,
    private readonly log: Log,
    private readonly team: WorkerTeam | null,
  ) {}

  /** All or nothing: after a failure the caller still calls stop(). */
  async start(): Promise<Result<void>> {
    const { options, log } = this;
    monotonicMs(); // throws LibraryError here, before anything is touched, when the native library is missing or strange
    const refused = await refusedDataPlane(options);
    if (refused !== null) return fail("E-START", refused);
    const opened = openStore(options.stateDirectory);
    if (!opened.ok) return opened;
    this.store = opened.value;
    const listening = await this.listen();
    if (!listening.ok) return listening;
    const plane = await openDataPlane(options, log, this.team);
    if (!plane.ok) return plane;
    this.plane = plane.value;
    const { engine, kernel } = plane.value;
    const clock = this.clock();
    const monitor = this.createMonitor(clock);
    const controller = new Controller({
      engine,
      kernel,
      store: opened.value,
      names: systemNames(),
      clock,
      log,
      healthSource: monitor,
      connections: this.connectionTests,
    });
    this.controller = controller;
    const inForce = await controller.start();
    if (!inForce.ok)
      return fail(inForce.failure.code, `the saved configuration cannot be put in force: ${inForce.failure.text}`);
    const imported = await this.importOnce(controller);
    if (!imported.ok) return imported;
    try {
      await plane.value.start();
    } catch (error) {
      return fail("E-START", error instanceof Error ? error.message : String(error));
    }
    this.running.resolve();
    monitor.start(async () => (await controller.refresh()).ok);
    plane.value.onLocalChange(() => void controller.refresh());
    this.ready = true;
    log.info("ready", { version: VERSION, rules: controller.config().rules.length });
    process.stdout.write(
      `ilbd ready socket=${options.socket} io=${options.io} workers=${options.io === "none" ? 0 : options.workers}\n`,
    );
    void this.application();
    void this.finishWarmUp();
    return ok(undefined);
  }

  /** What the first packets need has been warmed up before; a failure costs speed only. */
  private async finishWarmUp(): Promise<void> {
    try {
      await this.team?.finishWarmUp();
    } catch (error) {
      this.log.warn("the warm-up was not finished", { reason: error instanceof Error ? error.message : String(error) });
    }
  }

  /** Resolves with a line when a part fails while running. */
  async failure(): Promise<string> {
    return this.plane!.failed;
  }

  /** Takes apart whatever start() has put together, newest first. Never throws, never takes long. */
  async stop(): Promise<void> {
    const wasReady = this.ready;
    this.ready = false;
    const done = this.takeApart(wasReady).catch((error) =>
      this.log.error("not everything could be taken apart", {
        reason: error instanceof Error ? error.message : String(error),
      }),
    );
    const late = Bun.sleep(STOP_DEADLINE_MS).then(() => this.log.error("stopping takes too long; leaving"));
    await Promise.race([done, late]);
    if (wasReady) this.log.info("stopped");
  }

  /** @param wasReady when not, the start was refused, and a database that it has made goes with it */
  private async takeApart(wasReady: boolean): Promise<void> {
    this.monitor?.close();
    this.connectionTests.close();
    await Promise.all([...this.servers.map((server) => server.stop()), this.controller?.close()]);
    await this.plane?.stop();
    await this.team?.stop();
    if (wasReady) this.store?.close();
    else this.store?.abandon();
  }

  private createMonitor(clock: Clock): Monitor {
    const { log } = this;
    this.monitor = new Monitor({
      clock,
      random: Math.random,
      prober: new SystemProber(clock, log, {
        wayTo: (server, vip) => this.plane!.probeWay(server, vip),
        detourTo: (server, vip) => this.plane!.probeDetour(server, vip),
        sourceTo: (server) => this.plane!.probeSource(server),
      }),
      signals: this.plane!.signals,
      onPanics: (changes) => {
        const events = changes.map((one) => panicEvent(one, this.controller!.config(), clock.wallMs()));
        for (const { kind, text } of events)
          if (kind === "panic") log.warn(text);
          else log.info(text);
        this.tell(events);
      },
      onTransitions: (transitions) => {
        const event = (one: Transition): HealthEvent => transitionEvent(one, this.controller!.config(), clock.wallMs());
        for (const { rule, server, from, to, reason } of transitions.map(event))
          log.info("health", { rule, server: server!, from: from!, to: to!, ...(reason !== null && { reason }) });
        this.tell(transitions.filter(isEvent).map(event));
      },
    });
    return this.monitor;
  }

  /** Those who follow it live, and the audit log. */
  private tell(events: readonly HealthEvent[]): void {
    if (events.length === 0) return;
    this.healthEvents.add(events);
    this.controller!.auditEvents(events.map(({ text }) => text));
  }

  private clock(): Clock {
    const clock = systemClock();
    return { ...clock, nowMs: () => this.plane!.nowMs() };
  }

  /** Opens the management socket and, if asked for, the TCP port. They answer "starting" until everything is ready, if that takes long. */
  private async listen(): Promise<Result<void>> {
    const { options, log } = this;
    const handler: Parameters<typeof listenUnix>[0]["handler"] = async (request, caller) => {
      if (this.ready || this.app !== null) return (await this.application()).fetch(request, { caller });
      if (new URL(request.url).pathname === "/healthz") return new Response("ok\n");
      const { httpFailure, problemResponse } = await import("./http/problem.ts");
      return problemResponse(request, httpFailure("E-NOTREADY", "ilbd is starting; try again in a moment"));
    };
    const accounts = systemAccounts();
    const ownUid = process.geteuid?.() ?? 0;
    const unix = await listenUnix({
      path: options.socket,
      identify: (fd) => callerOfPeer(peerIdentity(fd), accounts, ownUid),
      handler,
      log,
      heldBack: Promise.race([this.running.promise, Bun.sleep(SHORT_START_MS)]),
    });
    if (!unix.ok) return unix;
    this.servers.push(unix.value);
    if (options.listen === null) return ok(undefined);
    const tokens = options.tokenFile === null ? ok(null) : TokenFile.open(options.tokenFile, log);
    if (!tokens.ok) return tokens;
    const { listenTcp } = await import("./http/tcp-server.ts");
    const tcp = listenTcp({
      listen: options.listen,
      tokens: tokens.value,
      tls: options.tls,
      handler,
      refused: (caller, command, code) => this.refusals.record(caller, command, code),
      log,
    });
    if (!tcp.ok) return tcp;
    this.servers.push(tcp.value);
    log.info("listening", { address: `${options.listen.hostname}:${tcp.value.port}` });
    return ok(undefined);
  }

  /** The HTTP application; it is large, and packets do not wait until it is loaded. */
  private application(): Promise<App> {
    this.app ??= import("./http/app.ts").then(({ createApp }) => createApp(this.service()));
    return this.app;
  }

  private service(): Service {
    const controller = this.controller!;
    const plane = this.plane!;
    return {
      version: VERSION,
      log: this.log,
      hostFor: (caller, gone) => controller.hostFor(caller, gone),
      refusals: this.refusals,
      healthEvents: this.healthEvents,
      counters: () => controller.counters(),
      ports: () => plane.ports(),
      workers: () => plane.workers(),
      isReady: () => this.ready && plane.missingDevices().length === 0,
    };
  }

  /** `--config`: only into a database that has never held anything, so that a restart does not bring back what was deleted. */
  private async importOnce(controller: Controller): Promise<Result<void>> {
    const file = this.options.configFile;
    if (file === null) return ok(undefined);
    if (controller.config().nextId > 1) {
      this.log.info("--config is not imported: the database has a configuration of its own", { file });
      return ok(undefined);
    }
    let bytes: Uint8Array;
    try {
      bytes = readFileSync(file);
    } catch (error) {
      return fail("E-START", `--config ${file} cannot be read (${(error as NodeJS.ErrnoException).code ?? error})`);
    }
    const decoded = decodeUtf8(bytes);
    if (!("text" in decoded)) return fail("E-START", `--config cannot be imported: ${file}: ${decoded.objection}`);
    const host = controller.hostFor(DAEMON_CALLER);
    const { importText } = await import("./command/run.ts");
    const output = importText(decoded.text, host, { right: () => true, name: file, preserve: false });
    for (;;) {
      const step = await output.next();
      if (!step.done) continue;
      if (step.value !== null) return fail("E-START", `--config cannot be imported: ${step.value.text}`);
      this.log.info("configuration imported", { file, rules: controller.config().rules.length });
      return ok(undefined);
    }
  }
}
