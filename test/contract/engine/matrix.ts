/**
 * Engine contract: every type, protocol, algorithm, mapping of ports and stickiness that may be combined, in one image per
 * type and protocol. Who is chosen is worked out here from specification E.5 and E.6, and where a packet goes from D.2 and
 * E.3, with nothing of the product's; the decoder sums every checksum from scratch.
 */
import { expect, test } from "bun:test";
import type { Outcome } from "../../../src/engine/engine.ts";
import type { Address } from "../../../src/model/address.ts";
import type { Algorithm, PortRange, Protocol, RuleType } from "../../../src/model/config.ts";
import { answerTo, arriving, CLIENT_SIDE, onlyPacket, SERVER_SIDE, serverMac } from "../../support/engine-bench.ts";
import { membersOf, onePort, type RuleSpec } from "../../support/image-builder.ts";
import { decodeEthernet, faults } from "../../support/packet-decoder.ts";
import type { Ground } from "./ground.ts";

const ALGORITHMS: readonly Algorithm[] = ["roundrobin", "hash-ip", "hash-ip-port", "hash-ip-vip"];
const RANGE: PortRange = { min: 5000, max: 5009 };

/** Specification D.2: the rule's ports, those of server `i`, and the port that a packet to `port` arrives at there. */
interface Mapping {
  readonly name: string;
  readonly rule: PortRange;
  readonly server: (i: number) => PortRange | null;
  readonly maps: (port: number, i: number) => number;
  /** Direct server return changes no port. */
  readonly direct: boolean;
}

const MAPPINGS: readonly Mapping[] = [
  { name: "port to the same port", rule: onePort(80), server: () => onePort(80), maps: (port) => port, direct: true },
  {
    name: "port to port",
    rule: onePort(80),
    server: (i) => onePort(8080 + i),
    maps: (_, i) => 8080 + i,
    direct: false,
  },
  { name: "range to the same range", rule: RANGE, server: () => RANGE, maps: (port) => port, direct: true },
  {
    name: "shifting",
    rule: RANGE,
    server: (i) => ({ min: 6000 + 1000 * i, max: 6009 + 1000 * i }),
    maps: (port, i) => port + 1000 * (i + 1),
    direct: false,
  },
  { name: "collapsing", rule: RANGE, server: (i) => onePort(6000 + i), maps: (_, i) => 6000 + i, direct: false },
  { name: "no server port", rule: RANGE, server: () => null, maps: (port) => port, direct: true },
];

/** CRC-32 with initial value and without final inversion, bit by bit. */
function crc(bytes: readonly number[]): number {
  let sum = 0xffffffff;
  for (const byte of bytes) {
    sum ^= byte;
    for (let bit = 0; bit < 8; bit++) sum = sum & 1 ? (sum >>> 1) ^ 0xedb88320 : sum >>> 1;
  }
  return sum >>> 0;
}

const lastBytes = ({ value }: Address): number[] => [24n, 16n, 8n, 0n].map((shift) => Number((value >> shift) & 255n));

/** The place that one of the hashes names among `count` servers. */
function hashedPlace(algorithm: Algorithm, client: Address, clientPort: number, vip: Address, count: number): number {
  const address = lastBytes(client);
  const other = lastBytes(vip);
  const port = [clientPort >> 8, clientPort & 255];
  const mixed = address.map((byte, i) => {
    if (algorithm === "hash-ip-port") return byte ^ port[i % 2]!;
    return algorithm === "hash-ip-vip" ? byte ^ other[i]! : byte;
  });
  return crc(mixed) % count;
}

interface Cell extends Mapping {
  readonly algorithm: Algorithm;
  readonly isSticky: boolean;
  readonly spec: RuleSpec;
}

