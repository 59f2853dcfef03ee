/**
 * Which worker decides about a packet (decision record 0017). What belongs together, a flow, a client's sticky entry, the
 * fragments of a packet, lies in the tables of one worker; the others hand over to it. Asked only by the slow path, and
 * only when there are several workers: what the fast path finds in its own table is its own.
 */
import { hashKeys, isIlb, workerCount, workerIndex } from "./bases";
import { bucketAt, findSlot, firstBucket, matchWays, otherBucket } from "./flow-table";
import { find, kindOf, remember } from "./fragments";
import {
  CHAIN_PLAIN,
  DEAL_WORD,
  Descriptor,
  EPHEMERAL_FROM,
  FRAGMENT_GIVEN,
  HANDED_OVER,
  HANDED_SETTLED,
  ImageRule,
  NONE,
  RULE_ENABLED,
  RULE_STICKY,
  RuleType,
  View,
} from "./gen/layout";
import { guardsLater } from "./guarded";
import { handOver, peerAt } from "./hand-over";
import { addressHash, tupleKey } from "./hash";
import { handHeld } from "./held";
import { isErrorMessage } from "./icmp";
import { destinationOf, findEndpoint, findRule, sourceOf } from "./image";
import { icmpOf, isFragment, parseTransport, TCP, UDP } from "./parse";
import { QUOTE, quotedKey, readQuoted } from "./quoted";

/** Keeps this use of the keyed hash apart from the others. */
const OWNER_SALT: u32 = 0x6f776e65;

/**
 * Hands the packet in hand over if another worker has to decide about it.
 * @returns NONE: decide here; HANDED_OVER; or HandOverFull
 */
export function passOn(packet: View, now: u32): u32 {
  if (changetype<Descriptor>(packet.descriptor).handOver & HANDED_SETTLED) return NONE;
  if (isFragment(packet)) return isIlb ? NONE : passFragment(packet, now);
  if (packet.chain != CHAIN_PLAIN) return NONE;
  let worker = workerIndex;
  if (packet.protocol == TCP || packet.protocol == UDP) worker = ownerOfTransport(packet);
  else if (packet.protocol == icmpOf(packet)) worker = ownerOfMessage(packet);
  return worker == workerIndex ? NONE : handOver(packet, worker, HANDED_SETTLED);
}

/**
 * A number from 0 to workerCount - 1 that follows from a hash. The hash of neighbouring addresses counts up or down, which
 * would send whole runs of them to one worker; the finaliser of MurmurHash3 (Appleby, 2011) breaks that up.
 */
function workerOf(hash: u32): u32 {
  hash = (hash ^ (hash >>> 16)) * 0x85ebca6b;
  hash = (hash ^ (hash >>> 13)) * 0xc2b2ae35;
  return <u32>((<u64>(hash ^ (hash >>> 16)) * workerCount) >>> 32);
}

/** Who opens flows and keeps the entry of a client of a sticky rule: by its address, as far as the rule tells clients apart. */
function workerOfClient(rule: ImageRule, head: u64, tail: u64): u32 {
  return workerOf(addressHash(head & rule.stickyMaskHead, tail & rule.stickyMaskTail, OWNER_SALT));
}

/**
 * Who opens flows of the other rules: the worker that a packet socket deals the packet to. native/share.c computes the same in
 * the kernel, src/engine/owner.ts for `explain`, which says why these fields. Ports in host order.
 */
function workerOfFlow(isIpv6: bool, sourceHead: u64, sourceTail: u64, destinationHead: u64, destinationTail: u64, sourcePort: u32, destinationPort: u32): u32 {
  const isFromHigher = sourcePort >= destinationPort;
  const lower = isFromHigher ? destinationPort : sourcePort;
  const higher = isFromHigher ? sourcePort : destinationPort;
  const head = isFromHigher ? sourceHead : destinationHead;
  const tail = isFromHigher ? sourceTail : destinationTail;
  let address = <u32>(tail >>> 32);
  if (isIpv6) address ^= <u32>tail ^ <u32>head ^ <u32>(head >>> 32);
  let hash: u32 = bswap<u32>(address) ^ load<u32>(hashKeys, <usize>DEAL_WORD << 2);
  hash = (hash ^ (hash >>> 16)) * 0x85ebca6b + (higher | (lower >= EPHEMERAL_FROM ? lower << 16 : 0));
  hash = (hash ^ (hash >>> 13)) * 0xc2b2ae35;
  return (hash ^ (hash >>> 16)) % workerCount;
}

/** Whether this worker opens the flow of a packet to a rule that is not sticky, if no worker has it. Ports in host order. */
export function opensHere(isIpv6: bool, clientHead: u64, clientTail: u64, vipHead: u64, vipTail: u64, clientPort: u32, vipPort: u32): bool {
  return workerOfFlow(isIpv6, clientHead, clientTail, vipHead, vipTail, clientPort, vipPort) == workerIndex;
}

