/**
 * Before and after in one laboratory run: `bun bench/lab/compare.ts [--before CHECKOUT] [--against THING,...] [--rounds N]
 * [--ms N] QUANTITY...`. The sides stand side by side and are measured in turn; printed are medians and the median of
 * the ratios to the first side in the same round. THING: what side.ts knows; of ilb also `ilb@CHECKOUT+WORD+WORD`, the words
 * being for `ilbd run`. CHECKOUT is another checkout of this project, built. Not part of
 * `npm run bench`: it is for whoever changes the packet path.
 */
import { findSandbox, SANDBOX_VARIABLE } from "../../src/lab/sandbox.ts";
import { median } from "../harness/statistics.ts";
import { buildTraffic } from "./meters.ts";
import { QUANTITIES, type Quantity, type QuantityName } from "./quantities.ts";
import { Side, type SideOptions, type Thing } from "./side.ts";

interface Contender extends Partial<Pick<SideOptions, "checkout" | "daemonWords">> {
  readonly thing: Thing;
  readonly name: string;
}

async function compare(id: string, quantity: Quantity, contenders: readonly Contender[], rounds: number, ms: number) {
  const sides: Side[] = [];
  const values: number[][] = contenders.map(() => []);
  try {
    for (const contender of contenders) {
      const side = await Side.open({ ...quantity, ...contender });
      sides.push(side);
      await quantity.prepare(side);
      await quantity.measure(side, ms);
    }
    for (let round = 0; round < rounds; round++) {
      const order = [...sides.keys()];
      if (round % 2 === 1) order.reverse();
      for (const index of order) values[index]!.push(await quantity.measure(sides[index]!, ms));
    }
  } finally {
    for (const side of sides) await side.close();
  }
  for (const [index, { name }] of contenders.entries()) {
    const ratios = values[index]!.map((value, round) => value / values[0]![round]!);
    const [low, high] = [Math.min(...ratios).toFixed(2), Math.max(...ratios).toFixed(2)];
    const figures = values[index]!.map((value) => value.toFixed(1)).join(" ");
    console.log(
      `${id} ${name.padEnd(10)} ${median(values[index]!).toFixed(2).padStart(8)}  x${median(ratios).toFixed(2)} [${low} - ${high}]  (${figures})`,
    );
  }
}

function readWords(argv: readonly string[]) {
  const chosen: QuantityName[] = [];
  const contenders: Contender[] = [];
  let [before, against, rounds, ms]: [string | null, string, number, number] = [null, "nft", 5, 1000];
  for (let at = 0; at < argv.length; at++) {
    const word = argv[at]!;
    if (word === "--before") before = argv[++at] ?? null;
    else if (word === "--against") against = argv[++at] ?? "";
    else if (word === "--rounds") rounds = Number(argv[++at]);
    else if (word === "--ms") ms = Number(argv[++at]);
    else if (word in QUANTITIES) chosen.push(word as QuantityName);
    else throw new Error(`${word}: none of ${Object.keys(QUANTITIES).join(", ")}, --before, --against, --rounds, --ms`);
  }
  for (const word of against.split(",").filter((part) => part !== "")) {
    const [what, ...daemonWords] = word.split("+") as [string, ...string[]];
    const [thing, checkout] = what.split("@") as [Thing, string | undefined];
    contenders.push({ thing, name: word, daemonWords, ...(checkout !== undefined && { checkout }) });
  }
  if (before !== null) contenders.push({ thing: "ilb", name: "before", checkout: before });
  contenders.push({ thing: "ilb", name: before === null ? "ilb" : "after" });
  return { chosen, contenders, rounds, ms };
}

if (process.env[SANDBOX_VARIABLE] !== "1") {
  const sandbox = findSandbox();
  if (!sandbox.available) throw new Error(sandbox.reason);
  const argv = sandbox.wrap([process.execPath, import.meta.path, ...process.argv.slice(2)]);
  process.exit(await Bun.spawn(argv, { stdio: ["ignore", "inherit", "inherit"] }).exited);
}
await buildTraffic();
const { chosen, contenders, rounds, ms } = readWords(process.argv.slice(2));
for (const id of chosen) await compare(id, QUANTITIES[id], contenders, rounds, ms);
