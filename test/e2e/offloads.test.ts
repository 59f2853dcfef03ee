/**
 * The settings under which wrong packets show that an ordinary veth hides: it verifies no partial checksum and takes
 * segments of any size.
 */
import { describe, expect, test } from "bun:test";
import type { LabOptions } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import {
  captureAround,
  checksumErrors,
  DEVICES,
  expectAllServed,
  labOptionsFor,
  startBalancing,
  TEST_TIMEOUT_MS,
  TYPES,
  targetOf,
  withLab,
} from "../support/e2e.ts";

const SETTINGS: readonly { readonly name: string; readonly options: Omit<LabOptions, "tag"> }[] = [
  { name: "strict reverse path filter", options: { rpFilter: 1 } },
  { name: "transmit checksum offload off on the box", options: { boxTxChecksum: false } },
  { name: "segmentation offload off everywhere", options: { tso: false } },
  { name: "segmentation and checksum offload off", options: { tso: false, boxTxChecksum: false } },
];

describe.each(DEVICES.map((io) => ({ io })))("over the $io device", ({ io }) => {
  const cases = SETTINGS.flatMap(({ name, options }) => TYPES.map((type) => ({ name, options, type })));

  test.skipIf(io === "tun" ? !hasTun : !hasNamespaces).each(cases)(
    "$type with $name: every byte arrives and no kernel meets a wrong checksum",
    async ({ type, options }) => {
      await withLab({ ...options, ...labOptionsFor(type) }, async (lab) => {
        await startBalancing(lab, type, "tcp", { io });
        const target = targetOf(lab);
        expectAllServed(await lab.client({ kind: "requests", ...target, count: 60, concurrency: 8 }), 60, 3);
        const files = { ...target, count: 6, concurrency: 3, bytes: 2_000_000 } as const;
        expect((await lab.client({ kind: "downloads", ...files })).failures).toEqual([]);
        expect((await lab.client({ kind: "uploads", ...files })).failures).toEqual([]);

        await lab.configure("disable-rule", "www");
        await lab.configure("delete-rule", "www");
        const incoming = `vip=${target.host},port=80,protocol=udp`;
        const algorithm = type === "DSR" ? "hash-ip-port" : "roundrobin";
        const proxy = type === "NAT" ? ",proxy-src=203.0.113.100" : "";
        const method = `lbalg=${algorithm},type=${type}${proxy}`;
        await lab.configure("create-rule", "-e", "-i", incoming, "-m", method, "-o", "servergroup=web", "dns");
        const echoes = await lab.client({ kind: "udp", ...target, sockets: 24, count: 72, bytes: 1_200 });
        expectAllServed(echoes, 72, 3);

        for (const namespace of [lab.names.client, lab.names.box, ...lab.names.servers]) {
          const errors = await checksumErrors(lab, namespace);
          expect({ namespace, wrong: Object.values(errors).reduce((sum, count) => sum + count, 0) }).toEqual({
            namespace,
            wrong: 0,
          });
        }
      });
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(io === "tun" ? !hasTun : !hasNamespaces).each([{ type: "NAT" }, { type: "HALF-NAT" }] as const)(
    "$type: a servers' side with a smaller MTU carries uploads and downloads, and no packet there is too big",
    async ({ type }) => {
      await withLab({ serverMtu: 1_300 }, async (lab) => {
        await startBalancing(lab, type, "tcp", { io });
        const server = lab.names.servers[0] ?? "";
        // With segmentation off on the port, frames are captured as they would go over a wire.
        await lab.must(server, ["ethtool", "-K", "eth0", "tso", "off", "gso", "off", "gro", "off"]);
        const [atServer = []] = await captureAround(lab, [[server, "eth0"]], async () => {
          const downloads = {
            kind: "downloads",
            ...targetOf(lab),
            count: 6,
            concurrency: 3,
            bytes: 1_000_000,
          } as const;
          expect((await lab.client(downloads)).failures).toEqual([]);
        });
        expect(atServer.length).toBeGreaterThan(0);
        expect(atServer.filter((packet) => packet.lengthBytes > 1_300)).toEqual([]);
      });
    },
    TEST_TIMEOUT_MS,
  );
});
