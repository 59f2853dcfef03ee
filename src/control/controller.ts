/**
 * The one place that holds the running configuration and changes it, one change at a time. A change goes through the
 * steps of `install()`; whatever fails before the database has it leaves everything as it was (docs/decisions/0012 says
 * why in this order). It parses nothing, prints nothing and knows no packet.
 */
import type { Change } from "../command/command.ts";
import { errorText, failed } from "../command/errors.ts";
import type { ChangeContext, CommandHost, Connector } from "../command/host.ts";
import { type EngineCounters, ImageTooLarge, type Interest, type TableImage } from "../engine/engine.ts";
import { explain } from "../engine/explain.ts";
import { type Address, addressKey } from "../model/address.ts";
import { upsert } from "../model/collections.ts";
import type { Config } from "../model/config.ts";
import { findRule } from "../model/lookup.ts";
import { type NetBackupState, NO_NETBACKUP } from "../model/netbackup.ts";
import { fail, ok, type Result } from "../model/result.ts";
import type { MakeTransitTable } from "../model/transit.ts";
import { policyOf } from "../netbackup/policy.ts";
import { policyTable } from "../netbackup/policy-nft.ts";
import { type Caller, DAEMON_CALLER } from "./caller.ts";
import type { Clock } from "./clock.ts";
import { compile, deadlineFits, rulesOfInterest, serversInUse } from "./compile.ts";
import {
  collect,
  type DrainingNumbers,
  type Drains,
  drainingNumbers,
  type HoldersOf,
  NO_DRAINS,
  nextDrains,
  someDrains,
  withFlows,
} from "./drain.ts";
import { externalTest, remarksOnTest } from "./external-test.ts";
import { type HealthSource, Unprobed } from "./health-status.ts";
import { type InterestRule, interestOf, isSameInterest } from "./interest.ts";
import type { NameService } from "./names.ts";
import { assignPlaces, NO_PLACES, type Places, releasePlaces } from "./places.ts";
import { policyCounts } from "./policy.ts";
import {
  EngineBlocked,
  type EngineControl,
  type KernelControl,
  KernelRefused,
  type Log,
  type StagedImage,
} from "./ports.ts";
import { EMPTY_RUNTIME, nextRuntime, type Runtime } from "./runtime.ts";
import { statisticsSample } from "./statistics.ts";
import { SaveFailed, type Store } from "./store.ts";
import { undo } from "./undo.ts";

/** How often draining pairs are looked at; the first look comes soon, since most removed servers have no flows. */
const DRAIN_POLL_MS = 1000;
const FIRST_DRAIN_POLL_MS = 20;

export interface ControllerParts {
  readonly engine: EngineControl;
  readonly kernel: KernelControl;
  readonly store: Store;
  readonly names: NameService;
  readonly clock: Clock;
  readonly log: Log;
  /** Looks at the program of an external health test. Default: in the file system, with this process's rights. */
  readonly externalTest?: NonNullable<ChangeContext["externalTest"]>;
  /** Who knows what health checks found. Default: nobody probes. */
  readonly healthSource?: HealthSource;
  /** Connections that commands ask for. Default: there are none. */
  readonly connections?: ConnectionSource;
}

/** Who connects to hosts for commands. */
export interface ConnectionSource {
  /** For one test; null: too many are under way. @param gone fires when its caller has left */
  open(gone: AbortSignal | undefined): Connector | null;
}

/** Everything that one change replaces as a whole. */
interface State {
  readonly config: Config;
  readonly runtime: Runtime;
  readonly drains: Drains;
  readonly ruleSlots: Places;
  readonly hopIndexes: Places;
  /** What the interest set was made of. */
  readonly interestRules: readonly InterestRule[];
  readonly own: readonly Address[];
  readonly interest: Interest;
  readonly generation: number;
  /** Engine clock when the image was compiled: which deadlines were within its reach. */
  readonly compiledAtMs: number;
  /** The image had no room for all deadlines that were. */
  readonly lacksDeadlines: boolean;
  /** What the engine goes by. */
  readonly image: TableImage;
}

