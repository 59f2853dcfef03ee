/**
 * Judges what an engine sent because of a frame, by rules that hold whatever the decision was: checksums that came in
 * good leave good, bad ones leave bad, partial ones leave partial, lengths agree, and the box's own messages are perfect.
 * All from scratch with the packet decoder.
 */
import type { FrameIn, FrameOut, Outcome, Port } from "../../src/engine/engine.ts";
import { Reason, Verdict } from "../../src/gen/layout.ts";
import { concat } from "../support/packet-builder.ts";
import {
  type ChecksumState,
  type Decoded,
  decodeIp,
  decodeIpv4,
  headerChecksumState,
  transportChecksumState,
} from "../support/packet-decoder.ts";

/** The packet of a frame that left (or arrived) by a port; null when it cannot be taken apart. */
export function packetOf(frame: { readonly bytes: Uint8Array }, port: Port | undefined): Decoded | null {
  if (port === undefined) return null;
  try {
    return decodeIp(port.kind === "ethernet" ? frame.bytes.subarray(14) : frame.bytes);
  } catch {
    return null;
  }
}

const isPartial = (vnet: { readonly flags: number } | undefined): boolean => ((vnet?.flags ?? 0) & 1) !== 0;

/** Everything that is wrong with the frames of an outcome, as sentences. */
export function outputFaults(frame: FrameIn, outcome: Outcome, ports: ReadonlyMap<number, Port>): string[] {
  const { verdict, reason, out } = outcome;
  const sends = verdict === Verdict.Forward || verdict === Verdict.Reply;
  if (!sends) return out.length === 0 ? [] : [`${out.length} frames sent by a verdict that sends none`];
  if (out.length === 0) return ["nothing sent"];
  const before = packetOf(frame, ports.get(frame.port));
  if (before === null) return ["sent because of a packet that cannot be taken apart"];
  const after = out.map((sent) => packetOf(sent, ports.get(sent.port)));
  const found = after.flatMap((packet, i) => (packet === null ? [`frame ${i} cannot be taken apart`] : []));
  if (found.length > 0) return found;
  const packets = after as Decoded[];
  if (reason === Reason.TimeExceededSent || reason === Reason.TooBigSent) return packets.flatMap(ownMessageFaults);
  const count =
    1 +
    packets.findIndex(
      (packet) => packet.fragmentOffset + packet.body.length >= before.fragmentOffset + before.body.length,
    );
  if (reason === Reason.FragmentsMade) return fragmentFaults(before, frame, packets.slice(0, count), out);
  return wholeFaults(before, frame, packets[0]!, out[0]!);
}

function ownMessageFaults(packet: Decoded): string[] {
  const found: string[] = [];
  if (headerChecksumState(packet) === "bad") found.push("header checksum of the box's own message is wrong");
  if (transportChecksumState(packet) !== "good") found.push("ICMP checksum of the box's own message is wrong");
  return found;
}

/** A checksum keeps its state through any rewrite; only the spelling of 0 for UDP may not turn into "none". */
function stateFault(name: string, before: ChecksumState, after: ChecksumState): string[] {
  return before === after ? [] : [`${name} checksum was ${before} and left ${after}`];
}

function wholeFaults(before: Decoded, frame: FrameIn, after: Decoded, sent: FrameOut): string[] {
  const found = stateFault("header", headerChecksumState(before), headerChecksumState(after));
  if (isPartial(frame.vnet) !== isPartial(sent.vnet)) found.push("partial checksum flag changed");
  const partial = isPartial(frame.vnet);
  found.push(
    ...stateFault("transport", transportChecksumState(before, partial), transportChecksumState(after, partial)),
  );
  if (before.body.length !== after.body.length)
    found.push(`body had ${before.body.length} bytes, now ${after.body.length}`);
  const errors = before.family === 4 ? [3, 11, 12] : [1, 2, 3, 4];
  if (before.icmp !== undefined && after.icmp !== undefined && errors.includes(before.icmp.type)) {
    found.push(...quoteFaults(before.icmp.payload, after.icmp.payload));
  }
  return found;
}

/** A quoted header whose checksum was right stays right, and so does the transport checksum of a packet quoted whole. */
function quoteFaults(before: Uint8Array, after: Uint8Array): string[] {
  const whole = (quote: Uint8Array): ChecksumState => transportChecksumState(decodeIp(quote));
  const header = (quote: Uint8Array): ChecksumState => headerChecksumState(decodeIp(quote, true));
  const compare = (name: string, state: (quote: Uint8Array) => ChecksumState): string[] => {
    try {
      return stateFault(name, state(before), state(after));
    } catch {
      // Cut off: there is nothing to sum up.
      return [];
    }
  };
  return [...compare("quoted header", header), ...compare("quoted transport", whole)];
}

/** Fragments must fill the packet without gap, each with a good header, and the whole keeps its checksum state. */
function fragmentFaults(before: Decoded, frame: FrameIn, fragments: Decoded[], out: readonly FrameOut[]): string[] {
  const found: string[] = [];
  let expected = before.fragmentOffset;
  for (const [i, fragment] of fragments.entries()) {
    found.push(...stateFault(`fragment ${i} header`, headerChecksumState(before), headerChecksumState(fragment)));
    if (fragment.fragmentOffset !== expected)
      found.push(`fragment ${i} begins at ${fragment.fragmentOffset}, not ${expected}`);
    if (fragment.moreFragments !== (i + 1 < fragments.length || before.moreFragments))
      found.push(`fragment ${i} has a wrong more-fragments flag`);
    if (isPartial(out[i]!.vnet)) found.push(`fragment ${i} has a partial checksum`);
    expected += fragment.body.length;
  }
  const body = concat(...fragments.map((fragment) => fragment.body));
  if (body.length !== before.body.length) found.push(`fragments carry ${body.length} of ${before.body.length} bytes`);
  // Of a fragment that was cut again nobody knows the whole.
  if (before.moreFragments || before.fragmentOffset > 0) return found;
  const first = fragments[0]!;
  const wholeHeader = first.header.slice();
  wholeHeader[6] = 0;
  wholeHeader[7] = 0;
  wholeHeader.set([(wholeHeader.length + body.length) >> 8, (wholeHeader.length + body.length) & 255], 2);
  const joined = decodeIpv4(concat(wholeHeader, body));
  const was = isPartial(frame.vnet) ? transportChecksumState(before, true) : transportChecksumState(before);
  // A partial sum that was right has been completed; one that was wrong gives a wrong sum.
  found.push(...stateFault("reassembled transport", was === "partial" ? "good" : was, transportChecksumState(joined)));
  return found;
}
