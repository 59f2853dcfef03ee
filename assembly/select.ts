/** A rule picks a server (specification E.5): round robin and the three hashes. */
import { swap16, unmapped } from "./address";
import { Algorithm, ImageRule, NONE, View } from "./gen/layout";
import { crc32 } from "./hash";
import { enabledMember, memberAt, membersUpTo } from "./image";
import { ruleState } from "./state";

/** Index of the member that takes the next flow, NONE when none may. Round robin advances, whatever comes of the pick. */
export function choose(rule: ImageRule, packet: View): u32 {
  if (rule.enabledCount == 0) return NONE;
  if (rule.algorithm == Algorithm.RoundRobin) return roundRobin(rule);
  const hash = crc32(hashInput(rule, packet));
  const index = hash % rule.memberCount;
  if (memberAt(rule, index).enabled) return index;
  return enabledMember(rule, hash % rule.enabledCount);
}

/**
 * The turn goes from the server added last to the one added first and then round. The cursor is a sequence number, not
 * an index: when its server leaves, the turn is its successor's, and a server added later comes right after the round.
 */
function roundRobin(rule: ImageRule): u32 {
  const turn = ruleState(rule.slot);
  const count = rule.memberCount;
  let index = membersUpTo(rule, turn.cursor);
  for (let tried: u32 = 0; tried < count; tried++) {
    index = (index == 0 ? count : index) - 1;
    if (!memberAt(rule, index).enabled) continue;
    turn.cursor = index == 0 ? NONE : memberAt(rule, index - 1).insertSequence;
    return index;
  }
  return NONE;
}

/** The four bytes that go into the CRC, first byte lowest. IPv6 uses the last 32 bits of addresses. */
function hashInput(rule: ImageRule, packet: View): u32 {
  const client = unmapped(packet.sourceTail);
  if (rule.algorithm == Algorithm.HashIpPort) {
    const portBe = swap16(packet.sourcePort);
    return client ^ (portBe | (portBe << 16));
  }
  if (rule.algorithm == Algorithm.HashIpVip) return client ^ unmapped(packet.destinationTail);
  return client;
}
