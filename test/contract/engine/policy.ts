/**
 * Engine contract: the flow policy (NBU-034 to NBU-043). The client, the VIP and the servers are hosts of a class each:
 * 1 may open 1556/tcp and 53/udp to 2, 2 may open 443/tcp to 1.
 */
import { expect, test } from "bun:test";
import { type PolicyFigures, type PolicyTables, REFUSALS } from "../../../src/engine/policy.ts";
import {
  POLICY_COUNTERS,
  POLICY_MESSAGE,
  POLICY_NO_FLOW,
  POLICY_NO_PORTS,
  Reason,
  Verdict,
} from "../../../src/gen/layout.ts";
import type { Address } from "../../../src/model/address.ts";
import { arriving, type Bench, ipPacket } from "../../support/engine-bench.ts";
import { imageOf, onePort, type RuleSpec } from "../../support/image-builder.ts";
import { fragmentExtension } from "../../support/packet-builder.ts";
import type { Ground } from "./ground.ts";

const PBX = 0;
const DNS = 1;
const BACK = 2;
const TABLES: Omit<PolicyTables, "hosts"> = {
  mode: "enforce",
  outside: "pass",
  sourcePorts: "any",
  classCount: 2,
  pairs: [
    {
      from: 1,
      to: 2,
      flows: [
        { flow: PBX, protocol: "tcp", ports: onePort(1556) },
        { flow: DNS, protocol: "udp", ports: onePort(53) },
      ],
    },
    { from: 2, to: 1, flows: [{ flow: BACK, protocol: "tcp", ports: onePort(443) }] },
  ],
};

/** What has changed since `before`, by name. */
function changed(before: PolicyFigures, after: PolicyFigures): Record<string, number> {
  const names: Record<number, string> = { [PBX]: "pbx", [DNS]: "dns", [BACK]: "back" };
  names[POLICY_MESSAGE] = "message";
  names[POLICY_NO_PORTS] = "no-ports";
  for (const [index, refusal] of REFUSALS.entries()) names[POLICY_NO_FLOW + index] = refusal;
  const grown: Record<string, number> = {};
  for (let index = 0; index < POLICY_COUNTERS; index++) {
    const packets = Number(after.counters[index]!.packets - before.counters[index]!.packets);
    if (packets !== 0) grown[names[index] ?? `flow ${index}`] = packets;
  }
  return grown;
}

