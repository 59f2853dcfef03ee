/**
 * Reads capture files packet by packet: pcap (either byte order, micro- or nanoseconds) and pcapng, link types Ethernet
 * and raw IP. Holds one packet at a time, so the size of a capture does not matter, and knows nothing of packets beyond
 * their length. Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.
 */
import { fail, ok, type Result } from "../model/result.ts";

/** The two kinds of first header that a frame of ours can begin with. */
export type LinkKind = "ethernet" | "ip";

/** One captured packet. `bytes` is a view into what the source gave, valid until the next packet is asked for. */
export interface CapturedPacket {
  /** Nanoseconds since 1970-01-01 UTC. */
  readonly timeNs: bigint;
  readonly bytes: Uint8Array;
  /** Bytes on the wire; more than `bytes.length` when the capture cut the packet. */
  readonly originalLength: number;
}

/** Where a capture comes from. */
export interface ByteSource {
  /** Bytes `at` to `at + length` of the file, fewer only where it ends. `at` never goes back. */
  read(at: number, length: number): Uint8Array;
}

/** An open capture: its head has been read and found sound. */
export interface CaptureReader {
  readonly kind: LinkKind;
  /** The number that stood in the file (several numbers mean raw IP), so that a writer can repeat it. */
  readonly linkType: number;
  /** Whether what has been read so far has times finer than microseconds. */
  readonly nanoseconds: boolean;
  /** The next packet, null at the end, or the failure E-CAPTURE with the byte at which the file is damaged. */
  next(): Result<CapturedPacket | null>;
}

export const LINKTYPE_ETHERNET = 1;
export const LINKTYPE_RAW = 101;

/** LINKTYPE_RAW, LINKTYPE_IPV4, LINKTYPE_IPV6, and DLT_RAW as some systems wrote it into files. */
const RAW_IP_LINK_TYPES: readonly number[] = [LINKTYPE_RAW, 228, 229, 12, 14];

export const MAGIC_MICROSECONDS = 0xa1b2c3d4;
export const MAGIC_NANOSECONDS = 0xa1b23c4d;
/** Alexey Kuznetsov's variant with longer packet headers. */
const MAGIC_MODIFIED = 0xa1b2cd34;
const BLOCK_SECTION_HEADER = 0x0a0d0d0a;
const BLOCK_INTERFACE = 1;
const BLOCK_OBSOLETE_PACKET = 2;
const BLOCK_SIMPLE_PACKET = 3;
const BLOCK_ENHANCED_PACKET = 6;
const SECTION_BYTE_ORDER = 0x1a2b3c4d;
const OPTION_TIME_RESOLUTION = 9;
const OPTION_TIME_OFFSET = 14;
export const PCAP_HEADER_BYTES = 24;
export const PCAP_RECORD_BYTES = 16;
/** No link carries more; a larger length means that the file is damaged (tcpdump holds the same limit). */
export const LARGEST_PACKET_BYTES = 262_144;
/** Blocks hold a packet, or names and notes; none comes near this. */
const LARGEST_BLOCK_BYTES = 64 * 2 ** 20;

/** Carries position and cause from the depth of a reader to its caller. */
class Damaged extends Error {
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(message);
    this.offset = offset;
  }
}

/** A piece of the file with the numbers in it. Positions are those in the file. */
class Piece {
  readonly bytes: Uint8Array;
  readonly #begin: number;
  readonly #view: DataView;
  readonly #littleEndian: boolean;

  constructor(bytes: Uint8Array, begin: number, littleEndian: boolean) {
    this.bytes = bytes;
    this.#begin = begin;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#littleEndian = littleEndian;
  }

