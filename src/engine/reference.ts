/**
 * The packet engine once more, in plain, slow, obvious TypeScript, written from the specification (D.2, E.1 to E.9) and
 * not from the WebAssembly engine: the oracle of the differential tests. Maps and objects, one packet at a time, every
 * packet copied before it is changed. Not meant to carry traffic. The order of decisions is in docs/packet-path.md.
 */
import { Reason, Verdict } from "../gen/layout.ts";
import type { Protocol } from "../model/config.ts";
import {
  type Compat,
  type Direction,
  type EngineCounters,
  type EngineLimits,
  type FlowSnapshot,
  type FrameIn,
  type FrameOut,
  type ImageRule,
  ImageTooLarge,
  type NextHop,
  type Outcome,
  type PacketEngine,
  type Port,
  type RuleCounterName,
  type StickySnapshot,
  type TableImage,
} from "./engine.ts";
import type { PolicyFigures } from "./policy.ts";
import { mendHeader, mendPartial, mendTransport, setAddresses } from "./reference/checksum.ts";
import { type Choice, ServerChoice } from "./reference/choice.ts";
import { Counting } from "./reference/counting.ts";
import { type Belongs, type Decision, drop, ignore, pass } from "./reference/decision.ts";
import {
  type Arrival,
  boxError,
  type Complaint,
  ErrorBudget,
  fragmentCount,
  isPartial,
  leaveInFragments,
  leaveWhole,
  mayComplainAbout,
  offloadFault,
  PLAIN,
  passage,
  seal,
  steppedCopy,
  type Way,
  wayBack,
  wayToClient,
  wayToServer,
} from "./reference/egress.ts";
import {
  type Flow,
  FlowTable,
  heedSilence,
  opensAnew,
  type Pair,
  reversed,
  SWEEP_LAG_MS,
  type Tuple,
  trackOpening,
  trackTcp,
} from "./reference/flows.ts";
import { type Answered, FragmentMemory, type Held, type Trail } from "./reference/fragments.ts";
import { isGuarded, isGuardedByAddress } from "./reference/guarding.ts";
import { KINDS, messageAsTransport, turnedRound } from "./reference/icmp.ts";
import { Messages } from "./reference/messages.ts";
import {
  ACK,
  EXTENSIONS,
  type Ip,
  isFragment,
  isMapped,
  isMartian,
  openLink,
  parseIp,
  parseTransport,
  put16,
  SYN,
  TCP,
  type Transport,
  UDP,
} from "./reference/packet.ts";
import { PairTable } from "./reference/pairs.ts";
import { PolicyJudge } from "./reference/policy.ts";
import { chooseLowest, type PortChooser } from "./reference/ports.ts";
import { mapPort } from "./reference/select.ts";
import { StickyTable } from "./reference/sticky.ts";
import { Tables } from "./reference/tables.ts";

/** Frames that the engine may make in one batch. */
const MADE_FRAMES_PER_BATCH = 64;

/** Pools of proxy ports that may have users, however many pairs there may be. */
const MOST_POOLS = 262_144;

