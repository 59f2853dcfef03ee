/**
 * Capture files: reads pcap (either byte order, micro- or nanoseconds) and pcapng, writes pcap. Link types Ethernet and
 * raw IP. Works on whole files in memory and knows nothing of packets beyond their length.
 * Formats: draft-ietf-opsawg-pcap and draft-ietf-opsawg-pcapng.
 */
import { fail, ok, type Result } from "../model/result.ts";

/** The two kinds of first header that a frame of ours can begin with. */
export type LinkKind = "ethernet" | "ip";

/** One captured packet. `bytes` is a view into the file that was read. */
export interface CapturedPacket {
  /** Nanoseconds since 1970-01-01 UTC. */
  readonly timeNs: bigint;
  readonly bytes: Uint8Array;
  /** Bytes on the wire; more than `bytes.length` when the capture cut the packet. */
  readonly originalLength: number;
}

export interface Capture {
  readonly kind: LinkKind;
  /** The number that stood in the file (several numbers mean raw IP), so that a writer can repeat it. */
  readonly linkType: number;
  /** Finer than microseconds, so a writer that must not lose digits uses nanoseconds. */
  readonly nanoseconds: boolean;
  readonly packets: readonly CapturedPacket[];
}

export const LINKTYPE_ETHERNET = 1;
export const LINKTYPE_RAW = 101;

/** LINKTYPE_RAW, LINKTYPE_IPV4, LINKTYPE_IPV6, and DLT_RAW as some systems wrote it into files. */
const RAW_IP_LINK_TYPES: readonly number[] = [LINKTYPE_RAW, 228, 229, 12, 14];

const MAGIC_MICROSECONDS = 0xa1b2c3d4;
const MAGIC_NANOSECONDS = 0xa1b23c4d;
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
const PCAP_HEADER_BYTES = 24;
const PCAP_RECORD_BYTES = 16;
/** No link carries more; a larger length means that the file is damaged (tcpdump holds the same limit). */
const LARGEST_PACKET_BYTES = 262_144;

/** Carries position and cause from the depth of a reader to readCapture. */
class Damaged extends Error {
  readonly offset: number;
  constructor(offset: number, message: string) {
    super(message);
    this.offset = offset;
  }
}

/**
 * Reads a capture of either format.
 * @param name of the file, for messages.
 * @returns E-CAPTURE with the name and the byte offset at which the file is damaged or not supported.
 */
export function readCapture(contents: Uint8Array, name: string): Result<Capture> {
  try {
    // A Buffer, as file functions give it, has a slice() that does not copy; packets must not inherit that.
    const file = new Uint8Array(contents.buffer, contents.byteOffset, contents.byteLength);
    if (file.length < 4) throw new Damaged(0, `not a capture: ${file.length} bytes`);
    const view = new DataView(file.buffer, file.byteOffset, file.byteLength);
    const isNextGeneration = view.getUint32(0, true) === BLOCK_SECTION_HEADER;
    return ok(isNextGeneration ? readPcapng(file, view) : readPcap(file, view));
  } catch (error) {
    if (!(error instanceof Damaged)) throw error;
    return fail("E-CAPTURE", `${name}: byte ${error.offset}: ${error.message}`);
  }
}

/** Byte order and time unit by the first four bytes. */
function pcapFlavour(view: DataView): { littleEndian: boolean; nanoseconds: boolean } {
  for (const littleEndian of [true, false]) {
    const magic = view.getUint32(0, littleEndian);
    if (magic === MAGIC_MICROSECONDS) return { littleEndian, nanoseconds: false };
    if (magic === MAGIC_NANOSECONDS) return { littleEndian, nanoseconds: true };
    if (magic === MAGIC_MODIFIED) throw new Damaged(0, "this variant of pcap (magic a1b2cd34) is not supported");
  }
  throw new Damaged(0, `not a capture: magic ${view.getUint32(0, false).toString(16).padStart(8, "0")}`);
}

function linkKind(linkType: number, offset: number): LinkKind {
  if (linkType === LINKTYPE_ETHERNET) return "ethernet";
  if (RAW_IP_LINK_TYPES.includes(linkType)) return "ip";
  throw new Damaged(offset, `link type ${linkType} is not supported, only Ethernet (1) and raw IP (101, 228, 229)`);
}

function checkLength(length: number, offset: number): void {
  if (length > LARGEST_PACKET_BYTES) throw new Damaged(offset, `packet of ${length} bytes: the file is damaged`);
}