const NOTHING: Interest = { entries: [], vips: [], servers: [], proxies: [], own: [] };
const INITIAL: Omit<State, "config"> = {
  runtime: EMPTY_RUNTIME,
  drains: NO_DRAINS,
  ruleSlots: NO_PLACES,
  hopIndexes: NO_PLACES,
  interestRules: [],
  own: [],
  interest: NOTHING,
  generation: 0,
  compiledAtMs: 0,
  lacksDeadlines: false,
  image: { generation: 0, servers: [], rules: [], drains: [], interest: NOTHING },
};

const NO_NUMBERS: ReadonlySet<number> = new Set();

export class Controller {
  private state: State;
  private turn: Promise<unknown> = Promise.resolve();
  private drainTimer: { cancel(): void } | null = null;
  private closed = false;
  /** What the kernel's rules of the flow policy were made of. */
  private filtered: NetBackupState = NO_NETBACKUP;
  private readonly healthSource: HealthSource;

  /** Loads the saved configuration; nothing is in force before start(). */
  constructor(private readonly parts: ControllerParts) {
    this.state = { ...INITIAL, config: parts.store.load() };
    this.healthSource = parts.healthSource ?? new Unprobed();
  }

  /** Puts the saved configuration in force. Fails like a change; then nothing is in force. */
  start(): Promise<Result<void>> {
    const { config } = this.state;
    return this.inTurn(() => this.install({ ...INITIAL, config: { ...config, groups: [], rules: [] } }, config, null));
  }

  config(): Config {
    return this.state.config;
  }

  counters(): EngineCounters {
    return this.parts.engine.counters();
  }

  /** Generation of the image in force, 0 before start(). */
  generation(): number {
    return this.state.generation;
  }

  /** The face that commands see, bound to one caller. `gone` ends sleep() and so an endless statistics listing. */
  hostFor(caller: Caller, gone?: AbortSignal): CommandHost {
    const { engine, names, clock, store, connections } = this.parts;
    return {
      config: () => this.state.config,
      transact: (audit, change) => this.transact(caller, audit, change),
      changeContext: () => this.changeContext(caller),
      hints: (change) => this.hints(change),
      statistics: () => statisticsSample(this.state.config, engine.counters(), clock.wallMs()),
      natEntries: () => engine.flows(),
      persistEntries: () => engine.sticky(),
      healthResults: () => this.healthSource.results(),
      flowCounts: () => engine.counters().pairs,
      records: (kind, limit) => store.records(kind, limit),
      configAfter: (id, current) => this.configAfter(id, current),
      natEntriesFrom: (place) => engine.flowsFrom(place),
      persistEntriesFrom: (place) => engine.stickyFrom(place),
      policyCounts: async () =>
        policyCounts(engine.policy(), await this.parts.kernel.filterCounts(), clock.nowMs(), clock.wallMs()),
      explain: (packet) => {
        const explanation = explain(this.state.image, engine.live(), packet);
        return { explanation, egressName: explanation.egress && engine.portName(explanation.egress.port) };
      },
      ...(connections && { connector: () => connections.open(gone) }),
      resolveHost: (name, family) => names.resolveHost(name, family),
      reverseLookup: (address) => names.reverseLookup(address),
      resolveService: (name, prefer) => names.resolveService(name, prefer),
      sleep: (milliseconds) => sleep(clock, milliseconds, gone),
    };
  }

  /** Writes a refused command to the audit log (and to the daemon's log, which also survives a full disk). */
  auditRefusal(caller: Caller, command: string, code: string): void {
    this.parts.log.warn("refused", { who: caller.name, command, code });
    this.audit(caller, command, code);
  }

  /** Writes to the audit log what happened without anybody's command, one record for each line. */
  auditEvents(lines: readonly string[]): void {
    const { store, clock, log } = this.parts;
    const happened = { atMs: clock.wallMs(), who: DAEMON_CALLER.name, result: "ok" };
    if (!store.audit(...lines.map((command) => ({ ...happened, command }))))
      log.error("audit records could not be written", { lines: lines.length });
  }

