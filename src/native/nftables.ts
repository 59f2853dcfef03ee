/** nft transactions in this process (native/nftables.h). Serialises them; says nothing about what they contain. */
import { bind, checked, errnoName } from "./library.ts";

const native = bind({
  ilb_nft_open: { args: [], returns: "i64" },
  ilb_nft_submit: { args: ["address", "buffer", "u32"], returns: "i32" },
  ilb_nft_poll: { args: ["address", "buffer", "u32"], returns: "i32" },
  ilb_nft_close: { args: ["address"], returns: "i32" },
});

const MESSAGE_BYTES = 64 * 1024;
/** Of an answer; what is longer is cut. */
const ANSWER_BYTES = 1024 * 1024;
/** Pause between two looks at a running transaction; a small one takes less than two of them. */
const POLL_MS = 1;

/** A transaction that nftables refused; nothing of it was carried out. The message is one line. */
export class NftError extends Error {
  override readonly name = "NftError";
  /** All that nftables said. */
  readonly details: string;
  constructor(message: string, details: string) {
    super(message);
    this.details = details;
  }
}

/** One handle: tables with `flags owner` that it creates live until it is closed or the process ends, however it ends. */
export class Nft {
  readonly #handle: number;
  #last: Promise<void> = Promise.resolve();
  #open = true;

  /** Throws NativeError with the way out when libnftables is missing. */
  constructor() {
    this.#handle = checked(native().ilb_nft_open(), "use nftables", {
      ENOENT: "libnftables.so.1 is missing; install the package nftables",
      ENOSYS: "libnftables.so.1 is too old; install a newer nftables package (1.0.3 or later)",
    });
  }

  /**
   * One transaction, after all that were asked for before. Resolves when the kernel has it.
   * @param action what it does, for the error: `change the guard`. Rejects with NftError; then nothing has changed.
   */
  run(text: string, action: string): Promise<void> {
    return this.#inTurn(text, action, MESSAGE_BYTES).then(() => undefined);
  }

  /** What nftables answers to commands that list something. Rejects with NftError. */
  query(text: string, action: string): Promise<string> {
    return this.#inTurn(text, action, ANSWER_BYTES);
  }

  #inTurn(text: string, action: string, capacity: number): Promise<string> {
    const turn = this.#last.then(() => this.#transact(text, action, capacity));
    this.#last = turn.then(
      () => undefined,
      () => undefined,
    );
    return turn;
  }

  /** Waits for what runs, then lets go: the kernel removes the tables of this handle. */
  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await this.#last;
    native().ilb_nft_close(this.#handle);
  }

  async #transact(text: string, action: string, capacity: number): Promise<string> {
    const bytes = new TextEncoder().encode(`${text}\n`);
    checked(native().ilb_nft_submit(this.#handle, bytes, bytes.length), action);
    const message = new Uint8Array(capacity);
    const said = () => new TextDecoder().decode(message.subarray(0, message.indexOf(0)));
    for (;;) {
      const result = native().ilb_nft_poll(this.#handle, message, message.length);
      if (result === 0) return said();
      if (result === 1) {
        const details = said();
        throw new NftError(`cannot ${action}: ${firstLine(details)}`, details);
      }
      if (errnoName(-result) !== "EAGAIN") checked(result, action);
      await Bun.sleep(POLL_MS);
    }
  }
}

/** What nftables complains about, without position and the echoed command. */
function firstLine(details: string): string {
  const line = details.split("\n").find((text) => text.includes("Error:")) ?? details.split("\n")[0] ?? "";
  return `nftables says ${JSON.stringify(line.replace(/^.*?Error:\s*/, "").trim() || "nothing")}`;
}
