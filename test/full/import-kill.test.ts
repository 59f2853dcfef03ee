/** An import is all or nothing, whenever the daemon is killed: SIGKILL at random moments of a 10,000-line import. */
import { expect, test } from "bun:test";
import { Daemon, Place } from "../daemon/daemon.ts";
import { Random } from "../support/random.ts";

const seed = Number(process.env.ILB_SEED ?? Date.now() & 0xffffff);
const KILLS = process.env.ILB_TEST_SHORT === "1" ? 10 : 50;

/** A configuration of `lines` lines that export-config writes as it is. */
function configuration(tag: string, lines: number): string {
  const groups = Math.ceil(lines / 11);
  const made = Array.from({ length: groups }, (_, n) => [
    `create-servergroup ${tag}${n}`,
    ...Array.from({ length: 10 }, (__, at) => `add-server -s server=10.${n >> 8}.${n & 255}.${at + 1} ${tag}${n}`),
  ]).flat();
  return `${made.slice(0, lines).join("\n")}\n`;
}

test(`killed ${KILLS} times during an import, the configuration is the old one or the new one (seed ${seed})`, async () => {
  const random = new Random(seed);
  const place = new Place();
  const texts = [configuration("a", 10_000), configuration("b", 10_000)] as const;
  let daemon = await Daemon.start(place);
  let current = 0;
  const seen = { old: 0, new: 0 };
  try {
    const begun = performance.now();
    await place.must("import-config", texts[current]);
    const wholeMs = performance.now() - begun;
    for (let kill = 0; kill < KILLS; kill++) {
      const other = 1 - current;
      const importing = place.ilbadm("import-config", texts[other]);
      // A moment anywhere in the import, and a little behind it.
      await Bun.sleep((random.below(1000) / 1000) * wholeMs * 1.2);
      await daemon.stop("SIGKILL");
      const { status } = await importing;
      daemon = await Daemon.start(place);
      const after = await place.must("export-config");
      const found = texts.indexOf(after);
      if (found < 0)
        throw new Error(`kill ${kill}: a configuration that nobody made, ${after.split("\n").length} lines`);
      // What was acknowledged is there.
      if (status === 0) expect(found).toBe(other);
      seen[found === other ? "new" : "old"]++;
      current = found;
    }
    expect(seen.old).toBeGreaterThan(0);
    expect(seen.new).toBeGreaterThan(0);
  } finally {
    await daemon.stop("SIGKILL");
    place.remove();
  }
}, 900_000);
