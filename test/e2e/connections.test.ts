/**
 * Crowds of connections through a real daemon: thousands at once, the same few source ports again and again, and a
 * proxy address whose ports run out.
 */
import { describe, expect, test } from "bun:test";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import { churn, expectCrowdServed, flowCount, startCrowd, startLineServers } from "../support/crowd.ts";
import {
  captureAround,
  createRule,
  DEVICES,
  FAMILIES,
  labOptionsFor,
  TEST_TIMEOUT_MS,
  TYPES,
  targetOf,
  vipOf,
  withLab,
} from "../support/e2e.ts";

const CASES = DEVICES.flatMap((io) => TYPES.flatMap((type) => FAMILIES.map((family) => ({ io, type, family }))));

describe("a client that connects from the same four source ports again and again", () => {
  // IPv6 over the tun device decides with the same engine; one device is enough for both families.
  for (const { io, type, family } of CASES.filter((one) => one.io === "packet" || one.family === 4)) {
    test.skipIf(io === "tun" ? !hasTun : !hasNamespaces)(
      `ILB-187 ${type} over ${io}, IPv${family}: every connection works, whichever end closes first, and the box sends no reset`,
      async () => {
        await withLab(labOptionsFor(type, family), async (lab) => {
          // Its own TIME_WAIT would make the client wait for a minute.
          await lab.must(lab.names.client, ["sysctl", "-qw", "net.ipv4.tcp_max_tw_buckets=0"]);
          await startLineServers(lab, type);
          await lab.startDaemon({ io });
          await createRule(lab, type, "tcp");
          const [atClient = []] = await captureAround(lab, [[lab.names.client, "eth0"]], async () => {
            for (const closer of ["client", "server"] as const) {
              const rounds = 400;
              const result = await churn(lab, targetOf(lab), { rounds, firstPort: 20_000, ports: 4, closer });
              expect(result.failures).toEqual([]);
              expect(Object.values(result.answered).reduce((sum, count) => sum + count, 0)).toBe(rounds);
            }
          });
          expect(atClient.filter((packet) => packet.isReset && packet.source === vipOf(lab))).toEqual([]);
        });
      },
      TEST_TIMEOUT_MS,
    );
  }
});

describe("two thousand connections at once", () => {
  for (const { io, type, family } of CASES.filter((one) => one.io === "packet" || one.family === 4)) {
    test.skipIf(io === "tun" ? !hasTun : !hasNamespaces)(
      `${type} over ${io}, IPv${family}: each is answered, and by the same server as long as it lives`,
      async () => {
        await withLab(labOptionsFor(type, family), async (lab) => {
          await startLineServers(lab, type);
          await lab.startDaemon({ io });
          await createRule(lab, type, "tcp");
          const crowd = startCrowd(lab, targetOf(lab), 2_000);
          expectCrowdServed(await crowd.ask(), 2_000, 3);
          expectCrowdServed(await crowd.ask(), 2_000, 3);
          expect(await flowCount(lab)).toBe(type === "DSR" ? 0 : 2_000);
          await crowd.close();
        });
      },
      TEST_TIMEOUT_MS,
    );
  }
});
