/**
 * Health checks of a real daemon: servers that are killed, filtered, cut off and come back, while clients go on. Time is
 * the wall's here, so there is one test for each way to fail; schedules are tested with a clock of their own
 * (test/health).
 */
import { describe, expect, test } from "bun:test";
import { type Lab, SERVER_PORT } from "../../src/lab/lab.ts";
import { withPort } from "../../src/lab/topology.ts";
import { hasNamespaces, hasTun, isFullRun } from "../support/capabilities.ts";
import { FAMILIES, labOptionsFor, TEST_TIMEOUT_MS, VIP_PORT, vipOf, withLab } from "../support/e2e.ts";
import { createCheckedRule, QUICK, reachStates, serving, statesOf } from "../support/health.ts";

const reach = (lab: Lab, ...wanted: string[]): Promise<void> => reachStates(lab, wanted);

/** Ordinary runs leave out the last of each list: checks take the wall's time. */
const TRANSLATED = [
  { io: "packet", type: "HALF-NAT", family: 4 },
  { io: "packet", type: "NAT", family: 6 },
  { io: "tun", type: "HALF-NAT", family: 4 },
] as const;

describe.each(TRANSLATED.slice(0, isFullRun ? 3 : 2))("$type over $io, IPv$family", ({ io, type, family }) => {
  const isPossible = io === "tun" ? hasTun : hasNamespaces;

  test.skipIf(!isPossible)(
    "ILB-207 ILB-209 a killed server and a filtered one get no new connections, and who comes back is used again",
    async () => {
      await withLab({ ...labOptionsFor(type), families: [family] }, async (lab) => {
        await lab.startServer(0);
        const victim = await lab.startServer(1);
        await lab.startServer(2);
        await lab.startDaemon({ io });
        await createCheckedRule(lab, { type, test: "tcp" });
        expect(await serving(lab)).toEqual(["s1", "s2", "s3"]);
        await reach(lab, "alive", "alive", "alive");

        const filter = `nft add table inet wall; nft add chain inet wall in "{ type filter hook input priority 0; }"; nft add rule inet wall in tcp dport ${SERVER_PORT} tcp flags syn drop`;
        await lab.must(lab.names.servers[2]!, ["sh", "-ec", filter]);
        await victim.stop("SIGKILL");
        await reach(lab, "alive", "dead", "dead");
        expect(await serving(lab)).toEqual(["s1"]);

        await lab.must(lab.names.servers[2]!, ["nft", "delete", "table", "inet", "wall"]);
        await lab.startServer(1);
        await reach(lab, "alive", "alive", "alive");
        expect(await serving(lab)).toEqual(["s1", "s2", "s3"]);
        const audit = await lab.configure("show-audit");
        expect(audit).toMatch(/health of _web\.1 in www: alive -> dead \(connection refused\)/);
        expect(audit).toMatch(/health of _web\.2 in www: alive -> dead \(timeout after 1 s\)/);
        expect(audit).toMatch(/health of _web\.1 in www: dead -> alive/);
      });
    },
    TEST_TIMEOUT_MS,
  );
});

