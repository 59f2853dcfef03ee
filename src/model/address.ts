/**
 * IP addresses as plain values. An address is a family and an unsigned integer, so that ranges, sorting, masks and
 * "the next address" are arithmetic. Text goes in and out here only; bytes are network order (RFC 791, RFC 8200).
 * Numeric text only: names are resolved elsewhere.
 */

export type Family = 4 | 6;

/** One IP address. `value` is the address as an unsigned integer (first octet most significant), 32 or 128 bits wide. */
export interface Address {
  readonly family: Family;
  readonly value: bigint;
}

/** An inclusive range of one family, first <= last. */
export interface AddressRange {
  readonly first: Address;
  readonly last: Address;
}

const OCTET = /^(?:0|[1-9][0-9]{0,2})$/;
const GROUP = /^[0-9a-fA-F]{1,4}$/;

/** Number of bits of an address of the family. */
export const widthBits = (family: Family): number => (family === 4 ? 32 : 128);

const make = (family: Family, value: bigint): Address => Object.freeze({ family, value });

/** Dotted decimal, exactly four parts without leading zeros (RFC 6943 section 3.1.1, strict form); null for anything else. */
export function parseIPv4(text: string): Address | null {
  const parts = text.split(".");
  if (parts.length !== 4) return null;
  let value = 0;
  for (const part of parts) {
    const octet = Number(part);
    if (!OCTET.test(part) || octet > 255) return null;
    value = value * 256 + octet;
  }
  return make(4, BigInt(value));
}

/** The groups of one side of `::`, 16 bits each; an IPv4 tail counts as two. Null when a group is malformed. */
function parseGroups(text: string, mayEndInIPv4: boolean): number[] | null {
  if (text === "") return [];
  const parts = text.split(":");
  const groups: number[] = [];
  for (const [index, part] of parts.entries()) {
    if (mayEndInIPv4 && index === parts.length - 1 && part.includes(".")) {
      const tail = parseIPv4(part);
      if (tail === null) return null;
      groups.push(Number(tail.value >> 16n), Number(tail.value & 0xffffn));
    } else {
      if (!GROUP.test(part)) return null;
      groups.push(Number.parseInt(part, 16));
    }
  }
  return groups;
}

/** The text forms of RFC 4291 section 2.2, without brackets, zone or prefix length; null for anything else. */
export function parseIPv6(text: string): Address | null {
  const halves = text.split("::");
  if (halves.length > 2) return null;
  const compressed = halves.length === 2;
  const head = parseGroups(halves[0] ?? "", !compressed);
  const tail = compressed ? parseGroups(halves[1] ?? "", true) : [];
  if (head === null || tail === null) return null;
  const missing = 8 - head.length - tail.length;
  // "::" stands for at least one group of zeros.
  if (compressed ? missing < 1 : missing !== 0) return null;
  let value = 0n;
  for (const group of head) value = (value << 16n) | BigInt(group);
  value <<= BigInt(16 * missing);
  for (const group of tail) value = (value << 16n) | BigInt(group);
  return make(6, value);
}

/** Either family, numeric and unbracketed; null for anything else. */
export function parseAddress(text: string): Address | null {
  return text.includes(":") ? parseIPv6(text) : parseIPv4(text);
}

function formatIPv4(value: bigint): string {
  const number = Number(value);
  return `${number >>> 24}.${(number >>> 16) & 255}.${(number >>> 8) & 255}.${number & 255}`;
}

/** RFC 5952: lower case, the first longest run of two or more zero groups as `::`, mapped addresses with a dotted tail. */
function formatIPv6(value: bigint): string {
  if (value >> 32n === 0xffffn) return `::ffff:${formatIPv4(value & 0xffffffffn)}`;
  const groups = Array.from({ length: 8 }, (_, i) => Number((value >> BigInt(112 - 16 * i)) & 0xffffn));
  let runStart = 0;
  let runLength = 0;
  for (let start = 0; start < 8; start++) {
    let end = start;
    while (end < 8 && groups[end] === 0) end++;
    if (end - start > runLength) {
      runStart = start;
      runLength = end - start;
    }
  }
  const hex = (part: readonly number[]) => part.map((group) => group.toString(16)).join(":");
  if (runLength < 2) return hex(groups);
  return `${hex(groups.slice(0, runStart))}::${hex(groups.slice(runStart + runLength))}`;
}

