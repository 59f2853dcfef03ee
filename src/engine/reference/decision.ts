/** What became of a packet, before it is counted, and short ways to say so. */
import { type Reason, Verdict } from "../../gen/layout.ts";
import type { Direction, FlowState, FrameOut } from "../engine.ts";
import type { Trail } from "./fragments.ts";

/** What became of a packet; process() adds nothing to it but the count. */
export interface Decision {
  readonly verdict: Verdict;
  readonly reason: Reason;
  readonly rule?: number;
  readonly server?: number;
  readonly direction?: Direction;
  readonly flow?: FlowState;
  readonly out?: readonly FrameOut[];
  readonly passed?: readonly FrameOut[];
  /** Of TCP and UDP that left: where and how, for the fragments that follow. */
  readonly trail?: Trail;
}

export const ignore = (reason: Reason): Decision => ({ verdict: Verdict.Ignore, reason });
export const pass = (reason: Reason): Decision => ({ verdict: Verdict.Pass, reason });
export const drop = (reason: Reason): Decision => ({ verdict: Verdict.Drop, reason });

/** Whose packet it is: what the fields of an Outcome say beside verdict and reason. */
export type Belongs = Required<Pick<Decision, "rule" | "server" | "direction" | "flow">>;
