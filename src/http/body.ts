/**
 * Bodies in both directions: JSON or MessagePack by Content-Type and Accept, the same shapes in both, sizes bounded.
 * 64-bit counters are bigint inside; MessagePack carries them as integers, JSON as decimal strings, so that no reader
 * can round them.
 */
import { Packr, Unpackr } from "msgpackr";
import { fail, ok, type Result } from "../model/result.ts";

export const JSON_TYPE = "application/json";
export const MSGPACK_TYPE = "application/msgpack";

/** Largest body of an ordinary request, bytes. */
export const BODY_LIMIT = 1024 * 1024;
/** Largest configuration to import, bytes. */
export const IMPORT_LIMIT = 64 * 1024 * 1024;

const packr = new Packr({ useRecords: false, variableMapSize: true });
const unpackr = new Unpackr({ useRecords: false, mapsAsObjects: true });

/** Reads at most `limitBytes`; code E-TOOBIG beyond it, E-READ when the client breaks off. */
export async function readBytes(request: Request, limitBytes: number): Promise<Result<Uint8Array>> {
  const tooBig = fail("E-TOOBIG", `the body is larger than ${limitBytes} bytes`);
  if (Number(request.headers.get("content-length") ?? 0) > limitBytes) {
    await request.body?.cancel().catch(() => undefined);
    return tooBig;
  }
  const chunks: Uint8Array[] = [];
  let total = 0;
  try {
    for await (const chunk of request.body ?? []) {
      total += chunk.byteLength;
      if (total > limitBytes) return tooBig;
      chunks.push(chunk);
    }
  } catch {
    return fail("E-READ", "read() failed");
  }
  return ok(Buffer.concat(chunks));
}

/** The body as text (UTF-8; anything else is refused). */
export async function readText(request: Request, limitBytes: number): Promise<Result<string>> {
  const bytes = await readBytes(request, limitBytes);
  if (!bytes.ok) return bytes;
  try {
    return ok(new TextDecoder("utf-8", { fatal: true }).decode(bytes.value));
  } catch {
    return fail("E-BODY", "the body is not UTF-8 text");
  }
}

/** The body as a value, by its Content-Type; no body at all is `null`. */
export async function readValue(request: Request, limitBytes: number): Promise<Result<unknown>> {
  const type = mediaType(request.headers.get("content-type") ?? "");
  const bytes = await readBytes(request, limitBytes);
  if (!bytes.ok) return bytes;
  if (bytes.value.length === 0) return ok(null);
  if (type !== JSON_TYPE && type !== MSGPACK_TYPE)
    return fail("E-MEDIA", `Content-Type must be ${JSON_TYPE} or ${MSGPACK_TYPE}`);
  try {
    if (type === MSGPACK_TYPE) return ok(unpackr.unpack(bytes.value) as unknown);
    return ok(JSON.parse(new TextDecoder("utf-8", { fatal: true }).decode(bytes.value)) as unknown);
  } catch {
    return fail("E-BODY", `the body is no valid ${type}`);
  }
}

/** An answer in the form that the client accepts best; JSON when it does not say. */
export function valueResponse(
  request: Request,
  value: unknown,
  status = 200,
  headers: Record<string, string> = {},
): Response {
  const type = preferred(request.headers.get("accept"), [JSON_TYPE, MSGPACK_TYPE]) ?? JSON_TYPE;
  const body = type === MSGPACK_TYPE ? new Uint8Array(packr.pack(value)) : stringify(value);
  const all = new Headers(headers);
  all.set("content-type", type);
  all.append("vary", "accept");
  return new Response(body, { status, headers: all });
}

/** JSON text; bigint as a decimal string. */
export const stringify = (value: unknown): string =>
  JSON.stringify(value, (_key, item: unknown) => (typeof item === "bigint" ? item.toString() : item));

/** MessagePack bytes; bigint as a 64-bit integer. */
export const pack = (value: unknown): Uint8Array => new Uint8Array(packr.pack(value));

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

const mediaType = (header: string): string => header.split(";")[0]!.trim().toLowerCase();
