/**
 * A connection that a health test talks over: the socket that the prober has connected, as a stream that Node's HTTP
 * clients take, with TLS where it is wanted. Bounded: a peer that sends more than an answer can have is cut off. What is
 * said over it, and for how long, is decided elsewhere. Loaded by the first talk (decision record 0047).
 */
import { Duplex } from "node:stream";
import type { PeerCertificate } from "node:tls";
import { TalkError } from "./talk-error.ts";

/** More than any answer that is judged: status lines, fields, frames of one message. */
const MOST_BYTES = 64 * 1024;

export interface TlsWish {
  /** Whose certificate it has to be: a host name, which the server is told (SNI), or an address. */
  readonly name: string;
  readonly isAddress: boolean;
  /** Refuse a certificate that is not valid for the name. */
  readonly verify: boolean;
  /** Protocol to agree on (ALPN), null: any. */
  readonly protocol: "h2" | null;
  /** Issuers to trust, PEM; absent: those that the runtime knows. */
  readonly ca?: string;
}

/** What the runtime's sockets have beyond their published types. */
type Socket = Bun.Socket<undefined> & {
  getPeerCertificate(): Partial<PeerCertificate> | undefined;
  getAuthorizationError(): (Error & { readonly code?: string }) | null;
  readonly alpnProtocol: string | false | null;
};

export class ProbeConnection extends Duplex {
  #socket: Socket | null = null;
  #received = 0;
  /** What waits until the socket takes more. */
  #resume: (() => void) | null = null;
  /** Until when the server's certificate is valid, wall clock; undefined: none was seen. */
  certificateUntilMs: number | undefined;

  private constructor() {
    super({ allowHalfOpen: true });
  }

  /**
   * Takes a connected, non-blocking socket over; from now on destroy() closes it.
   * @returns the connection, ready to talk at once or once `ready` resolves; `ready` rejects with TalkError
   */
  static take(fd: number, tls: TlsWish | null): { connection: ProbeConnection; ready: Promise<void> } {
    const connection = new ProbeConnection();
    // Whoever talks hears of errors by its own means; without a listener they would end the daemon.
    connection.on("error", () => {});
    return { connection, ready: connection.#open(fd, tls) };
  }

  #open(fd: number, tls: TlsWish | null): Promise<void> {
    return new Promise((resolve, reject) => {
      const fail = (error: unknown): void => {
        reject(error);
        this.destroy(error instanceof Error ? error : undefined);
      };
      this.once("close", () => reject(new TalkError("connection closed")));
      const socket = {
        open: (opened: Socket) => {
          this.#socket = opened;
          if (this.destroyed) opened.terminate();
          else if (tls === null) resolve();
        },
        handshake: (opened: Socket) => {
          const refusal = this.#judge(opened, tls!);
          if (refusal === null) resolve();
          else fail(new TalkError(refusal));
        },
        data: (_: Socket, bytes: Buffer) => this.#take(bytes),
        drain: () => this.#goOn(),
        end: () => this.push(null),
        close: () => {
          if (!this.readableEnded) this.push(null);
          this.destroy();
        },
        error: (_: Socket, error: Error) => fail(error),
        connectError: (_: Socket, error: Error) => fail(error),
      };
      // The published types know no descriptors.
      const options = { fd, socket, ...(tls && { tls: tlsOptions(tls) }) } as unknown;
      Bun.connect(options as Bun.TCPSocketConnectOptions<undefined>).catch(fail);
    });
  }

