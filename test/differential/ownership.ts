/**
 * Who owns a packet: the kernel's guard drops exactly the interest set, so that the engine alone handles it. A packet
 * that the guard drops and the engine ignores is lost; one that the guard leaves to the kernel and the engine sends or
 * gives back is there twice. This is the guard's side, after the nftables rules, in a few lines of its own.
 */
import type { FrameIn, Interest, Outcome, Port } from "../../src/engine/engine.ts";
import { Verdict } from "../../src/gen/layout.ts";
import type { Address } from "../../src/model/address.ts";
import { addressFromBytes } from "../support/addresses.ts";

const ICMP_ERRORS_THAT_QUOTE = [3, 11, 12];

/** Whether the guard keeps an IPv4 packet from the kernel; null where nftables reads padding and the answer is moot. */
function guardDrops(packet: Uint8Array, interest: Interest): boolean | null {
  if (packet.length < 20) return false;
  const headerBytes = (packet[0]! & 15) * 4;
  const totalLength = packet[2]! * 256 + packet[3]!;
  const isSound =
    packet[0]! >> 4 === 4 && headerBytes >= 20 && totalLength >= headerBytes && totalLength <= packet.length;
  if (!isSound) return null;
  const isLater = ((packet[6]! & 0x1f) | packet[7]!) !== 0;
  const protocol = packet[9]!;
  const source = addressFromBytes(packet.subarray(12, 16));
  const destination = addressFromBytes(packet.subarray(16, 20));
  const has = (list: readonly Address[], address: Address): boolean => list.some((one) => one.value === address.value);
  if (isLater) {
    const toUs = has(interest.vips, destination) || has(interest.proxies, destination);
    return toUs || has(interest.servers, source);
  }
  const data = packet.subarray(headerBytes, totalLength);
  if (protocol === 1) {
    if (has(interest.vips, destination)) return true;
    if (data.length === 0) return null;
    return has(interest.proxies, destination) && ICMP_ERRORS_THAT_QUOTE.includes(data[0]!);
  }
  const name = protocol === 6 ? "tcp" : protocol === 17 ? "udp" : null;
  if (name === null) return false;
  if (data.length < 4) return null;
  const port = { source: data[0]! * 256 + data[1]!, destination: data[2]! * 256 + data[3]! };
  const address = { source, destination };
  return interest.entries.some(
    (entry) =>
      entry.protocol === name &&
      entry.address.value === address[entry.match].value &&
      entry.ports.min <= port[entry.match] &&
      port[entry.match] <= entry.ports.max,
  );
}

/** What is wrong with a verdict beside what the guard does with the same frame; null when they fit. */
export function ownershipFault(frame: FrameIn, { verdict }: Outcome, port: Port, interest: Interest): string | null {
  const link = port.kind === "ethernet" ? 14 : 0;
  const isTagged = frame.vlan === true || (link > 0 && frame.bytes[12] === 0x81 && frame.bytes[13] === 0);
  const isIpv4 = link === 0 || (frame.bytes[12] === 8 && frame.bytes[13] === 0);
  const drops = isTagged || !isIpv4 ? false : guardDrops(frame.bytes.subarray(link), interest);
  if (drops === true && verdict === Verdict.Ignore) return "the guard drops it and the engine ignores it: lost";
  const staysQuiet = verdict === Verdict.Ignore || verdict === Verdict.Drop;
  return drops === false && !staysQuiet ? "the guard leaves it to the kernel and the engine acts on it: twice" : null;
}
