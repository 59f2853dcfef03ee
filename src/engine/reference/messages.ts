/**
 * What the reference engine decides about ICMP and ICMPv6 (specification E.8): echoes it answers, errors it sends on to
 * whoever is behind a flow, the rest it drops or gives back. The messages themselves are made in icmp.ts.
 */
import { Reason, Verdict } from "../../gen/layout.ts";
import type { Compat, ImageRule, NextHop, Port, RuleCounterName } from "../engine.ts";
import { mendHeader } from "./checksum.ts";
import type { ServerChoice } from "./choice.ts";
import type { Counting } from "./counting.ts";
import { type Belongs, type Decision, drop, ignore, pass } from "./decision.ts";
import { type Arrival, steppedCopy, type Way, wayToClient, wayToServer } from "./egress.ts";
import type { Flow, FlowTable } from "./flows.ts";
import { isErrorAboutServer, isErrorToProxy, isGuarded, isHosts } from "./guarding.ts";
import {
  echoReply,
  KINDS,
  messageAsTransport,
  type Quote,
  readQuote,
  towardsClient,
  towardsServer,
  translateError,
} from "./icmp.ts";
import { type Ip, isMartian, sameAddress } from "./packet.ts";
import type { Sending } from "./sending.ts";
import type { Tables } from "./tables.ts";

/** What the engine lends. */
export interface Surroundings {
  readonly compat: Compat;
  readonly tables: () => Tables;
  readonly flows: FlowTable;
  readonly choice: ServerChoice;
  readonly counting: Counting;
  readonly hops: ReadonlyMap<number, NextHop>;
  readonly ports: ReadonlyMap<number, Port>;
  readonly sending: Sending;
}

/** Only of messages that are long enough to be errors. */
const isTooBig = (ip: Ip): boolean =>
  KINDS[ip.family].isTooBig(ip.bytes[ip.headerBytes]!, ip.bytes[ip.headerBytes + 1]!);

const isUnreachable = (ip: Ip): boolean =>
  KINDS[ip.family].isUnreachable(ip.bytes[ip.headerBytes]!, ip.bytes[ip.headerBytes + 1]!);

export class Messages {
  readonly #world: Surroundings;

  constructor(world: Surroundings) {
    this.#world = world;
  }

  /** What becomes of a whole ICMP or ICMPv6 packet. */
  decide(arrival: Arrival): Decision {
    const { ip } = arrival;
    if (isHosts(ip)) return ignore(Reason.Unguarded);
    const tables = this.#world.tables();
    const rule = tables.newestRule(ip.destination);
    const message = ip.bytes.subarray(ip.headerBytes, ip.totalLength);
    const quote = this.#quoteOf(ip, message);
    if (rule === undefined) {
      if (tables.isGuardedVip(ip.destination)) return pass(Reason.RuleGone);
      if (isErrorToProxy(ip, tables)) return this.#errorToClient(arrival, quote) ?? pass(Reason.ProxyIcmp);
      if (isErrorAboutServer(ip, tables)) return this.#errorToClient(arrival, quote) ?? pass(Reason.ServerIcmp);
      return ignore(Reason.Unguarded);
    }
    const belongs: Belongs = { rule: rule.id, server: 0, direction: "client-to-server", flow: "none" };
    const refuse = (reason: Reason, counter: RuleCounterName): Decision => {
      this.#world.counting.addToRule(rule.id, counter);
      return { ...belongs, ...drop(reason) };
    };
    if (message.length < 8) return refuse(Reason.IcmpTruncated, "icmpDropped");
    const kinds = KINDS[ip.family];
    const type = message[0]!;
    if (type === kinds.echoRequest) return this.#echo(arrival, rule, belongs);
    const found = this.#errorOfClient(arrival, rule, quote);
    if (found !== null) return found;
    const answersTheBox = type === kinds.echoReply || (kinds.errors.includes(type) && !this.#quotesFlow(quote));
    if (rule.vipIsLocal && answersTheBox) return pass(Reason.LocalIcmp);
    return kinds.isTooBig(type, message[1]!)
      ? refuse(Reason.TooBigUnknown, "icmpTooBigDropped")
      : refuse(Reason.IcmpToVip, "icmpDropped");
  }

  /**
   * The first fragment of a message, mode `modern`: an echo request to a remote VIP is answered as far as it goes, so that
   * its fragments become those of the answer. What a VIP of the box itself gets is for the kernel to put together.
   */
  decideFirstFragment(arrival: Arrival): Decision {
    const { ip } = arrival;
    const tables = this.#world.tables();
    if (!isGuarded(ip, tables)) return ignore(Reason.Unguarded);
    if (!tables.isGuardedVip(ip.destination)) {
      return pass(tables.isProxy(ip.destination) ? Reason.ProxyFragment : Reason.ServerFragment);
    }
    const rule = tables.newestRule(ip.destination);
    if (rule === undefined || tables.isLocalVip(ip.destination)) return pass(Reason.VipFragment);
    const isEcho = ip.totalLength - ip.headerBytes >= 8 && ip.bytes[ip.headerBytes] === KINDS[ip.family].echoRequest;
    if (!isEcho) return drop(Reason.FragmentToVip);
    return this.#echo(arrival, rule, { rule: rule.id, server: 0, direction: "client-to-server", flow: "none" });
  }

  /** What an ICMP error quotes, as far as it is of use. */
  #quoteOf(ip: Ip, message: Uint8Array): Quote | null {
    const isError = message.length >= 8 && KINDS[ip.family].errors.includes(message[0]!);
    return isError ? readQuote(message.subarray(8), ip.family, this.#world.compat) : null;
  }

  #quotesFlow(quote: Quote | null): boolean {
    return quote !== null && this.#world.flows.find(quote.protocol, quote.tuple)?.fromClient === true;
  }

