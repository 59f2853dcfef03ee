/** One line of `--verdicts` per packet: what the engine decided, with the names that a user knows. */
import { type Outcome, verdictName } from "../engine/engine.ts";
import { REASON_NAMES } from "../gen/layout.ts";

/** Who knows what ids stand for; null for 0. */
export interface Names {
  ruleName(ruleId: number): string | null;
  serverName(serverId: number): string | null;
}

const encoder = new TextEncoder();

/**
 * A JSON object and a newline.
 * @param number of the packet in the capture, from 1
 */
export function verdictLine(number: number, outcome: Outcome, names: Names): Uint8Array {
  const { verdict, reason, ruleId, serverId, direction, flow, out } = outcome;
  const line = {
    n: number,
    verdict: verdictName(verdict),
    reason: REASON_NAMES[reason],
    rule: names.ruleName(ruleId),
    server: names.serverName(serverId),
    direction,
    flow,
    out: out.length,
  };
  return encoder.encode(`${JSON.stringify(line)}\n`);
}
