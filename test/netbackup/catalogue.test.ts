/** The catalogue file: its shape, what must be in it, and that nothing else in the program knows the numbers. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { NAT_PORT_FIRST, NAT_PORT_LAST, NAT_PORT_SPARED } from "../../src/gen/layout.ts";
import {
  CATALOGUE,
  findRoleByToken,
  findServiceByToken,
  foldToken,
  REGISTERED_SERVICES,
  rolesIncluded,
  servicesOf,
} from "../../src/netbackup/catalogue.ts";
import { catalogueSchema, type Expression } from "../../src/netbackup/schema.ts";

const ROOT = join(import.meta.dir, "../..");

/** Flows of every table and of running text, counted by hand in the guide. */
const FLOWS_PER_TABLE = {
  "2-2": 11,
  "2-3": 15,
  "2-4": 9,
  "2-5": 3,
  "2-6": 6,
  "2-7": 6,
  "2-8": 4,
  "3-1": 6,
  "3-2": 12,
  "3-3": 13,
  "3-4": 3,
  "3-5": 4,
  "3-6": 12,
};
const FLOWS_PER_SECTION = { "2.9": 3, "2.10": 5, "2.11": 2, "3.1": 7, "3.3": 1, "3.5": 2, "3.6": 1 };

const comparisons = (expression: Expression): readonly { readonly fact: string; readonly value: unknown }[] => {
  if ("all" in expression) return expression.all.flatMap(comparisons);
  if ("any" in expression) return expression.any.flatMap(comparisons);
  return "not" in expression ? comparisons(expression.not) : [expression];
};

