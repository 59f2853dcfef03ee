/** A listing of very many entries keeps the daemon from nothing else and is never in memory as a whole. */
import { expect, test } from "bun:test";
import type { Caller } from "../../src/control/caller.ts";
import type { FlowSnapshot } from "../../src/engine/engine.ts";
import { createApp } from "../../src/http/app.ts";
import type { Service } from "../../src/http/service.ts";
import { parseAddress } from "../../src/model/address.ts";
import { FakeHost } from "../support/fake-host.ts";

const ENTRIES = 100_000;
const caller: Caller = { name: "uid 0 (root)", rights: new Set(["show"]) };

/** Counts how far the table was read. */
class LongTable extends FakeHost {
  read = 0;

  override *natEntries(): Generator<FlowSnapshot> {
    const client = parseAddress("192.0.2.1")!;
    const vip = parseAddress("198.51.100.1")!;
    for (let n = 0; n < ENTRIES; n++) {
      this.read++;
      const port = n & 0xffff;
      const ends = { client, clientPort: port, vip, vipPort: 80, source: client, sourcePort: port };
      yield { protocol: "tcp", ...ends, server: client, serverPort: 80 } as FlowSnapshot;
    }
  }
}

test.each(["show-nat", "show-nat --json"])(
  "%s: others have their turn between two pieces, and a slow reader holds the table back",
  async (line) => {
    const host = new LongTable();
    const log = { debug: () => {}, info: () => {}, warn: () => {}, error: () => {} };
    const app = createApp({
      log,
      version: "0",
      hostFor: () => host,

      isReady: () => true,
    } as unknown as Service);
    const request = new Request("http://localhost/v1/ilbadm", {
      method: "POST",
      headers: { "content-type": "application/json", accept: "application/x-ndjson" },
      body: JSON.stringify({ argv: line.split(" ") }),
    });
    const answer = await app.fetch(request, { caller });
    let turns = 0;
    let isOver = false;
    const turn = (): void => {
      turns++;
      if (!isOver) setImmediate(turn);
    };
    setImmediate(turn);
    let pieces = 0;
    let bytes = 0;
    const reader = answer.body!.getReader();
    const first = await reader.read();
    expect(first.done).toBe(false);
    expect(host.read).toBeLessThan(ENTRIES / 20);
    for (let step = first; !step.done; step = await reader.read()) {
      pieces++;
      bytes += step.value.length;
    }
    isOver = true;
    expect(host.read).toBe(ENTRIES);
    expect(bytes).toBeGreaterThan(ENTRIES * 60);
    expect(pieces).toBeGreaterThan(100);
    expect(turns).toBeGreaterThanOrEqual(pieces - 5);
  },
);
