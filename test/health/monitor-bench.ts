/** The monitor with the real controller over fakes: probes answer from a script, time stands still until it is moved. */
import { DAEMON_CALLER } from "../../src/control/caller.ts";
import { Controller } from "../../src/control/controller.ts";
import type { PairSignals } from "../../src/engine/engine.ts";
import type { Outcome } from "../../src/health/check.ts";
import { Monitor, type PanicChange, type Transition } from "../../src/health/monitor.ts";
import { EMPTY_CONFIG } from "../../src/model/config.ts";
import { FakeWorld, NO_NAMES, SILENT, settled } from "../control/fakes.ts";
import { ilbadm, setUp } from "../support/fake-host.ts";
import { type Asked, bad, GOOD, ScriptedProber } from "./script.ts";

export const HC = "create-healthcheck -h hc-test=tcp,hc-timeout=1,hc-count=3,hc-interval=10";
/** Longest time until an event begins. */
export const PERIOD_MS = 15_100;

/** What clients have met, as a packet engine would count it. */
class FakeSignals {
  readonly counts = new Map<string, PairSignals>();
  scans = 0;

  signalCount(): number {
    return [...this.counts.values()].reduce((sum, { count }) => sum + count, 0);
  }

  signals(): PairSignals[] {
    this.scans++;
    return [...this.counts.values()];
  }

  /** A client was refused. */
  add(ruleId: number, serverId: number): void {
    const key = `${ruleId} ${serverId}`;
    this.counts.set(key, { ruleId, serverId, count: (this.counts.get(key)?.count ?? 0) + 1 });
  }
}

/** A box with a configuration. */
export async function start(...lines: string[]) {
  const world = new FakeWorld();
  const prober = new ScriptedProber();
  const transitions: Transition[] = [];
  const panics: PanicChange[] = [];
  const signals = new FakeSignals();
  const monitor = new Monitor({
    clock: world.clock,
    random: () => 0.25,
    prober,
    onTransitions: (some) => transitions.push(...some),
    onPanics: (some) => panics.push(...some),
    signals,
  });
  const controller = new Controller({
    engine: world.engine,
    kernel: { ...world.kernel, hints: () => [] },
    store: world.store,
    names: NO_NAMES,
    clock: world.clock,
    log: SILENT,
    healthSource: monitor,
  });
  world.saved = EMPTY_CONFIG;
  await controller.start();
  monitor.start(async () => (await controller.refresh()).ok);
  const host = controller.hostFor(DAEMON_CALLER);
  const run = async (...words: string[]): Promise<void> => {
    await setUp(host, ...words);
    await settled();
  };
  await run(...lines);
  return {
    world,
    prober,
    monitor,
    controller,
    transitions,
    panics,
    signals,
    run,
    /** Lets every check begin one event and answers all of its steps. */
    async event(outcome: (asked: Asked) => Outcome): Promise<void> {
      await world.clock.advance(PERIOD_MS);
      prober.answerAll(outcome);
      await world.clock.advance(100);
    },
    /** Last parts of the addresses that get new flows of a rule, in the order of the algorithms. */
    offered(ruleIndex = 0): number[] {
      const rule = world.image!.rules[ruleIndex]!;
      return rule.members
        .filter((member) => member.enabledSequence !== null)
        .sort((a, b) => a.enabledSequence! - b.enabledSequence!)
        .map((member) => Number(world.image!.servers[member.server]!.address.value & 0xffn));
    },
    states: () => monitor.results().map(({ status, fail }) => `${status} ${fail}`),
    listing: async () => (await ilbadm(host, "show-hc-result")).stdout,
  };
}

export const GROUP = "create-servergroup -s server=192.0.2.10,192.0.2.11,192.0.2.12 sg1";
export const rule = (name: string, port: number, more = "-h hc-name=h1") =>
  `create-rule -e -i vip=198.51.100.1,port=${port} -m type=HALF-NAT ${more} -o servergroup=sg1 ${name}`;
export const ONE_RULE = [`${HC} h1`, GROUP, rule("r1", 80)];
/** The server whose address ends in `last` fails its tests. */
export const fails =
  (...last: number[]) =>
  ({ plan, step }: Asked): Outcome =>
    step.kind === "test" && last.includes(Number(plan.server.value & 0xffn)) ? bad() : GOOD;
