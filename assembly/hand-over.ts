/**
 * Frames from worker to worker: one ring per ordered pair, written by one, read by the other, bounded, never waited for.
 * A frame is copied once, into the ring; the taker works on it where it lies there. Says nothing about who decides
 * (owner.ts). The native side wakes a taker that sleeps; here it is only found out who does.
 */
import { control, descriptors, peers, rings, workerCount, workerIndex } from "./bases";
import {
  BATCH_SIZE,
  DESCRIPTOR_SIZE,
  Descriptor,
  ETHERNET_HEADER,
  HANDED_COPY,
  HANDED_JUDGED,
  HANDED_OVER,
  HANDED_SETTLED,
  HEAD_L3_OFFSET,
  HEAD_STRIDE,
  HandOverRing,
  HeldRecord,
  PortKind,
  RING_ENTRIES,
  Reason,
  View,
  WorkerControl,
  WorkerMap,
} from "./gen/layout";
import { state, totals } from "./state";

/** vnet fields, ports and flags of a descriptor: the 16 bytes that go along with a frame. */
const ALONG: usize = offsetof<Descriptor>("vnetFlags");

// @ts-ignore: decorator
@inline
function ringBetween(from: u32, to: u32): HandOverRing {
  return changetype<HandOverRing>(<usize>load<u32>(rings + (<usize>(from * workerCount + to) << 2)));
}

/** The map of a worker. */
// @ts-ignore: decorator
@inline
export function peerAt(worker: u32): WorkerMap {
  return changetype<WorkerMap>(<usize>load<u32>(peers + (<usize>worker << 2)));
}

// --- giving ---

/** The next free entry of the ring to `worker`, its frame placed but not written; null when there is no room. */
function reserve(worker: u32, link: u32, inHead: u32, rest: u32): Descriptor | null {
  const ring = ringBetween(workerIndex, worker);
  const at = changetype<usize>(ring);
  const given = ring.given;
  if (given - atomic.load<u32>(at + offsetof<HandOverRing>("taken")) == RING_ENTRIES) return null;
  const room = ring.tailMask + 1;
  let end = ring.tailGiven;
  if (rest) {
    const needed = (rest + 63) & ~63;
    // A tail lies in one piece; what is left before the turn of the circle is passed over.
    if ((end & ring.tailMask) + needed > room) end += room - (end & ring.tailMask);
    end += needed;
    if (end - atomic.load<u32>(at + offsetof<HandOverRing>("tailTaken")) > room) return null;
  }
  const index = given & (RING_ENTRIES - 1);
  const entry = changetype<Descriptor>(<usize>ring.entries + <usize>index * DESCRIPTOR_SIZE);
  entry.frame = ring.heads + index * HEAD_STRIDE + HEAD_L3_OFFSET - link;
  entry.tail = rest ? ring.tails + ((end - ((rest + 63) & ~63)) & ring.tailMask) : ring.tails;
  entry.length = inHead + rest;
  entry.headLength = inHead;
  entry.handOverEnd = end;
  return entry;
}

/** Lets the taker see the entry. */
function commit(worker: u32, entry: Descriptor): void {
  const ring = ringBetween(workerIndex, worker);
  ring.tailGiven = entry.handOverEnd;
  atomic.store<u32>(changetype<usize>(ring) + offsetof<HandOverRing>("given"), ring.given + 1);
  state().targets |= 1 << worker;
  totals().handedOver += 1;
}

/** Hands the packet in hand over as it came. @param marks HANDED_… @returns HANDED_OVER or HandOverFull */
export function handOver(packet: View, worker: u32, marks: u32): u32 {
  const from = changetype<Descriptor>(packet.descriptor);
  const inHead = min(from.headLength, from.length);
  const rest = from.length - inHead;
  const entry = reserve(worker, packet.link, inHead, rest);
  if (entry == null) return Reason.HandOverFull;
  memory.copy(entry.frame, from.frame, inHead);
  if (rest) memory.copy(entry.tail, from.tail, rest);
  v128.store(changetype<usize>(entry) + ALONG, v128.load(changetype<usize>(from) + ALONG));
  entry.handOver = marks | (from.handOver & (HANDED_COPY | HANDED_JUDGED));
  commit(worker, entry);
  return HANDED_OVER;
}

