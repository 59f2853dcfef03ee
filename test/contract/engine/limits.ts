/** Engine contract: as many rules, servers and port ranges as are promised. */
import { expect, test } from "bun:test";
import { type ImageDrain, ImageTooLarge } from "../../../src/engine/engine.ts";
import { Reason } from "../../../src/gen/layout.ts";
import { arriving, type Bench } from "../../support/engine-bench.ts";
import { membersOf, onePort, type RuleSpec, type ServerSpec } from "../../support/image-builder.ts";
import type { Ground } from "./ground.ts";

const RANGES = 500;
const RANGE_SIZE = 131;
const LAST_PORT = 65_535;

export function limits(ground: Ground): void {
  const { bench, ruleOf, tcpPacket, udpPacket, SERVERS, one } = ground;
  const ruleAt = (world: Bench, packet: Uint8Array): number => world.send(arriving(packet)).ruleId;

  test("limits: one range of all ports for UDP beside adjacent ranges for TCP, found at every boundary", () => {
    // Every fifth range is missing, so that gaps have boundaries too. DSR: no flow answers in place of the rule.
    const ranges = Array.from({ length: RANGES }, (_, index) => {
      const min = 1 + index * RANGE_SIZE;
      return { id: index + 2, min, max: index === RANGES - 1 ? LAST_PORT : min + RANGE_SIZE - 1 };
    });
    const tcp = ranges
      .filter(({ id }) => id % 5 !== 0)
      .map(({ id, min, max }): RuleSpec => ruleOf({ id, slot: id, type: "DSR", ports: { min, max }, members: one }));
    const all = ruleOf({
      id: 1,
      slot: 1,
      type: "DSR",
      protocol: "udp",
      ports: { min: 1, max: LAST_PORT },
      members: one,
    });
    const world = bench([all, ...tcp], { maxRules: RANGES + 2, maxPairs: RANGES + 2 });
    for (const { id, min, max } of ranges) {
      for (const port of [min, Math.floor((min + max) / 2), max]) {
        expect([port, ruleAt(world, tcpPacket({ destinationPort: port }))]).toEqual([port, id % 5 === 0 ? 0 : id]);
        expect([port, ruleAt(world, udpPacket({ destinationPort: port }))]).toEqual([port, 1]);
      }
    }
    expect(ruleAt(world, tcpPacket({ destinationPort: 0 }))).toBe(0);
    expect(ruleAt(world, udpPacket({ destinationPort: 0 }))).toBe(0);
  });

  ground.testWhole("limits: a thousand servers each have their turn, in two rules that share them", () => {
    const servers = Array.from({ length: 1000 }, (_, index): ServerSpec => {
      const { address } = SERVERS[0]!;
      return { ...SERVERS[0]!, id: 1000 + index, address: { ...address, value: address.value + BigInt(index) } };
    });
    const members = membersOf(servers);
    const rules = [1, 2].map((id) => ruleOf({ id, slot: id, type: "DSR", ports: onePort(id), members }));
    const world = bench(rules, { maxPairs: 2000 });
    for (const port of [1, 2]) {
      const picked = servers.map(() => world.send(arriving(tcpPacket({ destinationPort: port }))).serverId);
      expect(new Set(picked).size).toBe(1000);
      expect(picked[0]).toBe(1999);
    }
  });

  test("limits: servers drain up to twice maxPairs; with one more an image is refused, and what was in force stays", () => {
    const maxPairs = 8;
    const world = bench([ruleOf({ members: one })], { maxPairs });
    const drain = (index: number): ImageDrain => ({ ruleId: 1, serverId: 1000 + index, deadlineMs: 5_000_000 });
    const drains = (count: number): ImageDrain[] => Array.from({ length: count }, (_, index) => drain(index));
    world.publish([ruleOf({ members: one })], drains(2 * maxPairs));
    const disabled = [ruleOf({ members: one, enabled: false })];
    expect(() => world.publish(disabled, drains(2 * maxPairs + 1))).toThrow(ImageTooLarge);
    expect(world.send(arriving(tcpPacket())).reason).toBe(Reason.FlowNew);
    world.publish(disabled, drains(2 * maxPairs));
    expect(world.send(arriving(tcpPacket({ sourcePort: 40_001 }))).reason).toBe(Reason.RuleDisabled);
  });
}
