/** Overlapping prefixes as runs of addresses without overlap: the longest prefix that holds an address decides. Pure. */
import type { Address } from "./address.ts";

/** A prefix and what it stands for. */
export interface KindOfPrefix {
  /** Bits beyond `bits` are zero. */
  readonly prefix: Address;
  /** 0..32 or 0..128, of the address's own family. */
  readonly bits: number;
  /** From 1 on. */
  readonly kind: number;
}

/** Addresses from `first` on to the next run, as one 128-bit number each; IPv4 as ::ffff:a.b.c.d. */
export interface PrefixRun {
  readonly first: bigint;
  /** 0: no prefix holds them. */
  readonly kind: number;
}

/** ::ffff:0:0 */
const MAPPED = 0xffffn << 32n;
const LAST = (1n << 128n) - 1n;

/** First and last address of a prefix in the joint numbering of both families. */
function spanOf({ prefix, bits }: KindOfPrefix): { readonly first: bigint; readonly last: bigint } {
  const first = prefix.family === 4 ? MAPPED | prefix.value : prefix.value;
  const size = 1n << BigInt((prefix.family === 4 ? 32 : 128) - bits);
  return { first, last: first + size - 1n };
}

const compare = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);

/** Prefixes as runs: every address in exactly one, the longest prefix deciding. Neighbours differ. */
export function runsOf(hosts: readonly KindOfPrefix[]): PrefixRun[] {
  const spans = hosts.map((host) => ({ ...spanOf(host), kind: host.kind }));
  // No prefix of IPv6 holds an IPv4 address, however the two are numbered here.
  spans.unshift({ ...spanOf({ prefix: { family: 4, value: 0n }, bits: 0, kind: 0 }), kind: 0 });
  // Wider ones first where two begin together, so that a stack of open spans is always nested.
  spans.sort((a, b) => compare(a.first, b.first) || compare(b.last, a.last));
  const runs: { first: bigint; kind: number }[] = [{ first: 0n, kind: 0 }];
  const open: typeof spans = [];
  const begin = (first: bigint, kind: number): void => {
    const last = runs.at(-1)!;
    if (last.first === first) runs.pop();
    if (runs.at(-1)?.kind !== kind) runs.push({ first, kind });
  };
  const closeBefore = (address: bigint | null): void => {
    while (open.length > 0 && (address === null || open.at(-1)!.last < address)) {
      const { last } = open.pop()!;
      if (last < LAST) begin(last + 1n, open.at(-1)?.kind ?? 0);
    }
  };
  for (const span of spans) {
    closeBefore(span.first);
    begin(span.first, span.kind);
    open.push(span);
  }
  closeBefore(null);
  return runs;
}

/** Addresses from first to last, both included, of one family. */
export interface AddressSpan {
  readonly first: Address;
  readonly last: Address;
  readonly kind: number;
}

/** The runs that some prefix holds. */
export const spansOf = (hosts: readonly KindOfPrefix[]): AddressSpan[] =>
  ([4, 6] as const).flatMap((family) => {
    const runs = runsOf(hosts.filter(({ prefix }) => prefix.family === family));
    const of = (value: bigint): Address => ({ family, value: family === 4 ? value & 0xffff_ffffn : value });
    return runs.flatMap(({ first, kind }, index): AddressSpan[] => {
      const last = (runs[index + 1]?.first ?? LAST + 1n) - 1n;
      return kind === 0 ? [] : [{ first: of(first), last: of(last), kind }];
    });
  });
