/** Deltas of the nft sets, against a twin that refuses what the kernel refuses: overlaps, unknown and doubled elements. */
import { describe, expect, test } from "bun:test";
import fc from "fast-check";
import { interestOf } from "../../src/control/interest.ts";
import type { Interest } from "../../src/engine/engine.ts";
import { InterestTable, type NftRunner } from "../../src/kernel/interest-table.ts";
import { addressText, ip } from "../support/addresses.ts";
import { propertySeed } from "../support/random.ts";

/** One nft table as text commands leave it: elements by set. */
class KernelTwin implements NftRunner {
  sets = new Map<string, Set<string>>();
  /** Chains that ask a set of ranges. */
  asked = new Set<string>();
  transactions = 0;
  commands = 0;
  failNext = false;

  async run(text: string): Promise<void> {
    this.transactions++;
    if (this.failNext) {
      this.failNext = false;
      throw new Error("refused");
    }
    const after = new Map([...this.sets].map(([name, elements]) => [name, new Set(elements)]));
    const asked = new Set(this.asked);
    for (const line of text.split("\n")) {
      if (line.startsWith("delete table")) {
        after.clear();
        asked.clear();
      }
      const [, added, flushed] = /^(?:add rule netdev twin (\S+) .*|flush chain netdev twin (\S+))$/.exec(line) ?? [];
      if (added !== undefined && asked.size === asked.add(added).size) throw new Error(`${added} is asked twice`);
      if (flushed !== undefined && !asked.delete(flushed)) throw new Error(`${flushed} was not asked`);
      const match = /^(add|delete) element netdev twin (\S+) \{ (.*) \}$/.exec(line);
      if (!match) continue;
      const set = after.get(match[2]!) ?? new Set();
      after.set(match[2]!, set);
      for (const element of match[3]!.split(", ")) {
        this.commands++;
        if (match[1] === "delete" && !set.delete(element)) throw new Error(`no element ${element}`);
        if (match[1] === "add") {
          for (const other of set) if (overlaps(element, other)) throw new Error(`${element} overlaps ${other}`);
          set.add(element);
        }
      }
    }
    this.sets = after;
    this.asked = asked;
  }
  /** Every (set, key, port) or (set, address); the sets of ranges, which have to be asked, count for their sisters. */
  contents(): Set<string> {
    const all = new Set<string>();
    for (const [name, elements] of this.sets) {
      if (name.endsWith("r") && this.asked.has(name) !== elements.size > 0)
        throw new Error(`${name} has ${elements.size} ranges and is ${this.asked.has(name) ? "" : "not "}asked`);
      for (const element of elements) {
        const { key, min, max } = split(element);
        if (name.endsWith("r") !== max > min) throw new Error(`${element} does not belong in ${name}`);
        for (let port = min; port <= max; port++) {
          const entry = `${name.replace(/r$/, "")} ${key} ${port}`;
          if (all.has(entry)) throw new Error(`${entry} stands in two sets`);
          all.add(entry);
        }
      }
    }
    return all;
  }
}

/** One spelling per address: what nft is given may be shortened. */
const canonical = (text: string): string => (text.startsWith("0x") ? text : addressText(ip(text)));

function split(element: string): { key: string; min: number; max: number } {
  const [address, protocol, ports] = element.split(" . ");
  if (ports === undefined) return { key: canonical(address!), min: 0, max: 0 };
  const [min, max] = ports.split("-").map(Number);
  return { key: `${canonical(address!)} ${protocol}`, min: min!, max: max ?? min! };
}
function overlaps(a: string, b: string): boolean {
  const [first, second] = [split(a), split(b)];
  return first.key === second.key && first.min <= second.max && second.min <= first.max;
}

function contentsOf(interest: Interest): Set<string> {
  const all = new Set<string>();
  for (const { match, address, protocol, ports } of interest.entries)
    for (let port = ports.min; port <= ports.max; port++)
      all.add(
        `${match === "destination" ? "dst" : "src"}${address.family} ${addressText(address)} ${protocol === "tcp" ? 6 : 17} ${port}`,
      );
  const sets = { vip: interest.vips, srv: interest.servers, prx: interest.proxies };
  for (const [name, list] of Object.entries(sets))
    for (const address of list) all.add(`${name}${address.family} ${addressText(address)} 0`);
  for (const { family, value } of interest.servers) all.add(`quo${family} 0x${value.toString(16)} 0`);
  return all;
}

