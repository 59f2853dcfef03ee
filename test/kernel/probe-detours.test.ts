/** What is said to nftables for detours of health tests; that it works is shown end to end (test/e2e/health-talks). */
import { describe, expect, test } from "bun:test";
import type { NftRunner } from "../../src/kernel/interest-table.ts";
import { ProbeDetours } from "../../src/kernel/probe-detours.ts";
import { ip } from "../support/addresses.ts";

const BACK = { index: 3, name: "back" };
const FRONT = { index: 2, name: "front" };

/** Notes transactions; refuses those that hold `refused`. */
class Notes implements NftRunner {
  readonly texts: string[] = [];
  refused: string | null = null;

  async run(text: string, action: string): Promise<void> {
    if (this.refused !== null && text.includes(this.refused)) throw new Error(`cannot ${action}: refused`);
    this.texts.push(text);
  }
}

const beginnings = ({ texts }: Notes): string[] => texts.map((text) => text.split(/[\n{]/)[0]!.trim());

describe("detours", () => {
  test("make their table, the hooks of an interface and the mark of a VIP once each, when they are needed", async () => {
    const nft = new Notes();
    const detours = new ProbeDetours(nft);
    expect(nft.texts).toEqual([]);
    const asked = [ip("203.0.113.10"), ip("203.0.113.10"), ip("2001:db8:3::10")];
    const [first, again, other] = await Promise.all(asked.map((vip) => detours.markFor(vip, BACK)));
    expect(again).toBe(first);
    expect(other).not.toBe(first);
    expect(await detours.markFor(ip("203.0.113.10"), FRONT)).toBe(first!);
    expect(beginnings(nft)).toEqual([
      "create table netdev ilb-probes",
      "add chain netdev ilb-probes egress3",
      "add element netdev ilb-probes mark4",
      "add element netdev ilb-probes mark6",
      "add chain netdev ilb-probes egress2",
    ]);
    expect(nft.texts[2]).toContain(`{ ${first} : 203.0.113.10 }`);
    await detours.remove();
    expect(nft.texts.at(-1)).toBe("delete table netdev ilb-probes");
  });

  test("that were never needed leave nothing to remove", async () => {
    const nft = new Notes();
    await new ProbeDetours(nft).remove();
    expect(nft.texts).toEqual([]);
  });

  test.each(["create table", "egress", "mark4"])(
    "refused at %s say so, and are tried again with the next test",
    async (refused) => {
      const nft = new Notes();
      const detours = new ProbeDetours(nft);
      nft.refused = refused;
      await expect(detours.markFor(ip("203.0.113.10"), BACK)).rejects.toThrow(
        "cannot send health tests to VIPs (nft table netdev ilb-probes): refused",
      );
      nft.refused = null;
      expect(await detours.markFor(ip("203.0.113.10"), BACK)).toBeGreaterThan(0);
      expect(beginnings(nft)).toHaveLength(3);
    },
  );
});
