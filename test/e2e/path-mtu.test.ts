/**
 * Links that are too narrow for full packets, where neither end can see it: path MTU discovery through the box, byte for
 * byte and segment by segment. veth takes segmentation super-packets of any segment size, so success alone shows
 * nothing; what the server captures behind ports without offloads does.
 */
import { describe, expect, test } from "bun:test";
import type { Lab } from "../../src/lab/lab.ts";
import { ADDRESSES, type AddressPlan, type LinkName } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun, isFullRun } from "../support/capabilities.ts";
import type { SeenPacket } from "../support/capture.ts";
import {
  captureAround,
  checksumErrors,
  createRule,
  FAMILIES,
  labOptionsFor,
  serverPortOf,
  sharedLab,
  startBalancing,
  TEST_TIMEOUT_MS,
  targetOf,
  vipOf,
  withLab,
} from "../support/e2e.ts";

/** Two transfers at a time, each some hundred segments. */
const TRANSFERS = { count: 4, concurrency: 2, bytes: 1_000_000 } as const;

const KINDS = ["uploads", "downloads"] as const;

async function transfer(
  lab: Lab,
  addresses: AddressPlan,
  count: number = TRANSFERS.count,
  kinds: readonly (typeof KINDS)[number][] = KINDS,
): Promise<void> {
  for (const kind of kinds) {
    const result = await lab.client({ kind, ...targetOf(lab, addresses), ...TRANSFERS, count });
    expect({ kind, failures: result.failures }).toEqual({ kind, failures: [] });
  }
}

/** What the kernel has learnt about the path to an address, in bytes; null when nothing. */
async function learntMtu(lab: Lab, namespace: string, address: string): Promise<number | null> {
  const mtu = /\bmtu (\d+)/.exec(await lab.must(namespace, ["ip", "route", "get", address]))?.[1];
  return mtu === undefined ? null : Number(mtu);
}

function largest(packets: readonly SeenPacket[]): number {
  return Math.max(...packets.map((packet) => packet.lengthBytes));
}

/** Whose ICMP errors tell the ends of this narrow link, for packets towards the server and towards the client. */
interface NarrowLink {
  readonly link: LinkName;
  readonly mtu: number;
  readonly uploads: string;
  readonly downloads: string;
}

const NARROW: readonly NarrowLink[] = [
  { link: "far", mtu: 1_280, uploads: "the box", downloads: "the far router past the box" },
  { link: "near", mtu: 1_400, uploads: "the near router past the box", downloads: "the box" },
  { link: "client", mtu: 1_400, uploads: "nobody", downloads: "the near router, translated" },
  { link: "servers", mtu: 1_280, uploads: "the far router, translated", downloads: "nobody" },
];

/** Full runs have everything; otherwise each type has one family, and segmentation offload, which hides most. */
const CASES = NARROW.flatMap((narrow) =>
  (["NAT", "HALF-NAT"] as const).flatMap((type) =>
    (isFullRun ? [true, false] : [true]).map((tso) => ({
      ...narrow,
      type,
      tso,
      gso: tso ? "with" : "without",
      families: isFullRun ? FAMILIES : type === "NAT" ? ([6] as const) : ([4] as const),
    })),
  ),
);