  /** @returns why the peer is not the one that is wanted, null when it is */
  #judge(socket: Socket, wish: TlsWish): string | null {
    const certificate = socket.getPeerCertificate();
    const error: (Error & { readonly code?: string }) | null = socket.getAuthorizationError();
    if (certificate?.valid_to === undefined) return `TLS handshake failed${tlsDetail(error)}`;
    const until = Date.parse(certificate.valid_to);
    if (Number.isFinite(until)) this.certificateUntilMs = until;
    if (wish.verify) {
      const refusal = certificateWords(error?.code ?? null, certificate as PeerCertificate, wish.name);
      if (refusal !== null) return refusal;
    }
    return wish.protocol === null || socket.alpnProtocol === wish.protocol ? null : "the server speaks no HTTP/2";
  }

  /** What is beyond the bound is not kept; what came before it may be the whole answer, so it is judged first. */
  #take(bytes: Buffer): void {
    const room = MOST_BYTES - this.#received;
    if (room <= 0) return;
    this.#received += bytes.length;
    this.push(bytes.subarray(0, room));
    if (this.#received < MOST_BYTES) return;
    setImmediate(() => this.destroy(new TalkError(`no answer in ${MOST_BYTES / 1024} KiB`)));
  }

  #goOn(): void {
    const resume = this.#resume;
    this.#resume = null;
    resume?.();
  }

  override _read(): void {}

  override _write(bytes: Buffer, _: BufferEncoding, done: (error?: Error) => void): void {
    const written = this.#socket?.write(bytes) ?? -1;
    if (written < 0) done(new TalkError("connection closed"));
    else if (written === bytes.length) done();
    else this.#resume = () => this._write(bytes.subarray(written), _, done);
  }

  /** Half closing would tell some servers to give up the request. */
  override _final(done: () => void): void {
    done();
  }

  override _destroy(error: Error | null, done: (error: Error | null) => void): void {
    this.#socket?.terminate();
    done(error);
  }

  // What clients expect of a socket beside a stream; the talk has its own deadline.
  setTimeout(): this {
    return this;
  }
  setNoDelay(): this {
    return this;
  }
  setKeepAlive(): this {
    return this;
  }
  ref(): this {
    return this;
  }
  unref(): this {
    return this;
  }
}

/** The peer is judged when the handshake is over, so that its certificate is seen in any case. */
const tlsOptions = ({ name, isAddress, protocol, ca }: TlsWish): object => ({
  rejectUnauthorized: false,
  // RFC 6066 section 3: no addresses.
  ...(!isAddress && { serverName: name }),
  // As on the wire, RFC 7301 section 3.1: length and name.
  ...(protocol !== null && { ALPNProtocols: `${String.fromCharCode(protocol.length)}${protocol}` }),
  ...(ca !== undefined && { ca }),
});

/** `: WRONG_VERSION_NUMBER`, from the end of what the TLS library says; empty when it says nothing. */
function tlsDetail(error: Error | null): string {
  const word = /([A-Z_]+)\s*$/.exec(error?.message ?? "")?.[1];
  return word === undefined ? "" : ` (${word.toLowerCase().replaceAll("_", " ")})`;
}

const WRONG_NAME = "ERR_TLS_CERT_ALTNAME_INVALID";
const CERTIFICATE_WORDS: Readonly<Record<string, string>> = {
  DEPTH_ZERO_SELF_SIGNED_CERT: "certificate is self-signed",
  SELF_SIGNED_CERT_IN_CHAIN: "certificate of an unknown issuer",
  UNABLE_TO_GET_ISSUER_CERT: "certificate of an unknown issuer",
  UNABLE_TO_GET_ISSUER_CERT_LOCALLY: "certificate of an unknown issuer",
  UNABLE_TO_VERIFY_LEAF_SIGNATURE: "certificate of an unknown issuer",
  CERT_REVOKED: "certificate is revoked",
};

/** `2026-11-21` of `Nov 21 05:54:59 2026 GMT`. */
function dayOf(text: string): string {
  const at = Date.parse(text);
  return Number.isFinite(at) ? new Date(at).toISOString().slice(0, 10) : text;
}

/**
 * Why a certificate is refused, in words; null: it is not.
 * @param code what the TLS library found wrong with its chain, null: nothing
 * @param name host name or address that it has to be for
 */
export function certificateWords(code: string | null, certificate: PeerCertificate, name: string): string | null {
  if (code === "CERT_HAS_EXPIRED") return `certificate expired ${dayOf(certificate.valid_to)}`;
  if (code === "CERT_NOT_YET_VALID") return `certificate not valid before ${dayOf(certificate.valid_from)}`;
  if (code !== null && code !== WRONG_NAME) return CERTIFICATE_WORDS[code] ?? `certificate refused (${code})`;
  // Loaded for the first certificate: a start does not wait for it (docs/decisions/0047).
  const { checkServerIdentity } = process.getBuiltinModule("node:tls");
  return checkServerIdentity(name, certificate) === undefined ? null : `certificate is not for ${name}`;
}
