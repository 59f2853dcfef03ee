/**
 * The test GRPC: grpc.health.v1.Health/Check over HTTP/2. Of protocol buffers it knows the two messages of that call, one
 * field each.
 */
import type { IncomingHttpHeaders } from "node:http2";
import type { ProbeConnection } from "./connection.ts";
import type { Refusal } from "./http-test.ts";
import { TalkError } from "./talk-error.ts";

export interface GrpcRequest {
  /** Whose health; empty: the server's. */
  readonly service: string;
  readonly authority: string;
  readonly isTls: boolean;
}

/** HealthCheckResponse.ServingStatus. */
const SERVING_STATUS = ["UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"] as const;
/** Status codes of gRPC, by number. */
const STATUS = [
  "OK",
  "CANCELLED",
  "UNKNOWN",
  "INVALID_ARGUMENT",
  "DEADLINE_EXCEEDED",
  "NOT_FOUND",
  "ALREADY_EXISTS",
  "PERMISSION_DENIED",
  "RESOURCE_EXHAUSTED",
  "FAILED_PRECONDITION",
  "ABORTED",
  "OUT_OF_RANGE",
  "UNIMPLEMENTED",
  "INTERNAL",
  "UNAVAILABLE",
  "DATA_LOSS",
  "UNAUTHENTICATED",
] as const;

/** Compression flag and length before each message. */
const PREFIX_BYTES = 5;

/** HealthCheckRequest with its prefix: field 1, the service, of up to 255 ASCII characters. */
export function encodeCheck(service: string): Uint8Array {
  const text = Buffer.from(service, "latin1");
  const length = text.length < 0x80 ? [text.length] : [(text.length & 0x7f) | 0x80, text.length >> 7];
  const message = text.length === 0 ? Buffer.alloc(0) : Buffer.concat([Buffer.from([0x0a, ...length]), text]);
  const prefix = Buffer.alloc(PREFIX_BYTES);
  prefix.writeUInt32BE(message.length, 1);
  return Buffer.concat([prefix, message]);
}

/** The status of a HealthCheckResponse with its prefix; null: it is none. A field that is not there is 0 (UNKNOWN). */
export function decodeStatus(bytes: Uint8Array): (typeof SERVING_STATUS)[number] | null {
  const data = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  if (data.length < PREFIX_BYTES || data[0] !== 0 || data.readUInt32BE(1) !== data.length - PREFIX_BYTES) return null;
  const message = data.subarray(PREFIX_BYTES);
  if (message.length === 0) return "UNKNOWN";
  return message.length === 2 && message[0] === 0x08 ? (SERVING_STATUS[message[1]!] ?? null) : null;
}

/** What an answer means. @param trailers the fields behind the message, or those before it when there is none */
export function judgeAnswer(httpStatus: number, trailers: IncomingHttpHeaders, message: Uint8Array): Refusal {
  if (httpStatus !== 200) return `HTTP ${httpStatus}`;
  const text = trailers["grpc-status"];
  if (typeof text !== "string" || !/^[0-9]{1,3}$/.test(text)) return "no gRPC answer";
  const code = Number(text);
  if (code !== 0) return `gRPC ${STATUS[code] ?? code}`;
  const status = decodeStatus(message);
  return status === "SERVING" ? null : (status ?? "malformed gRPC answer");
}

/** Asks. Rejects with what ended the connection; TalkError in words. */
export function askGrpc(connection: ProbeConnection, { service, authority, isTls }: GrpcRequest): Promise<Refusal> {
  return new Promise((resolve, reject) => {
    // Loaded for the first test of its kind: a start does not wait for it (docs/decisions/0047).
    const { connect, constants } = process.getBuiltinModule("node:http2");
    const session = connect(`http://${authority}`, { createConnection: () => connection });
    session.on("error", (error) => reject(inWords(error)));
    session.on("goaway", () => reject(new TalkError("the server takes no requests (GOAWAY)")));
    session.on("close", () => reject(new TalkError("connection closed without an answer")));
    connection.once("close", () => session.destroy());
    const stream = session.request({
      [constants.HTTP2_HEADER_METHOD]: "POST",
      [constants.HTTP2_HEADER_PATH]: "/grpc.health.v1.Health/Check",
      [constants.HTTP2_HEADER_SCHEME]: isTls ? "https" : "http",
      [constants.HTTP2_HEADER_AUTHORITY]: authority,
      "content-type": "application/grpc",
      te: "trailers",
      "user-agent": "ilb-health-check",
    });
    let status = 0;
    let fields: IncomingHttpHeaders = {};
    const parts: Buffer[] = [];
    stream.on("response", (headers) => {
      status = headers[":status"] ?? 0;
      fields = headers;
    });
    stream.on("trailers", (trailers) => {
      fields = trailers;
    });
    stream.on("data", (bytes: Buffer) => parts.push(bytes));
    stream.on("end", () => resolve(judgeAnswer(status, fields, Buffer.concat(parts))));
    stream.on("error", (error) => reject(inWords(error)));
    stream.end(encodeCheck(service));
  });
}

const inWords = (error: Error & { code?: string }): Error =>
  error.code?.startsWith("ERR_HTTP2") ? new TalkError("malformed HTTP/2 answer") : error;
