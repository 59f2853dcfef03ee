/** Runs the engine contract on every engine. */
import { ReferenceEngine } from "../../src/engine/reference.ts";
import { engineContract } from "./engine-contract.ts";
import { goldenCaptures } from "./golden-captures.ts";

// The default chooser looks through the ports from the front, which takes long when a pool fills up.
const ascending = (): ((request: { readonly isFree: (port: number) => boolean }) => number | null) => {
  let cursor = 4095;
  return ({ isFree }) => {
    for (let tried = 0; tried < 61_440; tried++) {
      cursor = cursor >= 65_534 ? 4096 : cursor + 1;
      if (isFree(cursor)) return cursor;
    }
    return null;
  };
};

engineContract("reference", (limits, compat) => new ReferenceEngine(limits, ascending(), compat));
goldenCaptures("reference", (limits) => new ReferenceEngine(limits, ascending()));
