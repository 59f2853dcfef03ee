/**
 * explain() against the engine itself: random configurations that change, random packets; what explain says beforehand
 * is what the engine then does, but for the proxy port, which nobody can know.
 */
import { expect, test } from "bun:test";
import type { FlowSnapshot, Outcome, Port, TableImage } from "../../src/engine/engine.ts";
import { explain, NOTHING_LIVE } from "../../src/engine/explain.ts";
import type { ExplainedPacket, Explanation } from "../../src/engine/explanation.ts";
import { REASON_NAMES, VERDICT_NAMES, Verdict } from "../../src/gen/layout.ts";
import type { Event } from "../differential/duel.ts";
import { PROXIES, SERVERS, TUN_PORT, VIPS, World } from "../differential/world.ts";
import { ip, mac } from "../support/addresses.ts";
import {
  ETHERTYPE_IPV4,
  ETHERTYPE_IPV6,
  ethernet,
  ipv4,
  ipv6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  tcp,
  toHex,
  udp,
} from "../support/packet-builder.ts";
import { decodeEthernet, decodeIp } from "../support/packet-decoder.ts";
import { Random, seedFromEnvironment } from "../support/random.ts";
import { makeWasmEngine } from "../support/wasm-engine.ts";

const LIMITS = { maxFlows: 2048, maxRules: 64, maxPairs: 512, maxSticky: 512 };
/** The first three of each family are in order; no host may send from the others. */
const CLIENTS = {
  4: ["203.0.113.50", "203.0.113.51", "203.0.114.7", "127.0.0.9", "0.1.2.3", "240.0.0.1"].map(ip),
  6: ["2001:db8:c::50", "2001:db8:c::51", "2001:db8:d::7", "::1", "ff02::1", "::"].map(ip),
};
const CLIENT_MACS = ["02:0c:00:00:00:01", "02:0c:00:00:00:02"].map(mac);
const PORTS = [80, 53, 443, 5000, 5009, 5004, 8080, 7005, 4096, 9];

/** Bytes; more than any packet here has. */
const LEAST_MTU = 128;

class Bout {
  readonly engine = makeWasmEngine(LIMITS);
  readonly #random: Random;
  readonly #world: World;
  readonly #withTun: boolean;
  #image: TableImage | null = null;
  readonly #ports = new Map<number, Port>();
  #nowMs = 1_000_000;
  readonly reasons = new Map<string, number>();

  constructor(seed: number, withTun: boolean) {
    this.#random = new Random(seed);
    this.#world = new World(this.#random);
    this.#withTun = withTun;
    this.#apply(this.#world.setUp());
  }

  #apply(events: readonly Event[]): void {
    for (const event of events) {
      if (event.kind === "port" && (this.#withTun || event.index !== TUN_PORT)) {
        this.engine.setPort(event.index, event.port);
        this.#ports.set(event.index, event.port);
      }
      // What explain tells does not depend on a packet's size: it fits.
      if (event.kind === "hop")
        this.engine.setNextHop(event.index, { ...event.hop, mtu: Math.max(event.hop.mtu, LEAST_MTU) });
      if (event.kind === "publish") {
        this.engine.publish(event.image);
        this.#image = event.image;
      }
    }
  }

  step(): void {
    const random = this.#random;
    this.#nowMs += random.below(2000);
    if (random.chance(0.1)) this.#apply(this.#world.change(this.#nowMs));
    if (random.chance(0.05)) this.engine.sweep(this.#nowMs);
    const flows = this.engine.flows();
    const isOld = flows.length > 0 && random.chance(0.5);
    const packet = isOld ? this.#ofFlow(random.of(flows)) : this.#anyPacket();
    // Flags other than SYN end connections; what explain tells is the fate of a connection's first packet.
    const flags = random.of(["S", "S", "S", "FA", "R", "A"]);
    this.#compare(packet, packet.protocol === "tcp" ? flags : "S");
  }

  #ofFlow(flow: FlowSnapshot): ExplainedPacket {
    const { protocol, client, clientPort, vip, vipPort, source, sourcePort, server, serverPort } = flow;
    return this.#random.chance(0.5)
      ? { protocol, source: client, sourcePort: clientPort, destination: vip, destinationPort: vipPort }
      : { protocol, source: server, sourcePort: serverPort, destination: source, destinationPort: sourcePort };
  }

