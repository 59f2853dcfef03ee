/**
 * test-connection and hc-test=NBU through a real daemon whose packet engine owns the wire: listeners, ports that refuse
 * and ports that drop, in namespaces.
 */
import { describe, expect, test } from "bun:test";
import type { Lab } from "../../src/lab/lab.ts";
import { hasNamespaces, hasProgram } from "../support/capabilities.ts";
import { TEST_TIMEOUT_MS, vipOf, withLab } from "../support/e2e.ts";

const PBX = 1556;
const VNETD = 13724;
const BPCD = 13782;

/** Listens, says from where each connection comes and how many bytes it brings, and ends when its input does. */
const LISTENER = `
import socket, sys, threading
def serve(address, port):
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    s = socket.create_server((address, port), family=family)
    print("ready", flush=True)
    while True:
        c, peer = s.accept()
        try: data = c.recv(64)
        except OSError: data = b""
        print(f"from {peer[0]} {peer[1]} {len(data)}", flush=True)
        c.close()
for port in sys.argv[2:]:
    threading.Thread(target=serve, args=(sys.argv[1], int(port))).start()
`;

interface Step {
  readonly step: string;
  readonly local: { readonly address: string; readonly port: number } | null;
  readonly remote: { readonly address: string; readonly port: number };
  readonly result: string;
  readonly microseconds: number;
}
interface Found {
  readonly via: string | null;
  readonly hint: string | null;
  readonly steps: readonly Step[];
}

/** A server of the laboratory that listens on these ports. */
async function listen(lab: Lab, index: number, ...ports: readonly number[]) {
  const words = ["python3", "-c", LISTENER, lab.addresses.server(index), ...ports.map(String)];
  const running = lab.start(lab.names.servers[index]!, words);
  await running.line(/^ready$/);
  return running;
}

async function found(lab: Lab, ...words: readonly string[]): Promise<Found & { readonly exitCode: number }> {
  const { exitCode, stdout } = await lab.ilbadm(["test-connection", "--json", ...words]);
  return { exitCode, ...(JSON.parse(stdout) as Found) };
}
const resultsOf = ({ steps }: Found) => steps.map(({ step, result }) => `${step} ${result}`);

interface Result {
  readonly rule: string;
  readonly server: string;
  readonly status: string;
  readonly via: string | null;
  readonly reason: string | null;
}

/** Results as soon as the two servers of every rule have these states. The test's own time limit ends it. */
async function reach(lab: Lab, wanted: Readonly<Record<string, readonly [string, string]>>): Promise<Result[]> {
  for (;;) {
    const results: Result[] = JSON.parse(await lab.configure("show-hc-result", "--json"));
    const isAsWanted = ({ rule, server, status }: Result) => wanted[rule]?.[Number(server.split(".")[1])] === status;
    if (results.length === 2 * Object.keys(wanted).length && results.every(isAsWanted)) return results;
    await Bun.sleep(50);
  }
}

/** A rule whose servers are the engine's, so that their answers reach the kernel by the probes' ports alone. */
async function createRule(lab: Lab, name: string, port: number, hc: string): Promise<void> {
  const vip = `vip=${vipOf(lab)},port=${port}`;
  const method = "lbalg=rr,type=HALF-NAT";
  await lab.configure("create-rule", "-e", "-F", "-i", vip, "-m", method, "-h", hc, "-o", "servergroup=sg", name);
}

const isPossible = hasNamespaces && hasProgram("python3") && hasProgram("nft");

