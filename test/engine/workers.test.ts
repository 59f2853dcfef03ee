/**
 * Several workers on one memory (decision record 0017): whoever receives a frame, the one that owns it decides. Two
 * workers unless a case says otherwise; `receiver` is the worker that the next frame arrives at.
 */
import { describe, expect, test } from "bun:test";
import type { FrameIn, FrameOut, Outcome } from "../../src/engine/engine.ts";
import { explain } from "../../src/engine/explain.ts";
import { workerOfClient } from "../../src/engine/owner.ts";
import { FlowHeader, HASH_KEY_WORDS, Reason, RING_ENTRIES, Verdict } from "../../src/gen/layout.ts";
import type { Address } from "../../src/model/address.ts";
import { Ground, MORE_FLOWS_THAN_PORTS, ruleCounters } from "../contract/engine/ground.ts";
import { CONTRACT_LIMITS } from "../contract/engine-contract.ts";
import { answerTo, arriving, type Bench, onlyPacket, SERVER_SIDE } from "../support/engine-bench.ts";
import { imageOf, membersOf, onePort } from "../support/image-builder.ts";
import { fragmentIpv4, fragmentIpv6, PROTOCOL_UDP, udp } from "../support/packet-builder.ts";
import { decodeEthernet, decodeIp } from "../support/packet-decoder.ts";
import { Random, seedFromEnvironment } from "../support/random.ts";
import { WorkerGroup } from "../support/worker-group.ts";

const groupOf = (world: Bench): WorkerGroup => world.engine as WorkerGroup;

/** A frame arrives at a worker. */
function sendTo(world: Bench, worker: number, frame: FrameIn): Outcome {
  groupOf(world).receiver = worker;
  return world.send(frame);
}

/** Flows in the table of each worker. */
function flowsOf(group: WorkerGroup): number[] {
  const words = new Uint32Array(group.host.memory.buffer);
  return group.host.map.workers.map(({ flowMemory }) => words[(flowMemory + FlowHeader.flowsLive) >>> 2]!);
}

/** Every packet that came has one reason, none has two. */
function expectAllCounted(world: Bench, received: number): void {
  const { packetsIn, reasons } = world.engine.counters();
  expect(packetsIn).toBe(BigInt(received));
  expect(reasons.reduce((sum, count) => sum + count, 0n)).toBe(packetsIn);
}