/** Hands a fragment over that was held back. @param ip its layer 3, behind its link header @returns false when there is no room */
export function handHeldOver(record: HeldRecord, ip: usize, worker: u32): bool {
  const link: u32 = record.inKind == PortKind.Ethernet ? ETHERNET_HEADER : 0;
  const entry = reserve(worker, link, link + record.bytes, 0);
  if (entry == null) return false;
  memory.copy(entry.frame, ip - link, link + record.bytes);
  v128.store(changetype<usize>(entry) + ALONG, i64x2.splat(0));
  entry.inPort = <u8>(record.sourceHop >>> 48);
  entry.handOver = HANDED_SETTLED | HANDED_COPY | HANDED_JUDGED;
  commit(worker, entry);
  return true;
}

/** After a batch: notes which of the workers that were given something sleep. Each is woken by the one who finds it so. */
export function findSleepers(): void {
  const s = state();
  let targets = s.targets;
  s.targets = 0;
  while (targets) {
    const worker = <u32>ctz(targets);
    targets &= targets - 1;
    const sleeping = <usize>peerAt(worker).control + offsetof<WorkerControl>("sleeping");
    if (atomic.load<u32>(sleeping) && atomic.cmpxchg<u32>(sleeping, 1, 0) == 1) s.wakes |= 1 << worker;
  }
}

/** Bit per worker that has to be woken now; the caller does so, once. */
export function takeWakes(): u32 {
  const s = state();
  const wakes = s.wakes;
  s.wakes = 0;
  return wakes;
}

// --- taking ---

// @ts-ignore: decorator
@inline
function waitingIn(ring: HandOverRing): u32 {
  return atomic.load<u32>(changetype<usize>(ring) + offsetof<HandOverRing>("given")) - ring.taken;
}

/** Whether other workers have handed anything over that is not taken yet. */
export function hasHandedOver(): bool {
  for (let from: u32 = 0; from < workerCount; from++) if (from != workerIndex && waitingIn(ringBetween(from, workerIndex))) return true;
  return false;
}

/**
 * Fills descriptors 0.. with frames that one of the other workers has handed over; they lie in its ring until
 * releaseHandedOver(). The others have their turn with the next call. @returns number of frames, 0: nothing waits
 */
export function takeHandedOver(): u32 {
  const s = state();
  for (let turn: u32 = 0; turn < workerCount; turn++) {
    const from = (s.nextGiver + turn) % workerCount;
    if (from == workerIndex) continue;
    const ring = ringBetween(from, workerIndex);
    const count = min(waitingIn(ring), BATCH_SIZE);
    if (count == 0) continue;
    for (let taken: u32 = 0; taken < count; taken++) {
      const index = (ring.taken + taken) & (RING_ENTRIES - 1);
      memory.copy(descriptors + <usize>taken * DESCRIPTOR_SIZE, <usize>ring.entries + <usize>index * DESCRIPTOR_SIZE, DESCRIPTOR_SIZE);
    }
    s.takenRing = <u32>changetype<usize>(ring);
    s.takenCount = count;
    s.nextGiver = (from + 1) % workerCount;
    totals().takenOver += count;
    return count;
  }
  return 0;
}

/** Gives the room of the frames taken last back to the giver; they are sent or done with. */
export function releaseHandedOver(): void {
  const s = state();
  const ring = changetype<HandOverRing>(s.takenRing);
  const taken = ring.taken + s.takenCount;
  const last = changetype<Descriptor>(<usize>ring.entries + <usize>((taken - 1) & (RING_ENTRIES - 1)) * DESCRIPTOR_SIZE);
  const at = changetype<usize>(ring);
  atomic.store<u32>(at + offsetof<HandOverRing>("tailTaken"), last.handOverEnd);
  atomic.store<u32>(at + offsetof<HandOverRing>("taken"), taken);
  s.takenCount = 0;
}

// --- sleeping ---

/**
 * Announces that the worker is going to wait without looking at its rings, and looks at them once more: whoever gives
 * something later sees the announcement. @returns whether it may wait
 */
export function announceSleep(): bool {
  const sleeping = control + offsetof<WorkerControl>("sleeping");
  atomic.store<u32>(sleeping, 1);
  if (!hasHandedOver()) return true;
  atomic.store<u32>(sleeping, 0);
  return false;
}

/** Takes the announcement back. */
export function endSleep(): void {
  atomic.store<u32>(control + offsetof<WorkerControl>("sleeping"), 0);
}
