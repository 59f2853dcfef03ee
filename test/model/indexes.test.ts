import { expect, test } from "bun:test";
import type { Rule } from "../../src/model/config.ts";
import { foldName, ruleLists } from "../../src/model/indexes.ts";
import { findById } from "../../src/model/lookup.ts";
import { rule } from "../control/configs.ts";
import { propertySeed, Random } from "../support/random.ts";

const seed = propertySeed();

/** Everything that an index says about a list, from the list alone. */
function plainly(list: readonly Rule[]): unknown {
  const answers = list.map((each) => [
    list.find((other) => foldName(other.name) === foldName(each.name)),
    list.filter((other) => other.vip.value === each.vip.value && other.protocol === each.protocol),
    list.filter((other) => other.groupId === each.groupId),
  ]);
  return answers;
}

function byIndex(list: readonly Rule[]): unknown {
  const index = ruleLists.of(list);
  return list.map((each) => [
    index.byName.get(foldName(each.name)),
    [...index.ofService(each.vip, each.protocol)],
    [...index.ofGroup(each.groupId)],
  ]);
}

test("an index that has followed its list says what a walk over the list says, also of older lists", () => {
  const random = new Random(seed);
  console.log(`seed ${seed}`);
  const past: (readonly Rule[])[] = [];
  let list: readonly Rule[] = [];
  for (let id = 1; id < 200; id++) {
    const step = random.below(4);
    const some = list[random.below(Math.max(1, list.length))];
    if (step === 0 && some) list = ruleLists.remove(list, some.id);
    else if (step === 1 && some) list = ruleLists.replace(list, { ...some, enabled: !some.enabled });
    else {
      const address = { family: 4 as const, value: BigInt(1 + random.below(4)) };
      const changes = { vip: address, protocol: random.chance(0.5) ? ("tcp" as const) : ("udp" as const) };
      list = ruleLists.append(list, { ...rule(id, `R${id}`, 1 + random.below(3)), ...changes });
    }
    expect(byIndex(list)).toEqual(plainly(list));
    past.push(list);
  }
  for (const old of past) expect(byIndex(old)).toEqual(plainly(old));
});

test("an object is found by its id without walking the list, one that is gone is not found", () => {
  let reads = 0;
  const rules = Array.from({ length: 1000 }, (_, i) => rule(3 * i + 1, `R${i}`, 1));
  const counted = new Proxy(rules, {
    get: (list, key) => {
      reads++;
      return Reflect.get(list, key) as unknown;
    },
  });
  for (const wanted of rules) expect(findById(counted, wanted.id)).toBe(wanted);
  for (const id of [0, 2, 3, 2999, 5000]) expect(findById(counted, id)).toBeUndefined();
  expect(findById([], 1)).toBeUndefined();
  expect(reads / (rules.length + 5)).toBeLessThan(15);
});

test("names are the same without regard to the case of ASCII letters, and of no others", () => {
  expect(foldName("Web-A.1")).toBe(foldName("wEB-a.1"));
  expect(foldName("\u212aey")).not.toBe(foldName("key"));
});
