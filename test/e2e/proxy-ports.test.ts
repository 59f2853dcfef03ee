/** The proxy ports of full NAT with real datagrams: addresses take turns, ports run out, and nothing else suffers. */
import { describe, expect, test } from "bun:test";
import { hasNamespaces } from "../support/capabilities.ts";
import { flowCount } from "../support/crowd.ts";
import {
  createRule,
  FAMILIES,
  labOptionsFor,
  serverPortOf,
  TEST_TIMEOUT_MS,
  targetOf,
  withLab,
} from "../support/e2e.ts";
import { expectAnswered, fillFlows, PORTS_PER_PROXY, settled, statistics } from "../support/exhaustion.ts";
import { flood, startFragmentServer } from "../support/wire.ts";

describe.each(FAMILIES.map((family) => ({ family })))("full NAT towards one server port, IPv$family", ({ family }) => {
  const headerBytes = family === 4 ? 20 : 40;

  test.skipIf(!hasNamespaces)(
    "ILB-195 with 61438 flows on one proxy address another one is dropped and counted, and those that are there go on",
    async () => {
      await withLab({ ...labOptionsFor("NAT", family), servers: 1, clientAddresses: 8 }, async (lab) => {
        const server = lab.addresses.server(0);
        await startFragmentServer(lab, lab.names.servers[0] ?? "", "s1", server, serverPortOf("NAT"));
        await lab.startDaemon();
        const [proxySource = ""] = lab.addresses.proxySources.split("-");
        await createRule(lab, "NAT", "udp", { proxySource });
        await expectAnswered(lab, 60_000, 1);
        await fillFlows(lab, PORTS_PER_PROXY);
        expect(await statistics(lab, "PKT_D", "NOPORTP_D")).toEqual([0, 0]);

        const late = await flood(lab, targetOf(lab), lab.clientAddresses.slice(0, 2), 50_000, 100);
        const bytes = late * (headerBytes + 8 + "taken in silence".length);
        const columns = ["PKT_D", "BYTES_D", "NOPORTP_D", "NOPORTB_D"];
        const dropped = [late, bytes, late, bytes];
        expect(await settled(() => statistics(lab, ...columns), dropped)).toEqual(dropped);
        expect(await flowCount(lab)).toBe(PORTS_PER_PROXY);
        await expectAnswered(lab, 60_000, 2);
      });
    },
    TEST_TIMEOUT_MS,
  );

  test.skipIf(!hasNamespaces)(
    "two proxy addresses take turns, the second one first",
    async () => {
      await withLab({ ...labOptionsFor("NAT", family), servers: 1 }, async (lab) => {
        const server = lab.addresses.server(0);
        await startFragmentServer(lab, lab.names.servers[0] ?? "", "s1", server, serverPortOf("NAT"));
        await lab.startDaemon();
        const [first = ""] = lab.addresses.proxySources.split("-");
        const second = first.replace(/0$/, "1");
        await createRule(lab, "NAT", "udp", { proxySource: `${first}-${second}` });
        const proxyOf = async (port: number): Promise<string | undefined> => {
          await expectAnswered(lab, port, port);
          const client = `${lab.clientAddresses[0]}.${port} > `;
          const line = (await lab.configure("show-nat")).split("\n").find((entry) => entry.includes(client)) ?? "";
          return /^(.*)\.\d+$/.exec(line.split(" >>> ")[1]?.split(" > ")[0] ?? "")?.[1];
        };
        const proxies: (string | undefined)[] = [];
        for (let port = 40_000; port < 40_004; port++) proxies.push(await proxyOf(port));
        expect(proxies).toEqual([second, first, second, first]);
      });
    },
    TEST_TIMEOUT_MS,
  );
});