const FRAME = { table: "netdev twin", chains: "", verdict: "drop", what: "the twin" };
const rule = (min: number, max: number, vip = "203.0.113.1") => ({
  vip: ip(vip),
  protocol: "tcp" as const,
  ports: { min, max },
  type: "HALF-NAT" as const,
  proxySource: null,
  servers: [{ address: ip("192.0.2.1"), ports: null }],
});

describe("interest table", () => {
  const address = fc.constantFrom("192.0.2.1", "192.0.2.2", "2001:db8::1").map(ip);
  const ports = fc
    .tuple(fc.integer({ min: 1, max: 60 }), fc.integer({ min: 0, max: 20 }))
    .map(([min, more]) => ({ min, max: min + more }));
  const interest = fc
    .array(
      fc.record({
        vip: address,
        protocol: fc.constantFrom("tcp" as const, "udp" as const),
        ports,
        type: fc.constantFrom("DSR" as const, "HALF-NAT" as const),
        proxySource: fc.constant(null),
        servers: fc.array(fc.record({ address, ports: fc.option(ports) }), { maxLength: 3 }),
      }),
      { maxLength: 6 },
    )
    .map(interestOf);
  const step = fc.record({
    verb: fc.constantFrom("widen" as const, "narrow" as const, "apply" as const),
    next: interest,
  });

  test("any sequence of widen, narrow and apply leaves union, intersection and the set itself", async () => {
    const seed = propertySeed();
    console.log(`seed ${seed} (repeat with ILB_SEED)`);
    await fc.assert(
      fc.asyncProperty(fc.array(step, { maxLength: 12 }), async (steps) => {
        const kernel = new KernelTwin();
        const table = new InterestTable(kernel, FRAME);
        let expected = new Set<string>();
        for (const { verb, next } of steps) {
          const wanted = contentsOf(next);
          expected =
            verb === "widen" ? expected.union(wanted) : verb === "narrow" ? expected.intersection(wanted) : wanted;
          await table[verb](next);
          expect(kernel.contents()).toEqual(expected);
        }
      }),
      { seed, numRuns: 150 },
    );
  });

  test("nothing new, no transaction", async () => {
    const kernel = new KernelTwin();
    const table = new InterestTable(kernel, FRAME);
    await table.apply(interestOf([rule(80, 90)]));
    const before = kernel.transactions;
    await table.apply(interestOf([rule(80, 90)]));
    await table.widen(interestOf([rule(82, 85)]));
    expect(kernel.transactions).toBe(before);
  });

  test("one rule more among many costs its own elements only", async () => {
    const kernel = new KernelTwin();
    const table = new InterestTable(kernel, FRAME);
    const many = Array.from({ length: 200 }, (_, n) => rule(10 * n + 1, 10 * n + 5));
    await table.apply(interestOf(many));
    const before = kernel.commands;
    await table.widen(interestOf([...many, rule(5000, 5001, "203.0.113.2")]));
    // Destination, source and the VIP's address.
    expect(kernel.commands - before).toBe(3);
  });

  test("a change that is refused is not counted as made: the next one makes up for it", async () => {
    const kernel = new KernelTwin();
    const table = new InterestTable(kernel, FRAME);
    await table.apply(interestOf([rule(80, 80)]));
    kernel.failNext = true;
    await expect(table.apply(interestOf([rule(80, 90)]))).rejects.toThrow("refused");
    expect(kernel.contents()).toEqual(contentsOf(interestOf([rule(80, 80)])));
    await table.apply(interestOf([rule(80, 95)]));
    expect(kernel.contents()).toEqual(contentsOf(interestOf([rule(80, 95)])));
  });

  test("changes that are asked for together are made one after the other", async () => {
    const kernel = new KernelTwin();
    const table = new InterestTable(kernel, FRAME);
    await Promise.all([
      table.widen(interestOf([rule(1, 10)])),
      table.widen(interestOf([rule(5, 20)])),
      table.narrow(interestOf([rule(8, 12)])),
    ]);
    expect(kernel.contents()).toEqual(contentsOf(interestOf([rule(8, 12)])));
  });
});
