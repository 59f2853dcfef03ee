/**
 * What the reference engine looks up in a published image: rules by address and port, interest, servers. Kept as the
 * lists that they came as and searched from the front.
 */
import type { Address } from "../../model/address.ts";
import type { Protocol } from "../../model/config.ts";
import type { ImageRule, ImageServer, TableImage } from "../engine.ts";
import type { Tuple } from "./flows.ts";
import { isNeverBalanced, sameAddress } from "./packet.ts";

const EMPTY: TableImage = {
  generation: 0,
  servers: [],
  rules: [],
  drains: [],
  interest: { entries: [], vips: [], servers: [], proxies: [], own: [] },
};

/** Source ports of health probes. */
const isProbePort = (port: number): boolean => port >= 2048 && port <= 4095;

const holds = (list: readonly Address[], address: Address): boolean => list.some((one) => sameAddress(one, address));

export class Tables {
  readonly image: TableImage;

  constructor(image: TableImage = EMPTY) {
    this.image = image;
  }

  rule(vip: Address, protocol: Protocol, port: number): ImageRule | undefined {
    if (isNeverBalanced(vip)) return undefined;
    return this.image.rules.find(
      (rule) =>
        rule.protocol === protocol && rule.ports.min <= port && port <= rule.ports.max && sameAddress(rule.vip, vip),
    );
  }

  /** The most recently created rule of a VIP, the one that ICMP counts for. */
  newestRule(vip: Address): ImageRule | undefined {
    if (isNeverBalanced(vip)) return undefined;
    const rules = this.image.rules.filter((rule) => sameAddress(rule.vip, vip));
    return rules.sort((a, b) => b.sequence - a.sequence)[0];
  }

  /** Whether the address is a VIP and one of the box's own. */
  isLocalVip(vip: Address): boolean {
    return this.image.rules.some((rule) => rule.vipIsLocal && sameAddress(rule.vip, vip));
  }

  ruleById(id: number): ImageRule | undefined {
    return this.image.rules.find((rule) => rule.id === id);
  }

  /** The server in place `index` of the image. */
  server(index: number): ImageServer {
    const server = this.image.servers[index];
    if (server === undefined) throw new Error(`image names server ${index}, which it does not hold`);
    return server;
  }

  /** When flows of a server in a rule end at the latest; null without a deadline. */
  drainDeadlineMs(ruleId: number, serverId: number): number | null {
    const drain = this.image.drains.find((one) => one.ruleId === ruleId && one.serverId === serverId);
    return drain?.deadlineMs ?? null;
  }

  /** Whether the image has the server in the rule, enabled or not. */
  hasMember(ruleId: number, serverId: number): boolean {
    const members = this.ruleById(ruleId)?.members ?? [];
    return members.some((member) => this.server(member.server).id === serverId);
  }

  #guards(match: "source" | "destination", address: Address, protocol: Protocol, port: number): boolean {
    return this.image.interest.entries.some(
      (entry) =>
        entry.match === match &&
        entry.protocol === protocol &&
        entry.ports.min <= port &&
        port <= entry.ports.max &&
        sameAddress(entry.address, address),
    );
  }

  guardsDestination(address: Address, protocol: Protocol, port: number): boolean {
    return !isNeverBalanced(address) && this.#guards("destination", address, protocol, port);
  }
  /** From a server's port; the box's own health probes get their answers past the engine. */
  guardsSource(tuple: Tuple, protocol: Protocol): boolean {
    const { source, sourcePort, destination, destinationPort } = tuple;
    const answersProbe = isProbePort(destinationPort) && holds(this.image.interest.own, destination);
    return !answersProbe && this.#guards("source", source, protocol, sourcePort);
  }
  isGuardedVip(address: Address): boolean {
    return !isNeverBalanced(address) && holds(this.image.interest.vips, address);
  }
  isProxy(address: Address): boolean {
    return !isNeverBalanced(address) && holds(this.image.interest.proxies, address);
  }
  isGuardedServer(address: Address): boolean {
    return holds(this.image.interest.servers, address);
  }
}
