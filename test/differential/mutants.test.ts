/**
 * The WebAssembly engine with one decision turned round, function by function: the differential test has to notice each
 * within a bounded number of packets. broken-engine.ts does the same to outcomes; here the fault is in the engine.
 */
import { describe, expect, test } from "bun:test";
import type { Compat } from "../../src/engine/engine.ts";
import { WasmEngine } from "../../src/engine/wasm-engine.ts";
import { engineWithWrongBranch } from "../fuzz/instrument.ts";
import { LIMITS, run } from "./run.ts";

/** Packets that an engine with a fault may survive. */
const LONGEST_LIFE = 80_000;
const RUN_PACKETS = 5_000;

/** Name of the function and number of the branch, and what it is about. */
const MUTANTS: readonly (readonly [functionName: string, branch: number, about: string])[] = [
  ["assembly/fragments/kindOf", 0, "which fragments belong together"],
  ["assembly/held/nextHeld", 0, "the order in which waiting fragments leave"],
  ["assembly/held/giveUp", 0, "what becomes of a fragment that waited in vain"],
  ["assembly/guarded/guardsLater", 0, "whose later fragments are guarded"],
  ["assembly/made/copyOut", 0, "the bytes of frames that are made"],
  ["assembly/made/attachMade", 0, "which frames leave in place of the received one"],
  ["assembly/made/emit", 0, "whether a packet leaves whole"],
  ["assembly/icmp/isError", 0, "what is an ICMP error of either family"],
  ["assembly/icmp/isTooBig", 0, "what is a too big message of either family"],
  ["assembly/icmp/translateForServer", 0, "what an error for a server says"],
  ["assembly/icmp/translateForClient", 0, "what an error for a client says"],
  ["assembly/icmp/guardsProxyIcmp", 0, "whose errors to a proxy address are"],
  ["assembly/quoted/readQuoted", 0, "what an error quotes"],
  ["assembly/quoted/rewriteQuoted", 0, "the quoted packet's checksums"],
  ["assembly/select/byHash", 0, "whom a hash chooses"],
  ["assembly/select/hashInput", 0, "what is hashed"],
  ["assembly/select/stickyMember", 0, "whether a sticky client's server still takes him"],
  ["assembly/pairs/bringUpToDate", 0, "which servers drain"],
  ["assembly/pairs/sweepPairs", 0, "which pairs are in use"],
  ["assembly/sweep/sweepBuckets", 0, "what a sweep looks at"],
  ["assembly/egress/leaveToServer", 0, "the way to a server"],
  ["assembly/process/dropped", 0, "which counter a dropped packet moves"],
];

function firstFailure(moduleBytes: Uint8Array<ArrayBuffer>): string | null {
  for (let seed = 1; seed <= LONGEST_LIFE / RUN_PACKETS; seed++) {
    const compat: Compat = seed % 2 === 0 ? "ilb" : "modern";
    const make = Object.assign(() => new WasmEngine({ limits: LIMITS, moduleBytes, compat }), { compat });
    try {
      const { failure } = run(make, seed, RUN_PACKETS, false);
      if (failure !== null) return failure;
    } catch (error) {
      return String(error);
    }
  }
  return null;
}

describe("a wrong branch is noticed in the decision", () => {
  test.each(MUTANTS)(
    "of %s, branch %d: %s",
    async (functionName, branch) => {
      expect(firstFailure(await engineWithWrongBranch(functionName, branch))).not.toBeNull();
    },
    120_000,
  );
});
