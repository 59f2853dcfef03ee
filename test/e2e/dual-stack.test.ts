/**
 * One daemon with a rule of each family: both are served at the same time, to ordinary programs too, and the box's own
 * neighbours are found again while its traffic is guarded.
 */
import { describe, expect, test } from "bun:test";
import { ADDRESSES } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import {
  createRule6,
  DEVICES,
  expectAllServed,
  labOptionsFor,
  pingsAnswered,
  startBalancing,
  TEST_TIMEOUT_MS,
  targetOf,
  vipOf,
  withLab,
} from "../support/e2e.ts";

describe.each(DEVICES.map((io) => ({ io })))("over the $io device", ({ io }) => {
  test.skipIf(io === "tun" ? !hasTun : !hasNamespaces).each([{ type: "HALF-NAT" }, { type: "NAT" }] as const)(
    "$type rules of both families: downloads at the same time, curl -4 and -6, ping to both VIPs",
    async ({ type }) => {
      await withLab({ ...labOptionsFor(type, 4, 6), boxTxChecksum: false }, async (lab) => {
        const { names } = lab;
        await startBalancing(lab, type, "tcp", { io });
        await createRule6(lab, type, "tcp");
        const plans = [ADDRESSES[4], ADDRESSES[6]];
        const results = await Promise.all(
          plans.map((plan) =>
            lab.client({ kind: "downloads", ...targetOf(lab, plan), count: 6, concurrency: 3, bytes: 1_000_000 }),
          ),
        );
        for (const result of results) expectAllServed(result, 6, 3);
        for (const plan of plans) {
          const vip = vipOf(lab, plan);
          const url = plan.family === 6 ? `http://[${vip}]/` : `http://${vip}/`;
          const said = await lab.must(names.client, ["curl", "-s", `-${plan.family}`, "--max-time", "60", url]);
          expect(said).toMatch(/^s[123]\n$/);
          expect(await pingsAnswered(lab, names.client, vip)).toBe(3);
        }
      });
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(io === "tun" ? !hasTun : !hasNamespaces)(
    "neighbours of the box that are forgotten are found again, and traffic goes on",
    async () => {
      await withLab({ families: [6] }, async (lab) => {
        const { names, addresses } = lab;
        await startBalancing(lab, "NAT", "tcp", { io });
        const requests = { kind: "requests", ...targetOf(lab), count: 30, concurrency: 4 } as const;
        expectAllServed(await lab.client(requests), 30, 3);
        for (const name of [names.client, names.box, ...names.servers])
          await lab.must(name, ["sh", "-c", "ip -6 neigh flush all"]);
        expect(await pingsAnswered(lab, names.client, addresses.boxFront)).toBe(3);
        expect(await pingsAnswered(lab, names.servers[0] ?? "", addresses.boxBack)).toBe(3);
        expectAllServed(await lab.client(requests), 30, 3);
        expect(await lab.must(names.box, ["ip", "-6", "neigh", "show", addresses.server(0)])).toContain("lladdr");
      });
    },
    TEST_TIMEOUT_MS,
  );
});
