/**
 * The data plane with packets: engine memory, devices, the kernel's share and the packet worker, opened and closed in
 * the order that keeps every packet with exactly one owner (docs/decisions/0005, 0012). Ties parts together only.
 */

import { join } from "node:path";
import type { EngineControl, KernelControl, Log } from "./control/ports.ts";
import { EngineBlocked, KernelRefused } from "./control/ports.ts";
import type { RunOptions } from "./daemon-options.ts";
import type { DataPlane } from "./data-plane.ts";
import { beginPacketPorts, type OpeningPorts } from "./device/afpacket.ts";
import { type FrameGeometry, sumCounters } from "./device/device.ts";
import { closePort, KernelPacketIo, type KernelPort, setPassDescriptor } from "./device/kernel-io.ts";
import { openTun } from "./device/tun.ts";
import type { EngineLimits } from "./engine/engine.ts";
import { EngineHost, PublishBlocked, randomHashKey } from "./engine/host.ts";
import { mostFlows, regionMap } from "./engine/memory.ts";
import { readEngineModule } from "./engine/module.ts";
import { NAT_PORT_LAST, WorkerControl } from "./gen/layout.ts";
import {
  type Host,
  type Kernel,
  type ModeOptions,
  openHost,
  openPacketMode,
  openTunMode,
  PASS_MARK,
} from "./kernel/kernel.ts";
import { missingRequirement } from "./kernel/requirements.ts";
import { fail, ok, type Result } from "./model/result.ts";
import { monotonicMs } from "./native/system.ts";
import { PageSupply } from "./worker/page-supply.ts";
import { ownSession, StrainRelief } from "./worker/priority.ts";
import type { WorkerPlace, WorkerTeam } from "./worker/workers.ts";

/**
 * Sizes that no option sets; docs/memory.md says what they cost. Rules: three times the 10,000 that are promised, because
 * an import that replaces all of them needs the counters of old and new rules at the same time.
 */
const MAX_RULES = 32_768;
/** Servers summed over lists of servers: rules that share a group share one, so 10,000 rules with 26 servers of their own. */
const MAX_PAIRS = 262_144;
const MAX_STICKY = 262_144;
/** What adopted() waits for a worker, which looks ten times a second at the least. */
const ADOPT_MS = 2000;
/** How often the pages of the tables are looked at: 50,000 flows may be opened meanwhile at 500,000 a second. */
const PAGES_MS = 100;

type Undo = () => unknown;

/** Privileges, device node, memory: what is known before anything is touched. @returns null, or one line */
export function refusedPacketPlane(options: RunOptions): string | null {
  const missing = missingRequirement(options.io === "tun" ? "tun" : "packet");
  if (missing !== null) return missing;
  try {
    regionMap(limitsOf(options), options.workers);
    return null;
  } catch (error) {
    const most = mostFlows((maxFlows) => limitsOf({ ...options, maxFlows }), options.workers);
    return `--max-flows ${options.maxFlows}: ${messageOf(error)}; at most ${most} fit`;
  }
}

/** Opens everything but the loop. Fails with one clear line; then everything is as before, and the team has stopped. */
export async function openPacketPlane(options: RunOptions, log: Log, team: WorkerTeam): Promise<Result<DataPlane>> {
  const undo: Undo[] = [];
  const unwind = async (): Promise<void> => {
    for (const step of undo.splice(0).reverse()) {
      try {
        await step();
      } catch (error) {
        log.warn("taking apart", { reason: messageOf(error) });
      }
    }
  };
  try {
    return ok(await open(options, log, team, undo, unwind));
  } catch (error) {
    await unwind();
    return fail("E-START", messageOf(error));
  }
}

