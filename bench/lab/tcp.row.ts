/**
 * TCP through the box in the laboratory, against the kernel's own address translation. Both sides stand in the same
 * box at the same time, each with a VIP of its own to a server of its own, and are measured in turn by iperf3.
 */
import { Lab } from "../../src/lab/lab.ts";
import { SANDBOX_VARIABLE } from "../../src/lab/sandbox.ts";
import { ROUTED_VIP, serverAddress } from "../../src/lab/topology.ts";
import type { BenchContext, BenchRow, BenchSides } from "../row.ts";

const PORT = 5201;
const PEER_VIP = "203.0.113.20";

/** Gigabits per second that the receiver saw. */
async function iperf(lab: Lab, vip: string, streams: number, seconds: number): Promise<number> {
  const words = ["iperf3", "-c", vip, "-p", String(PORT), "-t", String(seconds), "-P", String(streams), "-J"];
  const report = JSON.parse(await lab.must(lab.names.client, words)) as {
    end?: { sum_received?: { bits_per_second: number } };
  };
  const bits = report.end?.sum_received?.bits_per_second;
  if (bits === undefined || bits === 0) throw new Error(`iperf3 to ${vip} measured nothing`);
  return bits / 1e9;
}

async function setup(context: BenchContext, streams: number): Promise<BenchSides> {
  const lab = await Lab.create({ tag: "bench", servers: 2 });
  try {
    for (const name of lab.names.servers) {
      const server = lab.start(name, ["iperf3", "-s", "-p", String(PORT), "--forceflush"]);
      await server.line(/Server listening/);
    }
    const rules = `table ip peer {
      chain prerouting {
        type nat hook prerouting priority dstnat
        ip daddr ${PEER_VIP} tcp dport ${PORT} dnat to ${serverAddress(1)}:${PORT}
      }
    }`;
    await lab.must(lab.names.box, ["nft", rules]);
    await lab.startDaemon({ io: "packet" });
    await lab.configure("create-servergroup", "-s", `server=${serverAddress(0)}:${PORT}`, "bench");
    const incoming = `vip=${ROUTED_VIP},port=${PORT},protocol=tcp`;
    await lab.configure("create-rule", "-e", "-i", incoming, "-m", "type=HALF-NAT", "-o", "servergroup=bench", "bench");
  } catch (error) {
    await lab.close();
    throw error;
  }
  const seconds = context.quick ? 1 : 3;
  return {
    ours: () => iperf(lab, ROUTED_VIP, streams, seconds),
    peer: () => iperf(lab, PEER_VIP, streams, seconds),
    close: () => lab.close(),
  };
}

function row(streams: number): BenchRow {
  return {
    id: `tcp-${streams}-stream${streams === 1 ? "" : "s"}`,
    unit: "Gb/s",
    better: "higher",
    peerName: "nftables DNAT",
    what: `TCP throughput, ${streams} stream${streams === 1 ? "" : "s"}, HALF-NAT, packet device (iperf3 -P ${streams})`,
    unavailable: () => (process.env[SANDBOX_VARIABLE] === "1" ? null : "no network namespaces for this user"),
    setup: (context) => setup(context, streams),
  };
}

const rows: readonly BenchRow[] = [row(1)];
export default rows;