export function matrix(ground: Ground): void {
  const { bench, ruleOf, tcpPacket, udpPacket, ip, mask, host, isWhole, SERVERS, PROXY } = ground;
  // The first two are of one /24.
  const clients = ["203.0.113.5", "203.0.113.9", "198.18.4.7"].map(ip);
  const prefixOf = (client: Address): bigint => client.value >> 8n;

  /** One rule with a VIP of its own for everything that the type allows. */
  const cellsOf = (type: RuleType, protocol: Protocol): Cell[] =>
    MAPPINGS.filter(({ direct }) => direct || type !== "DSR")
      .flatMap((mapping) =>
        ALGORITHMS.flatMap((algorithm) => [true, false].map((isSticky) => ({ ...mapping, algorithm, isSticky }))),
      )
      .map((cell, index) => {
        const servers = SERVERS.map((server, i) => ({ ...server, id: 1000 + index * 3 + i, ports: cell.server(i) }));
        const spec = ruleOf({
          id: index + 1,
          slot: index,
          vip: ip(`198.51.100.${100 + index}`),
          protocol,
          ports: cell.rule,
          type,
          algorithm: cell.algorithm,
          stickyMask: cell.isSticky ? mask(24) : null,
          members: membersOf(servers),
        });
        return { ...cell, spec };
      });

  test.each(
    (["DSR", "HALF-NAT", "NAT"] as const).flatMap((type) =>
      (["tcp", "udp"] as const).map((protocol) => [type, protocol] as const),
    ),
  )(
    "E.3, E.5, E.6, D.2: %s %s by every algorithm, mapping of ports and stickiness goes where it should, and back",
    (type, protocol) => {
      const cells = cellsOf(type, protocol);
      const world = bench(
        cells.map(({ spec }) => spec),
        { maxRules: cells.length },
      );
      const packetOf = protocol === "tcp" ? tcpPacket : udpPacket;
      let clientPort = 20_000;
      for (const { name, algorithm, isSticky, spec, rule, maps } of cells) {
        const cell = `${spec.type} ${protocol} ${algorithm} ${name} ${isSticky ? "sticky" : "not sticky"}`;
        // Head insertion: the last server has the first turn.
        let turn = SERVERS.length;
        const stuck = new Map<bigint, number>();
        for (const client of [...clients, ...clients]) {
          clientPort++;
          const port = rule.min + (clientPort % (rule.max - rule.min + 1));
          const ends = { from: client, to: spec.vip, sourcePort: clientPort, destinationPort: port };
          const sent = world.send(arriving(packetOf(ends)));
          turn = (turn + SERVERS.length - 1) % SERVERS.length;
          const picked =
            algorithm === "roundrobin" ? turn : hashedPlace(algorithm, client, clientPort, spec.vip, SERVERS.length);
          const kept = isSticky ? stuck.get(prefixOf(client)) : undefined;
          // Each of several workers has a turn of its own.
          const place =
            algorithm === "roundrobin" && !isWhole ? sent.serverId - spec.members[0]!.server.id : (kept ?? picked);
          if (kept !== undefined) expect({ cell, place }).toEqual({ cell, place: kept });
          stuck.set(prefixOf(client), place);
          const server = spec.members[place]!.server;
          expect({ cell, ruleId: sent.ruleId, serverId: sent.serverId }).toEqual({
            cell,
            ruleId: spec.id,
            serverId: server.id,
          });
          expectSent(cell, sent, { ...ends, serverPort: maps(port, place), place }, type);
          if (type !== "DSR") expectAnswered(cell, world.send(arriving(answerTo(onlyPacket(sent)), SERVER_SIDE)), ends);
        }
      }
      const { packetsIn, reasons, pairs } = world.engine.counters();
      const perFlow = type === "DSR" ? 1n : 2n;
      expect(packetsIn).toBe(BigInt(cells.length * 6) * perFlow);
      expect(reasons.reduce((sum, count) => sum + count)).toBe(packetsIn);
      expect(pairs.reduce((sum, { packets }) => sum + packets, 0n)).toBe(packetsIn);
    },
  );

  interface Ends {
    readonly from: Address;
    readonly to: Address;
    readonly sourcePort: number;
    readonly destinationPort: number;
  }

  const described = (outcome: Outcome) => {
    const { bytes, port } = outcome.out[0]!;
    const { source, destination, tcp, udp, ttl } = onlyPacket(outcome);
    const ports = (tcp ?? udp)!;
    const wrong = faults(decodeEthernet(bytes).payload);
    return {
      source: host(source),
      destination: host(destination),
      sourcePort: ports.sourcePort,
      destinationPort: ports.destinationPort,
      ttl,
      port,
      wrong,
    };
  };

  function expectSent(
    cell: string,
    sent: Outcome,
    ends: Ends & { serverPort: number; place: number },
    type: RuleType,
  ): void {
    const server = SERVERS[ends.place]!.address;
    const packet = described(sent);
    const isInRange = packet.sourcePort >= 4096 && packet.sourcePort <= 65_534;
    expect({ cell, ...packet }).toEqual({
      cell,
      source: host(type === "NAT" ? PROXY : ends.from),
      destination: host(type === "DSR" ? ends.to : server),
      sourcePort: type === "NAT" && isInRange ? packet.sourcePort : ends.sourcePort,
      destinationPort: ends.serverPort,
      ttl: 63,
      port: SERVER_SIDE,
      wrong: [],
    });
    expect({ cell, mac: decodeEthernet(sent.out[0]!.bytes).destination }).toEqual({ cell, mac: serverMac(ends.place) });
  }

  function expectAnswered(cell: string, answer: Outcome, ends: Ends): void {
    expect({ cell, ...described(answer) }).toEqual({
      cell,
      source: host(ends.to),
      destination: host(ends.from),
      sourcePort: ends.destinationPort,
      destinationPort: ends.sourcePort,
      ttl: 63,
      port: CLIENT_SIDE,
      wrong: [],
    });
  }
}
