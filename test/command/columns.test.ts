/** The column engine against the samples of the manual and against its own rules. */
import { expect, test } from "bun:test";
import fc from "fast-check";
import { layOut, parsableLine } from "../../src/command/columns.ts";
import { chooseFields, RULE_FIELDS, RULE_WIDTHS } from "../../src/command/fields.ts";
import { propertySeed } from "../support/random.ts";

const RULE_COLUMNS = ["RULENAME", "STATUS", "LBALG", "TYPE", "PROTOCOL", "VIP", "PORT"];
const width = (ipv6: boolean) =>
  RULE_COLUMNS.map((name) => {
    const own = RULE_WIDTHS[name as keyof typeof RULE_WIDTHS];
    return typeof own === "number" ? own : own[ipv6 ? 1 : 0];
  });

test.each([
  [RULE_COLUMNS, false, "RULENAME            STATUS LBALG       TYPE    PROTOCOL VIP         PORT"],
  [
    ["r2", "E", "hash-ip", "NAT", "TCP", "198.51.100.10", "81"],
    false,
    "r2                  E      hash-ip     NAT     TCP  198.51.100.10   81",
  ],
  [
    ["webrule", "D", "roundrobin", "HALF-NAT", "UDP", "198.51.100.20", "5000-5009"],
    false,
    "webrule             D      roundrobin  HALF-NAT UDP 198.51.100.20   5000-5009",
  ],
  [
    ["dsr-rule-with-name1", "E", "hash-ip-port", "DSR", "TCP", "198.51.100.30", "80"],
    false,
    "dsr-rule-with-name1 E      hash-ip-port DSR    TCP  198.51.100.30   80",
  ],
  [
    RULE_COLUMNS,
    true,
    "RULENAME            STATUS LBALG       TYPE    PROTOCOL VIP                                PORT",
  ],
  [
    ["v6rule", "E", "hash-ip-vip", "DSR", "TCP", "2001:db8::10", "21"],
    true,
    "v6rule              E      hash-ip-vip DSR     TCP  2001:db8::10                           21",
  ],
])("ILB-112 a row is laid out as in the manual: %j", (cells, ipv6, line) => {
  expect(layOut(cells, width(ipv6))).toBe(line);
});

test.each([
  [
    ["_sg1.1", "192.0.2.11", "6000-6009", "rule1", "D", "sg1"],
    [20, 16, 5, 20, 7, 15],
    "_sg1.1              192.0.2.11      6000-6009 rule1          D      sg1",
  ],
  [["abc", "d"], [3, 4], "abc d"],
  [["ab", "d"], [3, 4], "ab d"],
  [["abcdef", "x", "y", "z"], [4, 3, 4, 4], "abcdef x y z"],
  [["only"], [20], "only"],
])("ILB-112 what a long cell takes too much is taken back: %j", (cells, widths, line) => {
  expect(layOut(cells, widths)).toBe(line);
});

test("a row never ends in padding, keeps every cell in order, and is aligned again once the debt is paid", () => {
  const seed = propertySeed();
  const cell = fc.stringMatching(/^[a-z0-9.:-]{1,24}$/);
  const row = fc.array(fc.record({ cell, width: fc.integer({ min: 1, max: 30 }) }), { minLength: 1, maxLength: 8 });
  fc.assert(
    fc.property(row, (columns) => {
      const cells = columns.map((column) => column.cell);
      const widths = columns.map((column) => column.width);
      const line = layOut(cells, widths);
      expect(line.split(/ +/)).toEqual(cells);
      const fits = columns.every((column) => column.cell.length < column.width);
      if (!fits) return;
      const starts = widths.map((_, i) => widths.slice(0, i).reduce((sum, one) => sum + one, 0));
      cells.forEach((text, i) => {
        expect(line.startsWith(text, starts[i])).toBe(true);
      });
    }),
    { seed, numRuns: 300 },
  );
});

test("ILB-264 a backslash is written twice when several fields are printed", () => {
  expect(parsableLine(["a\\b", "c:d"])).toBe("a\\\\b:c\\:d");
});

test("ILB-119 a single field is not escaped", () => {
  expect(parsableLine(["2001:db8::1"])).toBe("2001:db8::1");
});

test("fields may repeat, come in any case, and all stands for every one", () => {
  expect(chooseFields(RULE_FIELDS, "Vip,vip")).toEqual({ ok: true, fields: ["VIP", "VIP"] });
  expect(chooseFields(RULE_FIELDS, "ALL")).toEqual({ ok: true, fields: Object.keys(RULE_WIDTHS) });
  expect(chooseFields(RULE_FIELDS, "vip,,port")).toEqual({ ok: false, unknown: "" });
});
