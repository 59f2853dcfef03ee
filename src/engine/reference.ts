/**
 * The packet engine once more, in plain, slow, obvious TypeScript, written from the specification (D.2, E.1 to E.9) and
 * not from the WebAssembly engine: the oracle of the differential tests. Maps and objects, one packet at a time, every
 * packet copied before it is changed. Not meant to carry traffic. The order of decisions is in docs/packet-path.md.
 */
import { Reason } from "../gen/layout.ts";
import type { Protocol } from "../model/config.ts";
import {
  type Compat,
  type Direction,
  type EngineCounters,
  type EngineLimits,
  type FlowSnapshot,
  type FrameIn,
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
import { type Choice, ServerChoice } from "./reference/choice.ts";
import { Counting } from "./reference/counting.ts";
import { type Belongs, type Decision, drop, ignore, pass } from "./reference/decision.ts";
import { type Arrival, PLAIN, type Way, wayToClient, wayToServer } from "./reference/egress.ts";
import {
  type Flow,
  FlowTable,
  heedSilence,
  opensAnew,
  reversed,
  SWEEP_LAG_MS,
  type Tuple,
  trackOpening,
  trackTcp,
} from "./reference/flows.ts";
import { FragmentPath } from "./reference/fragment-path.ts";
import { isGuarded, isGuardedByAddress } from "./reference/guarding.ts";
import { KINDS } from "./reference/icmp.ts";
import { Messages } from "./reference/messages.ts";
import {
  ACK,
  type Ip,
  isFragment,
  isMapped,
  isMartian,
  openLink,
  parseIp,
  parseTransport,
  SYN,
  TCP,
  type Transport,
  UDP,
} from "./reference/packet.ts";
import { countOnPair, PairTable } from "./reference/pairs.ts";
import { PolicyJudge } from "./reference/policy.ts";
import { chooseLowest, type PortChooser } from "./reference/ports.ts";
import { mapPort } from "./reference/select.ts";
import { Sending } from "./reference/sending.ts";
import { StickyTable } from "./reference/sticky.ts";
import { Tables } from "./reference/tables.ts";

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
  readonly #sending = new Sending();
  readonly #fragments: FragmentPath;
  readonly #messages: Messages;
  readonly #policy = new PolicyJudge();
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
      sending: this.#sending,
    });
    this.#fragments = new FragmentPath({
      tables: () => this.#tables,
      counting: this.#counting,
      sending: this.#sending,
      decideFirst: (arrival) => this.#decideFirst(arrival),
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
    this.#sending.beginBatch();
    this.#fragments.expire(nowMs);
    const unclaimed = this.#fragments.unclaimed(nowMs);
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
    if (isFragment(ip)) return this.#compat === "ilb" ? this.#fragments.decideIlb(ip) : this.#fragments.decide(arrival);
    if (ip.protocol === TCP || ip.protocol === UDP) return this.#transport(arrival);
    return ip.protocol === KINDS[ip.family].protocol ? this.#messages.decide(arrival) : ignore(Reason.Unguarded);
  }

  /** The first fragment of a packet has what the transport's headers say. */
  #decideFirst(arrival: Arrival): Decision {
    const { ip } = arrival;
    if (ip.protocol === TCP || ip.protocol === UDP) return this.#transport(arrival);
    return ip.protocol === KINDS[ip.family].protocol
      ? this.#messages.decideFirstFragment(arrival)
      : ignore(Reason.Unguarded);
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
    const passed = isFirst ? this.#fragments.leftToKernel(ip, nowMs) : [];
    if (!isGuarded(ip, this.#tables)) return { ...ignore(Reason.Unguarded), passed };
    if (isFragment(ip) && this.#tables.isGuardedVip(ip.destination)) this.#counting.fragmentsIn++;
    return { ...pass(Reason.ExtensionHeader), passed };
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
    const obstacle = this.#sending.obstacle(arrival, transport, way, belongs);
    if (obstacle !== null) return obstacle;
    heedSilence(flow, fromClient, transport);
    this.#touch(flow, fromClient, arrival, transport);
    const edit = fromClient ? flow.inner : reversed(flow.outer);
    return this.#sending.leave(
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
    const obstacle = this.#sending.obstacle(arrival, transport, way, belongs);
    if (obstacle !== null) return obstacle;
    return rule.type === "DSR"
      ? this.#sendDirect(arrival, transport, way as Way, choice, belongs)
      : this.#openFlow(arrival, transport, way as Way, choice, tuple, closed, belongs);
  }

  /** DSR: no flow; the packet goes on to the server as it is. */
  #sendDirect(arrival: Arrival, transport: Transport, way: Way, choice: Choice, belongs: Belongs): Decision {
    const memory = this.#memoryFor(choice, null);
    if (memory !== null) return this.#refuse(arrival, choice, belongs, memory, "packetsNoMemory", "bytesNoMemory");
    const pair = this.#pairs.obtain(choice.rule.id, choice.server.id, this.#tables)!;
    const sticky = this.#choice.remember(choice, 0, arrival.nowMs);
    if (sticky !== null) sticky.idleSinceMs = arrival.nowMs;
    countOnPair(pair, arrival.ip);
    return this.#sending.leave(arrival, transport, { way, ends: null, pair, belongs }, null, Reason.DsrSent);
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
    return this.#sending.leave(
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

const protocolName = (ip: Ip): Protocol => (ip.protocol === TCP ? "tcp" : "udp");