export function policy(ground: Ground): void {
  const { bench, ruleOf, tcpPacket, udpPacket, icmpPacket, mask, numbers, CLIENT, VIP, ROUTER, SERVERS } = ground;
  const whole = mask(32);
  const bound = (prefix: Address, kind: number, bits = whole) => ({ prefix, bits, kind });
  const BOTH = [bound(CLIENT, 1), bound(VIP, 2)];
  let generation = 1_000;

  const rules = (): RuleSpec[] => [
    ruleOf({ id: 1, slot: 1, ports: onePort(1556) }),
    ruleOf({ id: 2, slot: 2, ports: onePort(13_724) }),
    ruleOf({ id: 3, slot: 3, protocol: "udp", ports: onePort(53) }),
  ];
  const judge = (world: Bench, changes: Partial<PolicyTables> = {}, own = rules()): void => {
    world.engine.publish({ ...imageOf(++generation, own), policy: { ...TABLES, hosts: BOTH, ...changes } });
  };
  const judged = (changes: Partial<PolicyTables> = {}): Bench => {
    const world = bench(rules());
    judge(world, changes);
    return world;
  };
  /** Verdict and reason of a packet, and the counters that it moved. */
  const told = (world: Bench, packet: Uint8Array, port?: number): readonly unknown[] => {
    const before = world.engine.policy();
    const { verdict, reason } = world.send(port === undefined ? arriving(packet) : arriving(packet, port));
    const name = Object.keys(Reason).find((key) => Reason[key as keyof typeof Reason] === reason);
    return [verdict, name, changed(before, world.engine.policy())];
  };
  const to = (port: number, changes: object = {}): Uint8Array => tcpPacket({ destinationPort: port, ...changes });

  test("NBU-036 a permitted flow passes and opens, any other between bound ends is dropped and changes nothing", () => {
    const world = judged();
    expect(told(world, to(13_724))).toEqual([Verdict.Drop, "PolicyNoFlow", { "no-flow": 1 }]);
    expect(world.engine.flows()).toEqual([]);
    expect(told(world, to(1556))).toEqual([Verdict.Forward, "FlowNew", { pbx: 1 }]);
    expect(told(world, to(1556, { flags: "A" }))).toEqual([Verdict.Forward, "FlowFound", { pbx: 1 }]);
    const datagram = udpPacket({ destinationPort: 53 });
    expect(told(world, datagram)).toEqual([Verdict.Forward, "FlowNew", { dns: 1 }]);
    expect(world.engine.policy().counters[DNS]).toEqual({ packets: 1n, bytes: BigInt(datagram.length) });
  });

  test("NBU-035 without a policy every packet goes and no counter moves", () => {
    const world = bench(rules());
    expect(told(world, to(13_724))).toEqual([Verdict.Forward, "FlowNew", {}]);
  });

  test("NBU-036 an established flow is stopped when the policy comes, and goes on when it is gone", () => {
    const world = bench(rules());
    for (const flags of ["S", "A"]) world.send(arriving(to(13_724, { flags })));
    judge(world);
    expect(told(world, to(13_724, { flags: "A" }))).toEqual([Verdict.Drop, "PolicyNoFlow", { "no-flow": 1 }]);
    world.engine.publish(imageOf(++generation, rules()));
    expect(told(world, to(13_724, { flags: "A" }))).toEqual([Verdict.Forward, "FlowFound", {}]);
  });

  test("NBU-036 what is known of two hosts holds while rules change under the same policy", () => {
    const world = bench(rules());
    const same: PolicyTables = { ...TABLES, sourcePorts: "non-reserved", hosts: BOTH };
    const segment = (destinationPort: number, sourcePort = 40_000): Uint8Array =>
      to(destinationPort, { flags: "A", sourcePort });
    for (const sourcePort of [40_000, 1023]) world.send(arriving(to(1556, { sourcePort })));
    // Three images, so that each of the two places for them is used with and without what went before.
    for (const own of [rules(), rules().slice(0, 2), rules()]) {
      world.engine.publish({ ...imageOf(++generation, own), policy: same });
      for (let time = 0; time < 2; time++) {
        expect(told(world, segment(1556))).toEqual([Verdict.Forward, "FlowFound", { pbx: 1 }]);
        expect(told(world, segment(1556, 1023))[2]).toEqual({ "reserved-source": 1 });
        expect(told(world, segment(13_724))[2]).toEqual({ "no-flow": 1 });
        expect(told(world, segment(13_724, 443))[2]).toEqual({ back: 1 });
      }
    }
  });

  test("NBU-036 of more than a hundred flows between two hosts the first that fits is counted", () => {
    const own = [ruleOf({ id: 1, slot: 1, ports: { min: 1, max: 65_535 } })];
    const world = bench(own);
    // Every other port from 5000 on, and at last all of them.
    const flows = Array.from({ length: 140 }, (_, flow) => ({
      flow: flow + 3,
      protocol: "tcp" as const,
      ports: flow === 139 ? { min: 5000, max: 6000 } : onePort(5000 + 2 * flow),
    }));
    judge(world, { pairs: [{ from: 1, to: 2, flows }] }, own);
    for (const [port, flow] of [
      [5000, 3],
      [5200, 103],
      [5276, 141],
      [5277, 142],
    ] as const) {
      world.send(arriving(to(port)));
      expect(told(world, to(port, { flags: "A" }))).toEqual([Verdict.Forward, "FlowFound", { [`flow ${flow}`]: 1 }]);
    }
    expect(told(world, to(4999, { flags: "A" }))[2]).toEqual({ "no-flow": 1 });
  });

  test("NBU-037 replies pass by their source port, but no segment with SYN and without ACK", () => {
    const world = judged({ hosts: [bound(CLIENT, 2), bound(VIP, 1)] });
    // The client answers what the VIP opened: from 1556 to whatever port.
    const reply = (flags: string): Uint8Array => tcpPacket({ sourcePort: 1556, destinationPort: 13_724, flags });
    expect(told(world, reply("SA"))).toEqual([Verdict.Forward, "FlowNew", { pbx: 1 }]);
    expect(told(world, reply("S"))).toEqual([Verdict.Drop, "PolicyReplyIsSyn", { "reply-is-syn": 1 }]);
    expect(told(world, reply("SF"))).toEqual([Verdict.Drop, "PolicyReplyIsSyn", { "reply-is-syn": 1 }]);
    expect(told(world, reply("R"))).toEqual([Verdict.Forward, "FlowFound", { pbx: 1 }]);
  });

  test("NBU-037 the answer of a server is judged as it arrived, by the server's own address", () => {
    const world = judged({ hosts: [...BOTH, ...SERVERS.map(({ address }) => bound(address, 2))] });
    const sent = world.send(arriving(to(1556)));
    const server = SERVERS.find(({ id }) => id === sent.serverId)!;
    const answer = (flags: string): Uint8Array =>
      tcpPacket({ from: server.address, to: CLIENT, sourcePort: 1556, destinationPort: 40_000, flags });
    expect(told(world, answer("S"), 1)).toEqual([Verdict.Drop, "PolicyReplyIsSyn", { "reply-is-syn": 1 }]);
    expect(told(world, answer("SA"), 1)).toEqual([Verdict.Forward, "FlowFound", { pbx: 1 }]);
    expect(told(world, answer("A"), 1)).toEqual([Verdict.Forward, "FlowFound", { pbx: 1 }]);
  });

  test("NBU-038 refused tuples are listed, the latest first, each once, with the ports of the last packet", () => {
    const world = judged();
    for (const sourcePort of [40_000, 40_001, 40_002]) world.send(arriving(to(13_724, { sourcePort })));
    world.nowMs += 7;
    world.send(arriving(udpPacket({ destinationPort: 53, from: VIP, to: VIP })));
    const { refused } = world.engine.policy();
    expect(
      refused.map(({ protocol, destinationPort, refusal, packets, lastMs }) => ({
        protocol,
        destinationPort,
        refusal,
        packets,
        lastMs,
      })),
    ).toEqual([
      { protocol: 17, destinationPort: 53, refusal: "no-flow", packets: 1n, lastMs: world.nowMs },
      { protocol: 6, destinationPort: 13_724, refusal: "no-flow", packets: 3n, lastMs: world.nowMs - 7 },
    ]);
    expect(refused[1]).toMatchObject({ source: CLIENT, destination: VIP, sourcePort: 40_002 });
  });

  ground.testWhole("NBU-038 of more than 64 refused tuples the last 64 are kept", () => {
    const world = judged();
    judge(world, {}, [ruleOf({ id: 9, slot: 9, ports: { min: 2000, max: 2999 } })]);
    for (let port = 2000; port < 2100; port++) world.send(arriving(to(port)));
    world.send(arriving(to(2040)));
    const ports = world.engine.policy().refused.map(({ destinationPort }) => destinationPort);
    expect(ports).toEqual([
      2040,
      ...Array.from({ length: 64 }, (_, index) => 2099 - index).filter((port) => port !== 2040),
    ]);
  });

  test("NBU-039 in monitor everything goes its way and the same counters rise", () => {
    const world = judged({ mode: "monitor" });
    expect(told(world, to(13_724))).toEqual([Verdict.Forward, "FlowNew", { "no-flow": 1 }]);
    expect(told(world, to(13_724, { flags: "A" }))).toEqual([Verdict.Forward, "FlowFound", { "no-flow": 1 }]);
    expect(world.engine.policy().refused[0]).toMatchObject({ destinationPort: 13_724, packets: 2n });
  });

  test("NBU-034 the longest prefix that holds an address decides", () => {
    const world = judged({ hosts: [bound(CLIENT, 2, mask(8)), bound(CLIENT, 1, mask(31)), bound(VIP, 2)] });
    expect(told(world, to(1556))[1]).toBe("FlowNew");
    judge(world, { hosts: [bound(CLIENT, 1, mask(0)), bound(CLIENT, 2), bound(VIP, 2)] });
    expect(told(world, to(1556, { flags: "A" }))[1]).toBe("PolicyNoFlow");
  });

  test("NBU-036 with one end bound packets pass, or are dropped with outside=drop; with none they are untouched", () => {
    const world = judged({ hosts: [bound(VIP, 2)] });
    expect(told(world, to(13_724))).toEqual([Verdict.Forward, "FlowNew", {}]);
    judge(world, { hosts: [bound(VIP, 2)], outside: "drop" });
    expect(told(world, to(13_724, { flags: "A" }))).toEqual([Verdict.Drop, "PolicyOutside", { outside: 1 }]);
    expect(told(world, icmpPacket({ type: numbers.echo }))).toEqual([Verdict.Drop, "PolicyOutside", { outside: 1 }]);
    judge(world, { hosts: [], outside: "drop" });
    expect(told(world, to(13_724, { flags: "A" }))).toEqual([Verdict.Forward, "FlowFound", {}]);
  });

  test("NBU-040 ICMP errors and echo pass between bound ends, errors also from routers that nobody bound", () => {
    const world = judged({ outside: "drop" });
    const [type, code] = numbers.portUnreachable;
    expect(told(world, icmpPacket({ type: numbers.echo }))).toEqual([Verdict.Reply, "EchoAnswered", { message: 1 }]);
    expect(told(world, icmpPacket({ type, code }))).toEqual([Verdict.Drop, "IcmpToVip", { message: 1 }]);
    expect(told(world, icmpPacket({ type, code }, { from: ROUTER }))).toEqual([
      Verdict.Drop,
      "IcmpToVip",
      { message: 1 },
    ]);
    // Timestamp; no type that IPv6 knows.
    const other = ground.family === 4 ? 13 : 200;
    expect(told(world, icmpPacket({ type: other }))).toEqual([Verdict.Drop, "PolicyNoFlow", { "no-flow": 1 }]);
  });

  test("NBU-036 later fragments pass if any flow of their protocol exists between the two, whichever way", () => {
    const world = judged();
    const place = { ipv4: { fragmentOffset: 8 }, ipv6: { extensions: [fragmentExtension(8, false, 1)] } };
    const later = (protocol: number): Uint8Array =>
      ipPacket({ from: CLIENT, to: VIP, ...place }, protocol, new Uint8Array(64));
    expect(told(world, later(6))[2]).toEqual({ "no-ports": 1 });
    expect(told(world, later(17))[2]).toEqual({ "no-ports": 1 });
    expect(told(world, later(numbers.protocol))).toEqual([Verdict.Drop, "PolicyNoFlow", { "no-flow": 1 }]);
    judge(world, { pairs: [TABLES.pairs[1]!] });
    expect(told(world, later(6))[2]).toEqual({ "no-ports": 1 });
    expect(told(world, later(17))).toEqual([Verdict.Drop, "PolicyNoFlow", { "no-flow": 1 }]);
  });

  test("NBU-043 source-ports=non-reserved drops what begins a flow below 1024, and no replies", () => {
    const world = judged({ sourcePorts: "non-reserved" });
    expect(told(world, to(1556, { sourcePort: 1023 }))).toEqual([
      Verdict.Drop,
      "PolicyReservedSource",
      { "reserved-source": 1 },
    ]);
    expect(told(world, udpPacket({ destinationPort: 53, sourcePort: 53 }))).toEqual([
      Verdict.Drop,
      "PolicyReservedSource",
      { "reserved-source": 1 },
    ]);
    expect(told(world, to(1556, { sourcePort: 1024 }))).toEqual([Verdict.Forward, "FlowNew", { pbx: 1 }]);
    // The client answers from 443, which the VIP may open to it; 1556 it may open itself.
    expect(told(world, to(1556, { sourcePort: 443, flags: "SA" }))[2]).toEqual({ back: 1 });
    expect(told(world, to(1556, { sourcePort: 443, flags: "S" }))[2]).toEqual({ "reserved-source": 1 });
  });

  test("NBU-042 requests to a VIP of a DSR rule are judged though replies bypass the box", () => {
    const direct = [ruleOf({ id: 5, slot: 5, type: "DSR", ports: { min: 1, max: 65_535 } })];
    const world = bench(direct);
    judge(world, {}, direct);
    expect(told(world, to(1556))).toEqual([Verdict.Forward, "DsrSent", { pbx: 1 }]);
    expect(told(world, to(1556, { flags: "A" }))).toEqual([Verdict.Forward, "DsrSent", { pbx: 1 }]);
    expect(told(world, to(13_724))).toEqual([Verdict.Drop, "PolicyNoFlow", { "no-flow": 1 }]);
  });

  test("NBU-035 what the kernel forwards is not judged here", () => {
    const world = judged();
    expect(told(world, tcpPacket({ to: ROUTER, from: CLIENT }))).toEqual([Verdict.Ignore, "Unguarded", {}]);
    judge(world, { hosts: [bound(CLIENT, 1), bound(ROUTER, 2)], outside: "drop" });
    expect(told(world, tcpPacket({ to: ROUTER, from: CLIENT }))).toEqual([Verdict.Ignore, "Unguarded", {}]);
  });
}
