/**
 * What the controller needs of the machine, as interfaces: the packet engine's tables, the kernel's share (guard,
 * routes, addresses), a log. src/daemon.ts ties them to the real ones, tests to recording ones.
 */
import type {
  EngineCounters,
  FlowSnapshot,
  Interest,
  PairIds,
  Placed,
  StickySnapshot,
  TableImage,
} from "../engine/engine.ts";
import type { LiveTables } from "../engine/explanation.ts";
import type { PolicyFigures } from "../engine/policy.ts";
import type { Address } from "../model/address.ts";
import type { Config, Rule } from "../model/config.ts";
import type { Failure } from "../model/result.ts";
import type { MakeTransitTable, TransitCounts } from "../model/transit.ts";

/** An image that lies complete in memory but is not in force. Exactly one of the two is called, once. */
export interface StagedImage {
  /** Puts it in force. Cannot fail. */
  publish(): void;
  /** Gives its memory back; nothing has happened. */
  discard(): void;
}

export interface EngineControl {
  /** Writes the image into free memory. Throws ImageTooLarge (engine/engine.ts) or EngineBlocked; then nothing has changed. */
  stage(image: TableImage): StagedImage;
  /**
   * Resolves true when no worker uses an image older than `generation`, false when that takes longer than the engine
   * is ready to wait (a worker is stuck).
   */
  adopted(generation: number): Promise<boolean>;
  counters(): EngineCounters;
  /** Servers in rules that hold flows now; any of them may come twice. */
  heldPairs(): Iterable<PairIds>;
  /** Lazily: a listing of millions is never built in memory. */
  flows(): Iterable<FlowSnapshot>;
  sticky(): Iterable<StickySnapshot>;
  /** The same by ascending place, beginning with place `from`. */
  flowsFrom(from: number): Iterable<Placed<FlowSnapshot>>;
  stickyFrom(from: number): Iterable<Placed<StickySnapshot>>;
  /** What `explain` reads of the tables now. */
  live(): LiveTables;
  /** What the flow policy counted and refused. */
  policy(): PolicyFigures;
  /** Name of the device behind a port of the engine; null when there is none. */
  portName(index: number): string | null;
}

export interface KernelControl {
  /** Why the box cannot carry this configuration (e.g. a local VIP with the tun device), or null. Changes nothing. */
  check(config: Config): Failure | null;
  /** From now on at least `interest` belongs to the engine, beside what belonged to it before. Throws KernelRefused. */
  widen(interest: Interest): Promise<void>;
  /** From now on exactly `interest` belongs to the engine. Throws KernelRefused. */
  narrow(interest: Interest): Promise<void>;
  /**
   * Applies a flow policy to what the kernel forwards; null: none. The same again, or none where none was, does nothing.
   * Throws KernelRefused; then nothing has changed.
   */
  filter(make: MakeTransitTable | null): Promise<void>;
  /** What it counted and refused so far. */
  filterCounts(): Promise<TransitCounts>;
  /** Is this an address of the box? */
  isLocal(address: Address): boolean;
  /** Addresses of the box that its health probes may come from; the same list as long as it says the same. */
  ownAddresses(): readonly Address[];
  /** Keeps the next hops of exactly these addresses current in the engine, under these indexes. */
  watch(addresses: ReadonlyMap<number, Address>): void;
  /** Remarks on a new rule, given where the box stands in its networks. */
  hints(rule: Rule): readonly string[];
}

/** A packet worker does not let go of old tables. */
export class EngineBlocked extends Error {
  override readonly name = "EngineBlocked";
}

/** The kernel did not take a change; `message` is one clear line. */
export class KernelRefused extends Error {
  override readonly name = "KernelRefused";
}

export interface Log {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
}
export type LogFields = Readonly<Record<string, string | number | boolean | bigint>>;
