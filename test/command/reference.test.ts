/** docs/commands.md, the error catalogue, and that keywords are spelled in one place. */
import { describe, expect, test } from "bun:test";
import { readFileSync } from "node:fs";
import { join } from "node:path";
import { ERRORS, type ErrorCode, errorText, httpStatus } from "../../src/command/errors.ts";
import { KEYS } from "../../src/command/options.ts";
import { EXAMPLES, referenceText } from "../../src/command/reference.ts";
import { SUBCOMMANDS } from "../../src/command/spec.ts";
import { FakeHost, outputOf, setUp } from "../support/fake-host.ts";

const ROOT = join(import.meta.dir, "..", "..");

test("docs/commands.md is what scripts/commands-doc.ts writes", () => {
  expect(readFileSync(join(ROOT, "docs/commands.md"), "utf8")).toBe(referenceText());
});

test.each(EXAMPLES.map((example) => [example.title, example] as const))("example: %s", async (_, { lines, output }) => {
  const host = new FakeHost();
  await setUp(host, ...lines.slice(0, -1));
  expect(await outputOf(host, lines.at(-1) as string)).toBe(output);
});

/** Texts as the specification has them, written down a second time on purpose. */
const TEXTS: Partial<Record<ErrorCode, string>> = {
  "E-VALUE": "invalid value  - refer to ilbadm(8)",
  "E-SERVERID": "server ID is invalid",
  "E-ADDRESS": "address is invalid",
  "E-FAMILY": "address family is invalid",
  "E-ARGS": "invalid/incompatible keywords - refer to ilbadm(8)",
  "E-NOGROUP": "servergroup name missing",
  "E-STATRULE": "rule name missing or specified rule not found",
  "E-STATSERVER": "server name missing or specified server not found",
  "E-LBALG": "LB algorithm is invalid",
  "E-SERVICE": "servicename does not exist in nameservices",
  "E-TYPE": "operation type is invalid",
  "E-RECURSIVE": "recursive import not allowed",
  "E-EXPORT-IN-IMPORT": "export from import file not allowed",
  "E-PROXY": "proxy-src not allowed",
  "E-NOOPT": "mandatory argument(s) missing - refer to ilbadm(8)",
  "E-NOVALUE": "missing value",
  "E-SYNTAX": "syntax failure - refer to ilbadm(8)",
  "E-RANGESIZE": "address range contains more than 255 IP addresses",
  "E-PORT": "invalid port value {} specified",
  "E-PORTRANGE": "ranges are only allowed for numeric ports",
  "E-RANGEFAMILY": "IP address mismatch",
  "E-BRACKETS": "use of '[]' only valid with IPv6 addresses",
  "E-PMASK": "invalid pmask provided",
  "E-PMASKRANGE": "invalid pmask provided (AF mismatch?)",
  "E-HCPORT": "illegal number for hcport {}",
  "E-KEYWORD": "bad keyword {}",
  "E-EINVAL": "invalid argument(s) - see man page",
  "E-ENOENT": "no such/no more element(s)",
  "E-EEXIST": "object already exists",
  "E-INUSE": "object is in use, cannot destroy",
  "E-DUPRULE": "specified rule name already exists",
  "E-ENORULE": "specified rule does not exist",
  "E-MISMATCHSG": "address family mismatch with servergroup",
  "E-MISMATCHH": "address family mismatch with previous hosts in servergroup or with rule",
  "E-SGUNAVAIL": "cannot find specified server group",
  "E-SGINUSE": "cannot remove server group - its in use with other active rules",
  "E-SGEXISTS": "servergroup already exists",
  "E-SGFULL": "servergroup is full - cannot add any more servers to this servergroup",
  "E-AUTH": "user is not authorized to execute command",
  "E-CFG": "a failure occurred while trying to update persistent config. Panic?",
  "E-ENBSRVR": "server cannot be enabled because it's not associated with any rule",
  "E-SRVUNAVAIL": "cannot find specified server",
  "E-NOHC": "rule does not have health check enabled",
  "E-HCMISMATCH": "protocol used in rule and health check does not match",
  "E-NOHCINFO": "missing healthcheck info",
  "E-INPROGRESS": "operation is progress",
  "E-SOCKET": "socket() failed",
  "E-READ": "read() failed",
  "E-WRITE": "fflush() or send() failed",
  "E-INTERNAL": "error internal to the library",
  "E-NOMEM": "not enough memory for operation",
};

describe("the error catalogue", () => {
  test("has the texts of the specification", () => {
    for (const [code, text] of Object.entries(TEXTS))
      expect([code, ERRORS[code as ErrorCode].text]).toEqual([code, text]);
  });

  test("fills in what the user typed, whatever characters it has", () => {
    expect(errorText("E-CREATEFILE", "$& {}", "a {} b")).toBe("cannot create $& {}: a {} b");
  });

  test("maps every code to a status of the client's or the server's fault", () => {
    for (const code of Object.keys(ERRORS)) expect(httpStatus(code)).toBeWithin(400, 600);
    expect(httpStatus("E-UNHEARD-OF")).toBe(500);
  });
});

test("a keyword is spelled in options.ts, or as a subcommand in spec.ts, and nowhere else", () => {
  const telling = Object.values(KEYS)
    .flatMap((key) => [key.key, ...key.aliases])
    .filter(
      (word) => word.includes("-") || ["lbalg", "pmask", "hcn", "hcp", "algo", "topo", "stickiness"].includes(word),
    );
  const words = [
    ...telling,
    ...Object.values(SUBCOMMANDS).flatMap((spec) => (spec.short === spec.long ? [] : [spec.short])),
  ];
  expect(words.length).toBeGreaterThan(30);
  const strays: string[] = [];
  for (const path of new Bun.Glob("src/{command,control,http,cli,model}/**/*.ts").scanSync({ cwd: ROOT })) {
    if (path.endsWith("command/options.ts") || path.endsWith("command/spec.ts")) continue;
    const text = readFileSync(join(ROOT, path), "utf8");
    for (const word of words) if (text.includes(`"${word}"`)) strays.push(`${path}: ${word}`);
  }
  expect(strays).toEqual([]);
});