describe.each([4, 6] as const)("two workers, IPv%i", (family) => {
  const groundOf = (workers: number) =>
    new Ground(
      family,
      (limits, compat) => new WorkerGroup({ limits: { ...CONTRACT_LIMITS, ...limits }, compat, workers }),
      false,
    );
  const ground = groundOf(2);
  const { ip, mask, bench, benchIlb, ruleOf, tcpPacket, udpPacket, icmpPacket, server, tooBig, numbers } = ground;
  const { VIP, CLIENT, PROXY, ROUTER, SERVERS, one } = ground;
  const dns = (changes: Parameters<typeof ruleOf>[0] = {}) =>
    ruleOf({ protocol: "udp", ports: onePort(53), members: one, ...changes });
  /** What a client sends by UDP to the rule of `dns`. */
  const endsOf = (source: Address, sourcePort: number) => ({
    source,
    sourcePort,
    destination: VIP,
    destinationPort: 53,
  });
  /** Every client alone: its flows have one worker. */
  const alone = { stickyMask: mask(32) };
  /** A client of the first worker, as rules see it that are sticky for every client alone. */
  const clientOf = (world: Bench): Address =>
    Array.from({ length: 64 }, (_, i) => ip(`203.0.113.${i + 2}`)).find(
      (client) => groupOf(world).host.workerOf(endsOf(client, 1024), alone.stickyMask) === 0,
    )!;

  test.each(["HALF-NAT", "NAT"] as const)(
    "a %s flow is found in both directions, whoever receives its packets",
    (type) => {
      const world = bench([ruleOf({ type })]);
      let received = 0;
      const send = (worker: number, frame: FrameIn): Outcome => {
        received++;
        return sendTo(world, worker, frame);
      };
      for (let i = 0; i < 60; i++) {
        const from = ip(`203.0.113.${i + 2}`);
        const frame = arriving(tcpPacket({ from, sequence: 1 }));
        const opened = send(i % 2, frame);
        expect([opened.reason, opened.flow]).toEqual([Reason.FlowNew, "new"]);
        const request = onlyPacket(opened);
        for (const worker of [0, 1]) {
          const answer = send(worker, arriving(answerTo(request), SERVER_SIDE));
          expect([answer.reason, answer.direction]).toEqual([Reason.FlowFound, "server-to-client"]);
          expect(onlyPacket(answer).destination).toEqual(from);
          const again = send(worker, arriving(tcpPacket({ from, flags: "A", sequence: 2 })));
          expect([again.reason, server(onlyPacket(again))]).toEqual([Reason.FlowFound, server(request)]);
        }
      }
      const group = groupOf(world);
      expect(group.flows().length).toBe(60);
      for (const flows of flowsOf(group)) expect(flows).toBeGreaterThan(10);
      const { handedOver } = group.host.health();
      expect(handedOver).toBeGreaterThan(100n);
      // A listing goes on where it stopped, from one worker's table into the next.
      const listed = [...group.host.flowsFrom(0)];
      for (const stop of [1, 20, 59])
        expect([...group.host.flowsFrom(listed[stop - 1]!.place + 1)]).toEqual(listed.slice(stop));
      expectAllCounted(world, received);
    },
  );

  test("ILB-191 clients of one sticky prefix share a server and an entry, whoever receives their packets", () => {
    const world = bench([
      ruleOf({ stickyMask: mask(24) }),
      ruleOf({ id: 2, slot: 1, ports: onePort(81), type: "DSR", stickyMask: mask(24) }),
    ]);
    for (const [port, ruleId] of [
      [80, 1],
      [81, 2],
    ] as const) {
      const servers = Array.from({ length: 60 }, (_, i) =>
        sendTo(world, i % 2, arriving(tcpPacket({ from: ip(`203.0.113.${i + 2}`), destinationPort: port }))),
      );
      expect(new Set(servers.map(({ serverId }) => serverId)).size).toBe(1);
      expect(world.engine.sticky().filter((entry) => entry.ruleId === ruleId).length).toBe(1);
    }
  });

  test("ILB-191 a client that is sticky alone stays with its server, whoever receives its packets", () => {
    const world = bench([ruleOf({ stickyMask: mask(32) })]);
    for (let client = 2; client < 40; client++) {
      const servers = [0, 1, 1, 0].map((worker, i) =>
        sendTo(world, worker, arriving(tcpPacket({ from: ip(`203.0.113.${client}`), sourcePort: 40000 + i }))),
      );
      expect(new Set(servers.map(({ serverId }) => serverId)).size).toBe(1);
    }
    expect(world.engine.sticky().length).toBe(38);
  });

  /** What the connections of one client open, one after the other, by the worker that each belongs to. */
  function byWorker<T>(world: Bench, count: number, what: (opened: Outcome) => T): T[][] {
    const seen: T[][] = [[], []];
    for (let i = 0; seen.some((own) => own.length < count); i++) {
      const ports = { sourcePort: 40_000 + i, destinationPort: 80 };
      const owner = groupOf(world).host.workerOf({ source: CLIENT, destination: VIP, ...ports }, null);
      seen[owner]!.push(what(sendTo(world, i % 2, arriving(tcpPacket(ports)))));
    }
    return seen.map((own) => own.slice(0, count));
  }

  test("ILB-179 ILB-180 ILB-296 connections of one client are divided, and each worker takes all turns with its own", () => {
    const members = membersOf(SERVERS).map((member, i) => (i === 1 ? { ...member, enabledSequence: null } : member));
    const serverOf = ({ serverId }: Outcome): number => serverId;
    const [all, some] = [bench([ruleOf()]), bench([ruleOf({ members })])];
    expect(byWorker(all, 4, serverOf)).toEqual([0, 1].map(() => [103, 102, 101, 103]));
    expect(byWorker(some, 4, serverOf)).toEqual([0, 1].map(() => [103, 101, 103, 101]));
    const counts = [101, 102, 103].map((id) => all.engine.flows().filter(({ serverId }) => serverId === id).length);
    expect(Math.max(...counts) - Math.min(...counts)).toBeLessThanOrEqual(2);
  });

  test("each worker rotates through the proxy addresses with its own connections, beginning with the second", () => {
    const proxySource = { first: ip("203.0.113.1"), last: ip("203.0.113.3") };
    const world = bench([ruleOf({ type: "NAT", proxySource, members: one })]);
    const used = byWorker(world, 4, (opened) => onlyPacket(opened).source);
    const turns = ["203.0.113.2", "203.0.113.3", "203.0.113.1", "203.0.113.2"].map(ip);
    expect(used).toEqual([turns, turns]);
  });

  test("ILB-195 ILB-196 port exhaustion: each worker gives every port of its half once; when one half is used up the other goes on", () => {
    const world = bench([dns({ type: "NAT" })], { maxFlows: MORE_FLOWS_THAN_PORTS });
    const all = [2, 3].flatMap((client) =>
      Array.from({ length: 60_000 }, (_, i) => endsOf(ip(`203.0.113.${client}`), 1024 + i)),
    );
    /** Flows that are not yet there, of each worker. */
    const flows = [0, 1].map((worker) => all.filter((ends) => groupOf(world).host.workerOf(ends, null) === worker));
    const open = (worker: number): number => {
      const { source, sourcePort } = flows[worker]!.pop()!;
      return world.send(arriving(udpPacket({ from: source, sourcePort, checksum: "none" }))).reason;
    };
    /** How many of the worker's flows find a port. */
    const openAll = (worker: number): number =>
      Array.from({ length: 30_720 }, () => open(worker)).filter((reason) => reason === Reason.FlowNew).length;
    expect(openAll(0)).toBe(30_719);
    expect(open(0)).toBe(Reason.NoPort);
    expect(ruleCounters(world)).toMatchObject({ packetsNoPort: 2n, packetsDropped: 2n });
    expect(openAll(1)).toBe(30_719);
    expect(open(1)).toBe(Reason.NoPort);
    const ports = new Set(world.engine.flows().map(({ sourcePort }) => sourcePort));
    expect([ports.size, Math.min(...ports), Math.max(...ports), ports.has(13_724)]).toEqual([
      61_438,
      4096,
      65_534,
      false,
    ]);
    world.wait(76_000);
    expect([open(0), open(1)]).toEqual([Reason.FlowNew, Reason.FlowNew]);
  }, 60_000);

  // ---- fragments ----

  const PAYLOAD = Uint8Array.from({ length: 1000 }, (_, i) => i * 3);
  const fragmentsOf = (from: Address, to: Address, sourcePort: number, destinationPort: number, id: number) => {
    const ends = { source: from, destination: to };
    const datagram = udp({ sourcePort, destinationPort, payload: PAYLOAD }, ends);
    return family === 4
      ? fragmentIpv4({ ...ends, protocol: PROTOCOL_UDP, payload: datagram, identification: id }, 420)
      : fragmentIpv6({ ...ends, nextHeader: PROTOCOL_UDP, payload: datagram }, id, 448);
  };
  /** Offsets and addresses of what left, in order. */
  const left = (outcomes: readonly Outcome[]) =>
    outcomes.flatMap(({ out }) => out.map(({ bytes }) => decodeIp(decodeEthernet(bytes).payload)));
  /** The three fragments arrive at these workers. */
  const DEALS = [0, 1, 2, 3, 4, 5, 6, 7].map((bits) => [bits & 1, (bits >> 1) & 1, bits >> 2]);

  describe.each(["DSR", "HALF-NAT", "NAT"] as const)("fragments of %s", (type) => {
    test.each([
      ["in order", [0, 1, 2]],
      ["the first one last", [2, 1, 0]],
      ["the first one in the middle", [1, 0, 2]],
    ] as const)("%s, whoever receives which, go one way in one order and are counted once", (_, order) => {
      const world = bench([dns({ type, members: ruleOf().members })]);
      let received = 0;
      for (const [i, deal] of DEALS.entries()) {
        const from = ip(`203.0.113.${i + 2}`);
        const parts = fragmentsOf(from, VIP, 40000, 53, 100 + i);
        const outcomes = order.map((part, turn) => sendTo(world, deal[turn]!, arriving(parts[part]!)));
        received += 3;
        const packets = left(outcomes);
        const turnOfFirst = (order as readonly number[]).indexOf(0);
        expect(packets.map(({ fragmentOffset }) => fragmentOffset)).toEqual(
          order[0] === 2 ? [0, 800, 400] : [0, 400, 800],
        );
        expect(new Set(packets.map((packet) => `${packet.source.value} ${packet.destination.value}`)).size).toBe(1);
        expect(packets[0]!.destination).toEqual(
          type === "DSR" ? VIP : SERVERS.find(({ id }) => id === outcomes[turnOfFirst]!.serverId)!.address,
        );
        if (type !== "DSR") {
          // And back again, in another order.
          const request = packets[0]!;
          const sourcePort = world.engine.flows().find(({ client }) => client.value === from.value)!.sourcePort;
          const back = fragmentsOf(request.destination, request.source, 53, sourcePort, 200 + i);
          const answers = [1, 0, 2].map((part, turn) => sendTo(world, deal[turn]!, arriving(back[part]!, SERVER_SIDE)));
          received += 3;
          const returned = left(answers);
          expect(
            returned.map(({ fragmentOffset, source, destination }) => [fragmentOffset, source, destination]),
          ).toEqual([
            [0, VIP, from],
            [400, VIP, from],
            [800, VIP, from],
          ]);
        }
      }
      expectAllCounted(world, received);
      const { fragmentsIn, fragmentsDropped } = world.engine.counters();
      expect([fragmentsIn, fragmentsDropped]).toEqual([24n, 0n]);
    });
  });

  test("the counters of a removed server never fall, while it drains and when it comes back", () => {
    const [member] = one;
    const world = bench([dns()]);
    const ports = [0, 1].map((worker) =>
      [...Array(64).keys()].find((port) => groupOf(world).host.workerOf(endsOf(CLIENT, 2000 + port), null) === worker),
    );
    const say = (worker: number): Outcome =>
      sendTo(world, worker, arriving(udpPacket({ sourcePort: 2000 + ports[worker]! })));
    let [packets, bytes] = [0n, 0n];
    /** What users are shown of the server in the rule. */
    const look = (): void => {
      const pair = world.engine.counters().pairs.find(({ serverId }) => serverId === member!.server.id);
      expect(pair?.packets ?? 0n).toBeGreaterThanOrEqual(packets);
      expect(pair?.bytes ?? 0n).toBeGreaterThanOrEqual(bytes);
      [packets, bytes] = [pair!.packets, pair!.bytes];
    };
    for (let i = 0; i < 10; i++) for (const worker of [0, 1]) say(worker);
    look();
    expect(packets).toBe(20n);
    world.publish([dns({ members: [] })], [], [dns()]);
    // The flow of worker 0 idles out, that of worker 1 goes on.
    for (let i = 0; i < 5; i++) {
      world.wait(30_000);
      look();
      expect(say(1).flow).toBe("found");
      look();
    }
    expect(flowsOf(groupOf(world))).toEqual([0, 1]);
    expect(packets).toBe(25n);
    world.publish([dns()]);
    expect(say(0).flow).toBe("new");
    look();
    expect(packets).toBe(26n);
  });

  test("fragments whose first one never comes are given up by whoever holds them", () => {
    const world = bench([dns()]);
    const [, second, third] = fragmentsOf(CLIENT, VIP, 40000, 53, 9) as [Uint8Array, Uint8Array, Uint8Array];
    expect(sendTo(world, 0, arriving(second)).reason).toBe(Reason.FragmentHeld);
    expect(sendTo(world, 1, arriving(third)).reason).toBe(Reason.FragmentHeld);
    world.wait(1000);
    expect(world.engine.counters()).toMatchObject({ fragmentsIn: 2n, fragmentsDropped: 2n });
    expectAllCounted(world, 2);
  });

  test("fragments of a datagram that is dropped are given up, also those that were held by another worker", () => {
    const nobody = one.map((member) => ({ ...member, enabledSequence: null }));
    for (let id = 1; id < 9; id++) {
      const world = bench([dns({ members: nobody })]);
      const [first, second] = fragmentsOf(CLIENT, VIP, 40000, 53, id) as [Uint8Array, Uint8Array, Uint8Array];
      expect(sendTo(world, id & 1, arriving(second)).reason).toBe(Reason.FragmentHeld);
      expect(sendTo(world, (id >> 1) & 1, arriving(first)).reason).toBe(Reason.NoServer);
      expect(world.engine.counters()).toMatchObject({ fragmentsIn: 2n, fragmentsDropped: 2n });
    }
  });

  test("--compat ilb decides about fragments where they arrive", () => {
    const world = benchIlb([dns()]);
    for (const worker of [0, 1])
      for (const part of fragmentsOf(CLIENT, VIP, 40000, 53, 5))
        expect(sendTo(world, worker, arriving(part)).reason).toBe(
          family === 4 ? Reason.FragmentToVip : Reason.ExtensionHeader,
        );
    expect(groupOf(world).host.health().handedOver).toBe(0n);
  });

  // ---- ICMP ----

  test.each(["HALF-NAT", "NAT"] as const)(
    "an ICMP error about a %s flow is translated, whoever receives it",
    (type) => {
      const world = bench([ruleOf({ type, members: one })]);
      const opened = sendTo(world, 0, arriving(tcpPacket({ payload: new Uint8Array(100) })));
      for (const worker of [0, 1]) {
        const outcome = sendTo(world, worker, arriving(tooBig()));
        expect([outcome.reason, server(onlyPacket(outcome))]).toEqual([Reason.TooBigTranslated, "192.0.2.10"]);
        if (type === "HALF-NAT") continue;
        const [code, kind] = [numbers.timeExceeded[1], numbers.timeExceeded[0]];
        const quoted = decodeEthernet(opened.out[0]!.bytes).payload;
        const error = icmpPacket({ type: kind, code, payload: quoted }, { from: ROUTER, to: PROXY });
        const back = sendTo(world, worker, arriving(error, SERVER_SIDE));
        expect([back.reason, onlyPacket(back).destination]).toEqual([Reason.IcmpErrorTranslated, CLIENT]);
      }
      expect(ruleCounters(world).icmpTooBigProcessed).toBe(2n);
    },
  );

  test("an ICMP error about a sticky DSR connection goes to the server of the client's entry, whoever receives it", () => {
    const world = bench([ruleOf({ type: "DSR", stickyMask: mask(32) })]);
    const { serverId } = sendTo(world, 1, arriving(tcpPacket()));
    for (const worker of [0, 1]) {
      const outcome = sendTo(world, worker, arriving(tooBig()));
      expect([outcome.reason, outcome.serverId]).toEqual([Reason.TooBigTranslated, serverId]);
    }
  });

  test("echo requests, and DSR packets of rules that are not sticky, are decided where they arrive", () => {
    const world = bench([ruleOf({ type: "DSR", algorithm: "hash-ip" })]);
    const echo = icmpPacket({ type: numbers.echo, code: 0, rest: 1, payload: new Uint8Array(8) });
    for (const worker of [0, 1]) {
      expect(sendTo(world, worker, arriving(echo)).reason).toBe(Reason.EchoAnswered);
      expect(sendTo(world, worker, arriving(tcpPacket())).reason).toBe(Reason.DsrSent);
    }
    expect(groupOf(world).host.health().handedOver).toBe(0n);
  });

  // ---- rings ----

  test("a full ring drops and counts what does not fit, and nothing else is lost", () => {
    const world = bench([dns(alone)]);
    const group = groupOf(world);
    const client = clientOf(world);
    const frames = RING_ENTRIES + 100;
    const reasons = Array.from(
      { length: frames },
      (_, i) => group.receive(1, [arriving(udpPacket({ from: client, sourcePort: 1024 + i }))], world.nowMs)[0]!,
    );
    expect(reasons.filter(({ reason }) => reason === Reason.HandOverFull).length).toBe(100);
    expect(reasons.slice(RING_ENTRIES).every(({ verdict }) => verdict === Verdict.Drop)).toBe(true);
    const taken: Outcome[] = [];
    for (let batch = group.take(0, world.nowMs); batch.length > 0; batch = group.take(0, world.nowMs))
      taken.push(...batch);
    expect(taken.length).toBe(RING_ENTRIES);
    expect(taken.every(({ reason }) => reason === Reason.FlowNew)).toBe(true);
    // In the order in which they came.
    expect(taken.map(({ out }) => decodeIp(decodeEthernet(out[0]!.bytes).payload).udp!.sourcePort)).toEqual(
      Array.from({ length: RING_ENTRIES }, (_, i) => 1024 + i),
    );
    expectAllCounted(world, frames);
    expect(group.receive(1, [arriving(udpPacket({ from: client, sourcePort: 999 }))], world.nowMs)[0]!.reason).not.toBe(
      Reason.HandOverFull,
    );
  });

  test("the longest frames go round the ring many times without a byte changed", () => {
    const world = bench([dns({ ports: { min: 1, max: 65535 }, ...alone })]);
    const group = groupOf(world);
    const client = clientOf(world);
    const seed = seedFromEnvironment(20_170);
    console.log(`ring seed ${seed}`);
    const random = new Random(seed);
    for (const nextHop of SERVERS.keys())
      group.setNextHop(nextHop, {
        state: "resolved",
        port: SERVER_SIDE,
        destinationMac: new Uint8Array(6),
        sourceMac: new Uint8Array(6),
        mtu: 65_535,
      });
    const waiting: Uint8Array[] = [];
    const left = { frames: 0 };
    const takeOne = (): void => {
      for (const { out } of group.take(0, world.nowMs)) {
        const payload = waiting.shift()!;
        const frame = out[0]!.bytes;
        expect(Bun.hash(frame.subarray(frame.length - payload.length))).toBe(Bun.hash(payload));
        left.frames++;
      }
    };
    let given = 0;
    let full = 0;
    while (given < 600) {
      if (random.chance(0.005)) takeOne();
      const payload = new Uint8Array(random.chance(0.7) ? random.between(40_000, 65_000) : random.below(1400)).fill(
        given,
      );
      const frame = arriving(udpPacket({ from: client, payload, checksum: "none" }));
      const { reason } = group.receive(1, [frame], world.nowMs)[0]!;
      if (reason === Reason.HandOverFull) full++;
      else waiting.push(payload);
      given++;
    }
    while (waiting.length > 0) takeOne();
    expect(left.frames + full).toBe(600);
    expect(full).toBeGreaterThan(0);
    expect(full).toBeLessThan(400);
  });

  test("a worker that sleeps is found so once by whoever gives it something, and does not sleep on what it has", () => {
    const world = bench([dns(alone)]);
    const group = groupOf(world);
    const client = clientOf(world);
    const [owner, other] = group.workers as [(typeof group.workers)[0], (typeof group.workers)[0]];
    const give = (): void => void group.receive(1, [arriving(udpPacket({ from: client }))], world.nowMs);
    expect(owner.announceSleep()).toBe(true);
    give();
    give();
    expect([other.takeWakes(), other.takeWakes()]).toEqual([1, 0]);
    owner.endSleep();
    expect(owner.announceSleep()).toBe(false);
    give();
    expect(other.takeWakes()).toBe(0);
    while (group.take(0, world.nowMs).length > 0);
    expect([owner.hasHandedOver(), owner.announceSleep()]).toEqual([false, true]);
  });

  test("neighbouring clients are spread over the workers, whatever the secret key", () => {
    const seed = seedFromEnvironment(51);
    console.log(`key seed ${seed}`);
    const random = new Random(seed);
    for (let round = 0; round < 300; round++) {
      const key = Uint32Array.from({ length: HASH_KEY_WORDS }, () => random.next());
      const owners = Array.from({ length: 32 }, (_, i) =>
        workerOfClient(key, 2, ip(`203.0.113.${i + 10}`), family === 4 ? 32 : 128),
      );
      const ofFirst = owners.filter((owner) => owner === 0).length;
      expect([seed, round, ofFirst > 2 && ofFirst < 30]).toEqual([seed, round, true]);
    }
  });

  // ---- the plain twin ----

  test("explain tells what the worker of the client is going to do: its turn, its entry, its place in the proxy range", () => {
    const seed = seedFromEnvironment(41);
    console.log(`explain seed ${seed}`);
    const random = new Random(seed);
    const proxySource = { first: ip("203.0.113.1"), last: ip("203.0.113.4") };
    const rules = [
      ruleOf({ type: "NAT", proxySource }),
      ruleOf({ id: 2, slot: 1, ports: onePort(81), type: "NAT", proxySource, stickyMask: mask(29) }),
    ];
    const world = bench(rules);
    const image = imageOf(9, rules);
    for (let i = 0; i < 200; i++) {
      const from = ip(`203.0.113.${random.between(20, 250)}`);
      const ends = { source: from, sourcePort: 40_000 + i, destination: VIP, destinationPort: random.of([80, 81]) };
      const told = explain(image, groupOf(world).host.live(), { protocol: "tcp", ...ends });
      const outcome = sendTo(world, i % 2, arriving(tcpPacket({ from, ...ends })));
      expect([told.reason, told.serverId, told.leaving?.source]).toEqual([
        "flow-new",
        outcome.serverId,
        onlyPacket(outcome).source,
      ]);
      const again = explain(image, groupOf(world).host.live(), { protocol: "tcp", ...ends });
      expect([again.reason, again.serverId]).toEqual(["flow-found", outcome.serverId]);
    }
  });

  test("the host knows the worker of every client", () => {
    const seed = seedFromEnvironment(31);
    console.log(`owner seed ${seed}`);
    const random = new Random(seed);
    for (const workers of [2, 3, 7]) {
      const world = groundOf(workers).bench([
        ruleOf(),
        ruleOf({ id: 2, slot: 1, ports: onePort(81), stickyMask: mask(20) }),
      ]);
      for (let i = 0; i < 100; i++) {
        const value = ip("11.0.0.0").value + BigInt(random.below(2 ** 28));
        const from: Address = { family, value };
        const isSticky = random.chance(0.5);
        const before = flowsOf(groupOf(world));
        const ports = { sourcePort: random.between(1, 65_535), destinationPort: isSticky ? 81 : 80 };
        sendTo(world, random.below(workers), arriving(tcpPacket({ from, ...ports })));
        const after = flowsOf(groupOf(world));
        const ends = { source: from, destination: VIP, ...ports };
        const expected = groupOf(world).host.workerOf(ends, isSticky ? mask(20) : null);
        expect(after.map((count, worker) => count - before[worker]!)).toEqual(
          after.map((_, worker) => (worker === expected ? 1 : 0)),
        );
      }
    }
  });
});

