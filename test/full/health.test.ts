/**
 * Health checks while the packet workers have more than they can carry, and servers that come and go all the time: nothing
 * is found that is not so.
 */
import { describe, expect, test } from "bun:test";
import { hasNamespaces, hasProgram, isShortRun } from "../support/capabilities.ts";
import { targetOf, vipOf, withLab } from "../support/e2e.ts";
import { createCheckedRule, reachStates } from "../support/health.ts";

const SECONDS = isShortRun ? 4 : 20;
/** Times that the flapping server goes and comes. */
const TURNS = isShortRun ? 2 : 8;
const TIMEOUT_MS = 300_000;

/** Nothing comes in at a port, or nothing of a kind. */
const wall = (port: number, kind: string): string =>
  `nft add table inet wall; nft add chain inet wall in "{ type filter hook input priority 0; }"; nft add rule inet wall in tcp dport ${port} ${kind} drop`;

/** Addresses of one server whose port says nothing. Of their probes about a hundred hang at any time. */
const DEAF = Array.from({ length: 230 }, (_, index) => `198.51.100.${index < 80 ? 20 + index : 21 + index}`);
/** An event every 1 to 4 s, which hangs for 2. */
const HANGING = "hc-test=tcp,hc-timeout=2,hc-count=1,hc-interval=3";

describe.skipIf(!hasNamespaces)("health checks", () => {
  test.skipIf(!hasProgram("iperf3"))(
    "a flood through the VIP that saturates the packet worker brings no false transition",
    async () => {
      await withLab({}, async (lab) => {
        await lab.startServers();
        for (const [index, name] of lab.names.servers.entries())
          await lab
            .start(name, ["iperf3", "-s", "-p", "5201", "--forceflush", "-B", lab.addresses.server(index)])
            .line(/listening/);
        await lab.startDaemon();
        await createCheckedRule(lab, { type: "HALF-NAT", test: "tcp" });
        const beside = { name: "udp-beside", makesGroup: false, protocol: "udp" } as const;
        await createCheckedRule(lab, { type: "HALF-NAT", test: "udp", ...beside });
        const members = lab.names.servers.map((_, index) => `${lab.addresses.server(index)}:5201`).join(",");
        await lab.configure("create-servergroup", "-s", `server=${members}`, "flood");
        for (const protocol of ["tcp", "udp"])
          await lab.configure(
            ...["create-rule", "-e", "-i", `vip=${vipOf(lab)},port=5201,protocol=${protocol}`],
            ...["-m", "lbalg=hip,type=HALF-NAT", "-o", "servergroup=flood", `flood-${protocol}`],
          );
        await reachStates(lab, ["alive", "alive", "alive"]);
        await reachStates(lab, ["alive", "alive", "alive"], "udp-beside");
        const words = ["-c", vipOf(lab), "-p", "5201", "-t", String(SECONDS)];
        // As many small datagrams as there are cycles for, far more than the box carries.
        await lab.exec(lab.names.client, ["iperf3", ...words, "-u", "-b", "0", "-l", "64"]);
        await lab.exec(lab.names.client, ["iperf3", ...words, "-P", "4"]);
        expect((await lab.configure("show-audit")).match(/health of .* -> .*/g)).toBeNull();
      });
    },
    TIMEOUT_MS,
  );

  test(
    "a server that comes and goes: every time it is out and in again, and nobody else's requests fail",
    async () => {
      await withLab({ clientAddresses: 12 }, async (lab) => {
        await lab.startServers();
        await lab.startDaemon();
        await createCheckedRule(lab, { type: "HALF-NAT", test: "tcp" });
        await reachStates(lab, ["alive", "alive", "alive"]);
        for (let turn = 0; turn < TURNS; turn++) {
          await lab.must(lab.names.servers[2]!, ["sh", "-ec", wall(8080, "tcp flags syn")]);
          await reachStates(lab, ["alive", "alive", "dead"]);
          const out = await lab.client({ kind: "requests", ...targetOf(lab), count: 60, concurrency: 6 });
          expect(out.failures).toEqual([]);
          expect(Object.keys(out.answered).sort()).toEqual(["s1", "s2"]);
          await lab.must(lab.names.servers[2]!, ["nft", "delete", "table", "inet", "wall"]);
          await reachStates(lab, ["alive", "alive", "alive"]);
          const back = await lab.client({ kind: "requests", ...targetOf(lab), count: 60, concurrency: 6 });
          expect(back.failures).toEqual([]);
          expect(Object.keys(back.answered).sort()).toEqual(["s1", "s2", "s3"]);
        }
        expect((await lab.configure("show-audit")).match(/health of _web\.2 in www: alive -> dead/g)).toHaveLength(
          TURNS,
        );
      });
    },
    TIMEOUT_MS,
  );

  test(
    "while probes of hundreds of servers that say nothing hang, another server is found out and taken back",
    async () => {
      await withLab({}, async (lab) => {
        const { names } = lab;
        const [, victim] = await Promise.all([0, 1, 2].map((index) => lab.startServer(index)));
        const add = DEAF.map((address) => `ip address add ${address}/24 dev eth0`).join("; ");
        await lab.must(names.servers[0]!, ["sh", "-ec", `${add}; ${wall(9000, "")}`]);
        await lab.startDaemon();
        const members = DEAF.map((address) => `${address}:9000`).join(",");
        await lab.configure("create-servergroup", "-s", `server=${members}`, "deaf");
        await lab.configure("create-healthcheck", "-n", "-h", HANGING, "deaf");
        const method = ["-m", "type=HALF-NAT", "-h", "hc-name=deaf", "-o", "servergroup=deaf"];
        await lab.configure("create-rule", "-e", "-i", `vip=${vipOf(lab)},port=9000`, ...method, "deaf");
        await createCheckedRule(lab, { type: "HALF-NAT", test: "tcp" });
        await reachStates(
          lab,
          DEAF.map(() => "dead"),
          "deaf",
        );
        await reachStates(lab, ["alive", "alive", "alive"]);
        await victim!.stop("SIGKILL");
        await reachStates(lab, ["alive", "dead", "alive"]);
        await lab.startServer(1);
        await reachStates(lab, ["alive", "alive", "alive"]);
        const audit = await lab.configure("show-audit");
        expect(audit.match(/health of _web\.[02] in www: /g)).toBeNull();
      });
    },
    TIMEOUT_MS,
  );
});
