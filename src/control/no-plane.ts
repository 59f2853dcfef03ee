/** `--io none`: a control plane without packets. Engine and kernel that take everything and count nothing. */
import { type EngineCounters, type TableImage, zeroRuleCounters } from "../engine/engine.ts";
import { NOTHING_LIVE } from "../engine/explain.ts";
import type { LiveTables } from "../engine/explanation.ts";
import { REASON_NAMES } from "../gen/layout.ts";
import type { Address } from "../model/address.ts";
import type { EngineControl, KernelControl } from "./ports.ts";

export class NoEngine implements EngineControl {
  private image: TableImage | null = null;

  stage(image: TableImage): { publish(): void; discard(): void } {
    return {
      publish: () => {
        this.image = image;
      },
      discard: () => undefined,
    };
  }

  async adopted(): Promise<boolean> {
    return true;
  }

  counters(): EngineCounters {
    return {
      packetsIn: 0n,
      reasons: REASON_NAMES.map(() => 0n),
      rules: (this.image?.rules ?? []).map((rule) => zeroRuleCounters(rule.id)),
      pairs: [],
      fragmentsIn: 0n,
      fragmentsDropped: 0n,
    };
  }

  heldPairs(): [] {
    return [];
  }

  flows(): [] {
    return [];
  }

  sticky(): [] {
    return [];
  }

  flowsFrom(): [] {
    return [];
  }

  stickyFrom(): [] {
    return [];
  }

  live(): LiveTables {
    return NOTHING_LIVE;
  }

  policy(): { counters: []; refused: [] } {
    return { counters: [], refused: [] };
  }

  portName(): null {
    return null;
  }
}

const NO_ADDRESSES: readonly Address[] = [];

export const NO_KERNEL: KernelControl = {
  check: () => null,
  widen: async () => undefined,
  narrow: async () => undefined,
  filter: async () => undefined,
  filterCounts: async () => ({ counters: new Map(), refused: [] }),
  isLocal: () => false,
  ownAddresses: () => NO_ADDRESSES,
  watch: () => undefined,
  hints: () => [],
};
