/**
 * What the reference engine decides about fragments (docs/packet-path.md, "Fragments"): in mode `ilb` nobody translates
 * them; in mode `modern` the first of a packet is decided like a whole packet and the others go its way. What is remembered
 * in between is fragments.ts.
 */
import { Reason, Verdict } from "../../gen/layout.ts";
import type { FrameOut } from "../engine.ts";
import { mendHeader, setAddresses } from "./checksum.ts";
import type { Counting } from "./counting.ts";
import { type Belongs, type Decision, drop, ignore, pass } from "./decision.ts";
import { type Arrival, hasOffloadWish, leaveWhole, PLAIN, passage, seal, steppedCopy, wayBack } from "./egress.ts";
import { type Answered, FragmentMemory, type Held, type Trail } from "./fragments.ts";
import { isGuarded, isGuardedByAddress } from "./guarding.ts";
import { KINDS, messageAsTransport, turnedRound } from "./icmp.ts";
import { EXTENSIONS, type Ip, TCP, UDP } from "./packet.ts";
import { countOnPair } from "./pairs.ts";
import type { Sending } from "./sending.ts";
import type { Tables } from "./tables.ts";

/** What the engine lends. */
export interface FragmentSurroundings {
  readonly tables: () => Tables;
  readonly counting: Counting;
  readonly sending: Sending;
  /** Decides about the first fragment of a packet as about a whole one. */
  readonly decideFirst: (arrival: Arrival) => Decision;
}

export class FragmentPath {
  readonly #world: FragmentSurroundings;
  readonly #memory: FragmentMemory;

