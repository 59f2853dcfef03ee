/**
 * The typed client of the HTTP API: hono/client over the operations that src/gen/api.ts names, through the Unix socket or
 * a URL with a bearer token. Types alone come from the server's side, so a program that uses it carries no server.
 */
import type { Hono } from "hono";
import { hc } from "hono/client";
import type { BlankEnv } from "hono/types";
import type { Api } from "../gen/api.ts";

/** Which daemon. Exactly one of `socket` and `url` is set. */
export interface Target {
  /** Path of the socket, or null when `url` is used. */
  readonly socket: string | null;
  readonly url: string | null;
  readonly token: string | null;
}

/** Nobody listens there. */
export class NotReachable extends Error {
  override readonly name = "NotReachable";
}

export type Client = ReturnType<typeof hc<Hono<BlankEnv, Api, "/">>>;

/**
 * A client of one daemon. Its calls reject with NotReachable when nobody answers; reading a body rejects when the
 * connection breaks. A refusal is an answer like any other: look at `ok` and `status`.
 */
export function createClient({ socket, url, token }: Target): Client {
  const reach = async (input: string | URL | Request, init?: RequestInit): Promise<Response> => {
    // `timeout: false`: a listing with a long interval is silent for as long as the user wants.
    const own = { ...init, redirect: "error", timeout: false } satisfies BunFetchRequestInit;
    try {
      return await fetch(input, socket === null ? own : { ...own, unix: socket });
    } catch (error) {
      throw new NotReachable((error as { code?: string }).code ?? String(error));
    }
  };
  return hc<Hono<BlankEnv, Api, "/">>(url ?? "http://localhost", {
    fetch: Object.assign(reach, { preconnect: fetch.preconnect }),
    headers: { connection: "close", ...(token === null ? {} : { authorization: `Bearer ${token}` }) },
  });
}
