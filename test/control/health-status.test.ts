import { expect, test } from "bun:test";
import { Unprobed } from "../../src/control/health-status.ts";
import { EVERYONE_HEALTHY, type HealthView } from "../../src/control/runtime.ts";
import type { Server } from "../../src/model/config.ts";
import { FakeHost, outputOf, setUp } from "../support/fake-host.ts";
import { threeServers } from "./configs.ts";
import { FakeWorld } from "./fakes.ts";

test("without a prober a check is un-init since it was made or enabled, and disabled with its rule or server", async () => {
  const host = new FakeHost();
  const health = new Unprobed();
  const after = async (atMs: number, ...lines: string[]) => {
    await setUp(host, ...lines);
    health.follow(host.config(), atMs);
    return health.results().map(({ status, lastAtMs, nextAtMs }) => [status, lastAtMs, nextAtMs]);
  };
  const made = await after(
    1000,
    "create-servergroup -s server=192.0.2.10,192.0.2.11 sg1",
    "create-healthcheck -h hc-test=tcp hc1",
    "create-rule -e -i vip=198.51.100.10,port=80 -m type=DSR -h hc-name=hc1 -o servergroup=sg1 r1",
    "create-rule -e -i vip=198.51.100.10,port=81 -m type=DSR -o servergroup=sg1 unchecked",
  );
  expect(made).toEqual([
    ["un-init", 1000, null],
    ["un-init", 1000, null],
  ]);
  expect(await after(2000, "disable-server _sg1.1")).toEqual([
    ["un-init", 1000, null],
    ["disabled", 1000, null],
  ]);
  expect(await after(3000, "enable-server _sg1.1", "disable-rule r1")).toEqual([
    ["disabled", 1000, null],
    ["disabled", 1000, null],
  ]);
  expect(await after(4000, "enable-rule r1")).toEqual([
    ["un-init", 4000, null],
    ["un-init", 4000, null],
  ]);
  expect(await after(5000, "delete-rule r1")).toEqual([]);
});

test("ILB-131 a server that health checks have taken out still shows E: STATUS is what the administrator said", async () => {
  const world = new FakeWorld();
  let down: HealthView = EVERYONE_HEALTHY;
  const controller = world.controller(threeServers(), new Unprobed(() => down));
  await controller.start();
  const host = controller.hostFor({ name: "test", rights: new Set(["show"]) });
  const before = await outputOf(host, "show-server");
  const inRotation = () => world.image!.rules[0]!.members.filter((member) => member.enabledSequence !== null).length;
  expect(inRotation()).toBe(3);
  const [{ id: ruleId }, [{ id: dead }]] = [threeServers().rules[0]!, threeServers().groups[0]!.servers as [Server]];
  down = new Map([[ruleId, new Set([dead])]]);
  await controller.refresh();
  expect(inRotation()).toBe(2);
  expect(await outputOf(host, "show-server")).toBe(before);
  expect(await outputOf(host, "show-server -p -o status")).toBe("E\nE\nE\n");
});
