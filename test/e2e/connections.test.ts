/**
 * Crowds of connections through a real daemon: thousands at once, and the same few source ports again and again. Two
 * families in one laboratory; the tun device takes part in full runs.
 */
import { describe, expect, test } from "bun:test";
import { ADDRESSES } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun, isFullRun } from "../support/capabilities.ts";
import { churn, expectCrowdServed, flowCount, startCrowd, startLineServers } from "../support/crowd.ts";
import {
  captureAround,
  createRules,
  DEVICES,
  FAMILIES,
  labOptionsFor,
  sharedLab,
  TEST_TIMEOUT_MS,
  TYPES,
  targetOf,
} from "../support/e2e.ts";

const CONNECTIONS = 2_000;
const ROUNDS = isFullRun ? 2_000 : 200;

const CASES = DEVICES.slice(0, isFullRun ? 2 : 1).flatMap((io) => TYPES.map((type) => ({ io, type })));

describe.each(CASES)("$type over $io", ({ io, type }) => {
  const isPossible = io === "tun" ? hasTun : hasNamespaces;
  const shared = sharedLab(isPossible, labOptionsFor(type, ...FAMILIES), async (lab) => {
    // Its own TIME_WAIT would keep the client from using a port again for a minute.
    await lab.must(lab.names.client, ["sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=0"]);
    await startLineServers(lab, type, FAMILIES);
    await lab.startDaemon({ io });
    await createRules(lab, type, "tcp");
  });
  const families = FAMILIES.map((family) => ({ family, addresses: ADDRESSES[family] }));

  test.skipIf(!isPossible).each(families)(
    "ILB-187 IPv$family: from four source ports again and again every connection works, whichever end closes first, without a reset",
    async ({ addresses }) => {
      const lab = shared();
      const target = targetOf(lab, addresses);
      const [atClient = []] = await captureAround(lab, [[lab.names.client, "eth0"]], async () => {
        for (const closer of ["client", "server"] as const) {
          const result = await churn(lab, target, { rounds: ROUNDS, firstPort: 20_000, ports: 4, closer });
          expect(result.failures).toEqual([]);
          expect(Object.values(result.answered).reduce((sum, count) => sum + count, 0)).toBe(ROUNDS);
        }
      });
      const openings = atClient.filter((packet) => packet.isSyn && packet.destination === target.host);
      expect(openings.length).toBeGreaterThanOrEqual(2 * ROUNDS);
      expect(atClient.filter((packet) => packet.isReset && packet.source === target.host)).toEqual([]);
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!isPossible).each(families)(
    `IPv$family: of ${CONNECTIONS} connections at once each is answered, by the same server as long as it lives`,
    async ({ addresses }) => {
      const lab = shared();
      const target = targetOf(lab, addresses);
      const closed = await flowCount(lab, target.host);
      const crowd = startCrowd(lab, target, CONNECTIONS);
      expectCrowdServed(await crowd.ask(), CONNECTIONS, 3);
      expectCrowdServed(await crowd.ask(), CONNECTIONS, 3);
      const flows = await flowCount(lab, target.host);
      if (type === "DSR") expect(flows).toBe(0);
      else {
        // Flows of the test before may be swept meanwhile.
        expect(flows).toBeGreaterThanOrEqual(CONNECTIONS);
        expect(flows).toBeLessThanOrEqual(CONNECTIONS + closed);
      }
      await crowd.close();
    },
    TEST_TIMEOUT_MS,
  );
});
