/**
 * Who asks for a change, and what that caller may do. The HTTP side finds out (socket credentials or token); here it is
 * a plain value that the controller writes into audit log and history. It does not check rights: http/rights.ts does.
 */

import type { Right } from "../command/command.ts";

export interface Caller {
  /** For audit log and history, e.g. `uid 1000 (alice)` or `token deploy`. */
  readonly name: string;
  readonly rights: ReadonlySet<Right>;
  /** Root, or the daemon's own user: may have the daemon do whatever its user may. Absent: no. */
  readonly isSuperuser?: boolean;
}

/** The daemon itself: start-up import, health, address changes. */
export const DAEMON_CALLER: Caller = {
  name: "ilbd",
  rights: new Set<Right>(["show", "enable", "config"]),
  isSuperuser: true,
};
