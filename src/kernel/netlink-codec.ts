/**
 * The frame of rtnetlink messages (RFC 3549 section 2): header, fixed part, attributes, as bytes in host order. Knows
 * nothing of what the attributes mean; rtnetlink.ts does. Reading never goes past the end: what is cut short is left out.
 */

const HEADER_BYTES = 16;

export const NLM_F_REQUEST = 0x1;
export const NLM_F_ACK = 0x4;
export const NLM_F_DUMP = 0x300;
export const NLM_F_REPLACE = 0x100;
export const NLM_F_EXCL = 0x200;
export const NLM_F_CREATE = 0x400;

const align4 = (length: number): number => (length + 3) & ~3;

/** Attributes of one message or one nest: type (without the nested and byte-order flags) to value. The last one wins. */
export class Attributes {
  readonly #values = new Map<number, Uint8Array>();

  constructor(bytes: Uint8Array) {
    for (const { type, value } of readAttributes(bytes)) this.#values.set(type, value);
  }
  bytes(type: number): Uint8Array | null {
    return this.#values.get(type) ?? null;
  }
  /** null when absent or shorter than 4 bytes. */
  u32(type: number): number | null {
    const value = this.#values.get(type);
    return value === undefined || value.length < 4 ? null : viewOf(value).getUint32(0, true);
  }
  /** Up to the first NUL. */
  text(type: number): string | null {
    const value = this.#values.get(type);
    if (value === undefined) return null;
    const end = value.indexOf(0);
    return new TextDecoder().decode(end < 0 ? value : value.subarray(0, end));
  }
  nested(type: number): Attributes | null {
    const value = this.#values.get(type);
    return value === undefined ? null : new Attributes(value);
  }
}

/** All attributes in order, also those of a type that occurs more than once (lists). */
export function* readAttributes(bytes: Uint8Array): Generator<{ type: number; value: Uint8Array }> {
  const view = viewOf(bytes);
  let offset = 0;
  while (offset + 4 <= bytes.length) {
    const length = view.getUint16(offset, true);
    if (length < 4 || offset + length > bytes.length) return;
    yield { type: view.getUint16(offset + 2, true) & 0x3fff, value: bytes.subarray(offset + 4, offset + length) };
    offset += align4(length);
  }
}

export interface Message {
  readonly type: number;
  /** Fixed part and attributes. */
  readonly body: Uint8Array;
}

/** The messages of one datagram or one collected answer, in order. */
export function* readMessages(bytes: Uint8Array): Generator<Message> {
  const view = viewOf(bytes);
  let offset = 0;
  while (offset + HEADER_BYTES <= bytes.length) {
    const length = view.getUint32(offset, true);
    if (length < HEADER_BYTES || offset + length > bytes.length) return;
    yield { type: view.getUint16(offset + 4, true), body: bytes.subarray(offset + HEADER_BYTES, offset + length) };
    offset += align4(length);
  }
}

/** Writes one request. Grows as needed; finish() gives the bytes. */
export class MessageWriter {
  #bytes = new Uint8Array(256);
  #view = viewOf(this.#bytes);
  #length = HEADER_BYTES;

  constructor(type: number, flags: number) {
    this.#view.setUint16(4, type, true);
    this.#view.setUint16(6, flags, true);
  }
  /** Appends bytes of the fixed part, padded to 4. */
  fixed(bytes: Uint8Array): this {
    this.#put(bytes);
    return this;
  }
  attribute(type: number, value: Uint8Array): this {
    const header = new Uint8Array(4);
    viewOf(header).setUint16(0, 4 + value.length, true);
    viewOf(header).setUint16(2, type, true);
    this.#put(header);
    this.#put(value);
    return this;
  }
  u8(type: number, value: number): this {
    return this.attribute(type, Uint8Array.of(value));
  }
  u32(type: number, value: number): this {
    const bytes = new Uint8Array(4);
    viewOf(bytes).setUint32(0, value, true);
    return this.attribute(type, bytes);
  }
  /** NUL-terminated. */
  text(type: number, value: string): this {
    return this.attribute(type, new TextEncoder().encode(`${value}\0`));
  }
  nest(type: number, fill: (writer: this) => void): this {
    const start = this.#length;
    this.#put(new Uint8Array(4));
    fill(this);
    this.#view.setUint16(start, this.#length - start, true);
    this.#view.setUint16(start + 2, type | 0x8000, true);
    return this;
  }
  finish(): Uint8Array {
    this.#view.setUint32(0, this.#length, true);
    return this.#bytes.slice(0, this.#length);
  }
  #put(bytes: Uint8Array): void {
    const end = this.#length + align4(bytes.length);
    if (end > this.#bytes.length) {
      const larger = new Uint8Array(Math.max(end, this.#bytes.length * 2));
      larger.set(this.#bytes);
      this.#bytes = larger;
      this.#view = viewOf(larger);
    }
    this.#bytes.set(bytes, this.#length);
    this.#length = end;
  }
}

export function viewOf(bytes: Uint8Array): DataView {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
