/**
 * The settings under which wrong packets show that an ordinary veth hides: it verifies no partial checksum and takes
 * segments of any size.
 */
import { describe, expect, test } from "bun:test";
import type { Family, LabOptions } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun, isFullRun } from "../support/capabilities.ts";
import {
  captureAround,
  checksumErrors,
  createRule,
  DEVICES,
  expectAllServed,
  FAMILIES,
  labOptionsFor,
  MANY_SOCKETS,
  startBalancing,
  TEST_TIMEOUT_MS,
  TYPES,
  targetOf,
  withLab,
} from "../support/e2e.ts";

interface Setting {
  readonly name: string;
  readonly options: Omit<LabOptions, "tag">;
  readonly families: readonly Family[];
}

/** What the last setting holds for both families is not told apart for each in a short run. */
const SOME = isFullRun ? FAMILIES : ([4] as const);

const SETTINGS: readonly Setting[] = [
  { name: "strict reverse path filter", options: { rpFilter: 1 }, families: [4] },
  { name: "transmit checksum offload off on the box", options: { boxTxChecksum: false }, families: SOME },
  { name: "segmentation offload off everywhere", options: { tso: false }, families: SOME },
  { name: "segmentation and checksum offload off", options: { tso: false, boxTxChecksum: false }, families: FAMILIES },
];

describe.each(DEVICES.map((io) => ({ io })))("over the $io device", ({ io }) => {
  const cases = SETTINGS.flatMap(({ name, options, families }) =>
    families.flatMap((family) => TYPES.map((type) => ({ name, options, type, family }))),
  );

  test.skipIf(io === "tun" ? !hasTun : !hasNamespaces).each(cases)(
    "$type over IPv$family with $name: every byte arrives and no kernel meets a wrong checksum",
    async ({ type, options, family }) => {
      await withLab({ ...options, ...labOptionsFor(type, family) }, async (lab) => {
        await startBalancing(lab, type, "tcp", { io });
        const target = targetOf(lab);
        expectAllServed(await lab.client({ kind: "requests", ...target, count: 60, concurrency: 8 }), 60, 3);
        const files = { ...target, count: 6, concurrency: 3, bytes: 2_000_000 } as const;
        expect((await lab.client({ kind: "downloads", ...files })).failures).toEqual([]);
        expect((await lab.client({ kind: "uploads", ...files })).failures).toEqual([]);

        await lab.configure("disable-rule", "www");
        await lab.configure("delete-rule", "www");
        await createRule(lab, type, "udp", { rule: "dns", group: "echo" });
        const echoes = await lab.client({ kind: "udp", ...target, sockets: MANY_SOCKETS, count: 120, bytes: 1_200 });
        expectAllServed(echoes, 120, 3);

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

  test.skipIf(io === "tun" ? !hasTun : !hasNamespaces).each([
    { type: "NAT", family: 4 },
    { type: "HALF-NAT", family: 4 },
    { type: "NAT", family: 6 },
    { type: "HALF-NAT", family: 6 },
  ] as const)(
    "$type over IPv$family: a servers' side with a smaller MTU carries uploads and downloads, and no packet there is too big",
    async ({ type, family }) => {
      await withLab({ serverMtu: 1_300, families: [family] }, async (lab) => {
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
