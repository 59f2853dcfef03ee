/**
 * The one door to the native library (build/libilb.so): finds it, refuses one of another build, binds the functions of
 * its parts, turns a negative errno into an error that names what failed. Only this file imports bun:ffi; the parts
 * (packet-io.ts, system.ts, netlink.ts, …) hand their symbol tables to `bind`. Knows no function but the two of identity.
 */
import { dlopen, FFIType, ptr } from "bun:ffi";
import { existsSync } from "node:fs";
import { constants } from "node:os";
import { dirname, join } from "node:path";
import { LAYOUT_FINGERPRINT } from "../gen/layout.ts";

/** ILB_ABI_VERSION of native/ilb.h that this program is written for. */
export const ABI_VERSION = 5;

/** How arguments cross. `buffer`: address of a view's first byte, good for the call. `address`: a number, see addressOf and handles. */
export type ArgumentType = "i32" | "u32" | "i64" | "u64" | "address" | "buffer" | "text";
/** `i64` results are exact up to 2^53: handles, lengths and clocks are. */
export type ResultType = "i32" | "u32" | "i64" | "void";

export interface Signature {
  readonly args: readonly ArgumentType[];
  readonly returns: ResultType;
}
export type SymbolTable = Readonly<Record<string, Signature>>;

interface ArgumentValues {
  i32: number;
  u32: number;
  i64: number | bigint;
  u64: number | bigint;
  address: number;
  buffer: NodeJS.TypedArray | DataView;
  text: string;
}
type ArgumentsOf<A extends readonly ArgumentType[]> = { -readonly [K in keyof A]: ArgumentValues[A[K]] };

/** The functions of a symbol table, typed. */
export type Bound<T extends SymbolTable> = {
  readonly [K in keyof T]: (...args: ArgumentsOf<T[K]["args"]>) => T[K]["returns"] extends "void" ? undefined : number;
};

/** The library is missing or of another build. The message is one line and says what to do. */
export class LibraryError extends Error {
  override readonly name = "LibraryError";
}

/** A native call failed. */
export class NativeError extends Error {
  override readonly name = "NativeError";
  /** Positive errno, e.g. 19. */
  readonly errno: number;
  /** Its name, e.g. `ENODEV`. */
  readonly code: string;

  constructor(errno: number, message: string) {
    super(message);
    this.errno = errno;
    this.code = errnoName(errno);
  }
}

const ARGUMENT_TYPES: Readonly<Record<ArgumentType, FFIType>> = {
  i32: FFIType.i32,
  u32: FFIType.u32,
  i64: FFIType.i64,
  u64: FFIType.u64,
  address: FFIType.i64,
  buffer: FFIType.ptr,
  text: FFIType.cstring,
};

const RESULT_TYPES: Readonly<Record<ResultType, FFIType>> = {
  i32: FFIType.i32,
  u32: FFIType.u32,
  i64: FFIType.i64_fast,
  void: FFIType.void,
};

/** Names that node:os leaves out and that our functions return (asm-generic/errno.h). */
const MORE_ERRNO_NAMES: Readonly<Record<number, string>> = { 77: "EBADFD", 124: "EMEDIUMTYPE" };

const ERRNO_NAMES: ReadonlyMap<number, string> = new Map(
  Object.entries(constants.errno).map(([name, value]) => [value, name] as const),
);

/** @param errno positive. @returns its name, or `errno 123`. */
export function errnoName(errno: number): string {
  const name = MORE_ERRNO_NAMES[errno] ?? ERRNO_NAMES.get(errno);
  // EAGAIN and EWOULDBLOCK are one number; the older name is the one that people search for.
  return name === "EWOULDBLOCK" ? "EAGAIN" : (name ?? `errno ${errno}`);
}

/**
 * The result of a native call, or a NativeError when it is negative.
 * @param action what was tried, to stand behind "cannot": `open interface eth0`
 * @param hints by errno name: the cause and the way out, put in place of the bare name
 */
export function checked(result: number, action: string, hints: Readonly<Record<string, string>> = {}): number {
  if (result >= 0) return result;
  const code = errnoName(-result);
  throw new NativeError(-result, `cannot ${action}: ${hints[code] ?? code}`);
}

/** The linear address of a buffer's first byte. Valid while the buffer lives and neither grows nor is transferred. */
export function addressOf(memory: ArrayBufferLike | NodeJS.TypedArray): number {
  const view = ArrayBuffer.isView(memory) ? memory : new Uint8Array(memory);
  return ptr(view) as number;
}

/** Where a library may lie, best first: named by the environment, beside the executable, in the checkout. */
function candidatePaths(): string[] {
  const named = process.env.ILB_LIBRARY;
  if (named) return [named];
  return [
    join(dirname(process.execPath), "libilb.so"),
    // Bundled in dist/, then as sources in src/native/.
    join(import.meta.dir, "../build/libilb.so"),
    join(import.meta.dir, "../../build/libilb.so"),
  ];
}

function findLibrary(): string {
  const paths = candidatePaths();
  const found = paths.find((path) => existsSync(path));
  if (found) return found;
  throw new LibraryError(`cannot load the native library: no ${paths.join(", no ")}; build it with 'npm run build'`);
}

function open(path: string, symbols: Record<string, { args: FFIType[]; returns: FFIType }>) {
  try {
    return dlopen(path, symbols).symbols as Readonly<Record<string, (...args: never[]) => unknown>>;
  } catch (error) {
    const reason = error instanceof Error ? error.message : String(error);
    throw new LibraryError(`cannot load the native library ${path}: ${reason}; build it anew with 'npm run build'`);
  }
}

/** Throws when the library was built for another ABI or another memory layout. */
function refuseStranger(path: string): void {
  const identity = open(path, {
    ilb_abi_version: { args: [], returns: FFIType.u32 },
    ilb_layout_fingerprint: { args: [], returns: FFIType.u32 },
  });
  const abi = identity.ilb_abi_version?.() as number;
  const fingerprint = identity.ilb_layout_fingerprint?.() as number;
  if (abi === ABI_VERSION && fingerprint === LAYOUT_FINGERPRINT) return;
  const hex = (value: number) => value.toString(16).padStart(8, "0");
  throw new LibraryError(
    `native library ${path} is of another build: ABI ${abi}, layout ${hex(fingerprint)}; this program needs ` +
      `ABI ${ABI_VERSION}, layout ${hex(LAYOUT_FINGERPRINT)}; build it anew with 'npm run build'`,
  );
}

let verifiedPath: string | undefined;

/** Path of the library, found and verified once per thread. Throws LibraryError. */
export function libraryPath(): string {
  if (verifiedPath === undefined) {
    const path = findLibrary();
    refuseStranger(path);
    verifiedPath = path;
  }
  return verifiedPath;
}

/**
 * Binds the functions of one part of the library, at the first call of the function that it returns; so importing a
 * part costs nothing and never fails. Throws LibraryError then.
 */
export function bind<const T extends SymbolTable>(table: T): () => Bound<T> {
  let bound: Bound<T> | undefined;
  return () => {
    if (bound === undefined) {
      const symbols = Object.fromEntries(
        Object.entries(table).map(([name, { args, returns }]) => [
          name,
          { args: args.map((type) => ARGUMENT_TYPES[type]), returns: RESULT_TYPES[returns] },
        ]),
      );
      bound = open(libraryPath(), symbols) as unknown as Bound<T>;
    }
    return bound;
  };
}
