/**
 * How packets leave the reference engine: whether one may leave as itself, what its sender is told when not, new addresses
 * and checksums, and how many frames a batch may be made into. Where a packet goes and why is decided elsewhere.
 */
import { Reason, Verdict } from "../../gen/layout.ts";
import { mendHeader, mendPartial, mendTransport, setAddresses } from "./checksum.ts";
import { type Belongs, type Decision, drop } from "./decision.ts";
import {
  type Arrival,
  boxError,
  type Complaint,
  ErrorBudget,
  fragmentCount,
  isPartial,
  leaveInFragments,
  leaveWhole,
  mayComplainAbout,
  offloadFault,
  passage,
  steppedCopy,
  type Way,
} from "./egress.ts";
import type { Tuple } from "./flows.ts";
import type { Trail } from "./fragments.ts";
import { put16, type Transport } from "./packet.ts";

/** Frames that the engine may make in one batch. */
const MADE_FRAMES_PER_BATCH = 64;

export class Sending {
  readonly #errors = new ErrorBudget();
  #madeInBatch = 0;

  beginBatch(): void {
    this.#madeInBatch = 0;
  }

  /** Frames that may still be made in this batch. */
  get room(): number {
    return MADE_FRAMES_PER_BATCH - this.#madeInBatch;
  }

  /** Counts frames that were made. */
  take(frames: number): void {
    this.#madeInBatch += frames;
  }

  /** Why a packet that has somewhere to go does not leave as itself; null when it may. */
  obstacle(arrival: Arrival, transport: Transport, way: Way | Reason, belongs: Belongs): Decision | null {
    const fault = offloadFault(arrival);
    if (fault !== null) return { ...belongs, ...drop(fault) };
    if (typeof way === "number") return { ...belongs, ...drop(way) };
    const how = passage(arrival, transport, way);
    if (how === "whole") return null;
    if (how === "ttl over") {
      return this.#complain(arrival, belongs, "time exceeded", 0, Reason.TimeExceededSent, Reason.TimeExceededUnsent);
    }
    if (how === "uncuttable") return { ...belongs, ...drop(Reason.TooBigUnsent) };
    if (how === "too big") {
      return this.#complain(arrival, belongs, "too big", way.mtu, Reason.TooBigSent, Reason.TooBigUnsent);
    }
    const needed = fragmentCount(arrival.ip, way.mtu);
    return needed > this.room ? { ...belongs, ...drop(Reason.MadePoolFull) } : null;
  }

  /** Tells the sender, if that is allowed, and drops the packet. */
  #complain(
    arrival: Arrival,
    belongs: Belongs,
    complaint: Complaint,
    mtu: number,
    sent: Reason,
    unsent: Reason,
  ): Decision {
    if (!mayComplainAbout(arrival)) return { ...belongs, ...drop(unsent) };
    if (this.room < 1 || !this.#errors.take(arrival.nowMs)) return { ...belongs, ...drop(unsent) };
    this.take(1);
    return { ...belongs, verdict: Verdict.Reply, reason: sent, out: [boxError(arrival, complaint, mtu)] };
  }

  /** Rewrites and sends; `edit` is the tuple that the packet leaves with, null leaves all as it is. */
  leave(arrival: Arrival, transport: Transport, trail: Trail, edit: Tuple | null, reason: Reason): Decision {
    const { ip } = arrival;
    const { way, belongs } = trail;
    const packet = steppedCopy(arrival, way);
    if (edit !== null) {
      setAddresses(packet, edit.source, edit.destination);
      put16(packet, ip.headerBytes, edit.sourcePort);
      put16(packet, ip.headerBytes + 2, edit.destinationPort);
      if (isPartial(arrival)) mendPartial(ip.bytes, packet, ip.headerBytes, ip.protocol);
      else mendTransport(ip.bytes, packet, ip.headerBytes, transport.headerBytes, ip.protocol);
    }
    mendHeader(ip.bytes, packet);
    const flow = edit === null ? "none" : "found";
    const decision = this.dispatch(arrival, transport, way, packet, belongs, reason);
    return { ...decision, trail: { ...trail, belongs: { ...belongs, flow } } };
  }

  /** Sends a rewritten packet, whole or in fragments. */
  dispatch(
    arrival: Arrival,
    transport: Transport,
    way: Way,
    packet: Uint8Array,
    belongs: Belongs,
    reason: Reason,
  ): Decision {
    if (passage(arrival, transport, way) === "whole") {
      return { ...belongs, verdict: Verdict.Forward, reason, out: leaveWhole(arrival, packet, way) };
    }
    const out = leaveInFragments(arrival, packet, way);
    this.take(out.length);
    return { ...belongs, verdict: Verdict.Forward, reason: Reason.FragmentsMade, out };
  }
}