function readPcap(file: Uint8Array, view: DataView): Capture {
  const { littleEndian, nanoseconds } = pcapFlavour(view);
  if (file.length < PCAP_HEADER_BYTES) throw new Damaged(file.length, "the file ends inside its header");
  const major = view.getUint16(4, littleEndian);
  if (major !== 2) throw new Damaged(4, `pcap version ${major} is not supported`);
  // The upper bits say how long a frame check sequence is; whatever follows the IP length is carried along anyway.
  const linkType = view.getUint32(20, littleEndian) & 0xffff;
  const kind = linkKind(linkType, 20);
  const packets: CapturedPacket[] = [];
  const nsPerUnit = nanoseconds ? 1n : 1000n;
  for (let at = PCAP_HEADER_BYTES; at < file.length; ) {
    if (at + PCAP_RECORD_BYTES > file.length) throw new Damaged(at, "the file ends inside a packet header");
    const seconds = view.getUint32(at, littleEndian);
    const fraction = view.getUint32(at + 4, littleEndian);
    const length = view.getUint32(at + 8, littleEndian);
    checkLength(length, at + 8);
    const begin = at + PCAP_RECORD_BYTES;
    if (begin + length > file.length) throw new Damaged(begin, `the file ends inside a packet of ${length} bytes`);
    packets.push({
      timeNs: BigInt(seconds) * 1_000_000_000n + BigInt(fraction) * nsPerUnit,
      bytes: file.subarray(begin, begin + length),
      originalLength: view.getUint32(at + 12, littleEndian),
    });
    at = begin + length;
  }
  return { kind, linkType, nanoseconds, packets };
}

/** What an interface description block says, as far as packets need it. */
interface CaptureInterface {
  readonly linkType: number;
  readonly snapLength: number;
  /** Nanoseconds of `ticks` time stamp units. */
  readonly toNs: (ticks: bigint) => bigint;
  readonly nanoseconds: boolean;
}

/** A block's place: its body lies between `begin` and `end`. */
interface Block {
  readonly type: number;
  readonly begin: number;
  readonly end: number;
}

class PcapngReader {
  readonly #file: Uint8Array;
  readonly #view: DataView;
  #littleEndian = true;
  #interfaces: CaptureInterface[] = [];
  #linkType: number | undefined;
  #nanoseconds = false;
  #lastTimeNs = 0n;
  readonly packets: CapturedPacket[] = [];

  constructor(file: Uint8Array, view: DataView) {
    this.#file = file;
    this.#view = view;
  }

  read(): Capture {
    for (let at = 0; at < this.#file.length; ) {
      const block = this.#block(at);
      this.#take(block);
      at = block.end + 4;
    }
    if (this.#linkType === undefined) throw new Damaged(this.#file.length, "the capture names no interface");
    const kind = linkKind(this.#linkType, 0);
    return { kind, linkType: this.#linkType, nanoseconds: this.#nanoseconds, packets: this.packets };
  }

  #u16(at: number): number {
    return this.#view.getUint16(at, this.#littleEndian);
  }

  #u32(at: number): number {
    return this.#view.getUint32(at, this.#littleEndian);
  }

  /** Finds the ends of the block at `at`; a section header also sets the byte order of all that follows. */
  #block(at: number): Block {
    const left = this.#file.length - at;
    if (left < 12) throw new Damaged(at, "the file ends inside a block header");
    if (this.#view.getUint32(at, true) === BLOCK_SECTION_HEADER) {
      if (this.#view.getUint32(at + 8, true) === SECTION_BYTE_ORDER) this.#littleEndian = true;
      else if (this.#view.getUint32(at + 8, false) === SECTION_BYTE_ORDER) this.#littleEndian = false;
      else throw new Damaged(at + 8, "the section header has no valid byte order mark");
    }
    const length = this.#u32(at + 4);
    if (length < 12 || length % 4 !== 0) throw new Damaged(at + 4, `block of ${length} bytes: the file is damaged`);
    if (length > left) throw new Damaged(at, `the file ends inside a block of ${length} bytes`);
    const trailer = this.#u32(at + length - 4);
    if (trailer !== length) throw new Damaged(at + length - 4, `block lengths differ: ${length} and ${trailer}`);
    return { type: this.#u32(at), begin: at + 8, end: at + length - 4 };
  }

  #take(block: Block): void {
    if (block.type === BLOCK_SECTION_HEADER) this.#section(block);
    else if (block.type === BLOCK_INTERFACE) this.#interface(block);
    else if (block.type === BLOCK_ENHANCED_PACKET) this.#enhancedPacket(block);
    else if (block.type === BLOCK_OBSOLETE_PACKET) this.#obsoletePacket(block);
    else if (block.type === BLOCK_SIMPLE_PACKET) this.#simplePacket(block);
    // Names, statistics, secrets and unknown blocks say nothing about packets.
  }

  #need(block: Block, bytes: number): void {
    if (block.end - block.begin < bytes) {
      throw new Damaged(block.begin, `block of type ${block.type} is shorter than its ${bytes} fixed bytes`);
    }
  }

  #section(block: Block): void {
    this.#need(block, 16);
    const major = this.#u16(block.begin + 4);
    if (major !== 1) throw new Damaged(block.begin + 4, `pcapng version ${major} is not supported`);
    this.#interfaces = [];
  }