  #echo(arrival: Arrival, rule: ImageRule, belongs: Belongs): Decision {
    if (isMartian(arrival.ip.source)) return { ...belongs, ...drop(Reason.MartianSource) };
    this.#world.counting.addToRule(rule.id, "icmpEchoProcessed");
    return { ...belongs, verdict: Verdict.Reply, reason: Reason.EchoAnswered, out: echoReply(arrival) };
  }

  /** An error to a VIP that somebody behind the box has to know of; null when nobody is known. */
  #errorOfClient(arrival: Arrival, rule: ImageRule, quote: Quote | null): Decision | null {
    if (quote === null || (this.#world.compat === "ilb" && !isTooBig(arrival.ip))) return null;
    const found = this.#world.flows.find(quote.protocol, quote.tuple);
    if (found?.fromClient) return this.#errorToServer(arrival, rule, quote, found.flow);
    if (this.#world.compat === "ilb") return null;
    return this.#errorToClient(arrival, quote) ?? this.#errorToDirect(arrival, rule, quote);
  }

  /** About a packet that a VIP sent: for the server behind the flow. Too big counts and keeps the flow alive. */
  #errorToServer(arrival: Arrival, rule: ImageRule, quote: Quote, flow: Flow): Decision {
    const { ruleId, serverId } = flow.pair;
    const belongs: Belongs = { rule: ruleId, server: serverId, direction: "client-to-server", flow: "found" };
    const way = wayToServer(arrival, false, this.#world.hops.get(flow.nextHop), this.#world.ports);
    return this.#sendError(arrival, way, belongs, () => {
      if (isTooBig(arrival.ip)) {
        this.#world.counting.addToRule(rule.id, "icmpTooBigProcessed");
        flow.lastClientMs = arrival.nowMs;
      }
      return translateError(arrival, way as Way, quote, towardsServer(flow));
    });
  }

  /**
   * About a packet that the box sent to a server, as the proxy (NAT) or as the client (HALF-NAT), and to whom that packet
   * says it is from: for the client of the flow; null when there is none.
   */
  #errorToClient(arrival: Arrival, quote: Quote | null): Decision | null {
    if (quote === null || this.#world.compat === "ilb") return null;
    const flow = this.#world.flows.ofServer(quote.protocol, quote.tuple);
    if (flow === undefined || !sameAddress(arrival.ip.destination, flow.inner.source)) return null;
    const { ruleId, serverId } = flow.pair;
    const belongs: Belongs = { rule: ruleId, server: serverId, direction: "server-to-client", flow: "found" };
    const way = wayToClient(flow.clientHop, this.#world.ports);
    return this.#sendError(arrival, way, belongs, () => {
      if (isUnreachable(arrival.ip) && flow.opening === "asked") flow.pair.refused++;
      return translateError(arrival, way as Way, quote, towardsClient(flow));
    });
  }

  /** About a packet that a DSR server sent as its VIP: for that server, if the client tells which one it is. */
  #errorToDirect(arrival: Arrival, rule: ImageRule, quote: Quote): Decision | null {
    const { destination, destinationPort } = quote.tuple;
    const direct = this.#world.tables().rule(destination, quote.protocol, destinationPort);
    if (direct?.type !== "DSR" || !direct.enabled) return null;
    const server = this.#world.choice.told(direct, quote.tuple, this.#world.tables());
    if (server === null) return null;
    const belongs: Belongs = { rule: direct.id, server: server.id, direction: "client-to-server", flow: "none" };
    const way = wayToServer(arrival, true, this.#world.hops.get(server.nextHop), this.#world.ports);
    return this.#sendError(arrival, way, belongs, () => {
      if (isTooBig(arrival.ip)) this.#world.counting.addToRule(rule.id, "icmpTooBigProcessed");
      const packet = steppedCopy(arrival, way as Way);
      mendHeader(arrival.ip.bytes, packet);
      return packet;
    });
  }

  /** Sends an error on unless something is in the way; `make` is called only then. */
  #sendError(arrival: Arrival, way: Way | Reason, belongs: Belongs, make: () => Uint8Array): Decision {
    const message = messageAsTransport(arrival.ip);
    const obstacle = this.#world.sending.obstacle(arrival, message, way, belongs);
    if (obstacle !== null) return obstacle;
    const reason = isTooBig(arrival.ip) ? Reason.TooBigTranslated : Reason.IcmpErrorTranslated;
    return this.#world.sending.dispatch(arrival, message, way as Way, make(), belongs, reason);
  }
}
