/**
 * Asking for a right, and auditing refusals. A refusal costs a write to the disk, and anyone may be refused, so the
 * records are rationed: beyond the ration refusals are counted, and the count goes with the next record.
 */
import type { Right } from "../command/command.ts";
import type { Caller } from "../control/caller.ts";

export type RefusalSink = (caller: Caller, command: string, code: string) => void;

/** Records per second that may go on for ever, and how many may come at once. */
const PER_SECOND = 5;
const BURST = 50;

export class RefusalAudit {
  private ration = BURST;
  private refilledAtMs: number;
  private left = 0;

  constructor(
    private readonly sink: RefusalSink,
    private readonly nowMs: () => number = () => performance.now(),
  ) {
    this.refilledAtMs = nowMs();
  }

  record(caller: Caller, command: string, code: string): void {
    const nowMs = this.nowMs();
    this.ration = Math.min(BURST, this.ration + ((nowMs - this.refilledAtMs) / 1000) * PER_SECOND);
    this.refilledAtMs = nowMs;
    if (this.ration < 1) {
      this.left++;
      return;
    }
    this.ration--;
    const note = this.left === 0 ? "" : ` (and ${this.left} refusals before it, not recorded one by one)`;
    this.left = 0;
    this.sink(caller, command + note, code);
  }
}

/** The question that command/run.ts asks before it shows or changes anything. */
export function rightCheck(caller: Caller, audit: RefusalAudit): (needed: Right, line: string) => boolean {
  return (needed, line) => {
    if (caller.rights.has(needed)) return true;
    audit.record(caller, line, "E-AUTH");
    return false;
  };
}
