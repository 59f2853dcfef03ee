/** The way of the interest set into a TUN and out of it again, with a plain TUN program in the engine's place. */
import { afterAll, beforeAll, describe, expect, test } from "bun:test";
import { interestOf } from "../../src/control/interest.ts";
import { addressRefusal } from "../../src/kernel/tun-routing.ts";
import { ip, mac } from "../support/addresses.ts";
import { hasTun } from "../support/capabilities.ts";
import { ethernet, fromHex, ipv4, PROTOCOL_TCP, tcp, toHex } from "../support/packet-builder.ts";
import { type Net, PEER_PROGRAM, type Peer, until } from "./support.ts";
import { routeThroughTun, type TunRoute, tunNet } from "./tun-ground.ts";

const CLIENT = ip("192.0.2.2");
const VIP = ip("203.0.113.10");
const SERVER = ip("198.51.100.2");
describe.skipIf(!hasTun)("tun routing", () => {
  let net: Net;
  let engine: Peer;
  let client: Peer;
  let atServer: Peer;
  let atClient: Peer;
  let route: TunRoute;
  let before: string;

  beforeAll(async () => {
    net = tunNet();
    net.sh("box", "ip address add 192.0.2.1/24 dev eth0; ip address add 198.51.100.1/24 dev eth1");
    net.sh("client", "ip address add 192.0.2.2/24 dev eth0; ip route add default via 192.0.2.1");
    net.sh("server", "ip address add 198.51.100.2/24 dev eth0; ip route add default via 198.51.100.1");
    // Of the user's own; it must still stand at the end.
    net.sh(
      "box",
      "nft 'add table inet user; add chain inet user c'; ip rule add fwmark 5 lookup 55; ip route add 203.0.113.0/24 dev eth1 table 55",
    );
    before = net.traces("box");
    client = net.start("client", "python3", PEER_PROGRAM, "send", "eth0");
    route = await routeThroughTun(net, 4, { vip: VIP, server: SERVER });
    ({ engine, atServer, atClient } = route);
  });
  afterAll(async () => {
    await route?.close();
    await net?.close();
  });

  const segment = (
    source: typeof VIP,
    sourcePort: number,
    destination: typeof VIP,
    destinationPort: number,
    identification = 1,
    flags = "A",
  ) => {
    const ends = { source, destination };
    return ipv4({
      ...ends,
      protocol: PROTOCOL_TCP,
      identification,
      payload: tcp({ sourcePort, destinationPort, flags }, ends),
    });
  };
  const fromClient = (packet: Uint8Array) =>
    client.say(
      toHex(
        ethernet({
          destination: mac("02:00:00:00:00:0b"),
          source: mac("02:00:00:00:00:0c"),
          etherType: 0x0800,
          payload: packet,
        }),
      ),
    );
  /** The next IPv4 packet that a sniffer has seen. */
  const nextPacket = async (sniffer: Peer): Promise<string> => {
    for (;;) {
      const frame = fromHex(await sniffer.line());
      if (frame[12] === 8 && frame[13] === 0) return toHex(frame.subarray(14));
    }
  };
  /** Ends of a packet in text, and its TTL. */
  const seen = (hex: string) => {
    const bytes = fromHex(hex);
    const at = (offset: number) => bytes.subarray(offset, offset + 4).join(".");
    return { from: at(12), to: at(16), port: bytes[22]! * 256 + bytes[23]!, ttl: bytes[8] };
  };

  const settings = [0, 1, 2].flatMap((all) => [0, 1].map((validMark) => ({ all, validMark })));
  test.each(settings)(
    "rp_filter $all, src_valid_mark $validMark: into the TUN, out to the server and back",
    async ({ all, validMark }) => {
      net.sh("box", `sysctl -qw net.ipv4.conf.all.rp_filter=${all} net.ipv4.conf.all.src_valid_mark=${validMark}`);
      fromClient(segment(CLIENT, 1000, VIP, 80));
      expect(seen(await engine.line())).toEqual({ from: "192.0.2.2", to: "203.0.113.10", port: 80, ttl: 63 });
      // HALF-NAT: the engine gives it back with the server's address; the client's stays.
      engine.say(toHex(segment(CLIENT, 1000, SERVER, 8080)));
      expect(seen(await nextPacket(atServer))).toEqual({ from: "192.0.2.2", to: "198.51.100.2", port: 8080, ttl: 63 });
      // The server's kernel answers with a reset from the port: that is the engine's again.
      expect(seen(await engine.line())).toMatchObject({ from: "198.51.100.2", to: "192.0.2.2", port: 1000 });
      // The engine gives the client an answer of the VIP, to which this box has no route.
      expect(() => net.sh("box", "ip route get 203.0.113.10")).toThrow(/unreachable/);
      engine.say(toHex(segment(VIP, 80, CLIENT, 1000, 1, "R")));
      expect(seen(await nextPacket(atClient))).toEqual({ from: "203.0.113.10", to: "192.0.2.2", port: 1000, ttl: 63 });
    },
  );

  test("what comes out of the TUN is not sent into it again", async () => {
    // A reply with the server's own address and port is in the interest set, were it not for where it comes from.
    engine.say(toHex(segment(SERVER, 8080, CLIENT, 4711)));
    expect(seen(await nextPacket(atClient))).toMatchObject({ from: "198.51.100.2", port: 4711 });
  });

  test("a box that was no router forwards nothing but what is balanced", async () => {
    const dropped = () =>
      Number(/nfproto ipv4.* counter packets (\d+) /.exec(net.sh("box", "nft list chain inet ilb forward"))?.[1]);
    const earlier = dropped();
    fromClient(segment(CLIENT, 1000, SERVER, 22));
    fromClient(segment(CLIENT, 1000, VIP, 80));
    await engine.line();
    expect(dropped()).toBe(earlier + 1);
  });

  test("traffic of the box itself is not marked", () => {
    expect(net.sh("box", "ping -c1 -W20 198.51.100.2")).toContain("1 received");
    expect(net.sh("client", "ping -c1 -W20 192.0.2.1")).toContain("1 received");
  });

  test("the way into the TUN is as narrow as the narrowest device, and goes on being so when IPv6 is switched off", async () => {
    const mtuOf = (family: 4 | 6) => /mtu lock (\d+)/.exec(net.sh("box", `ip -${family} route show table 2822`))?.[1];
    expect([mtuOf(4), mtuOf(6)]).toEqual(["1500", "1500"]);
    net.sh("box", "ip link set eth1 mtu 1400");
    await until("the routes are narrow", () => mtuOf(4) === "1400" && mtuOf(6) === "1400");
    net.sh("box", "sysctl -qw net.ipv6.conf.ilb0.disable_ipv6=1; ip link set eth0 mtu 1300");
    await until("the IPv4 route is narrower", () => mtuOf(4) === "1300");
    await until("the log says what became of IPv6", () =>
      route.log.lines.some((line) => line.startsWith("the MTU of ilb0 cannot follow that of the devices, 1300 bytes:")),
    );
    net.sh("box", "ip link set eth0 mtu 1500; ip link set eth1 mtu 1500");
    await until("the IPv4 route is wide again", () => mtuOf(4) === "1500");
    const refused = "the MTU of ilb0 cannot follow that of the devices, 1500 bytes:";
    await until("the log says so again", () => route.log.lines.at(-1)?.startsWith(refused));
    route.log.lines.length = 0;
  });

  test("narrowing gives the kernel its packets back", async () => {
    /** Packets that the box had no route for, as they have when nothing sends them into the TUN. */
    const unrouted = (): number => {
      const [names, values] = net.sh("box", "grep ^IpExt: /proc/net/netstat").trim().split("\n");
      return Number(values!.split(" ")[names!.split(" ").indexOf("InNoRoutes")]);
    };
    await route.routing.narrow(interestOf([]));
    const earlier = unrouted();
    fromClient(segment(CLIENT, 1000, VIP, 80, 77));
    await until("the kernel has looked for a route", () => unrouted() > earlier);
    await route.routing.widen(route.interest);
    fromClient(segment(CLIENT, 1001, VIP, 80, 78));
    const packet = fromHex(await engine.line());
    expect(packet[4]! * 256 + packet[5]!).toBe(78);
  });

  test("after removal everything is as before, what the user had included", async () => {
    net.sh("box", "sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.all.src_valid_mark=0");
    await route.routing.remove();
    await net.inside("box", () => route.changes.undoAll());
    await engine.kill();
    expect(route.log.lines).toEqual([]);
    expect(net.traces("box")).toBe(before);
  });
});

describe("tun device and addresses of the box", () => {
  const isLocal = (address: typeof VIP) => address.value === VIP.value;

  test("a VIP of the box is refused by name", () => {
    expect(addressRefusal([{ address: VIP, what: "virtual IP address" }], isLocal)).toBe(
      "virtual IP address 203.0.113.10 is an address of this box, which --io tun cannot serve; remove it from the interface or use --io packet",
    );
  });
  test("other addresses are not", () => {
    expect(addressRefusal([{ address: SERVER, what: "virtual IP address" }], isLocal)).toBeNull();
    expect(addressRefusal([{ address: ip("2001:db8::1"), what: "virtual IP address" }], isLocal)).toBeNull();
  });
  test("one of IPv6 is where the kernel has no IPv6", () => {
    const addresses = [{ address: ip("2001:db8::1"), what: "virtual IP address" }];
    expect(addressRefusal(addresses, isLocal, false)).toBe(
      "virtual IP address 2001:db8::1: this kernel has IPv6 switched off, so --io tun cannot carry it; boot without ipv6.disable=1 or use --io packet",
    );
  });
});
