/** Which flows are needed between two ends: the worked examples of the flow query and the rules behind them. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { NO_NETBACKUP } from "../../src/model/netbackup.ts";
import { CATALOGUE } from "../../src/netbackup/catalogue.ts";
import { conditionWords, judge } from "../../src/netbackup/condition.ts";
import { type End, flowsBetween, makeEnd, type Site } from "../../src/netbackup/flows.ts";
import type { Expression } from "../../src/netbackup/schema.ts";
import { compareVersions, parseVersion } from "../../src/netbackup/version.ts";
import { propertySeed } from "../support/random.ts";

const NO_SITE: Site = { features: {}, settings: {}, ports: NO_NETBACKUP.ports };

/** `role@version` with facts. */
function end(text: string, facts: End["facts"] = {}): End {
  const [role = "", version = null] = text.split("@");
  return makeEnd([{ role, version }], facts);
}

/** Flow, port and need of what is needed from one end to the other. */
const needed = (source: End | null, destination: End | null, site: Site = NO_SITE): string[] =>
  flowsBetween(source, destination, site)
    .filter(({ need }) => need !== "not-needed")
    .map(({ flow, ports, need }) => `${flow.id} ${ports?.min ?? "?"} ${need}`);
const both = (a: End, b: End, site: Site = NO_SITE): string[] => [...needed(a, b, site), ...needed(b, a, site)];
const conditionOf = (id: string, source: End | null, destination: End | null, site: Site = NO_SITE): string | null =>
  flowsBetween(source, destination, site).find(({ flow }) => flow.id === id)?.condition ?? null;

