/** Typed access to the worker's own small records. */
import { counters, flowHeader, ports, ruleStates, stateBase, viewBase } from "./bases";
import { FlowHeader, PORT_RECORD_SIZE, PortRecord, RULE_STATE_SIZE, RuleState, View, WORKER_COUNTERS_SIZE, WorkerCounters, WorkerState } from "./gen/layout";

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

// @ts-ignore: decorator
@inline
export function ruleState(slot: u32): RuleState {
  return changetype<RuleState>(ruleStates + <usize>slot * RULE_STATE_SIZE);
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
