/** Addresses: 16 bytes as two u64 halves, IPv4 as ::ffff:a.b.c.d (RFC 4291 section 2.5.5.2). */

/** First half of every IPv4 address. */
export const IPV4_HEAD: u64 = 0;

/** Second half of an IPv4 address. @param addressBe as loaded from a packet */
// @ts-ignore: decorator
@inline
export function mapped(addressBe: u32): u64 {
  return (<u64>addressBe << 32) | 0xffff0000;
}

/** The IPv4 address in a second half, as it is stored into a packet. */
// @ts-ignore: decorator
@inline
export function unmapped(tail: u64): u32 {
  return <u32>(tail >>> 32);
}

/** Second half of the address `index` after this one; the first half never changes (docs/packet-path.md). */
// @ts-ignore: decorator
@inline
export function following(tail: u64, index: u32): u64 {
  return bswap<u64>(bswap<u64>(tail) + <u64>index);
}

/** Source addresses that no host may send from: this network, loopback, multicast, reserved (RFC 1122 3.2.1.3). */
export function isMartian4(addressBe: u32): bool {
  const first = addressBe & 0xff;
  return first == 0 || first == 127 || first >= 224;
}

/** Whether the halves are those of an IPv4 address, which no IPv6 packet may have for its source (RFC 4291 section 2.5.5.2). */
// @ts-ignore: decorator
@inline
export function isMapped(head: u64, tail: u64): bool {
  return head == 0 && <u32>tail == 0xffff0000;
}

/** IPv6 source addresses that no host may send from: unspecified, loopback, multicast (RFC 4291 section 2). */
export function isMartian6(head: u64, tail: u64): bool {
  return (head == 0 && (tail == 0 || tail == 0x0100000000000000)) || (head & 0xff) == 0xff;
}

/** fe80::/10 and ff00::/8: never a VIP (RFC 4291 section 2.4). */
export function isLinkScope(head: u64): bool {
  return (head & 0xff) == 0xff || (head & 0xc0ff) == 0x80fe;
}

/** A 16-bit number between host and network order. */
// @ts-ignore: decorator
@inline
export function swap16(value: u32): u32 {
  return ((value & 0xff) << 8) | ((value >>> 8) & 0xff);
}
