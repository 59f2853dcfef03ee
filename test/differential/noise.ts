/** Frames that have, or have nothing, to do with the configuration: strangers, ARP, other protocols, noise. */
import type { FrameIn } from "../../src/engine/engine.ts";
import type { Address } from "../../src/model/address.ts";
import { ip } from "../support/addresses.ts";
import { arpRequest, ETHERTYPE_ARP, ethernet } from "../support/packet-builder.ts";
import { BOX_MACS, clientMac, type PacketMaker, type Side } from "./packet-maker.ts";
import { CLIENT_PORT, OWN, ofFamily, PROXIES, SERVERS, VIPS } from "./world.ts";

/** Traffic between addresses that have, or have nothing, to do with us. */
export function stranger(make: PacketMaker): FrameIn {
  const random = make.random;
  const family = make.family();
  const pool = ofFamily(family, [...VIPS, ...SERVERS, ...PROXIES, ...STRANGERS]);
  const interesting = [80, 53, 443, 8080, 5003, 7003, 4096, 13724, 65535, random.between(1, 65535)];
  const side: Side = {
    source: random.of(pool),
    sourcePort: random.of(interesting),
    destination: random.of([...pool, ...ofFamily(family, OWN)]),
    destinationPort: random.of([...interesting, 2048, 3000]),
  };
  const contents = { flags: random.of(["S", "SA", "A", "R"]) };
  return make.transport(random.of(["tcp", "udp"]), side, make.payload(), contents, random.below(3), clientMac(1));
}

export function notIp(make: PacketMaker): FrameIn {
  const random = make.random;
  const destination = BOX_MACS[0]!;
  const source = clientMac(0);
  return random.weighted<FrameIn>([
    [
      1,
      () => ({
        bytes: ethernet({
          destination,
          source,
          etherType: ETHERTYPE_ARP,
          payload: arpRequest(source, ip("203.0.113.9"), VIPS[0]!),
        }),
        port: CLIENT_PORT,
      }),
    ],
    [1, () => ({ bytes: random.bytes(random.below(80)), port: random.below(3) })],
    [
      1,
      () => ({
        bytes: ethernet({ destination, source, etherType: random.of([0x86dd, 0x88cc]), payload: random.bytes(60) }),
        port: CLIENT_PORT,
      }),
    ],
  ]);
}

const STRANGERS: readonly Address[] = [
  ...["203.0.113.250", "192.0.2.99"],
  ...["2001:db8:7::250", "2001:db8:2::99", "fe80::99", "ff02::fb", "::ffff:c633:640a"],
].map(ip);
