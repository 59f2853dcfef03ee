/**
 * What the flow policy costs the engine: 500 bound hosts and everything that the catalogue has, in force and off in turn, on
 * the same memory and the same packets of established flows.
 */

import { policyTablesOf } from "../../src/control/policy.ts";
import type { PolicyTables } from "../../src/engine/policy.ts";
import { type NetBackupHost, NO_NETBACKUP } from "../../src/model/netbackup.ts";
import { CATALOGUE } from "../../src/netbackup/catalogue.ts";
import type { BenchContext, BenchRow, BenchSides } from "../row.ts";
import { CLIENT, EngineWorld, FIRST_VIP, VIP_PORT } from "../support/engine-world.ts";
import { BatchTimer } from "../support/timing.ts";

const HOSTS = 500;
const COUNTS = { "1k": 1_000, "1m": 1_000_000 } as const;

const ROLES = CATALOGUE.roles.map(({ id }) => id);
const [SERVER, BROWSER] = ["opscenter-server", "web-browser"];
/** Hosts that send the packets; the others are one of every other role, and of the VIP. */
const CLIENTS = HOSTS - 1 - (ROLES.length - 2);
/** Where hosts that send nothing are. */
const SILENT = 0x0b000000;

/** @param crowded every host has every role, so that the list of permitted flows is as long as it can be */
function policy(crowded: boolean): PolicyTables {
  const bound = (id: number, value: number, role: string): NetBackupHost => ({
    id,
    name: `host${id}`,
    address: { family: 4, value: BigInt(value >>> 0) },
    prefixLength: 32,
    roles: (crowded ? ROLES : [role]).map((one) => ({ role: one, version: "7.5" })),
    facts: {},
  });
  const silent = ROLES.filter((role) => role !== SERVER && role !== BROWSER);
  const hosts = [
    bound(1, FIRST_VIP, SERVER as string),
    ...Array.from({ length: CLIENTS }, (_, index) => bound(index + 2, CLIENT + index, BROWSER as string)),
    ...silent.map((role, index) => bound(CLIENTS + 2 + index, SILENT + index, role)),
  ];
  if (hosts.length !== HOSTS) throw new Error(`${hosts.length} hosts`);
  return policyTablesOf({ ...NO_NETBACKUP, mode: "enforce", hosts }) as PolicyTables;
}

async function sides(flows: number, crowded: boolean, { sideMs }: BenchContext): Promise<BenchSides> {
  const world = await EngineWorld.create({ flows, clients: CLIENTS });
  const tables = policy(crowded);
  const timer = new BatchTimer(world);
  const packetsOf = (): bigint => world.host.policy().counters.reduce((sum, { packets }) => sum + packets, 0n);
  return {
    ours: () => {
      world.judge(tables);
      const before = packetsOf();
      const cost = timer.run(sideMs);
      if (packetsOf() === before) throw new Error("the policy has judged nothing");
      return cost;
    },
    peer: () => {
      world.judge(null);
      const before = packetsOf();
      const cost = timer.run(sideMs);
      if (packetsOf() !== before) throw new Error("there is a policy where there should be none");
      return cost;
    },
  };
}

const row = (id: string, count: keyof typeof COUNTS, crowded: boolean): BenchRow => ({
  id: `${id}.${count}`,
  unit: "ns/packet",
  better: "lower",
  peerName: "the same without a policy",
  what: `${HOSTS} bound hosts, ${crowded ? "each with every role" : "every role of the catalogue"}, port ${VIP_PORT}, ${COUNTS[count].toLocaleString("en")} established flows`,
  setup: (context) => sides(COUNTS[count], crowded, context),
});

const rows: readonly BenchRow[] = [
  row("engine.policy", "1k", false),
  row("engine.policy", "1m", false),
  row("engine.policy.crowded", "1k", true),
];

export default rows;
