/**
 * Traffic of the servers that nobody balances goes on being routed by the box, also where addresses and ports look
 * like balanced traffic.
 */
import { describe, expect, test } from "bun:test";
import { SERVER_PORT } from "../../src/lab/lab.ts";
import { ADDRESSES } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import {
  DEVICES,
  pingsAnswered,
  REQUEST_TIMEOUT_MS,
  startBalancing,
  TEST_TIMEOUT_MS,
  targetOf,
  withLab,
} from "../support/e2e.ts";

describe.each(DEVICES.map((io) => ({ io })))("over the $io device", ({ io }) => {
  test.skipIf(io === "tun" ? !hasTun : !hasNamespaces).each([
    { family: 4, rpFilter: 0 },
    { family: 4, rpFilter: 1 },
    { family: 6, rpFilter: 0 },
  ] as const)(
    "IPv$family servers are reached directly and reach out themselves, past the rule (rp_filter $rpFilter)",
    async ({ family, rpFilter }) => {
      const { client, server } = ADDRESSES[family];
      await withLab({ rpFilter, families: [family] }, async (lab) => {
        await startBalancing(lab, "HALF-NAT", "tcp", { io });
        const balanced = await lab.client({ kind: "requests", ...targetOf(lab), count: 30, concurrency: 4 });
        expect(balanced.failures).toEqual([]);

        // The very port of the server group: answers come from (server, port) and belong to no flow of ours.
        const base = { kind: "requests", from: [], timeoutMs: REQUEST_TIMEOUT_MS, count: 12, concurrency: 3 } as const;
        const direct = await lab.client({ ...base, host: server(2), port: SERVER_PORT });
        expect(direct).toMatchObject({ failures: [], answered: { s3: 12 } });

        await lab.startServerIn(lab.names.servers[0] ?? "", "other", server(0), 9_000);
        const otherPort = await lab.client({ ...base, host: server(0), port: 9_000 });
        expect(otherPort).toMatchObject({ failures: [], answered: { other: 12 } });

        await lab.startServerIn(lab.names.client, "outside", client(0), 7_000);
        const outbound = await lab.clientIn(lab.names.servers[1] ?? "", {
          ...base,
          host: client(0),
          port: 7_000,
        });
        expect(outbound).toMatchObject({ failures: [], answered: { outside: 12 } });
        expect(await pingsAnswered(lab, lab.names.servers[1] ?? "", client(0))).toBe(3);
      });
    },
    TEST_TIMEOUT_MS,
  );
});
