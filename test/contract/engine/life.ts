/** Engine contract: rules and servers that come, go and drain under traffic, and groups that share an address. */
import { expect, test } from "bun:test";
import { Reason } from "../../../src/gen/layout.ts";
import { arriving, type Bench } from "../../support/engine-bench.ts";
import { type MemberSpec, membersOf, onePort, type RuleSpec } from "../../support/image-builder.ts";
import { type Ground, isOpen, reasonOf } from "./ground.ts";

export function life(ground: Ground): void {
  const { bench, ruleOf, tcpPacket, udpPacket, established, one, SERVERS } = ground;
  const disabled = (members: readonly MemberSpec[]): MemberSpec[] =>
    members.map((member) => ({ ...member, enabledSequence: null }));
  const nextOf = (world: Bench, destinationPort: number, sourcePort: number): number =>
    world.send(arriving(tcpPacket({ destinationPort, sourcePort }))).serverId;

  test("ILB-250 rules whose groups share an address each use their own group; servers are disabled independently", () => {
    const [first, second] = SERVERS;
    const web = { ...second!, id: 201 };
    const ftp = { ...first!, id: 301 };
    const shared = { ...first!, id: 200 };
    const websg = membersOf([shared, web]);
    const ftpgroup = membersOf([ftp]);
    const rules = (www: readonly MemberSpec[], files: readonly MemberSpec[]): RuleSpec[] => [
      ruleOf({ id: 1, slot: 0, type: "DSR", ports: onePort(80), members: www }),
      ruleOf({ id: 2, slot: 1, type: "DSR", ports: onePort(21), members: files }),
      ruleOf({ id: 3, slot: 2, type: "DSR", ports: onePort(20), members: files }),
    ];
    const world = bench(rules(websg, ftpgroup));
    const served = (port: number): Set<number> => new Set([1, 2, 3, 4].map((i) => nextOf(world, port, 40_000 + i)));
    expect([80, 21, 20].map((port) => [...served(port)].sort())).toEqual([[200, 201], [301], [301]]);
    world.publish(rules([websg[0]!, ...disabled(websg.slice(1))], ftpgroup));
    expect([80, 21, 20].map((port) => [...served(port)])).toEqual([[200], [301], [301]]);
    world.publish(rules(websg, disabled(ftpgroup)));
    expect([...served(80)].sort()).toEqual([200, 201]);
    for (const destinationPort of [21, 20]) {
      expect(world.send(arriving(tcpPacket({ destinationPort }))).reason).toBe(Reason.NoServer);
    }
  });

  test.each(["removed", "disabled", "gone with its rule"] as const)(
    "ILB-258 conn-drain=30: flows under traffic of a server that is %s end between 30 and 45 s later",
    (how) => {
      for (const type of ["HALF-NAT", "NAT"] as const) {
        const rule = ruleOf({ type, members: one });
        const world = bench([rule]);
        established(world);
        const drains = [{ ruleId: 1, serverId: 101, deadlineMs: world.nowMs + 30_000 }];
        const after = {
          removed: [{ ...rule, members: [] }],
          disabled: [{ ...rule, members: disabled(one) }],
          "gone with its rule": [],
        };
        world.publish(after[how], drains, [rule]);
        const data = (): number =>
          world.send(arriving(tcpPacket({ flags: "PA", sequence: 101, acknowledgement: 501 }))).reason;
        for (let second = 0; second < 29; second++) {
          world.wait(1_000);
          expect(data()).toBe(Reason.FlowFound);
        }
        for (let second = 29; second < 45; second++) {
          world.wait(1_000);
          if (isOpen(world)) data();
        }
        expect(isOpen(world)).toBe(false);
      }
    },
  );

  test("ILB-259 conn-drain=0: a disabled server's busy UDP flow goes on, an idle one goes after nat-timeout and 15 s", () => {
    const rule = ruleOf({ type: "NAT", protocol: "udp", ports: onePort(53), natTimeoutMs: 20_000, members: one });
    const world = bench([rule]);
    const busy = () => world.send(arriving(udpPacket()));
    busy();
    world.send(arriving(udpPacket({ sourcePort: 40_001 })));
    world.publish([{ ...rule, members: disabled(one) }]);
    for (let i = 0; i < 4; i++) {
      world.wait(9_000);
      expect(busy().reason).toBe(Reason.FlowFound);
    }
    expect(world.engine.flows().map(({ clientPort }) => clientPort)).toEqual([40_000]);
    // A new one finds nobody.
    expect(world.send(arriving(udpPacket({ sourcePort: 40_002 }))).reason).toBe(Reason.NoServer);
    world.wait(35_001);
    expect(isOpen(world)).toBe(false);
  });

  test("ILB-260 a server whose entries are gone is removed and comes back under the same address: new flows reach it", () => {
    const rule = ruleOf({ type: "NAT", members: one });
    const world = bench([rule]);
    established(world);
    world.publish([{ ...rule, members: disabled(one) }]);
    expect(reasonOf(world.send(arriving(tcpPacket({ sourcePort: 41_000 }))))[1]).toBe(Reason.NoServer);
    world.wait(135_001);
    expect(world.engine.flows()).toEqual([]);
    world.publish([{ ...rule, members: [] }], [], [rule]);
    const again = { ...SERVERS[0]!, id: 777 };
    world.publish([{ ...rule, members: membersOf([again]) }]);
    const outcome = world.send(arriving(tcpPacket({ sourcePort: 41_001 })));
    expect([outcome.reason, outcome.serverId]).toEqual([Reason.FlowNew, 777]);
    expect(world.engine.flows().map(({ server }) => server)).toEqual([again.address]);
  });
}
