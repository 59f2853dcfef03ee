/**
 * The laboratory's topology "routed": a router on each side of the box, and links whose sizes can differ, so that a
 * packet may be too big for a link that neither of its ends can see. Shell lines only; lab.ts runs them.
 *
 *   client ── near ── front │ box │ back ── far ── lan (bridge) ── s1 s2 s3
 *       client    near                  far     servers            (names of the links)
 *
 * Client and servers have the addresses that they have everywhere, and the routers the ones that they know as the box's
 * (`boxFront`, `boxBack`); the box has addresses of the links to the routers. Both ends tell each other that they take
 * full segments (advmss), whatever the size of their own link, so that it is found out only on the way. Servers are no
 * neighbours of the box here: nothing for direct server return.
 *
 * The last ports before client and servers carry no segmentation super-packets, so a capture there shows what comes in
 * segments as they would be on a wire, and those that are too big for it are lost, as on a wire.
 */
import {
  ADDRESSES,
  allNames,
  type Family,
  type LabOptions,
  type LinkName,
  type Names,
  offloadLines,
  Script,
} from "./topology.ts";

interface TransitPlan {
  readonly bits: number;
  /** Of the near router towards the box. */
  readonly near: string;
  /** Of the box's port `front`. */
  readonly boxFront: string;
  /** Of the box's port `back`. */
  readonly boxBack: string;
  /** Of the far router towards the box. */
  readonly far: string;
}

/** Addresses of the links between the box and its routers. */
export const TRANSIT: Readonly<Record<Family, TransitPlan>> = {
  4: { bits: 30, near: "203.0.113.201", boxFront: "203.0.113.202", boxBack: "203.0.113.205", far: "203.0.113.206" },
  6: { bits: 64, near: "2001:db8:4::1", boxFront: "2001:db8:4::2", boxBack: "2001:db8:5::1", far: "2001:db8:5::2" },
};

/** What ends announce: the largest payload of a TCP segment on a link of 1500 bytes. */
const FULL_SEGMENT_BYTES: Readonly<Record<Family, number>> = { 4: 1_460, 6: 1_440 };

/** The two routers of a routed laboratory. */
export function routersOf(names: Names): { near: string; far: string } {
  const [near, far] = names.routers;
  if (near === undefined || far === undefined) throw new RangeError("only a routed laboratory has routers");
  return { near, far };
}

/** Shell lines, run by `sh -e`, that build everything. */
export function buildRoutedScript(options: LabOptions, names: Names): string {
  const families = options.families ?? [4];
  const script = new Script();
  for (const name of allNames(names)) script.namespace(name, families);
  const { near, far } = routersOf(names);
  for (const name of [near, names.box, far]) script.forwarding(name, families);
  for (const name of ["all", "default"]) script.set(names.box, `ipv4/conf/${name}/rp_filter`, options.rpFilter ?? 0);
  linkLines(script, options, names);
  for (const family of families) addressLines(script, options, names, family);
  for (const [index, server] of names.servers.entries()) {
    script.ethtool(names.lan, `to-s${index + 1}`, "tso off gso off");
    script.ethtool(server, "eth0", "gro off");
  }
  script.ethtool(near, "inner", "tso off gso off");
  script.ethtool(names.client, "eth0", "gro off");
  if (options.tso === false) {
    for (const name of [near, far])
      for (const port of ["inner", "outer"]) script.ethtool(name, port, "tso off gso off");
  }
  offloadLines(script, options, names);
  return script.lines.join("\n");
}

/** `outer`: a router's port towards the box; `inner`: the other one. */
function linkLines(script: Script, options: LabOptions, names: Names): void {
  const { near, far } = routersOf(names);
  const cable = (link: LinkName, name: string, port: string, peer: string, peerPort: string) => {
    const mtu = options.linkMtu?.[link] ?? 1_500;
    script.ip(name, `link add ${port} mtu ${mtu} type veth peer name ${peerPort} mtu ${mtu} netns ${peer}`);
    script.ip(name, `link set ${port} up`);
    script.ip(peer, `link set ${peerPort} up`);
  };
  cable("client", names.client, "eth0", near, "inner");
  cable("near", near, "outer", names.box, "front");
  cable("far", names.box, "back", far, "outer");
  script.ip(names.lan, "link add bridge type bridge stp_state 0 forward_delay 0");
  script.ip(names.lan, "link set bridge up");
  cable("servers", far, "inner", names.lan, "to-far");
  script.ip(names.lan, "link set to-far master bridge");
  for (const [index, name] of names.servers.entries()) {
    cable("servers", name, "eth0", names.lan, `to-s${index + 1}`);
    script.ip(names.lan, `link set to-s${index + 1} master bridge`);
  }
}

/** Addresses and routes of one family. */
function addressLines(script: Script, options: LabOptions, names: Names, family: Family): void {
  const { near, far } = routersOf(names);
  const plan = ADDRESSES[family];
  const transit = TRANSIT[family];
  const announced = `advmss ${FULL_SEGMENT_BYTES[family]}`;
  for (let index = 0; index < (options.clientAddresses ?? 4); index++) {
    script.address(names.client, plan.client(index), plan.networkBits, "eth0");
  }
  script.address(near, plan.boxFront, plan.networkBits, "inner");
  script.ip(names.client, `route add default via ${plan.boxFront} ${announced}`);

  script.address(near, transit.near, transit.bits, "outer");
  script.address(names.box, transit.boxFront, transit.bits, "front");
  script.ip(near, `route add default via ${transit.boxFront}`);
  script.ip(names.box, `route add ${plan.clientNetwork} via ${transit.near}`);

  script.address(names.box, transit.boxBack, transit.bits, "back");
  script.address(far, transit.far, transit.bits, "outer");
  script.ip(far, `route add default via ${transit.boxBack}`);
  script.address(far, plan.boxBack, plan.networkBits, "inner");
  script.ip(names.box, `route add ${plan.serverNetwork} via ${transit.far}`);
  for (const [index, name] of names.servers.entries()) {
    script.address(name, plan.server(index), plan.networkBits, "eth0");
    script.ip(name, `route add default via ${plan.boxBack} ${announced}`);
  }
}
