/**
 * The error catalogue: every text that a command can end with, its stable code and the HTTP status that goes with it.
 * The only place where these texts are written. A text may hold `{}`, filled by what the user typed.
 * It does not print (`run.ts` puts `ilbadm: ` before a text) and it knows no grammar.
 */
import type { Failure, Result } from "../model/result.ts";

interface ErrorKind {
  readonly text: string;
  /** HTTP status of the resources under /v1; the exit status of the command line is always 1. */
  readonly status: number;
}

const kind = (status: number, text: string): ErrorKind => Object.freeze({ text, status });

const REFER = "refer to ilbadm(8)";

/** Code -> text and status. Codes of the request's spelling first, then those of the configuration, then of the machinery. */
export const ERRORS = Object.freeze({
  // The frame of the command line.
  "E-INCOMPLETE": kind(400, "the command line is incomplete (more arguments expected)"),
  "E-SUBCOMMAND": kind(400, `subcommand is invalid - please ${REFER}`),
  "E-OPTION": kind(400, "bad or misplaced option {}"),
  "E-OPTARG": kind(400, "missing option-argument for {}"),
  "E-OPTARG-LIST": kind(400, "missing option argument for {}"),
  "E-OPTARG-STATS": kind(400, "missing option-argument detected for {}"),
  "E-USAGE": kind(400, "usage: ilbadm {}"),
  "E-USAGE-DELETE-RULE": kind(400, "usage: delete-rule -a | name"),
  "E-ARGS": kind(400, `invalid/incompatible keywords - ${REFER}`),
  "E-NOOPT": kind(400, `mandatory argument(s) missing - ${REFER}`),
  "E-MANDATORY": kind(400, "missing mandatory arguments - please refer to '{}' subcommand description in ilbadm(8)"),
  "E-NOSERVER": kind(400, "missing required argument (server specification)"),
  "E-EXCLUSIVE": kind(400, "options {} and {} are mutually exclusive"),
  "E-EXCLUSIVE-ONE": kind(400, "option {} and {} are mutually exclusive"),
  "E-ITEMIZE": kind(400, "option {} requires either {} or {}"),
  "E-PARSABLE": kind(400, "option {} requires {}"),
  "E-PARSABLE-ALL": kind(400, "option {} requires explicit field names for {}"),
  "E-PARSABLE-ALL-STATS": kind(400, "option {} requires explicit field names"),
  "E-OUTFIELD": kind(400, "unknown output field: {}"),
  "E-INTERVAL": kind(400, "illegal interval spec {}"),
  "E-COUNT": kind(400, "illegal count spec {}"),
  // key=value arguments. Reasons that follow `KEY: `.
  "E-ASSIGN": kind(400, "assignment '=' missing"),
  "E-KEYWORD": kind(400, "bad keyword {}"),
  "E-NOVALUE": kind(400, "missing value"),
  "E-MISSING": kind(400, "missing"),
  "E-SYNTAX": kind(400, `syntax failure - ${REFER}`),
  "E-VALUE": kind(400, `invalid value  - ${REFER}`),
  "E-SERVERID": kind(400, "server ID is invalid"),
  "E-ADDRESS": kind(400, "address is invalid"),
  "E-FAMILY": kind(400, "address family is invalid"),
  "E-LBALG": kind(400, "LB algorithm is invalid"),
  "E-TYPE": kind(400, "operation type is invalid"),
  "E-SERVICE": kind(400, "servicename does not exist in nameservices"),
  "E-SERVICE-PROTOCOL": kind(400, "{} is {} only"),
  "E-RANGESIZE": kind(400, "address range contains more than 255 IP addresses"),
  "E-PROXY": kind(400, "proxy-src not allowed"),
  "E-TESTKEY": kind(400, "goes with the tests {} only"),
  "E-URLKEY": kind(400, "the URL of hc-test says it already"),
  "E-URLPORT": kind(400, "a URL names no port here - the port is hc-port of create-rule"),
  // Whole sentences.
  "E-PORT": kind(400, "invalid port value {} specified"),
  "E-PORTRANGE": kind(400, "ranges are only allowed for numeric ports"),
  "E-RANGEFAMILY": kind(400, "IP address mismatch"),
  "E-RANGEORDER": kind(400, "starting IP address must be less than ending ip address in ip range specification"),
  "E-BRACKETS": kind(400, "use of '[]' only valid with IPv6 addresses"),
  "E-PMASK": kind(400, "invalid pmask provided"),
  "E-PMASKRANGE": kind(400, "invalid pmask provided (AF mismatch?)"),
  "E-HCPORT": kind(400, "illegal number for hcport {}"),
  "E-PROXYFAMILY": kind(
    400,
    "proxy-src is either missing or its address family does not match that of the VIP address",
  ),
  "E-NOGROUP": kind(400, "servergroup name missing"),
  "E-NOTYPE": kind(400, "lbalg or type is unspecified"),
  "E-NOPING": kind(400, "cannot disable default PING for this test"),
  "E-RULENAME": kind(400, "rule name {} is too long - must not exceed {} chars"),
  "E-SGNAME": kind(400, "servergroup name {} is too long - must not exceed {} chars"),
  "E-HCNAME": kind(400, "health check object name {} is too long - must not exceed {} chars"),
  "E-STATRULE": kind(404, "rule name missing or specified rule not found"),
  "E-STATSERVER": kind(404, "server name missing or specified server not found"),
  "E-RECURSIVE": kind(400, "recursive import not allowed"),
  "E-EXPORT-IN-IMPORT": kind(400, "export from import file not allowed"),
  "E-ROLLBACK-IN-IMPORT": kind(400, "rollback from import file not allowed"),
  "E-TEST-IN-IMPORT": kind(400, "test-connection from import file not allowed"),
  "E-NOCHANGE": kind(404, "the history has no change {}"),
  "E-OPENREAD": kind(400, "file {} cannot be opened for reading"),
  "E-WORKFILE": kind(500, "cannot create working file"),
  "E-CREATEFILE": kind(500, "cannot create {}: {}"),
  "E-ADD": kind(400, "cannot add {} to {}: {}"),
  "E-REMOVE": kind(400, "cannot remove {} from {}: {}"),
  // The configuration.
  "E-EINVAL": kind(400, "invalid argument(s) - see man page"),
  "E-ENOENT": kind(404, "no such/no more element(s)"),
  "E-EEXIST": kind(409, "object already exists"),
  "E-INUSE": kind(409, "object is in use, cannot destroy"),
  "E-DUPRULE": kind(409, "specified rule name already exists"),
  "E-ENORULE": kind(404, "specified rule does not exist"),
  "E-MISMATCHSG": kind(409, "address family mismatch with servergroup"),
  "E-MISMATCHH": kind(409, "address family mismatch with previous hosts in servergroup or with rule"),
  "E-SGUNAVAIL": kind(404, "cannot find specified server group"),
  "E-SGINUSE": kind(409, "cannot remove server group - its in use with other active rules"),
  "E-SGEXISTS": kind(409, "servergroup already exists"),
  "E-SGFULL": kind(409, "servergroup is full - cannot add any more servers to this servergroup"),
  "E-BADSG": kind(409, "the rule's port range does not match that of the servers' in associated servergroup"),
  "E-INVALSRVR": kind(
    409,
    "server cannot be added to the servergroup, as the servergroup is associated to rule(s) with port/port range that is incompatible with the server's port",
  ),
  "E-ENBSRVR": kind(409, "server cannot be enabled because it's not associated with any rule"),
  "E-BADPORT": kind(409, "the rule's port value does not match that of the servers' in associated servergroup"),
  "E-SRVUNAVAIL": kind(404, "cannot find specified server"),
  "E-NOHC": kind(404, "rule does not have health check enabled"),
  // NetBackup.
  "E-NBROLE": kind(400, "unknown role {}"),
  "E-NBVERSION": kind(400, "{} is no version: numbers joined by dots are, such as 7.0.1"),
  "E-NBFACT": kind(400, "unknown fact {}"),
  "E-NBENDFACT": kind(400, "{} is a fact of an end: bound hosts have their own"),
  "E-NBVALUE": kind(400, "{}: {} expected"),
  "E-NBASSIGN": kind(400, "{}: NAME=VALUE expected"),
  "E-NBTABLE": kind(400, "unknown table {}"),
  "E-NBSERVICE": kind(404, "no service {}"),
  "E-NBFORM": kind(400, "unknown form {}: {} are known"),
  "E-NBUPGRADE": kind(400, "{}: HOST@VERSION expected"),
  "E-NBHOST": kind(404, "no host {}"),
  "E-NBFIXED": kind(409, "the port of {} cannot be set: the guide does not call it configurable"),
  "E-NBWINDOW": kind(400, "{} takes LOW-HIGH, not {}"),
  "E-NBADDRESS": kind(400, "{} is no address or prefix"),
  "E-NBTWICE": kind(400, "role {} is named twice"),
  "E-NBHOSTNAME": kind(400, "{} is no name for a host: up to 63 letters, digits, '.', '_' and '-' are"),
  "E-NBDUPHOST": kind(409, "host {} exists already"),
  "E-NBBOUND": kind(409, "{} is bound to host {} already"),
  "E-NBMODE": kind(400, "unknown mode {}: off, monitor and enforce are known"),
  "E-NBFILE": kind(400, "{}: line {}: {}"),
  "E-NBSECONDS": kind(400, "{}: {} to {} seconds expected"),
  "E-NBTARGET": kind(400, "{} is neither a host name nor an address"),
  "E-NBNAME": kind(404, "the name {} has no address"),
  "E-NBBUSY": kind(503, "too many connections are being tested, try again in a moment"),
  "E-NBCONNECT": kind(503, "the connection could not be tried ({})"),
  "E-NATGUARD": kind(
    409,
    "rule {}: port {} ({}): NetBackup does not support NAT or PAT (TECH15006); use type=DSR, or -F to {} anyway",
  ),
  "E-HCMISMATCH": kind(409, "protocol used in rule and health check does not match"),
  "E-HCDSR": kind(409, "health check {} cannot reach servers of a DSR rule over UDP - use udp, ping or a program"),
  "E-NOHCINFO": kind(404, "missing healthcheck info"),
  // The machinery.
  "E-AUTH": kind(403, "user is not authorized to execute command"),
  "E-CFG": kind(500, "a failure occurred while trying to update persistent config. Panic?"),
  "E-INPROGRESS": kind(409, "operation is progress"),
  "E-SOCKET": kind(503, "socket() failed"),
  "E-READ": kind(502, "read() failed"),
  "E-WRITE": kind(502, "fflush() or send() failed"),
  "E-INTERNAL": kind(500, "error internal to the library"),
  "E-NOMEM": kind(507, "not enough memory for operation"),
  "E-UNSUPPORTED": kind(501, "{} is not available in this process"),
});

export type ErrorCode = keyof typeof ERRORS;

/** The text of an error with its `{}` filled in order. */
export function errorText(code: ErrorCode, ...args: readonly string[]): string {
  let next = 0;
  return ERRORS[code].text.replace(/\{\}/g, () => args[next++] ?? "");
}

/** A failure whose text is the catalogue's. */
export function failure(code: ErrorCode, ...args: readonly string[]): Failure {
  return { code, text: errorText(code, ...args) };
}

/** The failing Result of `failure`. */
export function failed(code: ErrorCode, ...args: readonly string[]): Result<never> {
  return { ok: false, failure: failure(code, ...args) };
}

/** `LABEL: REASON`, the form of errors in key=value arguments. @param field the canonical key, for the `field` of HTTP problems. */
export function keyFailure(label: string, field: string, code: ErrorCode, ...args: readonly string[]): Failure {
  return { code, text: `${label}: ${errorText(code, ...args)}`, field };
}

/** HTTP status for a Failure's code; an unknown code (there is none in this source tree) is an internal error. */
export function httpStatus(code: string): number {
  return (ERRORS as Readonly<Record<string, ErrorKind>>)[code]?.status ?? 500;
}