async function open(
  options: RunOptions,
  log: Log,
  team: WorkerTeam,
  undo: Undo[],
  stop: () => Promise<void>,
): Promise<DataPlane> {
  const io = options.io === "tun" ? "tun" : "packet";
  const runDirectory = join(options.stateDirectory, "run");
  const host = openHost({ io, devices: options.devices, runDirectory, log });
  undo.push(() => host.close());
  // The kernel takes its time with them.
  const { ports, devices } = beginPorts(host, io, options.workers, (step) => undo.push(step));
  const { engine, pages } = await createEngine(options, log);
  const listeners: (() => void)[] = [];
  const mode: ModeOptions = {
    onNextHop: (index, hop) => engine.setNextHop(index, hop),
    onLocalChange: () => {
      for (const listener of listeners) listener();
    },
    onPortChange: () => describePorts(),
  };
  let kernel: Kernel | null = null;
  const describePorts = (): void => {
    for (const [index, port] of kernel?.ports().entries() ?? []) engine.setPort(index, port);
  };
  const opened = io === "tun" ? await openTunMode(host, ports[0]![0]!.name, mode) : await openPacketMode(host, mode);
  undo.push(() => opened.close());
  kernel = opened;
  describePorts();
  for (const [index, fd] of opened.passDescriptors.entries())
    for (const own of ports) setPassDescriptor(own[index]!, fd);
  for (const device of devices) device.finish(engine.dealSecret);
  const ios = ports.map((own, worker) => {
    const packetIo = KernelPacketIo.create(engine.memory.buffer, frameGeometry(engine, worker), own, options.spinUs);
    undo.push(() => packetIo.close());
    return packetIo;
  });
  undo.push(() => team.stop());
  // They may still be warming up; meanwhile the tables are made.
  const prepared = team.prepare(placesOf(engine, ios, reliefOf(options.nice, log)));
  prepared.catch(() => undefined); // told by start()
  const names = ports[0]!.map((port) => port.name);
  log.info("devices open", { io, devices: names.join(",") });
  const wakeAll = (): void => {
    for (const packetIo of ios) packetIo.wake();
  };
  return {
    engine: engineControl(engine, wakeAll, names),
    kernel: kernelControl(opened),
    nowMs: monotonicMs,
    start: async () => {
      await prepared;
      await team.run();
      const looking = setInterval(() => pages.look(), PAGES_MS);
      undo.push(() => clearInterval(looking));
    },
    ports: () =>
      names.map((name, index) => ({ name, counters: sumCounters(ios.map((packetIo) => packetIo.counters(index))) })),
    workers: () => engine.workers(),
    missingDevices: () => opened.missingDevices(),
    failed: team.failed,
    probeWay: (server, vip) => opened.probeWay(server, vip),
    probeDetour: (server, vip) => opened.probeDetour(server, vip),
    signals: engine,
    probeSource: (server) => opened.probeSource(server),
    onLocalChange: (listener) => void listeners.push(listener),
    stop,
  };
}

/** What happens while workers are strained: the session is raised, or where that cannot be each thread raises itself. */
function reliefOf(nice: number, log: Log): Pick<WorkerPlace, "nice" | "onStrain"> {
  if (nice === 0) return {};
  const session = ownSession(nice);
  if (session === null) return { nice };
  const relief = new StrainRelief(session, (reason) => log.warn("no priority over other programs", { nice, reason }));
  return { onStrain: (isStrained) => relief.note(isStrained) };
}

/** What each packet worker works with, by number. The engine's memory was laid out for as many. */
function placesOf(
  engine: EngineHost,
  ios: readonly KernelPacketIo[],
  relief: Pick<WorkerPlace, "nice" | "onStrain">,
): WorkerPlace[] {
  const peers = ios.length === 1 ? [] : ios.map((packetIo) => packetIo.handOver);
  return ios.map((packetIo, number) => ({
    seat: engine.seat(number),
    io: packetIo.handOver,
    peers,
    ...relief,
    askToStop: () => {
      engine.requestStop(number);
      packetIo.wake();
    },
    heartbeatMs: () => engine.heartbeatMs(number),
    nowMs: monotonicMs,
  }));
}

function limitsOf({ maxFlows }: RunOptions): EngineLimits {
  return { maxFlows, maxRules: MAX_RULES, maxPairs: MAX_PAIRS, maxSticky: Math.min(maxFlows, MAX_STICKY) };
}

