/** Outcomes of probes in words, and what the output of an external test means (specification F.3). Pure. */
import type { ProbeKind, ProbeResult } from "../native/probe.ts";
import type { Outcome } from "./check.ts";

const WORDS: Readonly<Record<string, string>> = {
  ECONNREFUSED: "connection refused",
  ECONNRESET: "connection reset",
  EHOSTUNREACH: "host unreachable",
  EHOSTDOWN: "host down",
  ENETUNREACH: "network unreachable",
  EACCES: "forbidden by routing or a firewall",
  EPERM: "forbidden by a firewall of this box",
};

/** To a tenth of a second, as far as it is not a whole number. */
export const timeoutWords = (seconds: number): string => `timeout after ${Math.round(seconds * 10) / 10} s`;

export function outcomeOf({ kind, code, rttMicroseconds }: ProbeResult, probe: ProbeKind, seconds: number): Outcome {
  if (kind === "success") return { kind, rttMicroseconds };
  if (kind === "not-started") return { kind, reason: `the probe could not be made (${code})` };
  if (code === "ETIMEDOUT") return { kind, reason: timeoutWords(seconds) };
  if (code === "ECONNREFUSED" && probe === "udp") return { kind, reason: "port unreachable" };
  return { kind, reason: errorWords(code) };
}

/** @param code name of an errno, or any text, which stays as it is */
export const errorWords = (code: string): string => WORDS[code] ?? code;

/** Above it a number is no round-trip time. */
const MAX_RTT_MICROSECONDS = 0xffff_ffff;

/** @param output the first piece of standard output. @returns null: it does not decide */
export function outcomeOfOutput(output: string): Outcome | null {
  const match = /^\s*(-?)([0-9]+)/.exec(output);
  if (match === null) return null;
  const [, sign, digits] = match;
  const value = Number(digits);
  if (sign === "-" && value !== 0) return { kind: "failure", reason: `the test printed -${digits}` };
  return { kind: "success", rttMicroseconds: value <= MAX_RTT_MICROSECONDS ? value : 0 };
}

/** @param status exit status, or 128 + signal, of a test whose output did not decide */
export function outcomeOfStatus(status: number): Outcome {
  if (status === 0) return { kind: "success", rttMicroseconds: 0 };
  const reason = status > 128 ? `the test was killed by signal ${status - 128}` : `the test exited with ${status}`;
  return { kind: "failure", reason };
}
