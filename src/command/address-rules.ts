/** Which addresses a VIP, a proxy source or a server may be. */
import {
  type Address,
  type AddressRange,
  isIPv4Mapped,
  isLimitedBroadcast,
  isLoopback,
  isMulticast,
  isUnspecified,
  rangeSize,
} from "../model/address.ts";

const MAX_PROXY_ADDRESSES = 10n;

/** Never a destination of one host: unspecified, multicast, limited broadcast. */
const isNoHost = (address: Address): boolean =>
  isUnspecified(address) || isMulticast(address) || isLimitedBroadcast(address);

/** A VIP, or an end of a proxy source range: an address that packets between hosts may carry. */
export function isVirtualAddress(address: Address): boolean {
  return !isNoHost(address) && !isLoopback(address) && !isIPv4Mapped(address);
}

/** Loopback and addresses of the box itself are allowed. */
export function isServerAddress(address: Address): boolean {
  return !isNoHost(address);
}

/** In order, at most ten, of one /64 if IPv6. */
export function isValidProxySource(range: AddressRange): boolean {
  const { first, last } = range;
  if (!isVirtualAddress(first) || !isVirtualAddress(last) || first.value > last.value) return false;
  if (rangeSize(range) > MAX_PROXY_ADDRESSES) return false;
  return first.family === 4 || first.value >> 64n === last.value >> 64n;
}
