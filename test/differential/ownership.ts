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
const ICMP6_ERRORS = [1, 2, 3, 4];

const same = (a: Address, b: Address): boolean => a.family === b.family && a.value === b.value;
const has = (list: readonly Address[], address: Address): boolean => list.some((one) => same(one, address));

/** The rules of the port sets. */
function portsMatch(interest: Interest, protocol: number, source: Address, destination: Address, data: Uint8Array) {
  const name = protocol === 6 ? "tcp" : protocol === 17 ? "udp" : null;
  if (name === null) return false;
  if (data.length < 4) return null;
  const port = { source: data[0]! * 256 + data[1]!, destination: data[2]! * 256 + data[3]! };
  const address = { source, destination };
  const matching = interest.entries.filter(
    (entry) =>
      entry.protocol === name &&
      same(entry.address, address[entry.match]) &&
      entry.ports.min <= port[entry.match] &&
      port[entry.match] <= entry.ports.max,
  );
  if (matching.some(({ match }) => match === "destination")) return true;
  const answersProbe = port.destination >= 2048 && port.destination <= 4095 && has(interest.own, destination);
  return matching.length > 0 && !answersProbe;
}

/** An error whose raw payload names a server as the destination of what it quotes; beyond the packet there may be padding. */
function quotesServer(interest: Interest, message: Uint8Array, errors: readonly number[], at: number, bytes: number) {
  if (!errors.includes(message[0]!)) return false;
  if (message.length < at + bytes) return null;
  return has(interest.servers, addressFromBytes(message.subarray(at, at + bytes)));
}

/** What the kernel makes of a chain of extension headers; null where it reads padding or gives up. */
function walk(packet: Uint8Array): { protocol: number; at: number; isLater: boolean; headers: number } | null {
  let protocol = packet[6]!;
  let fragments = 0;
  let headers = 0;
  for (let at = 40; ; headers++) {
    if (![0, 43, 44, 51, 60].includes(protocol)) return { protocol, at, isLater: false, headers };
    if (at + 8 > packet.length) return null;
    const units = packet[at + 1]!;
    const next = packet[at]!;
    // nftables looks at the first fragment header only; packets with two are nobody's, and the engine drops them.
    if (protocol === 44 && ++fragments > 1) return null;
    if (protocol === 44 && packet[at + 2]! * 256 + (packet[at + 3]! & 0xf8) !== 0) {
      return { protocol: next, at: at + 8, isLater: true, headers };
    }
    at += protocol === 44 ? 8 : protocol === 51 ? 4 * units + 8 : 8 * units + 8;
    if (at > packet.length) return null;
    protocol = next;
  }
}

/** The same for IPv6. */
function guardDrops6(whole: Uint8Array, interest: Interest): boolean | null {
  if (whole.length < 40) return false;
  const totalLength = whole[4]! * 256 + whole[5]! + 40;
  if (whole[0]! >> 4 !== 6 || totalLength > whole.length) return null;
  const packet = whole.subarray(0, totalLength);
  const source = addressFromBytes(packet.subarray(8, 24));
  const destination = addressFromBytes(packet.subarray(24, 40));
  const end = walk(packet);
  if (end === null) return null;
  if (end.isLater) {
    const toUs = has(interest.vips, destination) || has(interest.proxies, destination);
    return toUs || has(interest.servers, source);
  }
  const data = packet.subarray(end.at);
  if (end.protocol !== 58) return portsMatch(interest, end.protocol, source, destination, data);
  const type = data[0];
  if (type === undefined) return null;
  const isNeighbours = (type >= 130 && type <= 137) || type === 143;
  const isToUs =
    (has(interest.vips, destination) && !isNeighbours) ||
    (has(interest.proxies, destination) && ICMP6_ERRORS.includes(type));
  // Nothing but a quote tells that it is ours, and the engine looks for that behind eight headers and 512 bytes at the most.
  const isBuried = end.headers > 8 || end.at > 40 + 512;
  return isToUs || (isBuried ? null : quotesServer(interest, data, ICMP6_ERRORS, 32, 16));
}

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
  if (isLater) {
    const toUs = has(interest.vips, destination) || has(interest.proxies, destination);
    return toUs || has(interest.servers, source);
  }
  const data = packet.subarray(headerBytes, totalLength);
  if (protocol === 1) {
    if (has(interest.vips, destination)) return true;
    if (data.length === 0) return null;
    const isToProxy = has(interest.proxies, destination) && ICMP_ERRORS_THAT_QUOTE.includes(data[0]!);
    return isToProxy || quotesServer(interest, data, ICMP_ERRORS_THAT_QUOTE, 24, 4);
  }
  return portsMatch(interest, protocol, source, destination, data);
}

/** What is wrong with a verdict beside what the guard does with the same frame; null when they fit. */
export function ownershipFault(frame: FrameIn, { verdict }: Outcome, port: Port, interest: Interest): string | null {
  const link = port.kind === "ethernet" ? 14 : 0;
  const isTagged = frame.vlan === true || (link > 0 && frame.bytes[12] === 0x81 && frame.bytes[13] === 0);
  const packet = frame.bytes.subarray(link);
  const etherType =
    link === 0 ? ((packet[0] ?? 0) >> 4 === 6 ? 0x86dd : 0x0800) : frame.bytes[12]! * 256 + frame.bytes[13]!;
  const rules = etherType === 0x0800 ? guardDrops : etherType === 0x86dd ? guardDrops6 : null;
  const drops = isTagged || rules === null ? false : rules(packet, interest);
  if (drops === true && verdict === Verdict.Ignore) return "the guard drops it and the engine ignores it: lost";
  const staysQuiet = verdict === Verdict.Ignore || verdict === Verdict.Drop;
  return drops === false && !staysQuiet ? "the guard leaves it to the kernel and the engine acts on it: twice" : null;
}
