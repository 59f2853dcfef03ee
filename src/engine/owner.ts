/**
 * Which worker opens the flows of a client: the plain twin of assembly/owner.ts, for whoever explains what workers would
 * do. Decision record 0017.
 */
import type { Address } from "../model/address.ts";
import { addressWords, maskWords } from "./tables.ts";

/** OWNER_SALT of assembly/owner.ts. */
const OWNER_SALT = 0x6f776e65;
/** Where the secret multiplier of address hashes stands in the key, in words. */
const MULTIPLIER_WORD = 28;

const U32 = 0xffff_ffffn;
const U64 = 0xffff_ffff_ffff_ffffn;

/**
 * @param hashKey the secret words of the memory
 * @param stickyBits length of the prefix by which the rule tells clients apart, null when it is not sticky
 * @returns 0 to workers - 1
 */
export function workerOfClient(
  hashKey: Uint32Array,
  workers: number,
  client: Address,
  stickyBits: number | null,
): number {
  const mask = stickyBits === null ? [U32, U32, U32, U32] : maskWords(stickyBits, client.family).map(BigInt);
  const words = addressWords(client).map((word, index) => BigInt(word >>> 0) & mask[index]!);
  const key = (index: number): bigint => BigInt(hashKey[index]!);
  const sum = (word: bigint, index: number): bigint => (word + key(index)) & U32;
  const row =
    sum(words[0]!, 0) * sum(words[1]!, 1) + sum(words[2]!, 2) * sum(words[3]!, 3) + sum(BigInt(OWNER_SALT), 4) * key(5);
  const multiplier = key(MULTIPLIER_WORD) | (key(MULTIPLIER_WORD + 1) << 32n) | 1n;
  const hash = scatter(Number(((row * multiplier) & U64) >> 32n));
  return Number((BigInt(hash) * BigInt(workers)) >> 32n);
}

/** The finaliser of MurmurHash3 (Appleby, 2011). */
function scatter(value: number): number {
  let hash = Math.imul(value ^ (value >>> 16), 0x85ebca6b);
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}