describe("flows between two ends", () => {
  test("NBU-019 media server at 7.0 and client at 7.5, both ways: six flows", () => {
    const [media, client] = [end("media-server@7.0"), end("client@7.5")];
    expect(both(media, client)).toEqual([
      "T2-3.06 1556 required",
      "T2-3.07 13724 compat",
      "T2-4.03 1556 conditional",
      "T2-4.04 13724 conditional",
      "P2.11.01 111 conditional",
      "P2.11.02 7394 conditional",
    ]);
    expect(conditionOf("T2-3.07", media, client)).toBe("source older than 7.0.1; required if the client is resilient");
    expect(conditionOf("T2-4.03", client, media)).toBe(
      "non-default connect options, application backup or client-side deduplication",
    );
  });

  test("NBU-019 master and media server at 7.5: the exchange port both ways and nothing else", () => {
    expect(both(end("master-server@7.5"), end("media-server@7.5"))).toEqual([
      "T2-2.02 1556 required",
      "T2-3.01 1556 required",
    ]);
  });

  test("NBU-019 with the media server at 7.0 VNETD is required both ways as well", () => {
    expect(both(end("master-server@7.5"), end("media-server@7.0"))).toEqual([
      "T2-2.02 1556 required",
      "T2-2.03 13724 required",
      "T2-3.01 1556 required",
      "T2-3.02 13724 required",
    ]);
  });

  test("NBU-019 the VxSS ports are required at 7.0.1 and no more at 7.1", () => {
    expect(needed(end("master-server@7.0.1"), end("vxss-server@7.0.1"))).toEqual([
      "T2-2.10 2821 required",
      "T2-2.11 4032 required",
    ]);
    expect(needed(end("master-server@7.1"), end("vxss-server@7.1"))).toEqual([]);
  });

  test("NBU-019 a resilient client at 7.5 needs VNETD", () => {
    expect(needed(end("media-server@7.5"), end("client@7.5", { resilient: true }))).toEqual([
      "T2-3.06 1556 required",
      "T2-3.07 13724 required",
    ]);
  });

  test("NBU-019 over SAN and without restores through ESX nothing is needed to ESX hosts", () => {
    const site = { ...NO_SITE, features: { "restore-through-esx": false }, settings: { "vmware-transport": "san" } };
    expect(needed(end("vmware-backup-host"), end("esx-host"), site)).toEqual([]);
  });

  test("NBU-019 NBU-026 the encrypted console of a 5230: 7582, 5124 and 5127, and 7528 disputed", () => {
    const console = end("appliance-ipmi", { model: "5230", console_mode: "encrypted" });
    expect(needed(end("rm-console"), console)).toEqual([
      "T3-3.11 7582 required",
      "T3-3.12 5124 required",
      "T3-3.13 5127 required",
      "P3.3.01 7528 disputed",
    ]);
  });

  test("NBU-021 what is not known makes a flow conditional and says what it hangs on", () => {
    expect(conditionOf("T2-2.03", end("master-server"), end("media-server"))).toBe("destination older than 7.0.1");
    expect(conditionOf("T2-2.10", end("master-server@7.5"), end("vxss-server"))).toBe("destination older than 7.1");
    expect(conditionOf("T3-3.05", end("web-browser"), end("appliance-ipmi"))).toBe("IPMI firmware newer than 2.13");
    expect(conditionOf("P2.10.05", end("media-server"), end("datadomain"))).toBeNull();
    expect(conditionOf("P2.10.05", end("media-server"), end("ost-storage-server"))).toBe(
      "DataDomain OST storage and optimized duplication",
    );
  });

  test("NBU-021 no flow of the catalogue vanishes while nothing is known: all 125 are answered", () => {
    const found = new Set(flowsBetween(null, null, NO_SITE).map(({ flow }) => flow.id));
    expect(found.size).toBe(125);
    const absent = flowsBetween(null, null, NO_SITE).filter(({ need }) => need === "not-needed");
    expect(absent).toEqual([]);
  });

  test("NBU-022 flows between two ends are answered in both directions, the others in one", () => {
    const [server, master] = [end("opscenter-server"), end("master-server")];
    expect(needed(server, master)).toEqual(["T3-2.03 1556 required"]);
    expect(needed(master, server)).toEqual(["T3-2.03 1556 required"]);
    expect(needed(end("client"), end("opscenter-client"))).toEqual([]);
    for (const flow of CATALOGUE.flows.filter(({ direction }) => direction !== undefined)) {
      const [from, to] = [end(flow.from[0]!), end(flow.to[0]!)];
      for (const [a, b] of [
        [from, to],
        [to, from],
      ] as const)
        expect(flowsBetween(a, b, NO_SITE).map((answer) => answer.flow.id)).toContain(flow.id);
    }
  });

  test("NBU-023 a role has the flows of the roles it is a kind of", () => {
    const ids = flowsBetween(end("msdp-server@7.5"), end("client@7.5"), NO_SITE).map(({ flow }) => flow.id);
    expect(ids).toContain("T2-3.06");
    expect(flowsBetween(end("client@7.5"), end("msdp-server@7.5"), NO_SITE).map(({ flow }) => flow.id)).toEqual(
      expect.arrayContaining(["T2-4.03", "T2-4.05", "T2-4.06"]),
    );
  });

  test("NBU-024 image replication needs hosts of different domains", () => {
    const site = { ...NO_SITE, features: { "auto-image-replication": true, msdp: true } };
    const replicated = (a: string | undefined, b: string | undefined) =>
      needed(
        end("msdp-server@7.5", a === undefined ? {} : { domain: a }),
        end("msdp-server@7.5", b === undefined ? {} : { domain: b }),
        site,
      ).filter((line) => /P3\.1\.0[4-7]/.test(line));
    expect(replicated("east", "west")).toEqual([
      "P3.1.04 1556 required",
      "P3.1.05 10082 required",
      "P3.1.06 10102 required",
      "P3.1.07 443 conditional",
    ]);
    expect(replicated("east", "east")).toEqual([]);
    expect(replicated(undefined, undefined)).toEqual([]);
    expect(needed(end("netbackup-domain", { domain: "east" }), end("netbackup-domain"), site)).toContain(
      "P3.1.04 1556 conditional",
    );
  });

  test("NBU-025 alternatives name their group with every choice", () => {
    expect(conditionOf("T3-2.05c", end("web-browser"), end("opscenter-server"))).toBe(
      "OpsCenter web pair 2; one of opscenter-web-pair: 80/443, 8181/8443 or 8282/8553",
    );
    const site = { ...NO_SITE, settings: { "opscenter-web-pair": "2" } };
    expect(needed(end("web-browser"), end("opscenter-server"), site)).toEqual([
      "T3-2.05c 8181 required",
      "T3-2.05d 8443 required",
    ]);
    expect(conditionOf("P3.1.02", end("media-server"), end("dedup-storage-server"))).toBe(
      "optimized duplication and MSDP; one of optdup-dedup: 10102 or 443",
    );
  });

  test("NBU-044 a flow whose ports only the site knows is there, unresolved, and says what to set", () => {
    const unresolved = flowsBetween(end("ndmp-filer"), end("media-server"), NO_SITE);
    expect(unresolved.map(({ flow, ports, condition }) => [flow.id, ports, condition])).toEqual([
      ["P2.9.02", null, "remote NDMP; unresolved: set-port SERVER_PORT_WINDOW=LOW-HIGH"],
      ["P2.9.03", null, "local NDMP or 3-way NDMP; unresolved: set-port SERVER_PORT_WINDOW=LOW-HIGH"],
    ]);
    const ports = { services: {}, windows: { SERVER_PORT_WINDOW: { min: 5000, max: 5100 } } };
    expect(
      flowsBetween(end("ndmp-filer"), end("media-server"), { ...NO_SITE, ports }).map((answer) => answer.ports),
    ).toEqual([
      { min: 5000, max: 5100 },
      { min: 5000, max: 5100 },
    ]);
  });

  test("NBU-049 another exchange port between OpsCenter server and master touches that flow alone", () => {
    const ports = { services: { veritas_pbx: 1600 }, windows: {} };
    const changed = flowsBetween(null, null, { ...NO_SITE, ports }).filter((answer) => answer.ports?.min === 1600);
    expect(changed.map(({ flow }) => flow.id)).toEqual(["T3-2.03"]);
  });

  test("a host with several roles gets the strongest answer of them", () => {
    const host = makeEnd([
      { role: "media-server", version: "7.5" },
      { role: "master-server", version: "7.0" },
    ]);
    expect(needed(end("client@7.5"), host)).toContain("T2-4.02 13724 compat");
    expect(needed(host, end("client@7.0"))).toEqual(
      expect.arrayContaining(["T2-2.05 13724 required", "T2-3.07 13724 required"]),
    );
  });

  test("a port that is listened on without a source named hangs on that", () => {
    expect(conditionOf("P3.6.01", end("opscenter-server"), end("cloud-media-server"))).toBe(
      "the guide names no source",
    );
  });

  test("members of a service group keep their own versions", () => {
    const site = { ...NO_SITE, features: { "netbackup-export-engine": true, "puredisk-dr-through-netbackup": false } };
    const at = (version: string) => needed(end(`export-gateway@${version}`), end(`netbackup-host@${version}`), site);
    expect(at("7.5")).toEqual(["T3-6.12 1556 required", "T3-6.12 13724 required"]);
    expect(at("7.0.1")).toEqual([
      "T3-6.12 1556 required",
      "T3-6.12 13724 required",
      "T3-6.12 2821 required",
      "T3-6.12 4032 required",
    ]);
  });
});