  u8(at: number): number {
    return this.#view.getUint8(at - this.#begin);
  }
  u16(at: number): number {
    return this.#view.getUint16(at - this.#begin, this.#littleEndian);
  }
  u32(at: number): number {
    return this.#view.getUint32(at - this.#begin, this.#littleEndian);
  }
  i64(at: number): bigint {
    return this.#view.getBigInt64(at - this.#begin, this.#littleEndian);
  }
  slice(at: number, length: number): Uint8Array {
    return this.bytes.subarray(at - this.#begin, at - this.#begin + length);
  }
}

/**
 * Opens a capture of either format and reads its head, a pcapng up to its first packet.
 * @param name of the file, for messages.
 * @returns E-CAPTURE with the name and the byte offset at which the file is damaged or not supported.
 */
export function openCapture(source: ByteSource, name: string): Result<CaptureReader> {
  const failure = (error: unknown): Result<never> => {
    if (!(error instanceof Damaged)) throw error;
    return fail("E-CAPTURE", `${name}: byte ${error.offset}: ${error.message}`);
  };
  try {
    const reader = chooseReader(source);
    return ok({
      kind: reader.kind,
      linkType: reader.linkType,
      get nanoseconds() {
        return reader.nanoseconds;
      },
      next() {
        try {
          return ok(reader.next());
        } catch (error) {
          return failure(error);
        }
      },
    });
  } catch (error) {
    return failure(error);
  }
}

interface Reader {
  readonly kind: LinkKind;
  readonly linkType: number;
  readonly nanoseconds: boolean;
  /** Throws Damaged. */
  next(): CapturedPacket | null;
}

function chooseReader(source: ByteSource): Reader {
  const magic = source.read(0, 4);
  if (magic.length < 4) throw new Damaged(0, `not a capture: ${magic.length} bytes`);
  const isNextGeneration = new Piece(magic, 0, true).u32(0) === BLOCK_SECTION_HEADER;
  return isNextGeneration ? new PcapngReader(source) : new PcapReader(source, magic);
}

/** Byte order and time unit by the first four bytes. */
function pcapFlavour(magicBytes: Uint8Array): { littleEndian: boolean; nanoseconds: boolean } {
  for (const littleEndian of [true, false]) {
    const magic = new Piece(magicBytes, 0, littleEndian).u32(0);
    if (magic === MAGIC_MICROSECONDS) return { littleEndian, nanoseconds: false };
    if (magic === MAGIC_NANOSECONDS) return { littleEndian, nanoseconds: true };
    if (magic === MAGIC_MODIFIED) throw new Damaged(0, "this variant of pcap (magic a1b2cd34) is not supported");
  }
  throw new Damaged(0, `not a capture: magic ${new Piece(magicBytes, 0, false).u32(0).toString(16).padStart(8, "0")}`);
}

function linkKind(linkType: number, offset: number): LinkKind {
  if (linkType === LINKTYPE_ETHERNET) return "ethernet";
  if (RAW_IP_LINK_TYPES.includes(linkType)) return "ip";
  throw new Damaged(offset, `link type ${linkType} is not supported, only Ethernet (1) and raw IP (101, 228, 229)`);
}

function checkLength(length: number, offset: number): void {
  if (length > LARGEST_PACKET_BYTES) throw new Damaged(offset, `packet of ${length} bytes: the file is damaged`);
}

class PcapReader implements Reader {
  readonly kind: LinkKind;
  readonly linkType: number;
  readonly nanoseconds: boolean;
  readonly #source: ByteSource;
  readonly #littleEndian: boolean;
  readonly #nsPerUnit: bigint;
  #at = PCAP_HEADER_BYTES;

  constructor(source: ByteSource, magic: Uint8Array) {
    const { littleEndian, nanoseconds } = pcapFlavour(magic);
    const bytes = source.read(0, PCAP_HEADER_BYTES);
    if (bytes.length < PCAP_HEADER_BYTES) throw new Damaged(bytes.length, "the file ends inside its header");
    const header = new Piece(bytes, 0, littleEndian);
    const major = header.u16(4);
    if (major !== 2) throw new Damaged(4, `pcap version ${major} is not supported`);
    // The upper bits say how long a frame check sequence is; whatever follows the IP length is carried along anyway.
    this.linkType = header.u32(20) & 0xffff;
    this.kind = linkKind(this.linkType, 20);
    this.nanoseconds = nanoseconds;
    this.#nsPerUnit = nanoseconds ? 1n : 1000n;
    this.#littleEndian = littleEndian;
    this.#source = source;
  }

