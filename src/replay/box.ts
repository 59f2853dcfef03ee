/**
 * A load balancer without a machine: the daemon's controller and the engine, with a clock that the capture drives, no
 * kernel, no database and no resolver. Every VIP is remote, every server is a neighbour. Knows no files and no captures.
 */
import type { CommandHost } from "../command/host.ts";
import type { Caller } from "../control/caller.ts";
import { Controller } from "../control/controller.ts";
import { BUILT_IN_NAMES } from "../control/names.ts";
import { NO_KERNEL } from "../control/no-plane.ts";
import type { EngineControl, KernelControl, Log } from "../control/ports.ts";
import type { Store } from "../control/store.ts";
import type { Compat, EngineLimits, NextHop, Outcome } from "../engine/engine.ts";
import { WasmEngine } from "../engine/wasm-engine.ts";
import { type Address, addressBytes, addressKey } from "../model/address.ts";
import { type Config, EMPTY_CONFIG } from "../model/config.ts";
import { findRule, findServer, healthCheckOf, serverId } from "../model/lookup.ts";
import { fail, type Result } from "../model/result.ts";
import { CaptureClock } from "./clock.ts";
import { BOX_MAC } from "./frames.ts";
import { ReportedHealth } from "./reported-health.ts";
import { Sweeps } from "./sweeps.ts";

/** The daemon's defaults. */
const LIMITS: EngineLimits = { maxFlows: 1_000_000, maxRules: 4096, maxPairs: 65_536, maxSticky: 262_144 };
/** Larger than any packet: a capture may hold packets that were still whole for a network card to cut up. */
const MTU_BYTES = 65_535;
const PORT = 0;
/** Engine clock at the first packet. */
const START_MS = 1000;

const CALLER: Caller = { name: "ilbd replay", rights: new Set(["show", "enable", "config"]) };
const SILENT: Log = { debug() {}, info() {}, warn() {}, error() {} };

export class ReplayBox {
  readonly #engine: WasmEngine;
  readonly #controller: Controller;
  readonly #clock: CaptureClock;
  readonly #firstNs: bigint;
  readonly #health = new ReportedHealth();
  readonly #sweeps: Sweeps;
  /** Names of rules and servers by id, also of those that are gone. */
  readonly #ruleNames = new Map<number, string>();
  readonly #serverNames = new Map<number, string>();
  readonly host: CommandHost;

  /** @param firstNs time stamp of the capture's first packet; the box's time begins there */
  constructor(moduleBytes: Uint8Array<ArrayBuffer>, compat: Compat, firstNs: bigint) {
    this.#firstNs = firstNs;
    this.#clock = new CaptureClock(START_MS, firstNs);
    this.#engine = new WasmEngine({ limits: LIMITS, moduleBytes, compat });
    this.#engine.setPort(PORT, { kind: "ethernet", mac: BOX_MAC, mtu: MTU_BYTES, address4: null, address6: null });
    this.#sweeps = new Sweeps(
      { sweep: (nowMs) => this.#engine.sweep(nowMs), restMs: (nowMs) => this.#engine.host.restMs(nowMs) },
      START_MS,
    );
    this.#controller = new Controller({
      engine: engineControl(this.#engine),
      kernel: neighbourhood(this.#engine),
      store: noStore(),
      names: BUILT_IN_NAMES,
      clock: this.#clock,
      log: SILENT,
      externalTest: () => "executable",
      healthSource: this.#health,
    });
    this.host = this.#controller.hostFor(CALLER);
  }

  /** Puts the empty configuration in force. */
  start(): Promise<Result<void>> {
    return this.#controller.start();
  }

  close(): Promise<void> {
    return this.#controller.close();
  }

