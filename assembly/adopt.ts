/** Taking over a published image (decision record 0004). */
import { control, ruleStateCount, sharedHeader, useImage } from "./bases";
import { NONE, RULE_STATE_SIZE, SharedHeader, WorkerControl } from "./gen/layout";
import { ruleAt, ruleCount } from "./image";
import { sweepPairs } from "./pairs";
import { ruleState, state } from "./state";

/** Uses the published image from now on, if it is not in use already. @returns its generation, 0: none yet */
export function adoptIfPublished(): u32 {
  const published = atomic.load<u64>(sharedHeader + offsetof<SharedHeader>("published"));
  const generation = <u32>published;
  const s = state();
  if (generation == s.generation) return generation;
  s.image = <u32>(published >>> 32);
  s.generation = generation;
  useImage(s.image);
  resetRuleStates();
  // Small configurations are brought up to date at once, large ones by the sweep.
  s.pairCursor = 0;
  sweepPairs();
  atomic.store<u32>(control + offsetof<WorkerControl>("seenGeneration"), generation);
  return generation;
}

/** A slot that another rule has now starts from zero. */
function resetRuleStates(): void {
  for (let index: u32 = 0; index < ruleCount(); index++) {
    const rule = ruleAt(index);
    if (rule.slot >= ruleStateCount) continue;
    const own = ruleState(rule.slot);
    if (own.ruleId == rule.id) continue;
    memory.fill(changetype<usize>(own), 0, RULE_STATE_SIZE);
    own.ruleId = rule.id;
    own.cursor = NONE;
  }
}

/** From now on until leaveQuiescent() the worker uses no image. */
export function enterQuiescent(): void {
  atomic.store<u32>(control + offsetof<WorkerControl>("quiescent"), 1);
}

/** Before anything else after waiting: takes part again and adopts what was published meanwhile. */
export function leaveQuiescent(): u32 {
  atomic.store<u32>(control + offsetof<WorkerControl>("quiescent"), 0);
  return adoptIfPublished();
}

/** Whether the main thread asks the worker to end. */
export function stopRequested(): bool {
  return atomic.load<u32>(control + offsetof<WorkerControl>("stop")) != 0;
}

/** Tells the main thread that the worker is alive. */
export function heartbeat(now: u32): void {
  atomic.store<u32>(control + offsetof<WorkerControl>("heartbeatMs"), now);
}