  next(): CapturedPacket | null {
    const at = this.#at;
    const head = this.#source.read(at, PCAP_RECORD_BYTES);
    if (head.length === 0) return null;
    if (head.length < PCAP_RECORD_BYTES) throw new Damaged(at, "the file ends inside a packet header");
    const record = new Piece(head, at, this.#littleEndian);
    const seconds = record.u32(at);
    const fraction = record.u32(at + 4);
    const length = record.u32(at + 8);
    const originalLength = record.u32(at + 12);
    checkLength(length, at + 8);
    const begin = at + PCAP_RECORD_BYTES;
    const bytes = this.#source.read(begin, length);
    if (bytes.length < length) throw new Damaged(begin, `the file ends inside a packet of ${length} bytes`);
    this.#at = begin + length;
    return { timeNs: BigInt(seconds) * 1_000_000_000n + BigInt(fraction) * this.#nsPerUnit, bytes, originalLength };
  }
}

/** What an interface description block says, as far as packets need it. */
interface CaptureInterface {
  readonly linkType: number;
  readonly snapLength: number;
  /** Nanoseconds of `ticks` time stamp units. */
  readonly toNs: (ticks: bigint) => bigint;
  readonly nanoseconds: boolean;
}

/** A block: its body lies between the positions `begin` and `end` of the file. */
interface Block {
  readonly type: number;
  readonly begin: number;
  readonly end: number;
  readonly data: Piece;
}

class PcapngReader implements Reader {
  readonly #source: ByteSource;
  #at = 0;
  #littleEndian = true;
  #interfaces: CaptureInterface[] = [];
  /** Of the interfaces that packets came from. Others may have any: a capture of all interfaces names them all. */
  #linkType: number | undefined;
  #nanoseconds = false;
  #lastTimeNs = 0n;
  /** Read ahead to find the link type. */
  #first: CapturedPacket | null;
  readonly kind: LinkKind;
  readonly linkType: number;

  constructor(source: ByteSource) {
    this.#source = source;
    const first = this.#nextPacket();
    const linkType = this.#linkType ?? this.#interfaces[0]?.linkType;
    if (linkType === undefined) throw new Damaged(this.#at, "the capture names no interface");
    this.linkType = linkType;
    this.kind = linkKind(this.linkType, 0);
    // The blocks after it are not read before it is asked for, so it needs no copy.
    this.#first = first;
  }

  get nanoseconds(): boolean {
    return this.#nanoseconds;
  }

  next(): CapturedPacket | null {
    if (this.#first === null) return this.#nextPacket();
    const first = this.#first;
    this.#first = null;
    return first;
  }

  #nextPacket(): CapturedPacket | null {
    for (;;) {
      const block = this.#block(this.#at);
      if (block === null) return null;
      this.#at = block.end + 4;
      const packet = this.#take(block);
      if (packet !== null) return packet;
    }
  }

  /** The block at `at`, null at the end of the file; a section header also sets the byte order of all that follows. */
  #block(at: number): Block | null {
    const bytes = this.#source.read(at, 12);
    if (bytes.length === 0) return null;
    if (bytes.length < 12) throw new Damaged(at, "the file ends inside a block header");
    const marked = new Piece(bytes, at, true);
    if (marked.u32(at) === BLOCK_SECTION_HEADER) {
      if (marked.u32(at + 8) === SECTION_BYTE_ORDER) this.#littleEndian = true;
      else if (new Piece(bytes, at, false).u32(at + 8) === SECTION_BYTE_ORDER) this.#littleEndian = false;
      else throw new Damaged(at + 8, "the section header has no valid byte order mark");
    }
    const length = new Piece(bytes, at, this.#littleEndian).u32(at + 4);
    if (length < 12 || length % 4 !== 0 || length > LARGEST_BLOCK_BYTES)
      throw new Damaged(at + 4, `block of ${length} bytes: the file is damaged`);
    const whole = this.#source.read(at, length);
    if (whole.length < length) throw new Damaged(at, `the file ends inside a block of ${length} bytes`);
    const data = new Piece(whole, at, this.#littleEndian);
    const trailer = data.u32(at + length - 4);
    if (trailer !== length) throw new Damaged(at + length - 4, `block lengths differ: ${length} and ${trailer}`);
    return { type: data.u32(at), begin: at + 8, end: at + length - 4, data };
  }

  #take(block: Block): CapturedPacket | null {
    if (block.type === BLOCK_SECTION_HEADER) this.#section(block);
    else if (block.type === BLOCK_INTERFACE) this.#interface(block);
    else if (block.type === BLOCK_ENHANCED_PACKET) return this.#enhancedPacket(block);
    else if (block.type === BLOCK_OBSOLETE_PACKET) return this.#obsoletePacket(block);
    else if (block.type === BLOCK_SIMPLE_PACKET) return this.#simplePacket(block);
    // Names, statistics, secrets and unknown blocks say nothing about packets.
    return null;
  }

  #need(block: Block, bytes: number): void {
    if (block.end - block.begin < bytes) {
      throw new Damaged(block.begin, `block of type ${block.type} is shorter than its ${bytes} fixed bytes`);
    }
  }

  #section(block: Block): void {
    this.#need(block, 16);
    const major = block.data.u16(block.begin + 4);
    if (major !== 1) throw new Damaged(block.begin + 4, `pcapng version ${major} is not supported`);
    this.#interfaces = [];
  }

  #interface(block: Block): void {
    this.#need(block, 8);
    const linkType = block.data.u16(block.begin);
    const { toNs, nanoseconds } = this.#timeUnit(block);
    this.#nanoseconds ||= nanoseconds;
    this.#interfaces.push({ linkType, snapLength: block.data.u32(block.begin + 4), toNs, nanoseconds });
  }

