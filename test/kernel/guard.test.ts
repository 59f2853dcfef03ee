/** The guard against a real kernel: what it drops and what it lets pass, told by a user's own nft table behind it. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import fc from "fast-check";
import { interestOf } from "../../src/control/interest.ts";
import type { Interest } from "../../src/engine/engine.ts";
import { createGuard } from "../../src/kernel/guard.ts";
import type { InterestTable } from "../../src/kernel/interest-table.ts";
import type { Address } from "../../src/model/address.ts";
import { Nft, NftError } from "../../src/native/nftables.ts";
import { ip, mac } from "../support/addresses.ts";
import { hasNamespaces } from "../support/capabilities.ts";
import {
  ethernet,
  fragmentExtension,
  icmp4,
  icmp6,
  ipv4,
  ipv6,
  optionsExtension,
  PROTOCOL_ICMP,
  PROTOCOL_ICMP6,
  PROTOCOL_TCP,
  PROTOCOL_UDP,
  tcp,
  toHex,
  udp,
} from "../support/packet-builder.ts";
import { propertySeed } from "../support/random.ts";
import { Net, PEER_PROGRAM, type Peer, until } from "./support.ts";

const BOX = mac("02:00:00:00:00:0b");
const PEER = mac("02:00:00:00:00:0c");
const CLIENT = ip("198.51.100.7");
const VIP = ip("203.0.113.10");
const SERVER = ip("192.0.2.20");
const PROXY = ip("192.0.2.40");
const OWN = ip("192.0.2.1");
const PASS_MARK = 0x1b150001;

const RULE = {
  vip: VIP,
  protocol: "tcp" as const,
  ports: { min: 80, max: 90 },
  type: "NAT" as const,
  proxySource: { first: PROXY, last: PROXY },
  servers: [{ address: SERVER, ports: { min: 8080, max: 8080 } }],
};
const INTEREST = interestOf([RULE]);

describe.skipIf(!hasNamespaces)("guard", () => {
  let net: Net;
  let sender: Peer;
  let nft: Nft;
  /** Every frame carries its own IPv4 identification; the user's table behind the guard notes those that it sees. */
  let identification = 0;

  beforeAll(async () => {
    net = new Net("box", "peer");
    net.cable("box:eth0", "peer:eth0", ["02:00:00:00:00:0b", "02:00:00:00:00:0c"]);
    net.sh("box", "ip address add 192.0.2.1/24 dev eth0; ip address add 2001:db8::1/64 nodad dev eth0");
    net.sh("peer", "ip address add 192.0.2.2/24 dev eth0; ip address add 2001:db8::2/64 nodad dev eth0");
    net.sh("peer", "sysctl -qw net.ipv4.icmp_ratelimit=0");
    net.sh(
      "box",
      `nft -f - <<X
table netdev witness {
  set seen { typeof ip id; size 65535; flags dynamic; }
  set seen6 { typeof ip6 flowlabel; size 65535; flags dynamic; }
  chain late { type filter hook ingress device "eth0" priority 100; add @seen { ip id }; }
  chain late6 { type filter hook ingress device "eth0" priority 101; add @seen6 { ip6 flowlabel }; }
}
X`,
    );
    sender = net.start("peer", "python3", PEER_PROGRAM, "send", "eth0");
    nft = await net.inside("box", () => new Nft());
  });
  afterAll(async () => {
    await nft?.close();
    await net?.close();
  });

  const seenIn = (set: string): Set<number> => {
    const text = net.sh("box", `nft -j list set netdev witness ${set}`);
    const listed = (JSON.parse(text) as { nftables: { set?: { elem?: number[] } }[] }).nftables.find(
      (item) => item.set,
    )!;
    return new Set(listed.set!.elem ?? []);
  };
  const frame = (payload: Uint8Array, etherType: number, vlans: number[] = [], destination = BOX): string =>
    toHex(ethernet({ destination, source: PEER, etherType, vlans, payload }));

  /** Sends all and says for each whether it came past the guard. A last frame that always does tells that all are through. */
  async function passes(packets: readonly ((id: number) => string)[], set = "seen"): Promise<boolean[]> {
    const first = identification + 1;
    identification += packets.length + 1;
    packets.forEach((build, index) => {
      sender.say(build(first + index));
    });
    const marker = identification;
    const ends = { source: CLIENT, destination: ip("192.0.2.1") };
    sender.say(
      set === "seen"
        ? frame(ipv4({ ...ends, protocol: 253, payload: new Uint8Array(8), identification: marker }), 0x0800)
        : frame(
            ipv6({
              source: ip("2001:db8::2"),
              destination: ip("2001:db8::1"),
              nextHeader: 253,
              payload: new Uint8Array(8),
              flowLabel: marker,
            }),
            0x86dd,
          ),
    );
    const seen = await until("the last frame", () => {
      const now = seenIn(set);
      return now.has(marker) && now;
    });
    return packets.map((_, index) => seen.has(first + index));
  }

  const segment =
    (source: typeof VIP, sourcePort: number, destination: typeof VIP, destinationPort: number) => (id: number) => {
      const ends = { source, destination };
      const payload = tcp({ sourcePort, destinationPort, flags: "S" }, ends);
      return frame(ipv4({ ...ends, protocol: PROTOCOL_TCP, payload, identification: id }), 0x0800);
    };
  const datagram =
    (destination: typeof VIP, destinationPort: number, vlans: number[] = [], bytes = 0, to = BOX) =>
    (id: number) => {
      const ends = { source: CLIENT, destination };
      const payload = udp({ sourcePort: 5000, destinationPort, payload: new Uint8Array(bytes) }, ends);
      return frame(ipv4({ ...ends, protocol: PROTOCOL_UDP, payload, identification: id }), 0x0800, vlans, to);
    };
  const message = (type: number, source: typeof VIP, destination: typeof VIP) => (id: number) =>
    frame(
      ipv4({
        source,
        destination,
        protocol: PROTOCOL_ICMP,
        payload: icmp4({ type, payload: new Uint8Array(36) }),
        identification: id,
      }),
      0x0800,
    );
  const fragment = (source: typeof VIP, destination: typeof VIP, protocol: number) => (id: number) =>
    frame(
      ipv4({ source, destination, protocol, payload: new Uint8Array(24), identification: id, fragmentOffset: 10 }),
      0x0800,
    );

  /** A guard for one test. */
  async function withGuard(body: (guard: InterestTable) => Promise<void>): Promise<void> {
    const guard = await createGuard(nft, { devices: ["eth0"], passMark: PASS_MARK });
    try {
      await body(guard);
    } finally {
      await guard.remove();
    }
  }

  test("exactly the interest set is dropped", () =>
    withGuard(async (guard) => {
      await guard.apply(interestOf([RULE], [OWN]));
      const other = ip("192.0.2.99");
      const cases: [string, boolean, (id: number) => string][] = [
        ["first port of the rule", false, segment(CLIENT, 1000, VIP, 80)],
        ["last port of the rule", false, segment(CLIENT, 1000, VIP, 90)],
        ["port below", true, segment(CLIENT, 1000, VIP, 79)],
        ["port above", true, segment(CLIENT, 1000, VIP, 91)],
        ["other protocol", true, datagram(VIP, 80)],
        ["other address", true, segment(CLIENT, 1000, other, 80)],
        ["from the server's port", false, segment(SERVER, 8080, CLIENT, 1000)],
        ["from the server's port to a probe port of another", false, segment(SERVER, 8080, PROXY, 3000)],
        ["from the server's port to a probe at an address of the box", true, segment(SERVER, 8080, OWN, 3000)],
        ["from the server's port to the first probe port", true, segment(SERVER, 8080, OWN, 2048)],
        ["from the server's port to the last probe port", true, segment(SERVER, 8080, OWN, 4095)],
        ["from the server's port below the probe ports", false, segment(SERVER, 8080, OWN, 2047)],
        ["from the server's port above the probe ports", false, segment(SERVER, 8080, OWN, 4096)],
        ["from another port of the server", true, segment(SERVER, 8081, CLIENT, 1000)],
        ["from the VIP's port number at another host", true, segment(other, 8080, CLIENT, 1000)],
        ["first proxy port", false, segment(SERVER, 1, PROXY, 4096)],
        ["last proxy port", false, segment(SERVER, 1, PROXY, 65534)],
        ["below the proxy ports", true, segment(SERVER, 1, PROXY, 4095)],
        ["above the proxy ports", true, segment(SERVER, 1, PROXY, 65535)],
        ["echo request to the VIP", false, message(8, CLIENT, VIP)],
        ["echo reply to the VIP", false, message(0, CLIENT, VIP)],
        ["unreachable to the VIP", false, message(3, CLIENT, VIP)],
        ["echo request to the proxy address", true, message(8, CLIENT, PROXY)],
        ["unreachable to the proxy address", false, message(3, SERVER, PROXY)],
        ["time exceeded to the proxy address", false, message(11, SERVER, PROXY)],
        ["parameter problem to the proxy address", false, message(12, SERVER, PROXY)],
        ["echo request from the server", true, message(8, SERVER, CLIENT)],
        ["later TCP fragment to the VIP", false, fragment(CLIENT, VIP, PROTOCOL_TCP)],
        ["later UDP fragment to the VIP", false, fragment(CLIENT, VIP, PROTOCOL_UDP)],
        ["later fragment to the proxy address", false, fragment(SERVER, PROXY, PROTOCOL_TCP)],
        ["later fragment from the server", false, fragment(SERVER, CLIENT, PROTOCOL_TCP)],
        ["later fragment between others", true, fragment(CLIENT, other, PROTOCOL_TCP)],
        ["rule's port in a VLAN", true, datagram(other, 80, [7])],
      ];
      const passed = await passes(cases.map(([, , build]) => build));
      expect(cases.map(([name], index) => [name, passed[index]])).toEqual(
        cases.map(([name, expected]) => [name, expected]),
      );
    }));

  test("a frame with a VLAN tag is left alone, though its packet is in the interest set", () =>
    withGuard(async (guard) => {
      await guard.apply(interestOf([{ ...RULE, protocol: "udp" }]));
      expect(await passes([datagram(VIP, 80), datagram(VIP, 80, [7])])).toEqual([false, true]);
      const [source, destination] = [ip("2001:db8::2"), ip("2001:db8:1::10")];
      await guard.apply(interestOf([{ ...RULE, vip: destination, proxySource: null }]));
      const segment6 = (vlans: number[]) => (id: number) => {
        const payload = tcp({ sourcePort: 1, destinationPort: 80 }, { source, destination });
        return frame(ipv6({ source, destination, nextHeader: PROTOCOL_TCP, payload, flowLabel: id }), 0x86dd, vlans);
      };
      expect(await passes([segment6([]), segment6([7])], "seen6")).toEqual([false, true]);
    }));

  test("single ports and ranges come and go, of rules and of servers, and each time exactly they are dropped", () =>
    withGuard(async (guard) => {
      const ports = (min: number, max: number, serverMin: number, serverMax: number) => ({
        ...RULE,
        type: "HALF-NAT" as const,
        ports: { min, max },
        proxySource: null,
        servers: [{ address: SERVER, ports: { min: serverMin, max: serverMax } }],
      });
      const steps = [ports(80, 80, 90, 90), ports(80, 82, 90, 90), ports(81, 81, 90, 92), ports(82, 84, 92, 94)];
      for (const step of [...steps, ...steps.toReversed()]) {
        await guard.apply(interestOf([step]));
        const asked = [79, 80, 81, 82, 83, 84, 85].map((port) => segment(CLIENT, 1000, VIP, port));
        const answers = [89, 90, 91, 92, 93, 94, 95].map((port) => segment(SERVER, port, CLIENT, 1000));
        const isLetGo = ({ min, max }: { min: number; max: number }, first: number) =>
          Array.from({ length: 7 }, (_, n) => first + n < min || first + n > max);
        const expected = [...isLetGo(step.ports, 79), ...isLetGo(step.servers[0]!.ports, 89)];
        expect(await passes([...asked, ...answers])).toEqual(expected);
      }
    }));

  test("a frame to everybody's or somebody else's link address is left alone, as the engine leaves it", () =>
    withGuard(async (guard) => {
      await guard.apply(interestOf([{ ...RULE, protocol: "udp" }]));
      const at = (address: string) => datagram(VIP, 80, [], 0, mac(address));
      const frames = [at("ff:ff:ff:ff:ff:ff"), at("01:00:5e:00:00:01"), at("02:00:00:00:00:99"), datagram(VIP, 80)];
      expect(await passes(frames)).toEqual([true, true, true, false]);
    }));

  test("what is dropped reaches no socket of the box, what is outside does", () =>
    withGuard(async (guard) => {
      await guard.apply(interestOf([{ ...RULE, vip: ip("192.0.2.1"), protocol: "udp", proxySource: null }]));
      const inside = net.start("box", "python3", PEER_PROGRAM, "udp", "192.0.2.1", "80");
      const outside = net.start("box", "python3", PEER_PROGRAM, "udp", "192.0.2.1", "79");
      expect(await inside.line()).toBe("ready");
      expect(await outside.line()).toBe("ready");
      await passes([datagram(ip("192.0.2.1"), 80, [], 3), datagram(ip("192.0.2.1"), 79, [], 4)]);
      expect(await outside.line()).toStartWith("198.51.100.7 5000 4 ");
      await guard.apply(interestOf([]));
      await passes([datagram(ip("192.0.2.1"), 80, [], 5)]);
      // Had the one of three bytes come through, it would stand here.
      expect(await inside.line()).toStartWith("198.51.100.7 5000 5 ");
      await inside.kill();
      await outside.kill();
    }));

  test("ARP and neighbour discovery go on for a VIP that is the box's own address", () =>
    withGuard(async (guard) => {
      const six = interestOf([
        { ...RULE, vip: ip("2001:db8::1"), proxySource: null, servers: [{ address: ip("2001:db8::2"), ports: null }] },
      ]);
      const four = interestOf([{ ...RULE, vip: ip("192.0.2.1"), proxySource: null }]);
      const both: Interest = {
        entries: [...four.entries, ...six.entries],
        vips: [...four.vips, ...six.vips],
        servers: six.servers,
        proxies: [],
        own: [],
      };
      await guard.apply(both);
      net.sh("peer", "ip neigh flush all; ip -6 neigh flush all");
      // Echo requests to the VIP are the engine's, so nothing answers; the neighbour is found all the same.
      for (const target of ["192.0.2.1", "2001:db8::1"]) {
        net.sh("peer", `ping -c1 -W0.2 ${target} >/dev/null && exit 1 || true`);
        await until("the neighbour", () => net.sh("peer", `ip neigh show ${target}`).includes("02:00:00:00:00:0b"));
      }
    }));

  test("IPv6: ports, ICMPv6 but for 130 to 137 and 143, and later fragments", () =>
    withGuard(async (guard) => {
      const vip = ip("2001:db8:1::10");
      const proxy = ip("2001:db8:1::20");
      const source = ip("2001:db8::2");
      await guard.apply(
        interestOf([
          {
            ...RULE,
            vip,
            proxySource: { first: proxy, last: proxy },
            servers: [{ address: source, ports: { min: 8080, max: 8080 } }],
          },
        ]),
      );
      const packet =
        (
          destination: typeof vip,
          nextHeader: number,
          payload: Uint8Array,
          extensions = [] as ReturnType<typeof fragmentExtension>[],
        ) =>
        (id: number) =>
          frame(ipv6({ source, destination, nextHeader, payload, flowLabel: id, extensions }), 0x86dd);
      const port = (destination: typeof vip, destinationPort: number, sourcePort = 1) =>
        packet(destination, PROTOCOL_TCP, tcp({ sourcePort, destinationPort }, { source, destination }));
      const type = (destination: typeof vip, number: number) =>
        packet(
          destination,
          PROTOCOL_ICMP6,
          icmp6({ type: number, payload: new Uint8Array(16) }, { source, destination }),
        );
      const later = (destination: typeof vip) =>
        packet(destination, PROTOCOL_UDP, new Uint8Array(16), [fragmentExtension(10, false, 9)]);
      const ours = [
        port(vip, 80),
        port(ip("2001:db8::9"), 5, 8080),
        port(proxy, 4096),
        type(vip, 128),
        type(vip, 129),
        type(vip, 138),
        type(vip, 142),
        type(proxy, 1),
        type(proxy, 2),
        later(vip),
        later(proxy),
        later(ip("2001:db8::9")),
      ];
      const kernels = [
        port(vip, 79),
        port(proxy, 4095),
        type(proxy, 128),
        ...[130, 131, 132, 133, 134, 135, 136, 137, 143].map((number) => type(vip, number)),
      ];
      expect(await passes(ours, "seen6")).toEqual(ours.map(() => false));
      expect(await passes(kernels, "seen6")).toEqual(kernels.map(() => true));
    }));

  test("errors about packets to servers, to whatever address, by the destination that they quote", () =>
    withGuard(async (guard) => {
      const server6 = ip("2001:db8:2::20");
      const client6 = ip("2001:db8:9::7");
      await guard.apply(
        interestOf([
          { ...RULE, type: "HALF-NAT", proxySource: null },
          {
            ...RULE,
            type: "HALF-NAT",
            vip: ip("2001:db8:1::10"),
            proxySource: null,
            servers: [{ address: server6, ports: null }],
          },
        ]),
      );
      const other = ip("192.0.2.99");
      const options = new Uint8Array(8).fill(1);
      const quote = (destination: Address, with8 = false) =>
        ipv4({
          source: CLIENT,
          destination,
          protocol: PROTOCOL_TCP,
          payload: new Uint8Array(8),
          ...(with8 ? { options } : {}),
        });
      const error4 =
        (type: number, payload: Uint8Array, outer = {}, bytes = payload.length) =>
        (id: number) => {
          const message = icmp4({ type, payload: payload.subarray(0, bytes) });
          const fields = { source: other, destination: CLIENT, protocol: PROTOCOL_ICMP, identification: id };
          return frame(ipv4({ ...fields, payload: message, ...outer }), 0x0800);
        };
      const ours = [3, 11, 12].map((type) => error4(type, quote(SERVER)));
      const optioned = [error4(3, quote(SERVER), { options }), error4(3, quote(SERVER, true))];
      const kernels = [error4(3, quote(other)), error4(5, quote(SERVER)), error4(0, quote(SERVER))];
      const cut = [error4(3, quote(SERVER), {}, 20), error4(3, quote(SERVER), {}, 19)];
      expect(await passes([...ours, ...optioned, ...kernels, ...cut])).toEqual([
        ...[false, false, false, false, false],
        ...[true, true, true],
        ...[false, true],
      ]);
      const quote6 = (destination: Address) =>
        ipv6({ source: client6, destination, nextHeader: PROTOCOL_TCP, payload: new Uint8Array(8) });
      const error6 =
        (type: number, destination: Address, extensions = [] as ReturnType<typeof fragmentExtension>[], bytes = 48) =>
        (id: number) => {
          const ends = { source: ip("2001:db8::2"), destination: client6 };
          const payload = icmp6({ type, payload: quote6(destination).subarray(0, bytes) }, ends);
          return frame(ipv6({ ...ends, nextHeader: PROTOCOL_ICMP6, payload, flowLabel: id, extensions }), 0x86dd);
        };
      const hopByHop = optionsExtension(0);
      const ours6 = [1, 2, 3, 4].map((type) => error6(type, server6));
      const behind = [error6(2, server6, [hopByHop]), error6(2, server6, [], 40)];
      const kernels6 = [error6(2, ip("2001:db8:2::21")), error6(128, server6), error6(2, server6, [], 39)];
      expect(await passes([...ours6, ...behind, ...kernels6], "seen6")).toEqual([
        ...[false, false, false, false, false, false],
        ...[true, true, true],
      ]);
    }));

  test("seeded random rules and packets: the kernel drops exactly what the interest set holds", () =>
    withGuard(async (guard) => {
      const seed = propertySeed();
      console.log(`seed ${seed} (repeat with ILB_SEED)`);
      const hosts = ["192.0.2.9", "192.0.2.20", "198.51.100.7", "203.0.113.10", "203.0.113.11"].map(ip);
      const host = fc.constantFrom(...hosts);
      const port = fc.integer({ min: 1, max: 12 });
      const range = fc.tuple(port, port).map(([a, b]) => ({ min: Math.min(a, b), max: Math.max(a, b) }));
      const rule = fc.record({
        vip: host,
        protocol: fc.constantFrom("tcp" as const, "udp" as const),
        ports: range,
        type: fc.constantFrom("DSR" as const, "HALF-NAT" as const, "NAT" as const),
        proxySource: fc.option(host.map((first) => ({ first, last: first }))),
        servers: fc.array(fc.record({ address: host, ports: fc.option(range) }), { maxLength: 2 }),
      });
      const interests = fc.sample(fc.array(rule, { maxLength: 5 }).map(interestOf), { seed, numRuns: 12 });
      const packet = fc.record({
        source: host,
        destination: host,
        sourcePort: port,
        destinationPort: port,
        kind: fc.constantFrom("tcp", "udp", "echo", "error", "later"),
      });
      for (const [round, interest] of interests.entries()) {
        await guard.apply(interest);
        const packets = fc.sample(packet, { seed: seed + round, numRuns: 60 });
        const passed = await passes(
          packets.map(({ source, destination, sourcePort, destinationPort, kind }) => {
            if (kind === "tcp") return segment(source, sourcePort, destination, destinationPort);
            if (kind === "later") return fragment(source, destination, PROTOCOL_UDP);
            if (kind !== "udp") return message(kind === "echo" ? 8 : 3, source, destination);
            return (id: number) => {
              const payload = udp({ sourcePort, destinationPort }, { source, destination });
              return frame(ipv4({ source, destination, protocol: PROTOCOL_UDP, payload, identification: id }), 0x0800);
            };
          }),
        );
        const holds = (list: readonly Address[], address: Address) => list.some((one) => one.value === address.value);
        const wanted = packets.map(({ source, destination, sourcePort, destinationPort, kind }) => {
          if (kind === "later")
            return (
              holds(interest.vips, destination) ||
              holds(interest.proxies, destination) ||
              holds(interest.servers, source)
            );
          if (kind === "echo") return holds(interest.vips, destination);
          if (kind === "error") return holds(interest.vips, destination) || holds(interest.proxies, destination);
          return interest.entries.some(({ match, address, protocol, ports }) => {
            const [end, number] = match === "destination" ? [destination, destinationPort] : [source, sourcePort];
            return protocol === kind && address.value === end.value && ports.min <= number && number <= ports.max;
          });
        });
        expect(passed.map((came, index) => ({ ...packets[index], came }))).toEqual(
          packets.map((one, index) => ({ ...one, came: !wanted[index] })),
        );
      }
    }));

  test("widen adds only, narrow removes only, at any order of overlapping ranges", () =>
    withGuard(async (guard) => {
      const rule = (min: number, max: number) => interestOf([{ ...RULE, ports: { min, max }, proxySource: null }]);
      const probe = async (...ports: number[]) => await passes(ports.map((port) => segment(CLIENT, 1, VIP, port)));
      await guard.widen(rule(100, 200));
      await guard.widen(rule(150, 300));
      expect(await probe(99, 100, 200, 201, 300, 301)).toEqual([true, false, false, false, false, true]);
      await guard.narrow(rule(150, 300));
      expect(await probe(149, 150, 200, 201, 300)).toEqual([true, false, false, false, false]);
      await guard.apply(rule(190, 210));
      expect(await probe(189, 190, 210, 211)).toEqual([true, false, false, true]);
      await guard.apply(interestOf([]));
      expect(await probe(190, 210)).toEqual([true, true]);
    }));

  test("a change that nftables refuses changes nothing, and the next one works", () =>
    withGuard(async (guard) => {
      await guard.apply(INTEREST);
      const broken = { ...RULE, ports: { min: 9, max: 70000 } };
      const refused = guard.apply(interestOf([RULE, broken]));
      await expect(refused).rejects.toThrow(NftError);
      await expect(refused).rejects.toThrow(
        /^cannot change the guard \(nft table netdev ilb\): nftables says "[^\n]+"$/,
      );
      expect(await passes([segment(CLIENT, 1, VIP, 80), segment(CLIENT, 1, VIP, 79)])).toEqual([false, true]);
      await guard.apply(interestOf([{ ...RULE, ports: { min: 79, max: 79 } }]));
      expect(await passes([segment(CLIENT, 1, VIP, 80), segment(CLIENT, 1, VIP, 79)])).toEqual([true, false]);
    }));

  test("a thousand rules come and go, a few at a time and all at once", () =>
    withGuard(async (guard) => {
      const rules = Array.from({ length: 1000 }, (_, index) => ({
        ...RULE,
        proxySource: null,
        ports: { min: 10 * index + 1, max: 10 * index + 5 },
      }));
      await guard.apply(interestOf(rules));
      expect(await passes([segment(CLIENT, 1, VIP, 9995), segment(CLIENT, 1, VIP, 9996)])).toEqual([false, true]);
      await guard.apply(interestOf(rules.slice(0, 990)));
      expect(await passes([segment(CLIENT, 1, VIP, 9995), segment(CLIENT, 1, VIP, 5)])).toEqual([true, false]);
      await guard.apply(interestOf(rules.slice(990)));
      expect(await passes([segment(CLIENT, 1, VIP, 9995), segment(CLIENT, 1, VIP, 5)])).toEqual([false, true]);
    }));

  test("a frame with the pass mark is let through", () =>
    withGuard(async (guard) => {
      await guard.apply(INTEREST);
      // The mark survives the cable only inside one namespace.
      net.sh(
        "box",
        "ip link add pa0 type veth peer name pb0; ip link set pb0 address 02:00:00:00:00:0b; ip link set pa0 up; ip link set pb0 up",
      );
      const marked = await createGuard(nft, { devices: ["pb0"], passMark: PASS_MARK, tableName: "ilb2" });
      await marked.apply(INTEREST);
      net.sh(
        "box",
        `nft add chain netdev witness pass "{ type filter hook ingress device pb0 priority 100; }"; nft add rule netdev witness pass add @seen "{ ip id }"`,
      );
      const id = 60001;
      const hex = segment(CLIENT, 1, VIP, 80);
      const send = (mark: number, number: number) =>
        net.sh(
          "box",
          `python3 -c "import socket as s; o=s.socket(17,3,0); o.setsockopt(1,36,${mark}); o.bind((\\"pa0\\",0)); o.send(bytes.fromhex(\\"${hex(number)}\\"))"`,
        );
      send(0, id);
      send(PASS_MARK, id + 1);
      await until("the marked frame", () => seenIn("seen").has(id + 1));
      expect(seenIn("seen").has(id)).toBe(false);
      await marked.remove();
    }));

  test("another daemon in the same network namespace is told so", () =>
    withGuard(async () => {
      const second = await net.inside("box", () => new Nft());
      const refused = createGuard(second, { devices: ["eth0"], passMark: PASS_MARK });
      await expect(refused).rejects.toThrow(/another ilbd in this network namespace owns it/);
      await second.close();
    }));

  test("the table vanishes with its handle and nobody else can empty it", async () => {
    const own = await net.inside("box", () => new Nft());
    const guard = await createGuard(own, { devices: ["eth0"], passMark: PASS_MARK });
    await guard.apply(INTEREST);
    expect(() => net.sh("box", "nft delete table netdev ilb")).toThrow(/not permitted/);
    expect(net.sh("box", "nft list tables")).toContain("table netdev ilb\n");
    await own.close();
    expect(net.sh("box", "nft list tables")).toBe("table netdev witness\n");
  });
});