describe.each([4, 6] as const)("over IPv%d", (family) => {
  test.skipIf(!isPossible)(
    "NBU-027 NBU-028 NBU-029 NBU-030 NBU-031 NBU-052 NBU-055 a host is tried from the box, although the engine has its packets",
    async () => {
      await withLab({ families: [family], servers: 2 }, async (lab) => {
        const [first, second] = [lab.addresses.server(0), lab.addresses.server(1)];
        const vnetd = await listen(lab, 0, VNETD);
        await lab.startDaemon({ io: "packet" });
        const members = family === 6 ? `[${first}],[${second}]` : `${first},${second}`;
        await lab.configure("create-servergroup", "-s", `server=${members}`, "sg");
        await lab.configure("create-healthcheck", "-h", "hc-test=tcp,hc-interval=3600", "hc");
        await createRule(lab, "vnetd", VNETD, "hc-name=hc");

        const { exitCode, stdout, stderr } = await lab.ilbadm(["test-conn", "-w", "3", first]);
        expect([exitCode, stderr]).toEqual([0, ""]);
        const lines = stdout.trimEnd().split("\n");
        const cells = lines.slice(0, 3).map((line) => line.split(/ +/));
        expect(cells.map(([step, , , result]) => `${step} ${result}`)).toEqual([
          "STEP RESULT",
          "PBX refused",
          "VNETD connected",
        ]);
        expect(lines[3]).toBe(`${first} via VNETD`);
        expect(lines[4]).toStartWith("hint: expected PBX. Check Connect Options");

        const { steps } = await found(lab, first);
        const [, connected] = steps;
        const heard = await vnetd.line(new RegExp(`^from .* ${connected!.local!.port} `));
        expect(heard).toBe(`from ${connected!.local!.address} ${connected!.local!.port} 0`);
        for (const { local, microseconds } of steps) {
          expect(local!.port).toBeGreaterThanOrEqual(1024);
          expect(microseconds).toBeGreaterThan(0);
        }

        // The port that is filtered leaves the others their time; the last one answers.
        await listen(lab, 1, BPCD, 80, 8181, 8443);
        const wall = `add table inet wall; add chain inet wall in { type filter hook input priority 0; }; add rule inet wall in tcp dport ${PBX} drop`;
        await lab.must(lab.names.servers[1]!, ["nft", wall]);
        const late = await found(lab, "-w", "3", second);
        expect([late.exitCode, late.via, resultsOf(late)]).toEqual([
          0,
          "DAEMON",
          ["PBX timeout", "VNETD refused", "DAEMON connected"],
        ]);

        const pair = await found(lab, "-O", second);
        expect([pair.via, resultsOf(pair)]).toEqual([
          "8181/8443",
          ["HTTP connected", "HTTPS refused", "HTTP connected", "HTTPS connected"],
        ]);
        const none = await found(lab, "-t", "bprd", "-w", "2", second);
        expect([none.exitCode, none.via, none.steps.at(-1)!.remote.port]).toEqual([1, null, 13720]);
        const audit = await lab.configure("show-audit", "-p", "-o", "result,command");
        expect(audit).toContain("ok:test-connection -O --json ");
      });
    },
    TEST_TIMEOUT_MS,
  );
});

test.skipIf(!isPossible)(
  "NBU-032 a server that answers on VNETD alone is alive by way of it, and dead for a rule that needs 1556",
  async () => {
    await withLab({ families: [4], servers: 2 }, async (lab) => {
      const vnetd = await listen(lab, 0, VNETD);
      await lab.startDaemon({ io: "packet" });
      await lab.configure(
        "create-servergroup",
        "-s",
        `server=${lab.addresses.server(0)},${lab.addresses.server(1)}`,
        "sg",
      );
      const check = "hc-test=nbu,hc-timeout=1,hc-count=1,hc-interval=2";
      await lab.configure("create-healthcheck", "-h", check, "hc");
      await createRule(lab, "any", 1600, "hc-name=hc");
      await createRule(lab, "daemon", BPCD, "hc-name=hc,hc-port=ANY");
      await createRule(lab, "needs", PBX, `hc-name=hc,hc-port=${PBX}`);
      const results = await reach(lab, { any: ["alive", "dead"], daemon: ["alive", "dead"], needs: ["dead", "dead"] });
      const told = results.map(({ rule, via, reason }) => `${rule} ${via}: ${reason}`);
      const nothing = "none: PBX connection refused, VNETD connection refused, DAEMON connection refused";
      expect(told).toEqual([
        "any VNETD: null",
        `any ${nothing}`,
        "daemon VNETD: null",
        `daemon ${nothing}`,
        "needs VNETD: port 1556: connection refused",
        "needs none: port 1556: connection refused",
      ]);
      await vnetd.stop("SIGKILL");
      await listen(lab, 0, PBX);
      const after = await reach(lab, { any: ["alive", "dead"], daemon: ["alive", "dead"], needs: ["alive", "dead"] });
      expect(after.filter(({ rule, status }) => rule === "needs" && status === "alive").map(({ via }) => via)).toEqual([
        "PBX",
      ]);
    });
  },
  TEST_TIMEOUT_MS,
);