/** What left of each connection and direction, in order. */
type Streams = Map<string, string[]>;

function note(streams: Streams, frames: readonly FrameOut[]): void {
  for (const { bytes, port } of frames) {
    const packet = decodeIp(decodeEthernet(bytes).payload);
    const key = `${port} ${packet.source.value} ${packet.udp!.sourcePort} ${packet.destination.value} ${packet.udp!.destinationPort}`;
    streams.set(key, [...(streams.get(key) ?? []), Bun.hash(bytes).toString(16)]);
  }
}

test.each([2, 3, 5])(
  "%i workers at their own pace forward what one worker does, each connection in its order",
  (workers) => {
    const seed = seedFromEnvironment(5_000 + workers);
    console.log(`pace seed ${seed}`);
    const random = new Random(seed);
    const ground = new Ground(
      4,
      (limits, compat) => new WorkerGroup({ limits: { ...CONTRACT_LIMITS, ...limits }, compat, workers }),
      false,
    );
    const single = new Ground(
      4,
      (limits, compat) => new WorkerGroup({ limits: { ...CONTRACT_LIMITS, ...limits }, compat, workers: 1 }),
    );
    const rule = ground.ruleOf({ protocol: "udp", ports: onePort(53), algorithm: "hash-ip-port" });
    const world = ground.bench([rule]);
    const group = groupOf(world);
    const model = single.bench([rule]);
    const [expected, found]: [Streams, Streams] = [new Map(), new Map()];
    let received = 0;
    for (let step = 0; step < 3000; step++) {
      if (random.chance(0.4)) {
        note(
          found,
          group.take(random.below(workers), world.nowMs).flatMap(({ out }) => out),
        );
        continue;
      }
      // A connection's packets in one direction arrive at one worker, as a device deals them out.
      const count = random.between(1, 20);
      const batches = new Map<number, FrameIn[]>();
      for (let i = 0; i < count; i++) {
        const client = random.below(40);
        const frame = arriving(
          ground.udpPacket({ from: ground.ip(`203.0.113.${client + 2}`), payload: random.bytes(random.below(40)) }),
        );
        const worker = (client * 7) % workers;
        batches.set(worker, [...(batches.get(worker) ?? []), frame]);
        note(expected, model.engine.process([frame], model.nowMs)[0]!.out);
        received++;
      }
      for (const [worker, frames] of batches)
        note(
          found,
          group.receive(worker, frames, world.nowMs).flatMap(({ out }) => out),
        );
    }
    for (let empty = 0; empty < workers * workers; ) {
      const outcomes = group.take(empty % workers, world.nowMs);
      empty = outcomes.length > 0 ? 0 : empty + 1;
      note(
        found,
        outcomes.flatMap(({ out }) => out),
      );
    }
    expect([...found].sort()).toEqual([...expected].sort());
    expectAllCounted(world, received);
  },
);
