/**
 * MessagePack in both directions. What comes in is walked once before msgpackr sees it: only null, booleans, numbers,
 * text, arrays and maps with text keys, lengths that the bytes can hold, bounded depth, nothing behind the value. So no
 * extension type, no class of the decoder and no announced length ever makes the daemon allocate or run something.
 */
import { Packr, Unpackr } from "msgpackr";
import { fail, ok, type Result } from "../model/result.ts";

export const MSGPACK_TYPE = "application/msgpack";

/** Deeper than any value of ours, shallow enough for every stack. */
export const MAX_DEPTH = 32;

const packr = new Packr({ useRecords: false, variableMapSize: true });
// `auto`, which the types of the package leave out: 64-bit integers are numbers where those are exact.
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true, int64AsType: "auto" as "bigint" });

/** MessagePack bytes; bigint as a 64-bit integer. */
export const pack = (value: unknown): Uint8Array<ArrayBuffer> => new Uint8Array(packr.pack(value));

/** A value of plain data; code E-BODY with the reason otherwise. 64-bit integers beyond 2^53 are bigint. */
export function unpack(bytes: Uint8Array): Result<unknown> {
  const objection = new Walker(bytes).objection();
  if (objection !== null) return fail("E-BODY", `the body is no valid ${MSGPACK_TYPE}: ${objection}`);
  return ok(unpackr.unpack(bytes) as unknown);
}

class Malformed extends Error {}

/** Walks over one value without making it. Formats and their first bytes: the MessagePack specification. */
class Walker {
  private at = 0;
  private readonly view: DataView;
  private readonly text = new TextDecoder("utf-8", { fatal: true });

  constructor(private readonly bytes: Uint8Array) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  /** Why this is no value of ours, or null. */
  objection(): string | null {
    try {
      this.value(0);
    } catch (error) {
      if (error instanceof Malformed) return error.message;
      throw error;
    }
    return this.at === this.bytes.length ? null : "something follows the value";
  }

  private value(depth: number): void {
    const first = this.bytes[this.skip(1)]!;
    if (first <= 0x7f || first >= 0xe0) return; // fixint
    if (first <= 0x8f) this.items(first & 0x0f, depth, true);
    else if (first <= 0x9f) this.items(first & 0x0f, depth, false);
    else if (first <= 0xbf) this.string(first & 0x1f);
    else this.tagged(first, depth);
  }

  /** The formats whose first byte holds nothing of the value. */
  private tagged(first: number, depth: number): void {
    switch (first) {
      case 0xc0: // nil
      case 0xc2: // false
      case 0xc3: // true
        break;
      case 0xca: // float32
      case 0xcb: // float64
        this.skip(first === 0xca ? 4 : 8);
        break;
      case 0xcc: // uint8 to uint64
      case 0xcd:
      case 0xce:
      case 0xcf:
      case 0xd0: // int8 to int64
      case 0xd1:
      case 0xd2:
      case 0xd3:
        this.skip(1 << (first & 3));
        break;
      case 0xd9: // str8, str16, str32
      case 0xda:
      case 0xdb:
        this.string(this.length(1 << (first - 0xd9)));
        break;
      case 0xdc: // array16, array32
      case 0xdd:
        this.items(this.length(first === 0xdc ? 2 : 4), depth, false);
        break;
      case 0xde: // map16, map32
      case 0xdf:
        this.items(this.length(first === 0xde ? 2 : 4), depth, true);
        break;
      default:
        throw new Malformed("binary data and extension types have no meaning here");
    }
  }

  /** @returns where the skipped bytes begin */
  private skip(count: number): number {
    const at = this.at;
    if (count > this.bytes.length - at) throw new Malformed("it ends too early");
    this.at = at + count;
    return at;
  }

  /** @param size 1, 2 or 4 bytes */
  private length(size: number): number {
    const at = this.skip(size);
    if (size === 1) return this.view.getUint8(at);
    return size === 2 ? this.view.getUint16(at) : this.view.getUint32(at);
  }

  private string(length: number): void {
    const at = this.skip(length);
    try {
      this.text.decode(this.bytes.subarray(at, at + length));
    } catch {
      throw new Malformed("text must be UTF-8");
    }
  }

  private items(count: number, depth: number, isMap: boolean): void {
    if (depth >= MAX_DEPTH) throw new Malformed(`nested deeper than ${MAX_DEPTH}`);
    for (let left = count; left > 0; left--) {
      if (isMap) this.key();
      this.value(depth + 1);
    }
  }

  private key(): void {
    const first = this.bytes[this.at];
    const isText = first !== undefined && ((first >= 0xa0 && first <= 0xbf) || (first >= 0xd9 && first <= 0xdb));
    if (first !== undefined && !isText) throw new Malformed("keys must be text");
    this.value(MAX_DEPTH);
  }
}
