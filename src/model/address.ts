/**
 * IP addresses as plain values. An address is a family and an unsigned integer, so that ranges, sorting, masks and
 * "the next address" are arithmetic. Text goes in and out here only; bytes are network order (RFC 791, RFC 8200).
 */

export type Family = 4 | 6;

/** One IP address. `value` is the address as an unsigned integer (first octet most significant), 32 or 128 bits wide. */
export interface Address {
  readonly family: Family;
  readonly value: bigint;
}
