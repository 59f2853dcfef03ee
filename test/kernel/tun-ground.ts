/** What the tests of tun routing stand on, whatever the family: a box between a client and a server, its way into a TUN. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { interestOf } from "../../src/control/interest.ts";
import type { Interest } from "../../src/engine/engine.ts";
import { HostChanges } from "../../src/kernel/host-changes.ts";
import type { InterestTable } from "../../src/kernel/interest-table.ts";
import { NetworkWatch } from "../../src/kernel/network-watch.ts";
import { createTunRouting, keepRouteMtu } from "../../src/kernel/tun-routing.ts";
import type { Address, Family } from "../../src/model/address.ts";
import { Nft } from "../../src/native/nftables.ts";
import { LogBook, Net, PEER_PROGRAM, type Peer } from "./support.ts";

/** Namespaces `client` - `box` - `server`, cables between them, nothing else. @param prepare before there is any interface */
export function tunNet(prepare: (net: Net) => void = () => undefined): Net {
  const net = new Net("box", "client", "server");
  prepare(net);
  net.cable("box:eth0", "client:eth0", ["02:00:00:00:00:0b", "02:00:00:00:00:0c"]);
  net.cable("box:eth1", "server:eth0", ["02:00:00:00:01:0b", "02:00:00:00:01:0c"]);
  return net;
}

export interface TunRoute {
  /** Holds the TUN, in the engine's place. */
  readonly engine: Peer;
  /** Sniffers behind the box. */
  readonly atServer: Peer;
  readonly atClient: Peer;
  readonly network: NetworkWatch;
  readonly nft: Nft;
  /** Where `changes` keeps its journal. */
  readonly directory: string;
  readonly changes: HostChanges;
  readonly interest: Interest;
  readonly routing: InterestTable;
  readonly log: LogBook;
  /** Lets go of what is held in this process. */
  close(): Promise<void>;
}

/**
 * Routes one service, port 80 of `vip` to port 8080 of `server`, through the TUN `ilb0` of the box.
 * @param forwardsPerDevice6 as createTunRouting has it
 */
export async function routeThroughTun(
  net: Net,
  family: Family,
  { vip, server, forwardsPerDevice6 }: { vip: Address; server: Address; forwardsPerDevice6?: boolean },
): Promise<TunRoute> {
  const [directory, log] = [mkdtempSync(join(tmpdir(), "ilb-k-")), new LogBook()];
  const words = family === 6 ? ["6"] : [];
  const engine = net.start("box", "python3", PEER_PROGRAM, "tun", "ilb0", ...words);
  const atServer = net.start("server", "python3", PEER_PROGRAM, "sniff", "eth0", ...words);
  const atClient = net.start("client", "python3", PEER_PROGRAM, "sniff", "eth0", ...words);
  for (const peer of [engine, atServer, atClient]) await peer.line();
  return net.inside("box", async () => {
    const [network, nft] = [new NetworkWatch(), new Nft()];
    const changes = new HostChanges(directory, network, log);
    const options = {
      tun: "ilb0",
      devices: ["eth0", "eth1"],
      ...(forwardsPerDevice6 !== undefined && { forwardsPerDevice6 }),
    };
    const routing = await createTunRouting(nft, network, changes, options);
    keepRouteMtu(network, options, log);
    const rule = { vip, protocol: "tcp", ports: { min: 80, max: 80 }, type: "HALF-NAT", proxySource: null } as const;
    const interest = interestOf([{ ...rule, servers: [{ address: server, ports: { min: 8080, max: 8080 } }] }]);
    await routing.apply(interest);
    const close = async (): Promise<void> => {
      await nft.close();
      network.close();
      rmSync(directory, { recursive: true, force: true });
    };
    return { engine, atServer, atClient, network, nft, directory, changes, interest, routing, log, close };
  });
}