  constructor(world: FragmentSurroundings) {
    this.#world = world;
    this.#memory = new FragmentMemory((isToVip) => {
      if (isToVip) world.counting.fragmentsDropped++;
    });
  }

  get #tables(): Tables {
    return this.#world.tables();
  }

  get #sending(): Sending {
    return this.#world.sending;
  }

  /** Gives up and forgets what is too old. */
  expire(nowMs: number): void {
    this.#memory.expire(nowMs);
  }

  /** What has waited too long for its first fragment and is the kernel's. */
  unclaimed(nowMs: number): readonly FrameOut[] {
    return this.#givenBack(this.#memory.takeKernels(nowMs));
  }

  /** Mode `ilb`: nobody translates them. */
  decideIlb(ip: Ip): Decision {
    if (!isGuarded(ip, this.#tables)) return ignore(Reason.Unguarded);
    if (!this.#tables.isGuardedVip(ip.destination)) return this.#toKernel(ip);
    this.#world.counting.fragmentsIn++;
    this.#world.counting.fragmentsDropped++;
    return drop(Reason.FragmentToVip);
  }

  /** Fragments that belong to the kernel, the guarded ones through the way back. */
  #toKernel(ip: Ip): Decision {
    if (this.#tables.isGuardedVip(ip.destination)) return pass(Reason.VipFragment);
    if (this.#tables.isProxy(ip.destination)) return pass(Reason.ProxyFragment);
    return this.#tables.isGuardedServer(ip.source) || ip.fragmentOffset === 0
      ? pass(Reason.ServerFragment)
      : ignore(Reason.Unguarded);
  }

  /** Mode `modern`. */
  decide(arrival: Arrival): Decision {
    const decision = this.#decide(arrival);
    if (this.#tables.isGuardedVip(arrival.ip.destination)) {
      this.#world.counting.fragmentsIn++;
      const isOver = decision.verdict === Verdict.Drop && decision.reason !== Reason.FragmentHeld;
      if (isOver) this.#world.counting.fragmentsDropped++;
    }
    return decision;
  }

  #decide(arrival: Arrival): Decision {
    const { ip, nowMs } = arrival;
    if (ip.fragmentOffset === 0) return this.#first(arrival);
    const fate = this.#memory.fateOf(ip, nowMs);
    if (fate === "dropped") return drop(Reason.FragmentToVip);
    if (fate === "kernel") return this.#toKernel(ip);
    if (fate !== undefined) return "way" in fate ? this.#later(arrival, fate) : this.#answer(arrival, fate);
    if (!isGuardedByAddress(ip, this.#tables)) return ignore(Reason.Unguarded);
    if (!this.#mayConcern(ip)) return this.#toKernel(ip);
    const isToVip = this.#tables.isGuardedVip(ip.destination);
    const isOthers = isToVip || this.#tables.isProxy(ip.destination);
    const isKernels = !isOthers || this.#tables.isLocalVip(ip.destination);
    if (this.#memory.hold(arrival, { isToVip, isKernels })) return drop(Reason.FragmentHeld);
    return isKernels ? this.#toKernel(ip) : drop(Reason.FragmentHoldFull);
  }

  /** Whether a first fragment that is yet to come may be one that is translated or answered. */
  #mayConcern({ family, protocol, destination }: Ip): boolean {
    if (protocol === TCP || protocol === UDP || (family === 6 && EXTENSIONS.includes(protocol))) return true;
    const isAnswered = this.#tables.newestRule(destination) !== undefined && !this.#tables.isLocalVip(destination);
    return protocol === KINDS[family].protocol && isAnswered;
  }

  /** Decided like a whole packet; what belongs to it goes the same way. */
  #first(arrival: Arrival): Decision {
    const { ip, nowMs } = arrival;
    const decision = this.#world.decideFirst(arrival);
    const { trail, verdict, reason } = decision;
    if (verdict === Verdict.Pass || verdict === Verdict.Ignore) {
      return { ...decision, passed: this.leftToKernel(ip, nowMs) };
    }
    const answered = reason === Reason.EchoAnswered ? { rule: decision.rule! } : undefined;
    const fate = trail ?? answered;
    if (fate !== undefined) this.#memory.remember(ip, fate, nowMs);
    else if (isGuardedByAddress(ip, this.#tables)) this.#memory.remember(ip, "dropped", nowMs);
    const waiting = this.#memory.take(ip);
    const own = decision.out ?? [];
    const released = fate === undefined ? [] : this.#released(waiting, fate, arrival, own.length);
    for (const held of waiting) if (!released.some((one) => one.held === held)) this.#memory.giveUp(held);
    return { ...decision, out: [...own, ...released.map((one) => one.frame)] };
  }

  /** The first fragment is the kernel's: so are the others, those that wait too. */
  leftToKernel(ip: Ip, nowMs: number): readonly FrameOut[] {
    if (!isGuardedByAddress(ip, this.#tables)) return [];
    this.#memory.remember(ip, "kernel", nowMs);
    return this.#givenBack(this.#memory.take(ip));
  }

  /** Held fragments as the kernel gets them back, as far as there is room. */
  #givenBack(waiting: readonly Held[]): readonly FrameOut[] {
    return waiting.flatMap((held) => {
      const { frame, link, ip } = held.arrival;
      if (hasOffloadWish(held.arrival) || this.#sending.room < 1) {
        this.#memory.giveUp(held);
        return [];
      }
      this.#sending.take(1);
      return [{ bytes: frame.bytes.slice(0, link.linkBytes + ip.totalLength), port: frame.port, vnet: PLAIN }];
    });
  }

  /**
   * What may leave behind a first fragment that leaves as `ownFrames` frames. When anything does, a first one in one piece
   * has to be a frame of the engine's making too, for there is no other way to keep the order.
   */
  #released(
    waiting: readonly Held[],
    fate: Trail | Answered,
    first: Arrival,
    ownFrames: number,
  ): { held: Held; frame: FrameOut }[] {
    const way = "way" in fate ? fate.way : wayBack(first);
    const fitting = waiting.filter(({ arrival }) => {
      // An answer has a TTL of its own and goes where the question has come through.
      const fits = !("way" in fate) || passage(arrival, messageAsTransport(arrival.ip), way) === "whole";
      return fits && !hasOffloadWish(arrival);
    });
    const forFirst = ownFrames === 1 ? 1 : 0;
    const room = this.#sending.room - forFirst;
    const leaving = fitting.slice(0, Math.max(0, room));
    if (leaving.length > 0) this.#sending.take(forFirst + leaving.length);
    return leaving.map((held) => {
      if ("way" in fate) countOnPair(fate.pair, held.arrival.ip);
      const packet = "way" in fate ? this.#readdressed(held.arrival, fate) : turnedRound(held.arrival.ip);
      return { held, frame: { bytes: seal(packet, way), port: way.portIndex, vnet: PLAIN } };
    });
  }

  /** A later fragment of an echo request that is answered. */
  #answer(arrival: Arrival, { rule }: Answered): Decision {
    const belongs: Belongs = { rule, server: 0, direction: "client-to-server", flow: "none" };
    if (hasOffloadWish(arrival)) return { ...belongs, ...drop(Reason.MalformedOffload) };
    const out = leaveWhole(arrival, turnedRound(arrival.ip), wayBack(arrival));
    return { ...belongs, verdict: Verdict.Reply, reason: Reason.EchoAnswered, out };
  }

  #later(arrival: Arrival, trail: Trail): Decision {
    const { belongs, way, pair } = trail;
    const part = messageAsTransport(arrival.ip);
    if (hasOffloadWish(arrival)) return { ...belongs, ...drop(Reason.MalformedOffload) };
    const obstacle = this.#sending.obstacle(arrival, part, way, belongs);
    if (obstacle !== null) return obstacle;
    countOnPair(pair, arrival.ip);
    return this.#sending.dispatch(
      arrival,
      part,
      way,
      this.#readdressed(arrival, trail),
      belongs,
      Reason.FragmentTranslated,
    );
  }

  /** A fragment without transport header on the way that its first one went. */
  #readdressed(arrival: Arrival, { way, ends }: Trail): Uint8Array {
    const packet = steppedCopy(arrival, way);
    if (ends !== null) setAddresses(packet, ends.source, ends.destination);
    mendHeader(arrival.ip.bytes, packet);
    return packet;
  }
}
