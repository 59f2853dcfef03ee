/** What tests that talk say and understand, as bytes and words: pure functions, also fed with what nobody should send. */
import { describe, expect, test } from "bun:test";
import type { PeerCertificate } from "node:tls";
import fc from "fast-check";
import { certificateWords } from "../../src/health/connection.ts";
import { encodeQuery, judgeAnswer as judgeDns } from "../../src/health/dns-test.ts";
import { decodeStatus, encodeCheck, judgeAnswer as judgeGrpc } from "../../src/health/grpc-test.ts";
import { judgeStatus } from "../../src/health/http-test.ts";
import { authorityOf } from "../../src/health/talks.ts";
import { isRequestPath, parseTestUrl, testKindOf } from "../../src/model/health-test.ts";
import { ip } from "../support/addresses.ts";
import { propertySeed } from "../support/random.ts";

const seed = propertySeed();
const bytes = (...list: number[]): Uint8Array => new Uint8Array(list);

test("a status is good when a range has it, its ends included", () => {
  const ranges = [
    { min: 200, max: 299 },
    { min: 401, max: 401 },
  ];
  expect([199, 200, 299, 300, 401, 402].map((status) => judgeStatus(status, ranges))).toEqual([
    "HTTP 199",
    null,
    null,
    "HTTP 300",
    null,
    "HTTP 402",
  ]);
});

test("the Host field is the name that was given, or the address with a port that is not the scheme's own", () => {
  const [v4, v6] = [ip("192.0.2.1"), ip("2001:db8::1")];
  expect(authorityOf("www.example.com", v4, 8080, 80)).toBe("www.example.com");
  expect(authorityOf("2001:db8::9", v4, 8080, 80)).toBe("[2001:db8::9]");
  expect(authorityOf(null, v4, 80, 80)).toBe("192.0.2.1");
  expect(authorityOf(null, v4, 80, 443)).toBe("192.0.2.1:80");
  expect(authorityOf(null, v6, 8080, 80)).toBe("[2001:db8::1]:8080");
});

describe("grpc.health.v1", () => {
  test("a check is field 1, with a length of one byte or two", () => {
    expect([...encodeCheck("")]).toEqual([0, 0, 0, 0, 0]);
    expect([...encodeCheck("ab")]).toEqual([0, 0, 0, 0, 4, 0x0a, 2, 0x61, 0x62]);
    expect([...encodeCheck("x".repeat(200))].slice(0, 9)).toEqual([0, 0, 0, 0, 203, 0x0a, 0xc8, 0x01, 0x78]);
  });

  test("a status is field 1; what is not there is UNKNOWN; anything else is none", () => {
    expect(decodeStatus(bytes(0, 0, 0, 0, 2, 8, 1))).toBe("SERVING");
    expect(decodeStatus(bytes(0, 0, 0, 0, 2, 8, 3))).toBe("SERVICE_UNKNOWN");
    expect(decodeStatus(bytes(0, 0, 0, 0, 0))).toBe("UNKNOWN");
    for (const broken of [
      [],
      [0, 0, 0, 0],
      [1, 0, 0, 0, 2, 8, 1],
      [0, 0, 0, 0, 9, 8, 1],
      [0, 0, 0, 0, 2, 16, 1],
      [0, 0, 0, 0, 2, 8, 9],
    ])
      expect(decodeStatus(bytes(...broken))).toBeNull();
  });

  test("status of HTTP, status of gRPC and message are looked at in that order", () => {
    const serving = bytes(0, 0, 0, 0, 2, 8, 1);
    expect(judgeGrpc(404, { "grpc-status": "0" }, serving)).toBe("HTTP 404");
    for (const fields of [{}, { "grpc-status": "" }, { "grpc-status": "x" }, { "grpc-status": " 0" }])
      expect(judgeGrpc(200, fields, serving)).toBe("no gRPC answer");
    expect(judgeGrpc(200, { "grpc-status": "14" }, serving)).toBe("gRPC UNAVAILABLE");
    expect(judgeGrpc(200, { "grpc-status": "99" }, serving)).toBe("gRPC 99");
    expect(judgeGrpc(200, { "grpc-status": "0" }, bytes(1))).toBe("malformed gRPC answer");
    expect(judgeGrpc(200, { "grpc-status": "0" }, serving)).toBeNull();
  });
});