  /** Compiles and publishes anew, because something beside the configuration changed (addresses of the box, health). */
  refresh(): Promise<Result<void>> {
    return this.inTurn(() => this.install(this.state, this.state.config, null));
  }

  /** Resolves when every change that was asked for so far, by whomever, is done. */
  async idle(): Promise<void> {
    await this.turn;
  }

  /** Ends all timers and waits for the change in progress; later changes fail. Kernel, engine and store are the caller's. */
  async close(): Promise<void> {
    this.closed = true;
    this.drainTimer?.cancel();
    await this.turn;
  }

  private configAfter(id: number, current: Config): Result<Config> {
    const deltas = this.parts.store.deltasAfter(id);
    return deltas === null ? failed("E-NOCHANGE", String(id)) : ok(undo(current, deltas));
  }

  private hints(change: Change): readonly string[] {
    if (change.kind === "create-healthcheck") return remarksOnTest(change.test);
    if (change.kind !== "create-rule") return [];
    const rule = findRule(this.state.config, change.name);
    return rule === undefined ? [] : this.parts.kernel.hints(rule);
  }

  private transact(
    caller: Caller,
    command: string,
    change: (config: Config, context: ChangeContext) => Result<Config> | Promise<Result<Config>>,
  ): Promise<Result<void>> {
    return this.inTurn(async () => {
      const before = this.state;
      const changed = await change(before.config, this.changeContext(caller));
      const result = changed.ok ? await this.installChange(before, changed.value, caller, command) : changed;
      if (!result.ok) this.audit(caller, command, result.failure.code);
      return result;
    });
  }

  private async installChange(before: State, after: Config, caller: Caller, command: string): Promise<Result<void>> {
    if (after !== before.config)
      return this.install(before, after, { atMs: this.parts.clock.wallMs(), who: caller.name, command });
    this.audit(caller, command, "ok");
    return ok(undefined);
  }

  /**
   * From `before` to `after`. Steps up to save() can fail and are taken back; from publish() on nothing fails.
   * @param record what to save with it; null when the configuration itself stays as it is on the disk
   */
  private async install(
    before: State,
    after: Config,
    record: { atMs: number; who: string; command: string } | null,
  ): Promise<Result<void>> {
    const { kernel, store, log } = this.parts;
    const refused = kernel.check(after);
    if (refused !== null) return { ok: false, failure: refused };
    let state: State;
    let staged: StagedImage;
    try {
      ({ state, staged } = await this.stage(before, after));
    } catch (error) {
      log.warn("the engine does not take the configuration", { reason: messageOf(error) });
      if (error instanceof ImageTooLarge) return failed("E-NOMEM");
      if (error instanceof EngineBlocked) return internal(error);
      throw error;
    }
    try {
      await breathe();
      await kernel.widen(state.interest);
      kernel.watch(watchList(before, state));
      await this.filterTransit(after.netbackup);
      if (record !== null) await store.save(before.config, after, record);
    } catch (error) {
      staged.discard();
      await this.takeBack(before);
      log.error("change failed", { reason: messageOf(error) });
      if (error instanceof SaveFailed) return failed("E-CFG");
      if (error instanceof KernelRefused) return internal(error);
      throw error;
    }
    staged.publish();
    this.state = state;
    this.healthSource.follow(after, this.parts.clock.wallMs());
    await this.settle();
    return ok(undefined);
  }

  /**
   * The next state, its image written into free memory. Where it does not fit, draining pairs that hold no flow any more make
   * room: who changes much in a row would otherwise fill the tables before the poll comes to them. Where one change drains
   * more than fits, those that hold no flow now get their deadlines with the first poll, if they hold any by then. Throws as
   * stage() does.
   */
  private async stage(before: State, after: Config): Promise<{ state: State; staged: StagedImage }> {
    let state = await this.prepare(before, after);
    let staged = await this.tryToStage(state);
    if (!(staged instanceof ImageTooLarge)) return { state, staged };
    const holdersOf = this.holders();
    const smaller = { ...before, drains: withFlows(before.drains, holdersOf) };
    if (smaller.drains !== before.drains) {
      state = await this.prepare(smaller, after);
      staged = await this.tryToStage(state);
    }
    if (staged instanceof ImageTooLarge && withFlows(state.drains, holdersOf) !== state.drains) {
      state = await this.prepare(smaller, after, holdersOf);
      staged = await this.tryToStage(state);
    }
    if (staged instanceof ImageTooLarge) throw staged;
    return { state, staged };
  }