describe("the catalogue file", () => {
  test("NBU-001 the catalogue fits its schema", () => {
    expect(catalogueSchema.safeParse(CATALOGUE).error?.issues ?? []).toEqual([]);
  });

  test("NBU-001 the schema refuses a port out of range, an unknown property and an empty condition", () => {
    const [service] = CATALOGUE.services;
    const [flow] = CATALOGUE.flows;
    for (const broken of [
      { ...CATALOGUE, services: [{ ...service, port: 65536 }] },
      { ...CATALOGUE, services: [{ ...service, colour: "red" }] },
      { ...CATALOGUE, flows: [{ ...flow, when: { all: [] } }] },
    ])
      expect(catalogueSchema.safeParse(broken).success).toBe(false);
  });

  test("NBU-001 no code knows a port that the catalogue holds as NetBackup's own", () => {
    const own = CATALOGUE.services.filter(({ natGuard }) => natGuard === "port").map(({ port }) => port);
    expect(own.length).toBeGreaterThan(15);
    // 10000 is a round number that other counts have; written with `_` it is one of those.
    const number = new RegExp(`(?<![\\dx.:_])(?:${own.join("|")})(?![\\d_])`);
    // The load balancer's own rule about a proxy port that is never given out names one of the numbers.
    const proxyRule = /NAT_PORT_SPARED|RESERVED_PROXY_PORT/;
    const isStray = (line: string) => number.test(line) && !/^\s*(\*|\/\/|\/\*)/.test(line) && !proxyRule.test(line);
    const files = ["src", "assembly", "layout"].flatMap((folder) => [
      ...new Bun.Glob(`${folder}/**/*.ts`).scanSync({ cwd: ROOT }),
    ]);
    const strays = files.flatMap((path) => {
      const lines = readFileSync(join(ROOT, path), "utf8").split("\n");
      return lines.flatMap((line, i) => (isStray(line) ? [`${path}:${i + 1}: ${line}`] : []));
    });
    expect(files.length).toBeGreaterThan(100);
    expect(strays).toEqual([]);
  });

  test("NBU-002 every table and every section of running text has its flows, together 125", () => {
    const counted = (of: (flow: (typeof CATALOGUE.flows)[number]) => string | undefined) =>
      Object.fromEntries(
        [...Map.groupBy(CATALOGUE.flows, of)]
          .filter(([key]) => key !== undefined)
          .map(([key, list]) => [key, list.length]),
      );
    expect(counted(({ table }) => table)).toEqual(FLOWS_PER_TABLE);
    expect(counted(({ table, section }) => (table === undefined ? section : undefined))).toEqual(FLOWS_PER_SECTION);
    expect(CATALOGUE.flows).toHaveLength(125);
    expect(Object.values(FLOWS_PER_SECTION).reduce((a, b) => a + b)).toBe(21);
  });

  test("NBU-002 Table 2-1 has four services, and the tables say the same counts as the flows", () => {
    const listed = CATALOGUE.services.filter(({ tables }) => tables.includes("2-1"));
    expect(listed.map(({ name, port }) => [name, port])).toEqual([
      ["VERITAS_PBX", 1556],
      ["VNETD", 13724],
      ["VRTS-AT-PORT", 2821],
      ["VRTS-AUTH-PORT", 4032],
    ]);
    expect(Object.fromEntries(CATALOGUE.tables.map(({ id, entries }) => [id, entries]))).toEqual({
      "2-1": 4,
      ...FLOWS_PER_TABLE,
    });
    expect(Object.fromEntries(CATALOGUE.prose.map(({ section, flows }) => [section, flows]))).toEqual(
      FLOWS_PER_SECTION,
    );
  });

  test("NBU-002 ids tell the table, or the section of running text, and none is there twice", () => {
    const ids = CATALOGUE.flows.map(({ id }) => id);
    expect(new Set(ids).size).toBe(ids.length);
    for (const { id, table, section, row } of CATALOGUE.flows) {
      expect(row).toBeGreaterThan(0);
      expect(id).toMatch(new RegExp(`^${table === undefined ? `P${section}` : `T${table}`}\\.[0-9]{2}[a-f]?$`));
    }
  });

  test("NBU-002 46 services and 47 roles", () => {
    expect([CATALOGUE.services.length, CATALOGUE.roles.length]).toEqual([46, 47]);
  });

  test("NBU-003 every token resolves to one service or role, and none is accepted twice", () => {
    for (const list of [CATALOGUE.services, CATALOGUE.roles]) {
      const tokens = list.flatMap(({ tokens }) => tokens.map(foldToken));
      expect(new Set(tokens).size).toBe(tokens.length);
    }
    for (const service of CATALOGUE.services)
      for (const token of service.tokens) expect(findServiceByToken(token.toUpperCase())).toBe(service);
    for (const role of CATALOGUE.roles) for (const token of role.tokens) expect(findRoleByToken(token)).toBe(role);
  });

  test("NBU-005 a name is found in any case, with - and _ alike", () => {
    for (const spelling of ["VERITAS_PBX", "veritas-pbx", "Veritas_Pbx", "pbx", "PBX_Exchange"])
      expect(findServiceByToken(spelling)?.id).toBe("veritas_pbx");
    expect(findServiceByToken("vrts_at_port")?.port).toBe(2821);
    expect(findServiceByToken("veritas pbx")).toBeUndefined();
  });

  test("what the entries name exists: services, roles, tables, windows and facts", () => {
    const services = new Set(CATALOGUE.services.map(({ id }) => id));
    const roles = new Set(CATALOGUE.roles.map(({ id }) => id));
    const tables = new Set(CATALOGUE.tables.map(({ id }) => id));
    const groups = new Set(CATALOGUE.serviceGroups.map(({ id }) => id));
    const windows = new Set(CATALOGUE.windows.map(({ id }) => id));
    const facts = new Set([
      ...["source", "destination", "either"].flatMap((end) =>
        ["version", ...CATALOGUE.facts.map(({ id }) => id)].map((fact) => `${end}.${fact}`),
      ),
      ...CATALOGUE.features.map(({ id }) => `feature.${id}`),
      ...CATALOGUE.settings.map(({ id }) => `setting.${id}`),
    ]);
    for (const role of CATALOGUE.roles) for (const id of role.kindOf ?? []) expect(roles).toContain(id);
    for (const { tables: named, replacedBy } of CATALOGUE.services) {
      for (const id of named) expect(tables).toContain(id);
      if (replacedBy !== undefined) expect(services).toContain(replacedBy);
    }
    for (const flow of CATALOGUE.flows) {
      for (const id of [...flow.from, ...flow.to]) expect(roles).toContain(id);
      if (flow.table !== undefined) expect(tables).toContain(flow.table);
      const ports = [flow.service, flow.serviceGroup, flow.window].filter((id) => id !== undefined);
      expect(ports).toHaveLength(1);
      if (flow.service !== undefined) expect(services).toContain(flow.service);
      if (flow.serviceGroup !== undefined) expect(groups).toContain(flow.serviceGroup);
      if (flow.window !== undefined) expect(windows).toContain(flow.window);
      for (const service of servicesOf(flow))
        for (const protocol of flow.protocols) expect(service.protocols).toContain(protocol);
      for (const condition of [flow.when, flow.whenVersion])
        for (const { fact } of condition === undefined ? [] : comparisons(condition)) expect(facts).toContain(fact);
      expect(flow.alternatives !== undefined).toBe(flow.requirement === "alternative");
    }
    for (const { services: members } of CATALOGUE.serviceGroups)
      for (const id of members) expect(services).toContain(id);
    for (const id of [
      CATALOGUE.compat.service,
      CATALOGUE.configFile.service,
      CATALOGUE.connectionOrder.defaultDaemon,
      ...CATALOGUE.connectionOrder.daemons,
      ...CATALOGUE.connectionOrder.steps.map(({ service }) => service),
      ...CATALOGUE.webPairs.flatMap(({ http, https }) => [http, https]),
    ])
      expect(services).toContain(id);
  });

  test("NBU-054 no proxy port of full NAT is one that is registered for NetBackup", () => {
    expect(REGISTERED_SERVICES.map(({ port }) => port)).toEqual([1556, 13724, 2821, 4032]);
    const given = REGISTERED_SERVICES.filter(({ port }) => port >= NAT_PORT_FIRST && port <= NAT_PORT_LAST);
    expect(given.map(({ port }) => port)).toEqual([NAT_PORT_SPARED]);
  });

  test("NBU-023 a role includes the roles that it is a kind of, and theirs", () => {
    expect([...rolesIncluded("msdp-server")]).toEqual(["msdp-server", "media-server", "dedup-storage-server"]);
    expect([...rolesIncluded("client")]).toEqual(["client"]);
  });
});
