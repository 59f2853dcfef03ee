/**
 * A path whose narrow link nobody tells of, because a router behind the box drops the errors: TCP is on its own, and
 * does through the box what it does without one. Compared with plain forwarding in the same laboratory.
 */
import { expect, test } from "bun:test";
import { type Lab, SERVER_PORT } from "../../src/lab/lab.ts";
import { routersOf } from "../../src/lab/routed.ts";
import { hasNamespaces, isShortRun } from "../support/capabilities.ts";
import { createRule, FAMILIES, labOptionsFor, targetOf, withLab } from "../support/e2e.ts";

/** A stuck upload counts as such after this; one that gets on needs a few hundred milliseconds. */
const STUCK_MS = 4_000;
/** Noticing a black hole takes several retransmission timers (tcp_mtu_probing 1). */
const NOTICE_MS = 60_000;

/** Answers that an upload of a megabyte gets: 0 or 1. */
async function uploads(lab: Lab, host: string, port: number, timeoutMs: number): Promise<number> {
  const where = { ...targetOf(lab), host, port, timeoutMs };
  const result = await lab.client({ kind: "uploads", ...where, count: 1, concurrency: 1, bytes: 1_000_000 });
  return Object.values(result.answered).reduce((sum, count) => sum + count, 0);
}

/** Waiting for timers takes most of the time: shortened, one family for each type. */
const CASES = (["NAT", "HALF-NAT"] as const).flatMap((type, index) =>
  FAMILIES.filter((_, at) => !isShortRun || at === index).map((family) => ({ type, family })),
);

test.skipIf(!hasNamespaces).each(CASES)(
  "$type, IPv$family: behind a router that drops ICMP errors, uploads are stuck or get on exactly as without the box",
  async ({ type, family }) => {
    const options = { ...labOptionsFor(type, family), servers: 1, clientAddresses: 1 };
    await withLab({ ...options, topology: "routed", linkMtu: { servers: 1_280 } }, async (lab) => {
      const { far } = routersOf(lab.names);
      const errors = "icmp type destination-unreachable drop; icmpv6 type packet-too-big drop;";
      const rules = `table inet hole { chain out { type filter hook output priority 0; ${errors} }; }`;
      await lab.must(far, ["nft", rules]);
      await lab.startServers();
      const probing = (value: number) =>
        lab.must(lab.names.client, ["sysctl", "-qw", `net.ipv4.tcp_mtu_probing=${value}`]);
      const outcome = async (host: string, port: number): Promise<readonly number[]> => {
        await probing(0);
        const without = await uploads(lab, host, port, STUCK_MS);
        await probing(1);
        const noticed = await uploads(lab, host, port, NOTICE_MS);
        await probing(2);
        return [without, noticed, await uploads(lab, host, port, NOTICE_MS)];
      };

      const plain = await outcome(lab.addresses.server(0), SERVER_PORT);
      expect(plain).toEqual([0, 1, 1]);
      await lab.startDaemon();
      await createRule(lab, type, "tcp");
      const { host, port } = targetOf(lab);
      expect(await outcome(host, port)).toEqual(plain);
    });
  },
  300_000,
);
