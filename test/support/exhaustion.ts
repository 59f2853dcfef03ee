/** Full NAT until its proxy ports run out (specification E.7), with real datagrams. */
import { expect } from "bun:test";
import type { Lab } from "../../src/lab/lab.ts";
import { flowCount } from "./crowd.ts";
import { targetOf } from "./e2e.ts";
import { exchange, flood, shortRequest } from "./wire.ts";

/** Ports 4096 to 65534 but 13724: what one proxy address has towards one server port. */
export const PORTS_PER_PROXY = 61_438;

const FIRST_PORT = 2_000;
const PORTS_PER_SOURCE = 8_000;
/** Far more passes than lost datagrams can make necessary. */
const MOST_PASSES = 20;

/** Datagrams from fresh source ports, so each asks for a flow. @param wanted flows in the end, those that are there included. */
export async function fillFlows(lab: Lab, wanted: number): Promise<void> {
  const before = await flowCount(lab);
  for (let pass = 0; pass < MOST_PASSES; pass++) {
    let left = wanted - before;
    for (const source of lab.clientAddresses) {
      const ports = Math.min(left, PORTS_PER_SOURCE);
      if (ports > 0) await flood(lab, targetOf(lab), [source], FIRST_PORT, ports);
      left -= ports;
    }
    if (left > 0) throw new RangeError(`${lab.clientAddresses.length} client addresses are not enough`);
    // A datagram that was lost on its way is made up for by the next pass; the others change nothing.
    if ((await flowCount(lab)) === wanted) return;
  }
  throw new Error(`${await flowCount(lab)} of ${wanted} flows after ${MOST_PASSES} passes`);
}

/** Columns of show-statistics by name. */
export async function statistics(lab: Lab, ...columns: string[]): Promise<number[]> {
  const lines = (await lab.configure("show-statistics", "-o", columns.join(","))).trim().split("\n");
  return (lines[1] ?? "").trim().split(/\s+/).map(Number);
}

/** A limit against hanging: counting what has been sent, or a sweep 15 s after flows have become idle. */
const PATIENCE_MS = 90_000;

/** Waits until `read` gives `wanted`. @returns what it gave last */
export async function settled<T>(read: () => Promise<T>, wanted: T): Promise<T> {
  const givenUpMs = Date.now() + PATIENCE_MS;
  for (;;) {
    const value = await read();
    if (Bun.deepEquals(value, wanted) || Date.now() > givenUpMs) return value;
    await Bun.sleep(50);
  }
}

/** One question from this source port is answered. */
export async function expectAnswered(lab: Lab, port: number, number: number): Promise<void> {
  const from = { address: lab.clientAddresses[0] ?? "", port };
  const report = await exchange(lab, targetOf(lab), from, [shortRequest(number)]);
  expect(report).toEqual({ answered: { [number]: "s1" }, wrong: [], missing: [] });
}
