/**
 * Addresses for tests: text to value to bytes, written apart from src/model so that a mistake there cannot hide.
 * Understands dotted IPv4 and full or `::`-shortened IPv6 without zone or embedded IPv4.
 */
import type { Address } from "../../src/model/address.ts";

/** Parses text; throws on what it does not understand. */
export function ip(text: string): Address {
  if (!text.includes(":")) {
    const octets = text.split(".").map((octet) => Number.parseInt(octet, 10));
    if (octets.length !== 4 || octets.some((octet) => !(octet >= 0 && octet <= 255)))
      throw new Error(`bad IPv4 ${text}`);
    return { family: 4, value: octets.reduce((value, octet) => value * 256n + BigInt(octet), 0n) };
  }
  const [head = "", tail] = text.split("::");
  const left = head === "" ? [] : head.split(":");
  const right = tail === undefined || tail === "" ? [] : tail.split(":");
  const gap = 8 - left.length - right.length;
  if (gap < 0 || (tail === undefined && gap !== 0)) throw new Error(`bad IPv6 ${text}`);
  const groups = [...left, ...new Array<string>(gap).fill("0"), ...right];
  return { family: 6, value: groups.reduce((value, group) => value * 65536n + BigInt(Number.parseInt(group, 16)), 0n) };
}

/** Network order, 4 or 16 bytes. */
export function addressBytes(address: Address): Uint8Array {
  // By words of 32 bits: big integers for every octet would be most of a random test's time.
  const bytes = new Uint8Array(address.family === 4 ? 4 : 16);
  let at = bytes.length;
  for (let rest = address.value; at > 0; rest >>= 32n) {
    for (let word = Number(rest & 0xffff_ffffn), end = at - 4; at > end; word = Math.floor(word / 256))
      bytes[--at] = word % 256;
  }
  return bytes;
}

/** The reverse of addressBytes, for 4 or 16 bytes. */
export function addressFromBytes(bytes: Uint8Array): Address {
  let value = 0n;
  for (let at = 0; at < bytes.length; at += 4) {
    const word = ((bytes[at]! * 256 + bytes[at + 1]!) * 256 + bytes[at + 2]!) * 256 + bytes[at + 3]!;
    value = value * 0x1_0000_0000n + BigInt(word);
  }
  return { family: bytes.length === 4 ? 4 : 6, value };
}

/** Text for messages: dotted, or eight full groups. */
export function addressText(address: Address): string {
  const bytes = addressBytes(address);
  if (address.family === 4) return bytes.join(".");
  const groups: string[] = [];
  for (let i = 0; i < 16; i += 2) groups.push((bytes[i]! * 256 + bytes[i + 1]!).toString(16));
  return groups.join(":");
}

/** `02:00:00:00:00:01` to 6 bytes. */
export function mac(text: string): Uint8Array {
  const bytes = Uint8Array.from(text.split(":"), (part) => Number.parseInt(part, 16));
  if (bytes.length !== 6) throw new Error(`bad MAC ${text}`);
  return bytes;
}
