/** A rule picks a server (specification E.5): round robin and the three hashes. */
import { swap16, unmapped } from "./address";
import { Algorithm, ImageRule, NONE, Opening, RULE_STICKY, View } from "./gen/layout";
import { crc32 } from "./hash";
import { enabledMember, memberAt, membersUpTo } from "./image";
import { pairAt } from "./pairs";
import { ruleState, state } from "./state";
import { findSticky, stickyAt } from "./sticky";

/** Index of the member that takes the next flow, NONE when none may. Round robin advances, whatever comes of the pick. */
export function choose(rule: ImageRule, packet: View): u32 {
  if (rule.enabledCount == 0) return NONE;
  if (rule.algorithm == Algorithm.RoundRobin) return roundRobin(rule);
  return byHash(rule, packet.sourceTail, packet.sourcePort, packet.destinationTail);
}

/**
 * Index of the member that the packet which an ICMP error quotes came from, NONE when that cannot be told. The client is
 * its destination. Moves no turn and touches no sticky entry.
 */
export function chooseQuoted(rule: ImageRule, packet: View): u32 {
  if (rule.enabledCount == 0) return NONE;
  if (rule.flags & RULE_STICKY) {
    const sticky = findSticky(rule, packet.quotedDestinationHead, packet.quotedDestinationTail);
    const bound = sticky == NONE ? NONE : stickyMember(rule, sticky);
    if (bound != NONE) return bound;
  }
  if (rule.algorithm == Algorithm.RoundRobin) return rule.enabledCount == 1 ? enabledMember(rule, 0) : NONE;
  return byHash(rule, packet.quotedDestinationTail, swap16(packet.quotedPortsBe >>> 16), packet.quotedSourceTail);
}

/** Index of the sticky entry's server among the rule's members, NONE when it takes no new flows. */
export function stickyMember(rule: ImageRule, sticky: u32): u32 {
  const pair = pairAt(stickyAt(sticky).pair);
  const after = membersUpTo(rule, pair.insertSequence);
  if (after == 0) return NONE;
  const member = memberAt(rule, after - 1);
  return member.serverId == pair.serverId && member.enabled ? after - 1 : NONE;
}

function byHash(rule: ImageRule, clientTail: u64, clientPort: u32, vipTail: u64): u32 {
  const hash = crc32(hashInput(rule.algorithm, clientTail, clientPort, vipTail));
  const index = hash % rule.memberCount;
  if (memberAt(rule, index).enabled) return index;
  return enabledMember(rule, hash % rule.enabledCount);
}

/**
 * The member that choose() is going to pick for a packet further on in the batch, after those that this was asked for
 * before. Moves no turn; takeTurn() does, when it comes to the packet.
 */
export function foresee(rule: ImageRule, opening: Opening, clientTail: u64, clientPort: u32, vipTail: u64): u32 {
  if (rule.enabledCount == 0) return NONE;
  if (rule.algorithm != Algorithm.RoundRobin) return byHash(rule, clientTail, clientPort, vipTail);
  const turn = ruleState(rule);
  const order = state().lookAheads;
  if (turn.aheadOrder != order) {
    turn.aheadOrder = order;
    turn.aheadCursor = turn.cursor;
  }
  opening.turnBefore = turn.aheadCursor;
  const index = memberInTurn(rule, turn.aheadCursor);
  if (index != NONE) turn.aheadCursor = cursorAfter(rule, index);
  opening.turnAfter = turn.aheadCursor;
  return index;
}

/** Whether choose() would pick now what was foreseen. */
// @ts-ignore: decorator
@inline
export function isInTurn(rule: ImageRule, opening: Opening): bool {
  return rule.algorithm != Algorithm.RoundRobin || ruleState(rule).cursor == opening.turnBefore;
}

/** What choose() does beside picking; isInTurn() must hold. */
// @ts-ignore: decorator
@inline
export function takeTurn(rule: ImageRule, opening: Opening): void {
  if (rule.algorithm == Algorithm.RoundRobin) ruleState(rule).cursor = opening.turnAfter;
}

/**
 * The turn goes from the server added last to the one added first and then round. The cursor is a sequence number, not
 * an index: when its server leaves, the turn is its successor's, and a server added later comes right after the round.
 */
function roundRobin(rule: ImageRule): u32 {
  const turn = ruleState(rule);
  const index = memberInTurn(rule, turn.cursor);
  if (index != NONE) turn.cursor = cursorAfter(rule, index);
  return index;
}

/** Index of the first enabled member from a cursor on, NONE when there is none. */
function memberInTurn(rule: ImageRule, cursor: u32): u32 {
  const count = rule.memberCount;
  let index = membersUpTo(rule, cursor);
  for (let tried: u32 = 0; tried < count; tried++) {
    index = (index == 0 ? count : index) - 1;
    if (memberAt(rule, index).enabled) return index;
  }
  return NONE;
}

// @ts-ignore: decorator
@inline
function cursorAfter(rule: ImageRule, index: u32): u32 {
  return index == 0 ? NONE : memberAt(rule, index - 1).insertSequence;
}

/** The four bytes that go into the CRC, first byte lowest. IPv6 uses the last 32 bits of addresses. */
function hashInput(algorithm: u32, clientTail: u64, clientPort: u32, vipTail: u64): u32 {
  const client = unmapped(clientTail);
  if (algorithm == Algorithm.HashIpPort) {
    const portBe = swap16(clientPort);
    return client ^ (portBe | (portBe << 16));
  }
  if (algorithm == Algorithm.HashIpVip) return client ^ unmapped(vipTail);
  return client;
}
