/**
 * Bodies in both directions: JSON or MessagePack by Content-Type and Accept, the same shapes in both, bounded in size and
 * in time. 64-bit counters are bigint inside; MessagePack carries them as integers, JSON as decimal strings, so that no
 * reader can round them (docs/decisions/0025).
 */
import { fail, ok, type Result } from "../model/result.ts";
import { decodeUtf8 } from "../model/utf8.ts";
import { MSGPACK_TYPE, pack, unpack } from "./msgpack.ts";

export { MSGPACK_TYPE, pack };
export const JSON_TYPE = "application/json";
export const TEXT_TYPE = "text/plain";

/** How much of a body is read, and for how long. */
export interface BodyLimit {
  readonly bytes: number;
  readonly ms: number;
}
/** Of an ordinary request. */
export const BODY_LIMIT: BodyLimit = { bytes: 1024 * 1024, ms: 20_000 };
/** Of a configuration to import: a slow line may take its time. */
export const IMPORT_LIMIT: BodyLimit = { bytes: 64 * 1024 * 1024, ms: 300_000 };

/**
 * What comes beyond a limit is read and forgotten up to so much: many clients send all of a body before they look for
 * an answer, and would meet a broken connection in place of the refusal (RFC 9112 section 9.6).
 */
const FORGOTTEN_BYTES = 128 * 1024 * 1024;

/** Nobody may take an answer of the API for something else, or keep it. */
export const ANSWER_HEADERS = { "cache-control": "no-store", "x-content-type-options": "nosniff", vary: "accept" };

/**
 * Reads a body to its end, within reason also one that is too large.
 * @returns E-TOOBIG beyond the limit, E-TIMEOUT when it takes too long, E-READ when the client breaks off
 */
export async function readBytes(request: Request, limit: BodyLimit): Promise<Result<Uint8Array>> {
  const encoding = request.headers.get("content-encoding");
  if (encoding !== null && encoding.trim().toLowerCase() !== "identity")
    return fail("E-MEDIA", "Content-Encoding is not supported: send the body as it is");
  if (request.body === null) return ok(new Uint8Array());
  const reader = request.body.getReader();
  const tooBig = fail("E-TOOBIG", `the body is larger than ${limit.bytes} bytes`);
  const bearableBytes = limit.bytes + FORGOTTEN_BYTES;
  if (Number(request.headers.get("content-length") ?? 0) > bearableBytes) {
    void reader.cancel().catch(() => undefined);
    return tooBig;
  }
  const chunks: Uint8Array[] = [];
  let total = 0;
  const late = Promise.withResolvers<"late">();
  const timer = setTimeout(() => late.resolve("late"), limit.ms);
  try {
    for (;;) {
      const step = await Promise.race([reader.read(), late.promise]);
      if (step === "late") break;
      if (step.done) return total > limit.bytes ? tooBig : ok(Buffer.concat(chunks));
      total += step.value.byteLength;
      if (total > bearableBytes) break;
      if (total <= limit.bytes) chunks.push(step.value);
      else chunks.length = 0;
    }
  } catch {
    return fail("E-READ", "read() failed");
  } finally {
    clearTimeout(timer);
  }
  void reader.cancel().catch(() => undefined);
  return total > limit.bytes ? tooBig : fail("E-TIMEOUT", `the body took longer than ${limit.ms / 1000} seconds`);
}

/**
 * The body as text (UTF-8; anything else is refused). Its Content-Type, if it says one, must be text/plain.
 * @param name how errors about a place in the text name it
 */
export async function readText(request: Request, limit: BodyLimit, name: string): Promise<Result<string>> {
  const header = request.headers.get("content-type");
  if (header !== null && !isType(header, TEXT_TYPE)) return wrongType(TEXT_TYPE);
  const bytes = await readBytes(request, limit);
  if (!bytes.ok) return bytes;
  const decoded = decodeUtf8(bytes.value);
  return "text" in decoded ? ok(decoded.text) : fail("E-BODY", `${name}: ${decoded.objection}`);
}