/** Canonical text, unbracketed: dotted decimal, or RFC 5952. */
export function formatAddress(address: Address): string {
  return address.family === 4 ? formatIPv4(address.value) : formatIPv6(address.value);
}

/** As formatAddress, IPv6 in brackets, for places where a port may follow (RFC 3986 section 3.2.2). */
export function formatBracketed(address: Address): string {
  return address.family === 4 ? formatAddress(address) : `[${formatAddress(address)}]`;
}

/** 4 or 16 bytes, network order. */
export function addressBytes(address: Address): Uint8Array {
  const bytes = new Uint8Array(widthBits(address.family) / 8);
  let rest = address.value;
  for (let i = bytes.length - 1; i >= 0; i--) {
    bytes[i] = Number(rest & 0xffn);
    rest >>= 8n;
  }
  return bytes;
}

/** The address of 4 or 16 bytes in network order. Throws RangeError for another length. */
export function addressFromBytes(bytes: Uint8Array): Address {
  if (bytes.length !== 4 && bytes.length !== 16)
    throw new RangeError(`an address has 4 or 16 bytes, not ${bytes.length}`);
  let value = 0n;
  for (const byte of bytes) value = (value << 8n) | BigInt(byte);
  return make(bytes.length === 4 ? 4 : 6, value);
}

const keys = new WeakMap<Address, string>();

/** A key for maps: two addresses are the same exactly when their keys are. Worked out once for every object. */
export function addressKey(address: Address): string {
  let key = keys.get(address);
  if (key === undefined) {
    key = `${address.family}:${address.value.toString(16)}`;
    keys.set(address, key);
  }
  return key;
}

/** Same family and same value. An IPv4 address never equals its IPv4-mapped IPv6 form. */
export function sameAddress(a: Address, b: Address): boolean {
  return a.family === b.family && a.value === b.value;
}

/** Order of listings: ascending numerically, IPv4 before IPv6. Negative, zero or positive. */
export function compareAddresses(a: Address, b: Address): number {
  if (a.family !== b.family) return a.family - b.family;
  return a.value < b.value ? -1 : a.value > b.value ? 1 : 0;
}

/** The network mask of a prefix length as an integer. @param prefix 0..32 or 0..128 */
export function maskBits(family: Family, prefix: number): bigint {
  const width = BigInt(widthBits(family));
  const hostBits = width - BigInt(prefix);
  return ((1n << width) - 1n) ^ ((1n << hostBits) - 1n);
}

/** The address with all bits behind the prefix cleared. */
export function applyMask(address: Address, prefix: number): Address {
  return make(address.family, address.value & maskBits(address.family, prefix));
}

/** The address `offset` further; the caller keeps it inside the family's width. */
export function addressAt(address: Address, offset: number): Address {
  return make(address.family, address.value + BigInt(offset));
}

/** How many addresses an inclusive range holds. */
export function rangeSize(range: AddressRange): bigint {
  return range.last.value - range.first.value + 1n;
}

/** 0.0.0.0 or :: (RFC 1122 section 3.2.1.3, RFC 4291 section 2.5.2). */
export function isUnspecified(address: Address): boolean {
  return address.value === 0n;
}

/** 127.0.0.0/8 or ::1. */
export function isLoopback(address: Address): boolean {
  return address.family === 4 ? address.value >> 24n === 127n : address.value === 1n;
}

/** 224.0.0.0/4 or ff00::/8. */
export function isMulticast(address: Address): boolean {
  return address.family === 4 ? address.value >> 28n === 14n : address.value >> 120n === 0xffn;
}

/** 255.255.255.255 (RFC 919). IPv6 has no broadcast. */
export function isLimitedBroadcast(address: Address): boolean {
  return address.family === 4 && address.value === 0xffffffffn;
}

/** ::ffff:0:0/96 (RFC 4291 section 2.5.5.2). */
export function isIPv4Mapped(address: Address): boolean {
  return address.family === 6 && address.value >> 32n === 0xffffn;
}

/** 169.254.0.0/16 (RFC 3927) or fe80::/10. */
export function isLinkLocal(address: Address): boolean {
  return address.family === 4 ? address.value >> 16n === 0xa9fen : address.value >> 118n === 0x3fan;
}