export class ReferenceEngine implements PacketEngine {
  readonly name = "reference";
  readonly #limits: EngineLimits;
  readonly #compat: Compat;
  #tables = new Tables();
  readonly #ports = new Map<number, Port>();
  readonly #hops = new Map<number, NextHop>();
  readonly #pairs: PairTable;
  readonly #flows: FlowTable;
  readonly #sticky: StickyTable;
  readonly #choice: ServerChoice;
  readonly #counting = new Counting();
  readonly #errors = new ErrorBudget();
  readonly #fragments = new FragmentMemory((isToVip) => {
    if (isToVip) this.#counting.fragmentsDropped++;
  });
  readonly #messages: Messages;
  readonly #policy = new PolicyJudge();
  #madeInBatch = 0;
  #frameIndex = 0;

  constructor(limits: EngineLimits, choosePort: PortChooser = chooseLowest, compat: Compat = "modern") {
    this.#limits = limits;
    this.#compat = compat;
    // Those of the image before may still have flows.
    this.#pairs = new PairTable(2 * limits.maxPairs, ({ ruleId, serverId }) => this.#sticky.names(ruleId, serverId));
    this.#sticky = new StickyTable(limits.maxSticky);
    this.#choice = new ServerChoice(this.#sticky, choosePort, Math.min(4 * limits.maxPairs, MOST_POOLS));
    this.#flows = new FlowTable(limits.maxFlows, (flow, nowMs) => this.#flowGone(flow, nowMs));
    this.#messages = new Messages({
      compat,
      tables: () => this.#tables,
      flows: this.#flows,
      choice: this.#choice,
      counting: this.#counting,
      hops: this.#hops,
      ports: this.#ports,
      obstacle: (...packet) => this.#obstacle(...packet),
      dispatch: (...packet) => this.#dispatch(...packet),
    });
  }

  publish(image: TableImage): void {
    if (image.rules.some((rule) => rule.slot >= this.#limits.maxRules)) {
      throw new ImageTooLarge(`a rule has a place beyond ${this.#limits.maxRules}`);
    }
    const mostDrains = 2 * this.#limits.maxPairs;
    if (image.drains.length > mostDrains) throw new ImageTooLarge(`more than ${mostDrains} servers drain`);
    this.#tables = new Tables(image);
    this.#counting.keepRules(image.rules.map((rule) => rule.id));
    this.#choice.adopt(this.#tables);
    this.#pairs.adopt(this.#tables);
  }

  setPort(index: number, port: Port): void {
    this.#ports.set(index, port);
  }

  setNextHop(index: number, hop: NextHop): void {
    this.#hops.set(index, hop);
  }

  process(frames: readonly FrameIn[], nowMs: number): Outcome[] {
    this.#madeInBatch = 0;
    this.#fragments.expire(nowMs);
    const unclaimed = this.#givenBack(this.#fragments.takeKernels(nowMs));
    return frames.map((frame, index) => {
      this.#frameIndex = index;
      const decision = this.#decide(frame, nowMs);
      this.#counting.packetsIn++;
      this.#counting.reasons[decision.reason]!++;
      return {
        verdict: decision.verdict,
        reason: decision.reason,
        ruleId: decision.rule ?? 0,
        serverId: decision.server ?? 0,
        direction: decision.direction ?? "none",
        flow: decision.flow ?? "none",
        out: decision.out ?? [],
        passed: [...(index === 0 ? unclaimed : []), ...(decision.passed ?? [])],
      };
    });
  }

  sweep(nowMs: number): void {
    this.#fragments.expire(nowMs);
    this.#pairs.sweep(this.#tables);
    this.#flows.sweep(nowMs);
    this.#sticky.sweep(nowMs);
  }

  counters(): EngineCounters {
    const { packetsIn, reasons, fragmentsIn, fragmentsDropped } = this.#counting;
    const pairs = this.#pairs.all().map((pair) => {
      const { ruleId, serverId, packets, bytes, flows, refused, unanswered } = pair;
      return { ruleId, serverId, packets, bytes, flows, refused, unanswered };
    });
    return { packetsIn, reasons: [...reasons], rules: this.#counting.rules(), pairs, fragmentsIn, fragmentsDropped };
  }

  flows(): FlowSnapshot[] {
    return this.#flows.all().map(({ protocol, pair, outer, inner }) => ({
      protocol,
      ruleId: pair.ruleId,
      serverId: pair.serverId,
      client: outer.source,
      clientPort: outer.sourcePort,
      vip: outer.destination,
      vipPort: outer.destinationPort,
      source: inner.source,
      sourcePort: inner.sourcePort,
      server: inner.destination,
      serverPort: inner.destinationPort,
    }));
  }

  policy(): PolicyFigures {
    return this.#policy.figures();
  }

  sticky(): StickySnapshot[] {
    return this.#sticky.all().map(({ ruleId, serverId, client }) => ({ ruleId, serverId, client }));
  }

  close(): void {}

  /** Replaces the chooser of proxy ports, so that a test can make this engine use the ports that another one used. */
  set choosePort(choosePort: PortChooser) {
    this.#choice.choosePort = choosePort;
  }

  /** Which frame of the batch is being decided; for a port chooser that looks at what another engine did with it. */
  get frameIndex(): number {
    return this.#frameIndex;
  }

  /**
   * For tests that compare engines: the first time from `nowMs` on at which every entry either must still be there or
   * must be gone after a sweep (specification E.4 leaves 15 s in between to the implementation).
   */
  settledMs(nowMs: number): number {
    const windows = this.#flows.all().map((flow) => FlowTable.dueMs(flow));
    for (const entry of this.#sticky.all()) {
      const from = entry.idleSinceMs + entry.timeoutMs;
      if (entry.references === 0) windows.push({ from, until: from + SWEEP_LAG_MS });
    }
    windows.sort((a, b) => a.from - b.from);
    let settled = nowMs;
    for (const { from, until } of windows) if (from <= settled && settled <= until) settled = until + 1;
    return settled;
  }

  /** The same for a moment of sweep(), which takes closed entries away although they would still take packets. */
  sweepableMs(nowMs: number): number {
    const closed = this.#flows.all().map((flow) => (flow.closedAtMs ?? Number.NEGATIVE_INFINITY) + SWEEP_LAG_MS + 1);
    const earliest = Math.max(nowMs, ...closed);
    const settled = this.settledMs(earliest);
    return settled === earliest ? earliest : this.sweepableMs(settled);
  }

  #decide(frame: FrameIn, nowMs: number): Decision {
    const port = this.#ports.get(frame.port);
    const link = openLink(frame, port);
    if (link === "vlan") return ignore(Reason.VlanTagged);
    if (link === "not ip" || port === undefined) return ignore(Reason.NotIp);
    if (link === "short") return drop(Reason.MalformedLink);
    const ip = parseIp(link.packet, link.family);
    if (ip === null) return drop(Reason.MalformedIp);
    if (isMapped(ip.source)) return drop(Reason.MartianSource);
    if (ip.chain === "malformed") return drop(Reason.MalformedIp);
    if (ip.chain === "too long") {
      return isGuardedByAddress(ip, this.#tables) ? drop(Reason.HeaderChain) : ignore(Reason.Unguarded);
    }
    const refusal = this.#refusedByPolicy(ip, nowMs);
    if (refusal !== null) return drop(refusal);
    if (ip.unbalancedIn.includes(this.#compat)) return this.#unbalanced(ip, nowMs);
    const arrival: Arrival = { frame, port, link, ip, vnet: frame.vnet ?? PLAIN, nowMs };
    if (isFragment(ip)) return this.#compat === "ilb" ? this.#fragment(ip) : this.#fragmentCounted(arrival);
    if (ip.protocol === TCP || ip.protocol === UDP) return this.#transport(arrival);
    return ip.protocol === KINDS[ip.family].protocol ? this.#messages.decide(arrival) : ignore(Reason.Unguarded);
  }

  /** Why the flow policy drops a packet of ours; null when it goes on. Counts it either way. */
  #refusedByPolicy(ip: Ip, nowMs: number): Reason | null {
    const isOurs = isGuarded(ip, this.#tables) || this.#isOfFlow(ip);
    return isOurs ? this.#policy.judge(this.#tables.image.policy, ip, nowMs) : null;
  }

  #isOfFlow(ip: Ip): boolean {
    const isWhole = !isFragment(ip) && !ip.unbalancedIn.includes(this.#compat);
    if (!isWhole || (ip.protocol !== TCP && ip.protocol !== UDP)) return false;
    const transport = parseTransport(ip);
    return transport !== null && this.#flows.find(protocolName(ip), { ...ip, ...transport }) !== null;
  }

  /** IPv6 packets that the guard keeps from the kernel and nobody balances. */
  #unbalanced(ip: Ip, nowMs: number): Decision {
    const isFirst = isFragment(ip) && ip.fragmentOffset === 0;
    const passed = isFirst ? this.#leftToKernel(ip, nowMs) : [];
    if (!isGuarded(ip, this.#tables)) return { ...ignore(Reason.Unguarded), passed };
    if (isFragment(ip) && this.#tables.isGuardedVip(ip.destination)) this.#counting.fragmentsIn++;
    return { ...pass(Reason.ExtensionHeader), passed };
  }

  // ---- fragments ----

  /** Mode `ilb`: nobody translates them. */
  #fragment(ip: Ip): Decision {
    if (!isGuarded(ip, this.#tables)) return ignore(Reason.Unguarded);
    if (!this.#tables.isGuardedVip(ip.destination)) return this.#fragmentToKernel(ip);
    this.#counting.fragmentsIn++;
    this.#counting.fragmentsDropped++;
    return drop(Reason.FragmentToVip);
  }

  /** Fragments that belong to the kernel, the guarded ones through the way back. */
  #fragmentToKernel(ip: Ip): Decision {
    if (this.#tables.isGuardedVip(ip.destination)) return pass(Reason.VipFragment);
    if (this.#tables.isProxy(ip.destination)) return pass(Reason.ProxyFragment);
    return this.#tables.isGuardedServer(ip.source) || ip.fragmentOffset === 0
      ? pass(Reason.ServerFragment)
      : ignore(Reason.Unguarded);
  }

  /** Mode `modern`. */
  #fragmentCounted(arrival: Arrival): Decision {
    const decision = this.#fragmentOfFlow(arrival);
    if (this.#tables.isGuardedVip(arrival.ip.destination)) {
      this.#counting.fragmentsIn++;
      const isOver = decision.verdict === Verdict.Drop && decision.reason !== Reason.FragmentHeld;
      if (isOver) this.#counting.fragmentsDropped++;
    }
    return decision;
  }

  #fragmentOfFlow(arrival: Arrival): Decision {
    const { ip, nowMs } = arrival;
    if (ip.fragmentOffset === 0) return this.#firstFragment(arrival);
    const fate = this.#fragments.fateOf(ip, nowMs);
    if (fate === "dropped") return drop(Reason.FragmentToVip);
    if (fate === "kernel") return this.#fragmentToKernel(ip);
    if (fate !== undefined) return "way" in fate ? this.#laterFragment(arrival, fate) : this.#answer(arrival, fate);
    if (!isGuardedByAddress(ip, this.#tables)) return ignore(Reason.Unguarded);
    if (!this.#mayConcern(ip)) return this.#fragmentToKernel(ip);
    const isToVip = this.#tables.isGuardedVip(ip.destination);
    const isOthers = isToVip || this.#tables.isProxy(ip.destination);
    const isKernels = !isOthers || this.#tables.isLocalVip(ip.destination);
    if (this.#fragments.hold(arrival, { isToVip, isKernels })) return drop(Reason.FragmentHeld);
    return isKernels ? this.#fragmentToKernel(ip) : drop(Reason.FragmentHoldFull);
  }

  /** Whether a first fragment that is yet to come may be one that is translated or answered. */
  #mayConcern({ family, protocol, destination }: Ip): boolean {
    if (protocol === TCP || protocol === UDP || (family === 6 && EXTENSIONS.includes(protocol))) return true;
    const isAnswered = this.#tables.newestRule(destination) !== undefined && !this.#tables.isLocalVip(destination);
    return protocol === KINDS[family].protocol && isAnswered;
  }

  /** Decided like a whole packet; what belongs to it goes the same way. */
  #firstFragment(arrival: Arrival): Decision {
    const { ip, nowMs } = arrival;
    const decision = this.#decideFirst(arrival);
    const { trail, verdict, reason } = decision;
    if (verdict === Verdict.Pass || verdict === Verdict.Ignore) {
      return { ...decision, passed: this.#leftToKernel(ip, nowMs) };
    }
    const answered = reason === Reason.EchoAnswered ? { rule: decision.rule! } : undefined;
    const fate = trail ?? answered;
    if (fate !== undefined) this.#fragments.remember(ip, fate, nowMs);
    else if (isGuardedByAddress(ip, this.#tables)) this.#fragments.remember(ip, "dropped", nowMs);
    const waiting = this.#fragments.take(ip);
    const own = decision.out ?? [];
    const released = fate === undefined ? [] : this.#released(waiting, fate, arrival, own.length);
    for (const held of waiting) if (!released.some((one) => one.held === held)) this.#fragments.giveUp(held);
    return { ...decision, out: [...own, ...released.map((one) => one.frame)] };
  }

  #decideFirst(arrival: Arrival): Decision {
    const { ip } = arrival;
    if (ip.protocol === TCP || ip.protocol === UDP) return this.#transport(arrival);
    return ip.protocol === KINDS[ip.family].protocol
      ? this.#messages.decideFirstFragment(arrival)
      : ignore(Reason.Unguarded);
  }

  /** The first fragment is the kernel's: so are the others, those that wait too. */
  #leftToKernel(ip: Ip, nowMs: number): readonly FrameOut[] {
    if (!isGuardedByAddress(ip, this.#tables)) return [];
    this.#fragments.remember(ip, "kernel", nowMs);
    return this.#givenBack(this.#fragments.take(ip));
  }

  /** Held fragments as the kernel gets them back, as far as there is room. */
  #givenBack(waiting: readonly Held[]): readonly FrameOut[] {
    return waiting.flatMap((held) => {
      const { frame, link, ip } = held.arrival;
      if (offloadWish(held.arrival) || this.#madeInBatch >= MADE_FRAMES_PER_BATCH) {
        this.#fragments.giveUp(held);
        return [];
      }
      this.#madeInBatch++;
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
      return fits && !offloadWish(arrival);
    });
    const forFirst = ownFrames === 1 ? 1 : 0;
    const room = MADE_FRAMES_PER_BATCH - this.#madeInBatch - forFirst;
    const leaving = fitting.slice(0, Math.max(0, room));
    if (leaving.length > 0) this.#madeInBatch += forFirst + leaving.length;
    return leaving.map((held) => {
      if ("way" in fate) countOnPair(fate.pair, held.arrival.ip);
      const packet = "way" in fate ? this.#readdressed(held.arrival, fate) : turnedRound(held.arrival.ip);
      return { held, frame: { bytes: seal(packet, way), port: way.portIndex, vnet: PLAIN } };
    });
  }

  /** A later fragment of an echo request that is answered. */
  #answer(arrival: Arrival, { rule }: Answered): Decision {
    const belongs: Belongs = { rule, server: 0, direction: "client-to-server", flow: "none" };
    if (offloadWish(arrival)) return { ...belongs, ...drop(Reason.MalformedOffload) };
    const out = leaveWhole(arrival, turnedRound(arrival.ip), wayBack(arrival));
    return { ...belongs, verdict: Verdict.Reply, reason: Reason.EchoAnswered, out };
  }

  #laterFragment(arrival: Arrival, trail: Trail): Decision {
    const { belongs, way, pair } = trail;
    const part = messageAsTransport(arrival.ip);
    if (offloadWish(arrival)) return { ...belongs, ...drop(Reason.MalformedOffload) };
    const obstacle = this.#obstacle(arrival, part, way, belongs);
    if (obstacle !== null) return obstacle;
    countOnPair(pair, arrival.ip);
    return this.#dispatch(arrival, part, way, this.#readdressed(arrival, trail), belongs, Reason.FragmentTranslated);
  }

  /** A fragment without transport header on the way that its first one went. */
  #readdressed(arrival: Arrival, { way, ends }: Trail): Uint8Array {
    const packet = steppedCopy(arrival, way);
    if (ends !== null) setAddresses(packet, ends.source, ends.destination);
    mendHeader(arrival.ip.bytes, packet);
    return packet;
  }

  // ---- TCP and UDP ----

  #transport(arrival: Arrival): Decision {
    const { ip } = arrival;
    const transport = parseTransport(ip);
    if (transport === null) return drop(Reason.MalformedTransport);
    const { sourcePort, destinationPort } = transport;
    const tuple: Tuple = { source: ip.source, sourcePort, destination: ip.destination, destinationPort };
    const found = this.#flows.find(protocolName(ip), tuple);
    if (found !== null && !opensAnew(found, transport)) return this.#knownFlow(arrival, transport, found);
    const rule = this.#tables.rule(ip.destination, protocolName(ip), destinationPort);
    if (rule === undefined) return this.#withoutRule(tuple, protocolName(ip));
    return this.#newTraffic(arrival, transport, tuple, rule, found?.flow ?? null);
  }

  /** Guarded traffic that no rule matches belongs to the kernel, through the way back. */
  #withoutRule(tuple: Tuple, protocol: Protocol): Decision {
    const tables = this.#tables;
    if (tables.guardsDestination(tuple.destination, protocol, tuple.destinationPort)) {
      return pass(tables.isProxy(tuple.destination) ? Reason.ProxyTraffic : Reason.RuleGone);
    }
    const fromServer = tables.guardsSource(tuple, protocol);
    return fromServer ? pass(Reason.ServerTraffic) : ignore(Reason.Unguarded);
  }

  #knownFlow(
    arrival: Arrival,
    transport: Transport,
    { flow, fromClient }: { flow: Flow; fromClient: boolean },
  ): Decision {
    const direction: Direction = fromClient ? "client-to-server" : "server-to-client";
    const { ruleId: rule, serverId: server } = flow.pair;
    const belongs: Belongs = { rule, server, direction, flow: "found" };
    const way = fromClient
      ? wayToServer(arrival, false, this.#hops.get(flow.nextHop), this.#ports)
      : wayToClient(flow.clientHop, this.#ports);
    const obstacle = this.#obstacle(arrival, transport, way, belongs);
    if (obstacle !== null) return obstacle;
    heedSilence(flow, fromClient, transport);
    this.#touch(flow, fromClient, arrival, transport);
    const edit = fromClient ? flow.inner : reversed(flow.outer);
    return this.#leave(
      arrival,
      transport,
      { way: way as Way, ends: edit, pair: flow.pair, belongs },
      edit,
      Reason.FlowFound,
    );
  }

  #newTraffic(arrival: Arrival, transport: Transport, tuple: Tuple, rule: ImageRule, closed: Flow | null): Decision {
    const isSynAck = (transport.tcpFlags & (SYN | ACK)) === (SYN | ACK);
    if (rule.vipIsLocal && isSynAck) return pass(Reason.LocalSynAck);
    const matched: Belongs = { rule: rule.id, server: 0, direction: "client-to-server", flow: "none" };
    if (!rule.enabled) {
      this.#countOnRule(rule, arrival.ip, "packetsNotProcessed", "bytesNotProcessed");
      return { ...matched, ...pass(Reason.RuleDisabled) };
    }
    if (isMartian(tuple.source)) return { ...matched, ...drop(Reason.MartianSource) };
    const choice = this.#choice.choose(rule, tuple, this.#tables);
    if (choice === null) {
      this.#countOnRule(rule, arrival.ip, "packetsDropped", "bytesDropped");
      return { ...matched, ...drop(Reason.NoServer) };
    }
    const belongs: Belongs = { ...matched, server: choice.server.id };
    const way = wayToServer(arrival, rule.type === "DSR", this.#hops.get(choice.server.nextHop), this.#ports);
    const obstacle = this.#obstacle(arrival, transport, way, belongs);
    if (obstacle !== null) return obstacle;
    return rule.type === "DSR"
      ? this.#sendDirect(arrival, transport, way as Way, choice, belongs)
      : this.#openFlow(arrival, transport, way as Way, choice, tuple, closed, belongs);
  }

  /** Why a packet that has somewhere to go does not leave as itself; null when it may. */
  #obstacle(arrival: Arrival, transport: Transport, way: Way | Reason, belongs: Belongs): Decision | null {
    const fault = offloadFault(arrival);
    if (fault !== null) return { ...belongs, ...drop(fault) };
    if (typeof way === "number") return { ...belongs, ...drop(way) };
    const how = passage(arrival, transport, way);
    if (how === "whole") return null;
    if (how === "ttl over") {
      return this.#complain(arrival, belongs, "time exceeded", 0, Reason.TimeExceededSent, Reason.TimeExceededUnsent);
    }
    if (how === "uncuttable") return { ...belongs, ...drop(Reason.TooBigUnsent) };
    if (how === "too big") {
      return this.#complain(arrival, belongs, "too big", way.mtu, Reason.TooBigSent, Reason.TooBigUnsent);
    }
    const needed = fragmentCount(arrival.ip, way.mtu);
    return this.#madeInBatch + needed > MADE_FRAMES_PER_BATCH ? { ...belongs, ...drop(Reason.MadePoolFull) } : null;
  }

  /** Tells the sender, if that is allowed, and drops the packet. */
  #complain(
    arrival: Arrival,
    belongs: Belongs,
    complaint: Complaint,
    mtu: number,
    sent: Reason,
    unsent: Reason,
  ): Decision {
    if (!mayComplainAbout(arrival)) return { ...belongs, ...drop(unsent) };
    if (this.#madeInBatch >= MADE_FRAMES_PER_BATCH || !this.#errors.take(arrival.nowMs))
      return { ...belongs, ...drop(unsent) };
    this.#madeInBatch++;
    return { ...belongs, verdict: Verdict.Reply, reason: sent, out: [boxError(arrival, complaint, mtu)] };
  }

  /** DSR: no flow; the packet goes on to the server as it is. */
  #sendDirect(arrival: Arrival, transport: Transport, way: Way, choice: Choice, belongs: Belongs): Decision {
    const memory = this.#memoryFor(choice, null);
    if (memory !== null) return this.#refuse(arrival, choice, belongs, memory, "packetsNoMemory", "bytesNoMemory");
    const pair = this.#pairs.obtain(choice.rule.id, choice.server.id, this.#tables)!;
    const sticky = this.#choice.remember(choice, 0, arrival.nowMs);
    if (sticky !== null) sticky.idleSinceMs = arrival.nowMs;
    countOnPair(pair, arrival.ip);
    return this.#leave(arrival, transport, { way, ends: null, pair, belongs }, null, Reason.DsrSent);
  }

  /** HALF-NAT and NAT: makes the connection entry and sends its first packet. */
  #openFlow(
    arrival: Arrival,
    transport: Transport,
    way: Way,
    choice: Choice,
    outer: Tuple,
    closed: Flow | null,
    belongs: Belongs,
  ): Decision {
    const memory = this.#memoryFor(choice, closed);
    if (memory !== null) return this.#refuse(arrival, choice, belongs, memory, "packetsNoMemory", "bytesNoMemory");
    const { rule, server } = choice;
    const pair = this.#pairs.obtain(choice.rule.id, choice.server.id, this.#tables)!;
    const serverPort = mapPort(rule.ports, server.ports, outer.destinationPort);
    const leased = rule.type === "NAT" ? this.#choice.lease(choice, pair, serverPort) : null;
    if (rule.type === "NAT" && leased === null) {
      return this.#refuse(arrival, choice, belongs, Reason.NoPort, "packetsNoPort", "bytesNoPort");
    }
    if (closed !== null) this.#flows.remove(closed, arrival.nowMs);
    const lease = leased?.lease ?? null;
    const sticky = this.#choice.remember(choice, leased?.index ?? 0, arrival.nowMs);
    if (sticky !== null) sticky.references++;
    const inner: Tuple = {
      source: lease?.proxy ?? outer.source,
      sourcePort: lease?.port ?? outer.sourcePort,
      destination: server.address,
      destinationPort: serverPort,
    };
    const flow: Flow = {
      pair,
      protocol: rule.protocol,
      outer,
      inner,
      nextHop: server.nextHop,
      timeoutMs: rule.natTimeoutMs,
      lease,
      sticky,
      clientHop: { port: arrival.frame.port, mac: arrival.link.sourceMac },
      lastClientMs: arrival.nowMs,
      lastServerMs: null,
      clientFin: null,
      serverFin: null,
      reset: false,
      closedAtMs: null,
      opening: "asked",
    };
    pair.flows++;
    this.#flows.add(flow, arrival.nowMs);
    this.#touch(flow, true, arrival, transport);
    return this.#leave(
      arrival,
      transport,
      { way, ends: inner, pair, belongs: { ...belongs, flow: "new" } },
      inner,
      Reason.FlowNew,
    );
  }

  /** Which table has no room for what the packet would open; null when all have. A port is asked for after that. */
  #memoryFor(choice: Choice, closed: Flow | null): Reason | null {
    if (this.#pairs.obtain(choice.rule.id, choice.server.id, this.#tables) === null) return Reason.NoPairMemory;
    const needsFlow = choice.rule.type !== "DSR" && closed === null;
    if (needsFlow && !this.#flows.hasRoom()) return Reason.NoFlowMemory;
    const needsSticky = choice.sticky !== null && choice.sticky.entry === undefined;
    return needsSticky && !this.#sticky.hasRoom() ? Reason.NoStickyMemory : null;
  }

  #refuse(
    arrival: Arrival,
    { rule }: Choice,
    belongs: Belongs,
    reason: Reason,
    packets: RuleCounterName,
    bytes: RuleCounterName,
  ): Decision {
    this.#countOnRule(rule, arrival.ip, packets, bytes);
    this.#countOnRule(rule, arrival.ip, "packetsDropped", "bytesDropped");
    return { ...belongs, ...drop(reason) };
  }

  /** Everything that a packet of a flow leaves behind once it is sure to go out. */
  #touch(flow: Flow, fromClient: boolean, { ip, frame, link, nowMs }: Arrival, transport: Transport): void {
    countOnPair(flow.pair, ip);
    if (fromClient) {
      flow.lastClientMs = nowMs;
      flow.clientHop = { port: frame.port, mac: link.sourceMac };
    } else {
      flow.lastServerMs = nowMs;
    }
    trackOpening(flow, fromClient, transport);
    if (flow.protocol === "tcp") trackTcp(flow, fromClient, transport, nowMs);
    this.#flows.rank(flow);
  }

  /** Rewrites and sends; `edit` is the tuple that the packet leaves with, null leaves all as it is. */
  #leave(arrival: Arrival, transport: Transport, trail: Trail, edit: Tuple | null, reason: Reason): Decision {
    const { ip } = arrival;
    const { way, belongs } = trail;
    const packet = steppedCopy(arrival, way);
    if (edit !== null) {
      setAddresses(packet, edit.source, edit.destination);
      put16(packet, ip.headerBytes, edit.sourcePort);
      put16(packet, ip.headerBytes + 2, edit.destinationPort);
      if (isPartial(arrival)) mendPartial(ip.bytes, packet, ip.headerBytes, ip.protocol);
      else mendTransport(ip.bytes, packet, ip.headerBytes, transport.headerBytes, ip.protocol);
    }
    mendHeader(ip.bytes, packet);
    const flow = edit === null ? "none" : "found";
    const decision = this.#dispatch(arrival, transport, way, packet, belongs, reason);
    return { ...decision, trail: { ...trail, belongs: { ...belongs, flow } } };
  }

  /** Sends a rewritten packet, whole or in fragments. */
  #dispatch(
    arrival: Arrival,
    transport: Transport,
    way: Way,
    packet: Uint8Array,
    belongs: Belongs,
    reason: Reason,
  ): Decision {
    if (passage(arrival, transport, way) === "whole") {
      return { ...belongs, verdict: Verdict.Forward, reason, out: leaveWhole(arrival, packet, way) };
    }
    const out = leaveInFragments(arrival, packet, way);
    this.#madeInBatch += out.length;
    return { ...belongs, verdict: Verdict.Forward, reason: Reason.FragmentsMade, out };
  }

  // ---- bookkeeping ----

  #countOnRule(rule: ImageRule, ip: Ip, packets: RuleCounterName, bytes: RuleCounterName): void {
    this.#counting.addToRule(rule.id, packets);
    this.#counting.addToRule(rule.id, bytes, BigInt(ip.totalLength));
  }

  #flowGone(flow: Flow, nowMs: number): void {
    flow.lease?.release();
    if (flow.sticky !== null && --flow.sticky.references === 0) flow.sticky.idleSinceMs = nowMs;
    flow.pair.flows--;
  }
}

/** A fragment without transport header has nothing that a device could sum up or cut. */
const offloadWish = (arrival: Arrival): boolean => isPartial(arrival) || arrival.vnet.gsoType !== 0;

const protocolName = (ip: Ip): Protocol => (ip.protocol === TCP ? "tcp" : "udp");

function countOnPair(pair: Pair, ip: Ip): void {
  pair.packets++;
  pair.bytes += BigInt(ip.totalLength);
}
