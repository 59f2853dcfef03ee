/** The test HTTP and HTTPS: one GET request; the status of the answer decides. The body is not read, redirects not followed. */
import type { StatusRange } from "../model/config.ts";
import type { ProbeConnection } from "./connection.ts";
import { TalkError } from "./talk-error.ts";

export interface HttpRequest {
  readonly path: string;
  /** The Host field. */
  readonly authority: string;
  /** Of a healthy server. */
  readonly status: readonly StatusRange[];
}

/** Why a server is not healthy; null: it is. */
export type Refusal = string | null;

/** Whether the status is one of a healthy server. */
export const judgeStatus = (status: number, ranges: readonly StatusRange[]): Refusal =>
  ranges.some(({ min, max }) => status >= min && status <= max) ? null : `HTTP ${status}`;

/** Asks. Rejects with what ended the connection; TalkError in words. */
export function askHttp(connection: ProbeConnection, { path, authority, status }: HttpRequest): Promise<Refusal> {
  return new Promise((resolve, reject) => {
    // Loaded for the first test of its kind: a start does not wait for it (docs/decisions/0047).
    const request = process.getBuiltinModule("node:http").request({
      method: "GET",
      path,
      setHost: false,
      headers: { Host: authority, "User-Agent": "ilb-health-check", Accept: "*/*", Connection: "close" },
      createConnection: () => connection,
    });
    request.on("response", (response) => {
      response.on("error", () => {}); // of the body, which nobody wants
      resolve(judgeStatus(response.statusCode ?? 0, status));
      response.destroy();
    });
    request.on("upgrade", (response) => resolve(judgeStatus(response.statusCode ?? 0, status)));
    request.on("error", (error: Error & { code?: string }) => reject(inWords(error)));
    request.end();
  });
}

function inWords(error: Error & { code?: string }): Error {
  if (error.code?.startsWith("HPE_")) return new TalkError("malformed HTTP answer");
  // Node's name for a connection that ended before the answer.
  return error.message === "socket hang up" ? new TalkError("connection closed without an answer") : error;
}