  /** Reads if_tsresol and if_tsoffset of an interface description. */
  #timeUnit({ begin, end, data }: Block): Pick<CaptureInterface, "toNs" | "nanoseconds"> {
    let resolution = 6;
    let offsetSeconds = 0n;
    for (let at = begin + 8; at + 4 <= end; ) {
      const code = data.u16(at);
      const length = data.u16(at + 2);
      if (code === 0) break;
      if (at + 4 + length > end) throw new Damaged(at, `option of ${length} bytes runs past its block`);
      if (code === OPTION_TIME_RESOLUTION && length === 1) resolution = data.u8(at + 4);
      if (code === OPTION_TIME_OFFSET && length === 8) offsetSeconds = data.i64(at + 4);
      at += 4 + Math.ceil(length / 4) * 4;
    }
    const exponent = BigInt(resolution & 0x7f);
    const ticksPerSecond = resolution & 0x80 ? 2n ** exponent : 10n ** exponent;
    const toNs = (ticks: bigint): bigint => offsetSeconds * 1_000_000_000n + (ticks * 1_000_000_000n) / ticksPerSecond;
    return { toNs, nanoseconds: ticksPerSecond > 1_000_000n };
  }

  #interfaceOf(index: number, at: number): CaptureInterface {
    const found = this.#interfaces[index];
    if (found === undefined) throw new Damaged(at, `packet of interface ${index}, which the capture does not describe`);
    const { linkType } = found;
    linkKind(linkType, at);
    this.#linkType ??= linkType;
    if (linkType !== this.#linkType)
      throw new Damaged(at, `packets of link types ${this.#linkType} and ${linkType} in one capture are not supported`);
    return found;
  }

  #enhancedPacket(block: Block): CapturedPacket {
    this.#need(block, 20);
    return this.#packet(block, this.#interfaceOf(block.data.u32(block.begin), block.begin));
  }

  /** Differs from the enhanced packet only in its first word: interface (16 bits) and drops (16 bits). */
  #obsoletePacket(block: Block): CapturedPacket {
    this.#need(block, 20);
    return this.#packet(block, this.#interfaceOf(block.data.u16(block.begin), block.begin));
  }

  #packet(block: Block, from: CaptureInterface): CapturedPacket {
    const { begin, data } = block;
    const ticks = (BigInt(data.u32(begin + 4)) << 32n) | BigInt(data.u32(begin + 8));
    return this.#packetAt(block, begin + 20, data.u32(begin + 12), data.u32(begin + 16), from.toNs(ticks));
  }

  /** Has no time stamp; it gets that of the packet before. */
  #simplePacket(block: Block): CapturedPacket {
    this.#need(block, 4);
    const { snapLength } = this.#interfaceOf(0, block.begin);
    const originalLength = block.data.u32(block.begin);
    const length = snapLength === 0 ? originalLength : Math.min(originalLength, snapLength);
    return this.#packetAt(block, block.begin + 4, length, originalLength, this.#lastTimeNs);
  }

  #packetAt(block: Block, begin: number, length: number, originalLength: number, timeNs: bigint): CapturedPacket {
    checkLength(length, block.begin);
    if (begin + length > block.end) throw new Damaged(begin, `packet of ${length} bytes runs past its block`);
    this.#lastTimeNs = timeNs;
    return { timeNs, bytes: block.data.slice(begin, length), originalLength };
  }
}
