/**
 * Writes a flow policy into an image: prefixes as runs of addresses without overlap, flows as shared lists behind a matrix
 * of classes. Worked out and measured before anything is written. Decides nothing about packets.
 */
import {
  MAX_POLICY_BLOCKS,
  MAX_POLICY_CLASSES,
  MAX_POLICY_LISTS,
  MAX_POLICY_RANGES,
  POLICY_ENFORCE,
  POLICY_FLOWS,
  POLICY_LANES,
  POLICY_NON_RESERVED,
  POLICY_OUTSIDE_DROP,
  PolicyBlock,
  PolicyHeader,
  PolicyList,
  PolicyRange,
} from "../gen/layout.ts";
import type { Protocol } from "../model/config.ts";
import { type PrefixRun, runsOf } from "../model/prefix-runs.ts";
import type { MemoryViews } from "./abi.ts";
import { ImageTooLarge } from "./engine.ts";
import type { PermittedFlow, PolicyTables } from "./policy.ts";

/** Parts lie one after another, each at its largest. */
const RANGES_AT = PolicyHeader.size;
const MATRIX_AT = RANGES_AT + MAX_POLICY_RANGES * PolicyRange.size;
const LISTS_AT = MATRIX_AT + MAX_POLICY_CLASSES * MAX_POLICY_CLASSES * 2;
const BLOCKS_AT = Math.ceil((LISTS_AT + MAX_POLICY_LISTS * PolicyList.size) / 64) * 64;
/** Bytes of the policy's part of an image. */
export const POLICY_PART_BYTES = BLOCKS_AT + MAX_POLICY_BLOCKS * PolicyBlock.size;

/** What is going to be written. */
export interface PolicyPlan {
  readonly tables: PolicyTables;
  readonly runs: readonly PrefixRun[];
  /** The first is empty. */
  readonly lists: readonly (readonly PermittedFlow[])[];
  /** Index of a list by (from - 1) * classCount + (to - 1), where it is not 0. */
  readonly matrix: ReadonlyMap<number, number>;
}

function requireFit(what: string, needed: number, room: number): void {
  if (needed > room) throw new ImageTooLarge(`${what} of the flow policy: ${needed} needed, room for ${room}`);
}

/** Without flows that can never be the first to fit: all their ports belong to one before them. */
const withoutShadowed = (list: readonly PermittedFlow[]): PermittedFlow[] =>
  list.filter(
    ({ ports: { min, max } }, index) => !list.slice(0, index).some(({ ports }) => ports.min <= min && max <= ports.max),
  );

/** The flows of one protocol, in their order, eight by eight. */
function blocksOf(list: readonly PermittedFlow[], protocol: Protocol): PermittedFlow[][] {
  const own = withoutShadowed(list.filter((flow) => flow.protocol === protocol));
  return Array.from({ length: Math.ceil(own.length / POLICY_LANES) }, (_, index) =>
    own.slice(index * POLICY_LANES, (index + 1) * POLICY_LANES),
  );
}

/** Works a policy out. Throws ImageTooLarge when it does not fit. */
export function planPolicy(tables: PolicyTables): PolicyPlan {
  const runs = runsOf(tables.hosts);
  requireFit("runs of addresses", runs.length, MAX_POLICY_RANGES);
  requireFit("kinds of hosts", tables.classCount, MAX_POLICY_CLASSES);
  const lists: (readonly PermittedFlow[])[] = [[]];
  const known = new Map<string, number>([["", 0]]);
  const matrix = new Map<number, number>();
  for (const { from, to, flows } of tables.pairs) {
    if (flows.some(({ flow }) => flow >= POLICY_FLOWS)) throw new Error("a flow of the policy has no counter");
    const key = flows.map(({ flow, protocol, ports }) => `${flow} ${protocol} ${ports.min}-${ports.max}`).join();
    let index = known.get(key);
    if (index === undefined) {
      index = lists.push(flows) - 1;
      known.set(key, index);
    }
    matrix.set((from - 1) * tables.classCount + (to - 1), index);
  }
  requireFit("lists of flows", lists.length, MAX_POLICY_LISTS);
  const blocks = lists.reduce((sum, list) => sum + blocksOf(list, "tcp").length + blocksOf(list, "udp").length, 0);
  requireFit("permitted flows", blocks * POLICY_LANES, MAX_POLICY_BLOCKS * POLICY_LANES);
  return { tables, runs, lists, matrix };
}

/** Writes a plan at `base`, the policy's part of an image that nobody uses. @param epoch see PolicyHeader */
export function writePolicy(views: MemoryViews, base: number, plan: PolicyPlan, epoch: number): void {
  const { u16, u32, u64 } = views;
  const { tables, runs, lists, matrix } = plan;
  const set = (field: number, value: number): void => {
    u32[(base + field) >>> 2] = value;
  };
  set(PolicyHeader.epoch, epoch);
  set(
    PolicyHeader.flags,
    (tables.mode === "enforce" ? POLICY_ENFORCE : 0) |
      (tables.outside === "drop" ? POLICY_OUTSIDE_DROP : 0) |
      (tables.sourcePorts === "non-reserved" ? POLICY_NON_RESERVED : 0),
  );
  set(PolicyHeader.ranges, base + RANGES_AT);
  set(PolicyHeader.rangeCount, runs.length);
  set(PolicyHeader.classCount, tables.classCount);
  set(PolicyHeader.matrix, base + MATRIX_AT);
  set(PolicyHeader.lists, base + LISTS_AT);
  set(PolicyHeader.blocks, base + BLOCKS_AT);
  runs.forEach(({ first, kind }, index) => {
    const at = base + RANGES_AT + index * PolicyRange.size;
    u64[(at + PolicyRange.head) >>> 3] = first >> 64n;
    u64[(at + PolicyRange.tail) >>> 3] = first & 0xffff_ffff_ffff_ffffn;
    u32[(at + PolicyRange.kind) >>> 2] = kind;
  });
  const matrixAt = (base + MATRIX_AT) >>> 1;
  u16.fill(0, matrixAt, matrixAt + tables.classCount ** 2);
  for (const [place, list] of matrix) u16[matrixAt + place] = list;
  let next = 0;
  lists.forEach((list, index) => {
    const at = base + LISTS_AT + index * PolicyList.size;
    u32[(at + PolicyList.first) >>> 2] = next;
    const tcp = blocksOf(list, "tcp");
    const udp = blocksOf(list, "udp");
    u16[(at + PolicyList.tcpBlocks) >>> 1] = tcp.length;
    u16[(at + PolicyList.udpBlocks) >>> 1] = udp.length;
    for (const block of [...tcp, ...udp]) writeBlock(u16, base + BLOCKS_AT + next++ * PolicyBlock.size, block);
  });
}

/** @param at 16-byte aligned */
function writeBlock(u16: Uint16Array, at: number, flows: readonly PermittedFlow[]): void {
  for (let lane = 0; lane < POLICY_LANES; lane++) {
    const flow = flows[lane];
    u16[((at + PolicyBlock.minLow) >>> 1) + lane] = flow?.ports.min ?? 1;
    u16[((at + PolicyBlock.maxLow) >>> 1) + lane] = flow?.ports.max ?? 0;
    u16[((at + PolicyBlock.flowLow) >>> 1) + lane] = flow?.flow ?? 0;
  }
}