  private async tryToStage({ image }: State): Promise<StagedImage | ImageTooLarge> {
    await breathe();
    try {
      return this.parts.engine.stage(image);
    } catch (error) {
      if (error instanceof ImageTooLarge) return error;
      throw error;
    }
  }

  /** The next state with its image, step by step; pure but for the clock. @param holdersOf as in CompileInput */
  private async prepare(before: State, config: Config, holdersOf?: HoldersOf): Promise<State> {
    const { kernel, clock } = this.parts;
    const nowMs = clock.nowMs();
    const generation = before.generation + 1;
    const runtime = nextRuntime(before.runtime, config, this.healthSource.view(config));
    const drains = nextDrains(before.drains, before, { config, runtime }, nowMs);
    await breathe();
    const ruleKeys = config.rules.map((rule) => String(rule.id));
    const interestRules = rulesOfInterest(config, drains);
    const own = kernel.ownAddresses();
    const isSame = own === before.own && isSameInterest(before.interestRules, interestRules);
    const hopKeys = serversInUse(config, drains).map((server) => addressKey(server.address));
    const state: Omit<State, "image"> = {
      config,
      runtime,
      drains,
      ruleSlots: assignPlaces(before.ruleSlots, ruleKeys, generation),
      hopIndexes: assignPlaces(before.hopIndexes, hopKeys, generation),
      interestRules,
      own,
      interest: isSame ? before.interest : interestOf(interestRules, own),
      generation,
      compiledAtMs: nowMs,
      lacksDeadlines: holdersOf !== undefined,
    };
    await breathe();
    const isLocal = (address: Address): boolean => kernel.isLocal(address);
    return { ...state, image: compile({ ...state, isLocal, nowMs, ...(holdersOf && { holdersOf }) }, before.image) };
  }

  /** After publishing: when no worker uses an older image, the kernel gets back what is no longer the engine's. */
  private async settle(): Promise<void> {
    const { engine, kernel, log } = this.parts;
    const { generation, interest } = this.state;
    if (await engine.adopted(generation)) {
      this.state = {
        ...this.state,
        ruleSlots: releasePlaces(this.state.ruleSlots, generation),
        hopIndexes: releasePlaces(this.state.hopIndexes, generation),
      };
      kernel.watch(watchList(this.state));
      await kernel
        .narrow(interest)
        .catch((error) => log.error("guard could not be narrowed", { reason: messageOf(error) }));
    } else {
      log.error("a worker does not take over the new tables; the guard stays wide", { generation });
    }
    this.scheduleDrainPoll(FIRST_DRAIN_POLL_MS);
  }

  /** The kernel applies the flow policy to what it forwards. */
  private async filterTransit(state: NetBackupState): Promise<void> {
    if (state === this.filtered) return;
    const make: MakeTransitTable = (exempt) =>
      policyTable(policyOf(state), { counting: "named", flags: "owner", exempt });
    await this.parts.kernel.filter(state.mode === "off" ? null : make);
    this.filtered = state;
  }

  /** A step before publishing failed: the kernel goes back to what was. */
  private async takeBack(before: State): Promise<void> {
    const { kernel, log } = this.parts;
    await this.filterTransit(before.config.netbackup).catch((error) =>
      log.error("the flow policy could not be taken back", { reason: messageOf(error) }),
    );
    kernel.watch(watchList(before));
    await kernel
      .narrow(before.interest)
      .catch((error) => log.error("guard could not be narrowed", { reason: messageOf(error) }));
  }

