/**
 * Creates a TUN interface with offloads and one port per queue. It vanishes with the process. Address, MTU, bringing it
 * up and the routes that lead into it are the work of src/kernel/.
 */
import { tunOpen } from "../native/packet-io.ts";
import { describePort, type KernelPort } from "./kernel-io.ts";

const NO_DEVICE_NODE =
  "/dev/net/tun cannot be opened; load the module ('modprobe tun') or start the container with --device /dev/net/tun";

const HINTS = {
  ENOENT: NO_DEVICE_NODE,
  EACCES: NO_DEVICE_NODE,
  ENODEV: NO_DEVICE_NODE,
  ENXIO: NO_DEVICE_NODE,
  EPERM: "TUN interfaces need CAP_NET_ADMIN; run as root, or start the container with --cap-add NET_ADMIN,NET_RAW",
  EBUSY: "the name is taken; remove the other interface with 'ip link del' or choose another name",
  EINVAL: "an interface name has 1 to 15 characters, and there are 1 to 16 queues",
};

/**
 * @param name at most 15 bytes; a `%d` in it becomes the first free number, read the real name from the ports
 * @param queues 1..16, one per packet worker
 * @returns one port per queue. Throws NativeError with cause and way out; then nothing is left behind.
 */
export function openTun(name: string, queues: number): KernelPort[] {
  return tunOpen(name, queues, HINTS).map(describePort);
}
