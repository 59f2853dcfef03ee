/** Decision record 0004: an image is swapped whole, and never written while somebody reads it. */
import { expect, test } from "bun:test";
import { ImageTooLarge } from "../../src/engine/engine.ts";
import { PublishBlocked } from "../../src/engine/host.ts";
import { WorkerEngine } from "../../src/engine/worker-engine.ts";
import { Reason } from "../../src/gen/layout.ts";
import { feed } from "./feed.ts";
import { imageOfRule, makeHost, requestOf } from "./support.ts";

function start() {
  const host = makeHost();
  host.publish(imageOfRule(1));
  const engine = new WorkerEngine(host.seat(0));
  engine.leaveQuiescent();
  return { host, engine };
}

test("a worker goes on with its image until it adopts the next", () => {
  const { host, engine } = start();
  host.publish(imageOfRule(2, { enabled: false }));
  expect(host.generationReached(2)).toBe(false);
  expect(feed(engine, [requestOf(1)], 1)).toEqual([Reason.FlowNew]);
  expect(engine.adoptIfPublished()).toBe(2);
  expect(host.generationReached(2)).toBe(true);
  expect(feed(engine, [requestOf(2)], 1)).toEqual([Reason.RuleDisabled]);
});

test("a waiting worker counts as past every image and adopts the newest when it goes on", () => {
  const { host, engine } = start();
  engine.enterQuiescent();
  for (let generation = 2; generation < 6; generation++)
    host.publish(imageOfRule(generation, { enabled: generation % 2 === 1 }));
  expect(host.generationReached(5)).toBe(true);
  expect(engine.leaveQuiescent()).toBe(5);
  expect(feed(engine, [requestOf(1)], 1)).toEqual([Reason.FlowNew]);
});

test("an image in use is never overwritten: publishing waits, then gives up and changes nothing", () => {
  const { host, engine } = start();
  host.publish(imageOfRule(2));
  expect(() => host.publish(imageOfRule(3, { enabled: false }))).toThrow(PublishBlocked);
  expect(engine.adoptIfPublished()).toBe(2);
  expect(feed(engine, [requestOf(1)], 1)).toEqual([Reason.FlowNew]);
  host.publish(imageOfRule(3, { enabled: false }));
  expect(engine.adoptIfPublished()).toBe(3);
});

test.each([
  ["rules", { slot: 16 }, "rule slots: 17 needed, room for 16"],
  [
    "servers of rules",
    { members: Array.from({ length: 65 }, (_, i) => ({ server: 0, insertSequence: i, enabledSequence: i })) },
    "servers of rules: 65 needed, room for 64",
  ],
])("an image with too many %s is refused and the one before stays", (_name, change, message) => {
  const { host, engine } = start();
  expect(() => host.publish(imageOfRule(2, change))).toThrow(ImageTooLarge);
  expect(() => host.publish(imageOfRule(2, change))).toThrow(message);
  expect(engine.adoptIfPublished()).toBe(1);
  expect(feed(engine, [requestOf(1)], 1)).toEqual([Reason.FlowNew]);
});

test("a rule slot that another rule takes begins at zero", () => {
  const { host, engine } = start();
  host.publish(imageOfRule(2, { enabled: false }));
  engine.adoptIfPublished();
  feed(engine, [requestOf(1)], 1);
  expect(host.counters().rules[0]!.packetsNotProcessed).toBe(1n);
  host.publish(imageOfRule(3, { id: 2, enabled: false }));
  engine.adoptIfPublished();
  expect(host.counters().rules[0]).toMatchObject({ ruleId: 2, packetsNotProcessed: 0n });
});
