/**
 * A VIP that is the box's only address: the engine takes what is balanced, the box keeps the rest of its network life.
 */
import { describe, expect, test } from "bun:test";
import { SERVER_PORT } from "../../src/lab/lab.ts";
import { ADDRESSES, withPort } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import {
  captureAround,
  expectAllServed,
  expectNothingAnsweredTwice,
  FAMILIES,
  pingsAnswered,
  REQUEST_TIMEOUT_MS,
  startBalancing,
  TEST_TIMEOUT_MS,
  targetOf,
  withLab,
} from "../support/e2e.ts";
import { exchange, startFragmentServer } from "../support/wire.ts";

/** Three fragments in every order. */
const ORDERS = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
];
const FORGET_NEIGHBOURS = ["sh", "-c", "ip -4 neigh flush all; ip -6 neigh flush all"];

describe("a VIP that is the box's only address", () => {
  test.skipIf(!hasNamespaces).each([
    { type: "HALF-NAT", family: 4 },
    { type: "NAT", family: 4 },
    { type: "HALF-NAT", family: 6 },
    { type: "NAT", family: 6 },
  ] as const)(
    "$type over IPv$family: clients are served, and the box still pings, is pinged, connects and serves ports of its own",
    async ({ type, family }) => {
      const { localVip, clientOnLan, server } = ADDRESSES[family];
      await withLab({ topology: "one-armed", families: [family] }, async (lab) => {
        await startBalancing(lab, type, "tcp");
        const { names } = lab;
        const [atClient = []] = await captureAround(lab, [[names.client, "lan0"]], async () => {
          expectAllServed(await lab.client({ kind: "requests", ...targetOf(lab), count: 60, concurrency: 8 }), 60, 3);
          const files = { kind: "downloads", ...targetOf(lab), count: 6, concurrency: 6, bytes: 2_000_000 } as const;
          expect((await lab.client(files)).failures).toEqual([]);
        });
        expectNothingAnsweredTwice(atClient, localVip);

        // Everybody forgets everybody: neighbours must be found again while the address is guarded.
        for (const name of [names.box, names.client, ...names.servers]) await lab.must(name, FORGET_NEIGHBOURS);
        expect(await pingsAnswered(lab, names.box, server(0))).toBe(3);
        expect(await pingsAnswered(lab, names.box, clientOnLan)).toBe(3);
        expect(await pingsAnswered(lab, names.client, localVip)).toBe(3);
        expect(await pingsAnswered(lab, names.servers[1] ?? "", localVip)).toBe(3);
        expectAllServed(await lab.client({ kind: "requests", ...targetOf(lab), count: 60, concurrency: 8 }), 60, 3);

        // From the box to a balanced server port: its answers look like a server's, but belong to no flow.
        const own = {
          kind: "requests",
          host: server(1),
          port: SERVER_PORT,
          from: [],
          timeoutMs: REQUEST_TIMEOUT_MS,
        } as const;
        const fromBox = await lab.clientIn(names.box, { ...own, count: 10, concurrency: 2 });
        expect(fromBox).toMatchObject({ failures: [], answered: { s2: 10 } });

        // To a port of the box that is no rule's.
        await lab.startServerIn(names.box, "box", localVip, 9_000);
        const toBox = { kind: "requests", ...targetOf(lab), port: 9_000, count: 10, concurrency: 2 } as const;
        expect(await lab.client(toBox)).toMatchObject({ failures: [], answered: { box: 10 } });
      });
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!hasNamespaces).each(FAMILIES.map((family) => ({ family })))(
    "fragments of what is not balanced reach the box in any order, balanced ones their server, big pings are answered, over IPv$family",
    async ({ family }) => {
      const { localVip, clientOnLan, client, server } = ADDRESSES[family];
      await withLab({ topology: "one-armed", families: [family] }, async (lab) => {
        const { names } = lab;
        const [first = ""] = names.servers;
        const [ownPort, balancedPort, serverPort] = [5_301, 53, 5_353];
        await startFragmentServer(lab, names.box, "box", localVip, ownPort);
        await startFragmentServer(lab, first, "s1", server(0), serverPort);
        await lab.startDaemon();
        const created = ["server", withPort(server(0), serverPort)].join("=");
        await lab.configure("create-servergroup", "-s", created, "dns");
        const incoming = `vip=${localVip},port=${balancedPort},protocol=udp`;
        await lab.configure("create-rule", "-e", "-i", incoming, "-m", "type=HALF-NAT", "-o", "servergroup=dns", "dns");
        const cuts = ORDERS.map((order, number) => ({
          number,
          bytes: 4_000,
          order,
          answer: { bytes: 200, order: [0] },
        }));
        for (const [port, id] of [
          [ownPort, "box"],
          [balancedPort, "s1"],
        ] as const) {
          const report = await exchange(
            lab,
            { host: localVip, port },
            { address: client(0), port: 40_000 + port },
            cuts,
          );
          const answered = Object.fromEntries(cuts.map(({ number }) => [number, id]));
          expect({ port, ...report }).toEqual({ port, answered, wrong: [], missing: [] });
        }
        for (const [from, to] of [
          [names.client, localVip],
          [names.box, clientOnLan],
        ] as const) {
          const said = await lab.exec(from, ["ping", "-n", "-c", "3", "-i", "0.2", "-W", "20", "-s", "4000", to]);
          expect(said.stdout).toContain(" 3 received");
        }
      });
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!hasTun).each(FAMILIES.map((family) => ({ family })))(
    "the tun device refuses it in one line and creates nothing, over IPv$family",
    async ({ family }) => {
      const { localVip, server } = ADDRESSES[family];
      await withLab({ topology: "one-armed", families: [family] }, async (lab) => {
        await lab.startDaemon({ io: "tun" });
        await lab.configure("create-servergroup", "-s", `server=${withPort(server(0), SERVER_PORT)}`, "web");
        const incoming = `vip=${localVip},port=80,protocol=tcp`;
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
        expect(refused.stderr).toContain(localVip);
        expect((await lab.configure("show-rule")).trim()).toBe("");
      });
    },
    TEST_TIMEOUT_MS,
  );
});
