/**
 * Bytes of a text that somebody wrote, as UTF-8 (RFC 3629) and nothing else: a name that is stored must be the one that
 * was meant. Says where a text is not UTF-8, so that its line can be found.
 */

/** The first byte of a text that belongs to no UTF-8 sequence. */
interface Fault {
  /** From 1. */
  readonly line: number;
  /** From 0, over the whole text. */
  readonly offset: number;
  readonly byte: number;
}

const LINE_FEED = 0x0a;

/** Bytes of the well-formed sequence that begins at `at` (RFC 3629 section 4), 0 when there is none. */
function sequenceLength(bytes: Uint8Array, at: number): number {
  const lead = bytes[at]!;
  if (lead < 0x80) return 1;
  if (lead < 0xc2 || lead > 0xf4) return 0;
  const length = lead < 0xe0 ? 2 : lead < 0xf0 ? 3 : 4;
  // Overlong forms, surrogates and what lies beyond U+10FFFF show in the second byte.
  const low = lead === 0xe0 ? 0xa0 : lead === 0xf0 ? 0x90 : 0x80;
  const high = lead === 0xed ? 0x9f : lead === 0xf4 ? 0x8f : 0xbf;
  if (!(bytes[at + 1]! >= low && bytes[at + 1]! <= high)) return 0;
  for (let i = 2; i < length; i++) if (!(bytes[at + i]! >= 0x80 && bytes[at + i]! <= 0xbf)) return 0;
  return length;
}

/** Where the text stops being UTF-8, null when all of it is. */
function findFault(bytes: Uint8Array): Fault | null {
  let line = 1;
  for (let at = 0; at < bytes.length; ) {
    const length = sequenceLength(bytes, at);
    if (length === 0) return { line, offset: at, byte: bytes[at]! };
    if (bytes[at] === LINE_FEED) line++;
    at += length;
  }
  return null;
}

/** @returns the text, without a byte order mark; or `objection`, which names line, byte and the way out */
export function decodeUtf8(bytes: Uint8Array): { readonly text: string } | { readonly objection: string } {
  try {
    return { text: new TextDecoder("utf-8", { fatal: true }).decode(bytes) };
  } catch (error) {
    const fault = findFault(bytes);
    if (fault === null) throw error;
    const { line, offset, byte } = fault;
    return { objection: `line ${line}: byte ${offset} (0x${byte.toString(16)}) is not UTF-8 - save the text as UTF-8` };
  }
}