describe.each(CASES)("$type $gso GSO, link '$link' narrow", (one) => {
  const { link, mtu, type, tso, families, uploads, downloads } = one;
  const options = { ...labOptionsFor(type, ...families), servers: 1, clientAddresses: 1, tso };
  const narrow = { topology: "routed", linkMtu: { [link]: mtu } } as const;
  const shared = sharedLab(hasNamespaces, { ...options, ...narrow }, async (lab) => {
    await lab.startServers(serverPortOf(type));
    await lab.startDaemon();
    for (const family of families) {
      const addresses = ADDRESSES[family];
      const proxySource = addresses.proxySources.split("-")[0] ?? "";
      await createRule(lab, type, "tcp", { addresses, proxySource, rule: `www${family}`, group: `web${family}` });
    }
  });

  test.skipIf(!hasNamespaces).each(families.map((family) => ({ family })))(
    `IPv$family: told by ${uploads} (uploads) and ${downloads} (downloads), both ends send segments of ${mtu} bytes, every byte arrives`,
    async ({ family }) => {
      const lab = shared();
      const addresses = ADDRESSES[family];
      const { client } = lab.names;
      const [server = ""] = lab.names.servers;
      const vip = vipOf(lab, addresses);
      await transfer(lab, addresses, 1);
      const peer = type === "NAT" ? (addresses.proxySources.split("-")[0] ?? "") : addresses.client(0);
      if (uploads !== "nobody") expect(await learntMtu(lab, client, vip)).toBe(mtu);
      if (downloads !== "nobody") expect(await learntMtu(lab, server, peer)).toBe(mtu);

      const ends = [[server, "eth0"] as const, [client, "eth0"] as const];
      const [atServer = [], atClient = []] = await captureAround(lab, ends, () => transfer(lab, addresses));
      expect(largest(atServer.filter((packet) => packet.destination === addresses.server(0)))).toBe(mtu);
      expect(largest(atClient.filter((packet) => packet.source === vip))).toBe(mtu);
      // Without offloads what an end sends is captured as it goes over the wire, too.
      if (!tso) {
        expect(largest(atServer)).toBe(mtu);
        expect(largest(atClient)).toBe(mtu);
      }
      for (const namespace of [client, server]) {
        const wrong = Object.entries(await checksumErrors(lab, namespace)).filter(([, count]) => count > 0);
        expect({ namespace, wrong }).toEqual({ namespace, wrong: [] });
      }
    },
    TEST_TIMEOUT_MS,
  );
});

test.skipIf(!hasNamespaces).each(FAMILIES.map((family) => ({ family })))(
  "DSR, IPv$family, narrow link behind the box: it tells the client, uploads arrive in segments of 1280 bytes, every byte arrives",
  async ({ family }) => {
    await withLab({ ...labOptionsFor("DSR", family), servers: 1, clientAddresses: 1 }, async (lab) => {
      const [server = ""] = lab.names.servers;
      const { client, box, lan } = lab.names;
      await lab.must(box, ["ip", "link", "set", "back", "mtu", "1280"]);
      await lab.must(lan, ["ip", "link", "set", "to-box", "mtu", "1280"]);
      await lab.must(lan, ["ethtool", "-K", "to-s1", "tso", "off", "gso", "off"]);
      await lab.must(server, ["ethtool", "-K", "eth0", "gro", "off", "tso", "off", "gso", "off"]);
      await startBalancing(lab, "DSR", "tcp");
      await transfer(lab, lab.addresses, 1);
      expect(await learntMtu(lab, client, vipOf(lab))).toBe(1_280);
      const [atServer = []] = await captureAround(lab, [[server, "eth0"]], () => transfer(lab, lab.addresses));
      expect(largest(atServer.filter((packet) => packet.destination === vipOf(lab)))).toBe(1_280);
    });
  },
  TEST_TIMEOUT_MS,
);

test.skipIf(!hasTun).each(isFullRun ? (["HALF-NAT", "NAT"] as const) : (["HALF-NAT"] as const))(
  "%s over the tun device: links of the box that become narrow are told to client and server, whatever the family",
  async (type) => {
    await withLab({ ...labOptionsFor(type, ...FAMILIES), servers: 1, clientAddresses: 1 }, async (lab) => {
      const [server = ""] = lab.names.servers;
      const { client, box } = lab.names;
      await startBalancing(lab, type, "tcp", { io: "tun" });
      await createRule(lab, type, "tcp", { addresses: ADDRESSES[6], rule: "www6", group: "web6" });
      const plans = FAMILIES.map((family) => ADDRESSES[family]);
      for (const addresses of plans) await transfer(lab, addresses, 1);

      // The far end of a narrow link keeps its MTU, or it would announce small segments and nobody had to be told; so
      // only the direction out of the box can carry full segments then.
      await lab.must(box, ["ip", "link", "set", "back", "mtu", "1400"]);
      for (const addresses of plans) {
        await transfer(lab, addresses, 1, ["uploads"]);
        expect(await learntMtu(lab, client, vipOf(lab, addresses))).toBe(1_400);
      }
      await lab.must(box, ["ip", "link", "set", "back", "mtu", "1500"]);
      await lab.must(box, ["ip", "link", "set", "front", "mtu", "1300"]);
      for (const addresses of plans) {
        await transfer(lab, addresses, 1, ["downloads"]);
        const peer = type === "NAT" ? (addresses.proxySources.split("-")[0] ?? "") : addresses.client(0);
        expect(await learntMtu(lab, server, peer)).toBe(1_300);
      }
    });
  },
  TEST_TIMEOUT_MS,
);
