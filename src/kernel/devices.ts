/** Which interfaces the packet devices own: the default choice and the checks of one. Pure over what the kernel lists. */

import { PASS_PREFIX } from "./pass.ts";
import { ARPHRD_ETHER, type InterfaceAddress, type Link } from "./rtnetlink.ts";

export type DeviceChoice =
  | { readonly ok: true; readonly devices: readonly Link[] }
  | { readonly ok: false /** One line that names what and the way out. */; readonly text: string };

const refuse = (text: string): DeviceChoice => ({ ok: false, text });

/**
 * @param names as given with --dev; null: all Ethernet interfaces that are up and have an address
 * @param ours names of interfaces that ILB made (TUN), never chosen by default
 */
export function chooseDevices(
  names: readonly string[] | null,
  links: readonly Link[],
  addresses: readonly InterfaceAddress[],
  ours: ReadonlySet<string> = new Set(),
): DeviceChoice {
  const isOurs = (link: Link) => ours.has(link.name) || link.name.startsWith(PASS_PREFIX);
  if (names === null) {
    const addressed = new Set(addresses.map((address) => address.index));
    const devices = links.filter((link) => isUsable(link) && addressed.has(link.index) && !isOurs(link));
    if (devices.length === 0)
      return refuse("no interface to own: none but loopback is Ethernet, up and has an address; name one with --dev");
    return checkPairs(devices, links);
  }
  const devices: Link[] = [];
  for (const name of new Set(names)) {
    const link = links.find((candidate) => candidate.name === name);
    if (!link) return refuse(`no interface ${name} in this network namespace; 'ip link' lists what there is`);
    if (isOurs(link)) return refuse(`interface ${name} belongs to ilbd itself; name another with --dev`);
    if (link.loopback) return refuse("the loopback interface cannot be a packet device; name another with --dev");
    if (link.hardwareType !== ARPHRD_ETHER || link.mac === null)
      return refuse(
        `interface ${name} is not Ethernet (type ${link.kind ?? link.hardwareType}); use --io tun or another interface`,
      );
    if (!link.up) return refuse(`interface ${name} is down; switch it on: ip link set ${name} up`);
    devices.push(link);
  }
  if (devices.length === 0) return refuse("--dev names no interface");
  return checkPairs(devices, links);
}

const isUsable = (link: Link): boolean =>
  !link.loopback && link.up && link.hardwareType === ARPHRD_ETHER && link.mac !== null;

/** Two devices that see the same frame would handle it twice. */
function checkPairs(devices: readonly Link[], links: readonly Link[]): DeviceChoice {
  for (const device of devices) {
    for (const other of devices) {
      const relation = device === other ? null : relationOf(device, other, links);
      if (relation)
        return refuse(
          `${device.name} and ${other.name} see the same frames (${relation}); name one of them with --dev`,
        );
    }
  }
  return { ok: true, devices };
}

/** How a frame that arrives at `from` reaches `to` too; null when it does not. */
function relationOf(from: Link, to: Link, links: readonly Link[]): string | null {
  const seen = new Set<number>();
  const visit = (link: Link): string | null => {
    if (seen.has(link.index)) return null;
    seen.add(link.index);
    for (const above of links) {
      const isMaster = link.master === above.index;
      if (!isMaster && above.lower !== link.index) continue;
      const step = isMaster
        ? `${link.name} belongs to ${above.kind ?? "interface"} ${above.name}`
        : `${above.name} is a ${above.kind ?? "interface"} on ${link.name}`;
      if (above.index === to.index) return step;
      const further = visit(above);
      if (further) return `${step}, ${further}`;
    }
    return null;
  };
  return visit(from);
}
