/**
 * Two engines side by side: every event goes to both, and everything that they say is compared, frames byte for byte.
 * The one liberty is the choice of a proxy port: the reference is told to take the port that the subject took, after it
 * has been checked to be free; where the subject took none of an address, none may have been free. Checksums of whatever the subject sends are judged by the packet decoder, from scratch.
 */
import type {
  EngineCounters,
  FrameIn,
  FrameOut,
  NextHop,
  Outcome,
  PacketEngine,
  Port,
  TableImage,
  VnetHeader,
} from "../../src/engine/engine.ts";
import type { ReferenceEngine } from "../../src/engine/reference.ts";
import { Reason, Verdict } from "../../src/gen/layout.ts";
import { type Address, isIPv4Mapped } from "../../src/model/address.ts";
import { addressText } from "../support/addresses.ts";
import { toHex } from "../support/packet-builder.ts";
import { outputFaults, packetOf } from "./output-check.ts";
import { ownershipFault } from "./ownership.ts";
import { freePortOf, type Stage } from "./stage.ts";

/** One step of a run; a list of them repeats the run. */
export type Event =
  | { readonly kind: "port"; readonly index: number; readonly port: Port }
  | { readonly kind: "hop"; readonly index: number; readonly hop: NextHop }
  | { readonly kind: "publish"; readonly image: TableImage }
  | { readonly kind: "batch"; readonly frames: readonly FrameIn[]; readonly nowMs: number }
  | { readonly kind: "sweep"; readonly nowMs: number };

export interface Disagreement {
  readonly what: string;
  /** The frame of the batch, where one is at fault. */
  readonly frame?: FrameIn;
}

/** The engine that is judged. It may expire in slices between batches, as a worker makes it. */
export type Subject = PacketEngine & { sweepSlice?(nowMs: number): void };

const nameOf = (table: Readonly<Record<string, number>>, value: number): string =>
  Object.keys(table).find((key) => table[key] === value) ?? `number ${value}`;

const spellFrame = (frame: FrameOut): string =>
  `port ${frame.port} vnet ${JSON.stringify(frame.vnet)} ${toHex(frame.bytes)}`;

/** An outcome in words, for messages. */
export function spellOutcome(outcome: Outcome): string {
  const { verdict, reason, ruleId, serverId, direction, flow, out, passed } = outcome;
  const head = `${nameOf(Verdict, verdict)} ${nameOf(Reason, reason)} rule ${ruleId} server ${serverId} ${direction} flow ${flow}`;
  const frames = [...out.map(spellFrame), ...passed.map((frame) => `to the kernel: ${spellFrame(frame)}`)];
  return [head, ...frames.map((text) => `      ${text}`)].join("\n");
}

const sameBytes = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;

const sameVnet = (a: VnetHeader, b: VnetHeader): boolean =>
  a.flags === b.flags &&
  a.gsoType === b.gsoType &&
  a.hdrLen === b.hdrLen &&
  a.gsoSize === b.gsoSize &&
  a.csumStart === b.csumStart &&
  a.csumOffset === b.csumOffset;

/** Names the first field in which two outcomes differ. */
export function outcomeDifference(a: Outcome, b: Outcome): string | null {
  for (const field of ["verdict", "reason", "ruleId", "serverId", "direction", "flow"] as const) {
    if (a[field] !== b[field]) return field;
  }
  return framesDifference(a.out, b.out, "sent") ?? framesDifference(a.passed, b.passed, "given back");
}

function framesDifference(a: readonly FrameOut[], b: readonly FrameOut[], what: string): string | null {
  if (a.length !== b.length) return `number of frames ${what}`;
  for (const [i, frame] of a.entries()) {
    const other = b[i]!;
    if (frame.port !== other.port) return `port of frame ${i} ${what}`;
    if (!sameBytes(frame.bytes, other.bytes)) return `bytes of frame ${i} ${what}`;
    if (!sameVnet(frame.vnet, other.vnet)) return `virtio header of frame ${i} ${what}`;
  }
  return null;
}

/** With what goes back to the kernel sorted. */
function inOrder(outcome: Outcome): Outcome {
  if (outcome.passed.length < 2) return outcome;
  return { ...outcome, passed: outcome.passed.toSorted((a, b) => Buffer.compare(a.bytes, b.bytes) || a.port - b.port) };
}

