/** Probes of servers and programs that test them, many at once and never waiting (native/probe.c, native/run.c). */
import { PROBE_FIRST_PORT, PROBE_LAST_PORT } from "../gen/layout.ts";
import { type Address, addressBytes, addressFromBytes, type Family } from "../model/address.ts";
import { bind, checked, errnoName, NativeError } from "./library.ts";

const native = bind({
  ilb_prober_create: { args: ["u32"], returns: "i64" },
  ilb_prober_submit: { args: ["address", "buffer", "u32"], returns: "i32" },
  ilb_prober_cancel: { args: ["address", "u32"], returns: "i32" },
  ilb_prober_poll: { args: ["address", "buffer"], returns: "i32" },
  ilb_prober_free: { args: ["address"], returns: "i32" },
  ilb_run_start: { args: ["buffer", "buffer", "u32", "i32", "i32"], returns: "i32" },
  ilb_run_poll: { args: ["buffer", "u32"], returns: "i32" },
  ilb_run_release: { args: ["buffer"], returns: "i32" },
});

/** Source ports whose answers the packet engine leaves to the kernel; whoever probes binds one of them. */
export const PROBE_PORTS = Object.freeze({ min: PROBE_FIRST_PORT, max: PROBE_LAST_PORT });

const PROBE_KINDS = { ping: 1, tcp: 2, udp: 3, connect: 4 } as const;
export type ProbeKind = keyof typeof PROBE_KINDS;

/** sizeof(struct ilb_probe_request), struct ilb_probe_result. */
const REQUEST_BYTES = 60;
const RESULT_WORDS = 9;

export interface ProbeRequest {
  readonly kind: ProbeKind;
  readonly target: Address;
  /** Of the server; ping: no matter. */
  readonly port: number;
  /** Failure after that long; `udp`: success. */
  readonly timeoutMs: number;
  /** Past the kernel's routing, as a frame of our own; null: by the kernel's routing. */
  readonly way?: ProbeWay | null;
  /**
   * Without `way`: the kernel's source address for this target. TCP probes are then packets of our own, which cost less
   * than sockets; null: not known.
   */
  readonly source?: Address | null;
  /** `connect`: mark of its packets; then it comes from `source`, from a port that no other socket has. */
  readonly mark?: number;
}

/** Where a frame goes out, and to whom. */
export interface ProbeWay {
  /** Index of an Ethernet interface. */
  readonly interfaceIndex: number;
  /** Link address of the server, or of the router to it; 6 bytes. */
  readonly mac: Uint8Array;
  /** The box's own address that the server is to answer to. */
  readonly source: Address;
}

export interface ProbeResult {
  /** `success`; `failure`: the server is not reached; `not-started`: nothing is known of it. */
  readonly kind: "success" | "failure" | "not-started";
  /** Name of the errno of a failure (`ECONNREFUSED`, `ETIMEDOUT`); empty after a success. */
  readonly code: string;
  /** 0: unknown. */
  readonly rttMicroseconds: number;
  /** Of a `connect` that succeeded: the connection, non-blocking; whoever gets it closes it, which resets it. */
  readonly connection?: number;
  /** Of a `connect`: where it came from; absent: it never had an address. */
  readonly local?: { readonly address: Address; readonly port: number };
}

/** Probes in flight. Results come from poll(), which its owner calls from time to time. */
export class ProbeSockets {
  readonly #handle: number;
  readonly #capacity: number;
  readonly #results: Int32Array;
  readonly #free: number[];
  readonly #done: (((result: ProbeResult) => void) | null)[];
  /** Family of the target by slot. */
  readonly #families: Uint8Array;
  /** Started and not yet sent: requests one behind the other, and their slots. */
  readonly #requests: DataView;
  readonly #waiting: number[] = [];

  /** @param capacity most probes at once, 1..16384. Throws NativeError. */
  constructor(capacity: number) {
    this.#handle = checked(native().ilb_prober_create(capacity), "prepare health probes");
    this.#capacity = capacity;
    this.#results = new Int32Array(capacity * RESULT_WORDS);
    this.#requests = new DataView(new ArrayBuffer(capacity * REQUEST_BYTES));
    this.#free = Array.from({ length: capacity }, (_, index) => capacity - 1 - index);
    this.#done = Array.from({ length: capacity }, () => null);
    this.#families = new Uint8Array(capacity);
  }