describe("versions", () => {
  test("NBU-020 versions compare part by part as numbers, missing parts as 0", () => {
    const rising = ["6.5", "7", "7.0.1", "7.1", "7.5", "7.5.0.4", "7.10"];
    for (let i = 1; i < rising.length; i++) expect(compareVersions(rising[i - 1]!, rising[i]!)).toBeLessThan(0);
    expect(compareVersions("7", "7.0.0")).toBe(0);
  });

  test("NBU-020 text that is no version is none", () => {
    for (const text of ["", "7.", ".7", "7.x", "v7", "7..1", "7 ", "7.0.1-beta", "-7", "7.0.1.2.3.4.5"])
      expect(parseVersion(text)).toBeNull();
    expect(parseVersion("07.00.1")).toBe("7.0.1");
  });
});

describe("conditions", () => {
  const leaves = fc.constantFrom("feature.a", "feature.b", "feature.c");
  const expressions = fc.letrec<{ e: Expression }>((tie) => ({
    e: fc.oneof(
      { maxDepth: 4 },
      leaves.map((fact): Expression => ({ fact, op: "eq", value: true })),
      fc.array(tie("e"), { minLength: 1, maxLength: 3 }).map((all): Expression => ({ all })),
      fc.array(tie("e"), { minLength: 1, maxLength: 3 }).map((any): Expression => ({ any })),
      tie("e").map((not): Expression => ({ not })),
    ),
  })).e;
  const worlds = fc.record({ a: fc.boolean(), b: fc.boolean(), c: fc.boolean() });
  const truth = (expression: Expression, world: Record<string, boolean>): boolean => {
    if ("all" in expression) return expression.all.every((member) => truth(member, world));
    if ("any" in expression) return expression.any.some((member) => truth(member, world));
    if ("not" in expression) return !truth(expression.not, world);
    return world[expression.fact.slice("feature.".length)] === expression.value;
  };

  test("a decided judgement holds in every world, and what is left open decides as the whole does", () => {
    fc.assert(
      fc.property(expressions, worlds, fc.subarray(["a", "b", "c"]), (expression, world, known) => {
        const facts = (name: string) => {
          const leaf = name.slice("feature.".length);
          return known.includes(leaf) ? world[leaf as "a"] : undefined;
        };
        const { truth: judged, rest } = judge(expression, facts);
        expect(judged ?? truth(rest!, world)).toBe(truth(expression, world));
      }),
      { seed: propertySeed() },
    );
  });

  test("words leave no placeholder and no fact name of the file", () => {
    for (const { when, whenVersion } of CATALOGUE.flows)
      for (const condition of [when, whenVersion])
        if (condition !== undefined)
          expect(conditionWords(condition)).not.toMatch(/[{}]|feature\.|setting\.|source\.|either\./);
  });
});
