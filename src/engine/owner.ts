/**
 * Which worker opens a flow: the plain twin of assembly/owner.ts and of the program of native/share.c, for whoever explains what
 * workers would do. Decision record 0017.
 */
import { EPHEMERAL_FROM } from "../gen/layout.ts";
import type { Address } from "../model/address.ts";
import { addressWords, maskWords, swap32 } from "./tables.ts";

/** OWNER_SALT of assembly/owner.ts. */
const OWNER_SALT = 0x6f776e65;
/** Where the secret multiplier of address hashes stands in the key, in words. */
const MULTIPLIER_WORD = 28;

const U32 = 0xffff_ffffn;
const U64 = 0xffff_ffff_ffff_ffffn;

/** Both ends of a packet of TCP or UDP. */
export interface Ends {
  readonly source: Address;
  readonly sourcePort: number;
  readonly destination: Address;
  readonly destinationPort: number;
}

/**
 * What packet sockets deal packets of TCP and UDP by, and rules that are not sticky their new flows: address and port of the end
 * with the higher port, almost always the client, so that most answers of servers have the number of the request. The other port
 * counts from EPHEMERAL_FROM on only: below, it is a service's, which servers may have on another port than the VIP; above, the end with
 * the higher port may be the VIP, whose clients are to be told apart.
 * @param secret 32 bits
 * @returns 32 bits; modulo the number of workers, the worker
 */
export function flowNumber(secret: number, { source, sourcePort, destination, destinationPort }: Ends): number {
  const isFromHigher = sourcePort >= destinationPort;
  const lower = isFromHigher ? destinationPort : sourcePort;
  const ports = Math.max(sourcePort, destinationPort) | (lower >= EPHEMERAL_FROM ? lower << 16 : 0);
  const end = isFromHigher ? source : destination;
  const words = addressWords(end);
  const address = end.family === 4 ? words[3] : words[0] ^ words[1] ^ words[2] ^ words[3];
  let hash = swap32(address) ^ secret;
  hash = (Math.imul(hash ^ (hash >>> 16), 0x85ebca6b) + ports) | 0;
  hash = Math.imul(hash ^ (hash >>> 13), 0xc2b2ae35);
  return (hash ^ (hash >>> 16)) >>> 0;
}

/**
 * Who opens flows and keeps the entry of a client of a sticky rule.
 * @param hashKey the secret words of the memory
 * @param stickyBits length of the prefix by which the rule tells clients apart
 * @returns 0 to workers - 1
 */
export function workerOfClient(hashKey: Uint32Array, workers: number, client: Address, stickyBits: number): number {
  const mask = maskWords(stickyBits, client.family).map(BigInt);
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