  private scheduleDrainPoll(delayMs: number): void {
    this.drainTimer?.cancel();
    this.drainTimer = null;
    const { drains, compiledAtMs, lacksDeadlines } = this.state;
    const waits = someDrains(
      drains,
      ({ isMember, deadlineMs }) => !isMember || (deadlineMs !== null && !deadlineFits(deadlineMs, compiledAtMs)),
    );
    if ((waits || lacksDeadlines) && !this.closed)
      this.drainTimer = this.parts.clock.after(delayMs, () => void this.inTurn(() => this.pollDrains()));
  }

  /** Lets go of departed pairs without flows; compiles in deadlines that have come within the engine's reach. */
  private async pollDrains(): Promise<Result<void>> {
    const { state } = this;
    // Where deadlines were left out, all of what holds no flow goes: every worker uses the image by now.
    const drains = (state.lacksDeadlines ? withFlows : collect)(state.drains, this.holders());
    const nowMs = this.parts.clock.nowMs();
    const cameNear = someDrains(
      drains,
      ({ deadlineMs: at }) => at !== null && deadlineFits(at, nowMs) && !deadlineFits(at, state.compiledAtMs),
    );
    if (drains === state.drains && !cameNear && !state.lacksDeadlines) {
      this.scheduleDrainPoll(DRAIN_POLL_MS);
      return ok(undefined);
    }
    const result = await this.install({ ...state, drains }, state.config, null);
    if (!result.ok) this.scheduleDrainPoll(DRAIN_POLL_MS);
    return result;
  }

  private changeContext(caller: Caller): ChangeContext {
    let numbers: DrainingNumbers | null = null;
    const testAt = this.parts.externalTest ?? externalTest;
    return {
      drainingNumbers: (groupId) => {
        numbers ??= drainingNumbers(this.state.drains, this.holders());
        return numbers.get(groupId) ?? NO_NUMBERS;
      },
      externalTest: (path) => testAt(path, caller.isSuperuser === true),
    };
  }

  /** Which servers hold flows now. */
  private holders(): HoldersOf {
    const byRule = new Map<number, Set<number>>();
    for (const { ruleId, serverId } of this.parts.engine.heldPairs())
      upsert(byRule, ruleId, () => new Set<number>()).add(serverId);
    return (ruleId) => byRule.get(ruleId) ?? NO_NUMBERS;
  }

  /** A record without a change. A disk that cannot take it is no reason to fail: the daemon's own log has it then. */
  private audit(caller: Caller, command: string, result: string): void {
    const { store, clock, log } = this.parts;
    if (!store.audit({ atMs: clock.wallMs(), who: caller.name, command, result }))
      log.error("audit record could not be written", { who: caller.name, command, result });
  }

  /** Runs `work` after everything that was asked for before. */
  private inTurn(work: () => Promise<Result<void>>): Promise<Result<void>> {
    const mine = this.turn.then(() => (this.closed ? failed("E-INTERNAL") : work()));
    this.turn = mine.catch(() => undefined);
    return mine;
  }
}

/** Next-hop indexes and their addresses, of one or two states together. */
function watchList(...states: readonly State[]): Map<number, Address> {
  const addresses = new Map<number, Address>();
  for (const { config, drains, hopIndexes } of states) {
    for (const { address } of serversInUse(config, drains)) {
      const index = hopIndexes.byKey.get(addressKey(address));
      if (index !== undefined) addresses.set(index, address);
    }
  }
  return addresses;
}

/** Between the steps of a change: others have their turn, health checks and statistics for instance. */
const breathe = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

function sleep(clock: Clock, milliseconds: number, gone: AbortSignal | undefined): Promise<void> {
  return new Promise((resolve, reject) => {
    if (gone?.aborted) return reject(new Error("the caller has gone"));
    const onGone = (): void => {
      timer.cancel();
      reject(new Error("the caller has gone"));
    };
    const timer = clock.after(milliseconds, () => {
      gone?.removeEventListener("abort", onGone);
      resolve();
    });
    gone?.addEventListener("abort", onGone, { once: true });
  });
}

/** The catalogue's text, and what went wrong behind it. */
const internal = (error: Error): Result<never> => fail("E-INTERNAL", `${errorText("E-INTERNAL")} (${error.message})`);

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