/** The body as a value, by its Content-Type; no body at all is `null`. */
export async function readValue(request: Request, limit: BodyLimit): Promise<Result<unknown>> {
  const header = request.headers.get("content-type");
  const isPacked = header !== null && isType(header, MSGPACK_TYPE);
  const isKnown = isPacked || (header !== null && isType(header, JSON_TYPE));
  // A Content-Type without a body says nothing, so only what a body comes with is looked at.
  if (!isKnown && (header !== null || request.body !== null)) {
    const empty = request.body === null || (await readBytes(request, { ...limit, bytes: 0 })).ok;
    return empty ? ok(null) : wrongType(`${JSON_TYPE} or ${MSGPACK_TYPE}`);
  }
  const bytes = await readBytes(request, limit);
  if (!bytes.ok) return bytes;
  if (bytes.value.length === 0) return ok(null);
  if (isPacked) return unpack(bytes.value);
  const decoded = decodeUtf8(bytes.value);
  if (!("text" in decoded)) return fail("E-BODY", `the body: ${decoded.objection}`);
  try {
    return ok(JSON.parse(decoded.text) as unknown);
  } catch {
    return fail("E-BODY", `the body is no valid ${JSON_TYPE}`);
  }
}

/** Whether a Content-Type header names this type; another charset than UTF-8 is another type. */
function isType(header: string, type: string): boolean {
  const [name, ...parameters] = header.split(";").map((part) => part.trim().toLowerCase());
  const charset = parameters.find((parameter) => parameter.startsWith("charset="))?.slice("charset=".length);
  return name === type && (charset === undefined || /^"?(utf-8|utf8|us-ascii)"?$/.test(charset));
}

const wrongType = (wanted: string): Result<never> => fail("E-MEDIA", `Content-Type must be ${wanted}`);

/** An answer in the form that the client accepts best, JSON when it does not say or accepts none. */
export function valueResponse(
  request: Request,
  value: unknown,
  status = 200,
  headers: Record<string, string> = {},
): Response {
  const type = preferred(request.headers.get("accept"), [JSON_TYPE, MSGPACK_TYPE]) ?? JSON_TYPE;
  const body = type === MSGPACK_TYPE ? pack(value) : stringify(value);
  return new Response(body, { status, headers: { ...ANSWER_HEADERS, ...headers, "content-type": type } });
}

/** A change's answer with what ilbadm would have printed about it on standard error; as it is when there was nothing. */
export const withWarnings = (answer: object, warnings: readonly string[]): object =>
  warnings.length === 0 ? answer : { ...answer, warnings };

/** An answer of text, whole or as it is made. */
export const textResponse = (
  body: string | ReadableStream<Uint8Array> | null,
  type: string,
  headers: Record<string, string> = {},
): Response => new Response(body, { headers: { ...ANSWER_HEADERS, ...headers, "content-type": type } });

/** JSON text; bigint as a decimal string. */
export const stringify = (value: unknown): string =>
  JSON.stringify(value, (_key, item: unknown) => (typeof item === "bigint" ? item.toString() : item));

/**
 * The offered media type that an Accept header ranks highest (RFC 9110 section 12.5.1), the first offered at a tie;
 * null when it accepts none.
 */
export function preferred(accept: string | null, offered: readonly string[]): string | null {
  if (accept === null || accept.trim() === "") return offered[0] ?? null;
  const ranges = accept.split(",").map((part) => {
    const [type, ...parameters] = part.split(";").map((piece) => piece.trim().toLowerCase());
    const q = parameters.find((parameter) => parameter.startsWith("q="));
    return { type: type!, quality: q === undefined ? 1 : Number(q.slice(2)) || 0 };
  });
  let best: string | null = null;
  let bestQuality = 0;
  for (const type of offered) {
    const patterns = [type, `${type.split("/")[0]}/*`, "*/*"];
    const match = patterns.map((pattern) => ranges.find((range) => range.type === pattern)).find((found) => found);
    if (match !== undefined && match.quality > bestQuality) {
      best = type;
      bestQuality = match.quality;
    }
  }
  return best;
}
