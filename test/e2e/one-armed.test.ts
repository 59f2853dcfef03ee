/**
 * A VIP that is the box's only address: the engine takes what is balanced, the box keeps the rest of its network life.
 */
import { describe, expect, test } from "bun:test";
import { SERVER_PORT } from "../../src/lab/lab.ts";
import { CLIENT_ON_LAN, LOCAL_VIP, serverAddress } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import {
  captureAround,
  expectAllServed,
  expectNothingAnsweredTwice,
  pingsAnswered,
  REQUEST_TIMEOUT_MS,
  startBalancing,
  TEST_TIMEOUT_MS,
  targetOf,
  withLab,
} from "../support/e2e.ts";

describe("a VIP that is the box's only address", () => {
  test.skipIf(!hasNamespaces).each([{ type: "HALF-NAT" }, { type: "NAT" }] as const)(
    "$type: clients are served, and the box still pings, is pinged, connects and serves ports of its own",
    async ({ type }) => {
      await withLab({ topology: "one-armed" }, async (lab) => {
        await startBalancing(lab, type, "tcp");
        const { names } = lab;
        const [atClient = []] = await captureAround(lab, [[names.client, "lan0"]], async () => {
          expectAllServed(await lab.client({ kind: "requests", ...targetOf(lab), count: 60, concurrency: 8 }), 60, 3);
          const files = { kind: "downloads", ...targetOf(lab), count: 6, concurrency: 6, bytes: 2_000_000 } as const;
          expect((await lab.client(files)).failures).toEqual([]);
        });
        expectNothingAnsweredTwice(atClient, LOCAL_VIP);

        expect(await pingsAnswered(lab, names.box, serverAddress(0))).toBe(3);
        expect(await pingsAnswered(lab, names.box, CLIENT_ON_LAN)).toBe(3);
        expect(await pingsAnswered(lab, names.client, LOCAL_VIP)).toBe(3);
        expect(await pingsAnswered(lab, names.servers[1] ?? "", LOCAL_VIP)).toBe(3);

        // From the box to a balanced server port: its answers look like a server's, but belong to no flow.
        const own = {
          kind: "requests",
          host: serverAddress(1),
          port: SERVER_PORT,
          from: [],
          timeoutMs: REQUEST_TIMEOUT_MS,
        } as const;
        const fromBox = await lab.clientIn(names.box, { ...own, count: 10, concurrency: 2 });
        expect(fromBox).toMatchObject({ failures: [], answered: { s2: 10 } });

        // To a port of the box that is no rule's.
        await lab.startServerIn(names.box, "box", LOCAL_VIP, 9_000);
        const toBox = { kind: "requests", ...targetOf(lab), port: 9_000, count: 10, concurrency: 2 } as const;
        expect(await lab.client(toBox)).toMatchObject({ failures: [], answered: { box: 10 } });
      });
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!hasTun)(
    "the tun device refuses it in one line and creates nothing",
    async () => {
      await withLab({ topology: "one-armed" }, async (lab) => {
        await lab.startDaemon({ io: "tun" });
        await lab.configure("create-servergroup", "-s", `server=${serverAddress(0)}:${SERVER_PORT}`, "web");
        const incoming = `vip=${LOCAL_VIP},port=80,protocol=tcp`;
        const refused = await lab.ilbadm([
          "create-rule",
          "-e",
          "-i",
          incoming,
          "-m",
          "type=HALF-NAT",
          "-o",
          "servergroup=web",
          "www",
        ]);
        expect(refused.exitCode).toBe(1);
        expect(refused.stderr.trim().split("\n")).toHaveLength(1);
        expect(refused.stderr).toContain(LOCAL_VIP);
        expect((await lab.configure("show-rule")).trim()).toBe("");
      });
    },
    TEST_TIMEOUT_MS,
  );
});
