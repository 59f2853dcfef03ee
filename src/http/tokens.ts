/**
 * Bearer tokens for HTTP over TCP. The file holds no token, only its SHA-256: one line per token,
 * `NAME RIGHTS HEX`, e.g. `deploy show,enable 9f86…`; `#` begins a comment line. `ilbd token` writes it. It is read again
 * when it changes, so a token can be withdrawn without a restart; a file that has become unreadable or wrong, or that
 * other users can write, withdraws all of them.
 */
import { readFileSync, type Stats, statSync } from "node:fs";
import type { Right } from "../command/command.ts";
import type { Caller } from "../control/caller.ts";
import type { Log } from "../control/ports.ts";
import { fail, ok, type Result } from "../model/result.ts";

interface Token {
  readonly caller: Caller;
  readonly sha256: Buffer;
}

export const RIGHTS = ["show", "enable", "config"] as const satisfies readonly Right[];

/** How a token is kept. Tokens are 256 random bits, so a plain hash gives nothing away. */
export const hashOf = (token: string): Buffer => new Bun.CryptoHasher("sha256").update(token).digest();

/** `show,enable` as rights; null when a word is none. */
export function parseRights(text: string): readonly Right[] | null {
  const rights = text.split(",").map((word) => RIGHTS.find((right) => right === word));
  return rights.some((right) => right === undefined) ? null : (rights as Right[]);
}

/** Reads the text of a token file. Fails with the line at fault; never quotes a hash. */
export function parseTokens(text: string): Result<readonly Token[]> {
  const tokens: Token[] = [];
  for (const [index, line] of text.split("\n").entries()) {
    if (line.trim() === "" || line.startsWith("#")) continue;
    const [name, rightList, hex, ...rest] = line.trim().split(/\s+/);
    const rights = parseRights(rightList ?? "");
    if (name === undefined || hex === undefined || rest.length > 0 || rights === null || !/^[0-9a-fA-F]{64}$/.test(hex))
      return fail("E-TOKENS", `line ${index + 1} is not NAME show,enable,config SHA256-OF-TOKEN`);
    tokens.push({ caller: { name: `token ${name}`, rights: new Set(rights) }, sha256: Buffer.from(hex, "hex") });
  }
  return ok(tokens);
}

/** Finds the caller of a token; takes the same time whichever line matches, if any. */
export function findToken(tokens: readonly Token[], presented: string): Caller | null {
  // Loaded for the first token: a start does not wait for it (docs/decisions/0047).
  const { timingSafeEqual } = process.getBuiltinModule("node:crypto");
  const digest = hashOf(presented);
  let found: Caller | null = null;
  for (const token of tokens) if (timingSafeEqual(token.sha256, digest)) found = token.caller;
  return found;
}

/** Whoever can write the file can give himself any right. */
const belongsToUs = ({ mode, uid }: Stats): boolean =>
  (mode & 0o022) === 0 && (uid === 0 || uid === (process.geteuid?.() ?? 0));
const OPEN_TO_OTHERS = fail("E-TOKENS", "other users can write it: chown it to the daemon's user or root, chmod 600");

export class TokenFile {
  private tokens: readonly Token[] = [];
  private readFrom = "";

  private constructor(
    private readonly path: string,
    private readonly log: Log,
  ) {}

  /** Fails with one clear line when the file cannot be read or holds a wrong line. */
  static open(path: string, log: Log): Result<TokenFile> {
    const file = new TokenFile(path, log);
    const read = file.read();
    return read.ok ? ok(file) : fail("E-TOKENS", `--token-file ${path}: ${read.failure.text}`);
  }

  /** @param header the value of `Authorization`. @returns null: no or unknown token */
  callerOf(header: string | null): Caller | null {
    const presented = /^Bearer +([^\s]+)$/i.exec(header ?? "")?.[1];
    if (presented === undefined) return null;
    const read = this.read();
    if (!read.ok) this.log.error("all tokens are withdrawn", { file: this.path, reason: read.failure.text });
    return findToken(this.tokens, presented);
  }

  private read(): Result<void> {
    try {
      const stat = statSync(this.path);
      const version = `${stat.ino} ${stat.mtimeMs} ${stat.size} ${stat.mode} ${stat.uid}`;
      if (version === this.readFrom) return ok(undefined);
      const parsed = belongsToUs(stat) ? parseTokens(readFileSync(this.path, "utf8")) : OPEN_TO_OTHERS;
      this.tokens = parsed.ok ? parsed.value : [];
      this.readFrom = parsed.ok ? version : "";
      if (parsed.ok && (stat.mode & 0o044) !== 0)
        this.log.warn("other users can read the token file: chmod 600", { file: this.path });
      return parsed.ok ? ok(undefined) : parsed;
    } catch (error) {
      this.tokens = [];
      this.readFrom = "";
      return fail("E-TOKENS", (error as NodeJS.ErrnoException).code ?? String(error));
    }
  }
}