export class Duel {
  readonly subject: Subject;
  readonly reference: ReferenceEngine;
  readonly #ports = new Map<number, Port>();
  #image: TableImage | null = null;
  /** `rule server` of every member in the image. */
  #named: ReadonlySet<string> = new Set();
  readonly #stage: Stage;
  packets = 0;
  /** What the subject said about the last batch. */
  lastOutcomes: readonly Outcome[] = [];

  constructor(subject: Subject, reference: ReferenceEngine, stage: Stage) {
    this.subject = subject;
    this.reference = reference;
    this.#stage = stage;
  }

  /** Gives an event to both; null when they agree. */
  apply(event: Event): Disagreement | null {
    if (event.kind === "batch") return this.#batch(event.frames, event.nowMs);
    for (const engine of [this.subject, this.reference]) {
      if (event.kind === "port") engine.setPort(event.index, event.port);
      else if (event.kind === "hop") engine.setNextHop(event.index, event.hop);
      else if (event.kind === "publish") engine.publish(event.image);
      else engine.sweep(event.nowMs);
    }
    if (event.kind === "port") this.#ports.set(event.index, event.port);
    if (event.kind === "publish") {
      this.#image = event.image;
      this.#named = namedBy(event.image);
    }
    return null;
  }

  #batch(frames: readonly FrameIn[], nowMs: number): Disagreement | null {
    this.packets += frames.length;
    // Engines may edit what they are given, so each gets a copy of its own.
    const copy = (): FrameIn[] => frames.map((frame) => ({ ...frame, bytes: frame.bytes.slice() }));
    if (this.#stage.slices) this.subject.sweepSlice?.(nowMs);
    const theirs = this.subject.process(copy(), nowMs);
    if (theirs.length !== frames.length) return { what: `${theirs.length} outcomes for ${frames.length} frames` };
    this.lastOutcomes = theirs;
    let badPort: Disagreement | null = null;
    this.reference.choosePort = (request) => {
      const { proxy, isFree } = request;
      const frame = frames[this.reference.frameIndex]!;
      const { out, reason } = theirs[this.reference.frameIndex]!;
      const packet = out[0] === undefined ? null : packetOf(out[0], this.#ports.get(out[0].port));
      const free = freePortOf(request, this.#stage.proxyPorts);
      if (packet === null || addressText(packet.source) !== addressText(proxy)) {
        // The subject found nothing here, or so it says; what else it may have done the comparison of outcomes tells.
        if (free !== null && (packet !== null || reason === Reason.NoPort))
          badPort ??= {
            what: `${Reason.NoPort === reason ? "no port" : `not the proxy address ${addressText(proxy)}`}, though its port ${free} is free`,
            frame,
          };
        return packet !== null || reason === Reason.NoPort ? null : free;
      }
      const port = packet.body[0]! * 256 + packet.body[1]!;
      const { first, last } = this.#stage.proxyPorts;
      if (isFree(port) && port >= first && port <= last) return port;
      badPort = { what: `proxy port ${port} is out of range or already in use`, frame };
      return null;
    };
    const ours = this.reference.process(copy(), nowMs);
    if (badPort !== null) return badPort;
    for (const [i, frame] of frames.entries()) {
      const difference = this.#stage.isSeveral
        ? outcomeDifference(inOrder(theirs[i]!), inOrder(ours[i]!))
        : outcomeDifference(theirs[i]!, ours[i]!);
      if (difference !== null) {
        const both = `  subject:   ${spellOutcome(theirs[i]!)}\n  reference: ${spellOutcome(ours[i]!)}`;
        return { what: `${difference} differs\n${both}`, frame };
      }
      const port = this.#ports.get(frame.port);
      const astray = port && this.#image ? ownershipFault(frame, theirs[i]!, port, this.#image.interest) : null;
      if (astray !== null) return { what: `${astray}\n  ${spellOutcome(theirs[i]!)}`, frame };
      const faults = outputFaults(frame, theirs[i]!, this.#ports);
      if (faults.length > 0)
        return { what: `both send a bad packet: ${faults.join("; ")}\n  ${spellOutcome(theirs[i]!)}`, frame };
    }
    return null;
  }

  /** In their order; each of several workers has its own list, so of those the last ones are not one engine's. */
  #refused(engine: PacketEngine): string[] {
    if (this.#stage.isSeveral) return [];
    return engine.policy().refused.map((tuple) => {
      // Whether an IPv4-mapped destination is told as one or the other is an engine's own affair.
      const spell = (address: Address): string =>
        addressText(isIPv4Mapped(address) ? { family: 4, value: address.value & 0xffff_ffffn } : address);
      const ends = `${spell(tuple.source)}.${tuple.sourcePort} > ${spell(tuple.destination)}.${tuple.destinationPort}`;
      return `${tuple.refusal} ${tuple.protocol} ${ends} packets ${tuple.packets} at ${tuple.lastMs}`;
    });
  }

  /** Compares counters, flows and sticky entries. Call it at a settled time, after a sweep. */
  compareState(): Disagreement | null {
    const pairs: [name: string, subject: string[], reference: string[]][] = [
      ["flows", spellFlows(this.subject), spellFlows(this.reference)],
      ["sticky entries", spellSticky(this.subject), spellSticky(this.reference)],
      [
        "counters",
        spellCounters(this.subject.counters(), this.#named, this.#stage),
        spellCounters(this.reference.counters(), this.#named, this.#stage),
      ],
      ["policy counters", spellPolicy(this.subject), spellPolicy(this.reference)],
      ["refused tuples", this.#refused(this.subject), this.#refused(this.reference)],
    ];
    for (const [name, subject, reference] of pairs) {
      if (subject.join("\n") === reference.join("\n")) continue;
      const onlySubject = subject.filter((line) => !reference.includes(line));
      const onlyReference = reference.filter((line) => !subject.includes(line));
      const show = (lines: string[]): string => lines.slice(0, 5).join("\n    ") || "nothing";
      return {
        what: `${name} differ\n  only subject:   ${show(onlySubject)}\n  only reference: ${show(onlyReference)}`,
      };
    }
    const { reasons, packetsIn } = this.subject.counters();
    const sum = reasons.reduce((total, count) => total + count, 0n);
    return sum === packetsIn ? null : { what: `reasons add up to ${sum}, packets in are ${packetsIn}` };
  }
}

function spellPolicy(engine: PacketEngine): string[] {
  return engine
    .policy()
    .counters.map(({ packets, bytes }, number) => `counter ${number} packets ${packets} bytes ${bytes}`);
}

function namedBy({ rules, servers }: TableImage): Set<string> {
  return new Set(rules.flatMap(({ id, members }) => members.map((member) => `${id} ${servers[member.server]!.id}`)));
}

function spellFlows(engine: PacketEngine): string[] {
  return engine
    .flows()
    .map((flow) => {
      const end = (address: typeof flow.client, port: number): string => `${addressText(address)}.${port}`;
      const outer = `${end(flow.client, flow.clientPort)} > ${end(flow.vip, flow.vipPort)}`;
      const inner = `${end(flow.source, flow.sourcePort)} > ${end(flow.server, flow.serverPort)}`;
      return `${flow.protocol} ${outer} >>> ${inner} rule ${flow.ruleId} server ${flow.serverId}`;
    })
    .sort();
}

function spellSticky(engine: PacketEngine): string[] {
  return engine
    .sticky()
    .map((entry) => `rule ${entry.ruleId} ${addressText(entry.client)} server ${entry.serverId}`)
    .sort();
}

/**
 * Counters as lines. Those that are 0 and pairs without traffic are left out, since an engine need not list them, and so
 * are pairs that neither the image nor a flow names: when these are forgotten is an engine's own affair.
 */
function spellCounters(counters: EngineCounters, named: ReadonlySet<string>, { isSeveral }: Stage): string[] {
  const lines = [
    `packets in ${counters.packetsIn}`,
    `fragments ${counters.fragmentsIn} dropped ${counters.fragmentsDropped}`,
    ...counters.reasons.map((count, reason) => `reason ${nameOf(Reason, reason)} ${count}`),
  ];
  for (const rule of counters.rules) {
    for (const [name, value] of Object.entries(rule)) {
      if (name !== "ruleId" && value !== 0n) lines.push(`rule ${rule.ruleId} ${name} ${value}`);
    }
  }
  for (const pair of counters.pairs) {
    if (pair.packets === 0n && pair.flows === 0) continue;
    if ((pair.flows === 0 || isSeveral) && !named.has(`${pair.ruleId} ${pair.serverId}`)) continue;
    lines.push(
      `rule ${pair.ruleId} server ${pair.serverId} packets ${pair.packets} bytes ${pair.bytes} flows ${pair.flows} refused ${pair.refused} unanswered ${pair.unanswered}`,
    );
  }
  return lines.sort();
}
