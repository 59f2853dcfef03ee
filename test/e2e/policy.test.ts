/** The flow policy on a running box: what the kernel forwards is filtered, counted and let go as set-policy says. */
import { describe, expect, test } from "bun:test";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "../../src/lab/lab.ts";
import { ADDRESSES } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun } from "../support/capabilities.ts";
import { REQUEST_TIMEOUT_MS, startBalancing, TEST_TIMEOUT_MS, withLab } from "../support/e2e.ts";

/** PBX and VNETD: a 7.5 domain permits the first alone. */
const [PBX, VNETD] = [1556, 13_724];
const TABLE = "table inet netbackup";

const inBox = (lab: Lab, ...argv: readonly string[]): string => {
  const done = Bun.spawnSync(["ip", "netns", "exec", lab.names.box, ...argv]);
  if (done.exitCode !== 0) throw new Error(`${argv.join(" ")}: ${done.stderr}`);
  return done.stdout.toString();
};

describe.each([
  { family: 4, io: "packet" },
  { family: 6, io: "tun" },
] as const)("IPv$family over the $io device", ({ family, io }) => {
  const { client, server } = ADDRESSES[family];
  /** Whether a server answers. @param isOpen what is expected: silence is waited for a second, an answer as long as it takes */
  const reach = async (lab: Lab, port: number, isOpen: boolean): Promise<boolean> => {
    const job = {
      kind: "requests",
      from: [client(0)],
      host: server(0),
      port,
      timeoutMs: isOpen ? REQUEST_TIMEOUT_MS : 1000,
      count: 1,
      concurrency: 1,
    } as const;
    const { failures } = await lab.client(job);
    return failures.length === 0;
  };
  const expectOpen = async (lab: Lab, ...wanted: readonly [pbx: boolean, vnetd: boolean]): Promise<void> => {
    expect([await reach(lab, PBX, wanted[0]), await reach(lab, VNETD, wanted[1])]).toEqual([...wanted]);
  };

  test.skipIf(!hasNamespaces || !hasTun)(
    "NBU-036 NBU-039 NBU-041 NBU-047 transit is filtered in enforce, counted in monitor, free when off and after the daemon",
    async () => {
      await withLab({ families: [family], clientAddresses: 1 }, async (lab) => {
        const daemon = await startBalancing(lab, "HALF-NAT", "tcp", { io });
        const [namespace] = lab.names.servers;
        await lab.startServerIn(namespace ?? "", "pbx", server(0), PBX);
        await lab.startServerIn(namespace ?? "", "vnetd", server(0), VNETD);
        await lab.configure("create-host", "-a", client(0), "-r", "master-server@7.5", "master1");
        await lab.configure("create-host", "-a", server(0), "-r", "media-server@7.5", "media1");
        await expectOpen(lab, true, true);

        await lab.configure("set-policy", "enforce");
        await expectOpen(lab, true, false);
        const told = JSON.parse(await lab.configure("show-policy", "--json"));
        const count = (of: { packets: string }[], test: (one: never) => boolean): number =>
          Number(of.find((one) => test(one as never))?.packets ?? 0);
        // SYN, request and FIN at least; how many bare ACKs go between them is the kernels' affair.
        expect(count(told.counters.flows, ({ flow }: { flow: string }) => flow === "T2-2.02")).toBeGreaterThanOrEqual(
          3,
        );
        expect(
          count(told.counters.refusals, ({ refusal }: { refusal: string }) => refusal === "no-flow"),
        ).toBeGreaterThan(0);
        // The client's packets reach the servers past the box; it has the answers.
        const wanted = { source: server(0), destination: client(0), protocol: 6, refusal: "no-flow" };
        expect(told.refused).toContainEqual(expect.objectContaining(wanted));

        // Another version is in force at once; monitor lets everything pass and counts the same.
        await lab.configure("delete-host", "media1");
        await lab.configure("create-host", "-a", server(0), "-r", "media-server@7.0", "media1");
        await expectOpen(lab, true, true);
        await lab.configure("delete-host", "media1");
        await lab.configure("create-host", "-a", server(0), "-r", "media-server@7.5", "media1");
        await lab.configure("set-policy", "monitor");
        await expectOpen(lab, true, true);
        const watched = JSON.parse(await lab.configure("show-policy", "--json"));
        const refused = ({ refusal }: { refusal: string }): boolean => refusal === "no-flow";
        expect(count(watched.counters.refusals, refused)).toBeGreaterThan(count(told.counters.refusals, refused));

        // Written for another firewall, it does the same without us.
        const file = await lab.configure("export-policy");
        await lab.configure("set-policy", "enforce");
        const enforcing = await lab.configure("export-policy");
        expect(file).not.toBe(enforcing);
        await lab.configure("set-policy", "off");
        expect(inBox(lab, "nft", "list", "tables")).not.toContain(TABLE);
        const path = join(lab.directory, "policy.nft");
        writeFileSync(path, enforcing);
        inBox(lab, "nft", "-c", "-f", path);
        inBox(lab, "nft", "-f", path);
        await expectOpen(lab, true, false);
        // A table of somebody else is left alone, and said to be in the way.
        await expect(lab.configure("set-policy", "enforce")).rejects.toThrow(
          /nft table inet netbackup of somebody else/,
        );
        inBox(lab, "nft", "delete", "table", "inet", "netbackup");

        // In force again after a kill and a new start; nothing is left in between.
        await lab.configure("set-policy", "enforce");
        await expectOpen(lab, true, false);
        await daemon.stop("SIGKILL");
        expect(inBox(lab, "nft", "list", "tables")).not.toContain(TABLE);
        await expectOpen(lab, true, true);
        const again = await lab.startDaemon({ io });
        await expectOpen(lab, true, false);
        expect(await again.stop("SIGTERM")).toBe(0);
        expect(inBox(lab, "nft", "list", "tables")).not.toContain(TABLE);
      });
    },
    TEST_TIMEOUT_MS,
  );
});