  #anyPacket(): ExplainedPacket {
    const random = this.#random;
    const { rules } = this.#world;
    if (rules.length > 0 && random.chance(0.6)) {
      const { vip, ports, protocol } = random.of(rules);
      const sourcePort = 40_000 + random.below(300);
      const clients = CLIENTS[vip.family];
      const source = random.of(random.chance(0.05) ? clients : clients.slice(0, 3));
      return { protocol, source, sourcePort, destination: vip, destinationPort: random.between(ports.min, ports.max) };
    }
    const destination = random.chance(0.85) ? random.of(VIPS) : random.of([...PROXIES, ...SERVERS, ip("192.0.2.200")]);
    const fromServer = random.chance(0.1);
    const clients = CLIENTS[destination.family];
    const servers = SERVERS.filter(({ family }) => family === destination.family);
    return {
      protocol: random.of(["tcp", "tcp", "udp"]),
      source: fromServer ? random.of(servers) : random.of(random.chance(0.1) ? clients : clients.slice(0, 3)),
      sourcePort: fromServer ? random.of(PORTS) : 40_000 + random.below(30),
      destination,
      destinationPort: random.of(PORTS),
    };
  }

  #compare(packet: ExplainedPacket, flags: string): void {
    const live = this.engine.host.live();
    const told = explain(this.#image!, live, packet);
    expect(explain(this.#image!, live, packet)).toEqual(told);
    const layer3 = packetOf(packet, flags);
    const frame = ethernet({
      source: this.#random.of(CLIENT_MACS),
      destination: mac("02:00:00:00:00:01"),
      etherType: packet.source.family === 4 ? ETHERTYPE_IPV4 : ETHERTYPE_IPV6,
      payload: layer3,
    });
    const arriving = this.#withTun ? { bytes: layer3, port: TUN_PORT } : { bytes: frame, port: this.#random.below(2) };
    const [outcome] = this.engine.process([arriving], this.#nowMs);
    if (flags !== "S") return;
    this.reasons.set(told.reason, (this.reasons.get(told.reason) ?? 0) + 1);
    expect(this.#ofEngine(outcome!, told)).toEqual(ofExplanation(told));
  }

  #ofEngine(outcome: Outcome, told: Explanation): unknown {
    const { verdict, reason, ruleId, serverId, direction, flow, out } = outcome;
    // What the engine leaves alone is the kernel's, which users know as passed.
    const known = verdict === Verdict.Ignore ? "pass" : VERDICT_NAMES[verdict];
    const head = [known, REASON_NAMES[reason], ruleId, serverId, direction, flow];
    const sent = out[0];
    if (sent === undefined) return { head, leaving: null, egress: null };
    const link = this.#ports.get(sent.port)!.kind === "ip" ? null : decodeEthernet(sent.bytes);
    const { source, destination, tcp, udp } = decodeIp(link?.payload ?? sent.bytes);
    const { sourcePort, destinationPort } = (tcp ?? udp)!;
    const shownPort = told.leaving?.sourcePort === null ? null : sourcePort;
    return {
      head,
      leaving: { source, sourcePort: shownPort, destination, destinationPort },
      egress: { port: sent.port, to: link && toHex(link.destination), from: link && toHex(link.source) },
    };
  }
}

function packetOf(packet: ExplainedPacket, flags: string): Uint8Array {
  const { protocol, source, sourcePort, destination, destinationPort } = packet;
  const ends = { source, destination };
  const isTcp = protocol === "tcp";
  const number = isTcp ? PROTOCOL_TCP : PROTOCOL_UDP;
  const payload = isTcp
    ? tcp({ sourcePort, destinationPort, flags }, ends)
    : udp({ sourcePort, destinationPort }, ends);
  return source.family === 4
    ? ipv4({ ...ends, protocol: number, payload })
    : ipv6({ ...ends, nextHeader: number, payload });
}

function ofExplanation(told: Explanation): unknown {
  const { verdict, reason, ruleId, serverId, direction, flow, leaving, egress } = told;
  const head = [verdict, reason, ruleId, serverId, direction, flow];
  if (leaving === null || egress === null) return { head, leaving: null, egress: null };
  const hex = (bytes: Uint8Array | null): string | null => bytes && toHex(bytes);
  return { head, leaving, egress: { port: egress.port, to: hex(egress.destinationMac), from: hex(egress.sourceMac) } };
}

test.each([
  ["Ethernet", false, 11_000],
  ["a TUN", true, 11_500],
] as const)("what explain says is what the engine does (%s)", (_, withTun, fallback) => {
  const seed = seedFromEnvironment(fallback);
  console.log(`explain seed ${seed}`);
  const reasons = new Map<string, number>();
  for (let run = 0; run < 12; run++) {
    const bout = new Bout(seed + run, withTun);
    for (let i = 0; i < 500; i++) bout.step();
    for (const [reason, count] of bout.reasons) reasons.set(reason, (reasons.get(reason) ?? 0) + count);
  }
  // The traffic reaches every branch of explain.
  const expected = ["unguarded", "flow-found", "flow-new", "dsr-sent", "rule-disabled", "martian-source", "no-server"];
  for (const reason of [...expected, "no-route", "next-hop-unresolved", "server-traffic", "rule-gone"])
    if (!withTun || !["no-route", "next-hop-unresolved"].includes(reason))
      expect([reason, (reasons.get(reason) ?? 0) > 0]).toEqual([reason, true]);
  console.log(`explain: ${[...reasons].map(([reason, count]) => `${reason} ${count}`).join(", ")}`);
});

test("a packet that no rule knows is passed, as replay says", () => {
  const image = {
    generation: 1,
    rules: [],
    servers: [],
    drains: [],
    interest: { entries: [], vips: [], servers: [], proxies: [], own: [] },
  };
  const packet: ExplainedPacket = {
    protocol: "tcp",
    source: ip("198.51.100.7"),
    sourcePort: 40_000,
    destination: VIPS[0]!,
    destinationPort: 80,
  };
  expect(explain(image, NOTHING_LIVE, packet)).toMatchObject({ verdict: "pass", reason: "unguarded" });
});