  #interface(block: Block): void {
    this.#need(block, 8);
    const linkType = this.#u16(block.begin);
    linkKind(linkType, block.begin);
    this.#linkType ??= linkType;
    if (linkType !== this.#linkType) {
      throw new Damaged(block.begin, `link types ${this.#linkType} and ${linkType} in one capture are not supported`);
    }
    const { toNs, nanoseconds } = this.#timeUnit(block);
    this.#nanoseconds ||= nanoseconds;
    this.#interfaces.push({ linkType, snapLength: this.#u32(block.begin + 4), toNs, nanoseconds });
  }

  /** Reads if_tsresol and if_tsoffset of an interface description. */
  #timeUnit(block: Block): Pick<CaptureInterface, "toNs" | "nanoseconds"> {
    let resolution = 6;
    let offsetSeconds = 0n;
    for (let at = block.begin + 8; at + 4 <= block.end; ) {
      const code = this.#u16(at);
      const length = this.#u16(at + 2);
      if (code === 0) break;
      if (at + 4 + length > block.end) throw new Damaged(at, `option of ${length} bytes runs past its block`);
      if (code === OPTION_TIME_RESOLUTION && length === 1) resolution = this.#view.getUint8(at + 4);
      if (code === OPTION_TIME_OFFSET && length === 8) {
        offsetSeconds = this.#view.getBigInt64(at + 4, this.#littleEndian);
      }
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
    return found;
  }

  #enhancedPacket(block: Block): void {
    this.#need(block, 20);
    const from = this.#interfaceOf(this.#u32(block.begin), block.begin);
    this.#packet(block, from);
  }

  /** Differs from the enhanced packet only in its first word: interface (16 bits) and drops (16 bits). */
  #obsoletePacket(block: Block): void {
    this.#need(block, 20);
    const from = this.#interfaceOf(this.#u16(block.begin), block.begin);
    this.#packet(block, from);
  }

  #packet(block: Block, from: CaptureInterface): void {
    const ticks = (BigInt(this.#u32(block.begin + 4)) << 32n) | BigInt(this.#u32(block.begin + 8));
    const length = this.#u32(block.begin + 12);
    this.#add(block, block.begin + 20, length, this.#u32(block.begin + 16), from.toNs(ticks));
  }

  /** Has no time stamp; it gets that of the packet before. */
  #simplePacket(block: Block): void {
    this.#need(block, 4);
    const { snapLength } = this.#interfaceOf(0, block.begin);
    const originalLength = this.#u32(block.begin);
    const length = snapLength === 0 ? originalLength : Math.min(originalLength, snapLength);
    this.#add(block, block.begin + 4, length, originalLength, this.#lastTimeNs);
  }

  #add(block: Block, begin: number, length: number, originalLength: number, timeNs: bigint): void {
    checkLength(length, block.begin);
    if (begin + length > block.end) throw new Damaged(begin, `packet of ${length} bytes runs past its block`);
    this.#lastTimeNs = timeNs;
    this.packets.push({ timeNs, bytes: this.#file.subarray(begin, begin + length), originalLength });
  }
}

function readPcapng(file: Uint8Array, view: DataView): Capture {
  return new PcapngReader(file, view).read();
}

/** How writePcap spells a capture. */
export interface PcapStyle {
  readonly linkType: number;
  /** Default: microseconds. */
  readonly nanoseconds?: boolean;
  /** Default: little-endian. */
  readonly bigEndian?: boolean;
}

/**
 * A pcap file, version 2.4. Times are cut to whole units, never rounded up, and must lie in the 32-bit seconds of the
 * format. @returns the whole file.
 */
export function writePcap(
  packets: readonly { readonly timeNs: bigint; readonly bytes: Uint8Array; readonly originalLength?: number }[],
  style: PcapStyle,
): Uint8Array {
  const littleEndian = style.bigEndian !== true;
  const size = packets.reduce((sum, packet) => sum + PCAP_RECORD_BYTES + packet.bytes.length, PCAP_HEADER_BYTES);
  const file = new Uint8Array(size);
  const view = new DataView(file.buffer);
  view.setUint32(0, style.nanoseconds ? MAGIC_NANOSECONDS : MAGIC_MICROSECONDS, littleEndian);
  view.setUint16(4, 2, littleEndian);
  view.setUint16(6, 4, littleEndian);
  view.setUint32(16, LARGEST_PACKET_BYTES, littleEndian);
  view.setUint32(20, style.linkType, littleEndian);
  let at = PCAP_HEADER_BYTES;
  for (const { timeNs, bytes, originalLength } of packets) {
    view.setUint32(at, Number(timeNs / 1_000_000_000n), littleEndian);
    const fractionNs = timeNs % 1_000_000_000n;
    view.setUint32(at + 4, Number(style.nanoseconds ? fractionNs : fractionNs / 1000n), littleEndian);
    view.setUint32(at + 8, bytes.length, littleEndian);
    view.setUint32(at + 12, originalLength ?? bytes.length, littleEndian);
    file.set(bytes, at + PCAP_RECORD_BYTES);
    at += PCAP_RECORD_BYTES + bytes.length;
  }
  return file;
}
