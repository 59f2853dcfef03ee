/**
 * A look ahead at the segments of a batch that open connections: what their flows are going to need of the tables is brought
 * into the cache for all of them together, so that the misses overlap. Guesses and reads only: a wrong guess costs a miss, and
 * decides nothing. A batch without such a segment never comes here.
 */
import { mapped, swap16 } from "./address";
import { descriptors, flowCount, scratch, slotRecords } from "./bases";
import { flowAt, reverseKey } from "./flows";
import { bucketAt, firstBucket, otherBucket } from "./flow-table";
import { DESCRIPTOR_SIZE, Descriptor, ETHERNET_HEADER, MAX_PORTS, NONE, PortKind, RULE_ENABLED, RULE_STICKY, RuleType, SCRATCH_SIZE, Scratch } from "./gen/layout";
import { tupleKey4, tupleKey6 } from "./hash";
import { findEndpoint, findRule, memberAt } from "./image";
import { findPair, pairAt, serverPort } from "./pairs";
import { ACK, FIN, IPV4_TYPE, IPV6_TYPE, RST, SYN, TCP } from "./parse";
import { foresee } from "./select";
import { flowMemory, port, state } from "./state";

/** Scratch.shape of a slow packet that has been looked at here; no bit of any other shape. */
const SHAPE_OPENING: u32 = 1 << 26;

/** Packets that are looked at together: what they need fits the nearest cache, beside the packets themselves. */
const WINDOW: u32 = 16;

/**
 * Looks at slow packet `index` and those among the next ones, if it is a segment that opens a connection.
 * @param count packets of the batch
 * @returns index of the first packet that has not been looked at
 */
export function lookAhead(index: u32, count: u32): u32 {
  state().lookAheads += 1;
  if (!foreseeFlow(index)) return index;
  count = min(count, index + WINDOW);
  for (let next = index + 1; next < count; next++) if (notesOf(next).shape == 0) foreseeFlow(next);
  touch(index, count);
  return count;
}

// @ts-ignore: decorator
@inline
function notesOf(index: u32): Scratch {
  return changetype<Scratch>(scratch + <usize>index * SCRATCH_SIZE);
}

/** Works out the keys of the flow that a segment is going to open. @returns false when it is no such segment */
function foreseeFlow(index: u32): bool {
  const descriptor = changetype<Descriptor>(descriptors + <usize>index * DESCRIPTOR_SIZE);
  if (descriptor.inPort >= MAX_PORTS) return false;
  const kind = port(descriptor.inPort).kind;
  const link: u32 = kind == PortKind.Ethernet ? ETHERNET_HEADER : 0;
  const inHead = min(descriptor.headLength, descriptor.length);
  if (inHead < link + 40) return false;
  const ip: usize = descriptor.frame + link;
  const version: u32 = load<u8>(ip);
  if (version == 0x45) return load<u8>(ip, 9) == TCP && isOpening(ip + 20) && foresee4(notesOf(index), ip);
  if (version >>> 4 != 6 || inHead < link + 60) return false;
  return load<u8>(ip, 6) == TCP && isOpening(ip + 40) && foresee6(notesOf(index), ip);
}

/** Whether a TCP header is one that can only begin a connection. */
// @ts-ignore: decorator
@inline
function isOpening(l4: usize): bool {
  return ((<u32>load<u8>(l4, 13)) & (SYN | ACK | RST | FIN)) == SYN;
}

function foresee4(notes: Scratch, ip: usize): bool {
  const key = tupleKey4(load<u32>(ip, 12), load<u32>(ip, 16), load<u32>(ip, 20), TCP);
  notes.key = key;
  notes.shape = SHAPE_OPENING;
  notes.aside = foreseeReverse(0, mapped(load<u32>(ip, 12)), 0, mapped(load<u32>(ip, 16)), load<u32>(ip, 20), key);
  return true;
}

function foresee6(notes: Scratch, ip: usize): bool {
  const key = tupleKey6(load<u64>(ip, 8), load<u64>(ip, 16), load<u64>(ip, 24), load<u64>(ip, 32), load<u32>(ip, 40), TCP);
  notes.key = key;
  notes.shape = SHAPE_OPENING;
  notes.aside = foreseeReverse(load<u64>(ip, 8), load<u64>(ip, 16), load<u64>(ip, 24), load<u64>(ip, 32), load<u32>(ip, 40), key);
  return true;
}

/**
 * Key of the server's packets, for the server that is going to be picked. Which proxy port full NAT is going to take, and
 * whom a sticky client is bound to, is not looked up here.
 * @returns `key` when it cannot be told
 */
function foreseeReverse(sourceHead: u64, sourceTail: u64, vipHead: u64, vipTail: u64, portsBe: u32, key: u64): u64 {
  const vip = findEndpoint(vipHead, vipTail);
  if (vip == null) return key;
  const vipPort = swap16(portsBe >>> 16);
  const rule = findRule(vip, true, vipPort);
  if (rule == null || rule.type != RuleType.HalfNat || (rule.flags & (RULE_ENABLED | RULE_STICKY)) != RULE_ENABLED) return key;
  const pick = foresee(rule, sourceTail, swap16(portsBe & 0xffff), vipTail);
  if (pick == NONE) return key;
  const index = findPair(rule.id, memberAt(rule, pick).serverId);
  if (index == NONE) return key;
  const pair = pairAt(index);
  return reverseKey(pair, sourceHead, sourceTail, portsBe & 0xffff, swap16(serverPort(pair, vipPort)), TCP);
}

/** Loads a word of each cache line that the openings among packets `index` to `count` - 1 are going to need. */
function touch(index: u32, count: u32): void {
  let sum: u64 = 0;
  const header = flowMemory();
  const isFull = !header.flowsFree && header.flowsTop == flowCount;
  // The records that they are going to get: free ones, or those of the flows that are given up.
  let record = isFull ? header.spareHead : header.flowsFree;
  for (; index < count; index++) {
    const notes = notesOf(index);
    if (notes.shape != SHAPE_OPENING) continue;
    sum += touchKey(notes.key) + touchKey(notes.aside);
    // Or the first pass over the next batch, which does not know slow packets from others, would touch its bucket again.
    notes.key = 0;
    if (!record) continue;
    const flow = flowAt(record - 1);
    if (isFull) {
      sum += load<u64>(bucketAt(flow.slotForward >>> 2));
      if (flow.slotReverse != NONE) sum += load<u64>(bucketAt(flow.slotReverse >>> 2));
    }
    record = flow.next;
  }
  // Somebody has to want the sum, or the loads go away.
  state().touched = sum;
}

/** Both buckets of a key, and the records of the slots of the first. */
// @ts-ignore: decorator
@inline
function touchKey(key: u64): u64 {
  const first = firstBucket(key);
  return load<u64>(bucketAt(first)) + load<u64>(bucketAt(otherBucket(first, key))) + load<u32>(slotRecords + (<usize>first << 4));
}
