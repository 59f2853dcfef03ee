/** Certificates for tests, made by openssl(1): an authority, and what it has signed. */
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

export const hasOpenssl = Bun.which("openssl") !== null;

export interface Certificate {
  readonly cert: string;
  readonly key: string;
}

export class Authority {
  readonly #directory = mkdtempSync(join(tmpdir(), "ilb-ca-"));
  readonly cert: string;

  constructor() {
    this.#openssl(
      "req",
      "-x509",
      ...NEW_KEY,
      "-keyout",
      "ca.key",
      "-out",
      "ca.pem",
      "-days",
      "2",
      "-subj",
      "/CN=ilb test",
    );
    this.cert = this.#read("ca.pem");
  }

  /** @param names `DNS:a.example,IP:127.0.0.1` @param days -1: expired @param signed by the authority, else by itself */
  issue(names: string, days: number, signed = true): Certificate {
    this.#openssl("req", "-new", ...NEW_KEY, "-keyout", "one.key", "-out", "one.csr", "-subj", "/CN=one");
    writeFileSync(join(this.#directory, "one.ext"), `subjectAltName=${names}\n`);
    const signer = signed ? ["-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial"] : ["-signkey", "one.key"];
    const out = ["-days", String(days), "-extfile", "one.ext", "-out", "one.pem"];
    this.#openssl("x509", "-req", "-in", "one.csr", ...signer, ...out);
    return { cert: this.#read("one.pem"), key: this.#read("one.key") };
  }

  close(): void {
    rmSync(this.#directory, { recursive: true });
  }

  #read(name: string): string {
    return readFileSync(join(this.#directory, name), "utf8");
  }

  #openssl(...words: string[]): void {
    const { exitCode, stderr } = Bun.spawnSync(["openssl", ...words], { cwd: this.#directory });
    if (exitCode !== 0) throw new Error(`openssl ${words[0]}: ${stderr}`);
  }
}

const NEW_KEY = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"] as const;
