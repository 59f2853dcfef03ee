/**
 * SIGKILL at any moment of an import: after the restart the configuration is the old one or the new one, exactly.
 * Moments are spread over the time that the import takes; the seed is printed.
 */
import { expect, test } from "bun:test";
import { isFullRun } from "../support/capabilities.ts";
import { propertySeed, Random } from "../support/random.ts";
import { Daemon, ILBADM, Place } from "./daemon.ts";

const LINES = isFullRun ? 10_000 : 1000;
const MOMENTS = isFullRun ? 50 : 5;

/** Groups and rules whose names tell the configuration; export-config prints them as they stand here. */
function configuration(name: string, rules: number): string {
  const lines = [`create-servergroup ${name}`, `add-server -s server=192.0.2.10 ${name}`];
  for (let i = 0; i < rules; i++)
    lines.push(
      `create-rule -e -i vip=198.18.${i >> 8}.${i & 255},port=80 -m lbalg=roundrobin,type=HALF-NAT -o servergroup=${name} ${name}${i}`,
    );
  return `${lines.join("\n")}\n`;
}

test(`a daemon killed at ${MOMENTS} moments of an import of ${LINES} lines holds the old configuration or the new one`, async () => {
  const seed = propertySeed();
  console.log(`seed ${seed} (repeat with ILB_SEED)`);
  const random = new Random(seed);
  const place = new Place();
  try {
    let daemon = await Daemon.start(place);
    const exported: string[] = [];
    let importMs = 0;
    for (const name of ["a", "b"]) {
      const start = performance.now();
      await place.must("import-config", configuration(name, LINES - 2));
      importMs = performance.now() - start;
      exported.push(await place.must("export-config"));
    }
    let now = exported[1]!;
    const seen = { old: 0, new: 0 };
    for (let moment = 0; moment < MOMENTS; moment++) {
      const next = exported.find((text) => text !== now)!;
      const input = configuration(next === exported[0] ? "a" : "b", LINES - 2);
      const child = Bun.spawn([ILBADM, "import-config"], {
        env: { ...process.env, ILB_SOCKET: place.socket },
        stdin: new TextEncoder().encode(input),
        stdout: "ignore",
        stderr: "ignore",
      });
      await Bun.sleep(random.below(Math.ceil(importMs * 1.1)));
      await daemon.stop("SIGKILL");
      const acknowledged = (await child.exited) === 0;
      daemon = await Daemon.start(place);
      const found = await place.must("export-config");
      expect([now, next].map((text) => text === found).filter(Boolean)).toHaveLength(1);
      // What was acknowledged is never lost.
      if (acknowledged) expect(found === next).toBe(true);
      seen[found === now ? "old" : "new"]++;
      now = found;
    }
    console.log(`old ${seen.old}, new ${seen.new}`);
    expect(await daemon.stop()).toBe(0);
  } finally {
    place.remove();
  }
}, 600_000);