describe("DNS", () => {
  const query = encodeQuery("www.Example.com.", "MX", 0x1234);

  test("a query has one question, recursion desired (RFC 1035 section 4.1)", () => {
    const text = "1234 0100 0001 0000 0000 0000 03777777 074578616d706c65 03636f6d 00 000f 0001";
    expect(query.toString("hex")).toBe(text.replaceAll(" ", ""));
    expect(encodeQuery(".", "NS", 0).toString("hex")).toBe("00000100000100000000000000 0002 0001".replaceAll(" ", ""));
  });

  const answer = (flags: number, change: (data: Buffer) => void = () => {}): Buffer => {
    const data = Buffer.from(query);
    data.writeUInt16BE(flags, 2);
    change(data);
    return data;
  };

  test("an answer counts with our number, our question in any case, and the response bit", () => {
    expect(judgeDns(answer(0x8180), query)).toBeNull();
    expect(
      judgeDns(
        answer(0x8180, (data) => data.write("WWW", 13)),
        query,
      ),
    ).toBeNull();
    expect(judgeDns(answer(0x0100), query)).toBeUndefined();
    expect(
      judgeDns(
        answer(0x8180, (data) => data.writeUInt16BE(1, 0)),
        query,
      ),
    ).toBeUndefined();
    expect(
      judgeDns(
        answer(0x8180, (data) => data.write("wwx", 13)),
        query,
      ),
    ).toBeUndefined();
    expect(judgeDns(answer(0x8182), query)).toBe("DNS SERVFAIL");
  });

  test("a refusal without the question counts, an answer without it does not", () => {
    const without = (flags: number): Buffer => answer(flags, (data) => data.writeUInt16BE(0, 4)).subarray(0, 12);
    expect(judgeDns(without(0x8181), query)).toBe("DNS FORMERR");
    expect(judgeDns(without(0x8180), query)).toBe("malformed DNS answer");
  });
});

test("certificates are refused in words", () => {
  const certificate = {
    subject: { CN: "one" },
    subjectaltname: "DNS:a.example, IP Address:192.0.2.1",
    valid_from: "Nov 20 05:54:59 2026 GMT",
    valid_to: "Nov 21 05:54:59 2026 GMT",
  } as unknown as PeerCertificate;
  const words = (code: string | null, name = "a.example") => certificateWords(code, certificate, name);
  expect(words(null)).toBeNull();
  expect(words(null, "192.0.2.1")).toBeNull();
  expect(words(null, "b.example")).toBe("certificate is not for b.example");
  expect(words("ERR_TLS_CERT_ALTNAME_INVALID", "192.0.2.2")).toBe("certificate is not for 192.0.2.2");
  expect(words("CERT_HAS_EXPIRED")).toBe("certificate expired 2026-11-21");
  expect(words("CERT_NOT_YET_VALID")).toBe("certificate not valid before 2026-11-20");
  expect(words("UNABLE_TO_VERIFY_LEAF_SIGNATURE")).toBe("certificate of an unknown issuer");
  expect(words("SOMETHING_NEW")).toBe("certificate refused (SOMETHING_NEW)");
});

describe("URLs of tests", () => {
  test("scheme in any case, names, addresses, no path", () => {
    const http = (host: string, path: string) => ({ kind: "http", host, path }) as const;
    expect(parseTestUrl("HTTP://a.example")).toEqual(http("a.example", "/"));
    expect(parseTestUrl("http://192.0.2.1/x")).toEqual(http("192.0.2.1", "/x"));
    expect(parseTestUrl("http://[2001:db8::1]/?q")).toEqual(http("2001:db8::1", "/?q"));
  });

  test("what else looks like one is refused", () => {
    expect(["http://a:80/", "https://[::1]:443"].map(parseTestUrl)).toEqual(["port", "port"]);
    for (const text of [
      "http://",
      "http:///x",
      "http://a b/",
      "http://u@a/",
      "http://[192.0.2.1]/",
      "http://[::1/",
      "http://a/#f",
    ])
      expect([text, parseTestUrl(text)]).toEqual([text, "invalid"]);
    expect(parseTestUrl("ftp://a/")).toBeNull();
  });
});

test(`nothing that a peer sends or somebody types makes these throw (seed ${seed})`, () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 40 }), fc.string(), fc.integer(), (data, text, status) => {
      const query = encodeQuery("a.example", "A", 7);
      const [head = 0, second = 0] = data;
      const near = Buffer.from(query);
      near.set(data.subarray(0, near.length));
      for (const answer of [data, near]) {
        const refusal = judgeDns(answer, query);
        expect(refusal === undefined || refusal === null || refusal.length > 0).toBe(true);
      }
      expect([null, "UNKNOWN", "SERVING", "NOT_SERVING", "SERVICE_UNKNOWN"]).toContain(decodeStatus(data));
      expect(judgeGrpc(status, { "grpc-status": text }, data) === null).toBe(
        status === 200 && /^0{1,3}$/.test(text) && decodeStatus(data) === "SERVING",
      );
      for (const url of [text, `http://${text}`, `https://a/${text}`, `${head}${second}`]) {
        const kind = testKindOf(url);
        const parts = parseTestUrl(url);
        if (parts !== null && typeof parts !== "string")
          expect([kind, isRequestPath(parts.path)]).toEqual([parts.kind, true]);
      }
    }),
    { seed, numRuns: 2000 },
  );
});
