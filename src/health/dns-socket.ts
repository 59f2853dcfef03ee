/** DNS questions over UDP: a socket of their own each, from a probe port, because that is where answers are let through. */

import type { Socket } from "node:dgram";
import { type Address, formatAddress } from "../model/address.ts";
import { PROBE_PORTS } from "../native/probe.ts";
import { judgeAnswer } from "./dns-test.ts";
import type { Refusal } from "./http-test.ts";

/** Others hold some of the ports; so many tries in a row do not all meet them. */
const MOST_TRIES = 16;

/** A port could not be had: nothing is known of the server. */
export class NoPortError extends Error {}

/**
 * Asks. Answers that are none to the query, whoever sent them, are passed over.
 * @returns the answer, rejected with what the system says or NoPortError; and how to end it, after which it says nothing
 */
export function askDnsOverUdp(server: Address, port: number, query: Buffer): { answer: Promise<Refusal>; end(): void } {
  // Loaded for the first test of its kind: a start does not wait for it (docs/decisions/0047).
  const { createSocket } = process.getBuiltinModule("node:dgram");
  const { randomInt } = process.getBuiltinModule("node:crypto");
  let socket: Socket | null = null;
  let ended = false;
  const end = (): void => {
    ended = true;
    socket?.close();
    socket = null;
  };
  const answer = new Promise<Refusal>((resolve, reject) => {
    const begin = (triesLeft: number): void => {
      if (ended) return;
      const isIPv6 = server.family === 6;
      const opened = createSocket({ type: isIPv6 ? "udp6" : "udp4", ipv6Only: isIPv6 });
      socket = opened;
      opened.on("error", (error: Error & { code?: string }) => {
        if (ended) return;
        if (error.code !== "EADDRINUSE") return reject(error);
        opened.close();
        if (triesLeft === 0) reject(new NoPortError("no port is free for the probe"));
        else begin(triesLeft - 1);
      });
      opened.on("message", (bytes) => {
        const refusal = judgeAnswer(bytes, query);
        if (refusal !== undefined) resolve(refusal);
      });
      opened.bind(randomInt(PROBE_PORTS.min, PROBE_PORTS.max + 1), () => {
        // Connected, so that an ICMP error is told and others' answers are not.
        if (!ended) opened.connect(port, formatAddress(server), () => !ended && opened.send(query));
      });
    };
    begin(MOST_TRIES);
  });
  return { answer, end };
}
