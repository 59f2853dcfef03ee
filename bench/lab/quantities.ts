/**
 * The quantities that are measured in the laboratory, each with what it needs: the one table behind the rows of
 * `npm run bench` (lab.row.ts) and the comparison of checkouts (compare.ts).
 */
import { makeRules, managementLatency } from "./management.ts";
import * as meters from "./meters.ts";
import type { Side, SideOptions } from "./side.ts";

export interface Quantity extends Pick<SideOptions, "protocol" | "port" | "servers" | "plainEndpoints"> {
  readonly unit: string;
  readonly better: "higher" | "lower";
  /** What is measured and by which command, for a person. */
  readonly what: string;
  /** Programs besides those of the laboratory. */
  readonly programs: readonly string[];
  /** Sides of one kind can be measured by the same quantities one after the other. */
  readonly kind: string;
  /** Starts what has to run on the servers; once per side and kind. */
  prepare(side: Side): Promise<void>;
  /** In the quantity's unit. Throws when what arrived is wrong. */
  measure(side: Side, milliseconds: number): Promise<number>;
}

function bulk(streams: number, plainEndpoints: boolean): Quantity {
  const words = plainEndpoints ? ", endpoints without TSO and GSO" : "";
  return {
    unit: "Gb/s",
    better: "higher",
    what: `TCP throughput, HALF-NAT${words} (iperf3 -P ${streams})`,
    programs: ["iperf3"],
    kind: plainEndpoints ? "plain-bulk" : "bulk",
    protocol: "tcp",
    port: meters.IPERF_PORT,
    servers: 1,
    plainEndpoints,
    prepare: meters.startIperf,
    measure: (side, milliseconds) => meters.bulkRate(side, streams, milliseconds),
  };
}

function http(connections: "kept" | "new"): Quantity {
  return {
    unit: "k/s",
    better: "higher",
    what:
      connections === "new"
        ? "HTTP requests on a new connection each (wrk, nginx)"
        : "HTTP requests on 32 kept connections (wrk, nginx)",
    programs: ["wrk", "nginx", "curl"],
    kind: "http",
    protocol: "tcp",
    port: meters.HTTP_PORT,
    servers: 2,
    prepare: meters.startNginx,
    measure: (side, milliseconds) => meters.requestRate(side, connections, milliseconds),
  };
}

function datagrams(what: string, measure: Quantity["measure"]): Quantity {
  return {
    unit: "kpps",
    better: "higher",
    what: `${what} (60-byte frames, 64 flows, bench/native/traffic.c)`,
    programs: ["nft"],
    kind: "datagrams",
    protocol: "udp",
    port: meters.UDP_PORT,
    servers: 1,
    prepare: meters.countArrivals,
    measure,
  };
}

function echoes(unit: string, what: string, measure: Quantity["measure"]): Quantity {
  return {
    unit,
    better: "lower",
    what: `${what} (bench/native/traffic.c)`,
    programs: [],
    kind: "echoes",
    protocol: "udp",
    port: meters.ECHO_PORT,
    servers: 1,
    prepare: meters.startEcho,
    measure,
  };
}

/** By name: the part of a row's id before its peer. */
export const QUANTITIES = {
  "tcp.1": bulk(1, false),
  "tcp.8": bulk(8, false),
  "tcp.1.nogso": bulk(1, true),
  "udp.pps": datagrams("UDP rate of one sender without loss", meters.lossFreeRate),
  "udp.sat": datagrams("UDP delivered while two senders saturate two cores", meters.saturatedRate),
  cps: http("new"),
  rps: http("kept"),
  "rtt.p50": echoes(
    "us",
    "median UDP round trip, one at a time",
    async (side, milliseconds) => (await meters.roundTrips(side, milliseconds)).p50,
  ),
  "rtt.p99": echoes(
    "us",
    "99th percentile of UDP round trips, one at a time",
    async (side, milliseconds) => (await meters.roundTrips(side, milliseconds)).p99,
  ),
  "http.p99": {
    ...datagrams("99th percentile of management requests while two senders saturate two cores", managementLatency),
    unit: "ms",
    better: "lower",
    kind: "management",
    prepare: async (side) => {
      await meters.countArrivals(side);
      await makeRules(side);
    },
  },
  "start.first": echoes("ms", "from the start of ilbd run to the first balanced packet", meters.startToFirstPacket),
} as const satisfies Readonly<Record<string, Quantity>>;

export type QuantityName = keyof typeof QUANTITIES;