  /** Probes whose result has not been given. */
  get active(): number {
    return this.#capacity - this.#free.length;
  }

  /**
   * Begins a probe at the next poll().
   * @param done called once, from poll(), unless cancelled
   * @returns how to cancel it; null when there are too many probes
   */
  start(request: ProbeRequest, done: (result: ProbeResult) => void): (() => void) | null {
    const slot = this.#free.pop();
    if (slot === undefined) return null;
    this.#done[slot] = done;
    this.#families[slot] = request.target.family;
    encode(this.#requests, this.#waiting.length * REQUEST_BYTES, slot, request);
    this.#waiting.push(slot);
    return () => this.#cancel(slot, done);
  }

  /** Sends what was started and calls back for what has ended. Never waits. */
  poll(): void {
    this.#sendWaiting();
    const count = checked(native().ilb_prober_poll(this.#handle, this.#results), "collect health probes");
    // First the slots, so that whoever is called back finds room for the next probe.
    const ended: [(result: ProbeResult) => void, ProbeResult][] = [];
    for (let index = 0; index < count; index++) {
      const at = index * RESULT_WORDS;
      const slot = this.#results[at]!;
      const done = this.#done[slot];
      this.#release(slot);
      if (done) ended.push([done, resultOf(this.#results, at, this.#families[slot] as Family)]);
    }
    for (const [done, result] of ended) done(result);
  }

  /** Ends all probes without results. */
  close(): void {
    native().ilb_prober_free(this.#handle);
  }

  #cancel(slot: number, done: (result: ProbeResult) => void): void {
    if (this.#done[slot] !== done) return;
    const place = this.#waiting.indexOf(slot);
    if (place >= 0) this.#forget(place);
    else native().ilb_prober_cancel(this.#handle, slot);
    this.#release(slot);
  }

  /** The last request takes the place of one that is not to be sent. */
  #forget(place: number): void {
    const last = this.#waiting.length - 1;
    const bytes = new Uint8Array(this.#requests.buffer);
    bytes.copyWithin(place * REQUEST_BYTES, last * REQUEST_BYTES, (last + 1) * REQUEST_BYTES);
    this.#waiting[place] = this.#waiting[last]!;
    this.#waiting.pop();
  }

  #sendWaiting(): void {
    const count = this.#waiting.length;
    if (count === 0) return;
    this.#waiting.length = 0;
    checked(native().ilb_prober_submit(this.#handle, this.#requests, count), "send health probes");
  }

  #release(slot: number): void {
    this.#done[slot] = null;
    this.#free.push(slot);
  }
}

/** struct ilb_probe_request, whole: the place may hold another one's. */
function encode(out: DataView, at: number, slot: number, request: ProbeRequest): void {
  const { kind, target, port, timeoutMs, way } = request;
  const source = way?.source ?? request.source;
  out.setUint32(at, slot, true);
  out.setUint16(at + 4, port, true);
  out.setUint8(at + 6, target.family);
  out.setUint8(at + 7, PROBE_KINDS[kind]);
  putAddress(out, at + 8, target);
  out.setUint32(at + 24, timeoutMs, true);
  out.setUint32(at + 28, way?.interfaceIndex ?? 0, true);
  if (source) putAddress(out, at + 32, source);
  for (let index = 0; index < 6; index++) out.setUint8(at + 48 + index, way?.mac[index] ?? 0);
  out.setUint8(at + 54, source && !way ? 1 : 0);
  out.setUint32(at + 56, way ? 0 : (request.mark ?? 0), true);
}

/** Addresses as the library takes them: 16 bytes, those of IPv4 in front. The same few are asked again and again. */
const wireAddresses = new WeakMap<Address, DataView>();

function putAddress(out: DataView, at: number, address: Address): void {
  let wire = wireAddresses.get(address);
  if (wire === undefined) {
    const bytes = new Uint8Array(16);
    bytes.set(addressBytes(address));
    wire = new DataView(bytes.buffer);
    wireAddresses.set(address, wire);
  }
  for (let offset = 0; offset < 16; offset += 4) out.setUint32(at + offset, wire.getUint32(offset));
}

/** struct ilb_probe_result, from the word `at` on. @param family of the target, and so of where a connection came from */
function resultOf(words: Int32Array, at: number, family: Family): ProbeResult {
  const error = words[at + 1]!;
  const connection = words[at + 3]!;
  const port = words[at + 4]!;
  const rttMicroseconds = words[at + 2]! >>> 0;
  const local = port === 0 ? {} : { local: { address: localAddress(words, at + 5, family), port } };
  if (error === 0 && connection < 0) return { kind: "success", code: "", rttMicroseconds };
  if (error === 0) return { kind: "success", code: "", rttMicroseconds, connection, ...local };
  const kind = error > 0 ? "failure" : "not-started";
  return { kind, code: errnoName(Math.abs(error)), rttMicroseconds: 0, ...local };
}

const localAddress = (words: Int32Array, at: number, family: Family): Address =>
  addressFromBytes(new Uint8Array(words.buffer, words.byteOffset + at * 4, family === 4 ? 4 : 16));

/** sizeof(struct ilb_run), and where its fields are. */
const RUN_BYTES = 44;
const RUN = { state: 0, status: 12, length: 16, output: 20 } as const;
const RUN_STATES = ["free", "active", "ended", "leaving"] as const;

/** Programs under way, each in a record of one block of memory. */
export class ProgramRuns {
  readonly #records: Uint8Array;
  readonly #view: DataView;
  readonly #capacity: number;

  /** @param capacity most programs at once */
  constructor(capacity: number) {
    this.#records = new Uint8Array(capacity * RUN_BYTES);
    this.#view = new DataView(this.#records.buffer);
    this.#capacity = capacity;
  }

  /**
   * Starts a program with reduced rights: see ilb_run_start in native/probe.h.
   * @param words path and arguments, 8 at most, without zero bytes
   * @param user the user and group to become, null: none
   * @returns its record. Throws NativeError: nothing runs; EAGAIN also when there are too many.
   */
  start(words: readonly string[], user: { readonly uid: number; readonly gid: number } | null): number {
    const record = this.#freeRecord();
    if (record === null) throw new NativeError(11, "too many health tests run already");
    const strings = new TextEncoder().encode(words.map((word) => `${word}\0`).join(""));
    const { uid, gid } = user ?? { uid: -1, gid: -1 };
    checked(native().ilb_run_start(this.#bytes(record), strings, words.length, uid, gid), `run ${words[0]}`);
    return record;
  }

  /** Takes note of output and ends. @returns 0 once nothing is left of any program, else call again later */
  poll(): number {
    return native().ilb_run_poll(this.#records, this.#capacity);
  }

  /** Up to 23 bytes: the first piece of its standard output, empty as long as there is none. */
  output(record: number): string {
    const at = record * RUN_BYTES;
    const length = this.#view.getUint32(at + RUN.length, true);
    return Buffer.from(this.#records.subarray(at + RUN.output, at + RUN.output + length)).toString("latin1");
  }

  /** How it ended: exit status, or 128 and the signal; null while it runs. */
  status(record: number): number | null {
    if (this.#stateOf(record) !== "ended") return null;
    return this.#view.getInt32(record * RUN_BYTES + RUN.status, true);
  }

  /** Kills it with its process group, if it still runs; the record is no longer the caller's. */
  release(record: number): void {
    native().ilb_run_release(this.#bytes(record));
  }

  #freeRecord(): number | null {
    for (let record = 0; record < this.#capacity; record++) if (this.#stateOf(record) === "free") return record;
    return null;
  }

  #stateOf(record: number): (typeof RUN_STATES)[number] {
    return RUN_STATES[this.#view.getUint32(record * RUN_BYTES + RUN.state, true)]!;
  }

  #bytes(record: number): Uint8Array {
    return this.#records.subarray(record * RUN_BYTES, (record + 1) * RUN_BYTES);
  }
}