describe.skipIf(!hasNamespaces)("other tests", () => {
  test.each(FAMILIES.slice(0, isFullRun ? 2 : 1).map((family) => ({ family })))(
    "ILB-208 over IPv$family: a server that is off the wire is unreach, whatever the test",
    async ({ family }) => {
      await withLab({ families: [family] }, async (lab) => {
        await lab.startServers();
        await lab.startDaemon();
        await createCheckedRule(lab, { type: "HALF-NAT", test: "tcp" });
        await lab.must(lab.names.servers[1]!, ["ip", "link", "set", "eth0", "down"]);
        await reach(lab, "alive", "unreach", "alive");
        expect(await serving(lab)).toEqual(["s1", "s3"]);
      });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-216 ILB-219 UDP: a closed port is dead; the rule disabled and enabled, it is offered at once and then out again",
    async () => {
      await withLab({}, async (lab) => {
        await lab.startServer(0);
        const victim = await lab.startServer(1);
        await lab.startServer(2);
        await lab.startDaemon();
        await createCheckedRule(lab, { type: "HALF-NAT", test: "udp", protocol: "udp" });
        await victim.stop("SIGKILL");
        await reach(lab, "alive", "dead", "alive");
        await lab.configure("disable-rule", "www");
        expect(await statesOf(lab)).toEqual(["disabled", "disabled", "disabled"]);
        await lab.configure("enable-rule", "www");
        expect(await statesOf(lab)).toEqual(["un-init", "un-init", "un-init"]);
        await reach(lab, "alive", "dead", "alive");
      });
    },
    TEST_TIMEOUT_MS,
  );

  test(
    "ILB-131 ILB-211 an external test decides about a server that is frozen; for show-server it stays enabled",
    async () => {
      await withLab({}, async (lab) => {
        const path = `${lab.directory}/probe`;
        // Only a shell: what answers on the port is asked through /dev/tcp of bash.
        await Bun.write(
          path,
          `#!/bin/bash\nexec 3<>"/dev/tcp/$2/$5" || { echo -1; exit; }\nprintf 'GET / HTTP/1.0\\r\\n\\r\\n' >&3\nread -r -t 1 line <&3 && echo 100 || echo -1\n`,
        );
        await lab.must(lab.names.box, ["chmod", "a+rx", path, lab.directory]);
        await lab.startServer(0);
        const frozen = await lab.startServer(1);
        await lab.startServer(2);
        await lab.startDaemon();
        await createCheckedRule(lab, { type: "HALF-NAT", test: path });
        await reach(lab, "alive", "alive", "alive");
        process.kill(frozen.pid, "SIGSTOP");
        await reach(lab, "alive", "dead", "alive");
        expect(await serving(lab)).toEqual(["s1", "s3"]);
        expect(await lab.configure("show-server", "-p", "-o", "status")).toBe("E\nE\nE\n");
        process.kill(frozen.pid, "SIGCONT");
        await reach(lab, "alive", "alive", "alive");
      });
    },
    TEST_TIMEOUT_MS,
  );
});

const DIRECT = [
  { io: "packet", family: 4, where: "an address of the box" },
  { io: "packet", family: 6, where: "an address of no box" },
  { io: "tun", family: 4, where: "an address of no box" },
] as const;

describe.each(DIRECT.slice(0, isFullRun ? 3 : 2))(
  "DSR over $io, IPv$family, the VIP being $where",
  ({ io, family, where }) => {
    const isPossible = io === "tun" ? hasTun : hasNamespaces;

    test.skipIf(!isPossible)(
      "ILB-217 probes address the VIP on each server: one without the VIP is unreach, one that does not serve it dead",
      async () => {
        await withLab({ ...labOptionsFor("DSR", family), families: [family] }, async (lab) => {
          const { names, addresses } = lab;
          const vip = vipOf(lab);
          const address = `${vip}/${addresses.hostBits}`;
          if (where === "an address of the box")
            await lab.must(names.box, ["ip", "address", "add", address, "dev", "lo"]);
          await lab.startServer(0, VIP_PORT);
          await lab.startServer(1, VIP_PORT);
          // Serves its own address, which nobody balances to.
          await lab.startServerIn(names.servers[2]!, "s3", addresses.server(2), VIP_PORT);
          await lab.startDaemon({ io });
          const members = names.servers.map((_, index) => withPort(addresses.server(index), VIP_PORT)).join(",");
          await lab.configure("create-servergroup", "-s", `server=${members}`, "web");
          await lab.configure("create-healthcheck", "-h", `hc-test=tcp,${QUICK}`, "hc1");
          await lab.configure(
            ...["create-rule", "-e", "-i", `vip=${vip},port=${VIP_PORT}`, "-m", "lbalg=hip,type=DSR"],
            ...["-h", "hc-name=hc1", "-o", "servergroup=web", "www"],
          );
          await reach(lab, "alive", "alive", "dead");
          await lab.must(names.servers[0]!, ["ip", "address", "del", address, "dev", "lo"]);
          await reach(lab, "unreach", "alive", "dead");
          expect(await serving(lab)).toEqual(["s2"]);
          await lab.must(names.servers[0]!, ["ip", "address", "add", address, "dev", "lo"]);
          await reach(lab, "alive", "alive", "dead");
          expect(await lab.configure("show-audit")).toContain(
            "health of _web.2 in www: un-init -> dead (connection refused)",
          );
        });
      },
      TEST_TIMEOUT_MS,
    );
  },
);
