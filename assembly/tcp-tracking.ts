/**
 * What FIN, RST and acknowledgements tell about a flow (specification E.4), and when a flow counts as established.
 * Sequence numbers are compared modulo 2^32 (RFC 9293 section 3.4).
 */
import { establish, endSoon, flowAt, isClosed, isUnanswered, reopen, setSlow } from "./flows";
import {
  FLOW_ANSWERED,
  FLOW_CLOSED_FORWARD,
  FLOW_CLOSED_REVERSE,
  FLOW_FIN_FORWARD,
  FLOW_FIN_REVERSE,
  FLOW_HALF_OPEN,
  FLOW_RESET,
  FlowRecord,
  View,
} from "./gen/layout";
import { countRefused, countUnanswered } from "./pairs";
import { ACK, FIN, RST, SYN, TCP } from "./parse";

/** Follows one packet of the flow; it is going to be forwarded. */
export function track(index: u32, packet: View, now: u32): void {
  const flow = flowAt(index);
  followOpening(index, flow, packet);
  if (packet.protocol == TCP) followClosing(index, flow, packet, now);
  const tracked: u32 = FLOW_HALF_OPEN | FLOW_FIN_FORWARD | FLOW_FIN_REVERSE | FLOW_RESET;
  const slow = (flow.state & tracked) != 0;
  // UDP waits for an answer only; one-way traffic never gets one and still takes the fast path.
  setSlow(flow, slow && packet.protocol == TCP, slow);
}

/**
 * What a packet of a flow that was open before says about a server that has sent nothing yet; before track(). Only a SYN
 * is answered by RST with ACK (RFC 9293 section 3.10.7.1): a connection that the server does not know any more is none of
 * its failures.
 */
export function noteSignal(index: u32, packet: View): void {
  const flow = flowAt(index);
  if (packet.protocol != TCP || !isUnanswered(flow)) return;
  if (packet.reverse) {
    if ((packet.tcpFlags & (RST | ACK)) == (RST | ACK)) countRefused(flow.pair);
  } else if ((packet.tcpFlags & (SYN | ACK | RST | FIN)) == SYN) {
    countUnanswered(flow.pair);
  }
}

/**
 * Half open ends, for UDP, when the server answers; for TCP, when the client then goes on without SYN or RST: only then it
 * has seen the answer, which the sender of a forged SYN has not.
 */
function followOpening(index: u32, flow: FlowRecord, packet: View): void {
  if (!(flow.state & FLOW_HALF_OPEN)) return;
  if (packet.reverse) {
    flow.state |= <u8>FLOW_ANSWERED;
    if (packet.protocol != TCP) establish(index);
  } else if (flow.state & FLOW_ANSWERED && !(packet.tcpFlags & (SYN | RST))) {
    establish(index);
  }
}

// @ts-ignore: decorator
@inline
function isAfter(a: u32, b: u32): bool {
  return <i32>(a - b) > 0;
}

function followClosing(index: u32, flow: FlowRecord, packet: View, now: u32): void {
  const wasClosed = isClosed(flow);
  const sequence = bswap<u32>(load<u32>(packet.layer4, 4));
  forgetFin(flow, packet, sequence);
  if (packet.tcpFlags & FIN) noteFin(flow, packet, sequence);
  if (packet.tcpFlags & ACK) noteAcknowledgement(flow, packet.reverse != 0, bswap<u32>(load<u32>(packet.layer4, 8)));
  if (packet.tcpFlags & RST) flow.state |= <u8>FLOW_RESET;
  const closed = isClosed(flow);
  if (closed && !wasClosed) endSoon(index, now);
  if (!closed && wasClosed) reopen(index);
}

/** A segment beyond the FIN means that the ports are in use again. */
function forgetFin(flow: FlowRecord, packet: View, sequence: u32): void {
  const seen: u32 = packet.reverse ? FLOW_FIN_REVERSE : FLOW_FIN_FORWARD;
  const closed: u32 = packet.reverse ? FLOW_CLOSED_REVERSE : FLOW_CLOSED_FORWARD;
  const fin = packet.reverse ? flow.finReverse : flow.finForward;
  if (flow.state & seen && isAfter(sequence, fin + 1)) flow.state &= <u8>~(seen | closed);
}

/** The number that the FIN itself occupies, after the data and a SYN of the same segment. */
function noteFin(flow: FlowRecord, packet: View, sequence: u32): void {
  const payload = packet.total - packet.headerLength - packet.transportLength;
  const fin = sequence + payload + (packet.tcpFlags & SYN ? 1 : 0);
  if (packet.reverse) {
    if (flow.state & FLOW_FIN_REVERSE && flow.finReverse == fin) return;
    flow.finReverse = fin;
    flow.state = <u8>((flow.state | FLOW_FIN_REVERSE) & ~FLOW_CLOSED_REVERSE);
  } else {
    if (flow.state & FLOW_FIN_FORWARD && flow.finForward == fin) return;
    flow.finForward = fin;
    flow.state = <u8>((flow.state | FLOW_FIN_FORWARD) & ~FLOW_CLOSED_FORWARD);
  }
}

function noteAcknowledgement(flow: FlowRecord, reverse: bool, acknowledgement: u32): void {
  if (reverse) {
    if (flow.state & FLOW_FIN_FORWARD && isAfter(acknowledgement, flow.finForward)) flow.state |= <u8>FLOW_CLOSED_FORWARD;
  } else if (flow.state & FLOW_FIN_REVERSE && isAfter(acknowledgement, flow.finReverse)) {
    flow.state |= <u8>FLOW_CLOSED_REVERSE;
  }
}
