/** Recording stand-ins for engine, kernel, store and clock: every call lands in one list, in order; any step can fail. */
import type { Clock } from "../../src/control/clock.ts";
import { type ConnectionSource, Controller } from "../../src/control/controller.ts";
import type { HealthSource } from "../../src/control/health-status.ts";
import type { NameService } from "../../src/control/names.ts";
import { type EngineControl, type KernelControl, KernelRefused, type Log } from "../../src/control/ports.ts";
import type { AuditRecord, ChangeRecord, Store } from "../../src/control/store.ts";
import { SaveFailed } from "../../src/control/store.ts";
import {
  type EngineCounters,
  ImageTooLarge,
  type Interest,
  type TableImage,
  zeroPairCounters,
} from "../../src/engine/engine.ts";
import { NOTHING_LIVE } from "../../src/engine/explain.ts";
import type { LiveTables } from "../../src/engine/explanation.ts";
import type { Address } from "../../src/model/address.ts";
import type { Config } from "../../src/model/config.ts";
import { EMPTY_CONFIG } from "../../src/model/config.ts";
import type { Failure } from "../../src/model/result.ts";

export type Step = "check" | "stage" | "widen" | "filter" | "save" | "adopt";

export class FakeWorld {
  readonly calls: string[] = [];
  readonly failAt = new Set<Step>();
  /** Draining pairs that an image may hold. */
  mostDrains = Number.POSITIVE_INFINITY;
  image: TableImage | null = null;
  interest: Interest | null = null;
  /** Text of the nft table of the flow policy. */
  filter: string | null = null;
  watched: ReadonlyMap<number, Address> = new Map();
  saved: Config = EMPTY_CONFIG;
  readonly changes: ChangeRecord[] = [];
  readonly audits: AuditRecord[] = [];
  readonly flowCounts = new Map<string, number>();
  readonly local = new Set<bigint>();
  own: readonly Address[] = [];
  readonly clock = new FakeClock();
  live: LiveTables = NOTHING_LIVE;

  readonly engine: EngineControl = {
    stage: (image) => {
      this.calls.push(`stage ${image.generation}`);
      if (this.failAt.has("stage")) throw new ImageTooLarge("too many rules");
      if (image.drains.length > this.mostDrains) throw new ImageTooLarge("too many draining servers");
      return {
        publish: () => {
          this.calls.push(`publish ${image.generation}`);
          this.image = image;
        },
        discard: () => this.calls.push(`discard ${image.generation}`),
      };
    },
    adopted: async (generation) => {
      this.calls.push(`adopted ${generation}`);
      return !this.failAt.has("adopt");
    },
    counters: () => this.counters(),
    heldPairs: () => this.counters().pairs.filter(({ flows }) => flows > 0),
    flows: () => [],
    sticky: () => [],
    flowsFrom: () => [],
    stickyFrom: () => [],
    live: () => this.live,
    policy: () => ({ counters: [], refused: [] }),
    portName: (index) => `eth${index}`,
  };

  readonly kernel: KernelControl = {
    check: (): Failure | null => {
      this.calls.push("check");
      return this.failAt.has("check") ? { code: "E-EINVAL", text: "no" } : null;
    },
    widen: async () => {
      this.calls.push("widen");
      if (this.failAt.has("widen")) throw new KernelRefused("nft said no");
    },
    narrow: async (interest) => {
      this.calls.push("narrow");
      this.interest = interest;
    },
    filter: async (make) => {
      this.calls.push(make === null ? "filter off" : "filter");
      if (this.failAt.has("filter")) throw new KernelRefused("nft said no");
      this.filter = make === null ? null : make(["meta mark 1"]);
    },
    filterCounts: async () => ({ counters: new Map(), refused: [] }),
    ownAddresses: () => this.own,
    isLocal: (address) => this.local.has(address.value),
    watch: (addresses) => {
      this.calls.push(`watch ${[...addresses.keys()].sort().join(",")}`);
      this.watched = addresses;
    },
    hints: (rule) => [`hint about ${rule.name}`],
  };

  readonly store: Store = {
    load: () => this.saved,
    save: async (_before, after, change) => {
      this.calls.push("save");
      if (this.failAt.has("save")) throw new SaveFailed("disk full");
      this.saved = after;
      this.changes.push(change);
      this.audits.push({ ...change, result: "ok" });
    },
    audit: (record) => {
      this.audits.push(record);
      return true;
    },
    auditLog: () => [],
    history: () => [],
    records: () => [],
    deltasAfter: () => null,
    close: () => undefined,
  };

  controller(saved: Config = EMPTY_CONFIG, healthSource?: HealthSource, connections?: ConnectionSource): Controller {
    this.saved = saved;
    return new Controller({
      engine: this.engine,
      kernel: this.kernel,
      store: this.store,
      names: NO_NAMES,
      clock: this.clock,
      log: SILENT,
      ...(healthSource && { healthSource }),
      ...(connections && { connections }),
    });
  }

  /** The calls since the last look. */
  taken(): string[] {
    return this.calls.splice(0);
  }

  private counters(): EngineCounters {
    const pairs = [...this.flowCounts].map(([key, flows]) => {
      const [ruleId, serverId] = key.split("/").map(Number);
      return { ...zeroPairCounters(ruleId!, serverId!), flows };
    });
    return { packetsIn: 0n, reasons: [], rules: [], pairs, fragmentsIn: 0n, fragmentsDropped: 0n };
  }
}

/** Time stands still until advance() is called. */
export class FakeClock implements Clock {
  private timeMs = 1_000_000;
  private timers: { at: number; action: () => void }[] = [];

  wallMs = (): number => 1_700_000_000_000 + this.timeMs;
  nowMs = (): number => this.timeMs;

  after(delayMs: number, action: () => void): { cancel(): void } {
    const timer = { at: this.timeMs + delayMs, action };
    this.timers.push(timer);
    return {
      cancel: () => {
        this.timers = this.timers.filter((other) => other !== timer);
      },
    };
  }

  get pending(): number {
    return this.timers.length;
  }

  /** Moves time on, fires what is due in order, and lets promises settle in between. */
  async advance(milliseconds: number): Promise<void> {
    const end = this.timeMs + milliseconds;
    for (;;) {
      const due = this.timers.filter((timer) => timer.at <= end).sort((a, b) => a.at - b.at)[0];
      if (due === undefined) break;
      this.timers = this.timers.filter((other) => other !== due);
      this.timeMs = Math.max(this.timeMs, due.at);
      due.action();
      await settled();
    }
    this.timeMs = end;
    await settled();
  }
}

/** Turns of the event loop that a change takes at most: it lets others have theirs between its steps. */
const TURNS = 8;

/** Lets everything that is ready run. */
export async function settled(): Promise<void> {
  for (let turn = 0; turn < TURNS; turn++) await new Promise((resolve) => setImmediate(resolve));
}

export const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {} };

export const NO_NAMES: NameService = {
  resolveHost: async () => null,
  reverseLookup: async () => null,
  resolveService: async () => null,
};