// --- whole packets ---

/** Of TCP or UDP, also the first fragment of one. Whoever has the flow; of none, whose new flow it would be. */
function ownerOfTransport(packet: View): u32 {
  if (parseTransport(packet) != NONE) return workerIndex;
  const key = tupleKey(
    packet.isIpv6 != 0, packet.sourceHead, packet.sourceTail, packet.destinationHead, packet.destinationTail, load<u32>(packet.layer4), packet.protocol,
  );
  if (findSlot(key) != NONE) return workerIndex;
  const to = destinationOf(packet);
  // Nobody has a flow of addresses that no image names: the image names those of flows until they end.
  if (to == null && sourceOf(packet) == null) return workerIndex;
  const holder = holderOf(key);
  if (holder != NONE) return holder;
  const rule = to ? findRule(to, packet.protocol == TCP, packet.destinationPort) : null;
  // A server that is chosen from the packet alone, without stickiness, is chosen alike everywhere; and a turn is a worker's own.
  if (rule == null || (rule.type == RuleType.Dsr && !(rule.flags & RULE_STICKY))) return workerIndex;
  if (rule.flags & RULE_STICKY) return workerOfClient(rule, packet.sourceHead, packet.sourceTail);
  return workerOfFlow(
    packet.isIpv6 != 0, packet.sourceHead, packet.sourceTail, packet.destinationHead, packet.destinationTail, packet.sourcePort, packet.destinationPort,
  );
}

/** An ICMP error: whoever has the flow that it quotes, or the sticky entry. Everything else is decided anywhere. */
function ownerOfMessage(packet: View): u32 {
  if (!isErrorMessage(packet) || packet.headAvailable - packet.headerLength < QUOTE || !readQuoted(packet)) return workerIndex;
  const key = quotedKey(packet);
  if (findSlot(key) != NONE) return workerIndex;
  const vip = findEndpoint(packet.quotedSourceHead, packet.quotedSourceTail);
  if (vip == null && findEndpoint(packet.quotedDestinationHead, packet.quotedDestinationTail) == null) return workerIndex;
  const holder = holderOf(key);
  if (holder != NONE) return holder;
  const rule = vip ? findRule(vip, packet.quotedProtocol == TCP, bswap<u16>(<u16>packet.quotedPortsBe)) : null;
  if (rule == null || rule.type != RuleType.Dsr || !(rule.flags & RULE_ENABLED) || !(rule.flags & RULE_STICKY)) return workerIndex;
  return workerOfClient(rule, packet.quotedDestinationHead, packet.quotedDestinationTail);
}

// --- whose flow table ---

/** The other worker in whose flow table the key is, NONE when it is in none. */
export function holderOf(key: u64): u32 {
  for (let worker: u32 = 0; worker < workerCount; worker++) if (worker != workerIndex && isIn(worker, key)) return worker;
  return NONE;
}

/** All tables are of one size. An entry that is being moved is in its new place before it leaves the old one. */
function isIn(worker: u32, key: u64): bool {
  const base: usize = peerAt(worker).buckets;
  const first = firstBucket(key);
  if (matchWays(base + (<usize>first << 6), key)) return true;
  if (matchWays(base + (<usize>otherBucket(first, key) << 6), key)) return true;
  // It may have moved from the second to the first in between. Atomic, so that the compiler does not call it the same look.
  for (let way: usize = 0; way < 4; way++) if (atomic.load<u64>(base + (<usize>first << 6) + (way << 3)) == key) return true;
  return false;
}

// --- fragments ---

/** Fragments of a packet meet at one worker, whoever owns the flow: only the first one tells that. */
function passFragment(packet: View, now: u32): u32 {
  if (!guardsLater(destinationOf(packet), sourceOf(packet))) return NONE;
  const a = addressHash(packet.sourceHead, packet.sourceTail, packet.fragmentId);
  const b = addressHash(packet.destinationTail, packet.destinationHead, OWNER_SALT);
  const meeting = workerOf(a ^ b);
  if (meeting != workerIndex) return handOver(packet, meeting, 0);
  if (packet.fragmentOffset == 0) return passFirst(packet, now);
  const record = find(packet, now);
  return record && record.outcome == FRAGMENT_GIVEN ? handOver(packet, record.owner, HANDED_SETTLED) : NONE;
}

/** The first one goes to its owner, those that came before it right behind. */
function passFirst(packet: View, now: u32): u32 {
  if (packet.chain != CHAIN_PLAIN || (packet.protocol != TCP && packet.protocol != UDP)) return NONE;
  const owner = ownerOfTransport(packet);
  if (owner == workerIndex) return NONE;
  remember(packet, FRAGMENT_GIVEN, now).owner = <u8>owner;
  const given = handOver(packet, owner, HANDED_SETTLED);
  if (given == HANDED_OVER) handHeld(packet, owner);
  return given;
}
