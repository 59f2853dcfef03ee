/**
 * Engines that are wrong on purpose, to show that the differential test sees it: the reference with one fault that
 * strikes now and then.
 */
import type {
  EngineCounters,
  EngineLimits,
  FlowSnapshot,
  FrameIn,
  FrameOut,
  Outcome,
} from "../../src/engine/engine.ts";
import { ReferenceEngine } from "../../src/engine/reference.ts";
import { Reason, Verdict } from "../../src/gen/layout.ts";

export interface Fault {
  readonly name: string;
  /** Changes an outcome; the n-th that leaves. */
  readonly outcome?: (outcome: Outcome, n: number) => Outcome;
  readonly counters?: (counters: EngineCounters) => EngineCounters;
  readonly flows?: (flows: FlowSnapshot[]) => FlowSnapshot[];
  /** Changes what goes in. */
  readonly frames?: (frames: readonly FrameIn[]) => readonly FrameIn[];
}

const onFirstFrame = (outcome: Outcome, edit: (frame: FrameOut) => FrameOut): Outcome => ({
  ...outcome,
  out: outcome.out.map((frame, i) => (i === 0 ? edit(frame) : frame)),
});

/** Changes byte `at` of every `every`-th frame that leaves. */
const spoil =
  (every: number, at: number) =>
  (outcome: Outcome, n: number): Outcome =>
    n % every !== 0
      ? outcome
      : onFirstFrame(outcome, (frame) => {
          const bytes = frame.bytes.slice();
          if (at < bytes.length) bytes[at] = bytes[at]! ^ 1;
          return { ...frame, bytes };
        });

export const FAULTS: readonly Fault[] = [
  { name: "a wrong IPv4 header checksum", outcome: spoil(50, 14 + 11) },
  { name: "a wrong TCP checksum", outcome: spoil(50, 14 + 20 + 17) },
  { name: "a wrong destination MAC address", outcome: spoil(50, 5) },
  {
    name: "a wrong reason",
    outcome: (outcome) =>
      outcome.reason === Reason.ServerTraffic ? { ...outcome, reason: Reason.ProxyTraffic } : outcome,
  },
  {
    name: "a wrong verdict",
    outcome: (outcome) => (outcome.reason === Reason.RuleDisabled ? { ...outcome, verdict: Verdict.Ignore } : outcome),
  },
  {
    name: "a new flow called an old one",
    outcome: (outcome, n) => (n % 20 === 0 && outcome.flow === "new" ? { ...outcome, flow: "found" } : outcome),
  },
  {
    name: "an egress port that is not the right one",
    outcome: (outcome, n) => (n % 50 === 0 ? onFirstFrame(outcome, (frame) => ({ ...frame, port: 7 })) : outcome),
  },
  {
    name: "a virtio header that is not put right",
    outcome: (outcome, n) =>
      n % 50 === 0 ? onFirstFrame(outcome, (frame) => ({ ...frame, vnet: { ...frame.vnet, flags: 2 } })) : outcome,
  },
  {
    name: "a lost packet of a server's counter",
    counters: (counters) => ({
      ...counters,
      pairs: counters.pairs.map((pair, i) =>
        i === 0 && pair.packets > 3n ? { ...pair, packets: pair.packets - 1n } : pair,
      ),
    }),
  },
  {
    name: "a refusal that is not counted",
    counters: (counters) => ({ ...counters, pairs: counters.pairs.map((pair) => ({ ...pair, refused: 0n })) }),
  },
  {
    name: "a repeated SYN that is not counted",
    counters: (counters) => ({ ...counters, pairs: counters.pairs.map((pair) => ({ ...pair, unanswered: 0n })) }),
  },
  {
    name: "a lost reason",
    counters: (counters) => ({
      ...counters,
      reasons: counters.reasons.map((count, i) => (i === Reason.FlowFound && count > 0n ? count - 1n : count)),
    }),
  },
  { name: "a forgotten flow", flows: (flows) => flows.slice(1) },
  {
    name: "a wrong checksum of ICMPv6",
    outcome: (outcome) =>
      onFirstFrame(outcome, (frame) => {
        const isIcmp6 = frame.bytes[12] === 0x86 && frame.bytes[20] === 58;
        return isIcmp6 ? { ...frame, bytes: frame.bytes.with(57, frame.bytes[57]! ^ 1) } : frame;
      }),
  },
  {
    name: "a waiting fragment that never leaves",
    outcome: (outcome) => ({
      ...outcome,
      out: outcome.reason === Reason.FragmentsMade ? outcome.out : outcome.out.slice(0, 1),
    }),
  },
  {
    name: "an error about a flow that goes nowhere",
    outcome: (outcome) =>
      outcome.reason === Reason.IcmpErrorTranslated ? { ...outcome, verdict: Verdict.Drop, out: [] } : outcome,
  },
  {
    name: "a fragment that is not recognised",
    frames: (frames) =>
      frames.map((frame) => {
        const bytes = frame.bytes.slice();
        if (bytes.length > 34 && bytes[12] === 8 && bytes[20] === 0x20) bytes[20] = 0;
        return { ...frame, bytes };
      }),
  },
];

export class BrokenEngine extends ReferenceEngine {
  readonly #fault: Fault;
  #sent = 0;

  constructor(limits: EngineLimits, fault: Fault) {
    super(limits);
    this.#fault = fault;
  }

  override process(frames: readonly FrameIn[], nowMs: number): Outcome[] {
    const outcomes = super.process(this.#fault.frames?.(frames) ?? frames, nowMs);
    return outcomes.map((outcome) => {
      if (outcome.out.length > 0) this.#sent++;
      return this.#fault.outcome?.(outcome, this.#sent) ?? outcome;
    });
  }

  override counters(): EngineCounters {
    const counters = super.counters();
    return this.#fault.counters?.(counters) ?? counters;
  }

  override flows(): FlowSnapshot[] {
    const flows = super.flows();
    return this.#fault.flows?.(flows) ?? flows;
  }
}
