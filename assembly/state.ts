/** Typed access to the worker's own small records. */
import { counters, flowHeader, ports, ruleStates, stateBase, viewBase } from "./bases";
import { FlowHeader, ImageRule, NONE, PORT_RECORD_SIZE, PortRecord, RULE_STATE_SIZE, RuleState, View, WORKER_COUNTERS_SIZE, WorkerCounters, WorkerState } from "./gen/layout";

// @ts-ignore: decorator
@inline
export function view(): View {
  return changetype<View>(viewBase);
}

// @ts-ignore: decorator
@inline
export function state(): WorkerState {
  return changetype<WorkerState>(stateBase);
}

// @ts-ignore: decorator
@inline
export function flowMemory(): FlowHeader {
  return changetype<FlowHeader>(flowHeader);
}

// @ts-ignore: decorator
@inline
export function totals(): WorkerCounters {
  return changetype<WorkerCounters>(counters);
}

/**
 * Turn and counters of a rule. A slot that another rule had begins at zero when the new one first needs it, so that
 * taking over an image costs nothing per rule; until then readers see the old id and count zero.
 */
export function ruleState(rule: ImageRule): RuleState {
  const own = changetype<RuleState>(ruleStates + <usize>rule.slot * RULE_STATE_SIZE);
  if (own.ruleId == rule.id) return own;
  memory.fill(changetype<usize>(own), 0, RULE_STATE_SIZE);
  own.cursor = NONE;
  atomic.store<u32>(changetype<usize>(own) + offsetof<RuleState>("ruleId"), rule.id);
  return own;
}

/** `index` must be under MAX_PORTS. */
// @ts-ignore: decorator
@inline
export function port(index: u32): PortRecord {
  return changetype<PortRecord>(ports + <usize>index * PORT_RECORD_SIZE);
}

/** Counts `count` packets under a reason. */
// @ts-ignore: decorator
@inline
export function countReason(reason: u32, count: u64): void {
  const at = counters + WORKER_COUNTERS_SIZE + (reason << 3);
  store<u64>(at, load<u64>(at) + count);
}

/** Whether the engine clock has reached `deadlineMs`. Both wrap; they are never 25 days apart. */
// @ts-ignore: decorator
@inline
export function isPast(deadlineMs: u32, now: u32): bool {
  return <i32>(now - deadlineMs) >= 0;
}