async function createEngine(options: RunOptions, log: Log): Promise<{ engine: EngineHost; pages: PageSupply }> {
  const engine = EngineHost.create({
    limits: limitsOf(options),
    workers: options.workers,
    hashKey: randomHashKey(),
    moduleBytes: await readEngineModule(),
    compat: options.compat,
    // Servers may still hold connections from the same tuples that the daemon before this one used.
    firstProxyPlace: crypto.getRandomValues(new Uint32Array(1))[0]! % NAT_PORT_LAST,
  });
  const pages = new PageSupply(engine);
  log.info("engine memory laid out", {
    mebibytes: Math.round(engine.memory.buffer.byteLength / 2 ** 20),
    maxFlows: options.maxFlows,
    hugePages: pages.hugePages,
    compat: options.compat,
  });
  return { engine, pages };
}

/**
 * Ports per worker, in the order of their indexes: the TUN first, then the devices, which have to be finished before packets flow.
 * An index means the same device everywhere.
 */
function beginPorts(
  host: Host,
  io: "packet" | "tun",
  workers: number,
  defer: (undo: Undo) => void,
): { readonly ports: readonly (readonly KernelPort[])[]; readonly devices: readonly OpeningPorts[] } {
  const ports: KernelPort[][] = Array.from({ length: workers }, () => []);
  const add = (shared: readonly KernelPort[]): void => {
    for (const [worker, port] of shared.entries()) {
      ports[worker]!.push(port);
      defer(() => closePort(port));
    }
  };
  if (io === "tun") add(openTun("ilb%d", workers));
  const options = io === "tun" ? ({ direction: "transmit" } as const) : { passMark: PASS_MARK };
  const devices = host.devices.map(({ name }) => {
    const device = beginPacketPorts(name, workers, options);
    add(device.ports);
    return device;
  });
  return { ports, devices };
}

function frameGeometry(engine: EngineHost, worker: number): FrameGeometry {
  const { descriptors, heads, tails, control } = engine.map.workers[worker]!;
  const frames = { descriptors, heads, tails };
  return engine.map.workers.length === 1 ? frames : { ...frames, sleeping: control + WorkerControl.sleeping };
}

function engineControl(engine: EngineHost, wake: () => void, ports: readonly string[]): EngineControl {
  return {
    stage(image) {
      try {
        const publish = engine.stage(image);
        return {
          publish: () => {
            publish();
            wake();
          },
          discard: () => undefined, // the next image is written over it
        };
      } catch (error) {
        throw error instanceof PublishBlocked ? new EngineBlocked(error.message) : error;
      }
    },
    async adopted(generation) {
      for (const until = performance.now() + ADOPT_MS; performance.now() < until; await Bun.sleep(1))
        if (engine.generationReached(generation)) return true;
      return false;
    },
    counters: () => engine.counters(),
    heldPairs: () => engine.heldPairs(),
    flows: () => engine.flows(),
    sticky: () => engine.sticky(),
    flowsFrom: (place) => engine.flowsFrom(place),
    stickyFrom: (place) => engine.stickyFrom(place),
    live: () => engine.live(),
    policy: () => engine.policy(),
    portName: (index) => ports[index] ?? null,
  };
}

function kernelControl(kernel: Kernel): KernelControl {
  const asRefusal = (error: unknown): never => {
    throw new KernelRefused(messageOf(error));
  };
  return {
    check(config) {
      const reason = kernel.checkConfig(config);
      return reason === null ? null : { code: "E-EINVAL", text: reason };
    },
    widen: (interest) => kernel.widen(interest).catch(asRefusal),
    narrow: (interest) => kernel.narrow(interest).catch(asRefusal),
    filter: (make) => kernel.filter(make).catch(asRefusal),
    filterCounts: () => kernel.filterCounts(),
    ownAddresses: () => kernel.ownAddresses(),
    isLocal: (address) => kernel.isLocal(address),
    watch: (addresses) => kernel.watch(addresses),
    hints: (rule) => kernel.hints(rule),
  };
}

const messageOf = (error: unknown): string => (error instanceof Error ? error.message : String(error));
