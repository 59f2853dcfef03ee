/**
 * Health tests that talk HTTP, HTTPS, gRPC and DNS, through a real daemon whose packet engine owns the wire: servers say
 * that they are sick, get no new clients, and come back.
 */
import { describe, expect, test } from "bun:test";
import { rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import type { Lab } from "../../src/lab/lab.ts";
import { withPort } from "../../src/lab/topology.ts";
import { hasNamespaces, hasProgram, isFullRun } from "../support/capabilities.ts";
import { Authority, hasOpenssl } from "../support/certificates.ts";
import { labOptionsFor, type RuleType, TEST_TIMEOUT_MS, vipOf, withLab } from "../support/e2e.ts";

const SERVER = join(import.meta.dir, "..", "support", "talking-server.ts");
/** The quickest there is: an event every 1 to 3 seconds. */
const QUICK = "hc-timeout=1,hc-count=1,hc-interval=2";

/** Name of the rule, its protocol, the servers' port, the test. Rules answer on their servers' ports. */
const RULES = [
  ["web", "tcp", 8080, "hc-test=HTTP,hc-path=/health,hc-status=200-299"],
  ["secure", "tcp", 8443, "hc-test=https://web.example/health,hc-status=204"],
  ["rpc", "tcp", 50051, "hc-test=GRPC"],
  ["names", "udp", 53, "hc-test=DNS,hc-query=example.com"],
  ["names-tcp", "tcp", 53, "hc-test=DNS,hc-query=example.com,hc-query-type=AAAA"],
] as const;

/** Rules of a type. Over UDP nothing talks with servers of a DSR rule. */
const rulesOf = (type: RuleType) => RULES.filter(([, protocol]) => type !== "DSR" || protocol === "tcp");

async function configure(lab: Lab, type: RuleType): Promise<void> {
  const { addresses, names } = lab;
  const proxy = type === "NAT" ? `,proxy-src=${addresses.proxySources}` : "";
  for (const [name, protocol, port, hcspec] of rulesOf(type)) {
    const members = names.servers.map((_, index) => withPort(addresses.server(index), port)).join(",");
    await lab.configure("create-servergroup", "-s", `server=${members}`, name);
    await lab.configure("create-healthcheck", "-h", `${hcspec},${QUICK}`, name);
    await lab.configure(
      ...["create-rule", "-e", "-i", `vip=${vipOf(lab)},port=${port},protocol=${protocol}`],
      ...["-m", `lbalg=hipp,type=${type}${proxy}`, "-h", `hc-name=${name}`, "-o", `servergroup=${name}`, name],
    );
  }
}

interface Result {
  readonly rule: string;
  readonly server: string;
  readonly status: string;
  readonly reason: string | null;
  readonly certificateUntil: string | null;
}

/** Waits until the server of that number is `status` in every rule. The test's own time limit ends it. */
async function reach(lab: Lab, type: RuleType, number: number, status: string): Promise<Result[]> {
  for (;;) {
    const results: Result[] = JSON.parse(await lab.configure("show-hc-result", "--json"));
    const ofServer = results.filter(({ server }) => server.endsWith(`.${number}`));
    if (ofServer.length === rulesOf(type).length && ofServer.every((result) => result.status === status))
      return ofServer;
    await Bun.sleep(50);
  }
}

/** Who answers the rule `web`, each of 24 connections. */
async function serving(lab: Lab): Promise<string[]> {
  const url = `http://${withPort(vipOf(lab), 8080)}/`;
  const script = `for i in $(seq 24); do curl -sS --max-time 10 '${url}'; echo; done`;
  const answers = await lab.must(lab.names.client, ["sh", "-ec", script]);
  return [...new Set(answers.trimEnd().split("\n"))].sort();
}

/** Ordinary runs take the first two: checks take the wall's time. */
const CASES = [
  { type: "NAT", family: 4, io: "packet", where: "" },
  { type: "DSR", family: 4, io: "packet", where: "with the VIP an address of the box" },
  { type: "DSR", family: 6, io: "packet", where: "with the VIP an address of no box" },
  { type: "DSR", family: 4, io: "tun", where: "with the VIP an address of no box" },
  { type: "HALF-NAT", family: 6, io: "packet", where: "" },
] as const;

describe.each(CASES.slice(0, isFullRun ? 5 : 2))("$type over $io, IPv$family $where", ({ type, family, io, where }) => {
  test.skipIf(!hasNamespaces || !hasOpenssl || !hasProgram("curl"))(
    "a server that says it is sick, over HTTP, HTTPS, gRPC or DNS, gets no new clients until it is well again",
    async () => {
      await withLab({ ...labOptionsFor(type, family), families: [family], servers: 2 }, async (lab) => {
        const authority = new Authority();
        const { cert, key } = authority.issue("DNS:web.example", 3, false);
        authority.close();
        writeFileSync(join(lab.directory, "cert.pem"), cert);
        writeFileSync(join(lab.directory, "key.pem"), key);
        await Promise.all(
          lab.names.servers.map((name, index) => {
            const address = type === "DSR" ? vipOf(lab) : lab.addresses.server(index);
            const words = [`s${index + 1}`, address, lab.directory];
            return lab.start(name, [process.execPath, SERVER, ...words]).line(/^ready$/);
          }),
        );
        const vip = `${vipOf(lab)}/${lab.addresses.hostBits}`;
        if (where.endsWith("of the box")) await lab.must(lab.names.box, ["ip", "address", "add", vip, "dev", "lo"]);
        await lab.startDaemon({ io });
        await configure(lab, type);
        await reach(lab, type, 0, "alive");
        const alive = await reach(lab, type, 1, "alive");
        expect(alive.map(({ certificateUntil }) => certificateUntil !== null)).toEqual(
          alive.map(({ rule }) => rule === "secure"),
        );
        expect(await serving(lab)).toEqual(["s1", "s2"]);

        writeFileSync(join(lab.directory, "s2"), "sick");
        const dead = await reach(lab, type, 1, "dead");
        const words = { web: "HTTP 503", secure: "HTTP 503", rpc: "NOT_SERVING", "names-tcp": "DNS SERVFAIL" };
        expect(Object.fromEntries(dead.map(({ rule, reason }) => [rule, reason]))).toEqual(
          type === "DSR" ? words : { ...words, names: "DNS SERVFAIL" },
        );
        expect(await serving(lab)).toEqual(["s1"]);
        await reach(lab, type, 0, "alive");

        rmSync(join(lab.directory, "s2"));
        await reach(lab, type, 1, "alive");
        expect(await serving(lab)).toEqual(["s1", "s2"]);
        expect(await lab.configure("show-audit")).toContain("health of _web.1 in web: alive -> dead (HTTP 503)");
      });
    },
    TEST_TIMEOUT_MS,
  );
});
