/** The flow policy in the controller: when engine and kernel get it, and what happens when the kernel refuses. */
import { describe, expect, test } from "bun:test";
import type { Caller } from "../../src/control/caller.ts";
import { policyCounts } from "../../src/control/policy.ts";
import { type Config, EMPTY_CONFIG } from "../../src/model/config.ts";
import { type NetBackupHost, NO_NETBACKUP, type PolicyMode } from "../../src/model/netbackup.ts";
import { ok } from "../../src/model/result.ts";
import { ip } from "../support/addresses.ts";
import { FakeWorld } from "./fakes.ts";

const ROOT: Caller = { name: "root", rights: new Set(["config"]) };
const host = (id: number, address: string, role: string): NetBackupHost => ({
  id,
  name: `h${id}`,
  address: ip(address),
  prefixLength: 32,
  roles: [{ role, version: "7.5" }],
  facts: {},
});
const withMode = (mode: PolicyMode): Config => ({
  ...EMPTY_CONFIG,
  nextId: 10,
  netbackup: {
    ...NO_NETBACKUP,
    mode,
    hosts: [host(1, "192.0.2.1", "master-server"), host(2, "192.0.2.2", "media-server")],
  },
});

async function running(saved: Config) {
  const world = new FakeWorld();
  const controller = world.controller(saved);
  expect(await controller.start()).toEqual(ok(undefined));
  return { world, controller, commands: controller.hostFor(ROOT) };
}

describe("flow policy", () => {
  test("NBU-041 engine and kernel get a policy with one change, off takes it away", async () => {
    const { world, commands } = await running(EMPTY_CONFIG);
    expect([world.image!.policy, world.filter]).toEqual([undefined, null]);
    world.taken();
    expect(await commands.transact("set-policy enforce", () => ok(withMode("enforce")))).toEqual(ok(undefined));
    expect(world.taken().slice(0, 6)).toEqual(["check", "stage 2", "widen", "watch ", "filter", "save"]);
    expect(world.image!.policy).toMatchObject({ mode: "enforce", classCount: 2 });
    expect(world.filter).toContain("flags owner;");
    expect(world.filter).toContain("meta mark 1 accept");
    expect(await commands.transact("set-policy off", () => ok(withMode("off")))).toEqual(ok(undefined));
    expect([world.image!.policy, world.filter]).toEqual([undefined, null]);
  });

  test("NBU-047 a saved policy is in force after a start", async () => {
    const { world } = await running(withMode("monitor"));
    expect(world.image!.policy).toMatchObject({ mode: "monitor" });
    expect(world.filter).not.toContain(" drop ");
  });

  test("what the kernel or the disk refuses leaves everything as it was", async () => {
    for (const step of ["filter", "save"] as const) {
      const { world, controller, commands } = await running(withMode("monitor"));
      const before = [world.filter, world.image, controller.config()];
      world.failAt.add(step);
      const done = await commands.transact("set-policy enforce", () => ok(withMode("enforce")));
      expect(done.ok).toBe(false);
      world.failAt.clear();
      expect([world.filter, world.image, controller.config()]).toEqual(before);
    }
  });

  test("NBU-038 counters of engine and kernel add up, and the latest refused packets come first", () => {
    const none = { packets: 0n, bytes: 0n };
    const counters = Array.from({ length: 262 }, () => none);
    counters[1] = { packets: 3n, bytes: 300n };
    counters[258] = { packets: 1n, bytes: 60n };
    const ends = { source: ip("192.0.2.1"), destination: ip("192.0.2.2"), protocol: 6, packets: 1n };
    const counts = policyCounts(
      { counters, refused: [{ ...ends, sourcePort: 40_000, destinationPort: 80, refusal: "no-flow", lastMs: 9_000 }] },
      {
        counters: new Map([
          ["flow_1", { packets: 2n, bytes: 200n }],
          ["no_flow", { packets: 4n, bytes: 240n }],
        ]),
        refused: [
          { ...ends, set: "no_flow", port: 22, ageMs: 500 },
          { ...ends, set: "reply_is_syn", port: 1556, ageMs: 2_000 },
          { ...ends, set: "outside_bare", protocol: 47, port: null, ageMs: 3_000 },
        ],
      },
      10_000,
      1_000_000,
    );
    expect([...counts.flows.values()]).toEqual([{ packets: 5n, bytes: 500n }]);
    expect(counts.refusals.get("no-flow")).toEqual({ packets: 5n, bytes: 300n });
    expect(
      counts.refused.map(({ refusal, sourcePort, destinationPort, lastAtMs }) => [
        refusal,
        sourcePort,
        destinationPort,
        lastAtMs,
      ]),
    ).toEqual([
      ["no-flow", null, 22, 999_500],
      ["no-flow", 40_000, 80, 999_000],
      ["reply-is-syn", 1556, null, 998_000],
      ["outside", null, null, 997_000],
    ]);
  });
});
