/** Proxy ports of full NAT that run out and come back: what takes longer than npm test may. */
import { describe, expect, test } from "bun:test";
import { hasNamespaces } from "../support/capabilities.ts";
import { flowCount } from "../support/crowd.ts";
import { createRule, FAMILIES, labOptionsFor, serverPortOf, targetOf, withLab } from "../support/e2e.ts";
import { expectAnswered, fillFlows, PORTS_PER_PROXY, settled, statistics } from "../support/exhaustion.ts";
import { flood, startFragmentServer } from "../support/wire.ts";

describe.each(FAMILIES.map((family) => ({ family })))("full NAT towards one server port, IPv$family", ({ family }) => {
  test.skipIf(!hasNamespaces)(
    "two proxy addresses hold twice as many flows as one, and all ports come back when the flows have been idle",
    async () => {
      await withLab({ ...labOptionsFor("NAT", family), servers: 1, clientAddresses: 16 }, async (lab) => {
        const server = lab.addresses.server(0);
        await startFragmentServer(lab, lab.names.servers[0] ?? "", "s1", server, serverPortOf("NAT"));
        await lab.startDaemon();
        const [first = ""] = lab.addresses.proxySources.split("-");
        const proxySource = `${first}-${first.replace(/0$/, "1")}`;
        await createRule(lab, "NAT", "udp", { proxySource, timers: "nat-timeout=40" });
        await fillFlows(lab, 2 * PORTS_PER_PROXY);
        expect(await statistics(lab, "NOPORTP_D")).toEqual([0]);
        const late = await flood(lab, targetOf(lab), lab.clientAddresses.slice(0, 1), 60_000, 100);
        expect(await settled(() => statistics(lab, "NOPORTP_D"), [late])).toEqual([late]);

        expect(await settled(() => flowCount(lab), 0)).toBe(0);
        await fillFlows(lab, 2 * PORTS_PER_PROXY - 1);
        await expectAnswered(lab, 60_000, 1);
        expect(await statistics(lab, "NOPORTP_D")).toEqual([late]);
      });
    },
    300_000,
  );
});