  /** Lets time pass up to a time stamp, with everything that falls due on the way. Never goes back. */
  async advance(timeNs: bigint): Promise<void> {
    const untilMs = this.#engineMs(timeNs);
    if (this.#isQuietUntil(untilMs)) return this.#clock.moveTo(untilMs);
    for (;;) {
      const timerMs = this.#clock.nextDueMs();
      const nextMs = Math.min(timerMs, this.#sweeps.nextMs);
      if (nextMs > untilMs) break;
      this.#clock.moveTo(nextMs);
      if (nextMs === this.#sweeps.nextMs) this.#sweeps.run(untilMs);
      if (timerMs <= nextMs) await this.#fireTimers();
    }
    this.#clock.moveTo(untilMs);
  }

  async #fireTimers(): Promise<void> {
    const generation = this.#controller.generation();
    this.#clock.fireDue();
    await this.#controller.idle();
    if (this.#controller.generation() !== generation) this.#sweeps.disturb(this.#clock.nowMs());
  }

  /** True when nothing is due up to the time stamp, so that advance() would only set the clock, at once. */
  isQuietUntil(timeNs: bigint): boolean {
    return this.#isQuietUntil(this.#engineMs(timeNs));
  }

  /** Decides about a frame at a time that advance() has reached, or at which isQuietUntil() holds. */
  process(frame: Uint8Array, timeNs: bigint): Outcome {
    this.#clock.moveTo(this.#engineMs(timeNs));
    return this.#engine.process([{ bytes: frame, port: PORT }], this.#clock.nowMs())[0]!;
  }

  /** Reports what a check of a server in a rule has found. Fails with one line when there is no such pair. */
  async setHealth(id: string, ruleName: string, up: boolean): Promise<Result<void>> {
    const config = this.#controller.config();
    const rule = findRule(config, ruleName);
    if (rule === undefined) return fail("E-ENORULE", `there is no rule ${ruleName}`);
    const found = findServer(config, id);
    if (found === undefined || found.group.id !== rule.groupId)
      return fail("E-SRVUNAVAIL", `rule ${rule.name} has no server ${id}`);
    const count = healthCheckOf(config, rule)?.count ?? 1;
    this.#health.report(rule, found.server, up, count, this.#clock.wallMs());
    return this.#controller.refresh();
  }

  /** Call it after every command: packets of flows may name rules and servers that are gone by then. */
  learnNames(): void {
    const { rules, groups } = this.#controller.config();
    for (const rule of rules) this.#ruleNames.set(rule.id, rule.name);
    for (const group of groups)
      for (const server of group.servers) this.#serverNames.set(server.id, serverId(group, server));
  }

  /** Name of a rule, null for 0. */
  ruleName(ruleId: number): string | null {
    return this.#ruleNames.get(ruleId) ?? null;
  }

  /** Server ID, null for 0. */
  serverName(id: number): string | null {
    return this.#serverNames.get(id) ?? null;
  }

  #engineMs(timeNs: bigint): number {
    return START_MS + Number((timeNs - this.#firstNs) / 1_000_000n);
  }

  #isQuietUntil(untilMs: number): boolean {
    return untilMs < this.#sweeps.nextMs && untilMs < this.#clock.nextDueMs();
  }
}

function engineControl(engine: WasmEngine): EngineControl {
  return {
    stage: (image) => ({ publish: engine.stage(image), discard: () => undefined }),
    adopted: async () => true,
    counters: () => engine.counters(),
    heldPairs: () => engine.host.heldPairs(),
    flows: () => engine.host.flows(),
    sticky: () => engine.host.sticky(),
    flowsFrom: (place) => engine.host.flowsFrom(place),
    stickyFrom: (place) => engine.host.stickyFrom(place),
    live: () => engine.host.live(),
    policy: () => engine.policy(),
    portName: () => null,
  };
}

/** No address is the box's own, and whoever is a server is a neighbour with a MAC address made from its address. */
function neighbourhood(engine: WasmEngine): KernelControl {
  const known = new Map<number, string>();
  return {
    ...NO_KERNEL,
    watch(addresses) {
      for (const [index, address] of addresses) {
        const key = addressKey(address);
        if (known.get(index) === key) continue;
        known.set(index, key);
        engine.setNextHop(index, hopTo(address));
      }
    },
  };
}

function hopTo(address: Address): NextHop {
  const destinationMac = Uint8Array.of(0x02, 0x01, ...addressBytes(address).slice(-4));
  return { state: "resolved", port: PORT, destinationMac, sourceMac: BOX_MAC, mtu: MTU_BYTES };
}

/** Nothing is kept. */
function noStore(): Store {
  let config: Config = EMPTY_CONFIG;
  return {
    load: () => config,
    save: async (_before, after) => {
      config = after;
    },
    audit: () => true,
    auditLog: () => [],
    history: () => [],
    records: () => [],
    deltasAfter: () => null,
    close: () => undefined,
  };
}
