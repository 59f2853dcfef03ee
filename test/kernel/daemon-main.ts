/**
 * The kernel's share of a daemon as a process of its own, for tests that kill it: opens everything, says "ready" with its
 * description as JSON, then obeys lines: `interest JSON` (apply), `close`. Argument: JSON of Spec.
 */
import type { Interest } from "../../src/engine/engine.ts";
import { type Kernel, openHost, openPacketMode, openTunMode } from "../../src/kernel/kernel.ts";
import { portClose, tunOpen } from "../../src/native/packet-io.ts";

export interface Spec {
  readonly io: "packet" | "tun";
  readonly devices: readonly string[] | null;
  readonly runDirectory: string;
}

const spec = JSON.parse(process.argv[2] ?? "{}") as Spec;
const say = (kind: string, value: unknown) => process.stdout.write(`${kind} ${JSON.stringify(value)}\n`);
const log = { info: (text: string) => say("log", text), warn: (text: string) => say("log", text) };
const nothing = () => undefined;

try {
  const host = openHost({ ...spec, log });
  const options = { onNextHop: nothing, onLocalChange: () => say("local", true), onPortChange: nothing };
  const tun = spec.io === "tun" ? tunOpen("ilb0", 1, {})[0] : undefined;
  const kernel: Kernel =
    tun === undefined ? await openPacketMode(host, options) : await openTunMode(host, "ilb0", options);
  say("ready", { devices: host.devices.map(({ name }) => name), passes: kernel.passDescriptors.length });
  for await (const line of console) {
    const [verb, ...rest] = line.split(" ");
    if (verb === "close") {
      await kernel.close();
      host.close();
      if (tun !== undefined) portClose(tun);
      break;
    }
    const revive = (_: string, value: unknown) =>
      typeof value === "object" && value !== null && "family" in value && "value" in value
        ? { family: value.family, value: BigInt(String(value.value)) }
        : value;
    const interest = JSON.parse(rest.join(" "), revive) as Interest;
    await kernel.widen(interest);
    await kernel.narrow(interest);
    say("applied", true);
  }
} catch (error) {
  say("refused", (error as Error).message);
  process.exit(1);
}
