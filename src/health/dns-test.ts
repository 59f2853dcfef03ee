/**
 * The test DNS: one question, whose answer is judged by its header and by the question that it repeats (RFC 1035 section
 * 4.1). Records are not read, so nothing in them can do harm.
 */
import { RECORD_TYPES, type RecordType } from "../model/health-test.ts";
import type { ProbeConnection } from "./connection.ts";
import type { Refusal } from "./http-test.ts";
import { TalkError } from "./talk-error.ts";

/** RFC 1035 section 3.2.2, RFC 3596, RFC 2782. */
const TYPE_NUMBERS: Readonly<Record<RecordType, number>> = {
  A: 1,
  NS: 2,
  CNAME: 5,
  SOA: 6,
  PTR: 12,
  MX: 15,
  TXT: 16,
  AAAA: 28,
  SRV: 33,
};
const CLASS_INTERNET = 1;
/** RFC 1035 section 4.1.1, RFC 2136 section 2.2. */
const RESPONSE_CODES = [
  "NOERROR",
  "FORMERR",
  "SERVFAIL",
  "NXDOMAIN",
  "NOTIMP",
  "REFUSED",
  "YXDOMAIN",
  "YXRRSET",
  "NXRRSET",
  "NOTAUTH",
  "NOTZONE",
] as const;
const HEADER_BYTES = 12;
const IS_RESPONSE = 0x8000;
const RECURSION_DESIRED = 0x0100;
/** Above it an answer over TCP is none that we asked for. */
const LENGTH_BYTES = 2;

/** A question as it goes out. @param id 16 bits, not to be guessed @param type one of RECORD_TYPES */
export function encodeQuery(name: string, type: string, id: number): Buffer {
  const labels = name
    .replace(/\.$/, "")
    .split(".")
    .filter((label) => label !== "");
  const header = Buffer.alloc(HEADER_BYTES);
  header.writeUInt16BE(id, 0);
  header.writeUInt16BE(RECURSION_DESIRED, 2);
  header.writeUInt16BE(1, 4);
  const tail = Buffer.alloc(5); // the root label, type, class
  tail.writeUInt16BE(TYPE_NUMBERS[RECORD_TYPES.find((known) => known === type) ?? "A"], 1);
  tail.writeUInt16BE(CLASS_INTERNET, 3);
  return Buffer.concat([header, ...labels.flatMap((label) => [Buffer.from([label.length]), Buffer.from(label)]), tail]);
}

/** What an answer means; undefined: it is none to this query, and another may come. */
export function judgeAnswer(answer: Uint8Array, query: Buffer): Refusal | undefined {
  const data = Buffer.from(answer.buffer, answer.byteOffset, answer.byteLength);
  if (data.length < HEADER_BYTES || data.readUInt16BE(0) !== query.readUInt16BE(0)) return undefined;
  const flags = data.readUInt16BE(2);
  if ((flags & IS_RESPONSE) === 0) return undefined;
  const code = flags & 0x0f;
  const repeats = data.readUInt16BE(4) === 1;
  // Some servers refuse without repeating the question.
  if (code === 0 && !repeats) return "malformed DNS answer";
  if (repeats && !sameQuestion(data, query)) return undefined;
  return code === 0 ? null : `DNS ${RESPONSE_CODES[code] ?? `error ${code}`}`;
}

/** Letters of names are compared without case (RFC 4343). */
const sameQuestion = (answer: Buffer, query: Buffer): boolean =>
  fold(answer.subarray(HEADER_BYTES, query.length)) === fold(query.subarray(HEADER_BYTES));
const fold = (bytes: Buffer): string => bytes.toString("latin1").toLowerCase();

/** Asks over TCP (RFC 7766). Rejects with what ended the connection. */
export function askDnsOverTcp(connection: ProbeConnection, query: Buffer): Promise<Refusal> {
  return new Promise((resolve, reject) => {
    let received = Buffer.alloc(0);
    connection.on("data", (bytes: Buffer) => {
      received = Buffer.concat([received, bytes]);
      if (received.length < LENGTH_BYTES || received.length < LENGTH_BYTES + received.readUInt16BE(0)) return;
      const answer = received.subarray(LENGTH_BYTES, LENGTH_BYTES + received.readUInt16BE(0));
      const refusal = judgeAnswer(answer, query);
      resolve(refusal === undefined ? "malformed DNS answer" : refusal);
    });
    connection.on("error", reject);
    connection.on("end", () => reject(new TalkError("connection closed without an answer")));
    const length = Buffer.alloc(LENGTH_BYTES);
    length.writeUInt16BE(query.length);
    connection.write(Buffer.concat([length, query]));
  });
}
