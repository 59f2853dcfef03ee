import { expect, test } from "bun:test";
import { type NetBackupHost, NO_NETBACKUP } from "../../src/model/netbackup.ts";
import { CATALOGUE } from "../../src/netbackup/catalogue.ts";
import { endOf, flowsBetween, siteOf } from "../../src/netbackup/flows.ts";
import { kindsOf } from "../../src/netbackup/kinds.ts";
import { propertySeed, Random } from "../support/random.ts";

const ROLES = CATALOGUE.roles.map(({ id }) => id);
const SITE = siteOf(NO_NETBACKUP);

const hostOf = (id: number, rest: Pick<NetBackupHost, "roles" | "facts">): NetBackupHost => ({
  id,
  name: `host${id}`,
  address: { family: 4, value: 0x0a000000n + BigInt(id) },
  prefixLength: 32,
  ...rest,
});

function randomHost(random: Random, id: number): NetBackupHost {
  const version = (): string | null =>
    random.chance(0.15)
      ? null
      : random.of(["6.5", "7.0", "7.0.1", "7.0.2", "7.1", "7.1.0.4", "7.5", "7.5.0.1", "7.10", "8"]);
  const facts = Object.fromEntries(
    Object.entries({
      resilient: () => random.chance(0.5),
      model: () => random.of(["5020", "5200", "5220", "5230", "5330", "5030", "other"]),
      firmware: () => random.of(["2.12", "2.13", "2.14", "3"]),
      console_mode: () => random.of(["encrypted", "unencrypted"]),
      domain: () => random.of(["a", "b"]),
    })
      .filter(() => random.chance(0.4))
      .map(([name, value]) => [name, value()]),
  );
  const roles = Array.from({ length: 1 + random.below(2) }, () => ({ role: random.of(ROLES), version: version() }));
  return hostOf(id, { roles, facts });
}

test("hosts of one kind have the same flows with every other host, as each alone has them", () => {
  const seed = propertySeed();
  console.log(`seed ${seed}`);
  const random = new Random(seed);
  let shared = 0;
  for (let round = 0; round < 20; round++) {
    const hosts = Array.from({ length: 40 }, (_, i) => randomHost(random, i + 1));
    // Twins in all that the catalogue asks: the same but for a version on the same side of every limit.
    hosts.push(...hosts.slice(0, 10).map((host, i) => ({ ...host, id: 100 + i, roles: host.roles.map(newer) })));
    const kinds = kindsOf(hosts);
    expect(kinds.flatMap((kind) => kind.hosts).sort((a, b) => a.id - b.id)).toEqual(hosts);
    const other = endOf(random.of(hosts));
    for (const kind of kinds) {
      shared += kind.hosts.length - 1;
      const there = flowsBetween(kind.end, other, SITE);
      const back = flowsBetween(other, kind.end, SITE);
      for (const host of kind.hosts.slice(1)) {
        expect(flowsBetween(endOf(host), other, SITE)).toEqual(there);
        expect(flowsBetween(other, endOf(host), SITE)).toEqual(back);
      }
    }
  }
  expect(shared).toBeGreaterThan(50);
});

/** A version behind the last limit of the catalogue, if it was there already. */
const newer = ({ role, version }: NetBackupHost["roles"][number]) => ({
  role,
  version: version === "7.10" || version === "8" ? "9.1" : version,
});

test("500 hosts of as many versions are a handful of kinds; what is known and what is not stays apart", () => {
  const hosts = Array.from({ length: 500 }, (_, i) =>
    hostOf(i + 1, { roles: [{ role: "client", version: `7.${i % 20}.${i}` }], facts: {} }),
  );
  expect(kindsOf(hosts).length).toBeLessThan(10);
  const plain = { role: "client", version: "7.5" };
  const apart = [
    hostOf(1, { roles: [plain], facts: {} }),
    hostOf(2, { roles: [{ ...plain, version: null }], facts: {} }),
    hostOf(3, { roles: [plain], facts: { resilient: false } }),
    hostOf(4, { roles: [plain], facts: { resilient: true } }),
    hostOf(5, { roles: [plain], facts: { domain: "a" } }),
    hostOf(6, { roles: [plain], facts: { domain: "b" } }),
  ];
  expect(kindsOf(apart).length).toBe(apart.length);
});
